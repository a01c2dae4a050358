"""How fast a training goes, how long it will take, and which way its loss goes. Does not show anything."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from statistics import fmean, pvariance

# Fewer losses than this have no trend.
_MIN_FOR_TREND = 8


class Pace:
    """The clock of a training: seconds and tokens of its steps, seconds of its looks at validation."""

    def __init__(self) -> None:
        self.seconds_in_steps = 0.0
        self.tokens_in_steps = 0
        self._steps = 0
        self._seconds_in_looks = 0.0
        self._looks = 0
        self._started = 0.0

    def start(self) -> None:
        """Start the clock of a step or a look."""
        self._started = time.perf_counter()

    def end_step(self, tokens: int) -> None:
        """Stop the clock of a step that took ``tokens`` through the model."""
        self.seconds_in_steps += time.perf_counter() - self._started
        self.tokens_in_steps += tokens
        self._steps += 1

    def end_look(self) -> None:
        """Stop the clock of a look at the validation split, started when the step before it ended."""
        self._seconds_in_looks += time.perf_counter() - self._started
        self._looks += 1

    @property
    def tokens_per_second(self) -> float:
        """Tokens through the model per second of training steps; validation and saving do not count."""
        return self.tokens_in_steps / self.seconds_in_steps if self.seconds_in_steps else 0.0

    def seconds_left(self, steps: int, looks: int) -> float:
        """Predict the time for this many more steps and looks from those of this process; NaN before the first."""
        if not self._steps:
            return math.nan
        each_look = self._seconds_in_looks / self._looks if self._looks else 0.0
        return steps * self.seconds_in_steps / self._steps + looks * each_look


def trend_of(losses: Sequence[float]) -> str:
    """Return ``falling``, ``rising`` or ``level``: the newer half against the older; empty where there are too few.

    Level means that the halves differ by less than two standard errors of that difference.
    """
    half = len(losses) // 2
    if len(losses) < _MIN_FOR_TREND:
        return ""
    older, newer = list(losses)[-2 * half : -half], list(losses)[-half:]
    difference = fmean(newer) - fmean(older)
    error = math.sqrt((pvariance(older) + pvariance(newer)) / half)
    if abs(difference) <= 2 * error:
        return "level"
    return "falling" if difference < 0 else "rising"
