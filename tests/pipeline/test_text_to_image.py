"""Views are those of the stock call of diffusers; settings that it would ignore are refused."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from manifests.foundation.errors import ConfigError
from pipeline.errors import ModelError, RenderMemoryError
from pipeline.renderers import text_to_image
from pipeline.renderers.text_to_image import TextToImage, TextToImageConfig
from pipeline.renderers.text_to_image.batch_size import choose_batch_size, largest_batch
from pipeline.renderers.text_to_image.calling import PipelineCall
from pipeline.views import RenderedView
from tests.sets import refused
from tests.tiny_models import CLIP_TOKENS, FAMILIES, SIZE_PX
from tests.views_of import requests


def renderer(model: object, **more: Any) -> TextToImage:
    options = {"steps": 2, "batch_size": 4, "device": "cpu"} | more
    return TextToImage(TextToImageConfig(model=str(model), **options))


@pytest.fixture
def sd(tiny_models: dict[str, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_models["sd"], tmp_path / "sd"))


def edit_json(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize("guidance", [1.0, 4.0])
@pytest.mark.parametrize("family", FAMILIES)
def test_view_equals_the_stock_call_with_the_rows_seed(
    family: str, guidance: float, tiny_models: dict[str, Path]
) -> None:
    view_requests = requests(["a red fox"], views_per_subject=4, guidance=[guidance])
    views = renderer(tiny_models[family]).render(view_requests)
    stock = diffusers.DiffusionPipeline.from_pretrained(tiny_models[family])
    # These two default to True and would change the caption and the size.
    extra = {"clean_caption": False, "use_resolution_binning": False} if family == "pixart" else {}
    images = stock(
        "a red fox",
        num_images_per_prompt=4,
        generator=[torch.Generator().manual_seed(request.seed) for request in view_requests],
        guidance_scale=guidance,
        num_inference_steps=2,
        height=SIZE_PX,
        width=SIZE_PX,
        **extra,
    ).images
    for view, image in zip(views, images, strict=True):
        np.testing.assert_array_equal(view.pixels, np.asarray(image))


@pytest.mark.parametrize("family", FAMILIES)
def test_negative_prompt_changes_guided_views_only(
    family: str, tiny_models: dict[str, Path]
) -> None:
    view_requests = requests(["a red fox"], views_per_subject=4, guidance=[1.0, 4.0])
    plain = renderer(tiny_models[family]).render(view_requests)
    steered = renderer(tiny_models[family], negative_prompt="blue").render(view_requests)
    changed = [(a.pixels != b.pixels).any() for a, b in zip(plain, steered, strict=True)]
    assert changed == [False, True, False, True]


def test_scheduler_by_name_is_used_and_recorded(sd: Path) -> None:
    view_requests = requests(["a red fox"], views_per_subject=1, guidance=[4.0])
    own, other = renderer(sd), renderer(sd, scheduler="EulerAncestralDiscreteScheduler")
    assert other.provenance().constants["scheduler"] == "EulerAncestralDiscreteScheduler"
    assert (own.render(view_requests)[0].pixels != other.render(view_requests)[0].pixels).any()


def test_relative_folder_means_the_same_to_every_worker(
    sd: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(sd.parent)
    assert TextToImageConfig(model=sd.name).model == str(sd)
    assert TextToImageConfig(model="owner/name").model == "owner/name"


def test_steps_and_size_are_the_models_own_unless_given(sd: Path) -> None:
    model = renderer(sd, steps=None)
    assert (model.config.steps, model.sizes_px) == (50, ((SIZE_PX, SIZE_PX),))
    wide = renderer(sd, size_px=(48, 32))
    assert (wide.provenance().width_px, wide.provenance().height_px) == (48, 32)
    assert wide.render(requests(views_per_subject=2))[0].pixels.shape == (32, 48, 3)


def test_tokens_beyond_the_limit_are_counted(sd: Path) -> None:
    letters = "a" * 20  # a token each: the tiny tokenizer knows no words
    (view,) = renderer(sd).render(requests([letters], views_per_subject=1, guidance=[1.0]))
    assert view.values["num_tokens_cut"] == 20 + 2 - CLIP_TOKENS


def test_safety_checker_is_never_run(sd: Path) -> None:
    checker = ["stable_diffusion", "StableDiffusionSafetyChecker"]
    edit_json(sd / "model_index.json", safety_checker=checker, requires_safety_checker=True)
    model = renderer(sd)
    model.render(requests(views_per_subject=2))
    assert model._pipe.safety_checker is None
    assert model.identity()["safety_checker"] == "not run"


def test_negative_prompt_that_a_distilled_model_ignores_is_refused(sd: Path) -> None:
    edit_json(sd / "unet" / "config.json", time_cond_proj_dim=32)
    with pytest.raises(ConfigError, match="StableDiffusionPipeline with this model ignores it"):
        renderer(sd, guidance=4.0, negative_prompt="blue").check([])
    renderer(sd, guidance=4.0).check([])


def test_guidance_that_a_distilled_model_ignores_is_refused(sd: Path) -> None:
    edit_json(sd / "unet" / "config.json", guidance_embeds=False)
    with pytest.raises(ConfigError, match="give --guidance 0"):
        renderer(sd, guidance=(1.0, 4.0)).check([])
    renderer(sd, guidance=(0.0, 1.0)).check([])


def test_words_that_the_model_does_not_know_are_named_once(
    sd: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (sd / "words.txt").write_text("a\npenguin\n")
    view_requests = requests(["a penguin", "a pengiun"], views_per_subject=2)
    with caplog.at_level("WARNING"):
        renderer(sd).check([request.subject for request in view_requests])
    (record,) = caplog.records
    assert "does not know 'pengiun' (nearest: penguin)" in record.getMessage()


def test_non_finite_pixels_are_marked(sd: Path) -> None:
    path = sd / "unet" / "diffusion_pytorch_model.safetensors"
    weights = load_file(path)
    weights["conv_out.bias"][:] = float("nan")
    save_file(weights, path, {"format": "pt"})
    views = renderer(sd).render(requests(views_per_subject=2))
    assert not any(view.is_finite for view in views)


def test_out_of_memory_is_tried_once_more_and_then_fails_with_advice(
    sd: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, calls = renderer(sd), []
    stock = PipelineCall.__call__

    def out_of_memory(self: PipelineCall, pipe: Any, batch: Any) -> Any:
        # The first batch fails once, the second one twice.
        calls.append(len(batch))
        if len(calls) in (1, 3, 4):
            raise torch.OutOfMemoryError("CUDA out of memory")
        return stock(self, pipe, batch)

    monkeypatch.setattr(PipelineCall, "__call__", out_of_memory)
    view_requests = requests(["a red fox"], views_per_subject=2, guidance=[1.0])
    assert len(model.render(view_requests)) == 2
    with pytest.raises(RenderMemoryError, match=r"batch size 4, twice; .* smaller --batch-size"):
        model.render(view_requests)
    assert calls == [4, 4, 4, 4]


def test_auto_batch_size_fills_the_batches_of_a_shard(sd: Path) -> None:
    captions = [f"a red fox {number}" for number in range(25)]
    shard = requests(captions, views_per_subject=8)  # 100 views of each of two scales
    probed = renderer(sd, batch_size="auto").probe(shard)
    assert probed.batch_size == probed.identity()["batch_size"] == 50
    alone = renderer(sd, batch_size="auto", captions_per_batch="one").probe(shard)
    assert alone.batch_size == 4  # views of a caption and a scale


@pytest.mark.parametrize(
    ("counts", "limit", "size"),
    [([200] * 5, 64, 50), ([1000], 64, 59), ([3], 64, 3), ([10] * 7, 4, 4), ([1], 1, 1)],
)
def test_a_batch_size_is_chosen_by_arithmetic(counts: list[int], limit: int, size: int) -> None:
    chosen = choose_batch_size(counts, limit)
    assert chosen == size
    computed = sum(-(-count // chosen) * chosen for count in counts)
    assert computed <= 1.03 * sum(counts) or limit < 8


def test_a_gpu_that_is_not_here_cannot_choose_a_batch_size() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(ConfigError, match=r"this machine has none; give renderer\.gpu_memory_gib"):
        renderer("embedded", batch_size="auto", device="cuda").probe(requests())


@pytest.mark.parametrize(
    ("memory_gib", "size_px", "weights", "limit"),
    [
        # Stable Diffusion 1.5 and SDXL in 16 bits, on cards of 24 and 141 GiB; FLUX on both.
        (24, 512, 2, 16),
        (141, 512, 2, 64),
        (24, 1024, 7, 2),
        (141, 1024, 7, 16),
        (24, 1024, 34, None),
        (141, 1024, 34, 16),
    ],
)
def test_the_memory_of_the_workers_limits_the_batch(
    memory_gib: float, size_px: int, weights: int, limit: int | None
) -> None:
    largest = largest_batch(
        device="cuda", pixels=size_px**2, weight_bytes=lambda: weights << 30, memory_gib=memory_gib
    )
    assert largest == limit


def test_a_driver_without_a_gpu_chooses_for_workers_that_have_one(sd: Path) -> None:
    options = {"batch_size": "auto", "device": "cuda", "size_px": 1024}
    small = renderer(sd, gpu_memory_gib=12.0, **options).probe(requests(views_per_subject=64))
    assert small.batch_size == 2
    with pytest.raises(ModelError, match="no view fits into the memory of the GPU"):
        renderer(sd, gpu_memory_gib=4.0, **options).probe(requests())


def test_a_model_that_is_spread_leaves_room_for_larger_batches() -> None:
    weights, memory_gib = 34, 48.0  # FLUX in 16 bits, on cards that hold it and no view beside it
    options = {"device": "cuda", "pixels": 1024**2, "memory_gib": memory_gib}
    limits = [
        largest_batch(weight_bytes=lambda: weights << 30, gpus=gpus, **options) for gpus in (1, 2)
    ]
    assert limits == [1, 4]


def test_only_the_largest_part_of_an_offloaded_model_is_on_the_gpu(sd: Path) -> None:
    whole, offloaded = (renderer(sd, device="cuda", offload=offload) for offload in (False, True))
    assert offloaded._weight_bytes() < whole._weight_bytes()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gpus": 2, "device": "cpu"}, "renderer.gpus: there is no GPU with device cpu"),
        ({"offload": True, "device": "cpu"}, "renderer.offload: there is no GPU"),
        (
            {"gpus": 2, "device": "cuda", "offload": True},
            "renderer.offload: not with",
        ),
        ({"gpus": 2, "device": "cuda", "speed": "fast"}, "renderer.speed: not with renderer.gpus"),
        ({"offload": True, "device": "cuda", "speed": "fast"}, "renderer.offload: not with"),
    ],
)
def test_a_placement_that_cannot_be_is_refused(
    options: dict[str, Any], message: str, sd: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        renderer(sd, **options).check([])


def test_a_model_is_loaded_once_to_begin_a_set_with_an_auto_batch(
    sd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Probe and try-out share the weights, which are given back before a worker needs room."""
    from pipeline.config import load_config
    from pipeline.generating import begin
    from pipeline.renderers.text_to_image import loading
    from tests.running import write_captions

    loads: list[object] = []
    load = loading.load_pipeline
    monkeypatch.setattr(loading, "load_pipeline", lambda *a, **k: loads.append(a) or load(*a, **k))
    flags = {"prompts.file": str(write_captions(tmp_path, ["a fox"])), "renderer.model": str(sd)}
    flags |= {"views.per_subject": 2, "renderer.steps": 1, "execution.executor": "inline"}
    begin(load_config(recipe=None, overrides=[], flags=flags), str(tmp_path / "set"))
    assert len(loads) == 1


def test_frozen_batch_size_is_taken_when_a_set_is_resumed(tmp_path: Path) -> None:
    from pipeline.config import load_config
    from pipeline.generating import begin
    from tests.running import write_captions

    flags = {"prompts.file": str(write_captions(tmp_path, ["a one"])), "views.per_subject": 2}
    flags |= {"renderer.steps": 1, "execution.executor": "inline"}
    url = str(tmp_path / "set")
    frozen = {"renderer.batch_size": 5}
    first = begin(load_config(recipe=None, overrides=[], flags=flags | frozen), url)
    again = begin(load_config(recipe=None, overrides=[], flags=flags), url)
    assert again.job.settings["renderer"]["batch_size"] == 5
    assert again.shards.recipe_sha256 == first.shards.recipe_sha256


def test_threads_of_the_process_change_no_pixel() -> None:
    view_requests = requests(views_per_subject=4)
    before = torch.get_num_threads()
    pixels = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        views = renderer("embedded").render(view_requests)
        pixels.append([view.pixels.tobytes() for view in views])
    torch.set_num_threads(before)
    assert pixels[0] == pixels[1]


def test_threads_of_the_recipe_are_part_of_the_identity() -> None:
    assert renderer("embedded", threads=2).identity()["threads"] == 2


def test_a_family_whose_texts_change_each_other_is_tried_before_a_set_is_begun(
    tmp_path: Path,
) -> None:
    """CogView4 pads texts to the longest of a call, so by default a call has one caption."""
    from pipeline.config import load_config
    from pipeline.generating import begin
    from tests.running import write_captions
    from tests.tiny_models import build

    model = build("cogview4", tmp_path / "cogview4")
    captions = ["a fox", "a long caption of a red fox that stands beside a tree in the evening"]
    flags = {"prompts.file": str(write_captions(tmp_path, captions)), "renderer.model": str(model)}
    flags |= {"views.per_subject": 2, "renderer.steps": 2, "renderer.size_px": 32}
    flags |= {"execution.executor": "inline", "renderer.batch_size": 4}
    many = {"renderer.captions_per_batch": "many"}
    with pytest.raises(ModelError, match=r"different lengths; give renderer\.captions_per_batch"):
        begin(load_config(recipe=None, overrides=[], flags=flags | many), str(tmp_path / "many"))
    generation = begin(load_config(recipe=None, overrides=[], flags=flags), str(tmp_path / "one"))
    assert generation.shards.recipe.identity.renderer_identity["captions_per_batch"] == "one"


def test_a_guidance_scale_that_changes_nothing_is_refused_for_an_unknown_class(
    sd: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request, *_ = requests(guidance=[4.0])
    renderer(sd, guidance=(4.0,)).try_request(request)
    monkeypatch.setattr(text_to_image, "is_known", lambda pipeline: False)
    acting = renderer(sd, guidance=(4.0,))
    acting.try_request(request)
    same = [RenderedView(pixels=np.zeros((SIZE_PX, SIZE_PX, 3), np.uint8))]
    monkeypatch.setattr(acting, "render", lambda requests: same)
    with pytest.raises(ModelError, match="a guidance scale of 4 changes no pixel"):
        acting.try_request(request)


@pytest.mark.parametrize("family", [*FAMILIES, "qwen-image"])
def test_fast_views_differ_in_the_last_bits_alone(family: str, tmp_path: Path) -> None:
    from tests.tiny_models import build

    view_requests = requests()
    model = build(family, tmp_path / family)
    exact = renderer(model, size_px=SIZE_PX)
    fast = renderer(model, size_px=SIZE_PX, speed="fast")
    assert exact.identity() | {"speed": "fast"} == fast.identity()
    for one, other in zip(exact.render(view_requests), fast.render(view_requests), strict=True):
        difference = np.abs(one.pixels.astype(int) - other.pixels.astype(int))
        assert difference.max() <= 1
        assert (difference > 0).mean() < 0.01


@pytest.mark.parametrize(("vae_decoding", "levels"), [("view", 1), ("tile", 255)])
def test_a_vae_decodes_in_parts(
    tiny_models: dict[str, Path], vae_decoding: str, levels: int
) -> None:
    wanted = requests()
    whole, parts = (
        renderer(tiny_models["sd"], size_px=2 * SIZE_PX, vae_decoding=how)
        for how in ("batch", vae_decoding)
    )
    assert parts.identity() == whole.identity() | {"vae_decoding": vae_decoding}
    together = parts.render(wanted)
    for one, other in zip(whole.render(wanted), together, strict=True):
        difference = np.abs(one.pixels.astype(int) - other.pixels.astype(int))
        assert difference.max() <= levels  # tiles are blended where they overlap
    assert (parts.render(wanted[:1])[0].pixels == together[0].pixels).all()
    is_done = "use_slicing" if vae_decoding == "view" else "use_tiling"
    assert getattr(parts._pipe.vae, is_done)


def test_a_vae_that_cannot_decode_in_parts_is_named(tmp_path: Path) -> None:
    from tests.tiny_models import build

    pixels = renderer(build("kandinsky3", tmp_path / "k"), size_px=64, vae_decoding="view")
    with refused(ModelError, "renderer.vae_decoding view", "cannot do it; leave it out"):
        pixels.render(requests()[:1])


def test_a_fast_view_does_not_depend_on_its_neighbours(tiny_models: dict[str, Path]) -> None:
    fast = renderer(tiny_models["sd"], speed="fast")
    wanted = requests()
    together = fast.render(wanted)
    for request, view in zip(wanted, together, strict=True):
        np.testing.assert_array_equal(fast.render([request])[0].pixels, view.pixels)


def test_batch_sizes_are_timed_and_nothing_is_made(
    sd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from click.testing import CliRunner

    from pipeline.commands.generate import generate
    from tests.running import write_captions

    monkeypatch.setattr(text_to_image, "BATCHES_TIMED", 2)
    captions = write_captions(tmp_path, ["a fox"])
    arguments = ["--prompts", captions, "--model", sd, "--steps", 1, "--out", tmp_path / "set"]
    done = CliRunner().invoke(generate, [*map(str, arguments), "--time-batches"])
    assert re.fullmatch(r"batch size 1: .* views/s\nbatch size 2: .* views/s\n", done.stdout)
    assert not (tmp_path / "set").exists()
