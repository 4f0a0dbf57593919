"""One rule for addresses: KIND:PLACE, dotted paths, and a default where there is one."""

from typing import ClassVar, Protocol

import pytest

from manifests.foundation.errors import ConfigError, PluginError
from manifests.foundation.plugins import Entry
from tests.sets import refused
from trainer.addresses import resolve
from trainer.data.opening import open_source
from trainer.data.sources import Demand, GroupStream
from trainer.errors import TrainerError


class Shelf(Protocol):
    """What the kinds of these tests are."""

    width: ClassVar[int]


class Wood:
    width = 1


class Glass:
    width = 2


class Nothing:
    pass


TABLE = {"wood": Entry(f"{__name__}:Wood", ""), "glass": Entry(f"{__name__}:Glass", "")}


@pytest.mark.parametrize(
    ("address", "kind", "place"),
    [
        ("wood:x", Wood, "x"),
        ("glass:s3://bucket/set", Glass, "s3://bucket/set"),
        ("glass:a:b:c", Glass, "a:b:c"),
        (f"{__name__}:Glass:x", Glass, "x"),
        (f"{__name__}:Glass:https://host/x", Glass, "https://host/x"),
        (f"{__name__}:Glass:", Glass, ""),
        ("folder", Wood, "folder"),
        ("wood", Wood, "wood"),
        ("/folder/a:b", Wood, "/folder/a:b"),
        ("s3://bucket/set", Wood, "s3://bucket/set"),
        ("simplecache::s3://bucket/set", Wood, "simplecache::s3://bucket/set"),
    ],
)
def test_an_address_has_a_kind_and_a_place(address: str, kind: type, place: str) -> None:
    assert resolve("shelf", TABLE, address, Shelf, default="wood") == (kind, place)


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        ("wod:x", ["shelf wod:x: expected KIND:PLACE", "wood, glass or", "mean 'wood'?"]),
        ("folder", ["shelf folder: expected KIND:PLACE"]),
        ("", ["expected KIND:PLACE"]),
        ("wood", ["expected KIND:PLACE"]),
        ("wood:", ["shelf wood:: nothing follows wood:, expected wood:PLACE"]),
        ("https://u:SECRET@h/x?sig=SECRET", ["shelf https://h/x: expected KIND:PLACE"]),
    ],
)
def test_what_names_no_kind_is_refused(address: str, parts: list[str]) -> None:
    with refused(ConfigError, *parts):
        resolve("shelf", TABLE, address, Shelf)


def test_a_mistyped_kind_is_not_taken_for_a_place() -> None:
    with refused(ConfigError, "did you mean 'wood'?"):
        resolve("shelf", TABLE, "wod:x", Shelf, default="wood")


def test_a_class_of_another_protocol_is_refused() -> None:
    with refused(PluginError, "is no shelf, it has no width"):
        resolve("shelf", TABLE, f"{__name__}:Nothing:x", Shelf)


class Gallery:
    """A source that somebody else might write."""

    def __init__(self, url: str) -> None:
        self.url, self.root = url, "0" * 64

    def stream(self, demand: Demand) -> GroupStream:
        raise NotImplementedError


def test_sources_are_opened_by_kind_too() -> None:
    assert open_source(f"{__name__}:Gallery:pictures").url == "pictures"
    with refused(ConfigError, "source wsd:/x: expected KIND:PLACE", "did you mean 'wds'?"):
        open_source("wsd:/x")
    with pytest.raises(TrainerError, match=r"no \*\.tar here"):
        open_source("wds:memory://nowhere")
