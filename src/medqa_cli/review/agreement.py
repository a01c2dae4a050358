"""How far raters agree who judged the same thing: Krippendorff's alpha and the share of pairs that say the same.

Alpha is 1 where all agree, 0 where they agree no more than by chance, below 0 where they contradict each other
(Krippendorff 2004, Content Analysis, chapter 11). Its value is NLTK's; its interval needs thousands of draws, for which
alpha is computed from the counts of coincidences, which are sums over units.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from medqa_cli.evaluation import bootstrap
from medqa_cli.evaluation.bootstrap import ClusterBootstrap, Estimate, FloatArray
from medqa_cli.review.intervals import t_quantile

# nominal: two values are the same or not; interval: the further apart, the worse (X better, equal, Y better).
Level = Literal["nominal", "interval"]
_DRAWS = 2000


@dataclass(frozen=True)
class Unit:
    """One thing that several raters judged, with the value that each of them gave; ``topic``: what is drawn whole."""

    topic: str
    values: tuple[float, ...]


def agreement(units: Sequence[Unit], level: Level, seed: int) -> dict[str, Any] | None:
    """Return alpha and raw agreement with 95 % intervals over topics, and how many units and pairs they rest on.

    ``alpha`` is None where all raters gave one and the same value to everything: nothing tells chance from agreement.

    Args:
        units: those with one value are passed over.
        level: how values are compared.
        seed: of the draws.

    Returns:
        None if nobody judged what another judged.
    """
    units = [unit for unit in units if len(unit.values) > 1]
    if not units:
        return None
    domain = sorted({value for unit in units for value in unit.values})
    counts = np.array([[unit.values.count(value) for value in domain] for unit in units], dtype=np.float64)
    draws = ClusterBootstrap([unit.topic for unit in units], _DRAWS, seed)
    raters = counts.sum(axis=1)
    pairs = raters * (raters - 1) / 2
    agreeing: FloatArray = np.stack([(counts * (counts - 1)).sum(axis=1) / 2, pairs], axis=1)
    raw = draws.figure(agreeing, bootstrap.ratio_of_sums).estimate()
    if raw.value in (0.0, 1.0):  # the same in every draw
        quantile = t_quantile(max(1, draws.num_clusters - 1))
        raw = Estimate(raw.value, *bootstrap.score_interval(raw.value, draws.num_clusters, quantile))
    found = {"units": len(units), "pairs": int(pairs.sum()), "raw": bootstrap.as_json(raw), "alpha": None}
    if len(domain) > 1:
        apart = np.subtract.outer(domain, domain)
        distances: FloatArray = (apart != 0).astype(np.float64) if level == "nominal" else apart**2
        resampled = draws.figure(coincidences(counts), lambda sums: alpha_of_sums(sums, distances))
        found["alpha"] = {**bootstrap.as_json(resampled.estimate()), "value": alpha(units, level)}
    return found


def alpha(units: Sequence[Unit], level: Level) -> float:
    """Return Krippendorff's alpha as NLTK computes it; several values must occur."""
    from nltk.metrics.agreement import AnnotationTask
    from nltk.metrics.distance import binary_distance, interval_distance

    said = [
        (f"rater {place}", f"unit {number}", value)
        for number, unit in enumerate(units)
        for place, value in enumerate(unit.values)
    ]
    task = AnnotationTask(said, distance=binary_distance if level == "nominal" else interval_distance)
    return float(task.alpha())


def coincidences(counts: FloatArray) -> FloatArray:
    """Return what each unit adds to the matrix of coincidences: float64, ``(units, values * values)``.

    Args:
        counts: float64, ``(units, values)``; each row sums to at least 2.
    """
    size = counts.shape[1]
    pairs = counts[:, :, None] * counts[:, None, :] - counts[:, :, None] * np.eye(size)
    matrices: FloatArray = (pairs / (counts.sum(axis=1) - 1)[:, None, None]).reshape(len(counts), -1)
    return matrices


def alpha_of_sums(sums: FloatArray, distances: FloatArray) -> FloatArray:
    """Reduce summed ``coincidences``, ``(n, values * values)``, to alpha, ``(n,)``; NaN where only one value is left.

    Args:
        sums: of draws.
        distances: float64, ``(values, values)``: squared distances of values.
    """
    size = len(distances)
    observed = sums.reshape(-1, size, size)
    of_value = observed.sum(axis=2)
    total = of_value.sum(axis=1)
    chance = np.einsum("ni,nj,ij->n", of_value, of_value, distances) / (total - 1)
    seen = np.einsum("nij,ij->n", observed, distances)
    alphas: FloatArray = 1 - np.divide(seen, chance, out=np.full(len(sums), np.nan), where=chance > 0)
    return alphas
