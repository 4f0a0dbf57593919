// SPDX-License-Identifier: CC0-1.0
precision mediump float;
uniform vec2 r;
uniform float t;
void main() {
  vec2 p = (gl_FragCoord.xy * 2. - r) / min(r.x, r.y);
  float wave = 0.;
  for (int i = 0; i < 4; i++) {
    float k = float(i);
    wave += sin(9. * length(p - vec2(sin(t * .7 + k * 1.6), cos(t * .5 + k * 2.4)) * .8) - t);
  }
  gl_FragColor = vec4(.5 + .5 * sin(wave + vec3(.2, 1.1, 2.4)), 1.);
}
