"""What each rater did: which side was preferred, how fast, how often nothing was said."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median
from typing import Any

from medqa_cli.review.intervals import score_interval, t_quantile
from medqa_cli.review.judgments import Judgment

# Of raters without a preference for a side, one in a hundred is named.
_SIDE_P = 0.01
# Nobody reads a question and two answers in less.
_TOO_FAST_SECONDS = 5.0


def describe_raters(judgments: Sequence[Judgment]) -> dict[str, Any]:
    """Return by rater: counts, the share of X among the decided pairs, whether it is more than chance, the pace."""
    raters = dict.fromkeys(judgment.pair.rater for judgment in judgments)
    return {rater: _describe([one for one in judgments if one.pair.rater == rater]) for rater in raters}


def _describe(judgments: Sequence[Judgment]) -> dict[str, Any]:
    verdicts = [judgment.better for judgment in judgments]
    decided, x = sum(verdict in ("x", "y") for verdict in verdicts), verdicts.count("x")
    seconds = [judgment.seconds for judgment in judgments if judgment.seconds is not None]
    side: dict[str, Any] | None = None
    if decided:
        low, high = score_interval(x / decided, decided, t_quantile(math.inf))
        p_value = two_sided_p(x, decided)
        side = {"value": x / decided, "ci95": [low, high], "p": p_value, "biased": p_value < _SIDE_P}
    return {
        "judged": sum(verdict is not None for verdict in verdicts),
        "equal": verdicts.count("equal"),
        "cannot_judge": verdicts.count(None),
        "remarks": sum(bool(judgment.remark.strip()) for judgment in judgments),
        "x_share": side,
        "median_seconds": round(median(seconds), 1) if seconds else None,
        "faster_than_reading": sum(value < _TOO_FAST_SECONDS for value in seconds),
    }


def two_sided_p(successes: int, trials: int) -> float:
    """Return how likely a fair coin is at least as far from half (exact binomial test)."""
    distance = abs(2 * successes - trials)
    far = sum(math.comb(trials, k) for k in range(trials + 1) if abs(2 * k - trials) >= distance)
    return float(far / 2**trials)
