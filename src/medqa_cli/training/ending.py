"""How a training ended: what ``train.json`` says of it, which weights become the adapter, what the user is told.

Does not train and does not write.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from medqa_cli import console
from medqa_cli.errors import Interrupted, MedqaError
from medqa_cli.files import RunFolder
from medqa_cli.training.checkpoint_files import (
    NotWrittenError,
    checkpoint_at,
    numbered_checkpoints,
    problem_of,
    step_of,
)
from medqa_cli.training.guards import DivergedError
from medqa_cli.training.looks import ValidationLooks

# Ids of rows in a message; train.json has all of them.
_MOST_ROWS = 16

Status = Literal["completed", "interrupted", "diverged"]
StopReason = Literal["max_steps", "early_stopping", "signal", "not_written", "diverged"]


@dataclass(frozen=True)
class Ending:
    """Why the loop ended; ``error`` is what it raised, if anything."""

    status: Status
    stop_reason: StopReason
    error: DivergedError | NotWrittenError | None = None


@dataclass(frozen=True)
class Outcome:
    """What a training did, in this process and before it. ``looks`` are those at the validation split."""

    ending: Ending
    global_step: int
    num_tokens: int
    tokens_per_second: float
    num_skipped_steps: int
    num_validation_examples: int
    looks: ValidationLooks


def adapter_checkpoint(run: RunFolder, outcome: Outcome, patience: int | None) -> Path | None:
    """Return the checkpoint whose weights become the adapter; None: those of the last step.

    Whoever sets ``early_stopping_patience`` has the validation split choose: the best look's weights are taken however
    the run ended. Without it the last step's are, and a better look is said.
    """
    looks, step = outcome.looks, outcome.global_step
    if looks.best_step is None:
        return None
    if looks.base_loss is not None and looks.best_loss >= looks.base_loss:
        console.warn(
            f"no look at validation was better than the base model's {looks.base_loss:.4f} "
            f"(the best: {looks.best_loss:.4f} after step {looks.best_step})"
        )
    if looks.best_step == step:
        return None
    if looks.rising_since is not None:
        console.warn(
            f"the validation loss rises since step {looks.rising_since} (from {looks.best_loss:.4f} to "
            f"{looks.last_loss:.4f}): the model learns the training rows by heart; fewer epochs, a lower "
            "train.learning_rate or more data help"
        )
    if patience is None:
        console.note(
            f"validation was best after step {looks.best_step} ({looks.best_loss:.4f}, now {looks.last_loss:.4f}); the "
            f"adapter is that of the last step, {step}. To have the best one: "
            "medqa train --resume --set train.early_stopping_patience=1"
        )
        return None
    chosen = checkpoint_at(run.checkpoints_dir, looks.best_step)
    problem = problem_of(chosen) if chosen.is_dir() else "missing"
    if problem is not None:
        console.warn(f"{chosen} had the best validation loss but is {problem}: the adapter is that of the last step")
        return None
    return chosen


def error_of(outcome: Outcome, run: RunFolder, data_dir: Path) -> MedqaError | None:
    """Return what to tell the user of a training that did not complete; None: it did."""
    ending = outcome.ending
    if ending.status == "completed":
        return None
    newest = newest_step(run, outcome.global_step)
    if isinstance(ending.error, DivergedError):
        return _diverged(ending.error, newest, data_dir)
    kept = "there is no earlier checkpoint" if newest is None else f"the checkpoint of step {newest} is kept"
    if ending.error is not None:
        return NotWrittenError(f"{ending.error.message}; {kept}", ending.error.hint)
    if newest is None:
        return Interrupted(
            f"stopped after step {outcome.global_step}, before the first checkpoint; nothing was saved",
            "start again with: medqa train",
        )
    saved = "a checkpoint was saved" if newest == outcome.global_step else kept
    return Interrupted(f"stopped at step {outcome.global_step}; {saved}", "go on with: medqa train --resume")


def newest_step(run: RunFolder, up_to: int) -> int | None:
    """Return the step of the newest checkpoint that this run can have made; None: there is none."""
    steps = [step_of(path) for path in numbered_checkpoints(run.checkpoints_dir)]
    return max((step for step in steps if step <= up_to), default=None)


def _diverged(error: DivergedError, newest: int | None, data_dir: Path) -> MedqaError:
    rows = f"; its rows in {data_dir / error.split}.jsonl: {_listed(error.row_ids)}" if error.row_ids else ""
    restart = "start over with: medqa train --restart"
    if newest is not None:
        restart = f"go on from step {newest} with: medqa train --resume, or {restart}"
    return MedqaError(
        f"{error.reason}; the run was stopped and no adapter was saved{rows}",
        f"look at these rows, lower train.learning_rate, then {restart}"
        if rows
        else f"lower train.learning_rate, then {restart}",
    )


def _listed(ids: Sequence[str]) -> str:
    more = f" and {len(ids) - _MOST_ROWS} more" if len(ids) > _MOST_ROWS else ""
    return ", ".join(ids[:_MOST_ROWS]) + more


def summarize(outcome: Outcome, run: RunFolder, log: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return what ``train.json`` says of the training itself.

    Args:
        outcome: what it did.
        run: where its checkpoints are.
        log: the lines of ``train.jsonl``.
    """
    losses = [line["loss"] for line in log if "loss" in line]
    looks = [line["validation_loss"] for line in log if "validation_loss" in line]
    error = outcome.ending.error
    diverged = None
    if isinstance(error, DivergedError):
        diverged = {"step": error.step, "reason": error.reason, "split": error.split, "rows": error.row_ids}
    return {
        "status": outcome.ending.status,
        "stop_reason": outcome.ending.stop_reason,
        "global_step": outcome.global_step,
        "adapter_step": None,
        "best_step": outcome.looks.best_step,
        "validation_rising_since": outcome.looks.rising_since,
        "checkpoint_step": newest_step(run, outcome.global_step),
        "num_train_tokens": outcome.num_tokens,
        "num_skipped_steps": outcome.num_skipped_steps,
        "num_validation_examples": outcome.num_validation_examples,
        "tokens_per_second": round(outcome.tokens_per_second, 1),
        "train_loss": [losses[0], losses[-1]] if losses else None,
        "validation_loss": [looks[0], min(looks), looks[-1]] if looks else None,
        "diverged": diverged,
    }
