"""Means over judged questions with 95 % intervals, for other topics and other raters than those that were asked.

Each question counts once, whoever judged it. The variance has two parts: topics, taken whole as in the evaluation, and
raters, who differ by more than their questions explain. It is the model of many readers and many cases (Dorfman,
Berbaum and Metz 1992, doi:10.1097/00004424-199209000-00015) in moments for tables with holes, since most questions have
one rater. Two to five raters say little about how much raters differ, so ``_RATERS_SHARE`` of the variance counts like
one rater more. Degrees of freedom are Satterthwaite's. The interval is Wilson's for as many independent questions as
would vary that much (Dean and Pagano 2015, doi:10.1093/jssam/smv024): it stays within its bounds, and is not empty
where all raters say the same. ``benchmarks/review_intervals.py`` measures how often such intervals hold the truth.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from medqa_cli.evaluation.bootstrap import POWER_80, FloatArray, score_interval

_CONFIDENCE = 0.95
# Of the variance of single judgments, the share that is the raters' before anything is known of them.
_RATERS_SHARE = 0.01
_NOTHING = 1e-12  # variances below are 0 and rounding
_LARGEST_FREEDOM = 1e4
_IndexArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Cell:
    """What one rater found for one question; ``topic``: what is drawn whole, not empty."""

    topic: str
    question: str
    rater: str
    value: float


@dataclass(frozen=True)
class Mean:
    """A mean over questions with its 95 % interval.

    ``topic_variance`` and ``rater_variance``: the two parts of the mean's variance. With one rater the second is 0 and
    the interval is for this rater only; with one topic the interval says nothing.
    """

    value: float
    low: float
    high: float
    topic_variance: float
    rater_variance: float
    num_questions: int
    num_topics: int
    num_raters: int

    def detectable(self) -> float:
        """Return the least true distance from a tie that a sample like this shows in 80 of 100 cases (test at 5 %)."""
        return POWER_80 * math.sqrt(self.topic_variance + self.rater_variance)

    def questions_to_settle(self, tie: float) -> int | None:
        """Return how many questions in all show a distance from ``tie`` like the one seen, in 80 of 100 cases.

        None: no number does with these raters, as they differ too much, or there is no distance.
        """
        room = ((self.value - tie) / POWER_80) ** 2 - self.rater_variance
        return math.ceil(self.num_questions * self.topic_variance / room) if room > _NOTHING else None


def mean_over_questions(cells: Sequence[Cell], low: float = 0.0, high: float = 1.0) -> Mean | None:
    """Return the mean and its interval; None without cells.

    Args:
        cells: at most one for each rater and question.
        low: the lowest value that a cell can have.
        high: the highest value.
    """
    if not cells:
        return None
    topics, questions, raters = (
        _numbered(getattr(cell, key) for cell in cells) for key in ("topic", "question", "rater")
    )
    num_topics, num_questions, num_raters = (int(keys.max()) + 1 for keys in (topics, questions, raters))
    values = (np.array([cell.value for cell in cells]) - low) / (high - low)
    raters_of = np.bincount(questions)
    of_questions: FloatArray = np.bincount(questions, values) / raters_of
    weights = 1 / (raters_of[questions] * num_questions)
    value = float(of_questions.mean())
    of_topics = np.bincount(topics, weights * (values - value))
    topic_part = float(of_topics @ of_topics) * num_topics / max(1, num_topics - 1)
    rater_part = _rater_part(topics, raters, weights, values) if num_raters > 1 else 0.0
    variance = topic_part + rater_part
    # Satterthwaite; the share that is known beforehand counts as one rater.
    known = topic_part**2 / max(1, num_topics - 1) + rater_part**2 / num_raters
    freedom = max(1.0, variance**2 / known) if known > 0 else max(1.0, num_topics - 1.0)
    if not (variance > _NOTHING and 0 < value < 1):
        # Where all questions have the same value: as if one more had been all high and one all low.
        of_questions = np.append(of_questions, (0.0, 1.0))
        topic_part = variance = float(of_questions.var()) / len(of_questions)
    middle = float(of_questions.mean())
    size = middle * (1 - middle) / variance
    start, end = score_interval(value, size, t_quantile(freedom))
    scale = high - low
    return Mean(
        value=low + scale * value,
        low=low + scale * start,
        high=low + scale * end,
        topic_variance=scale**2 * topic_part,
        rater_variance=scale**2 * rater_part,
        num_questions=num_questions,
        num_topics=num_topics,
        num_raters=num_raters,
    )


def _numbered(keys: Iterable[str]) -> _IndexArray:
    """Return the number of each key, from 0 in the order of their first appearance: int64, ``(cells,)``."""
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], dtype=np.int64)


def _rater_part(topics: _IndexArray, raters: _IndexArray, weights: FloatArray, values: FloatArray) -> float:
    """Return the variance of the mean that comes from which raters were asked, by moments.

    All arguments: ``(cells,)``; at least two raters.
    """
    shares = np.bincount(raters, weights)
    means = np.bincount(raters, weights * values) / shares
    num_raters = len(shares)
    # (topics, raters): what each topic moves each rater's mean by.
    moves = np.zeros((int(topics.max()) + 1, num_raters))
    np.add.at(moves, (topics, raters), weights * (values - means[raters]))
    asked = np.array([len(np.unique(topics[raters == rater])) for rater in range(num_raters)])
    moves *= np.sqrt(asked / np.maximum(asked - 1, 1)) / shares
    by_chance = moves.T @ moves
    # How far raters' means lie apart, less what the questions of each explain.
    expected = (float(np.trace(by_chance)) - float(by_chance.sum()) / num_raters) / (num_raters - 1)
    seen = float(means.var(ddof=1)) - expected
    total = float(weights @ (values - weights @ values) ** 2)
    between = ((num_raters - 1) * seen + _RATERS_SHARE * total) / num_raters
    return max(0.0, between) * float(shares @ shares)


def t_quantile(freedom: float) -> float:
    """Return how many standard errors a 95 % interval reaches to each side, by Student's t.

    Args:
        freedom: degrees of freedom, at least 1, not necessarily whole; infinite: the normal distribution.
    """
    # A tenth more or less changes nothing that is shown.
    return _t_quantile(round(min(freedom, _LARGEST_FREEDOM), 1))


@cache
def _t_quantile(freedom: float) -> float:
    # P(|T| < sqrt(freedom) tan(a)) is the integral of cos^(freedom - 1) up to a, over that up to a right angle.
    angles = np.linspace(0, math.pi / 2, 20_001)
    heights = np.cos(angles) ** (freedom - 1)
    areas = np.concatenate([[0.0], np.cumsum(heights[1:] + heights[:-1])])
    return math.sqrt(freedom) * math.tan(float(np.interp(_CONFIDENCE, areas / areas[-1], angles)))
