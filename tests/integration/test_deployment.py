"""What is in `docker/`: linted, valid by schemas of its formats, and its commands can be parsed.

`make test-servers` runs the scripts on a real Slurm; `python -m benchmarks.images` builds images.
"""

import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import click
import kubernetes_validate
import pytest
import yaml

from synth import COMMANDS, main
from tests.conftest import ROOT
from trainer.recipes import find_recipe

DOCKER = ROOT / "docker"
BIN = Path(sys.executable).parent
DOCKERFILES = sorted(DOCKER.glob("*.Dockerfile"))
SCRIPTS = sorted(DOCKER.glob("slurm/*.sbatch"))
KUBERNETES = "1.31"

RAY_JOB: dict[str, dict[str, type]] = {
    "": {"apiVersion": str, "kind": str, "metadata": dict, "spec": dict},
    "spec": {
        **dict.fromkeys(("backoffLimit", "activeDeadlineSeconds", "ttlSecondsAfterFinished"), int),
        **dict.fromkeys(("entrypoint", "jobId", "runtimeEnvYAML", "submissionMode"), str),
        **dict.fromkeys(("shutdownAfterJobFinishes", "suspend"), bool),
        **dict.fromkeys(("clusterSelector", "metadata", "rayClusterSpec", "submitterConfig"), dict),
        "submitterPodTemplate": dict,
    },
    "spec.rayClusterSpec": {
        "rayVersion": str,
        "enableInTreeAutoscaling": bool,
        **dict.fromkeys(("autoscalerOptions", "gcsFaultToleranceOptions", "headGroupSpec"), dict),
        "workerGroupSpecs": list,
    },
    "spec.rayClusterSpec.autoscalerOptions": {
        "idleTimeoutSeconds": int,
        **dict.fromkeys(("image", "imagePullPolicy", "upscalingMode", "version"), str),
        **dict.fromkeys(("resources", "securityContext"), dict),
        **dict.fromkeys(("env", "envFrom", "volumeMounts"), list),
    },
    "spec.rayClusterSpec.headGroupSpec": {
        **dict.fromkeys(("headService", "labels", "rayStartParams", "template"), dict),
        **dict.fromkeys(("resources", "ingressOptions"), dict),
        "serviceType": str,
        "enableIngress": bool,
    },
    "spec.rayClusterSpec.workerGroupSpecs": {
        "groupName": str,
        **dict.fromkeys(("replicas", "minReplicas", "maxReplicas", "numOfHosts", "priority"), int),
        **dict.fromkeys(("idleTimeoutSeconds",), int),
        **dict.fromkeys(("labels", "rayStartParams", "resources", "scaleStrategy"), dict),
        "suspend": bool,
        "template": dict,
    },
}
"""Keys by the path of their table, as KubeRay's definition of `rayjobs.ray.io` names them in its
version `v1`. That of 2026-08-19, of 1.4 MB, accepts our file with unknown keys refused."""


def parsed(arguments: list[str]) -> dict[str, Any]:
    """What a command line of `synth` means; fails if it is no command line of it."""
    with main.make_context("synth", [arguments[0], "--help"], resilient_parsing=True) as ctx:
        command = main.get_command(ctx, arguments[0])
    assert isinstance(command, click.Command)
    return command.make_context(arguments[0], list(arguments[1:])).params


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.stem)
def test_dockerfiles_are_linted_and_copy_what_is_there(dockerfile: Path) -> None:
    linted = subprocess.run([BIN / "hadolint", dockerfile], capture_output=True, text=True)
    assert linted.returncode == 0, linted.stdout
    text = dockerfile.read_text()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = re.search(r'^ARG EXTRAS="(.*)"$', text, re.MULTILINE)
    assert extras is not None
    assert {*extras[1].split(",")} <= {*project["optional-dependencies"]}
    allowed = {line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text().splitlines()}
    for line in re.findall(r"^COPY (?!--from)(.*)$", text, re.MULTILINE):
        sources = line.split()[:-1]
        assert all((ROOT / source).exists() for source in sources)
        assert {*sources} <= allowed
    assert "\nUSER 1000\n" in text


@pytest.mark.parametrize(
    ("schema", "path"),
    [
        ("compose-spec", "docker/compose.yaml"),
        ("github-workflows", ".github/workflows/test.yml"),
        ("citation-file-format", "CITATION.cff"),
    ],
)
def test_files_are_valid_by_the_schemas_of_their_formats(schema: str, path: str) -> None:
    command = [BIN / "check-jsonschema", "--builtin-schema", f"vendor.{schema}", ROOT / path]
    checked = subprocess.run(command, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_scripts_are_linted(script: Path) -> None:
    linted = subprocess.run([BIN / "shellcheck", script], capture_output=True, text=True)
    assert linted.returncode == 0, linted.stdout


def test_the_services_of_compose_run_commands_that_exist() -> None:
    document = yaml.safe_load((DOCKER / "compose.yaml").read_text())
    services = document["services"]
    for name in ("generate", "train"):
        arguments = shlex.split(services[name]["command"])
        parameters = parsed(arguments)
        assert parameters["out"]
        dockerfile = services[name]["build"]["dockerfile"]
        assert (ROOT / dockerfile) in DOCKERFILES
    made = parsed(shlex.split(services["generate"]["command"]))
    trained = parsed(shlex.split(services["train"]["command"]))
    assert made["out"] == trained["url"]
    assert find_recipe(str(trained["recipe"])) is not None
    assert (ROOT / "prompts/lists" / Path(made["prompts"]).name).exists()
    for service in services.values():
        for dependency in service.get("depends_on", {}):
            assert dependency in services


def test_the_ray_job_has_valid_pods_and_runs_a_command_that_exists() -> None:
    document = yaml.safe_load((DOCKER / "rayjob.yaml").read_text())
    spec = document["spec"]
    program, *arguments = shlex.split(spec["entrypoint"])
    assert program == "synth"
    assert parsed(arguments)["ray_address"] == "auto"
    cluster = spec["rayClusterSpec"]
    locked = re.search(r"^ray==(.*)$", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    assert locked is not None
    assert cluster["rayVersion"] == locked[1]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    for group in groups:
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "pod"},
            "spec": group["template"]["spec"],
        }
        kubernetes_validate.validate(pod, KUBERNETES, strict=True)
        (container,) = pod["spec"]["containers"]
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        assert mounted == {volume["name"] for volume in pod["spec"]["volumes"]}
    worker = cluster["workerGroupSpecs"][0]["template"]["spec"]["containers"][0]
    assert worker["resources"]["limits"]["nvidia.com/gpu"] == "1"


def unknown_keys(table: dict[str, Any], path: str = "") -> list[str]:
    """Keys of a RayJob that KubeRay does not know, or whose values are of another type."""
    wrong = []
    for key, value in table.items():
        place = f"{path}.{key}".removeprefix(".")
        if type(value) is not RAY_JOB[path].get(key):
            wrong.append(place)
        if place in RAY_JOB:
            for part in value if isinstance(value, list) else [value]:
                wrong += unknown_keys(part, place)
    return wrong


def test_the_ray_job_has_keys_that_kuberay_knows() -> None:
    document = yaml.safe_load((DOCKER / "rayjob.yaml").read_text())
    assert (document["apiVersion"], document["kind"]) == ("ray.io/v1", "RayJob")
    assert unknown_keys(document) == []
    spec = document["spec"]
    assert spec["submissionMode"] in ("K8sJobMode", "HTTPMode", "SidecarMode", "InteractiveMode")
    for group in (cluster := spec["rayClusterSpec"])["workerGroupSpecs"]:
        assert {"groupName", "minReplicas", "maxReplicas", "template"} <= group.keys()
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
        assert all(type(value) is str for value in group["rayStartParams"].values())
    assert all(type(value) is str for value in cluster["headGroupSpec"]["rayStartParams"].values())
    cluster["workerGroupSpecs"][0]["maxReplica"] = 3
    spec["backoffLimit"] = "3"
    assert unknown_keys(document) == [
        "spec.backoffLimit",
        "spec.rayClusterSpec.workerGroupSpecs.maxReplica",
    ]


def test_a_planted_fault_is_caught() -> None:
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "pod"},
        "spec": {"containers": [{"name": "ray", "images": "x"}]},
    }
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(pod, KUBERNETES, strict=True)
    with pytest.raises(click.UsageError):
        parsed(["generate", "--outt", "set"])
    assert "generate" in COMMANDS
