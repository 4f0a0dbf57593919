"""What every test stands on: no network, no hub, one thread, tiny models built once."""

import os
import secrets
from pathlib import Path

import pytest

# Read by the libraries when they are imported.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Tests of storages that do not answer say themselves how patient a call is.
os.environ["SYNTH_STORAGE_PATIENCE_S"] = "1"
# Clusters ask for a token; drivers and the cluster of a test share this one.
os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of tiny random pipelines by family."""
    from tests.tiny_models import FAMILIES, build

    folder = tmp_path_factory.mktemp("models")
    return {family: build(family, folder / family) for family in FAMILIES}
