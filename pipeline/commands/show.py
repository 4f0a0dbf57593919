"""`synth show`: one view and its row, or a whole group."""

from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from manifests.rows import ViewRow
    from manifests.shard_set import ShardSet


@click.command(
    epilog="\b\nExamples:\n"
    '  synth show set "red fox" --out fox.png\n'
    "  synth show set 000000012_003\n"
    "  synth show set 000000012_003 --render --json"
)
@click.argument("url", metavar="SET")
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
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print one JSON object: `url`, `shard`, `rows` (each with the columns of the manifest), "
    "and with --render `differs`, the columns that differ.",
)
def show(
    url: str,
    what: str,
    out: str | None,
    save: str | None,
    render: bool,
    model: str | None,
    trust: tuple[str, ...],
    as_json: bool,
) -> None:
    """Show a group with all its views, or one view and its row.

    WHAT is the number of a group (12), its caption or a part of it ("red fox"), or the key of a
    view (000000012_003).
    """
    import json

    from rich.console import Console

    from manifests.errors import ContractError
    from manifests.foundation.files import local_path
    from manifests.ids import parse_key
    from manifests.schema import manifest_columns
    from manifests.shard_set import ShardSet
    from pipeline.showing import find_group, find_view, group_rows, render_again

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
    shards, console = ShardSet.open(url), Console(quiet=as_json)
    if not is_view:
        shard, rows = group_rows(shards, find_group(shards, what))
        _show_group(shards, shard, rows, output, console)
        if as_json:
            click.echo(json.dumps(_document(shards, shard, rows)))
        return
    shard, row = find_view(shards, what)
    _show_view(shards, shard, row, output, console)
    document = _document(shards, shard, [row])
    if render:
        again = render_again(shards, shard, row, model=model, trusted=trust)
        columns = [column.name for column in manifest_columns(shards.recipe.identity.columns)]
        differing = [name for name in columns if again.get(name) != row.get(name)]
        document["differs"] = differing
    if as_json:
        click.echo(json.dumps(document))
    elif render and not differing:
        click.echo(f"{what}: rendered again, equal to the byte")
    elif render:
        click.echo(f"{what}: rendered again, it differs in {', '.join(differing)}", err=True)
    if render and differing:
        raise SystemExit(1)


def _document(shards: "ShardSet", shard: int, rows: "list[ViewRow]") -> dict[str, Any]:
    """What `--json` prints: where some rows are, and each with the columns of the manifest."""
    from manifests.foundation.messages import redact
    from manifests.schema import manifest_columns

    names = [column.name for column in manifest_columns(shards.recipe.identity.columns)]
    values = [{name: row.get(name) for name in names} for row in rows]
    texts = [
        {name: redact(value) if isinstance(value, str) else value for name, value in row.items()}
        for row in values
    ]
    return {"url": redact(shards.store.url), "shard": shard, "rows": texts}


def _show_group(
    shards: "ShardSet",
    shard: int,
    rows: "list[ViewRow]",
    output: "Path | None",
    console: "Console",
) -> None:
    from rich.text import Text

    from manifests.foundation.files import write_output
    from manifests.foundation.messages import printable, redact
    from manifests.ids import parse_key
    from pipeline.showing import group_sheet, group_tiles, side_by_side
    from pipeline.wording import variation_name

    variations = shards.recipe.identity.variations
    names = [
        printable(variation_name(variations[row.view_index % len(variations)])) for row in rows
    ]
    # In a plain string rich would replace markup and emoji codes; a Text is shown as it is.
    console.print(Text(printable(redact(rows[0].text)), "bold"))
    known = {"group": parse_key(rows[0].key)[0], "label": rows[0].label, "licence": rows[0].licence}
    shown = [f"{name} {value}" for name, value in known.items() if value != ""]
    console.print(Text(printable(redact(", ".join(shown)))))
    if console.is_terminal or output is not None:
        tiles = group_tiles(shards, shard, rows)
        if output is not None:
            sheet = group_sheet(shards.recipe.identity, rows, tiles)
            write_output(output, sheet, option="--out")
            console.print(Text(printable(str(output))), soft_wrap=True)
        if console.is_terminal:
            keys = [row.key for row in rows]
            console.print(side_by_side(tiles, keys, width=console.width))
    for row, name in zip(rows, names, strict=True):
        status = row.status if row.is_ok else f"{row.status}: {row.reason}"
        facts = f"{name}, seed {row.seed}, {row.width_px} x {row.height_px} px"
        # No table: what is copied from a narrow terminal has to be whole.
        line = Text(printable(f"{row.key}  {status:<6} {facts}"))
        console.print(line, soft_wrap=True)


def _show_view(
    shards: "ShardSet", shard: int, row: "ViewRow", output: "Path | None", console: "Console"
) -> None:
    from rich.table import Table
    from rich.text import Text

    from manifests.foundation.files import write_output
    from manifests.foundation.messages import printable, redact
    from manifests.schema import manifest_columns
    from pipeline.encoding import decode
    from pipeline.showing import half_blocks

    table = Table(show_header=False)
    table.add_column()
    table.add_column(overflow="fold")  # a value is copied, so none is cut
    names = [column.name for column in manifest_columns(shards.recipe.identity.columns)]
    for name in names:
        # In a plain string rich would replace markup and emoji codes; a Text is shown as it is.
        table.add_row(name, Text(printable(redact(str(row.get(name))))))
    console.print(table)
    if row.is_ok:
        image = shards.image(shard, row)
        if output is not None:
            write_output(output, image, option="--save")
        if console.is_terminal:
            console.print(half_blocks(decode(image, where=row.key), width=min(64, console.width)))
