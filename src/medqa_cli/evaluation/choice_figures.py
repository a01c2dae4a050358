"""Predictions on multiple-choice items, and accuracy and macro-F1 as functions of sums. Does not run models."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from medqa_cli.evaluation.statistics import FloatArray


def predictions(log_likelihoods: Sequence[Sequence[float]]) -> list[int]:
    """Return the likeliest choice of each item, the first of equals, as the harness takes it."""
    return [int(np.argmax(own)) for own in log_likelihoods]


def confusion_parts(gold: Sequence[int], predicted: Sequence[int], num_choices: int) -> FloatArray:
    """Return what each item adds to (right, gold, predicted) of each choice: float64, ``(items, 3 * choices)``."""
    parts = np.zeros((len(gold), 3, num_choices))
    for place, (true, said) in enumerate(zip(gold, predicted, strict=True)):
        parts[place, 0, true] = true == said
        parts[place, 1, true] = parts[place, 2, said] = 1
    return parts.reshape(len(gold), -1)


def accuracy_of_sums(sums: FloatArray) -> FloatArray:
    """Reduce summed ``confusion_parts``, ``(n, 3 * choices)``, to the share of right answers."""
    right, gold, _ = np.split(sums, 3, axis=1)
    shares: FloatArray = right.sum(axis=1) / gold.sum(axis=1)
    return shares


def macro_f1_of_sums(sums: FloatArray) -> FloatArray:
    """Reduce summed ``confusion_parts`` to the mean F1 over the choices that are right or predicted at least once.

    As scikit-learn's ``f1_score(average="macro")``, which PubMedQA's own evaluation uses.
    """
    right, gold, said = np.split(sums, 3, axis=1)
    present = gold + said > 0
    f1 = np.divide(2 * right, gold + said, out=np.zeros_like(right), where=present)
    means: FloatArray = f1.sum(axis=1) / present.sum(axis=1)
    return means
