"""Sets, trainings and scores of a benchmark: made once, kept in a folder, shown as tables.

An arm is a line of a table: a recipe that learns from a set, or an encoder that is not trained.
Every seed has sets that were rendered with it and runs that were trained with it. The same command
continues a benchmark that was stopped. Take another folder for another version of the code: what
is in the folder is not made again.
"""

import hashlib
import json
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import torch

from benchmarks import machine
from benchmarks.transfer_sets import write_transfer_set
from manifests.shard_set import ShardSet
from pipeline.config import load_config as load_generation
from pipeline.embedded.pictograms import NUM_NEIGHBOURS, write_pictograms
from pipeline.generating import begin, finish, run
from trainer.config import load_config as load_training
from trainer.data.opening import open_source
from trainer.evaluations import choose_evaluations
from trainer.frozen_encoders import open_encoder
from trainer.labelled_sets import open_labelled
from trainer.loop import train
from trainer.planning import make_plan
from trainer.recipes import find_recipe
from trainer.scoring import score_encoder


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """How an encoder is scored."""

    on: str
    """Folder of the labelled set: `pictograms`, or a name of `benchmarks.transfer_sets`."""
    learn: str
    """Split that the classifier learns from."""
    test: str
    evaluation: str


PROTOCOLS = {
    "select, k-NN": Protocol(on="pictograms", learn="bank", test="select", evaluation="knn"),
    "k-NN": Protocol(on="pictograms", learn="bank", test="test", evaluation="knn"),
    "linear": Protocol(on="pictograms", learn="bank", test="test", evaluation="linear"),
    "one-shot": Protocol(on="pictograms", learn="test-shot", test="test", evaluation="knn"),
    "hard, k-NN": Protocol(on="pictograms", learn="bank", test="hard", evaluation="knn"),
    "hard, one-shot": Protocol(on="pictograms", learn="hard-shot", test="hard", evaluation="knn"),
    "digits": Protocol(on="digits", learn="train", test="test", evaluation="knn"),
    "digits, linear": Protocol(on="digits", learn="train", test="test", evaluation="linear"),
    "mnist": Protocol(on="mnist", learn="train", test="test", evaluation="knn"),
    "photographs": Protocol(on="photographs", learn="train", test="test", evaluation="knn"),
    "photographs, linear": Protocol(
        on="photographs", learn="train", test="test", evaluation="linear"
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One line of a table."""

    table: str
    label: str
    recipe: str = ""
    """Recipe of the training; empty for an encoder that is not trained."""
    train: tuple[str, ...] = ()
    """What is changed in the recipe, as `table.key=value`."""
    views: tuple[tuple[str, Any], ...] = ()
    """Settings of the set that is trained on; empty for the real drawings of `synth pictograms`."""
    encoder: str = ""
    """An encoder that is not trained, such as `pixels:16`. `untrained:` is the tower of `recipe`,
    with weights of the seed."""

    def key(self, seed: int) -> str:
        """The same for arms of two tables that differ in their labels alone."""
        return _digest([self.recipe, self.train, self.views, self.encoder, seed])


def settings(**values: Any) -> tuple[tuple[str, Any], ...]:
    """Settings of a set; `a__b` stands for the key `a.b`."""
    return tuple((name.replace("__", "."), value) for name, value in values.items())


def _digest(document: Any) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()[:16]


class Benchmark:
    """A folder of sets, runs and scores."""

    def __init__(self, work: Path, protocols: Iterable[str]) -> None:
        self.work = work.absolute()
        self.work.mkdir(parents=True, exist_ok=True)
        self.protocols = {name: PROTOCOLS[name] for name in protocols}
        for name in {protocol.on for protocol in self.protocols.values()}:
            if name == "pictograms":
                write_pictograms(self.work / name)
            else:
                write_transfer_set(name, self.work / name)
        self._kept = self.work / "scores.json"
        self.scores: dict[str, Any] = {}
        if self._kept.exists():
            self.scores = json.loads(self._kept.read_text())

    def run(self, arms: Sequence[Arm], seeds: Sequence[int]) -> None:
        """Score what has no score yet: all arms of the first seed, then of the next."""
        for seed in seeds:
            for arm in arms:
                if arm.key(seed) not in self.scores:
                    scores = self._score(arm, seed)
                    names = {"table": arm.table, "label": arm.label, "seed": seed}
                    self.scores[arm.key(seed)] = names | {"scores": scores}
                    self._kept.write_text(json.dumps(self.scores, indent=1))
                    print(f"seed {seed}, {arm.table}, {arm.label}: {scores}", flush=True)

    def of(self, arm: Arm, seeds: Sequence[int], protocol: str) -> list[list[float]]:
        """Top-1 and top-5 of an arm by seed, in percent, as far as there are scores."""
        entries = [self.scores[arm.key(seed)] for seed in seeds if arm.key(seed) in self.scores]
        return [entry["scores"][protocol] for entry in entries if protocol in entry["scores"]]

    def show(self, arms: Sequence[Arm], seeds: Sequence[int], names: Sequence[str]) -> str:
        """Tables as Markdown: mean ± standard deviation over the seeds; mean top-5."""
        lines: list[str] = []
        for table in dict.fromkeys(arm.table for arm in arms):
            lines += ["", f"| {' | '.join([table, *names])} |", f"|{'---|' * (1 + len(names))}"]
            for arm in (arm for arm in arms if arm.table == table):
                cells = [_spread(self.of(arm, seeds, name)) for name in names]
                lines.append(f"| {' | '.join([arm.label, *cells])} |")
        return "\n".join(lines)

    def write(self, path: Path, arms: Sequence[Arm], text: str) -> None:
        """Keep tables and scores of some arms."""
        path.parent.mkdir(exist_ok=True)
        labels = {(arm.table, arm.label) for arm in arms}
        scores = [e for e in self.scores.values() if (e["table"], e["label"]) in labels]
        document = {"machine": machine.describe(), "tables": text.splitlines(), "scores": scores}
        path.write_text(f"{json.dumps(document, indent=1)}\n")

    def rendered(self, arm: Arm, seed: int) -> str:
        """URL of the set of an arm, which is rendered and sealed if it does not exist yet."""
        if not arm.views:
            return f"wds:{self.work / 'pictograms' / 'train'}"
        url = self.work / f"set-{_digest([arm.views, seed])}"
        flags = {
            **dict(arm.views),
            "views.seed": seed,
            "shards.subjects": 62,
            "execution.executor": "inline",
        }
        if "prompts.file" in flags:  # the key of an arm holds its name alone
            flags["prompts.file"] = str(self.work / flags["prompts.file"])
        if not (url / "dataset.json").exists():
            config = load_generation(recipe=None, overrides=[], flags=flags)
            generation = begin(config, str(url), retry_failed=False, origin="evidence")
            for _ in run(generation):
                pass
            finish(generation, seal_incomplete=False)
        assert ShardSet.open(str(url)).seal() is not None
        return str(url)

    def _trained(self, arm: Arm, seed: int) -> Path:
        """Folder of the run of an arm, which is trained unless it is finished already."""
        out = self.work / f"run-{_digest([arm.recipe, arm.train, arm.views, seed])}"
        overrides = [*arm.train, f"run.seed={seed}"]
        config = load_training(recipe=find_recipe(arm.recipe), overrides=overrides, flags={})
        plan = make_plan(config, open_source(self.rendered(arm, seed)), world=1)
        assert train(plan, out, device=torch.device("cpu")) is None
        return out

    def _score(self, arm: Arm, seed: int) -> Mapping[str, list[float]]:
        """Top-1 and top-5 in percent by the name of the protocol."""
        name = arm.encoder or str(self._trained(arm, seed))
        own_seed = None
        if name == "untrained:":
            # The tower comes from a run of one step on the real drawings.
            one_step = ("schedule.steps=1", "schedule.warmup_steps=0")
            stub = Arm(table="", label="", recipe=arm.recipe, train=one_step)
            name, own_seed = f"untrained:{self._trained(stub, 0)}", seed
        encoder = open_encoder(name, device=torch.device("cpu"), seed=own_seed)
        # The probe as the published figures were measured: 90 epochs, however few steps they are.
        settings = {"knn": {"neighbours": NUM_NEIGHBOURS}, "linear": {"min_steps": 1}}
        scores = {}
        for label, protocol in self.protocols.items():
            document = score_encoder(
                encoder,
                open_labelled(f"wds:{self.work / protocol.on}"),
                choose_evaluations(
                    [protocol.evaluation], {protocol.evaluation: settings[protocol.evaluation]}
                ),
                train_split=protocol.learn,
                test_split=protocol.test,
                batch_size=256,
            )
            assert document is not None
            (entry,) = document["scores"]
            scores[label] = [100 * entry["value"], 100 * (entry["top5"] or 0)]
        return scores


def command(
    arms: Sequence[Arm],
    protocols: Iterable[str],
    results: Path,
    *,
    show: Callable[[Benchmark, Sequence[Arm], Sequence[int]], str],
    prepare: Callable[[Benchmark], None] = lambda benchmark: None,
    finish: Callable[[Benchmark, Sequence[int]], str] = lambda benchmark, seeds: "",
    help: str | None,
) -> click.Command:
    """The command line of a benchmark.

    Args:
        results: File that is written when all arms were asked for, with three seeds or more.
        show: Tables of the arms that were asked for.
        prepare: Called before the first arm.
        finish: Called when all arms have scores, for plots and for what compares whole tables.
    """

    @click.command(help=help)
    @click.option("--work", type=click.Path(path_type=Path), required=True)
    @click.option("--seeds", default="0,1,2", show_default=True)
    @click.option(
        "--table",
        "tables",
        # One option for each, because names of tables may have commas.
        type=click.Choice([*dict.fromkeys(arm.table for arm in arms)]),
        multiple=True,
        help="One of the tables; repeat it for several. All if not given.",
    )
    def main(work: Path, seeds: str, tables: tuple[str, ...]) -> None:
        torch.set_num_threads(1)
        numbers = [int(text) for text in seeds.split(",")]
        chosen = [arm for arm in arms if not tables or arm.table in tables]
        benchmark = Benchmark(work, protocols)
        prepare(benchmark)
        benchmark.run(chosen, numbers)
        text = show(benchmark, chosen, numbers)
        if len(chosen) == len(arms):
            text += finish(benchmark, numbers)
            if len(numbers) >= 3:
                benchmark.write(results, chosen, text)
        print(text)

    return main


def _spread(values: Sequence[Sequence[float]]) -> str:
    if not values:
        return ""
    first = [top1 for top1, _ in values]
    spread = f" ± {statistics.stdev(first):.1f}" if len(first) > 1 else ""
    return (
        f"{statistics.mean(first):.1f}{spread}; {statistics.mean(five for _, five in values):.1f}"
    )
