"""Intervals: a percentile bootstrap over clusters of questions, paired between models.

Rows about one topic are not independent, so whole clusters are drawn (Miller 2024, arXiv 2411.00640; Koehn 2004, ACL
W04-3250 for pairing). With few clusters percentiles are too narrow, as a normal interval is where Student's t is due:
the tails move outward by the same amount (Hesterberg 2014, arXiv 1411.5279, expanded percentiles).

A figure is any function of sums over questions: a mean, a ratio, a corpus BLEU, a macro-F1. It is recomputed from the
sums of each draw.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
# From sums over questions, (draws, parts), to the figure of each draw, (draws,).
Reduce = Callable[[FloatArray], FloatArray]
# A two-sided test at 5 % finds a difference of this many standard errors in 80 % of samples: 1.96 + 0.84.
POWER_80 = 2.8


@dataclass(frozen=True)
class Estimate:
    """A figure and its 95 % interval; both ends are NaN where a single cluster decides it."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Resampled:
    """A figure, and in each draw: ``draws`` is float64, ``(draws,)``, NaN where a draw leaves it undefined.

    ``num_clusters``: those that add anything to the figure, as topics do where only some questions have one.
    """

    value: float
    draws: FloatArray
    num_clusters: int

    def __sub__(self, other: Resampled) -> Resampled:
        """Return the paired difference: both must come from the same draws."""
        return Resampled(self.value - other.value, self.draws - other.draws, min(self.num_clusters, other.num_clusters))

    def estimate(self) -> Estimate:
        """Return the value with its 95 % interval."""
        if self.num_clusters < 2:  # the same in every draw
            return Estimate(self.value, math.nan, math.nan)
        tail = expanded_tail(self.num_clusters)
        # A draw without any question that the figure is defined for says nothing about it.
        low, high = np.nanquantile(self.draws, [tail, 1 - tail])
        return Estimate(self.value, float(low), float(high))

    def detectable(self) -> float:
        """Return the least true size that a sample like this shows in 80 of 100 cases (two-sided test at 5 %).

        NaN where a single cluster decides the figure.
        """
        return math.nan if self.num_clusters < 2 else POWER_80 * float(np.nanstd(self.draws))


class ClusterBootstrap:
    """The same draws of clusters for every figure, so that differences are paired.

    Args:
        clusters: cluster key of each question.
        draws: number of resamples.
        seed: seed of the draws.
    """

    def __init__(self, clusters: Sequence[str], draws: int, seed: int) -> None:
        keys = {key: index for index, key in enumerate(dict.fromkeys(clusters))}
        self.num_clusters = len(keys)
        self._cluster_of = np.array([keys[key] for key in clusters])
        generator = np.random.default_rng(seed)
        # (draws, clusters): how often each cluster was drawn.
        self._weights = generator.multinomial(
            self.num_clusters, np.full(self.num_clusters, 1 / self.num_clusters), draws
        )

    def figure(self, parts: FloatArray, reduce: Reduce) -> Resampled:
        """Compute a figure from sums, for the sample and for each draw.

        Args:
            parts: float64, ``(questions, parts)``: what each question adds to the sums.
            reduce: from sums, ``(n, parts)``, to figures, ``(n,)``; NaN where the sums leave it undefined.
        """
        sums = np.zeros((self.num_clusters, parts.shape[1]))
        np.add.at(sums, self._cluster_of, parts)
        value = float(reduce(sums.sum(axis=0, keepdims=True))[0])
        return Resampled(value, reduce(self._weights @ sums), int((sums != 0).any(axis=1).sum()))

    def mean(self, values: Sequence[float]) -> Resampled:
        """Compute the mean of a value of each question."""
        return self.figure(np.array([[value, 1.0] for value in values]), ratio_of_sums)


def better_of(difference: Estimate, *, lower_is_better: bool) -> bool | None:
    """Say whether the first of two models is better; None where the interval holds 0 or is NaN."""
    if not (difference.low > 0 or difference.high < 0):  # NaN, too, shows nothing
        return None
    return (difference.high < 0) == lower_is_better


def as_json(estimate: Estimate) -> Mapping[str, object]:
    """Return the form that ``results.json`` uses: null for both ends where there is no interval."""
    return {"value": estimate.value, "ci95": [_number_or_none(estimate.low), _number_or_none(estimate.high)]}


def difference_as_json(difference: Resampled, *, lower_is_better: bool | None) -> dict[str, Any]:
    """Return the form of a paired difference in ``results.json``; ``lower_is_better``: None where neither way is."""
    estimate = difference.estimate()
    better = None if lower_is_better is None else better_of(estimate, lower_is_better=lower_is_better)
    return {**as_json(estimate), "better": better, "detectable": _number_or_none(difference.detectable())}


def _number_or_none(number: float) -> float | None:
    """Return a number as JSON can hold it: None for NaN."""
    return None if math.isnan(number) else number


def with_interval(figure: Mapping[str, Any], form: str) -> str:
    """Return a figure of ``results.json`` in a number format: ``0.30 [0.20, 0.40]``, or its value alone."""
    value, low, high = ("" if number is None else f"{number:{form}}" for number in (figure["value"], *figure["ci95"]))
    return f"{value} [{low}, {high}]" if low else value


def percent(figure: Mapping[str, Any], sign: str = "") -> str:
    """Return a share, or a difference of shares, with its interval if it has one: ``61 % [48, 73]``."""
    value, low, high = (
        None if number is None else f"{100 * number:{sign}.0f}" for number in (figure["value"], *figure["ci95"])
    )
    return f"{value} %" if low is None else f"{value} % [{low}, {high}]"


def score_interval(value: float, size: float, quantile: float) -> tuple[float, float]:
    """Return Wilson's interval for a share (1927, "Probable inference", without continuity correction).

    It has a width where the share is 0 or 1, which a bootstrap has not.

    Args:
        value: the share, from 0 to 1.
        size: of how many independent questions.
        quantile: how many standard errors it reaches to each side.
    """
    square = quantile**2 / size
    middle = (value + square / 2) / (1 + square)
    reach = quantile / (1 + square) * math.sqrt(value * (1 - value) / size + square / (4 * size))
    return max(0.0, middle - reach), min(1.0, middle + reach)


def ratio_of_sums(sums: FloatArray) -> FloatArray:
    """Reduce ``(n, 2)`` to numerator / denominator; NaN where the denominator is 0."""
    top, bottom = sums[:, 0], sums[:, 1]
    ratios: FloatArray = np.divide(top, bottom, out=np.full(len(sums), np.nan), where=bottom != 0)
    return ratios


def expanded_tail(num_clusters: int) -> float:
    """Return the share of draws to leave out at each end of a 95 % interval over so many clusters, two or more.

    2.5 % for many; less for few, by sqrt(n / (n - 1)) and by Student's t in place of the normal quantile (its series in
    1 / degrees of freedom: Abramowitz and Stegun 26.7.5).
    """
    z, freedom = NormalDist().inv_cdf(0.975), num_clusters - 1
    t = z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
    return NormalDist().cdf(-t * (num_clusters / freedom) ** 0.5)
