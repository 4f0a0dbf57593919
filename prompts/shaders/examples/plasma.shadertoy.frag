// SPDX-License-Identifier: CC0-1.0
void mainImage(out vec4 fragColor, in vec2 fragCoord) {
    vec2 p = fragCoord / iResolution.xy * 6.0;
    float v = sin(p.x + iTime) + sin(p.y * 1.3 - iTime) + sin(length(p - 3.0) * 2.0);
    fragColor = vec4(0.5 + 0.5 * cos(v + vec3(0.0, 1.8, 3.4)), 1.0);
}
