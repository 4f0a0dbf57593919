"""Look into a stranger's generator before torch reads it, and refuse what could run a program.

`torch.export.load` evaluates texts of its archive as Python (guards, symbolic sizes), unpickles
without limits where a file says so, and finds functions by name; TorchScript has functions that
write files. None of this is needed to store a generator, so archives that hold it are refused.
"""

import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from pipeline.errors import ModelError

_MAX_JSON_BYTES = 64 << 20

_EXPORT_FILES = re.compile(
    r"[^/]+/(data/weights/weight_\d+|data/constants/tensor_\d+"
    r"|data/(weights|constants)/\w+_config\.json|models/\w+\.json|data/sample_inputs/\w+\.pt"
    r"|archive_format|archive_version|version|byteorder|\.data/\w+)"
)
_TARGETS = re.compile(
    r"torch\.ops\.aten\.(?!from_file\b)\w+\.\w+"
    r"|_operator\.(add|sub|mul|floordiv|truediv|mod|pow|neg|eq|ne|ge|gt|le|lt|getitem)"
    r"|torch\.sym_(int|float|max|min|not|ite)"
)
"""Functions that a graph may call: those of tensors, and arithmetic of sizes."""
_EXPRESSION = re.compile(
    r"(Symbol|Integer|Max|Min|Mod|FloorDiv|Eq|Ne|Ge|Gt|Le|Lt|positive|integer|nonnegative"
    r"|True|False|and|or|not|size|[su]\d|L\[['\"]\w+['\"]\]|['\"][su]\d+['\"]|\d"
    r"|[\s()\[\],.=<>!+*/%-])*"
)
"""Sizes as texts: `Symbol('s0', integer=True)`, or `L['z'].size()[0] == L['c'].size()[0]`."""

_SCRIPT_FILES = re.compile(
    r"[^/]+/(data\.pkl|constants\.pkl|code/.*\.(py|debug_pkl)|(data|constants|tensors|traced_inputs)/\d+|traced_inputs.pkl"
    r"|version|byteorder|\.data/\w+|extra/\w+)"
)
_SCRIPT_CALLS = re.compile(
    r"\btorch\.(save|load|from_file|manual_seed|_load\w*)\b|\bops\.(?!prim\.|aten\.)\w+"
    r"|\b__setstate__\b|\b__getstate__\b|\b__torch__\.torch\.classes\b"
)
"""What no generator needs in TorchScript: files, the global generator, the operators of other
libraries, and what would run while the file is read."""


def require_harmless_export(path: Path) -> None:
    """Refuse a file of torch.export that holds more than a graph and numbers. Raises ModelError."""
    with _open(path) as archive:
        for name in archive.namelist():
            if not _EXPORT_FILES.fullmatch(name):
                raise ModelError(f"{path}: holds {name!r:.80}, which is no part of a graph")
        for name in archive.namelist():
            if name.endswith(".pt"):
                _require_tensors(path, archive.read(name))
            if name.endswith(".json"):
                for key, value in _entries(_read_json(path, archive, name)):
                    _require_harmless_entry(path, key, value)


def _require_harmless_entry(path: Path, key: str, value: Any) -> None:
    if key == "use_pickle" and value is not False:
        raise ModelError(
            f"{path}: holds a pickle, which can run any code; export a generator whose weights are "
            "plain dense tensors"
        )
    if key == "target" and isinstance(value, str) and not _TARGETS.fullmatch(value):
        raise ModelError(f"{path}: calls {value!r:.80}, which is no operation on tensors")
    if key in ("expr_str", "guards_code"):
        for text in value if isinstance(value, list) else [value]:
            if not isinstance(text, str) or not _EXPRESSION.fullmatch(text):
                raise ModelError(f"{path}: holds {text!r:.80}, which is no arithmetic of sizes")


def require_harmless_torchscript(path: Path) -> None:
    """Refuse a TorchScript file whose code reaches beyond tensors. Raises ModelError."""
    with _open(path) as archive:
        codes = [name for name in archive.namelist() if name.endswith(".py")]
        if not codes:
            raise ModelError(
                f"{path}: a pickle of torch.save, which can run any code; write the generator with "
                "torch.export.save(torch.export.export(G, inputs), 'NAME.pt2')"
            )
        for name in archive.namelist():
            if not _SCRIPT_FILES.fullmatch(name):
                raise ModelError(f"{path}: holds {name!r:.80}, which is no part of TorchScript")
        for name in codes:
            if archive.getinfo(name).file_size > _MAX_JSON_BYTES:
                raise ModelError(f"{path}: {name} has more than 64 MB")
            match = _SCRIPT_CALLS.search(archive.read(name).decode("utf-8", "replace"))
            if match:
                raise ModelError(f"{path}: calls {match[0]}, which no generator needs")


def _open(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile) as exc:
        raise ModelError(f"{path}: no archive ({exc})") from exc


def _require_tensors(path: Path, data: bytes) -> None:
    """Refuse a pickle of anything but tensors and containers."""
    try:
        torch.load(io.BytesIO(data), weights_only=True)
    except Exception as exc:  # whatever a pickle of a stranger makes of it
        raise ModelError(
            f"{path}: holds a pickle of more than tensors, which can run any code"
        ) from exc


def _read_json(path: Path, archive: zipfile.ZipFile, name: str) -> Any:
    try:
        if archive.getinfo(name).file_size > _MAX_JSON_BYTES:
            raise ModelError(f"{path}: {name} has more than 64 MB")
        return json.loads(archive.read(name))
    except (ValueError, RecursionError, zipfile.BadZipFile) as exc:
        raise ModelError(f"{path}: {name} is no JSON ({exc})") from exc


def _entries(document: Any) -> Iterator[tuple[str, Any]]:
    """Every key and value, at any depth."""
    waiting = [document]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            yield from value.items()
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)
