"""The table that ``medqa eval`` prints. Does not compute anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from medqa_cli import console

_TITLES = {"nll": "nll (nats per answer token)", "bits_per_byte": "bits per byte of answer"}


def show(results: dict[str, Any], results_path: Path) -> None:
    """Print models, floors and differences with their intervals, and how many questions stand behind them."""
    metrics = list(next(iter(results["models"].values())))
    header = ["", *(_TITLES[metric] for metric in metrics)]
    rows = [[name, *(_interval(figures[m]) for m in metrics)] for name, figures in results["models"].items()]
    rows += [
        [f"floor: {name}", *(_interval(figures[m]) for m in metrics)] for name, figures in results["floors"].items()
    ]
    rows += [
        [f"{name.replace('-', ' - ')}", *(_difference(figures[m]) for m in metrics)]
        for name, figures in results["differences"].items()
    ]
    topics = f", {results['topics']} topics" if results["topics"] else ""
    settings = results["settings"]
    console.table(
        f"Held-out answers: {results['split']} split, {results['questions']} questions{topics}, "
        f"{settings['answer_tokens']:,} answer tokens; lower is better",
        rows,
        header,
    )
    unit = "topics" if results["topics"] else "questions"
    console.line(
        f"[95 % interval]: bootstrap over {settings['clusters']} {unit}, {settings['bootstrap_draws']:,} draws"
    )
    if settings["num_truncated_answers"]:
        console.line(f"{settings['num_truncated_answers']} answers were cut at {settings['max_length']} tokens")
    console.line(f"written: {results_path}")


def _interval(figure: dict[str, Any]) -> str:
    low, high = figure["ci95"]
    return f"{figure['value']:.3f} [{low:.3f}, {high:.3f}]"


def _difference(figure: dict[str, Any]) -> str:
    low, high = figure["ci95"]
    verdict = {True: "better", False: "worse", None: "no difference shown"}[figure["better"]]
    return f"{figure['value']:+.3f} [{low:+.3f}, {high:+.3f}] {verdict}"
