"""The laws of pipeline.renderers, for every entry of the table and every family of models."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.renderers import RENDERERS, Renderer, renderer_class
from tests.views_of import requests

BATCH = 4


CONFIGURATIONS = {
    "text-to-image": ["sd", "sdxl", "pixart", "embedded"],
}
"""What each entry is tried with: a new entry has to be added here."""


@pytest.fixture(
    scope="module",
    params=[(name, model) for name in CONFIGURATIONS for model in CONFIGURATIONS[name]],
)
def renderer(request: pytest.FixtureRequest, tiny_models: dict[str, Path]) -> Renderer:
    name, model = request.param
    found = renderer_class(name)
    folder = str(tiny_models.get(model, model))
    return found(found.Config(steps=2, batch_size=BATCH, device="cpu", model=folder))


def test_every_entry_is_tested() -> None:
    assert set(CONFIGURATIONS) == set(RENDERERS)


def test_order_and_length_are_those_of_the_requests(renderer: Renderer) -> None:
    asked = requests()
    forwards = renderer.render(asked)
    backwards = renderer.render(asked[::-1])
    assert len(forwards) == len(asked)
    for one, other in zip(forwards, backwards[::-1], strict=True):
        np.testing.assert_array_equal(one.pixels, other.pixels)


def test_view_is_the_same_whatever_its_neighbours(renderer: Renderer) -> None:
    asked = requests()
    together = {r.key: v for r, v in zip(asked, renderer.render(asked), strict=True)}
    shuffled = random.Random(0).sample(asked, len(asked))
    for size in (1, 2, 3, BATCH, 2 * BATCH + 1):
        for start in range(0, len(shuffled), size):
            part = shuffled[start : start + size]
            for request, view in zip(part, renderer.render(part), strict=True):
                np.testing.assert_array_equal(view.pixels, together[request.key].pixels)


def test_views_of_one_prompt_differ(renderer: Renderer) -> None:
    views = renderer.render(requests(["a red seven"], guidance=[4.0]))
    assert len({view.pixels.tobytes() for view in views}) == len(views)


def test_guidance_changes_a_view_and_its_noise_is_shared(renderer: Renderer) -> None:
    (without,) = renderer.render(requests(["a red seven"], images_per_prompt=1, guidance=[1.0]))
    (with_it,) = renderer.render(requests(["a red seven"], images_per_prompt=1, guidance=[4.0]))
    assert (without.pixels != with_it.pixels).any()


def test_global_random_state_is_untouched(renderer: Renderer) -> None:
    torch.manual_seed(1)
    np.random.seed(1)
    random.seed(1)
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # type: ignore[index,union-attr]
    renderer.render(requests(images_per_prompt=2))
    assert torch.equal(torch.get_rng_state(), before[0])
    np.testing.assert_array_equal(np.random.get_state()[1], before[1])  # type: ignore[index]
    assert random.getstate() == before[2]


def test_pixels_are_rgb_of_the_stated_size(renderer: Renderer) -> None:
    made = renderer.provenance()
    for view in renderer.render(requests(images_per_prompt=2)):
        assert view.pixels.dtype == np.uint8
        assert view.pixels.shape == (made.height_px, made.width_px, 3)
        assert view.is_finite


def test_identity_is_json_and_enough_to_agree(renderer: Renderer) -> None:
    again = type(renderer)(renderer.config)  # type: ignore[attr-defined]
    assert json.loads(json.dumps(renderer.identity())) == renderer.identity()
    assert again.identity() == renderer.identity()
    asked = requests(images_per_prompt=2)
    for one, other in zip(renderer.render(asked), again.render(asked), strict=True):
        np.testing.assert_array_equal(one.pixels, other.pixels)
