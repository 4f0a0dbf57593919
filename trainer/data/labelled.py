"""Labelled sets for evaluation: folders of classes, and WebDataset tars as CLIP_benchmark has them.

    imagefolder:DIR   DIR/train/CLASS/*.jpg   DIR/test/CLASS/*.jpg   (or val)
    wds:URL           URL/train/*.tar         URL/test/*.tar         (or val)
                      URL/classnames.txt      URL/zeroshot_classification_templates.txt

In a tar: KEY.jpg, .png or .webp; KEY.cls, the label as decimal text; optionally KEY.json with a
"group", text or integer, that says which images depict one physical thing.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Protocol, TypeVar, runtime_checkable

from manifests.foundation.plugins import did_you_mean
from manifests.storage import Store, open_store
from trainer.data.foreign_tars import read_groups
from trainer.errors import DataError

SUFFIXES = ("jpg", "jpeg", "png", "webp")
TEST_SPLITS = ("test", "val")
MAX_CLASSES = 1 << 20
_KINDS = ("imagefolder", "wds")

Item = TypeVar("Item")
OnBytes = Callable[[int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledImage:
    """One image as it is stored, not decoded."""

    key: str
    """Unique in its split."""
    data: bytes
    label: int
    group: str
    """Images of one group depict one physical thing; the key where nothing is said."""


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
        """Of all its files: what `on_bytes` counts up to, nearly."""

    def images(
        self, *, rank: int = 0, world: int = 1, on_bytes: OnBytes = lambda count: None
    ) -> Iterator[LabelledImage]:
        """Images `rank`, `rank + world`, ... of the split.

        Raises:
            DataError: A file or a label is not as the layout says.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledSet:
    """What can be evaluated on."""

    name: str
    """As it was asked for, without what may be secret."""
    splits: dict[str, Split]
    classes: tuple[str, ...] = ()
    """Names by label; empty where the set does not name its classes."""
    templates: tuple[str, ...] = ()
    """Texts with `{c}` in the place of a class name; empty where the set has none."""

    def split(self, name: str) -> Split:
        """A split by name. Raises DataError."""
        if name not in self.splits:
            raise DataError(
                f"{self.name}: no split {name!r}, there are {', '.join(self.splits)}"
                f"{did_you_mean(name, self.splits)}"
            )
        return self.splits[name]

    def test_split(self) -> str:
        """Name of what is tested on where nothing is said. Raises DataError."""
        for name in TEST_SPLITS:
            if name in self.splits:
                return name
        raise DataError(
            f"{self.name}: no split {' or '.join(TEST_SPLITS)}, there are "
            f"{', '.join(self.splits)}; name one with --test-split"
        )


def open_labelled(on: str) -> LabelledSet:
    """The set behind `imagefolder:DIR` or `wds:URL`; lists files and reads none of the images.

    Raises:
        DataError: Neither of these, or the layout is another one.
    """
    kind, _, place = on.partition(":")
    if kind not in _KINDS or not place:
        raise DataError(f"{on}: expected imagefolder:DIR or wds:URL{did_you_mean(kind, _KINDS)}")
    return _open_folder(Path(place)) if kind == "imagefolder" else _open_tars(place)


def share(items: Iterable[Item], rank: int, world: int) -> Iterator[Item]:
    """Every world-th item from the rank-th on: over all ranks each item once."""
    return islice(items, rank, None, world)


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderSplit:
    """A split whose classes are folders."""

    name: str
    where: str
    files: tuple[tuple[Path, int], ...] = field(repr=False)
    """Path and label, by class and name."""
    num_bytes: int

    def images(
        self, *, rank: int = 0, world: int = 1, on_bytes: OnBytes = lambda count: None
    ) -> Iterator[LabelledImage]:
        """See Split."""
        for path, label in share(self.files, rank, world):
            try:
                data = path.read_bytes()
            except OSError as exc:
                raise DataError(f"{path}: cannot be read ({exc.strerror})") from exc
            on_bytes(len(data) * world)  # the other ranks read as much meanwhile
            key = f"{path.parent.name}/{path.name}"
            yield LabelledImage(key=key, data=data, label=label, group=key)


def _open_folder(root: Path) -> LabelledSet:
    name = f"imagefolder:{root}"
    try:
        folders = sorted(each for each in root.iterdir() if each.is_dir())
        found = {each.name: _classes_of(each) for each in folders if each.name[0] != "."}
    except OSError as exc:
        raise DataError(f"{root}: cannot be read ({exc.strerror}); give a folder") from exc
    found = {split: classes for split, classes in found.items() if classes}
    if not found:
        raise DataError(f"{root}: expected SPLIT/CLASS/*.jpg, such as train/cat/1.jpg")
    reference = "train" if "train" in found else next(iter(found))
    classes = tuple(found[reference])
    if len(classes) < 2:
        raise DataError(f"{root / reference}: one class, {classes[0]!r}; expected at least two")
    splits: dict[str, Split] = {}
    for split, files in found.items():
        unknown = sorted(set(files) - set(classes))
        if unknown:
            raise DataError(
                f"{root / split / unknown[0]}: a class that {reference} does not have"
                f"{did_you_mean(unknown[0], classes)}"
            )
        rows = tuple(
            (path, label) for label, each in enumerate(classes) for path in files.get(each, ())
        )
        num_bytes = sum(path.stat().st_size for path, _ in rows)
        splits[split] = FolderSplit(
            name=split, where=str(root / split), files=rows, num_bytes=num_bytes
        )
    return LabelledSet(name=name, splits=splits, classes=classes)


def _classes_of(split: Path) -> dict[str, list[Path]]:
    """Images by class. A class without one is left out of `test` and wrong in nothing else."""
    classes: dict[str, list[Path]] = {}
    for folder in sorted(each for each in split.iterdir() if each.is_dir()):
        images = sorted(each for each in folder.iterdir() if _suffix(each.name) in SUFFIXES)
        if images:
            classes[folder.name] = images
    return classes


def _suffix(name: str) -> str:
    return name.rpartition(".")[2].lower()


@dataclass(frozen=True, slots=True, kw_only=True)
class TarSplit:
    """A split in WebDataset tars."""

    name: str
    where: str
    store: Store = field(repr=False)
    tars: tuple[str, ...]
    num_bytes: int
    num_classes: int
    """0 where the set does not name its classes."""

    def images(
        self, *, rank: int = 0, world: int = 1, on_bytes: OnBytes = lambda count: None
    ) -> Iterator[LabelledImage]:
        """See Split. Every rank reads, and so checks, everything."""
        return share(self._all(on_bytes), rank, world)

    def _all(self, on_bytes: OnBytes) -> Iterator[LabelledImage]:
        num_images = 0
        for tar in self.tars:
            for key, members in read_groups(self.store, tar, on_bytes=on_bytes):
                num_images += 1
                yield self._labelled(f"{PurePosixPath(tar).stem}/{key}", members, tar)
        if not num_images:
            raise DataError(f"{self.where}: its tars hold no image")

    def _labelled(self, key: str, members: dict[str, bytes], tar: str) -> LabelledImage:
        where = f"{self.store.at(tar)}: {key.partition('/')[2]}"
        images = [suffix for suffix in SUFFIXES if suffix in members]
        if len(images) != 1:
            had = ", ".join(sorted(members)) or "nothing"
            raise DataError(f"{where}: expected one of .{' .'.join(SUFFIXES)}, found {had}")
        if "cls" not in members:
            raise DataError(f"{where}: no label; expected a file .cls beside .{images[0]}")
        return LabelledImage(
            key=key,
            data=members[images[0]],
            label=self._label(members["cls"], where),
            group=_group(members.get("json"), key, where),
        )

    def _label(self, text: bytes, where: str) -> int:
        digits = text.strip()
        if not digits.isdigit() or len(digits) > 9:
            raise DataError(f"{where}.cls is {text[:20]!r}, expected a decimal number from 0")
        label, limit = int(digits), self.num_classes or MAX_CLASSES
        if label >= limit:
            raise DataError(f"{where}.cls is {label}, expected less than {limit} (classnames.txt)")
        return label


def _group(text: bytes | None, key: str, where: str) -> str:
    if text is None:
        return key
    try:
        about = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise DataError(f"{where}.json is not JSON") from exc
    group = about.get("group", key) if isinstance(about, dict) else None
    if isinstance(group, bool) or not isinstance(group, int | str):
        raise DataError(f'{where}.json: expected an object whose "group" is text or an integer')
    return str(group)


def _open_tars(url: str) -> LabelledSet:
    store = open_store(url)
    classes = _lines(store, "classnames.txt")
    templates = _lines(store, "zeroshot_classification_templates.txt")
    for template in templates:
        if "{c}" not in template:
            raise DataError(
                f"{store.at('zeroshot_classification_templates.txt')}: {template[:60]!r} has no "
                "{c}, the place of the class name"
            )
    if len(classes) == 1:
        raise DataError(f"{store.at('classnames.txt')}: one class, expected at least two")
    splits: dict[str, Split] = {}
    files = store.list()
    for name in [each for each in store.names() if each not in files]:
        sizes = {path: size for path, size in store.list(name).items() if path.endswith(".tar")}
        if sizes:
            splits[name] = TarSplit(
                name=name,
                where=store.at(name),
                store=store,
                tars=tuple(sorted(sizes)),
                num_bytes=sum(sizes.values()),
                num_classes=len(classes),
            )
    if not splits:
        raise DataError(f"{store.url}: expected SPLIT/*.tar, such as train/000000.tar")
    return LabelledSet(name=f"wds:{store.url}", splits=splits, classes=classes, templates=templates)


def _lines(store: Store, path: str) -> tuple[str, ...]:
    """Lines that are not empty; nothing if there is no such file. Raises DataError."""
    try:
        text = store.read(path).decode()
    except FileNotFoundError:
        return ()
    except UnicodeDecodeError as exc:
        raise DataError(f"{store.at(path)}: not UTF-8 text") from exc
    return tuple(line.strip() for line in text.splitlines() if line.strip())
