// SPDX-License-Identifier: CC0-1.0
float thread(vec2 p) { return smoothstep(.1, .45, abs(fract(p.x + .15 * sin(p.y * 3. + t)) - .5)); }
void main() {
  vec2 p = gl_FragCoord.xy / r.y * 6.;
  float over = mod(floor(p.x) + floor(p.y), 2.);
  float across = thread(p), along = thread(p.yx);
  vec3 warm = vec3(.9, .45, .2) * along, cold = vec3(.15, .4, .75) * across;
  o = vec4(mix(warm, cold, over) + .15 * across * along, 1.);
}
