"""Files that follow from recipe and seal alone, for readers that know nothing of this format.

They are written after the seal, which does not name them. They are functions of recipe and seal, so
that two writers cannot disagree about them, and a missing one can be written again.
"""

import json

from manifests.card import dataset_card
from manifests.layout import CARD, SIZES
from manifests.recipe import Identity
from manifests.seal import Seal


def derived_files(identity: Identity, seal: Seal) -> dict[str, bytes]:
    """Content of the derived files of a sealed set, by path.

    `README.md` is the card, which tells hubs and `datasets` to read the tars alone.
    `data/sizes.json` has the number of images in each tar, for open_clip. Example:
    {"000000.tar": 200, "000001.tar": 198}.
    """
    layout = identity.layout
    sizes = {
        layout.tar(summary.shard).rpartition("/")[2]: summary.num_ok for summary in seal.shards
    }
    return {
        CARD: dataset_card(identity, seal).encode(),
        SIZES: f"{json.dumps(sizes, indent=2)}\n".encode(),
    }
