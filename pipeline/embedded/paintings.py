"""Real handwriting, painted, as a labelled set: what the demo's encoders are measured on.

The protocol below was fixed before any encoder was trained, and is not a matter of choice: which
glyphs, how many paintings of each, which colours. Nearest neighbours are sought among all paintings
of `train`; `select` is for choosing, `report` for what is written down at the end.
"""

import io
import json
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from manifests.foundation.errors import PluginError
from manifests.foundation.files import TEMPORARY_PREFIX
from manifests.storage import open_store
from pipeline.embedded.world import COLOUR_NAMES, DIGITS, IMAGE_PX, Split, paint_split
from pipeline.encoding import ImageConfig, ImageEncoder
from pipeline.errors import PipelineError


@dataclass(frozen=True, slots=True, kw_only=True)
class Paintings:
    """How the glyphs of one split are painted."""

    per_glyph: int
    seed: int


PROTOCOL: Mapping[Split, Paintings] = {
    "train": Paintings(per_glyph=4, seed=101),
    "select": Paintings(per_glyph=3, seed=102),
    "report": Paintings(per_glyph=3, seed=103),
}
NUM_NEIGHBOURS = 20
TEMPLATE = "a {c}"

_SOURCE = """\
# Painted handwriting

Real handwritten digits of 8 x 8 px in coloured ink on a coloured ground, shown at 32 px. Written
by `synth handwriting`.

Source of the glyphs: UCI Machine Learning Repository, Optical Recognition of Handwritten Digits
(E. Alpaydin and C. Kaynak, 1998), licence CC BY 4.0
(https://creativecommons.org/licenses/by/4.0/), as scikit-learn's `load_digits`. Changed: each
glyph was painted in random colours and enlarged.

A WebDataset as CLIP_benchmark reads it: SPLIT/000000.tar with KEY.png, KEY.cls (the digit) and
KEY.json, whose `group` names the glyph: paintings of one glyph are not independent.

## Protocol, fixed before any encoder was trained

`train` is the bank of k-NN and what the linear probe is trained on, and serves as a training set of
real images; `select` is for choosing during development; `report` is reported, once. All glyphs of
a split are painted, and no glyph is in two splits.
"""


def _readme() -> str:
    rows = [f"| {name} | {each.per_glyph} | {each.seed} |" for name, each in PROTOCOL.items()]
    table = ["| split | paintings of each glyph | seed |", "|---|---|---|", *rows]
    use = (
        f"k-NN takes k = {NUM_NEIGHBOURS}:\n\n"
        "    synth evaluate RUN --on wds:DIR --test-split report --with knn,linear\n"
    )
    return "\n".join([_SOURCE, *table, "", use])


def write_paintings(folder: Path) -> dict[str, int]:
    """Write the whole set; a second time nothing. The bytes depend on this module alone.

    Returns:
        Number of pictures by split.

    Raises:
        PipelineError: The folder holds anything else.
        PluginError: scikit-learn is not installed.
    """
    _refuse_foreign(folder)
    files = {
        "README.md": _readme().encode(),
        "classnames.txt": "".join(f"{name}\n" for name in DIGITS).encode(),
        "zeroshot_classification_templates.txt": f"{TEMPLATE}\n".encode(),
    }
    counts: dict[str, int] = {}
    for split, paintings in PROTOCOL.items():
        files[f"{split}/000000.tar"], counts[split] = _tar(split, paintings)
    missing = [path for path in files if not (folder / path).exists()]
    for path in files.keys() - missing:
        if (folder / path).read_bytes() != files[path]:
            raise PipelineError(
                f"{folder / path}: not as `synth handwriting` writes it; nothing is overwritten, "
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
    there = {each.name for each in folder.iterdir()} if folder.is_dir() else set()
    foreign = sorted(each for each in there - ours if not each.startswith(TEMPORARY_PREFIX))
    if foreign:
        raise PipelineError(f"{folder}: holds {foreign[0]}; give a new or an empty folder")


def _tar(split: Split, paintings: Paintings) -> tuple[bytes, int]:
    """The tar of a split, and how many pictures it holds."""
    try:
        pictures, pairs, descriptions = paint_split(
            split, paintings_per_glyph=paintings.per_glyph, seed=paintings.seed
        )
    except ImportError as exc:
        raise PluginError(
            "the handwriting comes from scikit-learn: pip install 'synth-rep[demo]'"
        ) from exc
    encoder = ImageEncoder(ImageConfig(format="png"), rendered_px=IMAGE_PX)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:", format=tarfile.USTAR_FORMAT) as tar:
        for index, (picture, pair, said) in enumerate(
            zip(pictures, pairs.tolist(), descriptions, strict=True)
        ):
            about = {
                "group": f"{split}-{index // paintings.per_glyph}",
                "digit": said.digit,
                "ink": COLOUR_NAMES[pair[0]],
                "ground": COLOUR_NAMES[pair[1]],
            }
            _add(tar, f"{index:06d}.png", encoder.encode(picture))
            _add(tar, f"{index:06d}.cls", str(said.digit).encode())
            _add(tar, f"{index:06d}.json", json.dumps(about).encode())
    return buffer.getvalue(), len(pictures)


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)  # mode 0644, owner 0, mtime 0: no clock, no host
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))
