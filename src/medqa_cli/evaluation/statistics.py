"""Intervals: a percentile bootstrap over clusters of questions, paired between models.

Rows about one topic are not independent, so whole clusters are drawn (Miller 2024, arXiv 2411.00640; Koehn 2004, ACL
W04-3250 for pairing). Does not know what the figures mean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A figure and its 95 % interval."""

    value: float
    low: float
    high: float


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

    def ratio(self, numerators: Sequence[float], denominators: Sequence[float]) -> Estimate:
        """Estimate sum(numerators) / sum(denominators), e.g. nats per token over all answers."""
        value, draws = self._ratio(numerators, denominators)
        return _estimate(value, draws)

    def ratio_difference(
        self,
        first: tuple[Sequence[float], Sequence[float]],
        second: tuple[Sequence[float], Sequence[float]],
    ) -> Estimate:
        """Estimate the difference of two ratios on the same questions, first minus second."""
        first_value, first_draws = self._ratio(*first)
        second_value, second_draws = self._ratio(*second)
        return _estimate(first_value - second_value, first_draws - second_draws)

    def _ratio(self, numerators: Sequence[float], denominators: Sequence[float]) -> tuple[float, FloatArray]:
        top, bottom = self._sums(numerators), self._sums(denominators)
        draws: FloatArray = (self._weights @ top) / (self._weights @ bottom)
        return float(top.sum() / bottom.sum()), draws

    def _sums(self, values: Sequence[float]) -> FloatArray:
        sums = np.zeros(self.num_clusters)
        np.add.at(sums, self._cluster_of, np.asarray(values, dtype=np.float64))
        return sums


def better_of(difference: Estimate, *, lower_is_better: bool) -> bool | None:
    """Say whether the first of two models is better; None where the interval holds 0 or is NaN."""
    if not (difference.low > 0 or difference.high < 0):  # NaN, too, shows nothing
        return None
    return (difference.high < 0) == lower_is_better


def as_json(estimate: Estimate) -> Mapping[str, object]:
    """Return the form that ``results.json`` uses."""
    return {"value": estimate.value, "ci95": [estimate.low, estimate.high]}


def _estimate(value: float, draws: FloatArray) -> Estimate:
    low, high = np.quantile(draws, [0.025, 0.975])
    return Estimate(value, float(low), float(high))
