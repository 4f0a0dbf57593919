import os
from pathlib import Path

import pytest

from manifests.foundation.errors import ConfigError
from manifests.foundation.files import local_path, read_regular, whole_file, write_whole
from tests.sets import refused


def test_a_file_takes_its_name_only_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "scores.json"
    write_whole(path, b"old")
    with pytest.raises(TypeError), whole_file(path) as file:
        file.writelines([b"half", None])  # type: ignore[list-item]
    assert path.read_bytes() == b"old"
    assert [each.name for each in tmp_path.iterdir()] == ["scores.json"]


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


def test_a_url_is_no_local_path_and_keeps_its_secrets() -> None:
    assert local_path("runs/a:b", option="--out") == Path("runs/a:b")
    with refused(ConfigError, "--out https://host/x: is a URL, expected a path on this machine"):
        local_path("https://user:SECRET@host/x?sig=SECRET", option="--out")
