"""Graphs of torch.export, read from their JSON and computed node by node.

`torch.export.load` evaluates texts of a file as Python, imports modules that it names, and
unpickles where it says so (docs/adr/0019). Here a graph is a list of calls of harmless operators
(`operators`) on named values, and nothing else of the file is looked at.
"""

import json
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.errors import ModelError
from pipeline.renderers.latent_neighbourhood.archives import read_members
from pipeline.renderers.latent_neighbourhood.operators import operator_of

_DTYPES = {
    **{1: torch.uint8, 2: torch.int8, 3: torch.int16, 4: torch.int32, 5: torch.int64},
    **{6: torch.float16, 7: torch.float32, 8: torch.float64, 12: torch.bool, 13: torch.bfloat16},
}
"""Numbers of `ScalarType` in torch/_export/serde/schema.py."""
_FORMATS = {1: torch.contiguous_format, 2: torch.channels_last, 4: torch.preserve_format}
_STRIDED = 7
_ATTENTION = "scaled_dot_product_attention"
_ARITHMETIC: Mapping[str, Callable[..., Any]] = {
    f"_operator.{name}": getattr(operator, name)
    for name in ("add", "sub", "mul", "floordiv", "truediv", "mod", "neg", "getitem")
}
"""Of sizes; no powers, which could take for ever."""
_SKIPPED = ("aten._assert_tensor_metadata.default", "aten._assert_scalar.default",
            "aten.sym_constrain_range_for_size.default")  # fmt: skip
"""Checks of a graph's own assumptions, which give no value."""


@dataclass(frozen=True, slots=True)
class _Value:
    """The name of a value that is computed before."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Call:
    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    keywords: Mapping[str, Any]
    results: tuple[str, ...]
    is_single: bool
    """Whether the function gives its one result itself, and not a list or a tuple of results."""
    unused: tuple[str, ...] = ()
    """Values that no later call needs."""


class ExportedGraph(nn.Module):
    """A module of a file of torch.export, with G(z) or G(z, class).

    Raises:
        ModelError: The file holds no such graph, or one that calls something else than harmless
            operators.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        members = read_members(path)
        try:
            self._read(members)
        except ModelError:
            raise
        except Exception as exc:  # the JSON of a stranger: whatever its shape makes of it
            raise ModelError(
                f"{path}: no graph of torch.export as torch 2.15 writes it "
                f"({type(exc).__name__}: {exc!s:.80})"
            ) from exc

    def _read(self, members: Mapping[str, bytes]) -> None:
        models = [name for name in members if name.startswith("models/") and name.endswith(".json")]
        if len(models) != 1:
            raise ModelError(
                f"{self.path}: holds {len(models)} graphs of torch.export, expected one; write it "
                "with torch.export.save(torch.export.export(G, inputs), 'NAME.pt2')"
            )
        document = json.loads(members[models[0]])["graph_module"]
        graph, signature = document["graph"], document["signature"]
        stored = {}
        for kind in ("weights", "constants"):
            (name,) = [n for n in members if n.startswith(f"data/{kind}/") and n.endswith(".json")]
            for key, payload in json.loads(members[name])["config"].items():
                stored[key] = self._tensor(members, kind, payload)
        self._inputs: list[str] = []
        self.shapes: list[list[int | None]] = []
        self._names: dict[str, str] = {}
        for index, spec in enumerate(signature["input_specs"]):
            ((role, content),) = spec.items()
            if role == "user_input":
                name = content["arg"]["as_tensor"]["name"]
                self._inputs.append(name)
                sizes = graph["tensor_values"][name]["sizes"]
                self.shapes.append([size.get("as_int") for size in sizes])
                continue
            key = {"parameter": "parameter_name", "buffer": "buffer_name",
                   "tensor_constant": "tensor_constant_name"}[role]  # fmt: skip
            # A name of our own: theirs may be anything.
            own = f"stored_{index}"
            self._names[content["arg"]["name"]] = own
            self.register_buffer(own, stored[content[key]])
        outputs = graph["outputs"]
        if len(outputs) != 1 or len(self._inputs) not in (1, 2):
            raise ModelError(
                f"{self.path}: takes {len(self._inputs)} tensors and gives {len(outputs)}, "
                "expected G(z) or G(z, class) and one picture"
            )
        self._output = outputs[0]["as_tensor"]["name"]
        self._calls = self._calls_of(graph["nodes"])

    def _tensor(self, members: Mapping[str, bytes], kind: str, payload: Any) -> Tensor:
        meta = payload["tensor_meta"]
        if payload["use_pickle"] is not False or meta is None or meta["layout"] != _STRIDED:
            raise ModelError(
                f"{self.path}: holds a pickle, and to read one is to run whatever program is in "
                "it; export a generator whose weights are plain dense tensors"
            )
        sizes, strides = ([n["as_int"] for n in meta[key]] for key in ("sizes", "strides"))
        data = members[f"data/{kind}/{payload['path_name']}"]
        values = torch.frombuffer(bytearray(data), dtype=_DTYPES[meta["dtype"]])
        # torch refuses sizes that reach beyond the values.
        return values.as_strided(sizes, strides, meta["storage_offset"]["as_int"])

    def _calls_of(self, nodes: Sequence[Any]) -> list[_Call]:
        calls: list[_Call] = []
        for node in nodes:
            target = node["target"].removeprefix("torch.ops.")
            if target in _SKIPPED:
                continue
            given = {
                entry["name"]: (self._argument(entry["arg"]), entry["kind"])
                for entry in node["inputs"]
            }
            function = _ARITHMETIC.get(target)
            if function is None:
                parts = target.split(".")
                if len(parts) != 3 or parts[0] != "aten":
                    raise ModelError(
                        f"{self.path}: calls {target!r:.80}, which is no operator of aten"
                    )
                dropout = given.get("dropout_p", (0.0, 2))[0] if parts[1] == _ATTENTION else None
                function = operator_of(str(self.path), parts[1], parts[2], dropout=dropout)
            results, is_single = _results(node["outputs"])
            calls.append(
                _Call(
                    function=function,
                    # Kind 2 is an argument that is passed by its name.
                    arguments=tuple(value for value, kind in given.values() if kind != 2),
                    keywords={n: value for n, (value, kind) in given.items() if kind == 2},
                    results=results,
                    is_single=is_single,
                )
            )
        return _with_ends(calls, self._output)

    def _argument(self, argument: Any) -> Any:
        ((kind, value),) = argument.items()
        match kind:
            case "as_none":
                return None
            case "as_int" | "as_float" | "as_bool" | "as_string":
                return value
            case "as_ints" | "as_floats" | "as_bools":
                return list(value)
            case "as_tensor":
                return _Value(value["name"])
            case "as_tensors":
                return [_Value(tensor["name"]) for tensor in value]
            case "as_optional_tensors":
                return [self._argument(tensor) for tensor in value]
            case "as_sym_int" | "as_sym_float" | "as_sym_bool":
                return self._size(value)
            case "as_sym_ints":
                return [self._size(size) for size in value]
            case "as_scalar_type":
                return _DTYPES[value]
            case "as_memory_format":
                return _FORMATS[value]
            case "as_layout" if value == _STRIDED:
                return torch.strided
            case "as_device":
                return None  # where the other arguments are
        raise ModelError(f"{self.path}: an argument of kind {kind!r:.40} is not known here")

    @staticmethod
    def _size(value: Any) -> Any:
        ((kind, content),) = value.items()
        return _Value(content) if kind == "as_name" else content

    def forward(self, *inputs: Tensor) -> Tensor:
        """Pictures of latents, and of classes if the graph takes them."""
        values: dict[str, Any] = dict(zip(self._inputs, inputs, strict=True))
        values |= {theirs: getattr(self, own) for theirs, own in self._names.items()}
        device = inputs[0].device

        def known(argument: Any) -> Any:
            if isinstance(argument, _Value):
                return values[argument.name]
            return list(map(known, argument)) if isinstance(argument, list) else argument

        for call in self._calls:
            keywords = {name: known(value) for name, value in call.keywords.items()}
            if keywords.get("device", 0) is None:
                keywords["device"] = device
            given = call.function(*map(known, call.arguments), **keywords)
            values.update(zip(call.results, (given,) if call.is_single else given, strict=True))
            for name in call.unused:
                del values[name]
        picture: Tensor = values[self._output]
        return picture


def _results(outputs: Sequence[Any]) -> tuple[tuple[str, ...], bool]:
    """Names of what a call gives, and whether that is one value and no list."""
    kinds = [next(iter(output)) for output in outputs]
    if kinds == ["as_tensors"]:  # one list, as `chunk` gives it
        return tuple(tensor["name"] for tensor in outputs[0]["as_tensors"]), False
    names = []
    for output, kind in zip(outputs, kinds, strict=True):
        # A tensor has a `name`, a size an `as_name`.
        names.append(output[kind]["name" if kind == "as_tensor" else "as_name"])
    return tuple(names), len(names) == 1


def _with_ends(calls: Sequence[_Call], output: str) -> list[_Call]:
    """The calls, each with the results of calls that nothing needs after it."""
    made = {name for call in calls for name in call.results}
    needed: set[str] = set()
    ended: list[_Call] = []
    for call in reversed(calls):
        used = {*_names_in([*call.arguments, *call.keywords.values()]), *call.results}
        last = {name for name in used & made if name not in needed and name != output}
        needed |= used
        ended.append(replace(call, unused=tuple(sorted(last))))
    return ended[::-1]


def _names_in(arguments: Sequence[Any]) -> set[str]:
    names = set()
    for argument in arguments:
        if isinstance(argument, _Value):
            names.add(argument.name)
        elif isinstance(argument, list):
            names |= _names_in(argument)
    return names
