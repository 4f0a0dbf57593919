"""`synth export`, and what it refuses; a recipe that exports at the end of a training."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

import synth
from manifests.seal_writer import seal_set
from manifests.shard_set import ShardSet
from manifests.storage import open_store
from tests.picture_sets import picture
from tests.sets import Listed, commit, identity_of, scales, subject_rows, views_of

pytestmark = pytest.mark.slow

VIT = (
    *("--model", "vit_tiny_patch16_224", "--set", "model.input_px=16"),
    *("--set", "model.args={img_size=16,patch_size=4,embed_dim=24,depth=1,num_heads=2}"),
)
OWN = ("--model", "synth_small_conv", "--set", "model.input_px=16")


def run(*arguments: object, status: int = 0) -> str:
    result = CliRunner().invoke(synth.main, [str(argument) for argument in arguments])
    assert result.exit_code == status, result.output
    return result.output


def train(url: Path, out: Path, *arguments: object, status: int = 0) -> str:
    return run(
        *("train", url, "--out", out, "--batch-groups", "4", "--steps", "2"),
        *("--set", "objective.head_hidden=8", "--set", "objective.head_out=4", *arguments),
        status=status,
    )


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sets, and a run that learned from the first and exported itself for the Hub."""
    folder = tmp_path_factory.mktemp("work")
    for name, captions in (("set", 6), ("other", 7)):
        subjects = [
            replace(row, licence="CC-BY-4.0" if row.group_index < 2 else "CC0-1.0")
            for row in subject_rows(*(f"thing {number}" for number in range(captions)))
        ]
        identity = identity_of(
            subjects, views_per_subject=3, variations=scales(2.0), width_px=16, height_px=16
        )
        store = open_store(str(folder / name))
        shards = ShardSet.begin(store, identity, Listed(subjects), environment={})
        for shard in range(shards.layout.num_shards):
            commit(shards, shard, views=views_of(shards, shard, picture))
        seal_set(shards)
    train(folder / "set", folder / "run", *VIT, "--set", 'run.exports=["timm", "timm-hub"]')
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_a_run_and_the_command_write_the_same_files(work: Path, tmp_path: Path) -> None:
    output = run("export", work / "run", "--as", "timm-hub", "--out", tmp_path / "new" / "hub")
    assert output.splitlines()[-1] == str(tmp_path / "new" / "hub")
    assert "--learned-from SET states its licences" in output
    files = contents(tmp_path / "new" / "hub")
    assert files.keys() == {"README.md", "config.json", "model.safetensors"}
    named = contents(work / "run" / "timm-hub")  # its card has what the set says
    assert {**files, "README.md": b""} == {**named, "README.md": b""}
    hub = ("export", work / "run", "--as", "timm-hub", "--learned-from", work / "set")
    run(*hub, "--out", tmp_path / "hub")
    assert contents(tmp_path / "hub") == named
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["hub"]


def test_a_checkpoint_is_exported_as_its_run_is(work: Path, tmp_path: Path) -> None:
    """To the same bytes after the last step: weights, configuration and card."""
    (last,) = (work / "run" / "checkpoints").iterdir()
    for number, place in enumerate((work / "run", last, f"file://{last}")):
        run("export", place, "--as", "timm-hub", "--out", tmp_path / str(number))
    assert contents(tmp_path / "0") == contents(tmp_path / "1") == contents(tmp_path / "2")
    out = ("--out", tmp_path / "pair")
    assert "takes the text part" in run("export", last, "--as", "open-clip", *out, status=1)
    document = json.loads((work / "run" / "run.json").read_text())
    alone = tmp_path / "alone" / "checkpoints" / last.name
    alone.parent.mkdir(parents=True)
    alone.write_bytes(last.read_bytes())
    (tmp_path / "alone" / "run.json").write_text(json.dumps(document | {"sessions": []}))
    output = run("export", alone, "--as", "timm-hub", "--out", tmp_path / "x", status=1)
    assert "run.json: does not say how the run was made" in output


def test_both_towers_are_exported_alike(work: Path, tmp_path: Path) -> None:
    train(
        *(work / "set", tmp_path / "run", "--objective", "stablerep-plus"),
        *("--model", "test_resnet", "--set", "model.input_px=32"),
        *("--set", "objective.text={context_length=8,width=16,heads=2,layers=1,embed_dim=8}"),
        *("--set", 'run.exports=["timm", "text", "open-clip"]'),
    )
    run("export", tmp_path / "run", "--as", "open-clip", "--out", tmp_path / "pair")
    files = contents(tmp_path / "pair")
    assert files.keys() == {"README.md", "open_clip_config.json", "open_clip_model.safetensors"}
    assert {**files, "README.md": b""} == {
        **contents(tmp_path / "run" / "open-clip"),
        "README.md": b"",
    }


def test_the_card_states_what_the_set_says(work: Path, tmp_path: Path) -> None:
    (tmp_path / "graph").mkdir()  # an empty folder will do
    set_url = work / "set"
    run(
        *("export", work / "run", "--as", "onnx", "--out", tmp_path / "graph"),
        *("--learned-from", set_url),
    )
    seal = ShardSet.open(str(set_url)).seal()
    assert seal is not None
    cards = [
        (folder / "README.md").read_text().splitlines()
        for folder in (tmp_path / "graph", work / "run" / "timm-hub", work / "run")
    ]
    for row in (
        "| objective | stablerep |",
        "| steps | 2 |",
        f"| root of that set | {seal.root_sha256} |",
        "| subjects of the set | 6 |",
        "| images of the set | 17 |",  # 6 x 3, of which one failed
        "| renderer | painter |",
        "| generator | easel |",
        "| CC0-1.0 | 4 |",
        "| CC-BY-4.0 | 2 |",
    ):
        assert all(row in card for card in cards)


def test_another_set_is_refused(work: Path, tmp_path: Path) -> None:
    output = run(
        *("export", work / "run", "--as", "timm-hub", "--out", tmp_path / "hub"),
        *("--learned-from", work / "other"),
        status=1,
    )
    assert f"{work / 'other'}: not the set that the run learned from" in output
    assert not (tmp_path / "hub").exists()


def test_a_run_that_is_not_finished_is_refused(work: Path, tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    begun.mkdir()
    (begun / "run.json").write_bytes((work / "run" / "run.json").read_bytes())
    output = run("export", begun, "--as", "onnx", "--out", tmp_path / "out", status=1)
    assert "no exported encoder here; give a run that `synth train` finished" in output
    output = run("export", tmp_path / "no", "--as", "onnx", "--out", tmp_path / "out", status=1)
    assert "no such folder; give the --out of a run" in output


def test_a_folder_that_holds_something_is_refused(work: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    for out in (tmp_path, tmp_path / "notes.txt"):
        output = run("export", work / "run", "--as", "timm-hub", "--out", out, status=1)
        assert "holds notes.txt; give an empty folder, or a new one" in output
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_folder_that_cannot_be_made_is_refused(work: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    out = tmp_path / "file" / "hub"
    output = run("export", work / "run", "--as", "timm-hub", "--out", out, status=1)
    assert f"--out {out}: cannot be written (Not a directory)" in output


def test_open_clip_needs_a_run_with_text(work: Path, tmp_path: Path) -> None:
    output = run("export", work / "run", "--as", "open-clip", "--out", tmp_path / "x", status=1)
    assert "takes the text part of a run, which" in output
    assert "stablerep-plus and clip make text" in output


def test_an_unknown_format_is_refused(work: Path, tmp_path: Path) -> None:
    output = run("export", work / "run", "--as", "timmhub", "--out", tmp_path / "x", status=1)
    assert "did you mean 'timm-hub'?" in output


def test_what_says_no_origin_is_refused(work: Path, tmp_path: Path) -> None:
    for name, content in contents(work / "run").items():
        (tmp_path / name).write_bytes(content.replace(b'"objective"', b'"objection"'))
    output = run("export", tmp_path, "--as", "timm-hub", "--out", tmp_path / "x", status=1)
    assert "encoder.json: does not say how the encoder was made" in output


def test_an_export_that_will_not_do_is_refused_before_a_step(work: Path, tmp_path: Path) -> None:
    exports = 'run.exports=["timm", "timm-hub"]'
    output = train(work / "set", tmp_path / "run", *OWN, "--set", exports, status=1)
    assert "synth_small_conv is a tower of this project" in output
    assert not (tmp_path / "run").exists()


def test_fresh_removes_the_folders_of_exports(work: Path, tmp_path: Path) -> None:
    train(work / "set", tmp_path / "run", *VIT, "--set", 'run.exports=["timm", "timm-hub"]')
    (tmp_path / "run" / "notes.txt").touch()
    train(work / "set", tmp_path / "run", *VIT, "--fresh")
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert {"encoder.safetensors", "notes.txt"} < names
    assert "timm-hub" not in names
