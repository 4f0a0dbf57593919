import os
from pathlib import Path
from threading import Thread

import pytest

from manifests.foundation.errors import ConfigError
from manifests.foundation.files import whole_file, write_output, write_whole


def test_a_file_takes_its_name_only_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "scores.json"
    write_whole(path, b"old")
    with pytest.raises(TypeError), whole_file(path) as file:
        file.writelines([b"half", None])  # type: ignore[list-item]
    assert path.read_bytes() == b"old"
    assert [each.name for each in tmp_path.iterdir()] == ["scores.json"]


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
        ("s3:/KEY:SECRET@bucket/x", "--out s3:/bucket/x: is a URL"),
        ("{folder}", "Is a directory"),
        ("{folder}/none/x", "No such file or directory"),
    ],
)
def test_an_output_that_cannot_be_written_is_one_line(
    tmp_path: Path, path: str, reason: str
) -> None:
    with pytest.raises(ConfigError, match=reason):
        write_output(Path(path.format(folder=tmp_path)), b"", option="--out")
    assert list(tmp_path.iterdir()) == []
