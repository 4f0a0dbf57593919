"""What the source text of diffusers tells of a class, without importing it.

To import a pipeline imports torch and transformers as well, which takes many seconds: too long for
a refusal, and for a set of which nothing is left to render.
"""

import ast
import inspect
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

_STAND_INS = ("pt", "torch_and_transformers")
"""Of the modules `dummy_*_objects` of diffusers, which list its classes by what they need, those
whose needs are always installed here."""


@lru_cache
def _folder() -> Path:
    spec = find_spec("diffusers")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("No module named 'diffusers'", name="diffusers")
    return Path(spec.submodule_search_locations[0])


def is_offered(name: str) -> bool:
    """Whether diffusers surely offers a class of this name. Where it does not, diffusers may still
    have it for those who have installed more packages."""
    paths = (_folder() / "utils" / f"dummy_{needs}_objects.py" for needs in _STAND_INS)
    return any(f"\nclass {name}(" in path.read_text("utf-8") for path in paths if path.is_file())


def call_of(
    pipeline: str, texts: Iterable[str] | None = None
) -> Mapping[str, inspect.Parameter] | None:
    """Arguments of a call of a pipeline by name, with their defaults, as `inspect.signature` gives
    them; None if the text does not tell.

    Args:
        pipeline: Name of a class, such as `StableDiffusionPipeline`.
        texts: Of modules; those of diffusers if not given.
    """
    calls = [
        method
        for text in texts or pipeline_texts()
        if f"\nclass {pipeline}(" in text
        for node in ast.parse(text).body
        if isinstance(node, ast.ClassDef) and node.name == pipeline
        for method in node.body
        if isinstance(method, ast.FunctionDef) and method.name == "__call__"
    ]
    # None where the call is inherited, or where two modules have a class of the name.
    return _parameters(calls[0].args) if len(calls) == 1 else None


def pipeline_texts() -> Iterator[str]:
    """The text of each module that defines pipelines."""
    for path in sorted((_folder() / "pipelines").rglob("pipeline_*.py")):
        yield path.read_text("utf-8")


def _parameters(arguments: ast.arguments) -> Mapping[str, inspect.Parameter] | None:
    if arguments.vararg or arguments.posonlyargs:
        return None
    lacking = [None] * (len(arguments.args) - len(arguments.defaults))
    pairs = [
        *zip(arguments.args, [*lacking, *arguments.defaults], strict=True),
        *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True),
    ]
    try:
        parameters = {
            argument.arg: inspect.Parameter(
                argument.arg,
                inspect.Parameter.KEYWORD_ONLY,
                default=inspect.Parameter.empty if default is None else ast.literal_eval(default),
            )
            for argument, default in pairs
        }
    except ValueError:  # a default that is computed
        return None
    if arguments.kwarg is not None:
        name = arguments.kwarg.arg
        parameters[name] = inspect.Parameter(name, inspect.Parameter.VAR_KEYWORD)
    return parameters
