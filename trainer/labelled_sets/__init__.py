"""Labelled sets: images with classes or captions, to evaluate on. This folder holds only kinds of
them.

Laws, tested for every entry of the table (trainer.testing.labelled_sets is the public kit):

1. Opening a set lists its files and decodes none of them; a place without a set is refused in one
   line that names it.
2. The images of a split come in one order that never changes, each key once.
3. Each rank reads its part: over all ranks each image exactly once. Images have positions that
   ascend in the order of the split, on any rank, and are the same for any number of ranks.
4. Bytes are handed on as they are stored, with the labels that were stored with them, from 0 and
   below the number of classes, or with the captions.
5. The bytes that are reported while a split is read add up to its `num_bytes`: each of several
   ranks reports as if it spoke for all.
6. Neither the set nor a message shows what is secret in a URL.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from manifests.foundation.errors import PluginError
from manifests.foundation.plugins import Entry, did_you_mean
from trainer.addresses import resolve
from trainer.errors import DataError
from trainer.tasks import Task

SUFFIXES = ("jpg", "jpeg", "png", "webp")
"""Of the files that are images, in lower case."""
TEST_SPLITS = ("test", "val")
"""Splits that are tested on if the user names none, the first one that is there."""

OnBytes = Callable[[int], None]
"""Called with the number of bytes that were read since the last call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledImage:
    """One image as it is stored, not decoded."""

    key: str
    """Unique in its split."""
    position: tuple[int, ...]
    """Its place in the order of the split: no other image has the same."""
    data: bytes
    label: int | None
    """Its class; None if the set has several for an image, or captions."""
    group: str
    """Images of one group depict one physical thing; the key if the set does not say."""
    labels: tuple[int, ...] | None = None
    """All its classes, ascending, in a set of several for an image; there may be none."""
    captions: tuple[str, ...] = ()
    """Texts about it, at least one in a set of captions."""


@runtime_checkable
class Split(Protocol):
    """One split of a set, read in one order that never changes."""

    @property
    def name(self) -> str:
        """`train`, `test`, ..."""

    @property
    def where(self) -> str:
        """Folder or URL, for messages."""

    @property
    def num_bytes(self) -> int:
        """Size of all its files: what `on_bytes` adds up to."""

    def images(
        self, *, rank: int = 0, world: int = 1, on_bytes: OnBytes = lambda count: None
    ) -> Iterator[LabelledImage]:
        """The part of a rank, in the order of the split.

        Raises:
            DataError: A file or a label is not as the layout says.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledSet:
    """A set that an encoder can be evaluated on."""

    name: str
    """The address that it was opened by, without the secrets of a URL."""
    splits: Mapping[str, Split]
    classes: tuple[str, ...] = ()
    """Names by label; empty if the set does not name its classes."""
    templates: tuple[str, ...] = ()
    """Texts with `{c}` where the name of a class belongs; empty if the set has none."""
    task: Task = "classification"
    """`multilabel` if its images have several classes, `retrieval` if they have captions."""

    def split(self, name: str) -> Split:
        """A split by name. Raises DataError."""
        if name not in self.splits:
            raise DataError(
                f"{self.name}: no split {name!r}, there are {', '.join(self.splits)}"
                f"{did_you_mean(name, self.splits)}"
            )
        return self.splits[name]

    def test_split(self) -> str:
        """Name of the split to test on if the user names none. Raises DataError."""
        for name in TEST_SPLITS:
            if name in self.splits:
                return name
        raise DataError(
            f"{self.name}: no split {' or '.join(TEST_SPLITS)}, there are "
            f"{', '.join(self.splits)}; name one with --test-split"
        )

    def validation_split(self) -> str:
        """Name of the split to look at while an encoder is still learned: `val`, or another one.

        It is `test` only if there is nothing else beside `train`. Raises DataError if there is not
        even that.
        """
        others = self.splits.keys() - {"train"}
        if not others:
            raise DataError(f"{self.name}: no split but train; expected val beside it")
        return min(others, key=lambda name: (name == "test", name != "val", name))


class LabelledSetKind(Protocol):
    """See the laws above."""

    @staticmethod
    def open(place: str) -> LabelledSet:
        """The set at a folder or URL. Raises DataError if its layout is another one."""


LABELLED_SETS: Mapping[str, Entry] = {
    "imagefolder": Entry("trainer.labelled_sets.imagefolder:ImageFolder", "trainer"),
    "wds": Entry("trainer.labelled_sets.wds:WebDatasetTars", "trainer"),
}


def open_labelled(address: str) -> LabelledSet:
    """The set behind `imagefolder:DIR`, `wds:URL` or `package.module:Class:PLACE`.

    Raises:
        ConfigError: An address of no known kind.
        DataError: No set is there, or its layout is another one.
        PluginError: The class of somebody else opens something else.
    """
    kind, place = resolve("labelled set", LABELLED_SETS, address, LabelledSetKind)
    labelled = kind.open(place)
    if not isinstance(labelled, LabelledSet) or not all(
        isinstance(split, Split) for split in labelled.splits.values()
    ):
        raise PluginError(
            f"labelled set {kind.__module__}:{kind.__qualname__}: gives {labelled!r:.100}, "
            "expected trainer.labelled_sets.LabelledSet with splits that have its Split's members"
        )
    return labelled
