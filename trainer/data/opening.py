"""From an address to a source to train on: a sealed shard set, or tars of somebody else."""

import re
from collections.abc import Mapping
from typing import Protocol

from manifests.foundation.errors import PluginError
from manifests.foundation.plugins import Entry
from trainer.addresses import resolve
from trainer.data.sources import Source


class SourceKind(Protocol):
    """A class whose instances are sources (`trainer.data.sources.Source`)."""

    def __init__(self, url: str) -> None:
        """Open the source at a URL. Raises DataError if there is none."""


SOURCES: Mapping[str, Entry] = {
    "shards": Entry("trainer.data.shard_sets:ShardSetSource", "trainer"),
    "wds": Entry("trainer.data.tars:TarSource", "trainer"),
    "mix": Entry("trainer.data.mixture:Mixture", "trainer"),
}


def may_read_all(address: str) -> bool:
    """Whether a plan for a source may read all that it has, which each machine does for itself.

    Of the source of somebody else nobody knows.
    """
    return re.match(r"wds:|mix:|[\w.]+:[A-Za-z_]\w*:", address) is not None


def open_source(address: str) -> Source:
    """The source behind an address.

    Args:
        address: Path or URL of a sealed shard set, `wds:URL` for a folder of WebDataset tars,
            `mix:FILE` for a mixture of sources, or `package.module:Class:PLACE`.

    Raises:
        ConfigError: The address has an unknown kind.
        DataError: There is no source, or not one that can be trained on.
        PluginError: The class of somebody else makes no source.
    """
    kind, place = resolve("source", SOURCES, address, SourceKind, default="shards")
    source: Source = kind(place)
    # By name: `isinstance` would ask for the root, for which a source may have to read all tars.
    if not {"url", "root", "stream"} <= {*dir(source)}:
        raise PluginError(
            f"source {kind.__module__}:{kind.__qualname__}: its instances have no url, root or "
            "stream; the protocol is trainer.data.sources.Source"
        )
    return source
