// SPDX-License-Identifier: CC0-1.0
vec2 p=(FC.xy*2.-r)/r.y*1.4;float a,e;
for(int i;i++<7;){p=abs(p*rotate2D(.5+t*.07))-.55;a+=exp(-9.*abs(p.x));e+=exp(-6.*abs(p.y));}
o=vec4(hsv(.55+.08*a,.7,.3*a)+hsv(.05+.05*e,.6,.22*e),1);
