"""`synth init`: a recipe to begin with."""

from pathlib import Path

import click


@click.command(
    epilog="\b\nExamples:\n  synth init recipe.toml\n"
    "  synth init programs.toml --renderer image-programs --source programs"
)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--renderer", default="text-to-image", help="Whose keys are in [renderer].")
@click.option("--source", default="file", help="Prompt source whose keys are in [prompts].")
@click.option("--executor", default="ray", help="Whose keys are in [execution].")
def init(file: Path, renderer: str, source: str, executor: str) -> None:
    """Write a recipe of `synth generate` with every key, what it means and its default."""
    from manifests.foundation.errors import ConfigError
    from pipeline.commented import commented_recipe

    text = commented_recipe(renderer=renderer, source=source, executor=executor)
    try:
        with file.open("x", encoding="utf-8") as recipe:  # never over what somebody has written
            recipe.write(text)
    except FileExistsError as exc:
        raise ConfigError(f"{file}: exists already; give another name or remove it") from exc
    except OSError as exc:
        raise ConfigError(f"{file}: cannot be written ({exc.strerror}); give another") from exc
    click.echo(f"{file}: edit it, then run synth generate --recipe {file} --out SET")
