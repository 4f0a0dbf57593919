"""From a URL to a source."""

from trainer.data.shard_sets import ShardSetSource
from trainer.data.sources import Source
from trainer.data.tars import TarSource

TARS = "wds:"


def open_source(url: str) -> Source:
    """A sealed shard set, or with the prefix `wds:` a folder of WebDataset tars."""
    return TarSource(url.removeprefix(TARS)) if url.startswith(TARS) else ShardSetSource(url)
