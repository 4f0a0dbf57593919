"""The language of image programs: text to a tree that is checked, and nothing that is executed.

A program is a few statements `name = expression`, each on its own line or behind a semicolon; the
last one is the colour of each pixel. Expressions are numbers, names, `+ - *`, and calls of the
functions in `functions`. A value is a number at each pixel, a point of the plane, or a colour;
the types are checked before anything is drawn.

    q = tile(rotate(p, 0.4 * t), 1.5)
    f = fbm(q) + 0.3 * rings(p, 4)
    colour = ramp(f, "1b2a41 f2a65a fff3e0 7b2d26")

`p` is the place in the viewport, about -1 to 1, and `t` the time. Python's own parser reads the
text; every node that is not named here is refused, so a program can neither loop nor call anything.
"""

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from pipeline.errors import PipelineError

VERSION = 1
"""Of language and functions: the same text draws the same picture as long as it is the same."""
MAX_CHARACTERS, MAX_STATEMENTS, MAX_NODES, MAX_DEPTH = 4000, 40, 1000, 50
MAX_NUMBER = 1e4

Type = Literal["number", "point", "colour", "colours"]
INPUTS: Mapping[str, Type] = {"p": "point", "t": "number"}


class ProgramError(PipelineError):
    """A text that is no program; says what is wrong, and where."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """Types of a function: `colours` is a text of hexadecimal colours, such as "ff0000 00ff00"."""

    takes: tuple[Type, ...]
    gives: Type


@dataclass(frozen=True, slots=True)
class Number:
    """A constant."""

    value: float


@dataclass(frozen=True, slots=True)
class Colours:
    """A text of colours, each channel from 0 to 1."""

    rows: tuple[tuple[float, float, float], ...]


@dataclass(frozen=True, slots=True)
class Name:
    """An input, or the value of an earlier statement."""

    name: str


@dataclass(frozen=True, slots=True)
class Call:
    """A function of the language, or an operator by the name `add`, `subtract` or `multiply`."""

    function: str
    arguments: tuple["Expression", ...]


Expression = Number | Colours | Name | Call


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A program whose names, calls and types are right."""

    statements: tuple[tuple[str, Expression], ...]
    """Names and what they stand for; the last is the picture."""


_OPERATORS = {ast.Add: "add", ast.Sub: "subtract", ast.Mult: "multiply"}


def parse(text: str, signatures: Mapping[str, Signature]) -> Program:
    """Read a program.

    Args:
        text: At most MAX_CHARACTERS in MAX_STATEMENTS statements.
        signatures: The functions that it may call.

    Raises:
        ProgramError: The text is no program.
    """
    if len(text) > MAX_CHARACTERS:
        raise ProgramError(f"program: {len(text):,} characters, at most {MAX_CHARACTERS:,}")
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as exc:
        what = getattr(exc, "msg", None) or exc
        raise ProgramError(f"program{_near(exc, text)}: {what}") from exc
    if not 1 <= len(tree.body) <= MAX_STATEMENTS:
        raise ProgramError(f"program: {len(tree.body)} statements, expected 1 to {MAX_STATEMENTS}")
    if (num_nodes := sum(1 for _ in ast.walk(tree))) > MAX_NODES:
        raise ProgramError(f"program: {num_nodes} parts, at most {MAX_NODES}")
    reader = _Reader(signatures)
    for number, statement in enumerate(tree.body, 1):
        try:
            reader.read(statement)
        except _PartError as fault:
            # A constant that the reader made itself has no place of its own.
            column = max(getattr(fault.node, "col_offset", 0) - statement.col_offset, 0) + 1
            raise ProgramError(f"program, statement {number}, column {column}: {fault}") from None
    name, _ = reader.statements[-1]
    if reader.types[name] != "colour":
        raise ProgramError(
            f"program: the last statement is a {reader.types[name]}, expected a colour"
        )
    return Program(statements=tuple(reader.statements))


class _Reader:
    """Reads one statement after the other, and remembers the types of names."""

    def __init__(self, signatures: Mapping[str, Signature]) -> None:
        self.signatures = signatures
        self.types: dict[str, Type] = dict(INPUTS)
        self.statements: list[tuple[str, Expression]] = []
        self.depth = 0

    def read(self, statement: ast.stmt) -> None:
        """Add one statement. Raises _PartError."""
        match statement:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                if name in INPUTS or name in self.signatures:
                    raise _PartError(statement, f"{name} is taken; give the value another name")
                expression, kind = self.expression(value)
                if kind == "colours":
                    raise _PartError(statement, "a text of colours belongs into a call of ramp")
                self.types[name] = kind
                self.statements.append((name, expression))
            case _:
                raise _PartError(statement, "expected NAME = EXPRESSION")

    def expression(self, node: ast.expr) -> tuple[Expression, Type]:
        """A part of a statement and its type. Raises _PartError."""
        match node:
            case ast.Constant(value=bool() | None):
                raise _PartError(node, f"{node.value!r} is no number")
            case ast.Constant(value=int() | float() as value):
                if abs(value) > MAX_NUMBER:
                    raise _PartError(node, f"a number is beyond {MAX_NUMBER:g}")
                return Number(float(value)), "number"
            case ast.Constant(value=str() as value):
                return Colours(_colours(node, value)), "colours"
            case ast.Name(id=name):
                if name not in self.types:
                    raise _PartError(node, f"{name} has no value yet")
                return Name(name), self.types[name]
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return self.call(node, "multiply", [ast.Constant(-1.0), operand])
            case ast.BinOp(left=left, op=operator, right=right) if type(operator) in _OPERATORS:
                return self.call(node, _OPERATORS[type(operator)], [left, right])
            case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]):
                if name not in self.signatures:
                    raise _PartError(node, f"no function {name}")
                return self.call(node, name, arguments)
        raise _PartError(node, f"{type(node).__name__} is not of this language")

    def call(self, node: ast.expr, name: str, nodes: list[ast.expr]) -> tuple[Expression, Type]:
        """A call whose arguments have the right number and types. Raises _PartError."""
        # Counted, because Python's own limit would be met in some callers and not in others.
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise _PartError(node, f"more than {MAX_DEPTH} calls inside each other")
        values = [self.expression(argument) for argument in nodes]
        self.depth -= 1
        kinds = tuple(kind for _, kind in values)
        arguments = tuple(value for value, _ in values)
        if name in _OPERATORS.values():
            gives = _operator_type(name, kinds)
            if gives is None:
                raise _PartError(node, f"{name} does not take {' and '.join(kinds)}")
            return Call(name, arguments), gives
        signature = self.signatures[name]
        if kinds != signature.takes:
            raise _PartError(
                node,
                f"{name} takes {', '.join(signature.takes)}, and is given "
                f"{', '.join(kinds) or 'nothing'}",
            )
        return Call(name, arguments), signature.gives


def _operator_type(name: str, kinds: tuple[Type, ...]) -> Type | None:
    """Equal types add up; a number scales anything; None for what has no meaning."""
    if "colours" in kinds:
        return None
    if kinds[0] == kinds[1]:
        return None if (name, kinds[0]) == ("multiply", "point") else kinds[0]
    if name == "multiply" and "number" in kinds:
        return kinds[0] if kinds[1] == "number" else kinds[1]
    return None


def _colours(node: ast.expr, text: str) -> tuple[tuple[float, float, float], ...]:
    rows = []
    for word in text.split():
        if len(word) != 6 or not set(word) <= set("0123456789abcdef"):
            raise _PartError(node, f"{word!r:.40} is no colour, expected six digits such as ff8800")
        red, green, blue = (int(word[at : at + 2], 16) / 255 for at in (0, 2, 4))
        rows.append((red, green, blue))
    if not 2 <= len(rows) <= 16:
        raise _PartError(node, f"{len(rows)} colours, expected 2 to 16")
    return tuple(rows)


class _PartError(Exception):
    """What is wrong with a part of a statement."""

    def __init__(self, node: ast.expr | ast.stmt, what: str) -> None:
        super().__init__(what)
        self.node = node


def _near(exc: Exception, text: str) -> str:
    """The statement in which the parser stopped, as far as it says so."""
    line, offset = getattr(exc, "lineno", None), getattr(exc, "offset", None)
    if not line or not offset:
        return ""
    before = "\n".join([*text.splitlines()[: line - 1], text.splitlines()[line - 1][: offset - 1]])
    return f", statement {before.count(';') + before.count(chr(10)) + 1}"
