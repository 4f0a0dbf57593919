// SPDX-License-Identifier: CC0-1.0
vec2 p=FC.xy/r*4.;float n,s=1.;
for(int i=0;i<4;i++){n+=snoise3D(vec3(p*s,t*.4+s))/s;s*=2.;}
gl_FragColor=vec4(mix(vec3(.12,.2,.45),vec3(1.,.85,.6),.5+.7*n),1.);
