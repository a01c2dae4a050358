"""The names of eval's figures, what they measure and which way is better. Does not compute them: ``figures`` does.

Light on purpose: the command line and the gate read it before anything heavy is imported.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

LIKELIHOOD = ("nll", "bits_per_byte")
OVERLAP = ("rouge1", "rouge2", "rougeL", "chrf", "bleu")
TOPIC = ("topic_coverage", "reference_swap_margin")
BEHAVIOUR = ("seq_rep_4", "loop_rate", "finished_rate", "length_ratio", "prompt_echo_rate")
CHOICE = ("accuracy", "macro_f1")
STRIPPED = "_stripped"


@dataclass(frozen=True)
class Metric:
    """What a figure is: ``lower_is_better`` is None where neither direction is good by itself."""

    title: str
    lower_is_better: bool | None


METRICS: dict[str, Metric] = {
    "nll": Metric("nats per reference token", True),
    "bits_per_byte": Metric("bits per byte of reference", True),
    "rouge1": Metric("ROUGE-1", False),
    "rouge2": Metric("ROUGE-2", False),
    "rougeL": Metric("ROUGE-L", False),
    "chrf": Metric("chrF", False),
    "bleu": Metric("BLEU", False),
    "topic_coverage": Metric("topic words covered", False),
    "reference_swap_margin": Metric("ROUGE-L own - swapped", False),
    "seq_rep_4": Metric("repeated 4-grams", True),
    "loop_rate": Metric("share that loop", True),
    "finished_rate": Metric("share finished", False),
    "length_ratio": Metric("words / reference's", None),
    "prompt_echo_rate": Metric("share echoing question", True),
    "accuracy": Metric("accuracy", False),
    "macro_f1": Metric("macro-F1", False),
}


def metric(name: str) -> Metric:
    """Return the description of a metric, of a stripped one too.

    Raises:
        KeyError: there is no such metric.
    """
    plain = name.removesuffix(STRIPPED)
    if plain != name and plain in OVERLAP:
        return Metric(f"{METRICS[plain].title} stripped", METRICS[plain].lower_is_better)
    return METRICS[name]


def text_metrics(chosen: Iterable[str]) -> list[str]:
    """Return the names of the figures of generated answers among those chosen, stripped variants added."""
    names: list[str] = []
    for name in chosen:
        if name not in LIKELIHOOD:
            names += [name, name + STRIPPED] if name in OVERLAP else [name]
    return names


def all_names() -> Sequence[str]:
    """Return every name that a result file may hold."""
    return [*METRICS, *(name + STRIPPED for name in OVERLAP)]
