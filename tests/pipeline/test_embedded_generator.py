"""The latent generator that is shipped: its graph is computed as torch computes it."""

from pathlib import Path

import numpy as np
import pytest
import torch

from manifests.canonical import hash_file
from pipeline.embedded.sprites import concepts
from pipeline.renderers.latent_neighbourhood import LatentNeighbourhood, steering
from pipeline.renderers.latent_neighbourhood.config import LatentNeighbourhoodConfig
from pipeline.renderers.latent_neighbourhood.exported import ExportedGraph
from pipeline.renderers.latent_neighbourhood.generators import EMBEDDED_FILE, facts_beside
from pipeline.testing.requests import requests_for

MAX_BYTES = 8 << 20


def test_our_reader_computes_what_torch_computes() -> None:
    z = torch.randn(5, 96, generator=torch.Generator().manual_seed(0))
    classes = torch.tensor([3, 249, 17, 249, 248])
    with torch.inference_mode():
        ours = ExportedGraph(EMBEDDED_FILE)(z, classes)
        # Our own file, so torch may read it.
        theirs = torch.export.load(EMBEDDED_FILE).module()(z, classes)
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=0)
    assert ours.shape == (5, 3, 32, 32)


def test_it_says_what_it_is_and_stays_small() -> None:
    facts = facts_beside(EMBEDDED_FILE)
    assert (facts.latent_dim, facts.classes, facts.no_class) == (96, 250, len(concepts()))
    assert EMBEDDED_FILE.stat().st_size < MAX_BYTES


def test_directions_are_those_of_this_generator() -> None:
    directions = steering.read_directions(steering.EMBEDDED_FILE)
    assert directions.generator == hash_file(EMBEDDED_FILE)
    assert {len(vector) for vector in directions.vectors.values()} == {96}


@pytest.mark.parametrize(
    "keys",
    [{}, {"neighbourhood": "steering"}, {"neighbourhood": "angular"}, {"truncation": 2.0}],
    ids=str,
)
def test_every_neighbourhood_draws_with_nothing_downloaded(keys: dict[str, object]) -> None:
    table = {"device": "cpu", "batch_size": 4, **keys}
    renderer = LatentNeighbourhood(LatentNeighbourhoodConfig.model_validate(table))
    wanted = requests_for(
        ["anchor 0 of seed 0"],
        columns=renderer.columns(),
        variations=renderer.variations(),
        views_per_subject=12,
        kind="latent",
        values={"class_index": -1},
    )
    renderer.check([wanted[0].subject])
    views = renderer.render(wanted)
    assert all(np.ptp(view.pixels) > 50 for view in views)
    assert len({view.pixels.tobytes() for view in views}) == 12


def test_a_small_step_changes_little_and_a_large_one_much() -> None:
    def distance(sigma: float) -> float:
        table = {"device": "cpu", "batch_size": 8, "sigma": (0.0, sigma)}
        renderer = LatentNeighbourhood(LatentNeighbourhoodConfig.model_validate(table))
        wanted = requests_for(
            [f"anchor {number} of seed 5" for number in range(16)],
            columns=renderer.columns(),
            variations=renderer.variations(),
            views_per_subject=2,
            kind="latent",
            values={"class_index": -1},
        )
        pixels = np.stack([view.pixels.astype(float) for view in renderer.render(wanted)])
        return float(np.abs(pixels[::2] - pixels[1::2]).mean())

    near, far = distance(0.05), distance(1.5)
    assert near < 0.5 * far


def test_the_card_names_the_file_and_the_artists() -> None:
    card = Path(EMBEDDED_FILE).parents[1] / "GENERATOR_CARD.md"
    text = card.read_text()
    for words in ("Noto Emoji", "Twemoji", "Fluent Emoji", "Nothing by Emoji One or OpenMoji"):
        assert words in text
