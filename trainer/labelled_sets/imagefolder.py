"""Folders of classes, as torchvision reads them: DIR/SPLIT/CLASS/*.jpg, with train and test or val.

Classes are labelled in the order of their names in `train`, so every split has the same labels.

With DIR/SPLIT/metadata.jsonl it is a set of captions, as the `datasets` library reads it: a line
{"file_name": "1.jpg", "text": "a cat"} for each image, of which `text` may be a list, or several
lines for one image. The images lie anywhere below the folder of the split.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from manifests.foundation.files import local_path, read_regular
from manifests.foundation.plugins import did_you_mean
from trainer.errors import DataError
from trainer.labelled_sets import SUFFIXES, LabelledImage, LabelledSet, OnBytes, Split

MAX_IMAGE_BYTES = 256 << 20
"""Largest picture that is read."""
METADATA = "metadata.jsonl"
MAX_METADATA_BYTES = 1 << 30
"""Largest file of captions that is read."""


class ImageFolder:
    """`imagefolder:DIR`. See trainer.labelled_sets."""

    @staticmethod
    def open(place: str) -> LabelledSet:
        """See LabelledSetKind."""
        root = local_path(place, option="imagefolder")
        try:
            folders = sorted(path for path in root.iterdir() if path.is_dir())
            folders = [path for path in folders if path.name[0] != "."]
            if captioned := [path for path in folders if (path / METADATA).is_file()]:
                return LabelledSet(
                    name=f"imagefolder:{root}",
                    splits={path.name: _captioned(path) for path in captioned},
                    task="retrieval",
                )
            splits = {path.name: _classes_of(path) for path in folders}
        except OSError as exc:
            raise DataError(f"{root}: cannot be read ({exc.strerror}); give a folder") from exc
        splits = {name: classes for name, classes in splits.items() if classes}
        if not splits:
            raise DataError(
                f"{root}: expected SPLIT/CLASS/*.jpg, such as train/cat/1.jpg, or SPLIT/{METADATA}"
            )
        reference = "train" if "train" in splits else next(iter(splits))
        names = tuple(splits[reference])
        if len(names) < 2:
            raise DataError(f"{root / reference}: one class, {names[0]!r}; expected at least two")
        for name, classes in splits.items():
            if unknown := sorted(set(classes) - set(names)):
                raise DataError(
                    f"{root / name / unknown[0]}: a class that {reference} does not have"
                    f"{did_you_mean(unknown[0], names)}"
                )
        return LabelledSet(
            name=f"imagefolder:{root}",
            splits={name: _split(root / name, splits[name], names) for name in splits},
            classes=names,
        )


def _classes_of(split: Path) -> dict[str, list[Path]]:
    """Images by class; classes without images are skipped."""
    classes: dict[str, list[Path]] = {}
    for folder in sorted(path for path in split.iterdir() if path.is_dir()):
        images = sorted(path for path in folder.iterdir() if _suffix(path) in SUFFIXES)
        if images:
            classes[folder.name] = images
    return classes


def _suffix(path: Path) -> str:
    return path.suffix[1:].lower()


def _split(folder: Path, classes: dict[str, list[Path]], names: tuple[str, ...]) -> Split:
    return _folder_split(
        folder,
        [
            _File(path=path, key=f"{path.parent.name}/{path.name}", label=label)
            for label, name in enumerate(names)
            for path in classes.get(name, ())
        ],
    )


def _captioned(folder: Path) -> Split:
    """A split whose images have captions. Raises DataError."""
    path = folder / METADATA
    texts: dict[str, list[str]] = {}
    try:
        lines = read_regular(path, max_bytes=MAX_METADATA_BYTES).decode().split("\n")
    except UnicodeDecodeError as exc:
        raise DataError(f"{path}: is not UTF-8") from exc
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            name, text = row["file_name"], row["text"]
        except (ValueError, RecursionError, KeyError, TypeError) as exc:
            raise DataError(
                f'{path}: line {number}: expected {{"file_name": "1.jpg", "text": "..."}}'
            ) from exc
        captions = [text] if isinstance(text, str) else text
        if not (isinstance(captions, list) and all(isinstance(one, str) for one in captions)):
            raise DataError(f"{path}: line {number}: text is {text!r:.40}, expected text or a list")
        inside = isinstance(name, str) and folder.resolve() in (folder / name).resolve().parents
        if not inside or _suffix(Path(name)) not in SUFFIXES:
            raise DataError(
                f"{path}: line {number}: file_name is {name!r:.60}, expected a file "
                f".{' .'.join(SUFFIXES)} below the folder"
            )
        texts.setdefault(name, []).extend(one.strip() for one in captions if one.strip())
    if not texts:
        raise DataError(f"{path}: names no image")
    for name, captions in texts.items():
        if not captions:
            raise DataError(f"{path}: {name} has no caption")
    return _folder_split(
        folder,
        [
            _File(path=folder / name, key=name, captions=tuple(captions))
            for name, captions in texts.items()
        ],
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    """An image that is not read yet."""

    path: Path
    key: str
    label: int | None = None
    captions: tuple[str, ...] = ()


def _folder_split(folder: Path, files: list[_File]) -> Split:
    try:
        num_bytes = sum(file.path.stat().st_size for file in files)
    except OSError as exc:  # a link to a file that is not there
        raise DataError(f"{exc.filename}: cannot be read ({exc.strerror})") from exc
    return FolderSplit(name=folder.name, where=str(folder), files=tuple(files), num_bytes=num_bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderSplit:
    """A split in files."""

    name: str
    where: str
    files: tuple[_File, ...] = field(repr=False)
    """Ordered by class and name, or as they are named with their captions."""
    num_bytes: int

    def images(
        self, *, rank: int = 0, world: int = 1, on_bytes: OnBytes = lambda count: None
    ) -> Iterator[LabelledImage]:
        """See Split."""
        for number in range(rank, len(self.files), world):
            file = self.files[number]
            try:
                data = read_regular(file.path, max_bytes=MAX_IMAGE_BYTES)
            except OSError as exc:
                raise DataError(f"{file.path}: cannot be read ({exc.strerror})") from exc
            on_bytes(len(data) * world)  # the other ranks read as much in the same time
            yield LabelledImage(
                key=file.key,
                position=(number,),
                data=data,
                label=file.label,
                group=file.key,
                captions=file.captions,
            )
