"""Files that follow from recipe and seal, for readers that know nothing of this format.

They are written after the seal, which does not name them. They depend on recipe and seal alone, and
the examples on the tars, so that two writers cannot disagree about them, and a missing one can be
written again.
"""

import json
from collections.abc import Mapping

from manifests.about import Example
from manifests.canonical import sha256_hex
from manifests.card import dataset_card, set_name
from manifests.croissant import croissant
from manifests.layout import CARD, CROISSANT, EXAMPLES, SIZES, TIMM_INFO
from manifests.recipe import Recipe
from manifests.seal import Seal

DERIVED = (CARD, CROISSANT, TIMM_INFO, SIZES)
"""Paths of all derived files but the examples."""


def derived_files(recipe: Recipe, seal: Seal) -> dict[str, bytes]:
    """Content of the derived files of a sealed set, by path, but that of examples.

    `README.md` is the card, which tells hubs and `datasets` to read the tars alone.
    `data/sizes.json` has the number of images in each tar, for open_clip. Example:
    {"000000.tar": 200, "000001.tar": 198}. Since 2.4 `croissant.json` has the columns for search
    engines, and `_info.json` is for timm, where every label is a whole number.
    """
    identity, about = recipe.identity, seal.about
    layout = identity.layout
    tars = {layout.tar(summary.shard): summary.num_ok for summary in seal.shards}
    sizes = {path.rpartition("/")[2]: num_ok for path, num_ok in tars.items()}
    files = {CARD: dataset_card(recipe, seal).encode(), SIZES: _document(sizes)}
    if about is None:
        return files
    files[CROISSANT] = croissant(identity, seal, name=set_name(identity, about))
    if about.labels == "numbers":
        files[TIMM_INFO] = _document(_timm_info(tars))
    return files


def example_files(recipe: Recipe, seal: Seal) -> dict[str, Example]:
    """The views that lie beside the card as files of their own, by path."""
    examples = () if seal.about is None else seal.about.examples
    return {f"{EXAMPLES}/{example.key}.{recipe.identity.format}": example for example in examples}


def derived_hashes(recipe: Recipe, seal: Seal) -> dict[str, str]:
    """SHA-256 of every derived file, by path."""
    texts = {path: sha256_hex(data) for path, data in derived_files(recipe, seal).items()}
    return texts | {path: one.sha256 for path, one in example_files(recipe, seal).items()}


def _document(value: Mapping[str, object]) -> bytes:
    return f"{json.dumps(value, indent=2)}\n".encode()


def _timm_info(tars: Mapping[str, int]) -> dict[str, object]:
    """What timm reads of a folder of tars.

    Source: timm, data/readers/reader_wds.py, `_parse_split_info`.
    """
    split = {
        "name": "train",
        "filenames": [*tars],
        "shard_lengths": [*tars.values()],
        "num_samples": sum(tars.values()),
        "alt_label": "label",  # a key of the rows, which stand in for files `.cls`
    }
    return {"splits": {"train": split}}
