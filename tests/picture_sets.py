"""Sealed shard sets of small real PNG pictures, for the trainer: no renderer is needed."""

import io
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from manifests.plan import ViewRequest
from manifests.seal_writer import seal_set
from manifests.shard_set import ShardSet
from tests.sets import begin, commit, scales, views_of

SIZE_PX = 16


def picture(request: ViewRequest) -> bytes:
    """A coloured picture that depends on the prompt and, less, on the view."""
    rng = np.random.default_rng(request.subject.group_index)
    coarse = rng.integers(0, 256, size=(4, 4, 3))
    noise = np.random.default_rng(request.seed).integers(-30, 31, size=(4, 4, 3))
    pixels = np.clip(coarse + noise, 0, 255).astype(np.uint8).repeat(4, 0).repeat(4, 1)
    return png(pixels)


def png(pixels: np.ndarray) -> bytes:
    """The bytes of a PNG file, [height, width, 3]."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "png")
    return buffer.getvalue()


def make_picture_set(
    url: str | Path, *, num_subjects: int = 12, views: int = 4, subjects_per_shard: int = 3
) -> ShardSet:
    """A sealed set. View 1 of prompt 1 failed, as in every set of these tests."""
    captions = [f"thing number {index}" for index in range(num_subjects)]
    shards = begin(
        url,
        captions,
        views_per_subject=views,
        variations=scales(2.0),
        subjects_per_shard=subjects_per_shard,
        width_px=SIZE_PX,
        height_px=SIZE_PX,
    )
    for shard in range(shards.layout.num_shards):
        commit(shards, shard, views=views_of(shards, shard, picture))
    seal_set(shards)
    return shards


def make_tars(folder: Path, *, captions: bool = False, count: int = 6) -> str:
    """Plain tars, each image its own key; the URL as `synth train` takes it."""
    folder.mkdir()
    with tarfile.open(folder / "0.tar", "w") as tar:
        for index in range(count):
            data = png(np.random.default_rng(index).integers(0, 256, (16, 16, 3), dtype=np.uint8))
            members = {"png": data} | ({"txt": f"thing {index}".encode()} if captions else {})
            for suffix, content in members.items():
                info = tarfile.TarInfo(f"{index:03d}.{suffix}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return f"wds:{folder}"


def without_index(folder: Path) -> None:
    """Make a set one that was sealed before there was an index."""
    seal = ShardSet.open(str(folder)).seal()
    assert seal is not None
    for path in seal.index:
        (folder / path).unlink()
    files = {path: digest for path, digest in seal.files.items() if path not in seal.index}
    (folder / "dataset.json").write_bytes(replace(seal, files=files).to_bytes())
