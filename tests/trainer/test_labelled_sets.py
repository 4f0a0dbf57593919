"""Labelled sets: every image is read once, and whatever departs from the layout is refused."""

import gzip
import io
import json
import os
import pickle
import subprocess
import sys
import tarfile
from pathlib import Path

import fsspec
import numpy as np
import pytest

from manifests.foundation.errors import ConfigError
from manifests.storage.errors import StoreError
from tests.labelled_sets import labelled_members, make_folder, make_tars, png, write_tar
from tests.running import environment
from tests.sets import refused
from trainer.data.foreign_tars import MAX_MEMBER_BYTES
from trainer.errors import DataError
from trainer.labelled_sets import LabelledImage, LabelledSet, open_labelled


def read(on: str, split: str = "train", **options: int) -> list[LabelledImage]:
    return list(open_labelled(on).split(split).images(**options))


def test_folder_gives_classes_by_name_and_labels(tmp_path: Path) -> None:
    on = make_folder(tmp_path, train={"cat": 2, "dog": 1}, val={"dog": 1})
    labelled = open_labelled(on)
    assert labelled.classes == ("cat", "dog")
    assert labelled.test_split() == "val"
    assert [(image.key, image.label) for image in read(on)] == [
        ("cat/0.png", 0),
        ("cat/1.png", 0),
        ("dog/0.png", 1),
    ]
    assert [image.label for image in read(on, "val")] == [1]
    assert read(on)[0].data == png(0)
    assert read(on)[0].group == "cat/0.png"


def test_tars_give_labels_and_groups_in_order(tmp_path: Path) -> None:
    write_tar(tmp_path / "train/000001.tar", labelled_members([2], first=2))
    write_tar(tmp_path / "train/000000.tar", labelled_members([0, 1], groups=["a", "a"]))
    (tmp_path / "classnames.txt").write_text("zero\none\ntwo\n")
    (tmp_path / "zeroshot_classification_templates.txt").write_text("a {c}\n\nthe {c}\n")
    labelled = open_labelled(f"wds:{tmp_path}")
    images = read(f"wds:{tmp_path}")
    assert [(image.key, image.label, image.group) for image in images] == [
        ("000000/0000", 0, "a"),
        ("000000/0001", 1, "a"),
        ("000001/0002", 2, "000001/0002"),
    ]
    assert images[2].data == png(40)
    assert labelled.classes == ("zero", "one", "two")
    assert labelled.templates == ("a {c}", "the {c}")


def test_tars_are_read_from_any_storage(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "0.tar", labelled_members([0, 1]))
    with fsspec.open("memory://labelled/test/0.tar", "wb") as file:
        file.write(path.read_bytes())
    assert [image.label for image in read("wds:memory://labelled", "test")] == [0, 1]
    with fsspec.open("memory://labelled/test/0.tar", "wb") as file:
        file.write(path.read_bytes()[:1024])
    with refused(DataError, "memory://labelled/test/0.tar: "):
        read("wds:memory://labelled", "test")


def test_all_bytes_are_reported_while_a_split_is_read(tmp_path: Path) -> None:
    for on in (
        make_tars(tmp_path / "a", train=[[0, 1], [1]]),
        make_folder(tmp_path / "b", train={"x": 2, "y": 1}),
    ):
        counts: list[int] = []
        split = open_labelled(on).split("train")
        list(split.images(on_bytes=counts.append))
        assert sum(counts) == split.num_bytes


@pytest.mark.parametrize("world", [1, 2, 3, 4])
def test_ranks_share_the_images_exactly(tmp_path: Path, world: int) -> None:
    for on in (
        make_tars(tmp_path / "a", train=[[0, 1, 0], [1, 0], [1, 0]]),
        make_folder(tmp_path / "b", train={"x": 4, "y": 3}),
    ):
        whole = read(on)
        parts = [read(on, rank=rank, world=world) for rank in range(world)]
        images = [image for part in parts for image in part]
        assert sorted(images, key=lambda image: image.position) == whole
        assert len(whole) == 7


def test_unknown_kind_is_refused() -> None:
    with refused(ConfigError, "KIND is imagefolder, wds or", "did you mean 'imagefolder'?"):
        open_labelled("imagefolders:/x")


def test_missing_folder_is_refused(tmp_path: Path) -> None:
    with refused(DataError, "nowhere", "cannot be read"):
        open_labelled(f"imagefolder:{tmp_path / 'nowhere'}")


def test_folder_without_classes_is_refused(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    with refused(DataError, str(tmp_path), "expected SPLIT/CLASS/*.jpg"):
        open_labelled(f"imagefolder:{tmp_path}")


def test_folder_with_one_class_is_refused(tmp_path: Path) -> None:
    with refused(DataError, f"{tmp_path}/train", "one class, 'cat'"):
        open_labelled(make_folder(tmp_path, train={"cat": 3}))


def test_class_that_train_does_not_have_is_refused(tmp_path: Path) -> None:
    on = make_folder(tmp_path, train={"cat": 1, "dog": 1}, test={"dogs": 1})
    with refused(DataError, f"{tmp_path}/test/dogs", "train does not have", "mean 'dog'?"):
        open_labelled(on)


def test_split_that_is_not_there_is_refused(tmp_path: Path) -> None:
    labelled = open_labelled(make_tars(tmp_path, train=[[0]], report=[[0]]))
    with refused(DataError, "no split 'reports', there are report, train; did you mean 'report'?"):
        labelled.split("reports")
    with refused(DataError, "no split test or val", "--test-split"):
        labelled.test_split()


def test_url_without_tars_is_refused(tmp_path: Path) -> None:
    with refused(DataError, str(tmp_path), "expected SPLIT/*.tar"):
        open_labelled(f"wds:{tmp_path}")


def test_tars_that_are_in_no_split_are_refused(tmp_path: Path) -> None:
    write_tar(tmp_path / "000000.tar", labelled_members([0, 1]))
    with refused(DataError, str(tmp_path), "expected SPLIT/*.tar"):
        open_labelled(f"wds:{tmp_path}")


def test_pipe_is_refused(tmp_path: Path) -> None:
    with refused(StoreError, "pipe"):
        open_labelled(f"wds:pipe:touch {tmp_path}/touched")
    assert not (tmp_path / "touched").exists()


def tars_with(root: Path, **members: bytes) -> str:
    """A set of one good image and one with other members."""
    parts = labelled_members([0]) | {f"0001.{suffix}": data for suffix, data in members.items()}
    write_tar(root / "train/000000.tar", parts)
    return f"wds:{root}"


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"png": png()}, "0001: no label; expected a file .cls beside .png"),
        ({"cls": b"1"}, "0001: expected one of .jpg .jpeg .png .webp, found cls"),
        ({"gif": b"GIF89a", "cls": b"1"}, "0001: expected one of"),
        ({"png": png(), "jpg": b"", "cls": b"1"}, "0001: expected one of"),
        ({"png": png(), "cls": b"-1"}, "0001.cls is b'-1', expected a decimal number"),
        ({"png": png(), "cls": b"cat"}, "0001.cls is b'cat', expected a decimal number"),
        ({"png": png(), "cls": b""}, "0001.cls is b'', expected a decimal number"),
        ({"png": png(), "cls": b"9" * 4000}, "0001.cls is b'9999"),
        ({"png": png(), "cls": b"1048576"}, "0001.cls is 1048576, expected less than"),
        ({"png": png(), "cls": b"1", "json": b"{"}, "0001.json is not JSON"),
        ({"png": png(), "cls": b"1", "json": b"[" * 100_000}, "0001.json is not JSON"),
        (
            {"png": png(), "cls": b"1", "json": b"[1]"},
            '0001.json: expected an object whose "group"',
        ),
        ({"png": png(), "cls": b"1", "json": b'{"group": 1.5}'}, "0001.json: expected an object"),
    ],
    ids=str,
)
def test_files_of_a_key_that_are_not_as_expected_are_refused(
    tmp_path: Path, members: dict[str, bytes], message: str
) -> None:
    with refused(DataError, "train/000000.tar", message):
        read(tars_with(tmp_path, **members))


def test_label_without_a_class_name_is_refused(tmp_path: Path) -> None:
    on = make_tars(tmp_path, train=[[0, 1, 2]])
    (tmp_path / "classnames.txt").write_text("zero\none\n")
    with refused(DataError, "0002.cls is 2, expected less than 2 (classnames.txt)"):
        read(on)


def test_one_class_name_is_refused(tmp_path: Path) -> None:
    on = make_tars(tmp_path, train=[[0]])
    (tmp_path / "classnames.txt").write_text("zero\n")
    with refused(DataError, "classnames.txt: one class"):
        open_labelled(on)


def test_template_without_a_class_name_is_refused(tmp_path: Path) -> None:
    on = make_tars(tmp_path, train=[[0]])
    (tmp_path / "zeroshot_classification_templates.txt").write_text("a photo of a {}\n")
    with refused(DataError, "zeroshot_classification_templates.txt", "has no {c}"):
        open_labelled(on)


def test_class_names_that_are_not_text_are_refused(tmp_path: Path) -> None:
    on = make_tars(tmp_path, train=[[0]])
    (tmp_path / "classnames.txt").write_bytes(b"\xff\xfe\x00")
    with refused(DataError, "classnames.txt: not UTF-8"):
        open_labelled(on)


def test_tars_without_an_image_are_refused(tmp_path: Path) -> None:
    write_tar(tmp_path / "train/000000.tar", {"README": b"no suffix"})
    with refused(DataError, f"{tmp_path}/train: its tars hold no image"):
        read(f"wds:{tmp_path}")


def test_key_that_comes_twice_is_refused(tmp_path: Path) -> None:
    pairs = [*labelled_members([0, 1]).items(), *labelled_members([0]).items()]
    write_tar(tmp_path / "train/000000.tar", pairs)
    with refused(DataError, "train/000000.tar: 0000 comes twice"):
        read(f"wds:{tmp_path}")


def test_file_that_comes_twice_is_refused(tmp_path: Path) -> None:
    write_tar(tmp_path / "train/000000.tar", [("0.png", png()), ("0.png", png(1))])
    with refused(DataError, "train/000000.tar: not a tar that webdataset can read", "0.png"):
        read(f"wds:{tmp_path}")


def one_tar(root: Path) -> tuple[str, Path]:
    """The address of a set of one tar, and the path of the tar."""
    on = make_tars(root, train=[[0, 1, 0, 1]])
    return on, root / "train/000000.tar"


def test_tar_that_is_cut_anywhere_is_refused(tmp_path: Path) -> None:
    on, path = one_tar(tmp_path)
    whole = path.read_bytes()
    end = len(whole.rstrip(b"\0")) // 512 * 512 + 512  # where the last member ends
    for length in [*range(0, end + 512, 512), 100, 700, end + 100, end + 600]:
        path.write_bytes(whole[:length])
        with refused(DataError, "train/000000.tar: "):
            read(on)
    path.write_bytes(whole[: end + 1024])
    assert len(read(on)) == 4


def test_tar_with_a_changed_header_is_refused(tmp_path: Path) -> None:
    on, path = one_tar(tmp_path)
    whole = bytearray(path.read_bytes())
    second = 512 + -(-len(png()) // 512) * 512  # where the second member begins
    whole[second + 1] ^= 1
    path.write_bytes(whole)
    with refused(DataError, f"train/000000.tar: at byte {second:,} expected a member"):
        read(on)


def test_compressed_tar_is_refused(tmp_path: Path) -> None:
    on, path = one_tar(tmp_path)
    path.write_bytes(gzip.compress(path.read_bytes()))
    with refused(DataError, "train/000000.tar", "compressed"):
        read(on)


def test_joined_tars_are_refused(tmp_path: Path) -> None:
    on, path = one_tar(tmp_path)
    path.write_bytes(path.read_bytes() * 2)
    with refused(DataError, "train/000000.tar", "something follows the end"):
        read(on)


def test_member_that_says_it_is_huge_is_refused(tmp_path: Path) -> None:
    on, path = one_tar(tmp_path)
    member = tarfile.TarInfo("0.png")
    member.size = MAX_MEMBER_BYTES + 1
    path.write_bytes(member.tobuf(tarfile.USTAR_FORMAT) + bytes(20_000))
    with refused(DataError, "train/000000.tar", "a member of 268,435,457 bytes"):
        read(on)


def test_gnu_and_pax_tars_are_read(tmp_path: Path) -> None:
    for number, kind in enumerate((tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)):
        path = tmp_path / "train" / f"{number}.tar"
        path.parent.mkdir(exist_ok=True)
        with tarfile.open(path, "w", format=kind) as tar:
            for suffix, data in (("png", png()), ("cls", b"1\n")):
                member = tarfile.TarInfo(f"{'long' * 40}é.{suffix}")
                member.size, member.mtime = len(data), 1.5
                tar.addfile(member, io.BytesIO(data))
    assert [image.label for image in read(f"wds:{tmp_path}")] == [1, 1]


class Touch:
    """An object that makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("suffix", ["pkl", "pickle", "pyd", "pth", "npy"])
def test_nothing_in_a_tar_is_executed(tmp_path: Path, suffix: str) -> None:
    touched = tmp_path / "touched"
    hostile = {suffix: pickle.dumps(Touch(touched))}
    images = read(tars_with(tmp_path, png=png(), cls=b"1", **hostile))
    assert [image.label for image in images] == [0, 1]
    assert not touched.exists()


@pytest.mark.slow
def test_webdataset_is_secured_before_it_is_imported(tmp_path: Path) -> None:
    on = make_tars(tmp_path, train=[[0]])
    code = (
        "from trainer.labelled_sets import open_labelled\n"
        "import sys; assert 'webdataset' not in sys.modules\n"
        f"list(open_labelled({on!r}).split('train').images())\n"
        "import webdataset; print(webdataset.utils.enforce_security)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        env=environment() | {"WDS_SECURE": "0"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.strip() == "True"


def of_kind(root: Path, kind: str, members: dict[str, bytes]) -> LabelledSet:
    write_tar(root / "test/0.tar", members)
    (root / "dataset_type.txt").write_text(f"{kind}\n")
    return open_labelled(f"wds:{root}")


def npy(values: list[int]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.array(values))
    return buffer.getvalue()


def test_tars_give_several_labels_as_switches_or_as_numbers(tmp_path: Path) -> None:
    labelled = of_kind(
        tmp_path,
        "multilabel",
        {"a.png": png(), "a.npy": npy([0, 1, 1]), "b.png": png(), "b.cls": b"2\n0 2",
         "c.png": png(), "c.npy": npy([0, 0, 0])},
    )  # fmt: skip
    assert labelled.task == "multilabel"
    images = list(labelled.split("test").images())
    assert [image.labels for image in images] == [(1, 2), (0, 2), ()]
    assert [image.label for image in images] == [None] * 3


def test_tars_give_captions_line_by_line(tmp_path: Path) -> None:
    labelled = of_kind(
        tmp_path,
        "retrieval",
        {"a.png": png(), "a.txt": "a café\n\n two\u2028lines \n".encode(), "b.png": png(),
         "b.txt": b"x"},
    )  # fmt: skip
    assert labelled.task == "retrieval"
    images = list(labelled.split("test").images())
    assert [image.captions for image in images] == [("a café", "two\u2028lines"), ("x",)]


@pytest.mark.parametrize(
    ("kind", "members", "words"),
    [
        ("multilabel", {"a.npy": b"no array"}, ("a.npy is no array of numbers",)),
        ("multilabel", {"a.npy": npy([1, 0])}, ("has the shape [2]", "each of 3 classes")),
        ("multilabel", {"a.cls": b"0 3"}, ("a.cls is 3, expected less than 3",)),
        ("multilabel", {"a.txt": b"x"}, ("expected a file .npy or .cls", "multilabel")),
        ("retrieval", {"a.cls": b"0"}, ("expected a file .txt", "dataset_type.txt: retrieval")),
        ("retrieval", {"a.txt": b"\n \n"}, ("a.txt has no caption",)),
        ("retrieval", {"a.txt": b"\xff"}, ("a.txt is not UTF-8",)),
        ("detection", {"a.cls": b"0"}, ("dataset_type.txt: 'detection', expected classification",)),
    ],
)
def test_labels_of_another_kind_are_refused(
    tmp_path: Path, kind: str, members: dict[str, bytes], words: tuple[str, ...]
) -> None:
    (tmp_path / "classnames.txt").write_text("a\nb\nc\n")
    with refused(DataError, *words):
        labelled = of_kind(tmp_path, kind, {"a.png": png(), **members})
        list(labelled.split("test").images())


def test_pickle_in_an_array_is_not_executed(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.save(buffer, np.array([{"x": 1}], dtype=object), allow_pickle=True)
    labelled = of_kind(tmp_path, "multilabel", {"a.png": png(), "a.npy": buffer.getvalue()})
    with refused(DataError, "a.npy is no array of numbers"):
        list(labelled.split("test").images())


def captioned(root: Path, *rows: object) -> str:
    (root / "test/deep").mkdir(parents=True)
    for name in ("1.png", "deep/2.png"):
        (root / "test" / name).write_bytes(png())
    (root / "test/metadata.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    return f"imagefolder:{root}"


def test_folder_gives_captions_of_its_metadata(tmp_path: Path) -> None:
    labelled = open_labelled(
        captioned(
            tmp_path,
            {"file_name": "deep/2.png", "text": ["two", "deep"]},
            {"file_name": "1.png", "text": "one"},
            {"file_name": "1.png", "text": "first", "other": 1},
        )
    )
    assert labelled.task == "retrieval"
    images = list(labelled.split("test").images())
    assert [(image.key, image.captions) for image in images] == [
        ("deep/2.png", ("two", "deep")),
        ("1.png", ("one", "first")),
    ]
    assert labelled.split("test").num_bytes == 2 * len(png())


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("no object", ("line 1: expected", "file_name")),
        ({"file_name": "1.png"}, ("line 1: expected", "text")),
        ({"file_name": "1.png", "text": 7}, ("line 1: text is 7",)),
        ({"file_name": "1.png", "text": [" "]}, ("1.png has no caption",)),
        ({"file_name": "../../1.png", "text": "x"}, ("line 1: file_name", "below the folder")),
        ({"file_name": "1.gif", "text": "x"}, ("line 1: file_name", ".jpg .jpeg")),
        ({"file_name": "3.png", "text": "x"}, ("3.png: cannot be read",)),
    ],
)
def test_metadata_that_is_not_as_expected_is_refused(
    tmp_path: Path, row: object, words: tuple[str, ...]
) -> None:
    with refused(DataError, *words):
        open_labelled(captioned(tmp_path, row))
