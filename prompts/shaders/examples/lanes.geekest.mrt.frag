// SPDX-License-Identifier: CC0-1.0
vec2 p=(FC.xy-.5*r)/r.y;float d=length(p),a=atan(p.y,p.x)/PI2;
float k=floor(d*9.-t),w=fract(a*8.+.5*k+.2*t);
o0=vec4(hsv(.1*k+.3*w,.75,smoothstep(0.,.3,w)*.9),1);
o1=vec4(w);
