"""The renderer `latent-neighbourhood`: what neighbours are, which generators are read."""

import base64
import json
import pickle
import shutil
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from manifests.foundation.errors import SynthError
from manifests.plan import ViewRequest
from pipeline.errors import ModelError
from pipeline.renderers.latent_neighbourhood import LatentNeighbourhood, latents
from pipeline.renderers.latent_neighbourhood.config import LatentNeighbourhoodConfig
from pipeline.renderers.latent_neighbourhood.generators import Facts
from pipeline.renderers.latent_neighbourhood.graphs import GraphGenerator, load_generator
from pipeline.renderers.latent_neighbourhood.learning import EDITS, learn_directions
from pipeline.renderers.latent_neighbourhood.steering import Directions, write_directions
from pipeline.testing.requests import requests_for
from tests import hostile_scripts as scripts
from tests import tiny_generators as tiny

BATCH = 4


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.export(tmp_path_factory.mktemp("generators") / "tiny.pt2", tiny.Tiny())


def make(generator: Path | str, **keys: Any) -> LatentNeighbourhood:
    stated = tiny.STATED if Path(generator).is_file() else {}
    table = {"generator": str(generator), "batch_size": BATCH, "device": "cpu", **stated, **keys}
    return LatentNeighbourhood(LatentNeighbourhoodConfig.model_validate(table))


def requests(
    renderer: LatentNeighbourhood, *, count: int = 1, views: int = 2, index: int = 0
) -> list[ViewRequest]:
    return requests_for(
        [f"anchor {number} of seed 0" for number in range(count)],
        columns=renderer.columns(),
        variations=renderer.variations(),
        views_per_subject=views,
        kind="latent",
        values={"class_index": index},
    )


def latent_of(view: Any) -> np.ndarray:
    return np.frombuffer(base64.b64decode(view.values["latent"]), dtype="<f4")


class TestLatents:
    def test_a_cut_normal_is_within_its_bound_and_narrower(self) -> None:
        drawn = latents.draw(np.random.default_rng(0), 100_000, truncation=2.0)
        assert np.abs(drawn).max() <= 2
        assert drawn.std() == pytest.approx(0.880, abs=0.005)
        assert drawn.mean() == pytest.approx(0, abs=0.01)

    def test_gaussian_steps_have_the_length_of_sigma(self) -> None:
        rng, anchor = np.random.default_rng(1), np.ones(100_000)
        step = latents.gaussian(rng, anchor, 0.3, truncation=0) - anchor
        assert step.std() == pytest.approx(0.3, rel=0.01)
        assert np.array_equal(latents.gaussian(rng, anchor, 0.0, truncation=0), anchor)

    @pytest.mark.parametrize("degrees", [0.0, 15.0, 90.0, 180.0])
    def test_angular_steps_turn_by_the_angle_and_keep_the_length(self, degrees: float) -> None:
        rng = np.random.default_rng(2)
        anchor = rng.standard_normal(50)
        turned = latents.angular(rng, anchor, degrees)
        assert np.linalg.norm(turned) == pytest.approx(np.linalg.norm(anchor))
        cosine = turned @ anchor / np.linalg.norm(anchor) ** 2
        assert cosine == pytest.approx(np.cos(np.deg2rad(degrees)))

    @pytest.mark.parametrize("sigma", [0.0, 0.2, 0.7, 1.0])
    def test_mixed_noise_keeps_its_variance(self, sigma: float) -> None:
        rng = np.random.default_rng(3)
        anchor = rng.standard_normal(100_000)
        mixed = latents.mixed(rng, anchor, sigma)
        assert mixed.std() == pytest.approx(1, rel=0.01)
        correlation = float(np.corrcoef(mixed, anchor)[0, 1])
        assert correlation == pytest.approx(np.sqrt(1 - sigma**2), abs=0.01)


def test_a_view_is_the_generator_of_its_latent(exported: Path) -> None:
    """The pixels are what the module itself gives for the latent that the row keeps."""
    renderer = make(exported, keep_latents=True, sigma=(0.0, 0.5))
    views = renderer.render(requests(renderer, count=2, views=4, index=1))
    z = torch.from_numpy(np.stack([latent_of(view) for view in views]))
    with torch.inference_mode():
        expected = tiny.Tiny()(z, torch.ones(8, dtype=torch.int64))
    levels = ((expected + 1) / 2 * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    given = np.stack([view.pixels for view in views])
    assert np.abs(given.astype(int) - levels.astype(int)).max() <= 1  # floats of other batches
    # Sigma 0 is the anchor, whatever the seed of the view.
    assert np.array_equal(latent_of(views[0]), latent_of(views[2]))
    assert not np.array_equal(latent_of(views[1]), latent_of(views[3]))


def test_views_of_an_anchor_are_nearer_than_those_of_others(exported: Path) -> None:
    renderer = make(exported, keep_latents=True, sigma=0.1)
    views = renderer.render(requests(renderer, count=2, views=2))
    one, near, other, _ = (latent_of(view) for view in views)
    assert np.linalg.norm(one - near) < 0.5 < np.linalg.norm(one - other)


def test_independent_views_share_the_class_alone(exported: Path) -> None:
    renderer = make(exported, neighbourhood="independent", keep_latents=True)
    one, other = (latent_of(view) for view in renderer.render(requests(renderer)))
    assert np.linalg.norm(one - other) > 1


def test_steps_of_steering_are_along_the_direction(exported: Path, tmp_path: Path) -> None:
    from manifests.canonical import hash_file

    vector = np.arange(tiny.LATENT_DIM, dtype=np.float32)
    path = tmp_path / "directions.safetensors"
    directions = Directions(
        generator=hash_file(exported), ranges={"zoom": "twice"}, vectors={"zoom": vector}
    )
    write_directions(path, directions)
    renderer = make(
        exported, neighbourhood="steering", directions=str(path), keep_latents=True, amount=2.0
    )
    views = renderer.render(requests(renderer))
    amounts = [view.values["amount"] for view in views]
    assert all(-2 <= amount <= 2 for amount in amounts)
    step = latent_of(views[1]) - latent_of(views[0])
    np.testing.assert_allclose(step, (amounts[1] - amounts[0]) * vector, atol=1e-5)
    with pytest.raises(SynthError, match="names tilt, and"):
        make(exported, neighbourhood="steering", directions=str(path), use=("tilt",))


class Unsteered(nn.Module):
    """A linear generator, for which the right direction is known: z[0] is its brightness."""

    size_px, latent_dim, num_classes, keeps_variance = 4, 3, 0, False

    def forward(self, z: Tensor, classes: Tensor | None) -> Tensor:
        base = 0.5 + 0.1 * z[:, 0] + 0.0 * z.sum(dim=1)
        return base[:, None, None, None].expand(-1, 3, 4, 4)


def test_a_known_direction_is_learned() -> None:
    learned = learn_directions(
        Unsteered(), ["brightness"], steps=400, batch_size=16, learning_rate=0.05, seed=0
    )["brightness"]
    np.testing.assert_allclose(learned.vector.numpy(), [3.0, 0.0, 0.0], atol=0.2)
    assert learned.explained > 0.95


@pytest.mark.parametrize("name", EDITS)
def test_an_edit_of_amount_0_changes_nothing(name: str) -> None:
    pictures = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    edited, mask = EDITS[name](pictures, torch.zeros(2))
    torch.testing.assert_close(edited, pictures, atol=1e-5, rtol=0)
    assert mask.all()


def test_edits_do_what_they_are_called() -> None:
    dot = torch.zeros(1, 3, 20, 20)
    dot[..., 9:11, 9:11] = 1.0
    right = EDITS["shift_x"](dot, torch.ones(1))[0]
    assert right[0, 0, 10].argmax() == 13
    assert EDITS["shift_y"](dot, torch.ones(1))[0][0, 0, :, 10].argmax() == 13
    assert EDITS["zoom"](dot, torch.ones(1))[0].sum() > 1.5 * dot.sum()
    red = torch.tensor([0.8, 0.2, 0.2]).view(1, 3, 1, 1)
    hue = EDITS["hue"](red, torch.ones(1))[0].flatten()
    assert (hue - red.flatten()).abs().max() > 0.1
    assert hue.mean() == pytest.approx(float(red.mean()), abs=1e-5)


@pytest.mark.parametrize("kind", ["export", "script", "onnx"])
def test_files_of_three_kinds_are_one_generator(kind: str, exported: Path, tmp_path: Path) -> None:
    suffix = {"export": "pt2", "script": "ts", "onnx": "onnx"}[kind]
    path = getattr(tiny, kind)(tmp_path / f"tiny.{suffix}", tiny.Tiny())
    views = [
        [view.pixels.astype(int) for view in make(file).render(requests(make(file), index=2))]
        for file in (exported, path)
    ]
    assert np.abs(np.stack(views[0]) - np.stack(views[1])).max() <= 1


@pytest.mark.parametrize("kind", ["export", "script"])
def test_layers_of_generators_are_computed_as_torch_computes_them(
    kind: str, tmp_path: Path
) -> None:
    """Among them those that give several tensors: chunk, split and unbind."""
    model = tiny.Varied()
    path = getattr(tiny, kind)(
        tmp_path / ("varied.pt2" if kind == "export" else "varied.ts"), model
    )
    z = torch.randn(3, tiny.LATENT_DIM, generator=torch.Generator().manual_seed(1))
    classes = torch.tensor([0, 2, 1])
    module = load_generator(path, "cpu")
    with torch.inference_mode():
        torch.testing.assert_close(module(z, classes), model(z, classes), atol=1e-6, rtol=0)


def test_a_generator_without_classes_is_read_from_its_file(tmp_path: Path) -> None:
    path = tiny.export(tmp_path / "plain.pt2", tiny.Unconditional())
    table = {"generator": str(path), "values": "-1 to 1", "batch_size": 3, "device": "cpu"}
    renderer = LatentNeighbourhood(LatentNeighbourhoodConfig.model_validate(table))
    assert renderer.generator.num_classes == 0
    assert renderer.generator.latent_dim == tiny.LATENT_DIM
    wanted = requests(renderer, index=-1)
    renderer.check([wanted[0].subject])
    assert len(renderer.render(wanted)) == 2
    with pytest.raises(SynthError, match="takes no class"):
        renderer.check([requests(renderer, index=0)[0].subject])


@pytest.mark.parametrize("num_classes", [None, 3])
def test_diffusion_is_stock_ddim_from_the_mixed_noise(
    tmp_path: Path, num_classes: int | None
) -> None:
    from diffusers import DDIMPipeline, DDIMScheduler

    folder = tiny.ddim(tmp_path / "ddim", num_classes=num_classes)
    renderer = make(folder, steps=3, keep_latents=True, sigma=0.3)
    assert renderer.generator.num_classes == (num_classes or 0)
    views = renderer.render(requests(renderer, index=-1 if num_classes is None else 1))
    pipe = DDIMPipeline.from_pretrained(folder)
    scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    scheduler.set_timesteps(3)
    values = torch.from_numpy(np.stack([latent_of(view) for view in views])).view(2, 3, 8, 8)
    labels = {} if num_classes is None else {"class_labels": torch.tensor([1, 1])}
    with torch.inference_mode():
        for time in scheduler.timesteps:
            predicted = pipe.unet(values, time, **labels).sample
            values = scheduler.step(predicted, time, values).prev_sample
    expected = ((values / 2 + 0.5).clamp(0, 1) * 255).round().permute(0, 2, 3, 1).numpy()
    given = np.stack([view.pixels for view in views]).astype(float)
    assert np.abs(given - expected).max() <= 1


def test_a_transformer_by_class_decodes_to_the_size_it_says(tmp_path: Path) -> None:
    renderer = make(tiny.dit(tmp_path / "dit"), steps=2)
    assert renderer.generator.num_classes == tiny.NUM_CLASSES
    view = renderer.render(requests(renderer, index=2))[0]
    assert view.pixels.shape == (2 * tiny.SIDE_PX, 2 * tiny.SIDE_PX, 3)
    with pytest.raises(SynthError, match="class 3, and this generator has 0 to 2"):
        renderer.check([requests(renderer, index=3)[0].subject])


class TestRefused:
    """What is no generator, or not the one that is stated: one line each."""

    def refuse(self, path: Path | str, words: str, **keys: Any) -> None:
        def use() -> None:
            renderer = make(path, **keys)
            renderer.render(requests(renderer))

        with pytest.raises(SynthError, match=words) as caught:
            use()
        assert "\n" not in str(caught.value)

    def test_a_pickle_of_a_module(self, tmp_path: Path) -> None:
        plain, zipped = tmp_path / "plain.pkl", tmp_path / "saved.pt"
        plain.write_bytes(pickle.dumps({"weights": [1.0]}))
        torch.save(tiny.Tiny(), zipped)
        self.refuse(plain, "is a pickle, and to read one is to run")
        self.refuse(zipped, "a pickle of torch.save")

    @pytest.mark.parametrize(
        ("old", "new", "words"),
        [
            ('"use_pickle":false', '"use_pickle":true', "holds a pickle"),
            ("torch.ops.aten.tanh.default", "os.system", "calls 'os.system'"),
            ("torch.ops.aten.tanh.default", "_operator.pow", "calls '_operator.pow'"),
            ("torch.ops.aten.tanh.default", "torch.ops.aten.from_file.default", "no function of"),
            ("torch.ops.aten.tanh.default", "torch.ops.aten.rand_like.default", "no function of"),
            ("torch.ops.aten.tanh.default", "torch.ops.aten.__class__.__call__", "no function of"),
            ("torch.ops.aten.tanh.default", "torch.ops.prims.sin.default", "no operator of aten"),
            ('"as_ints"', '"as_graph"', "an argument of kind 'as_graph' is not known"),
            ('"input_specs"', '"specs"', "no graph of torch.export"),
        ],
    )
    def test_an_export_that_asks_for_more_than_arithmetic(
        self, exported: Path, tmp_path: Path, old: str, new: str, words: str
    ) -> None:
        changed = []

        def change(name: str, data: bytes) -> bytes:
            if not name.endswith(".json"):
                return data
            text = json.dumps(json.loads(data), separators=(",", ":"))
            changed.append(old in text)
            return text.replace(old, new).encode()

        path = _rewritten(exported, tmp_path, change)
        assert any(changed)
        self.refuse(path, words)

    def test_what_torch_would_run_is_not_looked_at(self, exported: Path, tmp_path: Path) -> None:
        """Guards, pytrees, names and sample inputs, each of which torch.export.load obeys."""
        explode = f"open({str(tmp_path / 'exploded')!r}, 'w')"

        class Bomb:
            def __reduce__(self) -> Any:
                return Path.touch, (tmp_path / "exploded",)

        bomb = tmp_path / "bomb.bin"
        torch.save({"x": Bomb()}, bomb)

        def change(name: str, data: bytes) -> bytes:
            if name.endswith(".pt"):
                return bomb.read_bytes()
            if not name.endswith("models/model.json"):
                return data
            document = json.loads(data)
            document["guards_code"] = [explode]
            call = document["graph_module"]["module_call_graph"][0]["signature"]
            enum = {"__enum__": True, "fqn": "os:system", "name": explode}
            call["in_spec"] = json.dumps([1, {"type": None, "context": enum, "children_spec": []}])
            call["forward_arg_names"] = [f"z={explode}"]
            return json.dumps(document).encode()

        path = _rewritten(exported, tmp_path, change)
        views, expected = (make(p).render(requests(make(p))) for p in (path, exported))
        for view, other in zip(views, expected, strict=True):
            np.testing.assert_array_equal(view.pixels, other.pixels)
        assert not (tmp_path / "exploded").exists()

    def test_an_archive_in_which_two_readers_find_different_members(
        self, exported: Path, tmp_path: Path
    ) -> None:
        path = tmp_path / "twice.pt2"
        shutil.copy(exported, path)
        with warnings.catch_warnings():  # of zipfile, that the name is there already
            warnings.simplefilter("ignore")
            with zipfile.ZipFile(path, "a") as archive:
                archive.writestr("tiny/models/model.json", b"{}")
        self.refuse(path, "holds 'models/model.json' twice")

    @pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")
    @pytest.mark.parametrize("kind", ["writes", "loops", "draws", "wakes"])
    def test_torchscript_that_does_more_than_arithmetic(self, kind: str, tmp_path: Path) -> None:
        model, words = {
            "writes": (scripts.Writes(), "calls 'aten.save"),
            "loops": (scripts.Loops(), "does 'prim::Loop'"),
            "draws": (scripts.Draws(), "calls 'aten.rand_like"),
            "wakes": (scripts.Wakes(), "would run while it is read"),
        }[kind]
        path = tmp_path / "script.ts"
        torch.jit.script(model).save(str(path))
        self.refuse(path, words)

    def test_onnx_with_a_loop_or_with_weights_elsewhere(self, tmp_path: Path) -> None:
        import onnx

        path = tiny.onnx(tmp_path / "tiny.onnx", tiny.Tiny())
        model = onnx.load(path)
        model.graph.node.append(onnx.helper.make_node("Loop", ["", ""], ["x"], name="loop"))
        (tmp_path / "loop.onnx").write_bytes(model.SerializeToString())
        self.refuse(tmp_path / "loop.onnx", "has a Loop, which may never end")
        onnx.save(
            onnx.load(path), tmp_path / "apart.onnx", save_as_external_data=True, size_threshold=0
        )
        self.refuse(tmp_path / "apart.onnx", "keeps weights in other files")

    def test_what_is_no_generator_at_all(self, tmp_path: Path, exported: Path) -> None:
        text, cut = tmp_path / "notes.pt2", tmp_path / "cut.pt2"
        text.write_text("not an archive")
        cut.write_bytes(exported.read_bytes()[:5000])
        self.refuse(text, "no archive")
        self.refuse(cut, "no archive")
        self.refuse(tmp_path / "absent.pt2", "no such file or folder")

    def test_another_shape_range_or_type_than_stated(self, exported: Path, tmp_path: Path) -> None:
        self.refuse(exported, "expected 0 to 1; check renderer.values", values="0 to 1")
        self.refuse(exported, r"fails on latents \[4, 7\] and classes", latent_dim=7)
        changes = {"[4, 192], expected": nn.Flatten(), "torch.uint8, expected": _ToBytes()}
        for words, change in changes.items():
            path = tiny.export(
                tmp_path / f"{type(change).__name__}.pt2", tiny.Unconditional(change)
            )
            self.refuse(path, words.replace("[", r"\["), classes=0)

    def test_what_no_file_says_has_to_be_given(self, exported: Path) -> None:
        for key in ("classes", "values"):
            table = {k: v for k, v in tiny.STATED.items() if k != key}
            with pytest.raises(ModelError, match=f"renderer.{key}"):
                GraphGenerator(exported, Facts(**table), batch_size=2, device="cpu")  # type: ignore[arg-type]

    def test_directions_of_another_generator(self, exported: Path, tmp_path: Path) -> None:
        path = tmp_path / "other.safetensors"
        vectors = {"zoom": np.zeros(tiny.LATENT_DIM, dtype=np.float32)}
        write_directions(path, Directions(generator="ab" * 32, ranges={}, vectors=vectors))
        words = "learned for another generator"
        self.refuse(exported, words, neighbourhood="steering", directions=str(path))
        path.write_bytes(b"no safetensors")
        words = "no file of directions"
        self.refuse(exported, words, neighbourhood="steering", directions=str(path))

    @pytest.mark.parametrize(
        ("keys", "words"),
        [
            ({"sigma": (-0.1,)}, "a sigma of -0.1"),
            ({"neighbourhood": "angular", "angle": (200.0,)}, "an angle of 200 degrees"),
            ({"neighbourhood": "angular", "sigma": (0.5,)}, "sigma is of neighbourhood gaussian"),
        ],
    )
    def test_settings_that_mean_nothing(
        self, exported: Path, keys: dict[str, Any], words: str
    ) -> None:
        with pytest.raises(ValueError, match=words):
            make(exported, **keys)

    def test_a_text_to_image_pipeline(self, tmp_path: Path) -> None:
        folder = tmp_path / "sd"
        from tests.tiny_models import build

        self.refuse(build("sd", folder), "StableDiffusionPipeline is not among")

    def test_a_scale_beyond_1_for_diffusion(self, tmp_path: Path) -> None:
        renderer = make(tiny.ddim(tmp_path / "ddim"), sigma=1.5, steps=2)
        with pytest.raises(SynthError, match="0 to 1, and 1 is independent"):
            renderer.check([])


class _ToBytes(nn.Module):
    def forward(self, pictures: Tensor) -> Tensor:
        return pictures.to(torch.uint8)


def _rewritten(source: Path, folder: Path, change: Any) -> Path:
    """A copy of an archive with the content of its files changed."""
    path = folder / "rewritten.pt2"
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(path, "w") as new:
        for info in old.infolist():
            new.writestr(info.filename, change(info.filename, old.read(info.filename)))
    return path
