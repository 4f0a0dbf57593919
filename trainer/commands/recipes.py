"""`synth recipes`: the recipes of this package."""

import click


@click.command(epilog="\b\nExamples:\n  synth recipes\n  synth recipes stablerep-cc12m > mine.toml")
@click.argument("name", required=False)
def recipes(name: str | None) -> None:
    """List the recipes of `synth train`, or print the one that is called NAME.

    What is printed is a file that --recipe takes. If it begins with `extends`, it holds only what
    differs from the recipe that it names.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from trainer.recipes import find_recipe, headline, shipped_recipes

    if name is not None:
        click.echo(find_recipe(name).read_text("utf-8"), nl=False)
        return
    headlines = {shipped: headline(path) for shipped, path in shipped_recipes().items()}
    console = Console()
    if not console.is_terminal:  # programs read it: a name on each line, and nothing is cut
        for shipped, text in headlines.items():
            click.echo(f"{shipped}\t{text}")
        return
    table = Table.grid(padding=(0, 2, 0, 0))
    for shipped, text in headlines.items():
        table.add_row(Text(shipped), Text(text))
    console.print(table)
