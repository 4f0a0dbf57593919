"""Files that follow from recipe and seal alone, for readers that know nothing of this format.

They are written after the seal and the seal does not name them: whoever writes them, and however
often, writes the same bytes.
"""

import json

from manifests.card import dataset_card
from manifests.layout import CARD, SIZES
from manifests.recipe import Identity
from manifests.seal import Seal


def derived_files(identity: Identity, seal: Seal) -> dict[str, bytes]:
    """Content of the derived files of a sealed set, by path.

    `README.md` is the card that pins the tars for hubs and `datasets`; `data/sizes.json` counts the
    views in each tar by its name, for open_clip.
    """
    layout = identity.layout
    sizes = {
        layout.tar(summary.shard).rpartition("/")[2]: summary.num_ok for summary in seal.shards
    }
    return {
        CARD: dataset_card(identity, seal).encode(),
        SIZES: f"{json.dumps(sizes, indent=2)}\n".encode(),
    }
