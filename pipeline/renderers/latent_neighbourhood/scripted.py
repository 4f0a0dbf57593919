"""Generators in TorchScript: straight graphs of harmless operators.

TorchScript is a language with loops and with functions that write files, and a class of it may have
a method that runs while it is read. So a file is read only if no class has one, and called only if
its graph, with everything that it calls, has no loop and no other operator than `operators` admits.
"""

import warnings
from io import BytesIO
from pathlib import Path
from typing import Any

import torch

from manifests.foundation.messages import one_line
from pipeline.errors import ModelError
from pipeline.renderers.latent_neighbourhood.archives import read_members, write_members
from pipeline.renderers.latent_neighbourhood.operators import operator_of

_PRIMITIVES = {
    f"prim::{name}"
    for name in (
        *("Constant", "GetAttr", "ListConstruct", "ListUnpack", "TupleConstruct", "TupleUnpack"),
        *("NumToTensor", "If", "RaiseException", "Uninitialized", "unchecked_cast", "device"),
        *("dtype", "min", "max"),
    )
}
_OF_NUMBERS = {
    f"aten::{name}"
    for name in (
        *("Int", "Float", "Bool", "ScalarImplicit", "IntImplicit", "FloatImplicit", "size", "len"),
        *("__getitem__", "__is__", "__isnot__", "__not__", "__and__", "__or__", "eq", "ne", "lt"),
        *("le", "gt", "ge", "add", "sub", "mul", "div", "floordiv", "remainder", "neg", "dim"),
        *("append", "list", "floor", "ceil", "sqrt"),
    )
}
"""Operators of numbers and lists that are in no table of torch.ops, by name."""


def load_torchscript(path: Path, device: str) -> torch.nn.Module:
    """The module of a TorchScript file. Raises ModelError."""
    members = read_members(path)
    if not any(name.startswith("code/") for name in members):
        raise ModelError(
            f"{path}: a pickle of torch.save, and to read one is to run whatever program is in it; "
            "write the generator with torch.export.save(torch.export.export(G, inputs), 'NAME.pt2')"
        )
    for name, content in members.items():
        if b"__setstate__" in content or b"torch.classes" in content:
            raise ModelError(
                f"{path}: {name!r:.60} has a class that would run while it is read; no generator "
                "needs that"
            )
    load: Any = torch.jit.load
    try:
        with warnings.catch_warnings():  # of torch, that new files should not be written so
            warnings.simplefilter("ignore", FutureWarning)
            module: Any = load(BytesIO(write_members(members)), map_location=device)
        graph = module.inlined_graph
    except Exception as exc:  # a damaged file can make torch raise anything
        raise ModelError(f"{path}: no TorchScript file ({one_line(exc)})") from exc
    _require_harmless(path, graph)
    evaluated: torch.nn.Module = module.eval()
    return evaluated


def _require_harmless(path: Path, block: Any) -> None:
    for node in block.nodes():
        kind = node.kind()
        if kind not in _PRIMITIVES and kind not in _OF_NUMBERS:
            namespace, _, name = kind.partition("::")
            schema = node.schema()
            if namespace != "aten" or "(" not in schema:
                raise ModelError(f"{path}: does {kind!r:.60}, which no generator needs")
            # "aten::add.Tensor(Tensor self, ..." has the name and the overload before the bracket.
            overload = schema.partition("(")[0].partition(".")[2] or "default"
            dropout = node.namedInput("dropout_p").toIValue() if "dropout_p" in schema else None
            operator_of(str(path), name, overload, dropout=dropout)
        for inner in node.blocks():
            _require_harmless(path, inner)
