"""Detects divergence before the optimizer touches the weights, from each step's raw loss and gradient norm.

A value that is not finite, or a loss far above the losses before it, ends the run.
"""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

# A loss of this many times its running median has diverged. MedQuAD's steps of 8 rows stay below 1.3 times theirs, its
# worst single row below 1.7 times (docs/experiments.md, 2026-11-24).
LOSS_FACTOR = 3.0
# Where a run diverges, the steps before it whose losses were this many times the median belong to it already.
RISEN_FACTOR = 1.5
# Below this many nats per token a ratio says nothing: a run that knows its rows by heart meets one that it does not.
LOSS_FLOOR = 1.0
# Judged losses behind the running median, and how many there must be before anything is judged by it.
MEDIAN_WINDOW = 100
MIN_HISTORY = 3
# A mean over less than this is noise: a smaller step is judged together with the steps before it.
JUDGED_EXAMPLES = 8
JUDGED_TOKENS = 512
# float16's loss scale begins at 2**16 and halves at each overflow: after this many in a row it is below 1/16, and
# gradients that overflow even so are no matter of scale.
MAX_OVERFLOWS = 20


class DivergedError(Exception):
    """The training cannot go on from here; the weights are those before this step's update.

    Args:
        reason: what was seen, a sentence without its full stop.
        step: the optimizer step (from 1) whose update was not made; for a validation loss, the step it was seen after.
        row_ids: ids of the rows that the step was computed from, or whose validation loss is not finite.
        split: the split that these rows stand in.
        risen_since: the first of the steps up to this one whose losses were high already; ``step`` where none was.
    """

    def __init__(
        self,
        reason: str,
        step: int,
        row_ids: Sequence[str] = (),
        split: str = "train",
        risen_since: int | None = None,
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.step = step
        self.row_ids = [row_id for row_id in row_ids if row_id]
        self.split = split
        self.risen_since = step if risen_since is None else risen_since


@dataclass(frozen=True)
class StepLoss:
    """The loss of one step over all ranks: its mean in nats per answer token, and what it is a mean of."""

    mean: float
    num_tokens: int
    num_examples: int


class DivergenceDetector:
    """Judges each step's loss and gradient; remembers the losses, for the judgment and for the display.

    ``losses`` are the newest steps' means; ``num_skipped_steps`` counts the updates that a loss scaler left out.
    """

    def __init__(self) -> None:
        self.losses: deque[float] = deque(maxlen=MEDIAN_WINDOW)
        self.num_skipped_steps = 0
        self._overflows = 0
        self._pool: deque[StepLoss] = deque()
        self._judged: deque[float] = deque(maxlen=MEDIAN_WINDOW)
        self._steps_since_judged = 0
        self._lowest_median = math.inf

    def check_loss(self, step: int, loss: StepLoss, row_ids: Sequence[str]) -> None:
        """Judge the raw loss of a step.

        Raises:
            DivergedError: it is not finite, or over ``LOSS_FACTOR`` times its running median.
        """
        risen_since = self._risen_since(step)
        if not math.isfinite(loss.mean):
            raise DivergedError(f"the loss of step {step} is {loss.mean}", step, row_ids, risen_since=risen_since)
        self.losses.append(loss.mean)
        # The newest steps that make up enough examples and tokens.
        self._pool.append(loss)
        while _is_enough(list(self._pool)[1:]):
            self._pool.popleft()
        if not _is_enough(self._pool):
            return
        pooled = sum(part.mean * part.num_tokens for part in self._pool) / sum(part.num_tokens for part in self._pool)
        if len(self._judged) >= MIN_HISTORY:
            reference = self._reference()
            if pooled > LOSS_FACTOR * max(LOSS_FLOOR, reference):
                raise DivergedError(
                    f"the loss of step {step} is {loss.mean:.4g}"
                    + (f" ({pooled:.4g} with the steps before it)" if len(self._pool) > 1 else "")
                    + f", over {LOSS_FACTOR:g} times its running median of {reference:.4g}",
                    step,
                    row_ids,
                    risen_since=risen_since,
                )
        # Overlapping windows are correlated; take the median over disjoint ones.
        self._steps_since_judged += 1
        if self._steps_since_judged >= len(self._pool):
            self._judged.append(pooled)
            self._steps_since_judged = 0

    def _reference(self) -> float:
        """Return the running median, or the lowest that it ever was: a slow rise must not carry its measure along."""
        now = median(self._judged)
        if len(self._judged) == MEDIAN_WINDOW:
            # That of a few losses may be low by chance.
            self._lowest_median = min(self._lowest_median, now)
        return min(now, self._lowest_median)

    def _risen_since(self, step: int) -> int:
        """Return the first of the steps in a row before ``step`` whose losses were high; ``step`` where none was."""
        if len(self._judged) < MIN_HISTORY:
            return step
        high = RISEN_FACTOR * max(LOSS_FLOOR, self._reference())
        for loss in reversed(self.losses):
            if loss <= high:
                break
            step -= 1
        return step

    def check_gradients(self, step: int, norm: float, loss_scale: float | None, row_ids: Sequence[str]) -> None:
        """Judge the gradient's norm of a step, before it is clipped.

        Args:
            step: the step, from 1.
            norm: the norm over all trained parameters.
            loss_scale: what float16's scaler multiplied the loss by; None without a scaler. A scale that is too high
                overflows; the scaler then leaves the update out and halves the scale, which is allowed for a while.
            row_ids: ids of the rows that the step was computed from.

        Raises:
            DivergedError: it is not finite, and no scaler helps.
        """
        if math.isfinite(norm):
            self._overflows = 0
            return
        if loss_scale is None:
            raise DivergedError(f"the gradient of step {step} has the norm {norm}", step, row_ids)
        self._overflows += 1
        self.num_skipped_steps += 1
        if self._overflows > MAX_OVERFLOWS:
            raise DivergedError(
                f"the gradient of step {step} has the norm {norm}, as those of the {self._overflows - 1} steps before "
                f"it, though the loss scale was lowered to {loss_scale:g}",
                step,
                row_ids,
            )

    def state(self) -> dict[str, Any]:
        """Return what a resumed run needs to judge as this one would, as JSON holds it."""
        return {
            "losses": list(self.losses),
            "num_skipped_steps": self.num_skipped_steps,
            "overflows": self._overflows,
            "pool": [[part.mean, part.num_tokens, part.num_examples] for part in self._pool],
            "judged": list(self._judged),
            "steps_since_judged": self._steps_since_judged,
            "lowest_median": self._lowest_median if math.isfinite(self._lowest_median) else None,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take over what ``state`` returned."""
        self.losses.extend(state["losses"])
        self.num_skipped_steps = state["num_skipped_steps"]
        self._overflows = state["overflows"]
        self._pool.extend(StepLoss(*part) for part in state["pool"])
        self._judged.extend(state["judged"])
        self._steps_since_judged = state["steps_since_judged"]
        self._lowest_median = math.inf if state["lowest_median"] is None else state["lowest_median"]


def _is_enough(parts: Sequence[StepLoss] | deque[StepLoss]) -> bool:
    return (
        sum(part.num_examples for part in parts) >= JUDGED_EXAMPLES
        and sum(part.num_tokens for part in parts) >= JUDGED_TOKENS
    )
