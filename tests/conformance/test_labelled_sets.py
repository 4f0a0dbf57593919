"""The laws of trainer.labelled_sets, for every entry of the table and for somebody else's kind."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from tests.labelled_sets import write_tar
from trainer.errors import DataError
from trainer.labelled_sets import LABELLED_SETS, LabelledSet, open_labelled
from trainer.labelled_sets.wds import TarSplit
from trainer.testing.labelled_sets import LabelledSetLaws, StoredImage


class TestImageFolder(LabelledSetLaws):
    kind = "imagefolder"

    def write(self, folder: Path, splits: Mapping[str, Sequence[StoredImage]]) -> str:
        for name, images in splits.items():
            for position, image in enumerate(images):
                path = folder / name / f"class {image.label}" / f"{position}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(image.data)
        return str(folder)


class TestWebDatasetTars(LabelledSetLaws):
    kind = "wds"

    def write(self, folder: Path, splits: Mapping[str, Sequence[StoredImage]]) -> str:
        for name, images in splits.items():
            for tar in range(2):
                members: dict[str, bytes] = {}
                for position in range(tar, len(images), 2):
                    members[f"{position:03d}.png"] = images[position].data
                    members[f"{position:03d}.cls"] = str(images[position].label).encode()
                write_tar(folder / name / f"{tar}.tar", members)
        return str(folder)


class ListedTars:
    """A kind that somebody else might write: a JSON file that lists the tars of each split."""

    @staticmethod
    def open(place: str) -> LabelledSet:
        if not Path(place).is_file():
            raise DataError(f"{place}: no such file")
        from manifests.storage import open_store

        splits = {
            name: TarSplit(
                name=name,
                where=place,
                store=open_store(str(Path(place).parent)),
                tars=tuple(tars),
                num_bytes=sum((Path(place).parent / tar).stat().st_size for tar in tars),
                num_classes=0,
            )
            for name, tars in json.loads(Path(place).read_text()).items()
        }
        return LabelledSet(name=f"listed:{place}", splits=splits)


class TestDottedPath(TestWebDatasetTars):
    kind = f"{__name__}:ListedTars"

    def write(self, folder: Path, splits: Mapping[str, Sequence[StoredImage]]) -> str:
        super().write(folder, splits)
        tars = {name: [f"{name}/0.tar", f"{name}/1.tar"] for name in splits}
        (folder / "tars.json").write_text(json.dumps(tars))
        return str(folder / "tars.json")


def test_every_entry_is_tested() -> None:
    kinds = {laws.kind for laws in (TestImageFolder, TestWebDatasetTars)}
    assert kinds == set(LABELLED_SETS)


class TrainOnlyTars(ListedTars):
    """A kind that breaks a law: it has only one of the splits that are stored."""

    @staticmethod
    def open(place: str) -> LabelledSet:
        labelled = ListedTars.open(place)
        train = {name: split for name, split in labelled.splits.items() if name == "train"}
        return LabelledSet(name=labelled.name, splits=train)


def test_a_kind_that_breaks_a_law_fails(tmp_path: Path) -> None:
    laws = TestDottedPath()
    laws.kind = f"{__name__}:TrainOnlyTars"  # type: ignore[misc]
    images = [StoredImage(data=b"x", label=label) for label in (0, 1, 2)]
    address = f"{laws.kind}:{laws.write(tmp_path, {'train': images, 'test': images})}"
    assert open_labelled(address).splits.keys() == {"train"}
    with pytest.raises(AssertionError):
        laws.test_every_split_is_there_and_one_is_tested_on(address)
