"""What a rater was asked and what the rater said: the two records that all of ``medqa review`` works on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Side = Literal["x", "y"]
Verdict = Literal["x", "y", "equal"]


@dataclass(frozen=True)
class Pair:
    """A question and two answers, as one rater sees them.

    ``id``: opaque, stands on the page; ``question_id``: id of the held-out row; ``topic``: may be empty; ``x`` and
    ``y``: the models whose answers are shown as X and Y (adapter, base, merged, reference); ``shared``: all raters are
    asked this question about these models.
    """

    id: str
    rater: str
    question_id: str
    question: str
    topic: str
    x: str
    y: str
    shared: bool


@dataclass(frozen=True)
class Judgment:
    """What a rater said about a pair.

    ``x`` and ``y``: yes or no by id of the criterion, None where the rater did not answer; ``better``: None where the
    rater cannot judge; ``seconds``: spent on the pair, None where it was not measured (a spreadsheet).
    """

    pair: Pair
    x: Mapping[str, bool | None]
    y: Mapping[str, bool | None]
    better: Verdict | None
    remark: str
    seconds: float | None
