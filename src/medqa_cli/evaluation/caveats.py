"""What the figures do not show, in words, and the words for what a difference shows. Does not compute anything."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from medqa_cli.evaluation.metrics import STRIPPED, metric


def verdict(name: str, figure: Mapping[str, Any]) -> str:
    """Return what the difference of a figure shows: better, worse, a difference that is neither, or nothing."""
    if figure["better"] is not None:
        return "better" if figure["better"] else "worse"
    low, high = figure["ci95"]
    # One topic is the same in every draw of the bootstrap: an interval without width shows nothing.
    is_seen = low < high and not low <= 0 <= high
    return "different" if is_seen and metric(name).lower_is_better is None else "no difference shown"


def floor_sentences(results: Mapping[str, Any]) -> list[str]:
    """Say for each model in which figures it is not shown to be better than a trivial answerer."""
    sentences = []
    for model, floors in results.get("floors_not_beaten", {}).items():
        for floor, figures in floors.items():
            names = [
                f"{metric(name).title}{'' if better is None else ' (worse)'}"
                for name, better in figures.items()
                if not name.endswith(STRIPPED)
            ]
            if names:
                sentences.append(f"{model} is not shown to be better than the floor {floor} in {', '.join(names)}")
    return sentences


def power_sentences(results: Mapping[str, Any]) -> list[str]:
    """Say for each pair of models which differences a sample of this size cannot show."""
    sentences = []
    for pair, figures in results["differences"].items():
        wanted = ("nll", "rougeL", "topic_coverage")
        shown = [name for name in wanted if name in figures and figures[name]["detectable"] > 1e-9]
        if shown:
            least = ", ".join(f"{figures[name]['detectable']:.2g} in {name}" for name in shown)
            sentences.append(
                f"{pair.replace('-', ' - ')}: with {results['questions']} questions, smaller differences than "
                f"{least} cannot be relied on to show"
            )
    return sentences
