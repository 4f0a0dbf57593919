"""What stands at the top for other programs agrees with the project: citation, public CI, index."""

import tomllib

import yaml

from tests.conftest import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_citation_is_of_this_version_and_licence() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]
    assert citation["cff-version"] == "1.2.0"
    assert {"title", "message", "authors"} <= citation.keys()


def test_public_ci_runs_what_the_project_has() -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text())
    commands = [
        step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step
    ]
    makefile = (ROOT / "Makefile").read_text()
    targets = [command.split()[1] for command in commands if command.startswith("make ")]
    assert "test" in targets
    assert all(f"\n{target}:" in makefile for target in targets)


def test_each_python_that_is_declared_is_tried_by_public_ci() -> None:
    prefix = "Programming Language :: Python :: 3."
    declared = {
        line.rpartition(" ")[2] for line in PROJECT["classifiers"] if line.startswith(prefix)
    }
    jobs = yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text())["jobs"]
    steps = [step.get("with", {}) for step in jobs["test"]["steps"]]
    tested = {step["python-version"] for step in steps if "python-version" in step}
    assert declared == tested | {*jobs["resolve"]["strategy"]["matrix"]["python"]}
    assert PROJECT["requires-python"] == f">={min(declared)}"
