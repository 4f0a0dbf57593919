"""Folders of classes, as torchvision reads them: DIR/SPLIT/CLASS/*.jpg, with train and test or val.

Classes are labelled in the order of their names in `train`, so every split has the same labels.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from manifests.foundation.files import local_path, read_regular
from manifests.foundation.plugins import did_you_mean
from trainer.errors import DataError
from trainer.labelled_sets import SUFFIXES, LabelledImage, LabelledSet, OnBytes, Split, share

MAX_IMAGE_BYTES = 256 << 20
"""Largest picture that is read."""


class ImageFolder:
    """`imagefolder:DIR`. See trainer.labelled_sets."""

    @staticmethod
    def open(place: str) -> LabelledSet:
        """See LabelledSetKind."""
        root = local_path(place, option="imagefolder")
        try:
            folders = sorted(path for path in root.iterdir() if path.is_dir())
            splits = {path.name: _classes_of(path) for path in folders if path.name[0] != "."}
        except OSError as exc:
            raise DataError(f"{root}: cannot be read ({exc.strerror}); give a folder") from exc
        splits = {name: classes for name, classes in splits.items() if classes}
        if not splits:
            raise DataError(f"{root}: expected SPLIT/CLASS/*.jpg, such as train/cat/1.jpg")
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
    files = [(path, label) for label, name in enumerate(names) for path in classes.get(name, ())]
    try:
        num_bytes = sum(path.stat().st_size for path, _ in files)
    except OSError as exc:  # a link to a file that is not there
        raise DataError(f"{exc.filename}: cannot be read ({exc.strerror})") from exc
    return FolderSplit(name=folder.name, where=str(folder), files=tuple(files), num_bytes=num_bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderSplit:
    """A split whose classes are folders."""

    name: str
    where: str
    files: tuple[tuple[Path, int], ...] = field(repr=False)
    """Path and label, ordered by class and name."""
    num_bytes: int

    def images(
        self, *, rank: int = 0, world: int = 1, on_bytes: OnBytes = lambda count: None
    ) -> Iterator[LabelledImage]:
        """See Split."""
        for path, label in share(self.files, rank, world):
            try:
                data = read_regular(path, max_bytes=MAX_IMAGE_BYTES)
            except OSError as exc:
                raise DataError(f"{path}: cannot be read ({exc.strerror})") from exc
            on_bytes(len(data) * world)  # the other ranks read as much in the same time
            key = f"{path.parent.name}/{path.name}"
            yield LabelledImage(key=key, data=data, label=label, group=key)
