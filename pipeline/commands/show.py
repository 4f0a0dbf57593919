"""`synth show`: one view and its row."""

import click


@click.command()
@click.argument("url")
@click.argument("key")
@click.option("--save", help="File for the stored image.")
@click.option("--render", is_flag=True, help="Render the view again and compare the bytes.")
@click.option("--model", help="Where the model is on this machine, if not where the recipe says.")
@click.option(
    "--trust",
    multiple=True,
    metavar="MODULE:CLASS",
    help="Let --render run this plug-in of somebody else, which the set names.",
)
def show(
    url: str,
    key: str,
    save: str | None,
    render: bool,
    model: str | None,
    trust: tuple[str, ...],
) -> None:
    """Show the row and the picture of the view KEY (such as 000000012_003)."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from manifests.foundation.files import local_path, write_output
    from manifests.foundation.messages import printable, redact
    from manifests.schema import manifest_columns
    from manifests.shard_set import ShardSet
    from pipeline.encoding import decode
    from pipeline.showing import find_view, half_blocks, render_again

    output = None if save is None else local_path(save, option="--save")
    shards = ShardSet.open(url)
    shard, row = find_view(shards, key)
    table = Table(show_header=False)
    names = [column.name for column in manifest_columns(shards.recipe.identity.columns)]
    for name in names:
        # In a plain string rich would replace markup and emoji codes; a Text is shown as it is.
        table.add_row(name, Text(printable(redact(str(row.get(name))))))
    console = Console()
    console.print(table)
    if row.is_ok:
        image = shards.image(shard, row)
        if output is not None:
            write_output(output, image, option="--save")
        if console.is_terminal:
            console.print(half_blocks(decode(image, where=key), width=min(64, console.width)))
    if render:
        again = render_again(shards, shard, key, model=model, trusted=trust)
        if again != row:
            differing = [name for name in names if again.get(name) != row.get(name)]
            click.echo(f"{key}: rendered again, it differs in {', '.join(differing)}", err=True)
            raise SystemExit(1)
        click.echo(f"{key}: rendered again, equal to the byte")
