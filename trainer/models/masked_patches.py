"""Patches that a ViT does not see: which they are, and the pass in which they are hidden.

Nothing is added to the tower, so that it stays what timm builds. Source: iBOT, arXiv:2111.07832,
section 3.1; collate.py and MaskTransformer.py of SynCLR in google-research/syn-rep-learn.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from manifests.foundation.errors import ConfigError
from trainer.grad_cache import in_parts


@dataclass(frozen=True, slots=True, kw_only=True)
class Masks:
    """Which crops are masked, and where."""

    order: Int[Tensor, " crops"]
    """All rows of the crops, the masked ones first."""
    patches: Int[Tensor, "masked hidden"]
    """Numbers of the hidden patches of each masked crop, row by row of the grid."""


def choose_masks(
    draws: Float[Tensor, "crops fields"],
    row_ids: Int[Tensor, " crops"],
    *,
    per_group: int,
    num_patches: int,
    crop_part: float,
    patch_part: float,
) -> Masks:
    """Choose crops of each group, and patches of each of them, at random but from ids alone.

    What is chosen in a group follows from its id and from how its crops were drawn, which differs
    in each epoch: it is the same on any number of ranks, in any order of groups, and after a
    resume. Shapes depend on the settings alone, so the host need not wait for the device.

    Args:
        draws: How each crop was made; the crops of a group are adjacent.
        row_ids: Group of each crop.
        per_group: Crops of a group.
        num_patches: Patches of a crop.
        crop_part: Part of the crops of each group that is masked, from 0 to 1. The nearest whole
            number of crops is taken, but at least one.
        patch_part: Part of their patches that is hidden, rounded down, but at least one.
    """
    noise = _noise(draws, row_ids, 1 + num_patches)
    num_crops = max(round(crop_part * per_group), 1)
    firsts = torch.arange(0, len(draws), per_group, device=draws.device)
    by_group = firsts[:, None] + noise[:, 0].reshape(-1, per_group).argsort(dim=1)
    masked, others = by_group[:, :num_crops].flatten(), by_group[:, num_crops:].flatten()
    num_hidden = max(int(patch_part * num_patches), 1)
    patches = noise[:, 1:].index_select(0, masked).argsort(dim=1)[:, :num_hidden]
    return Masks(order=torch.cat([masked, others]), patches=patches)


_LOW_BITS = 0xFFFFFFFF


def _noise(
    draws: Float[Tensor, "crops fields"], row_ids: Int[Tensor, " crops"], count: int
) -> Int[Tensor, "crops count"]:
    """Numbers of 32 bits that are a hash of each row; integers are exact on every device."""
    bits = draws.float().contiguous().view(torch.int32).long() & _LOW_BITS
    seeds = _mixed(bits ^ _counted(bits.shape[1], bits.device)).sum(1) & _LOW_BITS
    seeds = _mixed(seeds ^ (row_ids & _LOW_BITS))
    return _mixed(seeds[:, None] ^ _counted(count, bits.device))


def _counted(count: int, device: torch.device) -> Int[Tensor, " count"]:
    return _mixed(torch.arange(1, count + 1, device=device))


def _mixed(numbers: Tensor) -> Tensor:
    """Each of 32 bits, in int64, changes about half of the bits of the result.

    The factor has 27 bits, so that no product leaves int64.
    """
    for _ in range(2):
        numbers = ((numbers >> 16) ^ numbers) * 0x45D9F3B & _LOW_BITS
    return (numbers >> 16) ^ numbers


def require_patches(tower: nn.Module, *, key: str) -> int:
    """Width of a tower's patch tokens.

    Args:
        tower: Of timm.
        key: What asks for patches, for messages.

    Raises:
        ConfigError: The tower is no ViT, or drops patches by itself.
    """
    if not isinstance(tower, VisionTransformer):
        raise ConfigError(
            f"{key}: {type(tower).__name__} has no patches that can be hidden; choose a vit tower "
            f"of timm, or give --set {key}=0"
        )
    if not isinstance(tower.patch_drop, nn.Identity):
        raise ConfigError(
            f"{key}: the tower drops patches itself; leave model.args.patch_drop_rate out"
        )
    return int(tower.embed_dim)


def num_patches(tower: Any, images: Float[Tensor, "crops 3 height width"]) -> int:
    """Patches that a ViT makes of each of these images."""
    rows, columns = tower.patch_embed.dynamic_feat_size(tuple(images.shape[-2:]))
    return int(rows * columns)


def features_and_patches(
    tower: nn.Module,
    images: Float[Tensor, "crops 3 height width"],
    patches: Int[Tensor, "masked hidden"],
    mask_token: Float[Tensor, " token_dim"] | None,
    *,
    rows: int | None,
) -> tuple[Float[Tensor, "crops features"], Float[Tensor, "masked hidden token_dim"]]:
    """Features of all images, and the patch tokens of the first of them at some places.

    Args:
        tower: A ViT of timm.
        images: The masked ones first.
        patches: Places in the first images.
        mask_token: What the tower sees at these places instead of its embedding of the patch; None
            to let it see the patches, as a teacher does.
        rows: Images that may be in the tower at once (`trainer.grad_cache`); None for all.
    """

    def with_patches(some: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
        return _pass(tower, some, places, mask_token)

    num_masked = len(patches)
    features, tokens = in_parts(with_patches, rows, images[:num_masked], patches)
    if num_masked < len(images):
        (others,) = in_parts(lambda some: (tower(some),), rows, images[num_masked:])
        features = torch.cat([features, others])
    return features, tokens


def _pass(
    tower: Any, images: Tensor, patches: Tensor, mask_token: Tensor | None
) -> tuple[Tensor, Tensor]:
    hidden = torch.zeros(
        len(images), num_patches(tower, images), dtype=torch.bool, device=images.device
    ).scatter_(1, patches, True)

    def hide(module: nn.Module, inputs: Any, embedded: Tensor) -> Tensor:
        # [crops, patches, width], or [crops, rows, columns, width] from a tower of any image size.
        assert mask_token is not None
        places = hidden.reshape(*embedded.shape[:-1], 1)
        return torch.where(places, mask_token.to(embedded.dtype), embedded)

    # A hook and no copy of the tower's forward pass, which differs between versions of timm. It is
    # here for this pass alone, also when the pass is made again for its gradients.
    hook = None if mask_token is None else tower.patch_embed.register_forward_hook(hide)
    try:
        tokens = tower.forward_features(images)
    finally:
        if hook is not None:
            hook.remove()
    places = (patches + tower.num_prefix_tokens)[..., None].expand(-1, -1, tokens.shape[-1])
    return tower.forward_head(tokens), tokens.gather(1, places)
