"""How a training ended: the content of ``train.json``, which weights become the adapter, the message to the user."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from medqa_cli import console
from medqa_cli.errors import Interrupted, MedqaError
from medqa_cli.files import RunFolder
from medqa_cli.training.callbacks import EarlyStopping
from medqa_cli.training.checkpoints import (
    NotWrittenError,
    checkpoint_at,
    numbered_checkpoints,
    problem_of,
    step_of,
)
from medqa_cli.training.divergence import DivergedError

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
    """What a training did, in this process and before it. ``early_stopping`` has the validation losses."""

    ending: Ending
    global_step: int
    num_tokens: int
    tokens_per_second: float
    num_skipped_steps: int
    num_validation_examples: int
    early_stopping: EarlyStopping


def adapter_checkpoint(run: RunFolder, outcome: Outcome, patience: int | None) -> Path | None:
    """Return the checkpoint whose weights become the adapter; None: those of the last step.

    Whoever sets ``early_stopping_patience`` has the validation split choose: the best step's weights are taken however
    the run ended. Without it the last step's are taken, and a note names a better step.
    """
    validation, step = outcome.early_stopping, outcome.global_step
    if validation.best_step is None:
        return None
    if validation.base_loss is not None and validation.best_loss >= validation.base_loss:
        console.warn(
            f"no validation loss was better than the base model's {validation.base_loss:.4f} "
            f"(the best: {validation.best_loss:.4f} after step {validation.best_step})"
        )
    if validation.best_step == step:
        return None
    if validation.rising_since is not None:
        console.warn(
            f"the validation loss rises since step {validation.rising_since} (from {validation.best_loss:.4f} to "
            f"{validation.last_loss:.4f}): the model learns the training rows by heart; fewer epochs, a lower "
            "train.learning_rate or more data help"
        )
    if patience is None:
        console.note(
            f"validation was best after step {validation.best_step} ({validation.best_loss:.4f}, now "
            f"{validation.last_loss:.4f}); the adapter is that of the last step, {step}. To have the best one: "
            "medqa train --resume --set train.early_stopping_patience=1"
        )
        return None
    chosen = checkpoint_at(run.checkpoints_dir, validation.best_step)
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
        error, ids = ending.error, ending.error.row_ids
        more = f" and {len(ids) - _MOST_ROWS} more" if len(ids) > _MOST_ROWS else ""
        rows = f"; its rows in {data_dir / error.split}.jsonl: {', '.join(ids[:_MOST_ROWS])}{more}" if ids else ""
        restart = "start over with: medqa train --restart"
        if newest is not None:
            restart = f"go on from step {newest} with: medqa train --resume, or {restart}"
        return MedqaError(
            f"{error.reason}; the run was stopped and no adapter was saved{rows}",
            f"{'look at these rows, ' if rows else ''}lower train.learning_rate, then {restart}",
        )
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


def summarize(outcome: Outcome, run: RunFolder, log: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return what ``train.json`` says of the training itself.

    Args:
        outcome: what it did.
        run: where its checkpoints are.
        log: the lines of ``train.jsonl``.
    """
    losses = [line["loss"] for line in log if "loss" in line]
    validation = [line["validation_loss"] for line in log if "validation_loss" in line]
    error = outcome.ending.error
    diverged = None
    if isinstance(error, DivergedError):
        diverged = {"step": error.step, "reason": error.reason, "split": error.split, "rows": error.row_ids}
    return {
        "status": outcome.ending.status,
        "stop_reason": outcome.ending.stop_reason,
        "global_step": outcome.global_step,
        "adapter_step": None,
        "best_step": outcome.early_stopping.best_step,
        "validation_rising_since": outcome.early_stopping.rising_since,
        "checkpoint_step": newest_step(run, outcome.global_step),
        "num_train_tokens": outcome.num_tokens,
        "num_skipped_steps": outcome.num_skipped_steps,
        "num_validation_examples": outcome.num_validation_examples,
        "tokens_per_second": round(outcome.tokens_per_second, 1),
        "train_loss": [losses[0], losses[-1]] if losses else None,
        "validation_loss": [validation[0], min(validation), validation[-1]] if validation else None,
        "diverged": diverged,
    }


def show(summary: dict[str, Any], run: RunFolder) -> None:
    """Print what was trained, the losses, speed, memory, and where everything lies."""
    rows = [
        ["examples", f"{summary['num_train_examples']:,}"],
        ["answers cut at max_length", f"{summary['num_truncated_answers']:,}"],
        ["optimizer steps", f"{summary['global_step']:,}"],
        ["tokens", f"{summary['num_train_tokens']:,}"],
        ["training loss, first and last", _losses(summary["train_loss"])],
    ]
    if summary["num_examples_without_answer"]:
        rows.insert(2, ["rows without room for an answer", f"{summary['num_examples_without_answer']:,}"])
    if summary["validation_loss"]:
        label = f"validation loss before, best, last ({summary['num_validation_examples']} questions)"
        rows.append([label, _losses(summary["validation_loss"])])
    rows.append(["adapter saved", _adapter(summary)])
    if summary["num_skipped_steps"]:
        rows.append(["updates skipped by the loss scaler", f"{summary['num_skipped_steps']:,}"])
    rows += [
        ["tokens per second", f"{summary['tokens_per_second']:,.0f}"],
        [_peak_label(summary), f"{summary['peak_memory_bytes'] / 2**30:.2f} GiB"],
        ["time", f"{summary['seconds']:.0f} s"],
    ]
    early = ", stopped early" if summary["stop_reason"] == "early_stopping" else ""
    console.table(f"Training {summary['status']}{early}", rows)
    console.line(f"adapter: {run.adapter_dir}   curves: {run.loss_plot_path}   log: {run.train_log_path}")


def _peak_label(summary: dict[str, Any]) -> str:
    predicted = summary["predicted_peak_memory_bytes"]
    if predicted is None:
        return "peak memory"
    idle = " in use, freed memory kept for speed" if summary["keeps_freed_memory"] else ""
    return f"peak memory (predicted {predicted / 2**30:.2f} GiB{idle})"


def _adapter(summary: dict[str, Any]) -> str:
    step, last, best = summary["adapter_step"], summary["global_step"], summary["best_step"]
    if step != last:
        return f"of step {step:,}, the best on validation"
    if best is None:
        return f"of step {step:,}, the last"
    return f"of step {step:,}, the last" + (" and best" if best == step else f" (best on validation: step {best:,})")


def _losses(losses: list[float] | None) -> str:
    return " -> ".join(f"{loss:.4f}" for loss in losses) if losses else "-"
