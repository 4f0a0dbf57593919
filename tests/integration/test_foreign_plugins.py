"""A plug-in of somebody else that breaks its protocol is named in one line, and writes no view."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from synth import main
from tests.running import write_captions

RENDERERS = {
    "NoTable": "its Config is <class 'dict'>",
    "KindsText": "its kinds are 'caption', expected a tuple",
    "OneKeyColumn": "column 'sha256'",
    "OtherVariation": "angle is 'north', expected a value of type double",
    "NoVariations": "TypeError",
    "TupleIdentity": "expected a JSON object",
    "NanIdentity": "expected a JSON object",
    "EmptyBatches": "its batch_size is 0",
    "NoThreads": "threads is 0, expected 1 or more",
    "NoResources": "its resources are None",
    "ExitsInRender": "no licence key",
    "GivesNone": "TypeError",
    "GivesPixels": "expected a RenderedView",
    "NoBatchKey": "KeyError: 'angel'",
    "ListBatchKey": "unhashable",
}
AUDITS = {
    "Paints": "read-only",
    "Undecided": "gives None, expected True or False",
    "Raises": "IndexError: no such threshold",
    "Named": "its Config has a key `name`",
}
EXECUTORS = {
    "Idle": "says nothing of shard 0",
    "Chatty": "reports 'done'",
}
SOURCES = {
    "NoSubjects": "no subject to depict",
    "TextSubjects": "subject 1 is 'a fox', expected",
    "NumberSubjects": "text is 7",
}


def generate(folder: Path, *more: str) -> Result:
    options = ["--out", str(folder / "set"), "--views-per-subject", "2", *more]
    return CliRunner().invoke(main, ["generate", *options])


def refused(result: Result, *words: str) -> None:
    # A set that is begun says before anything is made what it will cost.
    lines = result.output.strip().splitlines()
    (line,) = [line for line in lines if not line.startswith("plan: ")]
    assert result.exit_code == 1, line
    for word in words:
        assert word in line


@pytest.mark.parametrize("name", RENDERERS)
def test_renderer(name: str, tmp_path: Path) -> None:
    captions = ["--prompts", str(write_captions(tmp_path)), "--executor", "inline"]
    result = generate(tmp_path, *captions, "--renderer", f"tests.foreign:{name}")
    refused(result, f"tests.foreign:{name}", RENDERERS[name])
    assert not [*tmp_path.glob("set/manifests/*")]


@pytest.mark.parametrize("name", AUDITS)
def test_audit(name: str, tmp_path: Path) -> None:
    captions = ["--prompts", str(write_captions(tmp_path)), "--executor", "inline"]
    used = [
        "--renderer",
        "tests.renderers:Stripes",
        "--set",
        f"audits.use=['tests.foreign:{name}']",
    ]
    refused(generate(tmp_path, *captions, *used), f"tests.foreign:{name}", AUDITS[name])
    assert not [*tmp_path.glob("set/manifests/*")]


@pytest.mark.parametrize("name", EXECUTORS)
def test_executor(name: str, tmp_path: Path) -> None:
    captions = ["--prompts", str(write_captions(tmp_path)), "--renderer", "tests.renderers:Stripes"]
    result = generate(tmp_path, *captions, "--executor", f"tests.foreign:{name}")
    refused(result, name, EXECUTORS[name])


@pytest.mark.parametrize("name", SOURCES)
def test_prompt_source(name: str, tmp_path: Path) -> None:
    source = ["--set", f"prompts.source=tests.foreign:{name}", "--executor", "inline"]
    result = generate(tmp_path, *source, "--renderer", "tests.renderers:Stripes")
    refused(result, SOURCES[name])
    assert not (tmp_path / "set").exists()
