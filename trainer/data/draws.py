"""Random numbers that depend on what they are drawn for, and not on when or where.

A resumed run therefore needs no saved state of a generator, and no number of ranks or workers
changes a draw.
"""

from hashlib import blake2b

import numpy as np


def generator(purpose: str, *numbers: int) -> np.random.Generator:
    """The generator of one purpose for one thing.

    Args:
        purpose: What is drawn; other purposes have independent streams.
        numbers: What it is drawn for: seed, epoch, group, view, crop; signed 64 bits each.
    """
    # Hashed, so that neighbouring numbers have unrelated streams; unlike Python's `hash`, blake2b
    # gives the same key in every process.
    text = purpose.encode() + b"".join(
        int(number).to_bytes(8, "little", signed=True) for number in numbers
    )
    key = int.from_bytes(blake2b(text, digest_size=16).digest(), "little")
    return np.random.Generator(np.random.Philox(key=key))
