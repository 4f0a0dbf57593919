"""The image tower as one ONNX graph, which takes pixels as they are in a picture."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import onnxscript  # noqa: F401 (torch.onnx needs it, and is then too late to say what to install)
import torch
from onnx import ModelProto
from torch import Tensor, nn

from manifests.foundation.errors import ConfigError
from manifests.foundation.files import write_whole
from manifests.foundation.messages import one_line
from trainer.model_card import model_card
from trainer.models.encoder import normalize, stock_copy
from trainer.models.specs import EncoderSpec
from trainer.origin import Origin

GRAPH, CARD = "model.onnx", "README.md"

OPSET = 18
"""Version of the operators: the oldest that the exporter of torch writes without a conversion."""
MAX_BYTES = 2**31 - 2**20
"""Largest weights of a graph in one file; protobuf ends at 2 GiB."""

_USAGE = """
import numpy as np, onnxruntime
from PIL import Image

session = onnxruntime.InferenceSession("FOLDER/model.onnx")
picture = Image.open("picture.jpg").convert("RGB").resize(({px}, {px}), Image.Resampling.BICUBIC)
images = np.asarray(picture).transpose(2, 0, 1)[None]
(features,) = session.run(None, {{"images": images}})
"""

_NOTES = (
    "Input `images`: uint8, red, green and blue from 0 to 255, [batch, 3, height, width] with any "
    "batch; mean and standard deviation are in the graph. Output `features`: float32, [batch, "
    "features].",
)


class OnnxGraph:
    """`model.onnx`, from uint8 pixels to features, with its facts as metadata, and a card."""

    parts: ClassVar[tuple[str, ...]] = ("image",)
    files: ClassVar[tuple[str, ...]] = (GRAPH, CARD)

    def check(self, parts: Mapping[str, Any], spec: EncoderSpec) -> None:
        size = sum(tensor.nbytes for tensor in parts["image"].state_dict().values())
        if size > MAX_BYTES:
            raise ConfigError(
                f"export onnx: {spec.model} has {size:,} bytes of weights, one file of ONNX holds "
                f"{MAX_BYTES:,}; export it as timm-hub"
            )

    def write(
        self, folder: Path, parts: Mapping[str, Any], spec: EncoderSpec, origin: Origin
    ) -> None:
        graph = _graph(stock_copy(parts["image"], spec), spec)
        facts = {"spec": spec.model_dump(mode="json"), "made": origin.to_json()}
        for name, value in facts.items():
            graph.metadata_props.add(key=name, value=json.dumps(value))
        card = model_card(
            origin,
            spec,
            library="onnx",
            task="image-feature-extraction",
            usage=_USAGE.format(px=spec.input_px),
            notes=_NOTES,
        )
        write_whole(folder / GRAPH, graph.SerializeToString(deterministic=True))
        write_whole(folder / CARD, card.encode())


class _PixelsToFeatures(nn.Module):
    def __init__(self, tower: nn.Module, spec: EncoderSpec) -> None:
        super().__init__()
        self._tower = tower
        self._spec = spec

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self._tower(normalize(images, self._spec))
        return features


def _graph(tower: nn.Module, spec: EncoderSpec) -> ModelProto:
    # Two images, because a batch of one would be taken for a constant.
    images = torch.zeros(2, 3, spec.input_px, spec.input_px, dtype=torch.uint8)
    try:
        program = torch.onnx.export(
            _PixelsToFeatures(tower, spec).eval(),
            (images,),
            dynamo=True,
            verbose=False,
            opset_version=OPSET,
            input_names=["images"],
            output_names=["features"],
            dynamic_shapes={"images": {0: torch.export.Dim("batch")}},
        )
    except Exception as exc:  # towers break the exporter in any way that Python knows
        raise ConfigError(
            f"export onnx: torch {torch.__version__} cannot export {spec.model} ({one_line(exc)}); "
            "export it as timm-hub"
        ) from exc
    assert program is not None
    graph: ModelProto = program.model_proto
    _forget_traces(graph)
    return graph


def _forget_traces(graph: ModelProto) -> None:
    """Remove what the exporter notes of the code that it has read: paths of this machine."""
    content = graph.graph
    for noted in (content, *content.node, *content.input, *content.output, *content.value_info):
        del noted.metadata_props[:]
        noted.doc_string = ""
    for tensor in content.initializer:
        del tensor.metadata_props[:]
        tensor.doc_string = ""
