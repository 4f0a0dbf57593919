"""Random numbers that are functions of what they are for, not of when they are drawn.

Nothing of a generator's state has to be saved, and no rank or worker can change a draw.
"""

from hashlib import blake2b

import numpy as np


def generator(purpose: str, *numbers: int) -> np.random.Generator:
    """The generator of one purpose for one thing.

    Args:
        purpose: What is drawn; other purposes have independent streams.
        numbers: What it is drawn for: seed, epoch, group, view, crop; signed 64 bits each.
    """
    text = purpose.encode() + b"".join(
        int(number).to_bytes(8, "little", signed=True) for number in numbers
    )
    key = int.from_bytes(blake2b(text, digest_size=16).digest(), "little")
    return np.random.Generator(np.random.Philox(key=key))
