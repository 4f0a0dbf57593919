"""A recipe of `synth generate` with every key: its meaning, what it takes, and its default.

It is made from the settings classes, so nothing in it can be out of date.
"""

import ast
import inspect
import json
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from manifests.foundation.settings import Table
from pipeline.audits import audit_class
from pipeline.config import DEFAULTS, GenerateConfig
from pipeline.execution import executor_class
from pipeline.renderers import renderer_class
from prompts.sources import prompt_source_class

WIDTH = 100
"""Columns of a line of comment, at most."""
EXAMPLES = {"file": "captions.txt"}
"""Of values without a default, which a user has to give."""


def tables(*, renderer: str, source: str, executor: str) -> dict[str, type[BaseModel]]:
    """The settings class of each table of a recipe with these plug-ins. Raises PluginError."""
    named = {
        "prompts": prompt_source_class(source).Config,
        "renderer": renderer_class(renderer).Config,
        "execution": executor_class(executor).Config,
    }
    fields = GenerateConfig.model_fields
    return {
        name: named.get(name) or type(field.default)
        for name, field in fields.items()
        if name in named or isinstance(field.default, BaseModel)
    }


def default_of(key: str) -> Any:
    """The default of a key such as `views.per_subject`, with the plug-ins that are used by default;
    None where it has none that could be typed."""
    table, name = key.split(".")
    if name in DEFAULTS.get(table, {}):
        return DEFAULTS[table][name]
    models = tables(
        renderer=DEFAULTS["renderer"]["name"],
        source=DEFAULTS["prompts"]["source"],
        executor=DEFAULTS["execution"]["executor"],
    )
    field = models[table].model_fields[name]
    return None if field.is_required() else field.default


def commented_recipe(*, renderer: str, source: str, executor: str) -> str:
    """A recipe as TOML, in which every key is there as a comment; those without a default are not
    comments.

    Raises:
        PluginError: There is no such renderer, prompt source or executor.
    """
    lines = [
        "# A recipe of `synth generate`: what a set is made of. Keys that are comments have the",
        "# values shown; take a # away to change one.",
        "#",
        "#     synth generate --recipe THIS_FILE --out SET",
    ]
    chosen = {
        ("prompts", "source"): source,
        ("renderer", "name"): renderer,
        ("execution", "executor"): executor,
    }
    for table, model in tables(renderer=renderer, source=source, executor=executor).items():
        if table == "shards":  # the audits come before it, as the views meet them
            lines += _audits()
        lines += ["", f"[{table}]"]
        for key, entry in _described(model).items():
            lines += ["", *_comment(entry.meaning)] if entry.meaning else [""]
            if (table, key) in chosen:
                lines.append(f"{key} = {toml(chosen[table, key])}")
                continue
            lines += _comment(f"Takes {entry.takes}.") if entry.takes else []
            if entry.is_required:
                lines.append(f"{key} = {toml(EXAMPLES.get(key, '...'))}")
            else:
                lines.append(_as_comment(key, entry.default))
    return "\n".join(lines) + "\n"


def _audits() -> Iterator[str]:
    """The table [audits], and one for each audit that has settings."""
    names = DEFAULTS["audits"]["use"]
    yield from ["", "[audits]", "", "# Audits by name, in the order in which they judge."]
    yield _as_comment("use", names)
    for name in names:
        entries = _described(audit_class(name).Config)
        yield from ["", f"[audits.{name}]"] if entries else []
        for key, entry in entries.items():
            yield from ["", *_comment(entry.meaning), *_comment(f"Takes {entry.takes}.")]
            yield _as_comment(key, entry.default)


def _as_comment(key: str, default: Any) -> str:
    return f"# {key} is not set" if default is None else f"# {key} = {toml(default)}"


def toml(value: Any) -> str:
    """A value as TOML. Example: `(0.0, True, "auto")` gives `[0.0, true, "auto"]`."""
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(toml, value))}]"
    # JSON writes texts, numbers and booleans as TOML does.
    return json.dumps(value, ensure_ascii=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    meaning: str
    takes: str
    is_required: bool
    default: Any


def _described(model: type[BaseModel]) -> Mapping[str, _Entry]:
    meanings = _meanings(model)
    schemas = model.model_json_schema()["properties"]
    return {
        name: _Entry(
            meaning=meanings.get(name, ""),
            takes=_takes(schemas[name]),
            is_required=field.is_required(),
            default=None if field.is_required() else field.default,
        )
        for name, field in model.model_fields.items()
    }


def _meanings(model: type[BaseModel]) -> dict[str, str]:
    """The text under each field of a class and of those that it derives from."""
    meanings: dict[str, str] = {}
    for base in reversed(model.__mro__):
        if not issubclass(base, Table) or base is Table:
            continue
        try:
            (node,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        except (OSError, TypeError, ValueError):
            continue  # a class without a file
        assert isinstance(node, ast.ClassDef)
        for field, text in zip(node.body, node.body[1:], strict=False):
            if (
                isinstance(field, ast.AnnAssign)
                and isinstance(field.target, ast.Name)
                and isinstance(text, ast.Expr)
                and isinstance(text.value, ast.Constant)
                and isinstance(text.value.value, str)
            ):
                meanings[field.target.id] = " ".join(text.value.value.split())
    return meanings


_NAMES = {"integer": "a whole number", "number": "a number", "string": "a text"}


def _takes(schema: Mapping[str, Any]) -> str:
    """What a value may be, in words. Example: "a whole number from 1 to 1000"."""
    if "anyOf" in schema:
        words = [_takes(option) for option in schema["anyOf"] if option.get("type") != "null"]
        return " or ".join(dict.fromkeys(words))
    if "enum" in schema or "const" in schema:
        values = schema.get("enum", [schema.get("const")])
        return " or ".join(toml(value) for value in values)
    match schema.get("type"):
        case "boolean":
            return "true or false"
        case "array":
            items = _takes(schema.get("items") or (schema.get("prefixItems") or [{}])[0])
            number = schema.get("maxItems")
            exact = f"{number} " if number and number == schema.get("minItems") else ""
            return f"an array of {exact}{_plural(items)}"
        case str(kind) if kind in _NAMES:
            return f"{_NAMES[kind]}{_bounds(schema)}"
    return ""


def _plural(words: str) -> str:
    """Example: "a whole number from 1 to 9" gives "whole numbers from 1 to 9"."""
    for one, many in (("a whole number", "whole numbers"), ("a number", "numbers")):
        if words.startswith(one):
            return many + words.removeprefix(one)
    return {"a text": "texts", "": "values"}.get(words) or words.replace("an array", "arrays", 1)


def _bounds(schema: Mapping[str, Any]) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    words = [
        "" if low is None else f" from {low:g}" if high is not None else f" of {low:g} or more",
        "" if above is None else f" above {above:g}",
        "" if high is None else f" to {high:g}" if low is not None else f" up to {high:g}",
        "" if below is None or below >= 2**53 else f" below {below:g}",
    ]
    return "".join(words)


def _comment(text: str) -> Iterator[str]:
    yield from textwrap.wrap(text, WIDTH, initial_indent="# ", subsequent_indent="# ")
