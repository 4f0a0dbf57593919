"""Labelled WebDataset tars, laid out as CLIP_benchmark has them.

    URL/train/*.tar         URL/test/*.tar (or val)
    URL/classnames.txt      URL/zeroshot_classification_templates.txt
    URL/dataset_type.txt    multilabel or retrieval; classification if there is no such file

A tar holds KEY.jpg, .png or .webp for each image, and what it is labelled with:

    classification          KEY.cls, its label as decimal text
    multilabel              KEY.npy, a number for each class, not 0 where the image has it; or
                            KEY.cls, its labels as decimal text between blanks or line ends
    retrieval               KEY.txt, its captions, one in a line

It may hold KEY.json with a "group", which is a text or an integer: images of equal groups depict
one physical thing.
"""

import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

import numpy as np

from manifests.storage import Store, open_store
from trainer.data.tar_parts import parts_of_rank, read_part
from trainer.errors import DataError
from trainer.labelled_sets import SUFFIXES, LabelledImage, LabelledSet, OnBytes, Split
from trainer.tasks import METRICS, Task

MAX_CLASSES = 1 << 20
"""Bound on labels where the set does not name its classes: memory grows with the largest label."""
CLASS_NAMES = "classnames.txt"
TEMPLATES = "zeroshot_classification_templates.txt"
TYPE = "dataset_type.txt"
_LABELS: Mapping[Task, tuple[str, ...]] = {
    "classification": ("cls",),
    "multilabel": ("npy", "cls"),
    "retrieval": ("txt",),
}
"""Suffixes of what an image is labelled with; of several files the first one is read."""


class WebDatasetTars:
    """`wds:URL`. See trainer.labelled_sets."""

    @staticmethod
    def open(place: str) -> LabelledSet:
        """See LabelledSetKind."""
        store = open_store(place)
        classes = _lines(store, CLASS_NAMES)
        templates = _lines(store, TEMPLATES)
        task = _task(store)
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
                    task=task,
                )
        if not splits:
            raise DataError(f"{store.url}: expected SPLIT/*.tar, such as train/000000.tar")
        return LabelledSet(
            name=f"wds:{store.url}", splits=splits, classes=classes, templates=templates, task=task
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
    task: Task = "classification"

    def images(
        self, *, rank: int = 0, world: int = 1, on_bytes: OnBytes = lambda count: None
    ) -> Iterator[LabelledImage]:
        """See Split. Ranks share whole tars, or their parts where there are fewer than ranks."""
        parts = parts_of_rank(self.store, self.tars, rank=rank, world=world)
        own_bytes, num_read = max(sum(part.num_bytes for part in parts), 1), 0

        def on_own_bytes(count: int) -> None:
            nonlocal num_read
            before = self.num_bytes * num_read // own_bytes
            num_read += count
            on_bytes(self.num_bytes * num_read // own_bytes - before)

        is_empty = True
        for part in parts:
            for number, key, members in read_part(self.store, part, on_bytes=on_own_bytes):
                is_empty = False
                yield self._labelled(key, members, part.path, (part.number, number))
        if is_empty and world == 1:  # of several ranks, one alone may have no image
            raise DataError(f"{self.where}: its tars hold no image")

    def _labelled(
        self, key: str, members: Mapping[str, bytes], tar: str, position: tuple[int, int]
    ) -> LabelledImage:
        where = f"{self.store.at(tar)}: {key}"
        images = [suffix for suffix in SUFFIXES if suffix in members]
        if len(images) != 1:
            present = ", ".join(sorted(members)) or "nothing"
            raise DataError(f"{where}: expected one of .{' .'.join(SUFFIXES)}, found {present}")
        stored = [suffix for suffix in _LABELS[self.task] if suffix in members]
        if not stored:
            raise DataError(
                f"{where}: no label; expected a file .{' or .'.join(_LABELS[self.task])} beside "
                f".{images[0]} ({TYPE}: {self.task})"
            )
        text = members[stored[0]]
        label: int | None = None
        labels: tuple[int, ...] | None = None
        captions: tuple[str, ...] = ()
        if self.task == "retrieval":
            captions = _captions(text, where)
        elif self.task == "classification":
            label = self._label(text, where)
        elif stored[0] == "npy":
            labels = self._switches(text, where)
        else:
            labels = tuple(sorted({self._label(word, where) for word in text.split()}))
        # Keys may come again in another tar, so the name of the tar makes them unique.
        unique = f"{PurePosixPath(tar).stem}/{key}"
        return LabelledImage(
            key=unique,
            position=position,
            data=members[images[0]],
            label=label,
            group=_group(members.get("json"), unique, where),
            labels=labels,
            captions=captions,
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

    def _switches(self, data: bytes, where: str) -> tuple[int, ...]:
        """Labels from an array of numpy with a number for each class."""
        try:
            switches = np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)
            labels = np.flatnonzero(switches).tolist()
        except Exception as exc:  # numpy raises whatever it likes on broken bytes
            raise DataError(f"{where}.npy is no array of numbers that numpy can read") from exc
        limit = self.num_classes or min(switches.size, MAX_CLASSES)
        if switches.shape != (limit,):
            raise DataError(
                f"{where}.npy has the shape {list(switches.shape)}, expected a number for each of "
                f"{limit} classes ({CLASS_NAMES})"
            )
        return tuple(labels)


def _task(store: Store) -> Task:
    """What `dataset_type.txt` says. Raises DataError."""
    lines = _lines(store, TYPE)
    named = lines[0].lower() if lines else "classification"
    for task in METRICS:
        if task == named:
            return task
    raise DataError(f"{store.at(TYPE)}: {named[:40]!r}, expected {', '.join(METRICS)}")


def _captions(data: bytes, where: str) -> tuple[str, ...]:
    try:
        text = data.decode()
    except UnicodeDecodeError as exc:
        raise DataError(f"{where}.txt is not UTF-8") from exc
    captions = tuple(line.strip() for line in text.split("\n") if line.strip())
    if not captions:
        raise DataError(f"{where}.txt has no caption, expected one in a line")
    return captions


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
