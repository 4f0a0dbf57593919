"""Which run is broken how, drawn from a number, and what came of it."""

import random
from dataclasses import dataclass, field

from benchmarks.chaos.places import NUM_CAPTIONS, VIEWS
from benchmarks.chaos.troubled import CRASH, HANG

ON_ANY = ("kill driver", "stop driver", "freeze driver", "second driver")
ON_RAY = ("kill worker", "freeze worker", "kill node", "late node")
ON_FOLDER = ("full disk", "frozen disk", "read-only disk")
ON_BUCKET = ("break requests", "break requests", "kill gateway")
"""Kinds of `events.EVENTS` that a run can have; what comes twice is twice as frequent."""
ON_PROMPT = (HANG, CRASH)
"""Kinds that happen when the prompt of that view is rendered."""
DEADLINE_S = 1.0
"""For a batch that hangs; in runs without one frozen processes go on as if nothing was."""


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """What is broken, and after how many rendered views."""

    number: int
    storage: str
    """`folder` or `bucket`."""
    executor: str
    events: list[tuple[int, str]]

    @classmethod
    def draw(cls, number: int) -> "Schedule":
        """The schedule of a seed: the same on every machine."""
        rng = random.Random(f"schedule {number}")
        storage, executor = ("folder", "bucket")[number % 2], ("inline", "ray")[number % 4 // 2]
        kinds = [*ON_ANY, *ON_PROMPT]
        kinds += ON_RAY if executor == "ray" else ()
        kinds += ON_BUCKET if storage == "bucket" else ON_FOLDER
        last = NUM_CAPTIONS * VIEWS
        events = [(rng.randrange(last), rng.choice(kinds)) for _ in range(rng.randint(1, 4))]
        return cls(number=number, storage=storage, executor=executor, events=sorted(events))

    @property
    def deadline_s(self) -> float | None:
        """Seconds that a batch may take; None for what the product does by itself."""
        return DEADLINE_S if any(kind == HANG for _, kind in self.events) else None


@dataclass(kw_only=True)
class Outcome:
    """What became of a set, and what it took."""

    lost: int = 0
    """Views of the undisturbed set that are not in this one."""
    doubled: int = 0
    corrupt: int = 0
    """Faults that `synth verify` finds."""
    differing: int = 0
    """Views with other bytes, and tars and manifests."""
    rendered: int = 0
    """Views that were rendered, again or for the first time."""
    hangs: int = 0
    crashes: int = 0
    """Calls of the renderer that did not end, and that killed its process."""
    runs: int = 0
    statuses: list[int] = field(default_factory=list)
    """Exit statuses of drivers."""
    seconds: float = 0.0

    @property
    def is_right(self) -> bool:
        return not (self.lost or self.doubled or self.corrupt or self.differing)
