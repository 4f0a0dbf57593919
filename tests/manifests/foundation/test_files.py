import os
from pathlib import Path
from threading import Thread

import pytest

from manifests.foundation import files
from manifests.foundation.errors import ConfigError
from manifests.foundation.files import (
    local_path,
    read_regular,
    whole_file,
    write_output,
    write_whole,
)
from tests.sets import refused


def test_a_file_takes_its_name_only_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "scores.json"
    write_whole(path, b"old")
    with pytest.raises(TypeError), whole_file(path) as file:
        file.writelines([b"half", None])  # type: ignore[list-item]
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["scores.json"]


def test_an_output_goes_through_links_and_into_pipes(tmp_path: Path) -> None:
    """A link to a file and /dev/stdout stay what they are."""
    link, pipe = tmp_path / "link", tmp_path / "pipe"
    link.symlink_to(tmp_path / "file")
    os.mkfifo(pipe)
    write_output(link, b"first", option="--out")
    write_output(link, b"second", option="--out")
    assert link.is_symlink()
    assert (tmp_path / "file").read_bytes() == b"second"
    received: list[bytes] = []
    reader = Thread(target=lambda: received.append(pipe.read_bytes()))
    reader.start()
    write_output(pipe, b"third", option="--out")
    reader.join()
    assert received == [b"third"]
    assert pipe.is_fifo()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "link", "pipe"]


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("{folder}", "Is a directory"),
        ("{folder}/none/x", "No such file or directory"),
    ],
)
def test_an_output_that_cannot_be_written_is_refused_in_one_line(
    tmp_path: Path, path: str, reason: str
) -> None:
    with pytest.raises(ConfigError, match=reason):
        write_output(Path(path.format(folder=tmp_path)), b"", option="--out")
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_read_up_to_its_bound_and_no_further(tmp_path: Path) -> None:
    path = tmp_path / "notes"
    path.write_bytes(b"12345")
    assert read_regular(path, max_bytes=5) == b"12345"
    with pytest.raises(OSError, match="is larger than 4 bytes"):
        read_regular(path, max_bytes=4)
    os.truncate(path, 1 << 40)
    with pytest.raises(OSError, match="is larger than 1,000 bytes"):
        read_regular(path, max_bytes=1000)


def test_pipes_devices_and_folders_are_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, words in {
        tmp_path / "pipe": "is a pipe or a device",
        Path("/dev/zero"): "is a pipe or a device",
        tmp_path: "is a folder, expected a file",
    }.items():
        with pytest.raises(OSError, match=words):
            read_regular(path, max_bytes=10)
    with pytest.raises(FileNotFoundError):
        read_regular(tmp_path / "none", max_bytes=10)


def test_a_url_is_no_local_path_and_is_refused_without_its_secrets() -> None:
    assert local_path("runs/a:b", option="--out") == Path("runs/a:b")
    with refused(ConfigError, "--out https://host/x: is a URL, expected a path on this machine"):
        local_path("https://user:SECRET@host/x?sig=SECRET", option="--out")
    with refused(ConfigError, "--save s3:/bucket/x: is a URL"):
        local_path("s3:/KEY:SECRET@bucket/x", option="--save")
    assert local_path("./s3:/x", option="--out") == Path("s3:/x")


def test_a_file_that_grows_is_read_as_it_was_if_it_may(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b"one\n")
    size = files.require_regular(path)
    path.write_bytes(b"one\ntwo\n")
    monkeypatch.setattr(files, "require_regular", lambda _: size)
    assert files.read_regular(path, max_bytes=100, may_grow=True) == b"one\n"
    with pytest.raises(OSError, match="changed while it was read"):
        files.read_regular(path, max_bytes=100)
