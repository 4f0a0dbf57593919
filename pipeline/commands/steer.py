"""`synth steer`: a generator in, directions out that edit its pictures."""

import click


@click.command(epilog="\b\nExamples:\n  synth steer embedded --out directions.safetensors")
@click.argument("generator")
@click.option("--out", required=True, help="File of the directions, NAME.safetensors.")
@click.option(
    "--directions", default="", help="Names, separated by commas. If not given, all that there are."
)
@click.option(
    "--samples",
    type=click.IntRange(1),
    default=48_000,
    show_default=True,
    help="Pictures to learn.",
)
@click.option("--batch-size", type=click.IntRange(1, 4096), default=48, show_default=True)
@click.option("--learning-rate", type=click.FloatRange(0, 10), default=0.01, show_default=True)
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), default=0, show_default=True)
@click.option("--latent-dim", type=int, help="Numbers of a latent, if the file does not say it.")
@click.option("--classes", type=int, help="Classes that it knows, 0 for none, likewise.")
@click.option("--values", help="Range of its pixels, '-1 to 1' or '0 to 1', likewise.")
def steer(
    generator: str,
    out: str,
    directions: str,
    samples: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
    latent_dim: int | None,
    classes: int | None,
    values: str | None,
) -> None:
    """Learn the directions of a GENERATOR's latents along which its pictures zoom, turn, brighten.

    GENERATOR is `embedded`, or a file of torch.export or TorchScript. `synth generate --renderer
    latent-neighbourhood` then takes steps along them, with neighbourhood `steering`.
    """
    from manifests.foundation.errors import ConfigError
    from manifests.foundation.files import local_path
    from manifests.foundation.settings import check
    from pipeline.renderers.latent_neighbourhood import LatentNeighbourhood
    from pipeline.renderers.latent_neighbourhood.config import LatentNeighbourhoodConfig
    from pipeline.renderers.latent_neighbourhood.steering import (
        AMOUNTS,
        Directions,
        write_directions,
    )

    names = list(dict.fromkeys(directions.split(","))) if directions else list(AMOUNTS)
    if unknown := [name for name in names if name not in AMOUNTS]:
        raise ConfigError(f"--directions {unknown[0]}: expected some of {', '.join(AMOUNTS)}")
    if batch_size < len(names):
        raise ConfigError(
            f"--batch-size {batch_size}: a batch has to have all {len(names)} directions"
        )
    path = local_path(out, option="--out")
    if path.exists():
        raise ConfigError(f"--out {path}: exists already; give another name")
    table = {"generator": generator, "batch_size": batch_size, "device": "cpu"}
    table |= {"latent_dim": latent_dim, "classes": classes, "values": values}
    given = {key: value for key, value in table.items() if value is not None}
    config = check(LatentNeighbourhoodConfig, given, origin="synth steer", table="renderer")
    renderer = LatentNeighbourhood(config)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise ConfigError(f"--out {path}: cannot be made ({exc.strerror})") from exc

    # Only now, so that what could be refused until here costs no import of torch.
    from rich.console import Console
    from rich.table import Table

    from manifests.canonical import hash_file
    from pipeline.errors import ModelError
    from pipeline.renderers.latent_neighbourhood.graphs import GraphGenerator
    from pipeline.renderers.latent_neighbourhood.learning import learn_directions

    loaded = renderer.generator
    if not isinstance(loaded, GraphGenerator) or not loaded.is_differentiable:
        raise ModelError(
            f"{generator}: directions are learned by gradients, which only a file of torch.export "
            "or TorchScript gives"
        )
    steps = max(samples // batch_size, 1)
    console = Console(stderr=True)
    with console.status("") as status:
        learned = learn_directions(
            loaded,
            names,
            steps=steps,
            batch_size=batch_size,
            learning_rate=learning_rate,
            seed=seed,
            progress=lambda step: status.update(f"step {step:,} of {steps:,}"),
        )
    write_directions(
        path,
        Directions(
            generator=hash_file(renderer.path),
            ranges={name: AMOUNTS[name] for name in names},
            vectors={name: learned[name].vector.numpy() for name in names},
        ),
    )
    shown = Table(title=f"directions of {generator}, learned from {steps * batch_size:,} pictures")
    for header in ("direction", "amount 1 is", "share of the edit that it does, %"):
        shown.add_column(header, justify="right" if "%" in header else "left")
    for name, direction in learned.items():
        shown.add_row(name, AMOUNTS[name], f"{100 * direction.explained:.0f}")
    Console().print(shown)
    click.echo(f"{path}: written")
