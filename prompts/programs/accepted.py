"""The programs of this package that passed the filters of `benchmarks.image_programs.accept`."""

from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from prompts.programs.grammar import write_program

ACCEPTED_FILE = Path(__file__).parent / "accepted.bin"
"""A bit for each integer from 0: 1 if the program that the grammar writes from it is accepted."""


@cache
def accepted_programs() -> NDArray[np.int64]:
    """The integers of all accepted programs, ascending."""
    bits = np.unpackbits(np.frombuffer(ACCEPTED_FILE.read_bytes(), dtype=np.uint8))
    return np.flatnonzero(bits)


def program_text(number: int) -> str:
    """The text of accepted program `number`; numbers beyond the last begin again."""
    numbers = accepted_programs()
    return write_program(int(numbers[number % len(numbers)]))
