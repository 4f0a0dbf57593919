"""Labelled sets for tests: tiny pictures in folders and in tars."""

import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image


def png(value: int = 0, *, px: int = 8, mode: str = "RGB") -> bytes:
    """A picture of one gray level, as a PNG."""
    return encoded(np.full((px, px, 3), value, dtype=np.uint8), "png", mode=mode)


def encoded(pixels: np.ndarray, kind: str, *, mode: str = "RGB") -> bytes:
    """Pixels [height, width, 3] as a file of some kind, by Pillow and in one of its modes."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, kind)
    return buffer.getvalue()


def write_tar(path: Path, members: Mapping[str, bytes] | Sequence[tuple[str, bytes]]) -> Path:
    """A tar of members in the order given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pairs = members.items() if isinstance(members, Mapping) else members
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in pairs:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def labelled_members(
    labels: Sequence[int], *, first: int = 0, groups: Sequence[str] | None = None
) -> dict[str, bytes]:
    """KEY.png and KEY.cls, and KEY.json if there are groups; the key is the position."""
    members: dict[str, bytes] = {}
    for position, label in enumerate(labels):
        key = f"{first + position:04d}"
        members[f"{key}.png"] = png(20 * label)
        members[f"{key}.cls"] = str(label).encode()
        if groups is not None:
            members[f"{key}.json"] = json.dumps({"group": groups[position]}).encode()
    return members


def make_tars(root: Path, **splits: Sequence[Sequence[int]]) -> str:
    """Write a set in tars, and return its address for `--on`.

    Example: make_tars(root, train=[[0, 1], [1]]) has two tars in train, with two images and one.
    """
    for name, tars in splits.items():
        first = 0
        for number, labels in enumerate(tars):
            write_tar(root / name / f"{number:06d}.tar", labelled_members(labels, first=first))
            first += len(labels)
    return f"wds:{root}"


def make_folder(root: Path, **splits: Mapping[str, int]) -> str:
    """Write a set in folders, and return its address for `--on`.

    Example: make_folder(root, train={"cat": 2}) has two images of class cat in train.
    """
    for name, classes in splits.items():
        for label, (class_name, count) in enumerate(classes.items()):
            (root / name / class_name).mkdir(parents=True)
            for position in range(count):
                (root / name / class_name / f"{position}.png").write_bytes(png(20 * label))
    return f"imagefolder:{root}"
