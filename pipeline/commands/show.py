"""`synth show`: one view and its row."""

from pathlib import Path

import click


@click.command()
@click.argument("url")
@click.argument("key")
@click.option("--save", type=click.Path(path_type=Path), help="File for the stored image.")
@click.option("--render", is_flag=True, help="Render the view again and compare the bytes.")
@click.option("--model", help="Where the model is on this machine, if not where it was.")
def show(url: str, key: str, save: Path | None, render: bool, model: str | None) -> None:
    """Show the row and the picture of the view KEY (such as 000000012_003)."""
    from dataclasses import fields

    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from manifests.errors import CorruptError
    from manifests.foundation.files import require_local, write_output
    from manifests.foundation.messages import one_line, printable
    from manifests.shard_set import ShardSet
    from pipeline.encoding import decode
    from pipeline.showing import find_view, half_blocks, render_again

    if save is not None:
        require_local(save, "--save")
    shards = ShardSet.open(url)
    shard, row = find_view(shards, key)
    table = Table(show_header=False)
    for field in fields(row):
        value = getattr(row, field.name)
        text = value.hex() if isinstance(value, bytes) else str(value)
        # A Text is shown as it is stored: a plain string would be read as markup and emoji.
        table.add_row(field.name, Text(printable(text)))
    console = Console()
    console.print(table)
    if row.is_ok:
        image = shards.image(shard, row)
        if save is not None:
            write_output(save, image, option="--save")
        if console.is_terminal:
            try:
                picture = half_blocks(decode(image), width=min(64, console.width))
            except Exception as exc:  # an image library raises what it likes
                raise CorruptError(
                    f"{shards.store.url}, {key}: its bytes are not a readable image "
                    f"({one_line(exc)}); look at them with --save"
                ) from exc
            console.print(picture)
    if render:
        again = render_again(shards, shard, key, model=model)
        if again != row:
            differing = [
                field.name
                for field in fields(row)
                if getattr(again, field.name) != getattr(row, field.name)
            ]
            click.echo(f"{key}: rendered again, it differs in {', '.join(differing)}", err=True)
            raise SystemExit(1)
        click.echo(f"{key}: rendered again, equal to the byte")
