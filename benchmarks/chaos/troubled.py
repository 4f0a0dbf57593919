"""A renderer with prompts that hang, or that kill its process, as often as files say.

A prompt that does so each time is a failed row. One that stops doing so in time is not: whatever
happens to a batch, each of its views is rendered by itself before it is given up, and twice if that
ends a process. So a batch has trouble up to three times here, and a view by itself can kill its
process once.
"""

import os
import random
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from benchmarks.noise import Noise, NoiseConfig
from pipeline.views import RenderedView, ViewRequest

HANG, CRASH = "hang renderer", "crash renderer"
MAX_TIMES = 3
"""Of a batch: on Ray two workers end and then the process in which the last attempt renders."""


class TroubledConfig(NoiseConfig):
    """Table [renderer] of a recipe."""

    name: str = "benchmarks.chaos.troubled:Troubled"
    trouble: str = ""
    """Folder in which trouble is planted; none if empty."""


class Troubled(Noise):
    """Noise, and trouble with the prompts for which some is planted."""

    Config = TroubledConfig

    def render(self, requests: Sequence[ViewRequest]) -> list[RenderedView]:
        size = "view" if len(requests) == 1 else "batch"
        for group in sorted({request.subject.group_index for request in requests}):
            if self._takes(f"{CRASH} {group} {size}"):
                os.kill(os.getpid(), signal.SIGKILL)
            if self._takes(f"{HANG} {group} {size}"):
                time.sleep(1e6)
        return super().render(requests)

    def _takes(self, name: str) -> bool:
        """Whether such a trouble is left; it is spent then, whichever process is first."""
        folder = self.config.trouble
        for path in Path(folder).glob(f"{name} *") if folder else ():
            with suppress(FileNotFoundError):
                path.rename(path.with_name(f"spent {path.name}"))
                return True
        return False


def plant(folder: Path, kind: str, group: int, rng: random.Random) -> None:
    """Let a prompt be trouble.

    Args:
        kind: HANG or CRASH.
        group: Number of the prompt.
    """
    folder.mkdir(exist_ok=True)
    for number in range(rng.randint(1, MAX_TIMES)):
        (folder / f"{kind} {group} batch {number}").touch()
    if kind == CRASH:
        (folder / f"{kind} {group} view 0").touch()


def num_spent(folder: Path, kind: str) -> int:
    """How often there was such trouble."""
    return sum(1 for _ in folder.glob(f"spent {kind} *"))
