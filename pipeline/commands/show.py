"""`synth show`: one view and its row, or a whole group."""

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from manifests.shard_set import ShardSet


@click.command()
@click.argument("url")
@click.argument("what")
@click.option("--out", help="Of a group: PNG with all its views to write.")
@click.option("--save", help="Of a view: file for the stored image.")
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
    what: str,
    out: str | None,
    save: str | None,
    render: bool,
    model: str | None,
    trust: tuple[str, ...],
) -> None:
    """Show a group with all its views, or one view and its row.

    WHAT is the number of a group (12), its caption or a part of it ("red fox"), or the key of a
    view (000000012_003).

    Example: synth show set "red fox" --out fox.png
    """
    from rich.console import Console

    from manifests.errors import ContractError
    from manifests.foundation.files import local_path
    from manifests.ids import parse_key
    from manifests.shard_set import ShardSet
    from pipeline.showing import find_group

    try:
        parse_key(what)
        is_view = True
    except ContractError:
        is_view = False
    if is_view and out is not None:
        raise click.UsageError("--out is for a group; --save writes the image of one view")
    if not is_view and (save is not None or render):
        raise click.UsageError(
            "--save and --render are for one view; give its key, such as 000000012_003"
        )
    path = save if is_view else out
    output = None if path is None else local_path(path, option="--save" if is_view else "--out")
    shards, console = ShardSet.open(url), Console()
    if not is_view:
        _show_group(shards, find_group(shards, what), output, console)
        return
    _show_view(shards, what, output, console)
    if render:
        _compare(shards, what, model, trust)


def _show_group(shards: "ShardSet", group: int, output: "Path | None", console: "Console") -> None:
    from rich.text import Text

    from manifests.foundation.files import write_output
    from manifests.foundation.messages import printable, redact
    from pipeline.showing import group_rows, group_sheet, group_tiles, side_by_side
    from pipeline.wording import variation_name

    shard, rows = group_rows(shards, group)
    variations = shards.recipe.identity.variations
    names = [
        printable(variation_name(variations[row.view_index % len(variations)])) for row in rows
    ]
    # In a plain string rich would replace markup and emoji codes; a Text is shown as it is.
    console.print(Text(printable(redact(rows[0].text)), "bold"))
    known = {"group": group, "label": rows[0].label, "licence": rows[0].licence}
    shown = [f"{name} {value}" for name, value in known.items() if value != ""]
    console.print(Text(printable(redact(", ".join(shown)))))
    if console.is_terminal or output is not None:
        tiles = group_tiles(shards, shard, rows)
        if output is not None:
            sheet = group_sheet(shards.recipe.identity, rows, tiles)
            write_output(output, sheet, option="--out")
        if console.is_terminal:
            keys = [row.key for row in rows]
            console.print(side_by_side(tiles, keys, width=console.width))
    for row, name in zip(rows, names, strict=True):
        status = row.status if row.is_ok else f"{row.status}: {row.reason}"
        facts = f"{name}, seed {row.seed}, {row.width_px} x {row.height_px} px"
        # No table: what is copied from a narrow terminal has to be whole.
        line = Text(printable(f"{row.key}  {status:<6} {facts}"))
        console.print(line, soft_wrap=True)


def _show_view(shards: "ShardSet", key: str, output: "Path | None", console: "Console") -> None:
    from rich.table import Table
    from rich.text import Text

    from manifests.foundation.files import write_output
    from manifests.foundation.messages import printable, redact
    from manifests.schema import manifest_columns
    from pipeline.encoding import decode
    from pipeline.showing import find_view, half_blocks

    shard, row = find_view(shards, key)
    table = Table(show_header=False)
    for column in manifest_columns(shards.recipe.identity.columns):
        table.add_row(column.name, Text(printable(redact(str(row.get(column.name))))))
    console.print(table)
    if row.is_ok:
        image = shards.image(shard, row)
        if output is not None:
            write_output(output, image, option="--save")
        if console.is_terminal:
            console.print(half_blocks(decode(image, where=key), width=min(64, console.width)))


def _compare(shards: "ShardSet", key: str, model: str | None, trust: tuple[str, ...]) -> None:
    from manifests.schema import manifest_columns
    from pipeline.showing import find_view, render_again

    shard, row = find_view(shards, key)
    again = render_again(shards, shard, key, model=model, trusted=trust)
    if again != row:
        names = [column.name for column in manifest_columns(shards.recipe.identity.columns)]
        differing = [name for name in names if again.get(name) != row.get(name)]
        click.echo(f"{key}: rendered again, it differs in {', '.join(differing)}", err=True)
        raise SystemExit(1)
    click.echo(f"{key}: rendered again, equal to the byte")
