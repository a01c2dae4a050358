"""Shares of a few things among many, with intervals and probabilities that hold for small counts."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Any

_Z = NormalDist().inv_cdf(0.975)


def share(count: int, whole: int) -> dict[str, Any]:
    """Return a share with its 95 % interval, as ``results.json`` keeps figures.

    The interval is Wilson's (1927, "Probable inference", without continuity correction): it has a width where the
    count is 0, which a bootstrap has not.

    Args:
        count: how many.
        whole: of how many, at least 1.
    """
    rate, spread = count / whole, _Z**2 / whole
    middle = (rate + spread / 2) / (1 + spread)
    half = _Z / (1 + spread) * math.sqrt(rate * (1 - rate) / whole + spread / (4 * whole))
    # At both ends exactly so, but for rounding.
    low, high = 0.0 if count == 0 else middle - half, 1.0 if count == whole else middle + half
    return {"value": rate, "ci95": [low, high]}


def tail(least: int, trials: int, chance: float) -> float:
    """Return the probability of at least ``least`` hits in ``trials``, each a hit with probability ``chance``."""
    return sum(
        math.comb(trials, hits) * chance**hits * (1 - chance) ** (trials - hits) for hits in range(least, trials + 1)
    )


def fewest_beyond_chance(trials: int, chance: float, level: float) -> int:
    """Return the least number of hits that chance gives with a probability of at most ``level``; more than 0."""
    return next(least for least in range(1, trials + 2) if tail(least, trials, chance) <= level)
