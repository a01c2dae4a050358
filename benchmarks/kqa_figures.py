"""How well automatic figures tell what three physicians said of pairs of an answer and a claim.

    python benchmarks/kqa_figures.py NLI_medical_annotator.csv [--json FILE]

The file is K-QA's (Manes et al., BioNLP 2024, github.com/Itaymanes/K-QA, MIT): for each pair whether the answer
entails, contradicts or does not mention the claim, by three physicians. Printed are how far they agree, and for each
figure of ``medqa review score``, with the claim as the reference, the area under the ROC curve: how often it is higher
for a pair that most of them call entailed (or contradicted) than for another. Intervals: 95 %, over questions.
"""

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from figures import add_json_option, write_figures

from medqa_cli.evaluation.samples import Sample
from medqa_cli.review.figures import Unit, agreement
from medqa_cli.review.score import automatic_figures

LABELS = ("Entailment", "Neutral", "Contradiction")
RESAMPLES = 1000
FloatArray = npt.NDArray[np.float64]


def read_rows(path: Path) -> list[dict[str, str]]:
    """Read the pairs."""
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def units(rows: Sequence[dict[str, str]]) -> list[Unit]:
    """Return what the three physicians said of each pair."""
    return [Unit(row["Question"], tuple(float(LABELS.index(row[f"label_{n}"])) for n in range(3))) for row in rows]


def samples(rows: Sequence[dict[str, str]]) -> list[Sample]:
    """Return each pair as a sample whose reference is the claim."""
    return [
        Sample(f"{n}", "", row["llm_x"], row["Question"], (row["claim"],), answer=row["answer"])
        for n, row in enumerate(rows)
    ]


def area(values: Sequence[float], positive: Sequence[bool], clusters: Sequence[str]) -> tuple[float, float, float]:
    """Return the area under the ROC curve with its 95 % interval, clusters drawn whole.

    Args:
        values: of each pair.
        positive: whether it is what is looked for.
        clusters: its question.
    """
    numbers = {name: number for number, name in enumerate(dict.fromkeys(clusters))}
    cluster_of = np.array([numbers[name] for name in clusters])
    of_value, is_positive = np.array(values), np.array(positive)
    apart = of_value[is_positive][:, None] - of_value[~is_positive][None, :]
    wins: FloatArray = (apart > 0) + 0.5 * (apart == 0)
    generator = np.random.default_rng(42)
    drawn = generator.multinomial(len(numbers), np.full(len(numbers), 1 / len(numbers)), RESAMPLES).astype(np.float64)
    up, down = drawn[:, cluster_of[is_positive]], drawn[:, cluster_of[~is_positive]]
    pairs = up.sum(axis=1) * down.sum(axis=1)
    areas = ((up @ wins) * down).sum(axis=1)[pairs > 0] / pairs[pairs > 0]
    low, high = np.quantile(areas, [0.025, 0.975])
    return float(wins.mean()), float(low), float(high)


def measure(rows: Sequence[dict[str, str]]) -> dict[str, Any]:
    """Return agreement and the areas of each figure that a pair has."""
    of_pairs, questions = samples(rows), [row["Question"] for row in rows]
    found: dict[str, Any] = {"pairs": len(rows), "agreement": agreement(units(rows), "nominal", 42), "figures": {}}
    for name, figure in automatic_figures().items():
        values = [figure.sign * figure.value_of(sample) for sample in of_pairs]
        if not np.isnan(values).any():
            found["figures"][name] = {
                label: area(values, [row["majority_label"] == label for row in rows], questions)
                for label in ("Entailment", "Contradiction")
            }
    return found


def main() -> None:
    """Print and write the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("file", type=Path)
    add_json_option(parser)
    arguments = parser.parse_args()
    found = measure(read_rows(arguments.file))
    alpha, raw = found["agreement"]["alpha"], found["agreement"]["raw"]
    print(f"{found['pairs']} pairs: {raw['value']:.3f} of the physicians' pairs agree, alpha {alpha['value']:.3f}")
    for name, of in sorted(found["figures"].items(), key=lambda item: -item[1]["Entailment"][0]):
        print(name.ljust(24), *("{:.3f} [{:.3f}, {:.3f}]".format(*of[label]) for label in of), sep="  ")
    write_figures(arguments.json, found)


if __name__ == "__main__":
    main()
