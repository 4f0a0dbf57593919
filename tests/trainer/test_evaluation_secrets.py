"""`synth evaluate`, and recipes of `synth train`, show no secret of a URL, with --debug either."""

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from synth import main
from tests.labelled_sets import make_tars

URLS = (
    "https://user:SECRET@127.0.0.1:1/x?sig=SECRET",
    "HTTPS://127.0.0.1:1/x?sig=SECRET",
    "nowhere://user:SECRET@host/x#SECRET",
    "memory://x?sig=SECRET",
    "simplecache::https://user:SECRET@127.0.0.1:1/x",
)

COMMANDS: dict[str, Callable[[str, str], list[str]]] = {
    "on": lambda url, on: ["evaluate", "pixels:8", "--on", url],
    "on wds": lambda url, on: ["evaluate", "pixels:8", "--on", f"wds:{url}"],
    "on imagefolder": lambda url, on: ["evaluate", "pixels:8", "--on", f"imagefolder:{url}"],
    "on a mistyped kind": lambda url, on: ["evaluate", "pixels:8", "--on", f"wsd:{url}"],
    "on a dotted path": lambda url, on: ["evaluate", "pixels:8", "--on", f"nowhere:Kind:{url}"],
    "encoder": lambda url, on: ["evaluate", url, "--on", on],
    "untrained encoder": lambda url, on: ["evaluate", f"untrained:{url}", "--on", on],
    "pixels": lambda url, on: ["evaluate", f"pixels:{url}", "--on", on],
    "evaluation": lambda url, on: ["evaluate", "pixels:8", "--on", on, "--with", url],
    "scores": lambda url, on: ["evaluate", "pixels:8", "--on", on, "--out", url],
    "setting": lambda url, on: ["evaluate", "pixels:8", "--on", on, "--set", f"knn.x={url}"],
    "suite": lambda url, on: ["evaluate", "--suite", url],
    "recipe": lambda url, on: ["train", on, "--out", "run", "--recipe", url],
    "recipe of a suffix": lambda url, on: ["train", on, "--out", "run", "--recipe", f"{url}.toml"],
}


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize("command", COMMANDS)
def test_no_line_of_output_holds_a_secret(
    command: str, debug: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    on = make_tars(tmp_path / "set", train=[[0, 1]], test=[[0, 1]])
    for url in URLS:
        arguments = [*(["--debug"] if debug else []), *COMMANDS[command](url, on)]
        result = CliRunner().invoke(main, arguments)
        assert result.exit_code in (1, 2), result.output
        assert "SECRET" not in result.output, url
        if not debug:
            assert "Traceback" not in result.output, url
    assert [path.name for path in tmp_path.iterdir()] == ["set"]
