"""Tiny latent generators with random weights, as files of each kind that is read."""

import warnings
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    DDIMPipeline,
    DDPMScheduler,
    DiTPipeline,
    DiTTransformer2DModel,
    UNet2DModel,
)
from torch import Tensor, nn
from torch.nn import functional as F

LATENT_DIM, NUM_CLASSES, SIDE_PX = 6, 3, 8
STATED = {"latent_dim": LATENT_DIM, "classes": NUM_CLASSES, "values": "-1 to 1"}


class Tiny(nn.Module):
    """G(z, class): smooth, with values from -1 to 1."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.of_class = nn.Embedding(NUM_CLASSES, 16)
        self.start = nn.Linear(LATENT_DIM, 16)
        self.end = nn.Linear(16, 3 * SIDE_PX**2)

    def forward(self, z: Tensor, classes: Tensor) -> Tensor:
        hidden = torch.tanh(self.start(z) + self.of_class(classes))
        return torch.tanh(self.end(hidden)).view(-1, 3, SIDE_PX, SIDE_PX)


class Unconditional(nn.Module):
    """G(z), of whatever module it is given."""

    def __init__(self, change: nn.Module | None = None) -> None:
        super().__init__()
        self.tiny, self.change = Tiny(), change or nn.Identity()

    def forward(self, z: Tensor) -> Tensor:
        return self.change(self.tiny(z, torch.zeros_like(z[:, 0], dtype=torch.int64)))


class Varied(nn.Module):
    """G(z, class) of the layers that generators are made of, some of which give lists."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(6)
        self.of_class = nn.Embedding(NUM_CLASSES, LATENT_DIM)
        self.start = nn.Linear(LATENT_DIM, 128)
        self.norm, self.groups = nn.BatchNorm2d(4), nn.GroupNorm(2, 8)
        self.up = nn.ConvTranspose2d(4, 8, 4, stride=2, padding=1)
        self.end = nn.Conv2d(8, 3, 3, padding=1)

    def forward(self, z: Tensor, classes: Tensor) -> Tensor:
        gate, values = self.start(z * self.of_class(classes)).chunk(2, dim=1)
        x = F.leaky_relu(self.norm((gate.sigmoid() * values).view(-1, 4, 4, 4)), 0.2, inplace=True)
        x = F.gelu(self.groups(self.up(x)), approximate="tanh")
        tokens = x.flatten(2).transpose(1, 2)
        tokens = tokens + F.scaled_dot_product_attention(tokens, tokens, tokens)
        x = torch.einsum("bnc,cd->bdn", tokens, torch.eye(8)).reshape(x.shape[0], 8, 8, 8)
        mean, scale = x.split([4, 4], dim=1)
        x = torch.stack(torch.unbind(torch.cat([mean * scale, mean], dim=1), dim=1), dim=1)
        return torch.tanh(self.end(x))


def inputs(model: nn.Module, batch: int = 4) -> tuple[Tensor, ...]:
    z = torch.zeros(batch, LATENT_DIM)
    return (z, torch.zeros(batch, dtype=torch.int64)) if isinstance(model, Tiny | Varied) else (z,)


def export(path: Path, model: nn.Module) -> Path:
    """Write a file of torch.export whose batch is free."""
    given = inputs(model)
    batch = torch.export.Dim("batch", min=1, max=256)
    shapes = tuple({0: batch} for _ in given)
    torch.export.save(torch.export.export(model.eval(), given, dynamic_shapes=shapes), path)
    return path


def script(path: Path, model: nn.Module) -> Path:
    """Write a TorchScript file."""
    with warnings.catch_warnings():  # torch would rather have files of torch.export
        warnings.simplefilter("ignore")
        torch.jit.trace(model.eval(), inputs(model)).save(str(path))
    return path


def onnx(path: Path, model: nn.Module) -> Path:
    """Write an ONNX file whose batch is free."""
    given = inputs(model)
    shapes = tuple({0: "batch"} for _ in given)
    with warnings.catch_warnings():  # that both inputs share one name of their first axis
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model.eval(), given, path, dynamic_shapes=shapes, external_data=False, verbose=False
        )
    return path


def ddim(folder: Path, *, num_classes: int | None = None) -> Path:
    """Write an unconditional pipeline, or with classes the parts of a conditional one."""
    torch.manual_seed(4)
    unet = UNet2DModel(
        sample_size=SIDE_PX,
        layers_per_block=1,
        block_out_channels=(8, 8),
        norm_num_groups=4,
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
        num_class_embeds=num_classes,
    )
    DDIMPipeline(unet, DDPMScheduler()).save_pretrained(folder)
    return folder


def dit(folder: Path) -> Path:
    """Write a class-conditional transformer over the latents of an autoencoder."""
    torch.manual_seed(5)
    transformer = DiTTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=8,
        in_channels=4,
        out_channels=8,
        num_layers=1,
        norm_num_groups=4,
        sample_size=SIDE_PX,
        patch_size=2,
        num_embeds_ada_norm=NUM_CLASSES + 1,
    )
    vae = AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=4,
        sample_size=2 * SIDE_PX,
    )
    DiTPipeline(transformer, vae, DDPMScheduler()).save_pretrained(folder)
    return folder
