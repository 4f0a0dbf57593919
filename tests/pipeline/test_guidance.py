"""How pipelines are guided: the table, and that pipelines of diffusers behave as it says."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import diffusers
import pytest

from manifests.foundation.errors import ConfigError
from pipeline.errors import ModelError
from pipeline.models import find_model
from pipeline.renderers.text_to_image import TextToImage, TextToImageConfig
from pipeline.renderers.text_to_image.architecture import Architecture
from pipeline.renderers.text_to_image.guidance import _BY_CLASS, guidance_of
from tests.sets import refused
from tests.tiny_models import SIZE_PX
from tests.views_of import requests


@pytest.mark.parametrize(
    ("pipeline", "network", "kind", "argument", "none"),
    [
        ("StableDiffusionPipeline", {}, "classifier-free", "guidance_scale", 1.0),
        ("StableDiffusionPipeline", {"time_cond_proj_dim": 256}, "embedded", "guidance_scale", 0.0),
        ("FluxPipeline", {"guidance_embeds": True}, "embedded", "guidance_scale", 0.0),
        ("FluxPipeline", {"guidance_embeds": False}, "none", "guidance_scale", 1.0),
        ("SanaPipeline", {"guidance_embeds": False}, "classifier-free", "guidance_scale", 1.0),
        ("SanaSprintPipeline", {"guidance_embeds": True}, "embedded", "guidance_scale", 0.0),
        ("QwenImagePipeline", {"guidance_embeds": False}, "classifier-free", "true_cfg_scale", 1.0),
        ("QwenImagePipeline", {"guidance_embeds": True}, "embedded", "guidance_scale", 0.0),
        ("ZImagePipeline", {}, "classifier-free", "guidance_scale", 0.0),
        (
            "Flux2KleinPipeline",
            {"guidance_embeds": False},
            "classifier-free",
            "guidance_scale",
            1.0,
        ),
        ("LuminaPipeline", {}, "classifier-free", "guidance_scale", 1.0),
    ],
)
def test_guidance_of_a_family(
    pipeline: str, network: Mapping[str, Any], kind: str, argument: str, none: float
) -> None:
    guidance = guidance_of(pipeline, network, {})
    assert (guidance.kind, guidance.argument, guidance.none) == (kind, argument, none)


def test_a_distilled_klein_ignores_guidance() -> None:
    assert guidance_of("Flux2KleinPipeline", {}, {"is_distilled": True}).kind == "none"


def test_every_class_of_the_table_is_one_of_diffusers() -> None:
    for name in _BY_CLASS:
        assert hasattr(diffusers, name), name


def test_a_model_whose_pictures_have_another_size_is_refused(
    tiny_models: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    renderer = TextToImage(
        TextToImageConfig(model=str(tiny_models["sd"]), steps=1, batch_size=2, device="cpu")
    )
    pipe = renderer._pipe
    call = type(pipe).__call__

    def smaller(self: Any, *args: Any, **keys: Any) -> Any:
        return call(self, *args, **{**keys, "height": SIZE_PX // 2, "width": SIZE_PX // 2})

    monkeypatch.setattr(type(pipe), "__call__", smaller)
    with refused(ModelError, f"renders {SIZE_PX // 2} x {SIZE_PX // 2} px", "give --size"):
        renderer.render(requests(["a red fox"], views_per_subject=1, guidance=[1.0]))


def test_negative_prompts_without_a_second_pass_are_refused(
    tiny_models: dict[str, Path],
) -> None:
    architecture = Architecture(model=find_model(str(tiny_models["sd"])))
    architecture.check_guidance([4.0], has_negative_prompts=True)
    with refused(ConfigError, "steers nothing without guidance", "above 1"):
        architecture.check_guidance([1.0], has_negative_prompts=True)


def test_a_chat_template_is_part_of_a_model(tiny_models: dict[str, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_models["sd"], tmp_path / "sd"))
    before = find_model(str(folder)).revision
    (folder / "tokenizer" / "chat_template.jinja").write_text("{{ prompt }}")
    model = find_model(str(folder))
    assert "tokenizer/chat_template.jinja" in model.files
    assert model.revision != before
