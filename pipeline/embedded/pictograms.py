"""Drawings of known artists and of unseen ones as a labelled set: what encoders are measured on.

The protocol below was fixed before any encoder was tested. `train`, `bank` and `select` are by the
artists that the generator saw. `test` and `hard` are by two whom neither generator nor encoder has
seen, and `test-shot` and `hard-shot` give one labelled picture of each concept in their hands.
"""

import io
import json
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from manifests.foundation.files import TEMPORARY_PREFIX
from manifests.storage import open_store
from pipeline.embedded.scenes import GROUND_NAMES, IMAGE_PX, Scenes, paint
from pipeline.embedded.sprites import HARD_FAMILY, TEST_FAMILY, TRAINING_FAMILIES, concepts
from pipeline.encoding import ImageConfig, ImageEncoder
from pipeline.errors import PipelineError


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """What one split shows."""

    families: tuple[str, ...]
    per_drawing: int
    """Pictures of each concept by each family, in poses and on grounds of their own."""
    seed: int


PROTOCOL: Mapping[str, Split] = {
    "train": Split(families=TRAINING_FAMILIES, per_drawing=8, seed=201),
    "bank": Split(families=TRAINING_FAMILIES, per_drawing=2, seed=207),
    "select": Split(families=TRAINING_FAMILIES, per_drawing=2, seed=202),
    "test": Split(families=(TEST_FAMILY,), per_drawing=6, seed=203),
    "hard": Split(families=(HARD_FAMILY,), per_drawing=6, seed=204),
    "test-shot": Split(families=(TEST_FAMILY,), per_drawing=1, seed=205),
    "hard-shot": Split(families=(HARD_FAMILY,), per_drawing=1, seed=206),
}
NUM_NEIGHBOURS = 20
TEMPLATE = "a {c}"

_SOURCE = """\
# Pictograms

Drawings of {count} things, turned, scaled and shifted at random on cluttered coloured grounds, at
32 px. Written by `synth pictograms`.

A WebDataset as CLIP_benchmark reads it: SPLIT/000000.tar with KEY.png, KEY.cls (the concept) and
KEY.json, whose `group` names the drawing: pictures of one drawing are not independent.

## Licences

`train`, `bank` and `select` show Noto Emoji (Google, Apache-2.0), Twemoji (Twitter, CC BY 4.0,
https://creativecommons.org/licenses/by/4.0/) and Fluent Emoji (Microsoft, MIT). `test` and
`test-shot` show Emoji One (legacy) and `hard` and `hard-shot` OpenMoji: these four splits are
under CC BY-SA 4.0 (https://creativecommons.org/licenses/by-sa/4.0/). Changed: rasterised, placed
on grounds.

## Protocol, fixed before any encoder was tested

`train` is a training set of real pictures. `bank` holds six labelled pictures of each concept: what
k-NN and the linear probe learn from. With more of them raw pixels do better, and encoders differ
less. `select` is for choosing during development; `test` and `hard` are reported, once.
The one picture of a concept in a `-shot` split has another pose and another ground than those of
the same drawing in `test` or `hard`.
"""


def _readme() -> str:
    rows = [
        f"| {name} | {', '.join(split.families)} | {split.per_drawing} | {split.seed} |"
        for name, split in PROTOCOL.items()
    ]
    head = ["| split | artists | pictures of each drawing | seed |", "|---|---|---|---|"]
    use = (
        f"k-NN takes k = {NUM_NEIGHBOURS}:\n\n"
        "    synth evaluate RUN --on wds:DIR --train-split bank --test-split test\n"
        "    synth evaluate RUN --on wds:DIR --train-split test-shot --test-split test --with knn\n"
    )
    return "\n".join([_SOURCE.format(count=len(concepts())), *head, *rows, "", use])


def scenes_of(split: Split) -> Scenes:
    """What the pictures of a split show: families, concepts and pictures of a drawing in order.

    The grounds of a drawing differ from one another, and those of a `-shot` split, which are the
    ones that come last, from those of all others.
    """
    count, things, grounds = len(split.families), len(concepts()), len(GROUND_NAMES)
    family, concept, index = (
        axis.ravel() for axis in np.indices((count, things, split.per_drawing), dtype=np.int64)
    )
    rng = np.random.default_rng([split.seed, 0])
    is_shot = split.per_drawing == 1
    # The order of grounds of a concept is the same in all splits; only where to begin differs.
    order = np.stack(
        [np.random.default_rng([200, each]).permutation(grounds) for each in range(things)]
    )
    if is_shot:
        place = np.full(len(concept), grounds - 1)
    else:
        start = rng.integers(grounds - 1, size=(count, things))[family, concept]
        place = (start + index) % (grounds - 1)
    return Scenes(concept=concept, ground=order[concept, place], family=family)


def write_pictograms(folder: Path) -> dict[str, int]:
    """Write the whole set; a second time nothing. The bytes depend on the protocol alone.

    Returns:
        Number of pictures by split.

    Raises:
        PipelineError: The folder holds anything else.
    """
    _refuse_foreign(folder)
    files = {
        "README.md": _readme().encode(),
        "classnames.txt": "".join(f"{each.name}\n" for each in concepts()).encode(),
        "zeroshot_classification_templates.txt": f"{TEMPLATE}\n".encode(),
    }
    counts: dict[str, int] = {}
    for name, split in PROTOCOL.items():
        files[f"{name}/000000.tar"], counts[name] = _tar(split)
    missing = [path for path in files if not (folder / path).exists()]
    for path in files.keys() - missing:
        if (folder / path).read_bytes() != files[path]:
            raise PipelineError(
                f"{folder / path}: not as `synth pictograms` writes it; nothing is overwritten, "
                "give a new folder"
            )
    store = open_store(str(folder))
    for path in missing:
        store.create(path, files[path])
    return counts


def _refuse_foreign(folder: Path) -> None:
    ours = {"README.md", "classnames.txt", "zeroshot_classification_templates.txt", *PROTOCOL}
    if folder.exists() and not folder.is_dir():
        raise PipelineError(f"{folder}: a file; give a new folder")
    there = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    foreign = sorted(name for name in there - ours if not name.startswith(TEMPORARY_PREFIX))
    if foreign:
        raise PipelineError(f"{folder}: holds {foreign[0]}; give a new or an empty folder")


def _tar(split: Split) -> tuple[bytes, int]:
    """The tar of a split, and how many pictures it holds."""
    scenes = scenes_of(split)
    pictures = paint(np.random.default_rng([split.seed, 1]), scenes, split.families)
    encoder = ImageEncoder(ImageConfig(format="png"), rendered_px=[(IMAGE_PX, IMAGE_PX)])
    buffer = io.BytesIO()
    rows = zip(scenes.concept.tolist(), scenes.ground.tolist(), scenes.family.tolist(), strict=True)
    with tarfile.open(fileobj=buffer, mode="w:", format=tarfile.USTAR_FORMAT) as tar:
        for index, (concept, ground, family) in enumerate(rows):
            artist = split.families[family]
            about = {
                "group": f"{artist}-{concept}",
                "concept": concepts()[concept].name,
                "family": artist,
                "ground": GROUND_NAMES[ground],
            }
            _add(tar, f"{index:06d}.png", encoder.encode(pictures[index]))
            _add(tar, f"{index:06d}.cls", str(concept).encode())
            _add(tar, f"{index:06d}.json", json.dumps(about).encode())
    return buffer.getvalue(), len(pictures)


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)  # mode 0644, owner 0, mtime 0: no clock, no host
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))
