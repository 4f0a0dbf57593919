// SPDX-License-Identifier: CC0-1.0
// Author: the authors of synth
precision highp float;
uniform vec2 resolution;
uniform float time;

vec2 place(vec2 cell) {
  vec2 wild = fract(sin(vec2(dot(cell, vec2(27.1, 61.7)), dot(cell, vec2(91.3, 13.9)))) * 4731.7);
  return 0.5 + 0.4 * sin(time + 6.28 * wild);
}

void main() {
  vec2 p = 5.0 * gl_FragCoord.xy / min(resolution.x, resolution.y);
  vec2 cell = floor(p), here = fract(p);
  float near = 9.0, tint = 0.0;
  for (int y = -1; y <= 1; y++) {
    for (int x = -1; x <= 1; x++) {
      vec2 other = vec2(float(x), float(y));
      float far = length(other + place(cell + other) - here);
      if (far < near) { near = far; tint = dot(cell + other, vec2(1.7, 2.3)); }
    }
  }
  vec3 colour = 0.55 + 0.45 * cos(tint + vec3(0.0, 2.1, 4.2));
  gl_FragColor = vec4(colour * (1.1 - near), 1.0);
}
