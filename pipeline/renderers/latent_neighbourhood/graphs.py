"""Generators in one file: graphs of torch.export, TorchScript and ONNX, tried out once.

A pickled module is refused: to read a pickle is to run whatever program is in it.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from manifests.foundation.messages import one_line
from pipeline.errors import ModelError
from pipeline.renderers.latent_neighbourhood.archives import read_file
from pipeline.renderers.latent_neighbourhood.exported import ExportedGraph
from pipeline.renderers.latent_neighbourhood.generators import Facts
from pipeline.renderers.latent_neighbourhood.scripted import load_torchscript

TOLERANCE = 0.01
"""How far a value may be beyond the stated range: what a float of 16 bits rounds to."""


class GraphGenerator:
    """A generator read from a file. See `generators.Generator`."""

    keeps_variance = False

    def __init__(self, path: Path, facts: Facts, *, batch_size: int, device: str) -> None:
        """Load and try it out once, with a batch of latents.

        Raises:
            ModelError: The file is none of the three, or not the generator that is stated.
        """
        self.path, self.device = path, torch.device(device)
        self.is_differentiable = path.suffix.lower() != ".onnx"
        self.call, read = _load(path, device)
        latent_dim = facts.latent_dim or read.latent_dim
        if latent_dim is None:
            raise ModelError(
                f"{path}: does not say how many numbers a latent has; give renderer.latent_dim"
            )
        self.latent_dim = latent_dim
        classes = facts.classes if facts.classes is not None else read.classes
        if classes is None:
            raise ModelError(
                f"{path}: does not say how many classes it knows; give renderer.classes, 0 for none"
            )
        self.num_classes = classes
        if facts.values is None:
            raise ModelError(
                f"{path}: does not say the range of its pixels; give renderer.values '-1 to 1' or "
                "'0 to 1'"
            )
        self.is_signed = facts.values == "-1 to 1"
        self.size_px = self._try(batch_size)

    def _try(self, batch_size: int) -> int:
        """Side of the pictures. Raises ModelError."""
        rng = torch.Generator().manual_seed(0)
        latents = torch.randn(batch_size, self.latent_dim, generator=rng).to(self.device)
        classes = None
        if self.num_classes:
            classes = torch.zeros(batch_size, dtype=torch.int64, device=self.device)
        try:
            with torch.inference_mode():
                given = self.call(latents, classes)
        except Exception as exc:  # a foreign graph can raise anything
            raise ModelError(
                f"{self.path}: fails on latents [{batch_size}, {self.latent_dim}]"
                f"{' and classes' if self.num_classes else ''} ({one_line(exc)}); check "
                "renderer.latent_dim, renderer.classes and --batch-size"
            ) from exc
        if not isinstance(given, Tensor) or not given.is_floating_point():
            kind = given.dtype if isinstance(given, Tensor) else type(given).__name__
            raise ModelError(f"{self.path}: gives {kind}, expected floating-point pixels")
        shape = list(given.shape)
        if len(shape) != 4 or shape[:2] != [batch_size, 3] or shape[2] != shape[3]:
            raise ModelError(f"{self.path}: gives {shape}, expected [{batch_size}, 3, side, side]")
        self._require_range(given)
        return shape[2]

    def __call__(self, latents: Tensor, classes: Tensor | None) -> Tensor:
        """Pictures from 0 to 1. Raises ModelError where they are beyond the stated range."""
        pictures: Tensor = self.call(latents, classes).float()
        self._require_range(pictures)
        return (pictures + 1) / 2 if self.is_signed else pictures

    def _require_range(self, pictures: Tensor) -> None:
        low = -1.0 if self.is_signed else 0.0
        beyond = torch.stack([low - pictures.amin(), pictures.amax() - 1]).amax()
        if beyond > TOLERANCE:  # never true of NaN, which is a fault of single views
            raise ModelError(
                f"{self.path}: pixels from {float(pictures.amin()):.3g} to "
                f"{float(pictures.amax()):.3g}, expected {low:g} to 1; check renderer.values"
            )


def load_generator(path: Path, device: str) -> torch.nn.Module:
    """The module of a file of torch.export, or of TorchScript by any other name than .pt2.

    Raises:
        ModelError: The file is neither, or holds more than a graph of tensors.
    """
    if path.suffix.lower() == ".pt2":
        return ExportedGraph(path).to(device)
    return load_torchscript(path, device)


def _load(path: Path, device: str) -> tuple[Callable[[Tensor, Tensor | None], Any], Facts]:
    """A callable G(z, classes or None), and what its file says. Raises ModelError."""
    if path.suffix.lower() == ".onnx":
        return _load_onnx(path, device)
    module, facts = load_generator(path, device), Facts()
    if isinstance(module, ExportedGraph):
        shape = module.shapes[0]
        facts = Facts(
            latent_dim=shape[1] if len(shape) == 2 else None,
            classes=None if len(module.shapes) > 1 else 0,
        )
    return (lambda z, classes: module(z) if classes is None else module(z, classes)), facts


_ENDLESS = {"Loop", "Scan"}


def _load_onnx(path: Path, device: str) -> tuple[Callable[[Tensor, Tensor | None], Any], Facts]:
    try:
        import onnx
        import onnxruntime
    except ImportError as exc:
        raise ModelError(f"{path}: ONNX needs the extra: pip install 'synth-rep[onnx]'") from exc
    data = read_file(path)
    try:
        model = onnx.load_model_from_string(data)
        _require_plain(path, model.graph)
    except ModelError:
        raise
    except Exception as exc:  # bytes of a stranger
        raise ModelError(f"{path}: no ONNX graph ({one_line(exc)})") from exc
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    wanted = {"cuda": "CUDAExecutionProvider", "cpu": "CPUExecutionProvider"}[device]
    if wanted not in onnxruntime.get_available_providers():
        raise ModelError(f"{path}: onnxruntime here has no {wanted}; give renderer.device cpu")
    try:
        session = onnxruntime.InferenceSession(data, options, providers=[wanted])
    except Exception as exc:
        raise ModelError(f"{path}: no ONNX graph ({one_line(exc)})") from exc
    inputs = session.get_inputs()
    if len(inputs) not in (1, 2) or len(session.get_outputs()) != 1:
        raise ModelError(
            f"{path}: takes {len(inputs)} tensors and gives {len(session.get_outputs())}, "
            "expected G(z) or G(z, class) and one picture"
        )

    def call(z: Tensor, classes: Tensor | None) -> Tensor:
        values = [z] if classes is None else [z, classes]
        named = {i.name: v.cpu().numpy() for i, v in zip(inputs, values, strict=True)}
        (given,) = session.run(None, named)
        return torch.from_numpy(given).to(z.device)

    shape = inputs[0].shape
    dim = shape[1] if len(shape) == 2 and isinstance(shape[1], int) else None
    return call, Facts(latent_dim=dim, classes=None if len(inputs) > 1 else 0)


def _require_plain(path: Path, graph: Any) -> None:
    """Refuse loops, and weights in other files, which no hash would cover. Raises ModelError."""
    for tensor in graph.initializer:
        if tensor.data_location == 1:  # EXTERNAL
            raise ModelError(f"{path}: keeps weights in other files; save it as one file")
    for node in graph.node:
        if node.op_type in _ENDLESS:
            raise ModelError(f"{path}: has a {node.op_type}, which may never end")
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                _require_plain(path, inner)
