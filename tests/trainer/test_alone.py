"""The trainer needs nothing of the pipeline; `make test-trainer` runs this where it is absent."""

import importlib
import importlib.util
import os
import pkgutil
import subprocess
import sys

import pytest

import trainer
from tests.running import environment

pytestmark = pytest.mark.slow

STRANGERS = ("ray", "diffusers", "transformers")


def test_no_module_of_the_trainer_loads_the_pipeline() -> None:
    names = [module.name for module in pkgutil.walk_packages(trainer.__path__, "trainer.")]
    assert len(names) > 30
    imports = "; ".join(f"import {name}" for name in names)
    strangers = ("ray", "diffusers", "pipeline", "prompts")
    code = f"import sys; {imports}; print([m for m in {strangers} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.skipif(
    "SYNTH_TRAINER_ALONE" not in os.environ, reason="`make test-trainer` runs this where it counts"
)
def test_this_environment_has_the_trainer_alone() -> None:
    assert [name for name in STRANGERS if importlib.util.find_spec(name)] == []
    assert importlib.import_module("timm")
