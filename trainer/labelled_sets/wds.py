"""Labelled WebDataset tars, laid out as CLIP_benchmark has them.

    URL/train/*.tar         URL/test/*.tar (or val)
    URL/classnames.txt      URL/zeroshot_classification_templates.txt

A tar holds KEY.jpg, .png or .webp for each image, and KEY.cls, its label as decimal text. It may
hold KEY.json with a "group", which is a text or an integer: images of equal groups depict one
physical thing.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from manifests.storage import Store, open_store
from trainer.data.foreign_tars import read_groups
from trainer.errors import DataError
from trainer.labelled_sets import SUFFIXES, LabelledImage, LabelledSet, OnBytes, Split, share

MAX_CLASSES = 1 << 20
"""Bound on labels where the set does not name its classes: memory grows with the largest label."""
CLASS_NAMES = "classnames.txt"
TEMPLATES = "zeroshot_classification_templates.txt"


class WebDatasetTars:
    """`wds:URL`. See trainer.labelled_sets."""

    @staticmethod
    def open(place: str) -> LabelledSet:
        """See LabelledSetKind."""
        store = open_store(place)
        classes = _lines(store, CLASS_NAMES)
        templates = _lines(store, TEMPLATES)
        for template in templates:
            if "{c}" not in template:
                raise DataError(
                    f"{store.at(TEMPLATES)}: {template[:60]!r} has no {{c}}, which stands for the "
                    "name of a class"
                )
        if len(classes) == 1:
            raise DataError(f"{store.at(CLASS_NAMES)}: one class, expected at least two")
        splits: dict[str, Split] = {}
        files = store.list()
        for name in store.names():
            sizes = {} if name in files else store.list(name)  # a file is no split
            if tars := sorted(path for path in sizes if path.endswith(".tar")):
                splits[name] = TarSplit(
                    name=name,
                    where=store.at(name),
                    store=store,
                    tars=tuple(tars),
                    num_bytes=sum(sizes[path] for path in tars),
                    num_classes=len(classes),
                )
        if not splits:
            raise DataError(f"{store.url}: expected SPLIT/*.tar, such as train/000000.tar")
        return LabelledSet(
            name=f"wds:{store.url}", splits=splits, classes=classes, templates=templates
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TarSplit:
    """A split in WebDataset tars. See trainer.labelled_sets.Split."""

    name: str
    where: str
    """Folder or URL of the tars, for messages."""
    store: Store = field(repr=False)
    tars: tuple[str, ...]
    """Paths below the set, ascending: the order of the images."""
    num_bytes: int
    num_classes: int
    """0 if the set does not name its classes."""

    def images(
        self, *, rank: int = 0, world: int = 1, on_bytes: OnBytes = lambda count: None
    ) -> Iterator[LabelledImage]:
        """See Split. Every rank reads all tars: no index says how many images are in each."""
        return share(self._all(on_bytes), rank, world)

    def _all(self, on_bytes: OnBytes) -> Iterator[LabelledImage]:
        num_images = 0
        for tar in self.tars:
            for key, members in read_groups(self.store, tar, on_bytes=on_bytes):
                num_images += 1
                # Keys may come again in another tar, so the name of the tar makes them unique.
                yield self._labelled(f"{PurePosixPath(tar).stem}/{key}", members, tar)
        if not num_images:
            raise DataError(f"{self.where}: its tars hold no image")

    def _labelled(self, key: str, members: Mapping[str, bytes], tar: str) -> LabelledImage:
        where = f"{self.store.at(tar)}: {key.partition('/')[2]}"
        images = [suffix for suffix in SUFFIXES if suffix in members]
        if len(images) != 1:
            present = ", ".join(sorted(members)) or "nothing"
            raise DataError(f"{where}: expected one of .{' .'.join(SUFFIXES)}, found {present}")
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
        # `isdigit` of bytes knows ASCII alone; the length is bounded before `int` reads it.
        if not digits.isdigit() or len(digits) > 9:
            raise DataError(f"{where}.cls is {text[:20]!r}, expected a decimal number from 0")
        label, limit = int(digits), self.num_classes or MAX_CLASSES
        if label >= limit:
            raise DataError(f"{where}.cls is {label}, expected less than {limit} ({CLASS_NAMES})")
        return label


def _group(text: bytes | None, key: str, where: str) -> str:
    """The group that KEY.json names; the key itself if there is no such file or no group in it."""
    if text is None:
        return key
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise DataError(f"{where}.json is not JSON") from exc
    group = document.get("group", key) if isinstance(document, dict) else None
    if isinstance(group, bool) or not isinstance(group, int | str):
        raise DataError(f'{where}.json: expected an object whose "group" is text or an integer')
    return str(group)


def _lines(store: Store, path: str) -> tuple[str, ...]:
    """The lines of a text file that are not empty; () if there is no file. Raises DataError."""
    try:
        text = store.read(path).decode()
    except FileNotFoundError:
        return ()
    except UnicodeDecodeError as exc:
        raise DataError(f"{store.at(path)}: not UTF-8 text") from exc
    return tuple(line.strip() for line in text.splitlines() if line.strip())
