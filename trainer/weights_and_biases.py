"""Numbers of a run for Weights & Biases, if a recipe asks for it; the package is an extra.

Its own variables decide where they go: WANDB_MODE, WANDB_DIR, WANDB_ENTITY and the others.
"""

import hashlib
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from manifests.foundation.errors import ConfigError
from manifests.foundation.messages import one_line, redact


def require_package() -> None:
    """Refuse a recipe that asks for it where it is not installed. Raises ConfigError."""
    if find_spec("wandb") is None:
        raise ConfigError("run.wandb: needs wandb: pip install 'synth-rep[wandb]'")


def run_id(name: str, begun: str) -> str:
    """The same for every start of a run, and another one after `--fresh`.

    Args:
        name: Place of the run.
        begun: When its first start was.
    """
    return hashlib.sha256(f"{name}\n{begun}".encode()).hexdigest()[:16]


class WeightsAndBiases:
    """A run of a project, which goes on if it is there.

    Nothing of the machine or the command line is recorded, because an address may hold a secret.

    Args:
        project: Name of the project.
        name: Place of the run, shown as its name.
        run: Its id; see `run_id`.
        config: The recipe.

    Raises:
        ConfigError: Nobody is logged in, or the server does not answer.
    """

    def __init__(self, project: str, *, name: str, run: str, config: Mapping[str, Any]) -> None:
        import wandb

        settings = wandb.Settings(
            console="off",
            disable_code=True,
            disable_git=True,
            quiet=True,
            x_disable_machine_info=True,
            x_disable_meta=True,
            x_save_requirements=False,
        )
        try:
            self._run = wandb.init(
                project=project,
                id=run,
                name=name,
                resume="allow",
                config=_without_secrets(config),
                settings=settings,
            )
        except Exception as exc:  # of many types, some of them of its server
            raise ConfigError(
                f"run.wandb: {one_line(exc)}; log in with `wandb login`, or set WANDB_MODE=offline"
            ) from exc

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Send numbers. Those of a step that was sent before a resume are the same, and ignored."""
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        """Wait until everything is sent or written."""
        self._run.finish()


def _without_secrets(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_secrets(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_secrets(item) for item in value]
    return redact(value) if isinstance(value, str) else value
