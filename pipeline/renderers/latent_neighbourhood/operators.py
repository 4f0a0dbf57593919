"""Which operators of torch a stranger's graph may call: pure functions of tensors and numbers."""

import re
from typing import Any

import torch

from pipeline.errors import ModelError

_NAME = re.compile(r"_?[a-z][a-z0-9_]*")
_FORBIDDEN = re.compile(
    r"_unsafe_(index|masked)|from_file|save$|load|manual_seed|^set_|resize|storage|data_ptr|print"
    r"|warn|^_assert|pickle|generator|_cuda_|set_data|record_stream"
)
"""Names of operators that reach beyond their arguments, or beyond the memory of a tensor."""
_TEXTS = {
    *("approximate", "rounding_mode", "mode", "indexing", "padding", "padding_mode", "equation"),
}
"""Arguments that are a choice or a formula; other texts could name files."""
_KINDS = re.compile(
    r"Tensor|Tensor\(\w!?\)|int|float|bool|number|Scalar|SymInt|SymFloat|SymBool|complex"
    r"|ScalarType|Layout|Device|MemoryFormat"
)
_WRAPPER = re.compile(r"(?:Optional|List)\[(.*)\]|(.*?)(?:\?|\[\d*\])")


def operator_of(
    path: str, name: str, overload: str, *, dropout: object = None
) -> torch._ops.OpOverload:
    """An operator of aten that is harmless. Raises ModelError.

    Args:
        dropout: Its argument `dropout_p`, if it has one: without dropout, attention draws nothing.

    Example: `operator_of("g.pt2", "add", "Tensor")`.
    """
    packet: Any = None
    if _NAME.fullmatch(name) and not _FORBIDDEN.search(name):
        packet = getattr(torch.ops.aten, name, None)
    operator = None
    if isinstance(packet, torch._ops.OpOverloadPacket) and overload in _overloads(packet):
        operator = getattr(packet, overload)
    if not isinstance(operator, torch._ops.OpOverload) or not _is_pure(operator, dropout):
        raise ModelError(
            f"{path}: calls {f'aten.{name}.{overload}'!r:.80}, which is no function of tensors and "
            "numbers alone"
        )
    return operator


def _is_pure(operator: torch._ops.OpOverload, dropout: object) -> bool:
    if torch.Tag.nondeterministic_seeded in operator.tags and dropout != 0:
        return False  # it draws from the global generator
    schema = operator._schema
    for argument in schema.arguments:
        kind = str(argument.type)
        if _is_kind(kind, "str") and argument.name in _TEXTS:
            continue
        if _is_kind(kind, "Generator") or _is_kind(kind, "(?:Py)?Device(?:ObjType)?"):
            continue
        if not _is_kind(kind, _KINDS.pattern):
            return False
    return bool(schema.returns) and all(
        _is_kind(str(value.type), _KINDS.pattern) for value in schema.returns
    )


def _is_kind(kind: str, pattern: str) -> bool:
    """Whether a type is of a kind, or a list of it, or optional."""
    while not re.fullmatch(pattern, kind):
        match = _WRAPPER.fullmatch(kind)
        if match is None:
            return False
        kind = match[1] or match[2] or ""
    return True


def _overloads(packet: Any) -> list[str]:
    names: list[str] = packet.overloads()
    return names
