"""From an integer to the text of an image program.

What keeps programs worth looking at was found by looking: frequencies are drawn on a log scale and
shrink where fields are nested, so that few programs are noise; at most one operation on coordinates
tears the plane apart; palettes are bright more often than pale, and half of them have a relief.
"""

import colorsys
from collections.abc import Callable, Sequence
from random import Random

VERSION = 1
"""Of the grammar: the same integer gives the same text as long as it is the same."""

_GENTLE = ("rotate", "shear", "swirl", "pinch", "ripple", "warp", "move", "stretch")
_TEARING = ("polar", "kaleidoscope", "tile", "mirror", "bricks", "inversion", "fold", "julia")
_HILLS = ("fbm", "noise", "ridges", "cells", "edges", "plasma")
_PATTERNS = ("rings", "stripes", "spiral", "checker", "lattice", "cell", "leaves")
_SHAPES = ("disc", "box", "polygon", "flower")


def write_program(index: int) -> str:
    """The text of program `index`, 0 or higher: a few lines that end in a colour."""
    return _Writer(index).write()


class _Writer:
    """Draws the parts of one program from one stream of random numbers."""

    def __init__(self, index: int) -> None:
        # Of this generator, `random` alone is promised to stay the same in every Python.
        self._random: Callable[[], float] = Random(f"image-programs {VERSION} {index}").random
        self.busy = self.log_between(0.55, 1.5)
        """One factor for all frequencies: calm and busy programs."""
        self.lines: list[str] = []

    def write(self) -> str:
        self.lines = [f"q = {self.viewed('p')}"]
        for _ in range(self.count(0.25, 0.5, 0.25)):
            self.lines.append(f"q = {self.gentle('q')}")
        if self.chance(0.6):
            self.lines.append(f"q = {self.tearing('q')}")
            if self.chance(0.4):
                self.lines.append(f"q = {self.gentle('q')}")
        self.lines.append(f"f = {self.main_field('q')}")
        self.lines.append(f"g = {self.field(self.viewed('p'), 0.7)}")
        self.lines.append(f"c = {self.painted()}")
        if self.chance(0.35):
            self.lines.append(f"c = blend(c, {self.ramp('g')}, {self.mask()})")
        if self.chance(0.4):
            self.overlay()
        if self.chance(0.5):
            height = self.pick(("f", "f", "g"))
            self.lines.append(f"c = shade(c, {height}, {self.number(0.25, 0.85)})")
        if self.chance(0.25):
            self.lines.append(f"c = c * mix({self.number(0.4, 0.7)}, 1.15, g)")
        return "; ".join(self.lines)

    # Random numbers, and how they are written.

    def between(self, low: float, high: float) -> float:
        return low + (high - low) * self._random()

    def log_between(self, low: float, high: float) -> float:
        return float(low * (high / low) ** self._random())

    def chance(self, probability: float) -> bool:
        return self._random() < probability

    def pick(self, names: Sequence[str]) -> str:
        return names[int(self._random() * len(names))]

    def count(self, *weights: float) -> int:
        """0 with the first probability, 1 with the second, and so on."""
        place = self._random()
        for number, weight in enumerate(weights):
            place -= weight
            if place < 0:
                return number
        return len(weights) - 1

    def number(self, low: float, high: float) -> str:
        return f"{self.between(low, high):.2f}"

    def frequency(self, low: float, high: float) -> str:
        return f"{self.busy * self.log_between(low, high):.2f}"

    def whole(self, low: int, high: int) -> str:
        return str(low + int(self._random() * (high - low + 1)))

    def moving(self, low: float, high: float) -> str:
        """A number that often changes with time."""
        text = self.number(low, high)
        if self.chance(0.5):
            return text
        swing = (high - low) * self.between(0.15, 0.5)
        return f"{text} + {swing:.2f} * sin({self.number(0.3, 1.1)} * t + {self.number(0, 6.28)})"

    # Points.

    def viewed(self, p: str) -> str:
        scale = self.frequency(0.9, 2.4)
        point = f"stretch({p}, {scale}, {scale})"
        if self.chance(0.6):
            point = (
                f"move({point}, {self.number(-3, 3)} + {self.number(-0.35, 0.35)} * t, "
                f"{self.number(-3, 3)} + {self.number(-0.35, 0.35)} * t)"
            )
        return point

    def gentle(self, p: str) -> str:
        name = self.pick(_GENTLE)
        match name:
            case "rotate":
                return f"rotate({p}, {self.number(0, 6.28)} + {self.number(-0.5, 0.5)} * t)"
            case "shear":
                return f"shear({p}, {self.moving(-0.9, 0.9)})"
            case "swirl":
                return f"swirl({p}, {self.moving(-3.5, 3.5)})"
            case "pinch":
                return f"pinch({p}, {self.moving(-0.8, 2.0)})"
            case "ripple":
                return f"ripple({p}, {self.frequency(1.5, 4)}, {self.moving(0.1, 0.45)})"
            case "warp":
                return f"warp({p}, {self.frequency(0.4, 1.2)}, {self.moving(0.25, 0.9)})"
            case "stretch":
                return f"stretch({p}, {self.number(0.6, 1.7)}, {self.number(0.6, 1.7)})"
        return f"move({p}, {self.moving(-1, 1)}, {self.moving(-1, 1)})"

    def tearing(self, p: str) -> str:
        name = self.pick(_TEARING)
        match name:
            case "kaleidoscope":
                return f"move(kaleidoscope({p}, {self.whole(3, 8)}), {self.moving(-1, 0.5)}, 0)"
            case "tile" | "mirror" | "bricks":
                return f"{name}({p}, {self.log_between(0.5, 1.3):.2f})"
            case "julia":
                return f"julia({p}, {self.moving(-0.9, 0.5)}, {self.moving(-0.8, 0.8)})"
            case "fold":
                return f"rotate(fold({p}), {self.moving(-1.5, 1.5)})"
        return f"{name}({p})"

    # Fields.

    def main_field(self, p: str) -> str:
        field = self.field(p, 1.0)
        if self.chance(0.5):
            field = f"{field} + {self.number(0.2, 0.6)} * {self.field(p, 0.7)}"
        return field

    def field(self, p: str, calm: float) -> str:
        """A number at each point; `calm` below 1 for fields that only modulate others."""
        if self.chance(0.25):
            shift = f"{self.number(0.2, 0.7)} * {self.hill(p, 0.6)}"
            p = f"move({p}, {shift}, {shift})"
        if self.chance(0.55):
            return self.hill(p, calm)
        name = self.pick(_PATTERNS)
        match name:
            case "rings":
                return f"rings({p}, {self.frequency(0.5 * calm, 1.6 * calm)})"
            case "stripes":
                turned = f"rotate({p}, {self.number(0, 3.14)})"
                return f"stripes({turned}, {self.frequency(0.4 * calm, 1.3 * calm)})"
            case "spiral":
                return f"spiral({p}, {self.whole(1, 6)}, {self.number(-1.6, 1.6)})"
            case "lattice":
                return f"lattice({p}, {self.number(0.08, 0.22)})"
        return f"{name}({p})"

    def hill(self, p: str, calm: float) -> str:
        name = self.pick(_HILLS)
        scale = self.frequency(0.35 * calm, 1.1 * calm)
        if name == "plasma":
            scale = self.frequency(1.2 * calm, 3 * calm)
        return f"{name}(stretch({p}, {scale}, {scale}))"

    # Colours.

    def painted(self) -> str:
        value = f"{self.log_between(0.6, 1.8):.2f} * f"
        if self.chance(0.15):
            value = f"poster({value}, {self.whole(3, 7)})"
        if self.chance(0.5):
            value = f"{value} + {self.number(-0.25, 0.25)} * t"
        return self.ramp(value)

    def ramp(self, value: str) -> str:
        return f'ramp({value}, "{self.palette()}")'

    def palette(self) -> str:
        """3 to 6 colours whose hues are near each other, opposite, or anywhere."""
        base, spread = self._random(), self.pick(("near", "opposite", "anywhere"))
        muted = self.chance(0.15)
        colours = []
        for _ in range(3 + self.count(0.3, 0.35, 0.2, 0.15)):
            turn = base + self.between(-0.09, 0.09)
            if spread == "opposite" and self.chance(0.5):
                turn += 0.5
            elif spread == "anywhere":
                turn = self._random()
            saturation = self.between(0.05, 0.4) if muted else self.between(0.35, 1.0)
            value = self.between(0.7, 1.0) if self.chance(0.65) else self.between(0.08, 0.55)
            channels = colorsys.hsv_to_rgb(turn % 1, saturation, value)
            colours.append("".join(f"{round(channel * 255):02x}" for channel in channels))
        return " ".join(colours)

    def mask(self) -> str:
        low = self.between(0.3, 0.6)
        return f"smooth({self.pick(('f', 'g'))}, {low:.2f}, {low + self.between(0.05, 0.3):.2f})"

    def overlay(self) -> None:
        """Hard-edged things on top: one in the middle, many in tiles, or leaves."""
        if self.chance(0.3):
            self.lines.append(f"h = leaves({self.viewed('p')})")
            self.lines.append(f"c = blend(c, {self.ramp('h')}, smooth(h, 0.55, 0.57))")
            return
        place = f"move({self.gentle('p')}, {self.moving(-0.3, 0.3)}, {self.moving(-0.3, 0.3)})"
        if self.chance(0.45):
            place = f"{self.pick(('tile', 'mirror', 'bricks'))}({place}, {self.number(1.2, 3)})"
        shape = self.pick(_SHAPES)
        size = self.number(0.35, 0.75)
        match shape:
            case "disc":
                inside = f"disc({place}, {size})"
            case "box":
                inside = f"box({place}, {size}, {self.number(0.25, 0.75)})"
            case "polygon":
                inside = f"polygon({place}, {self.whole(3, 8)}, {size})"
            case _:
                inside = f"flower({place}, {self.whole(3, 9)}, {size})"
        self.lines.append(f"c = blend(c, {self.ramp(self.pick(('f', 'g', '0.9 * g')))}, {inside})")
