"""Try every family of text-to-image pipelines, tiny and with random weights, and write the table.

    python -m benchmarks.families

Writes docs/families.md. tests/pipeline/test_families.py runs the same trials and compares the
table, so that it cannot go stale.
"""

import tempfile
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch

from manifests.foundation.errors import SynthError
from pipeline.ingredients import require_same_beside
from pipeline.renderers.text_to_image import TextToImage, TextToImageConfig
from pipeline.renderers.text_to_image.architecture import ONE_VIEW
from pipeline.testing.requests import requests_for
from pipeline.views import ViewRequest
from tests.tiny_models import ALL_FAMILIES, build

TABLE = Path(__file__).parents[1] / "docs" / "families.md"
BATCH = 2
CAPTIONS = (
    "a red fox",
    "a very long caption of a penguin that stands on a blue ball beside a tree, in the evening",
)
GUIDED = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What became of a family."""

    family: str
    pipeline: str
    refusal: str = ""
    """The message, if the family is refused."""
    guidance: str = ""
    negative_prompt: str = ""
    captions_per_batch: str = ""
    proven: Mapping[str, bool]
    """By law."""

    def row(self) -> str:
        """The line of the table."""
        if self.refusal:
            cells = ["refused: " + self.refusal, "", "", ""]
        else:
            proven = ", ".join(law for law, holds in self.proven.items() if holds)
            cells = [self.guidance, self.negative_prompt, self.captions_per_batch, proven]
        return f"| {' | '.join([self.family, self.pipeline, *cells])} |"


def renderer(family: str, folder: Path, **more: Any) -> TextToImage:
    """The renderer of a tiny model."""
    settings = {
        "model": str(folder),
        "steps": ALL_FAMILIES[family].steps,
        "size_px": ALL_FAMILIES[family].size_px,
        "batch_size": _batch_size(folder),
        "device": "cpu",
    }
    return TextToImage(TextToImageConfig(**(settings | more)))


def _batch_size(folder: Path) -> int:
    return 1 if _class_name(folder) in ONE_VIEW else BATCH


def _class_name(folder: Path) -> str:
    return str(diffusers.DiffusionPipeline.load_config(folder)["_class_name"])


def requests(of: TextToImage, captions: tuple[str, ...], views: int) -> list[ViewRequest]:
    """Views of captions, those of a scale with the seeds of the other."""
    return requests_for(
        captions,
        columns=of.columns(),
        variations=of.variations(),
        views_per_subject=views,
        paired=True,
    )


def try_family(family: str, folder: Path) -> Trial:
    """Render with a tiny model of a family, and compare it with the stock pipeline."""
    name = _class_name(folder)
    try:
        usual = renderer(family, folder)
        # As a set is begun: one view, alone and beside another.
        wanted = requests(usual, CAPTIONS, 1)
        (view,) = usual.render(wanted[:1])
        require_same_beside(usual, wanted[0], view.pixels, wanted[1], usual.provenance().model)
    except SynthError as exc:
        message = str(exc).replace(f"{folder}: ", "").replace(f"{folder.name}: ", "")
        return Trial(family=family, pipeline=name, refusal=message, proven={})
    guidance = usual.guidance
    scales = (guidance.none, GUIDED) if guidance.kind != "none" else (0.0,)
    model = renderer(family, folder, guidance=scales)
    takes_negative = guidance.kind == "classifier-free" and "negative_prompt" in model.arguments
    return Trial(
        family=family,
        pipeline=name,
        guidance={
            "classifier-free": f"classifier-free above {guidance.none:g}",
            "embedded": "embedded",
            "none": "none",
        }[guidance.kind]
        + ("" if guidance.argument == "guidance_scale" else f", `{guidance.argument}`"),
        negative_prompt="steers" if takes_negative else "refused",
        captions_per_batch="one view" if name in ONE_VIEW else model.config.captions_per_batch,
        proven={
            "stock call": _is_stock(family, folder, model),
            "neighbours": _is_the_same_beside_others(model),
            **_guidance_acts(family, folder, model, takes_negative),
            "bfloat16": _renders_in_bfloat16(family, folder),
        },
    )


def _is_stock(family: str, folder: Path, model: TextToImage) -> bool:
    """Whether views are those of the stock call of their caption alone."""
    pipe = diffusers.DiffusionPipeline.from_pretrained(folder, local_files_only=True)
    pipe.set_progress_bar_config(disable=True)
    num_views = model.batch_size * len(model.variations())
    wanted = requests(model, CAPTIONS, num_views)
    views = dict(zip((r.key for r in wanted), model.render(wanted), strict=True))
    for start in range(0, len(wanted), num_views):
        of_caption = wanted[start : start + num_views]
        for variation in model.variations():
            batch = [request for request in of_caption if request.variation == variation]
            scale = float(variation["guidance_scale"])
            options = dict(ALL_FAMILIES[family].options)
            if model.guidance.empty_negative is not None and model.guidance.is_guided(scale):
                options["negative_prompt"] = model.guidance.empty_negative
            output = pipe(
                prompt=batch[0].subject.text,
                num_images_per_prompt=len(batch),
                generator=[torch.Generator().manual_seed(request.seed) for request in batch],
                num_inference_steps=ALL_FAMILIES[family].steps,
                height=ALL_FAMILIES[family].size_px,
                width=ALL_FAMILIES[family].size_px,
                **{model.guidance.argument: scale},
                **options,
            )
            images = output.images if hasattr(output, "images") else output.image
            for request, image in zip(batch, images, strict=True):
                if not np.array_equal(views[request.key].pixels, np.asarray(image)):
                    return False
    return True


def _is_the_same_beside_others(model: TextToImage) -> bool:
    """Whether a view is the same alone and beside views of a longer caption."""
    wanted = requests(model, CAPTIONS, len(model.variations()))
    together = model.render(wanted)
    return all(
        np.array_equal(model.render([request])[0].pixels, view.pixels)
        for request, view in zip(wanted, together, strict=True)
    )


def _guidance_acts(
    family: str, folder: Path, model: TextToImage, takes_negative: bool
) -> Mapping[str, bool]:
    """Whether scales and negative prompts change the views that they should, and no others."""
    if model.guidance.kind == "none":
        return {}
    wanted = requests(model, CAPTIONS[:1], 2)
    free, guided = model.render(wanted)
    laws = {"guidance": not np.array_equal(free.pixels, guided.pixels)}
    if takes_negative:
        steered = renderer(
            family, folder, guidance=model.config.guidance, negative_prompt="rain"
        ).render(wanted)
        laws["negative prompt"] = np.array_equal(
            free.pixels, steered[0].pixels
        ) and not np.array_equal(guided.pixels, steered[1].pixels)
    return laws


def _renders_in_bfloat16(family: str, folder: Path) -> bool:
    """Whether it renders finite views that do not depend on others in the dtype of GPUs as well."""
    model = renderer(family, folder, dtype="bfloat16")
    wanted = requests(model, CAPTIONS, 1)
    return all(view.is_finite for view in model.render(wanted)) and _is_the_same_beside_others(
        model
    )


def markdown(trials: list[Trial]) -> str:
    """docs/families.md."""
    rows = "\n".join(trial.row() for trial in trials)
    return f"""# Families of text-to-image models

Written by `python -m benchmarks.families` with diffusers {diffusers.__version__}, and compared by
`tests/pipeline/test_families.py`: every family is built tiny, with random weights, and rendered in
batches of {BATCH} of two captions, one short and one long.

- **guidance**: how a scale acts, and above which it does.
- **captions in a batch**: `many` where views do not depend on the other captions of a call, if each
  caption is encoded alone; `one` where a call gets one caption; `one view` where it makes no more.
- **proven**: *stock call*: the pixels are those of the pipeline's own call of the caption alone, to
  the bit. *neighbours*: they are the same beside other captions. *guidance* and *negative prompt*:
  each changes the views that it should, and no others. *bfloat16*: finite, and the same beside
  others, in the type that GPUs compute in.

| family | class | guidance | negative prompt | captions in a batch | proven |
|---|---|---|---|---|---|
{rows}
"""


def main() -> None:
    """Try all families and write the table."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    trials = []
    with tempfile.TemporaryDirectory() as folder:
        for family in ALL_FAMILIES:
            start = time.perf_counter()
            trials.append(try_family(family, build(family, Path(folder) / family)))
            print(f"{trials[-1].row()} {time.perf_counter() - start:.1f} s", flush=True)
    TABLE.write_text(markdown(trials))


if __name__ == "__main__":
    main()
