"""Opens every folder of exports with the library that it is for, in a process without our code.

python stock_models.py FOLDER: each FOLDER/NAME has `images.npy`, uint8 [images, 3, height, width],
and the files of one export; what the library makes of it is written to FOLDER/NAME/stock.npz. The
code in its card is run.
"""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import open_clip
import timm
import torch
from huggingface_hub import ModelCard
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn

Arrays = dict[str, np.ndarray]

TEXTS = ["a red fox", "two pears"]


def normal(images: np.ndarray, config: dict) -> Tensor:
    mean, std = (torch.tensor(config[name]).view(1, 3, 1, 1) for name in ("mean", "std"))
    return (torch.from_numpy(images).float() / 255 - mean) / std


def timm_run(folder: Path, images: np.ndarray) -> Arrays:
    spec = json.loads((folder / "encoder.json").read_text())["spec"]
    model = timm.create_model(spec["model"], num_classes=0, **spec["args"])
    model.load_state_dict(load_file(folder / "encoder.safetensors"), strict=True)
    by_hand = model.eval()(normal(images, spec)).numpy()
    return {"by_hand": by_hand, **timm_hub(folder, images)}


def text_half(folder: Path, images: np.ndarray) -> Arrays:
    spec = json.loads((folder / "text.json").read_text())["spec"]
    tokenizer = open_clip.tokenizer.SimpleTokenizer(context_length=spec["context_length"])
    text = open_clip.transformer.TextTransformer(
        context_length=spec["context_length"],
        vocab_size=tokenizer.vocab_size,
        width=spec["width"],
        heads=spec["heads"],
        layers=spec["layers"],
        output_dim=spec["embed_dim"],
        act_layer=open_clip.transformer.QuickGELU,
    )
    tensors = load_file(folder / "text.safetensors")
    prefix = "text."
    weights = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
    text.load_state_dict(weights, strict=True)
    return {"texts": nn.functional.normalize(text.eval()(tokenizer(TEXTS)), dim=-1).numpy()}


def timm_hub(folder: Path, images: np.ndarray) -> Arrays:
    name = f"local-dir:{folder}"
    model = timm.create_model(name, pretrained=True, num_classes=0).eval()
    config = timm.data.resolve_model_data_config(model)
    classifier = timm.create_model(name, pretrained=True, num_classes=7).eval()
    inputs = normal(images, config)
    return {
        "features": model(inputs).numpy(),
        "before_classifier": classifier.forward_head(
            classifier.forward_features(inputs), pre_logits=True
        ).numpy(),
        "input_size": np.array(config["input_size"]),
        "mean": np.array(config["mean"]),
        "std": np.array(config["std"]),
        "crop_pct": np.array(config["crop_pct"]),
        "interpolation": np.array(config["interpolation"]),
    }


def open_clip_pair(folder: Path, images: np.ndarray) -> Arrays:
    name = f"local-dir:{folder}"
    model, _, preprocess = open_clip.create_model_and_transforms(name)
    tokens = open_clip.get_tokenizer(name)(TEXTS)
    pictures = [Image.fromarray(image.transpose(1, 2, 0)) for image in images]
    inputs = torch.stack([preprocess(picture) for picture in pictures])
    logits, _ = model.eval().get_logits(inputs, tokens)
    return {"logits": logits.numpy()}


def onnx_graph(folder: Path, images: np.ndarray) -> Arrays:
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"))
    facts = session.get_modelmeta().custom_metadata_map
    return {
        "features": session.run(["features"], {"images": images})[0],
        "one": session.run(["features"], {"images": images[:1]})[0],
        "objective": np.array(json.loads(facts["made"])["objective"]),
    }


OPENERS: dict[str, Callable[[Path, np.ndarray], Arrays]] = {
    "encoder.json": timm_run,
    "text.json": text_half,
    "config.json": timm_hub,
    "open_clip_config.json": open_clip_pair,
    "model.onnx": onnx_graph,
}


def run_usage(card: str, folder: Path) -> None:
    """Run the code of a card beside a picture."""
    (code,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    picture = folder.parent.with_suffix(".jpg")
    Image.new("RGB", (40, 30), "red").save(picture)
    exec(code.replace("FOLDER", str(folder)).replace("picture.jpg", str(picture)), {})


def main() -> None:
    for folder in sorted(Path(sys.argv[1]).iterdir()):
        opener, *_ = [OPENERS[file] for file in OPENERS if (folder / file).exists()]
        with torch.no_grad():
            arrays = opener(folder, np.load(folder / "images.npy"))
        if (folder / "README.md").exists():
            card = ModelCard.load(folder / "README.md")
            arrays["library"] = np.array(card.data.library_name)
            run_usage(card.content, folder)
        np.savez(folder / "stock.npz", **arrays)
    ours = {"trainer", "manifests", "pipeline", "prompts", "synth"} & sys.modules.keys()
    assert not ours, ours


if __name__ == "__main__":
    main()
