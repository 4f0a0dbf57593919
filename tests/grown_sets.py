"""Sets of a renderer without a model, and what is made from them, in this process."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from manifests.storage import Store
from manifests.storage.errors import StoreError
from manifests.storage.local import LocalStore
from pipeline.config import load_config
from pipeline.generating import begin, finish, run
from pipeline.growing import Growth, begin_growth

STRIPES = "tests.renderers:Stripes"
CAPTIONS = ("a red fox", "a blue door", "two pears", "a penguin", "a lemon")
MORE = ("a car", "a red fox", "an owl")
INLINE = {"executor": "inline"}


def captions_file(path: Path, captions: Sequence[str]) -> Path:
    """A table whose `source` is the same in every file, since it stands in the rows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(["caption,source", *(f"{text},mine" for text in captions)]) + "\n")
    return path


def generate(
    url: Path | str, folder: Path, captions: Sequence[str] = CAPTIONS, **keys: Any
) -> Path | str:
    """A set made at once; `keys` are keys of a recipe with __ in place of the point."""
    flags = {
        "prompts.file": str(captions_file(folder / f"{len(captions)}.csv", captions)),
        "renderer.name": STRIPES,
        "views.per_subject": 4,
        "shards.subjects": 2,
        "execution.executor": "inline",
    } | {name.replace("__", "."): value for name, value in keys.items()}
    generation = begin(load_config(recipe=None, overrides=[], flags=flags), str(url))
    for _ in run(generation):
        pass
    finish(generation, seal_incomplete=False)
    return url


def grow(old: Path | str, url: Path | str, *, trust: str = STRIPES, **options: Any) -> Path | str:
    """A grown set; options of `Growth` and of `begin_growth`."""
    names = Growth.__slots__
    growth = Growth(**{name: options.pop(name) for name in names if name in options})
    generation, _ = begin_growth(str(old), str(url), growth, INLINE, trusted=[trust], **options)
    for _ in run(generation):
        pass
    finish(generation, seal_incomplete=False)
    return url


def prompts(path: Path) -> dict[str, str]:
    """Table [prompts] that names a file."""
    return {"source": "file", "file": str(path)}


class KilledStore(LocalStore):
    """Creates so many files, and then none any more."""

    left = 0

    def create(self, path: str, content: bytes | Path) -> bool:
        if type(self).left == 0:
            raise StoreError(f"{path}: killed")
        type(self).left -= 1
        return super().create(path, content)


def killed_after(count: int) -> type[Store]:
    """A store for a writer that dies after so many files."""

    class Killed(KilledStore):
        left = count

    return Killed
