"""`synth doctor` tells a storage that can hold a set from one that cannot."""

import os
import re
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from click.testing import CliRunner, Result

from synth import main
from tests.fault_proxy import Faults, faulty_bucket


@pytest.fixture(scope="module")
def faults(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Faults]:
    with faulty_bucket(tmp_path_factory.mktemp("s3")) as faults:
        yield faults


def doctor(*arguments: str) -> Result:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", "300")
        return CliRunner().invoke(main, ["doctor", *arguments])


def row(output: str, name: str) -> str:
    match = re.search(rf"│ {name} +│(.*)│", output)
    assert match is not None, output
    return match[1].strip()


def test_a_machine_is_described() -> None:
    result = doctor()
    assert result.exit_code in (0, 1)
    for name in ("python", "packages", "cores", "devices", "scratch"):
        assert row(result.output, name)
    assert "torch" in row(result.output, "packages")


def test_a_folder_is_right_and_left_as_it_was(tmp_path: Path) -> None:
    result = doctor(str(tmp_path / "set"))
    for name in ("create", "clock", "conditional create", "read back", "list", "throughput"):
        assert row(result.output, name).startswith("ok"), result.output
    assert "nothing is left" in row(result.output, "clean up")
    assert list(tmp_path.iterdir()) == []


def test_a_bucket_is_right(faults: Faults) -> None:
    faults.times = 0
    result = doctor("s3://sets/set")
    for name in ("create", "clock", "conditional create", "read back", "list", "throughput"):
        assert row(result.output, name).startswith("ok"), result.output
    assert "nothing is left" in row(result.output, "clean up")
    assert fsspec.filesystem("s3").find("sets") == []


def test_a_machine_with_a_wrong_clock_is_told(
    faults: Faults, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time
    monkeypatch.setattr("manifests.storage.probing.time.time", lambda: now() + 700)
    for url in ("s3://sets/set", str(tmp_path / "set")):
        result = doctor(url)
        assert result.exit_code == 1
        assert re.match(
            r"wrong +│ the storage is (699|7\d\d) s behind this", row(result.output, "clock")
        )


def test_a_bucket_that_ignores_conditions_is_unmasked(faults: Faults) -> None:
    faults.plan("ignore-condition", lambda method, _: method == "PUT", 1_000)
    result = doctor("s3://sets/set")
    faults.times = 0
    assert result.exit_code == 1
    assert row(result.output, "conditional create").startswith("wrong")
    assert "an existing file was overwritten" in result.output


def test_a_bucket_that_does_not_exist_is_named(faults: Faults) -> None:
    result = doctor("s3://none/set")
    assert result.exit_code == 1
    assert "there is no such bucket" in row(result.output, "rights")


def test_a_folder_without_rights_is_named(tmp_path: Path) -> None:
    if os.getuid() == 0:
        pytest.skip("root may write everywhere")
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    assert row(doctor(str(tmp_path / "set")).output, "rights").startswith("wrong")


def test_a_scheme_that_may_overwrite_is_refused() -> None:
    result = doctor("memory://set")
    assert result.exit_code == 1
    assert "this scheme may overwrite" in row(result.output, "rights")
    assert "memory://set: " in row(result.output, "rights")


def test_an_unknown_scheme_is_refused_by_the_address_that_was_typed() -> None:
    result = doctor("nope://x")
    assert result.exit_code == 1
    assert result.output.startswith("Error: nope://x: unknown scheme 'nope'")
