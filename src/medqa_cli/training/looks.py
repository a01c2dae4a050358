"""Looks at the validation split while training: the best one so far, its checkpoint, and when to stop early.

Does not score: ``trainer.evaluate`` does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

# One look above the best may be chance.
_LOOKS_OF_A_RISE = 2


class ValidationLooks(TrainerCallback):
    """Asks for a look after the last step, for a checkpoint at each best look, and for the end when none gets better.

    The look before the first step is the base model's: it counts for the patience, but has no adapter to keep.

    Args:
        log: lines of ``train.jsonl`` so far; a resumed run goes on counting where they end.
        patience: looks without gain after which to stop; None: never.
    """

    def __init__(self, log: Sequence[dict[str, Any]], patience: int | None) -> None:
        self.best_step: int | None = None
        self.best_loss = float("inf")
        self.last_loss: float | None = None
        self.base_loss: float | None = None
        # Shared with the trainer, whose rotation spares these checkpoints.
        self.kept_steps: set[int] = set()
        self._patience = patience
        self._lowest = float("inf")
        self._looks_without_gain = 0
        for line in log:
            if "validation_loss" in line:
                self._count(line["step"], line["validation_loss"])

    @property
    def rising_since(self) -> int | None:
        """The step of the best look where the loss has been higher at two looks or more since; None: it is not so."""
        if self.last_loss is None or self._looks_without_gain < _LOOKS_OF_A_RISE or self.last_loss <= self.best_loss:
            return None
        return self.best_step

    @property
    def stopped_early(self) -> bool:
        """Whether the patience is used up."""
        return self._patience is not None and self._looks_without_gain >= self._patience

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Train no further where an earlier run had stopped early."""
        if self.stopped_early:
            control.should_training_stop = True

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Look after the last step, before its checkpoint."""
        if state.global_step >= state.max_steps:
            control.should_evaluate = True

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kw: Any) -> None:
        """Keep the adapter of the best look; stop when validation has not improved for ``patience`` looks."""
        if self._count(state.global_step, kw["metrics"]["eval_loss"]):
            control.should_save = True
        if self.stopped_early:
            control.should_training_stop = control.should_save = True

    def _count(self, step: int, loss: float) -> bool:
        """Count a look; return whether its adapter is the best so far."""
        self._looks_without_gain = 0 if loss < self._lowest else self._looks_without_gain + 1
        self._lowest = min(self._lowest, loss)
        self.last_loss = loss
        if step == 0:
            self.base_loss = loss
            return False
        is_best = loss < self.best_loss
        if is_best:
            self.best_step, self.best_loss = step, loss
            self.kept_steps.clear()
            self.kept_steps.add(step)
        return is_best
