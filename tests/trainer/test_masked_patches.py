"""Which patches are hidden, and that the tower does not see them."""

from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from manifests.foundation.errors import ConfigError
from tests.sets import refused
from trainer.models.masked_patches import (
    Masks,
    choose_masks,
    features_and_patches,
    num_patches,
    require_patches,
)

VIEWS, PATCHES = 4, 16


def draws(groups: int) -> Tensor:
    return torch.rand(groups * VIEWS, 13, generator=torch.Generator().manual_seed(0))


def chosen(fields: Tensor, ids: Tensor, **changes: Any) -> Masks:
    settings = {"per_group": VIEWS, "num_patches": PATCHES, "crop_part": 0.5, "patch_part": 0.5}
    return choose_masks(fields, ids.repeat_interleave(VIEWS), **(settings | changes))


def by_row(masks: Masks) -> dict[int, list[int]]:
    """The hidden patches of each masked crop, sorted."""
    rows = masks.order[: len(masks.patches)].tolist()
    hidden = (sorted(places) for places in masks.patches.tolist())
    return dict(zip(rows, hidden, strict=True))


@pytest.mark.parametrize(
    ("crop_part", "patch_part", "crops", "patches"),
    [(0.5, 0.5, 2, 8), (1.0, 0.3, 4, 4), (0.1, 0.01, 1, 1)],
)
def test_each_group_has_equally_many_masked_crops(
    crop_part: float, patch_part: float, crops: int, patches: int
) -> None:
    masks = chosen(draws(3), torch.tensor([5, 7, 9]), crop_part=crop_part, patch_part=patch_part)
    assert sorted(masks.order.tolist()) == list(range(12))
    assert masks.patches.shape == (3 * crops, patches)
    masked = masks.order[: len(masks.patches)]
    assert torch.bincount(masked // VIEWS, minlength=3).tolist() == [crops] * 3
    assert all(len(set(places)) == patches for places in masks.patches.tolist())


def test_masks_of_a_group_do_not_depend_on_the_other_groups() -> None:
    fields, ids = draws(6), torch.tensor([5, 7, 9, 5, 1, 2])
    whole = by_row(chosen(fields, ids))
    second_rank = by_row(chosen(fields[3 * VIEWS :], ids[3:]))
    assert {row + 3 * VIEWS: places for row, places in second_rank.items()} == {
        row: places for row, places in whole.items() if row >= 3 * VIEWS
    }


def test_other_draws_and_other_ids_are_other_masks() -> None:
    fields, ids = draws(1), torch.tensor([5])
    first = by_row(chosen(fields, ids))
    assert by_row(chosen(fields + 0.001, ids)) != first
    assert by_row(chosen(fields, ids + 1)) != first


def test_every_crop_and_every_patch_is_hidden_equally_often() -> None:
    groups = 4000
    masks = chosen(draws(groups), torch.arange(groups))
    masked = masks.order[: len(masks.patches)]
    # Standard deviations of these shares are 0.008 and 0.0056.
    crops = torch.bincount(masked % VIEWS, minlength=VIEWS) / groups
    patches = torch.bincount(masks.patches.flatten(), minlength=PATCHES) / len(masks.patches)
    assert crops.tolist() == pytest.approx([0.5] * VIEWS, abs=0.04)
    assert patches.tolist() == pytest.approx([0.5] * PATCHES, abs=0.028)


def tower(**arguments: Any) -> nn.Module:
    torch.manual_seed(0)
    small = {"img_size": 16, "patch_size": 4, "embed_dim": 24, "depth": 2, "num_heads": 2}
    vit: nn.Module = timm.create_model("vit_tiny_patch16_224", num_classes=0, **(small | arguments))
    return vit.eval()


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"dynamic_img_size": True},
        {"global_pool": "avg"},
        {"reg_tokens": 2},
        {"class_token": False, "global_pool": "avg"},
    ],
    ids=str,
)
@pytest.mark.parametrize("rows", [None, 2])
def test_what_is_hidden_has_no_effect_and_what_is_seen_has_one(
    arguments: dict[str, Any], rows: int | None
) -> None:
    vit, mask_token = tower(**arguments), torch.full((24,), 0.1)
    images = torch.randn(3, 3, 16, 16)
    assert num_patches(vit, images) == 16
    patches = torch.tensor([[0, 5], [3, 15]])  # the third image is not masked
    changed = images.clone()
    changed[0, :, :4, :4] += 1.0  # patch 0
    changed[1, :, 12:, 12:] += 1.0  # patch 15
    with torch.no_grad():
        first, second = (
            features_and_patches(vit, some, patches, mask_token, rows=rows)
            for some in (images, changed)
        )
        seen = features_and_patches(vit, changed, patches, None, rows=rows)
        expected = vit(images), vit(changed)
    for before, after in zip(first, second, strict=True):
        torch.testing.assert_close(before, after)
    torch.testing.assert_close(first[0][2], expected[0][2])
    assert not torch.allclose(first[0][:2], expected[0][:2], atol=1e-3)
    torch.testing.assert_close(seen[0], expected[1])
    with torch.no_grad():
        tokens = vit.forward_features(changed)[:, vit.num_prefix_tokens :]
    torch.testing.assert_close(seen[1], torch.stack([tokens[0, [0, 5]], tokens[1, [3, 15]]]))
    assert not vit.patch_embed._forward_hooks


def test_towers_without_patches_of_their_own_are_refused() -> None:
    with refused(ConfigError, "objective.patch_weight", "ResNet has no patches"):
        require_patches(timm.create_model("resnet18"), key="objective.patch_weight")
    with refused(ConfigError, "drops patches itself", "patch_drop_rate"):
        require_patches(tower(patch_drop_rate=0.1), key="objective.patch_weight")
    assert require_patches(tower(), key="objective.patch_weight") == 24
