"""Draws ``benchmarks/results.json``: one picture with a panel for each figure that the README names.

    python benchmarks/picture.py [results.json] [picture.png]

A benchmark that was not run has no panel. medqa's bars are dark, those of its peers light.
"""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

OURS, THEIRS = "#1f5f8b", "#b9c4cc"
COLUMNS = 2
SIDES = {"trl same type": "TRL, medqa's number type", "trl fastest": "TRL, nothing recomputed"}
KINDS = {"question": "question", "answer": "answer", "near_duplicate_answer": "near copy", "topic": "topic"}


@dataclass(frozen=True)
class Panel:
    """One chart of horizontal bars. ``better``: which direction is good."""

    title: str
    unit: str
    bars: dict[str, float]
    better: str


def leakage(figures: dict[str, Any]) -> Panel:
    """Share of test rows that share something with train."""
    bars = {
        f"{'medqa convert' if split == 'medqa convert' else 'random split'}: {label}": 100 * shares[kind]
        for kind, label in KINDS.items()
        for split, shares in figures.items()
    }
    return Panel("Test rows that also stand in training", "% of test rows", bars, "less")


def training_speed(figures: dict[str, Any]) -> Panel:
    """Tokens per second of medqa and TRL."""
    bars = {label(side): result["tokens_per_second"] for side, result in figures["sides"].items()}
    return Panel("Training, 2 x 4 rows a step", "tokens/s without padding", bars, "more")


def training_memory(figures: dict[str, Any]) -> Panel:
    """Peak memory of medqa and TRL."""
    bars = {label(side): result["peak_memory_bytes"] / 2**30 for side, result in figures["sides"].items()}
    return Panel("Training, peak memory of the process", "GiB", bars, "less")


def label(side: str) -> str:
    """Return the name of a side of the training benchmark as people write it."""
    return SIDES.get(side, side.replace("trl", "TRL"))


def answering(figures: dict[str, Any]) -> Panel:
    """Tokens per second of medqa and Transformers, alone and in a batch."""
    return Panel("Answering, unquantized", "tokens/s", dict(figures["tokens_per_second"]), "more")


def answering_from_nf4(figures: dict[str, Any]) -> Panel:
    """The same from 4-bit weights."""
    return Panel("Answering, NF4 base", "tokens/s", dict(figures["nf4"]["tokens_per_second"]), "more")


def merging(figures: dict[str, Any]) -> Panel:
    """Peak memory of merging a model of 1.1 billion parameters."""
    bars = {
        way: run["peak_bytes"] / 1e6 for way, run in figures.items() if isinstance(run, dict) and "peak_bytes" in run
    }
    bars = {way.replace("peft", "PEFT").replace("medqa ", "medqa, onto "): value for way, value in bars.items()}
    return Panel(f"Merging {figures['base_bytes'] / 1e9:.1f} GB: memory above the imports", "MB", bars, "less")


def evaluating(figures: dict[str, Any]) -> Panel:
    """Tokens per second of eval's batches and of a loop."""
    rates = figures["tokens_per_second"]
    bars = {"one question after another": rates["one_by_one"], "medqa eval": rates["batches"]}
    return Panel("Answers for the evaluation", "answer tokens/s", bars, "more")


PANELS: tuple[tuple[str, Callable[[dict[str, Any]], Panel]], ...] = (
    ("leakage", leakage),
    ("train_throughput", training_speed),
    ("train_throughput", training_memory),
    ("ask", answering),
    ("ask", answering_from_nf4),
    ("eval", evaluating),
    ("merge", merging),
)


def panels(entries: dict[str, Any]) -> list[Panel]:
    """Return the panels for which there are figures; a benchmark whose check failed shows none."""
    done = {name: entry["figures"] for name, entry in entries.items() if entry["status"] == "done"}
    return [make(done[name]) for name, make in PANELS if name in done]


def draw(entries: dict[str, Any], path: Path) -> None:
    """Draw all panels into one file; nothing where no benchmark has figures."""
    chosen = panels(entries)
    if not chosen:
        return
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = -(-len(chosen) // COLUMNS)
    figure, axes = pyplot.subplots(rows, COLUMNS, figsize=(11, 2.4 * rows), squeeze=False, layout="constrained")
    for axis, panel in zip(axes.flat, chosen, strict=False):
        draw_panel(axis, panel)
    for axis in axes.flat[len(chosen) :]:
        axis.set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120, metadata={"Software": None})
    pyplot.close(figure)


def draw_panel(axis: Any, panel: Panel) -> None:
    """Draw one chart of bars, each with its figure."""
    names = list(panel.bars)
    values = list(panel.bars.values())
    bars = axis.barh(names, values, color=[OURS if name.startswith("medqa") else THEIRS for name in names], height=0.7)
    axis.set_ylim(max(3, len(names)) - 0.5, -0.5)  # bars of two do not fill the chart
    axis.set_xlim(0, 1.15 * max(values) or 1)
    axis.bar_label(bars, labels=[figure_of(value) for value in values], padding=3, fontsize=9)
    axis.set_title(panel.title, loc="left", fontsize=10, fontweight="bold")
    axis.set_xlabel(f"{panel.unit}, {panel.better} is better", fontsize=8)
    axis.tick_params(labelsize=8)
    axis.spines[["top", "right"]].set_visible(False)


def figure_of(value: float) -> str:
    """Return a figure with two digits or more, zero without any."""
    return "0" if value == 0 else f"{value:,.0f}" if value >= 10 else f"{value:.1f}"


def main() -> int:
    """Draw a file of results."""
    root = Path(__file__).resolve().parents[1]
    source = Path(sys.argv[1]) if len(sys.argv) > 1 else root / "benchmarks/results.json"
    target = Path(sys.argv[2]) if len(sys.argv) > 2 else root / "docs/images/benchmarks.png"
    draw(json.loads(source.read_text(encoding="utf-8")), target)
    return 0


if __name__ == "__main__":
    sys.exit(main())
