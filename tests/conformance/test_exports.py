"""The laws of exports, for every entry of the table; the stock loaders import none of our code."""

import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from torch import Tensor, nn

from manifests.foundation.errors import ConfigError, PluginError
from tests import stock_models
from tests.sets import refused
from tests.stock_models import TEXTS
from trainer.exports import EXPORTS, check_exports, export_class, exported_paths
from trainer.models.encoder import build_encoder, normalize
from trainer.models.specs import EncoderSpec, TextSpec
from trainer.models.text import ImageText
from trainer.origin import Origin

COLOURS: dict[str, Any] = {"mean": (0.4, 0.5, 0.6), "std": (0.2, 0.3, 0.25), "crop_fraction": 0.8}
ARGS = {"img_size": 16, "patch_size": 4, "embed_dim": 24, "depth": 1, "num_heads": 2}
VIT = EncoderSpec(model="vit_tiny_patch16_224", args=ARGS, input_px=16, **COLOURS)
WHOLE_VIT = EncoderSpec(model="test_vit", input_px=160, **COLOURS)
RESNET = EncoderSpec(model="test_resnet", input_px=32, **COLOURS)
OWN = EncoderSpec(model="synth_small_conv", input_px=16)
TEXT = TextSpec(context_length=12, width=16, heads=2, layers=1, embed_dim=8)
ORIGIN = Origin(objective="stablerep", steps=3, url="s3://sets/one", root_sha256="0" * 64)

Parts = Mapping[str, Any]


def parts_of(spec: EncoderSpec) -> Parts:
    """Both towers as a training leaves them: in training mode, batch norms with statistics."""
    torch.manual_seed(0)
    tower = build_encoder(spec)
    features = tower(torch.randn(4, 3, spec.input_px, spec.input_px))
    text = ImageText(TEXT, features.shape[1])
    nn.init.constant_(text.log_scale, 3.5)
    return {"image": tower.train(), "text": text.train()}


def images_of(spec: EncoderSpec) -> Tensor:
    shape = (3, 3, spec.input_px, spec.input_px)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator())


def features(parts: Parts, spec: EncoderSpec) -> Tensor:
    result: Tensor = parts["image"].eval()(normalize(images_of(spec), spec))
    return result


def of_run(parts: Parts, spec: EncoderSpec) -> dict[str, Any]:
    return {**of_hub(parts, spec), "by_hand": features(parts, spec)}


def of_text(parts: Parts, spec: EncoderSpec) -> dict[str, Any]:
    return {"texts": parts["text"].eval().embed_texts(TEXTS)}


def of_hub(parts: Parts, spec: EncoderSpec) -> dict[str, Any]:
    return {
        "features": features(parts, spec),
        "before_classifier": features(parts, spec),
        "input_size": (3, spec.input_px, spec.input_px),
        "mean": spec.mean,
        "std": spec.std,
        "crop_pct": spec.crop_fraction,
        "interpolation": "bicubic",
        "library": "timm",
    }


def of_pair(parts: Parts, spec: EncoderSpec) -> dict[str, Any]:
    text = parts["text"].eval()
    shared = text.embed_features(features(parts, spec))
    return {"logits": text.scale() * shared @ text.embed_texts(TEXTS).T, "library": "open_clip"}


def of_graph(parts: Parts, spec: EncoderSpec) -> dict[str, Any]:
    return {
        "features": features(parts, spec),
        "one": features(parts, spec)[:1],
        "objective": "stablerep",
        "library": "onnx",
    }


@dataclass(frozen=True, slots=True)
class Case:
    export: str
    spec: EncoderSpec
    ours: Callable[[Parts, EncoderSpec], dict[str, Any]]
    """What the stock library is to give, by the names of `tests.stock_models`."""
    tolerance: float = 0.0


CASES = {
    "timm": Case("timm", VIT, of_run),
    "text": Case("text", VIT, of_text),
    "timm-hub": Case("timm-hub", VIT, of_hub),
    "timm-hub, resnet": Case("timm-hub", RESNET, of_hub),
    "open-clip": Case("open-clip", WHOLE_VIT, of_pair, 1e-5),
    "open-clip, resnet": Case("open-clip", RESNET, of_pair, 1e-5),
    "onnx": Case("onnx", VIT, of_graph, 1e-4),
    "onnx, resnet": Case("onnx", RESNET, of_graph, 1e-4),
}


def write(case: Case, folder: Path) -> None:
    folder.mkdir()
    export_class(case.export)().write(folder, parts_of(case.spec), case.spec, ORIGIN)


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for each case, opened by `tests/stock_models.py`."""
    folder = tmp_path_factory.mktemp("exports")
    for name, case in CASES.items():
        write(case, folder / name)
        np.save(folder / name / "images.npy", images_of(case.spec).numpy())
    # By its path and not as a module of `tests`: nothing of this project is on the path then.
    subprocess.run(
        [sys.executable, "-P", stock_models.__file__, folder], cwd=folder, check=True, timeout=300
    )
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_stock_library_gives_the_same(name: str, exports: Path) -> None:
    case = CASES[name]
    with torch.no_grad():
        expected = case.ours(parts_of(case.spec), case.spec)
    stock = np.load(exports / name / "stock.npz")
    assert {*stock.files} == {*expected}
    for key, value in expected.items():
        if isinstance(value, Tensor):
            np.testing.assert_allclose(stock[key], value.numpy(), atol=case.tolerance, rtol=0)
        else:
            assert np.array_equal(stock[key], np.array(value)), key


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_it_writes_the_files_that_it_declares_with_the_same_bytes(
    name: str, exports: Path, tmp_path: Path
) -> None:
    write(CASES[name], tmp_path / "again")
    again = {path.name: path.read_bytes() for path in (tmp_path / "again").iterdir()}
    first = {path.name: path.read_bytes() for path in (exports / name).iterdir()}
    assert again.keys() == {*export_class(CASES[name].export).files}
    assert first == again | {name: first[name] for name in ("images.npy", "stock.npz")}


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPORTS)
def test_parts_and_random_numbers_stay_as_they_are(name: str, tmp_path: Path) -> None:
    parts = parts_of(WHOLE_VIT)
    weights = {n: tensor.clone() for n, tensor in parts["image"].state_dict().items()}
    random = torch.random.get_rng_state()
    export = export_class(name)()
    export.check(parts, WHOLE_VIT)
    export.write(tmp_path, parts, WHOLE_VIT, ORIGIN)
    assert torch.equal(torch.random.get_rng_state(), random)
    assert all(module.training for part in parts.values() for module in part.modules())
    assert all(torch.equal(weights[n], t) for n, t in parts["image"].state_dict().items())


@pytest.mark.slow
def test_no_file_names_a_path_of_this_machine(exports: Path) -> None:
    places = (str(Path(torch.__file__).parents[1]).encode(), str(exports).encode())
    for path in exports.glob("*/*"):
        assert not any(place in path.read_bytes() for place in places), path


def test_a_run_with_a_tower_of_this_project_opens_in_timm_beside_our_code(tmp_path: Path) -> None:
    parts = parts_of(OWN)
    export_class("timm")().write(tmp_path, parts, OWN, ORIGIN)
    model = timm.create_model(f"local-dir:{tmp_path}", pretrained=True, num_classes=0).eval()
    with torch.no_grad():
        assert torch.equal(model(normalize(images_of(OWN), OWN)), features(parts, OWN))
    assert [*timm.data.resolve_model_data_config(model)["input_size"]] == [3, 16, 16]
    card = (tmp_path / "README.md").read_text()
    assert "import trainer.models.encoder" in card
    assert "synth_small_conv is a tower of synth-rep" in card


def test_every_export_of_the_table_is_tested() -> None:
    assert {case.export for case in CASES.values()} == set(EXPORTS)


@pytest.mark.parametrize("name", ["timm-hub", "open-clip"])
def test_a_tower_of_this_project_is_refused(name: str) -> None:
    with refused(ConfigError, "synth_small_conv is a tower of this project"):
        check_exports([name], parts_of(OWN), OWN)


@pytest.mark.parametrize("args", [{"depth": 1}, {"num_heads": 4}, {"act_layer": "relu"}], ids=str)
def test_open_clip_refuses_arguments_that_make_another_tower(args: dict[str, Any]) -> None:
    spec = EncoderSpec(model="test_vit", input_px=160, args=args)
    with refused(ConfigError, f"not the tower that model.args {args} make"):
        check_exports(["open-clip"], parts_of(spec), spec)


def test_open_clip_takes_arguments_that_make_the_same_tower() -> None:
    spec = EncoderSpec(model="test_vit", input_px=160, args={"drop_path_rate": 0.1})
    check_exports(["open-clip"], parts_of(spec), spec)


@pytest.mark.parametrize("name", ["text", "open-clip"])
def test_a_text_part_of_another_kind_is_refused(name: str) -> None:
    parts = parts_of(WHOLE_VIT)
    with refused(ConfigError, f"{name} takes a trainer.models.text.ImageText"):
        check_exports([name], {**parts, "text": nn.Linear(2, 2)}, WHOLE_VIT)


def test_an_export_whose_parts_are_missing_is_left_out() -> None:
    check_exports(["text", "open-clip"], {"image": parts_of(OWN)["image"]}, OWN)


def test_onnx_refuses_weights_that_no_file_of_it_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.exports.onnx_graph.MAX_BYTES", 10_000)
    with refused(ConfigError, "bytes of weights, one file of ONNX holds 10,000"):
        check_exports(["onnx"], parts_of(VIT), VIT)


def test_a_missing_library_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    monkeypatch.delitem(sys.modules, "trainer.exports.onnx_graph", raising=False)
    with refused(PluginError, "onnxscript: pip install 'synth-rep[onnx]'"):
        exported_paths(["onnx"])
    assert "onnx" in exported_paths(["timm"])  # no other export needs it
