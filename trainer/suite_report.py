"""What came of a suite: a table, a JSON file and a plot."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.text import Text

from manifests.foundation.errors import ConfigError
from manifests.foundation.files import write_whole
from manifests.foundation.fitting import FittingTable
from manifests.foundation.messages import printable
from trainer.suites import Cell, Suite

FORMAT_VERSION = 1
JSON_FILE = "suite.json"
PLOT_FILE = "suite.png"


def suite_table(cells: Sequence[Cell]) -> FittingTable:
    """The metric of each set in percent over its 95 % interval: a row for each evaluation and
    encoder, a column for each set, and the mean over sets where an encoder has a score on all of
    them, of whatever metrics they are."""
    sets = list(dict.fromkeys(cell.set for cell in cells))
    encoders = list(dict.fromkeys(cell.encoder for cell in cells))
    scores = _scores(cells)
    failed = {(cell.encoder, cell.set) for cell in cells if cell.failure}
    metrics = {name: score["metric"] for (_, _, name), score in scores.items()}
    table = FittingTable(title="percent, and 95 % intervals")
    table.add_column("evaluation", no_wrap=True)
    table.add_column("encoder", overflow="fold")
    for name in sets:
        header = f"{printable(name)}\n{metrics[name]}" if name in metrics else printable(name)
        table.add_column(Text(header), justify="right")
    if len(sets) > 1:
        table.add_column("mean", justify="right")
    for evaluation in dict.fromkeys(key[0] for key in scores):
        for encoder in encoders:
            row = [scores.get((evaluation, encoder, name)) for name in sets]
            texts = [
                "failed"
                if (encoder, name) in failed
                else ""
                if score is None
                else f"{100 * score['value']:.1f}\n"
                f"{100 * score['low']:.1f}-{100 * score['high']:.1f}"
                for name, score in zip(sets, row, strict=True)
            ]
            if len(sets) > 1:
                known = [score["value"] for score in row if score is not None]
                is_whole = len(known) == len(sets)
                texts.append(f"{100 * sum(known) / len(known):.1f}" if is_whole else "")
            table.add_row(evaluation, Text(printable(encoder)), *texts)
        table.add_section()
    return table


def write_report(folder: Path, suite: Suite, cells: Sequence[Cell]) -> None:
    """Write `suite.json`: the suite, the document of each cell, and what failed or was left out.

    Raises:
        ConfigError: The file cannot be written.
    """
    document = {
        "format_version": FORMAT_VERSION,
        "suite": suite.model_dump(mode="json"),
        "cells": [
            {
                "encoder": cell.encoder,
                "set": cell.set,
                "scores": cell.document,
                "left_out": dict(cell.left_out),
                "failure": cell.failure or None,
            }
            for cell in cells
        ],
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / JSON_FILE, f"{json.dumps(document, indent=2)}\n".encode())
    except OSError as exc:
        raise ConfigError(
            f"{folder / JSON_FILE}: cannot be written ({exc.strerror}); set `out` of the suite"
        ) from exc


def draw_plot(folder: Path, cells: Sequence[Cell]) -> bool:
    """Draw `suite.png`: for each evaluation all sets and encoders with their intervals.

    Returns:
        False if there is nothing to draw, or matplotlib is not installed.
    """
    scores = _scores(cells)
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        return False
    evaluations = list(dict.fromkeys(key[0] for key in scores))
    if not evaluations:
        return False
    encoders = list(dict.fromkeys(cell.encoder for cell in cells))
    sets = list(dict.fromkeys(cell.set for cell in cells))
    metrics = {name: score["metric"] for (_, _, name), score in scores.items()}
    figure = Figure(figsize=(2 + 1.2 * len(sets), 1 + 2.6 * len(evaluations)), layout="constrained")
    panels = figure.subplots(len(evaluations), squeeze=False)[:, 0]
    for panel, evaluation in zip(panels, evaluations, strict=True):
        for number, encoder in enumerate(encoders):
            at = [place for place, name in enumerate(sets) if (evaluation, encoder, name) in scores]
            own = [scores[evaluation, encoder, sets[place]] for place in at]
            shift = 0.6 * ((number + 0.5) / len(encoders) - 0.5)
            middle = [100 * score["value"] for score in own]
            below = [100 * (score["value"] - score["low"]) for score in own]
            above = [100 * (score["high"] - score["value"]) for score in own]
            panel.errorbar(
                [place + shift for place in at],
                middle,
                yerr=[below, above],
                fmt="o",
                markersize=4,
                capsize=2,
                label=printable(encoder).replace("$", r"\$"),
            )
        labels = [f"{name}\n{metrics[name]}" if name in metrics else name for name in sets]
        panel.set_xticks(range(len(sets)), [label.replace("$", r"\$") for label in labels])
        panel.set_xlim(-0.5, len(sets) - 0.5)
        panel.set_ylabel(f"{evaluation}, %")
        panel.grid(axis="y", alpha=0.3)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center")
    figure.savefig(folder / PLOT_FILE, dpi=120)
    return True


def _scores(cells: Sequence[Cell]) -> dict[tuple[str, str, str], Any]:
    """Scores by evaluation, encoder and set, in the order of evaluations."""
    by_cell = {
        (score["name"], cell.encoder, cell.set): score
        for cell in cells
        if cell.document is not None
        for score in cell.document["scores"]
    }
    order = list(dict.fromkeys(key[0] for key in by_cell))
    return dict(sorted(by_cell.items(), key=lambda item: order.index(item[0][0])))
