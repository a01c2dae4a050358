"""What a person sees of a training, its log, and how it is stopped: a Trainer callback.

Does not compute losses.
"""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from medqa_cli import console
from medqa_cli.run_folder import atomic_file


class TrainingMonitor(TrainerCallback):
    """Writes ``train.jsonl``, moves the progress bar, stops on request or when validation stops improving."""

    def __init__(self, log_path: Path, bar: console.ProgressHandle, early_stopping_patience: int | None) -> None:
        self.log_path = log_path
        self.seconds_in_steps = 0.0
        self.tokens_in_steps = 0
        self.interrupted = False
        self.stopped_early = False
        self._bar = bar
        self._patience = early_stopping_patience
        self._best = float("inf")
        self._looks_without_gain = 0
        self._steps_done = 0
        self._step_started = 0.0
        self._tokens_before = 0
        self._last_loss = float("nan")
        for line in read_log(log_path):
            if "validation_loss" in line:
                self._count_look(line["validation_loss"])

    @property
    def tokens_per_second(self) -> float:
        """Tokens through the model per second of training steps; validation and saving do not count."""
        return self.tokens_in_steps / self.seconds_in_steps if self.seconds_in_steps else 0.0

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Start the clock of a step."""
        self._step_started = time.perf_counter()
        self._tokens_before = state.num_input_tokens_seen

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Stop the clock, move the bar, and stop the run where somebody asked for it."""
        self.seconds_in_steps += time.perf_counter() - self._step_started
        self._steps_done += 1
        self.tokens_in_steps += state.num_input_tokens_seen - self._tokens_before
        if state.global_step >= state.max_steps:
            control.should_log = True
        if self.interrupted:
            control.should_log = control.should_save = control.should_training_stop = True
        self._bar.update(state.global_step, self._status())

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        """Append one line to the log and, without a terminal, say it."""
        logs = logs or {}
        line: dict[str, Any] = {"step": state.global_step, "epoch": round(state.epoch or 0.0, 4)}
        if "loss" in logs:
            self._last_loss = logs["loss"]
            line |= {
                "loss": logs["loss"],
                "grad_norm": logs.get("grad_norm"),
                "learning_rate": logs["learning_rate"],
                "num_tokens": state.num_input_tokens_seen,
                "tokens_per_second": round(self.tokens_per_second, 1),
            }
        elif "eval_loss" in logs:
            line["validation_loss"] = logs["eval_loss"]
        else:
            return
        with open(self.log_path, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        if not console.is_live():
            console.note(self._plain_line(line, state.max_steps))

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kw: Any) -> None:
        """Stop when validation has not improved for ``early_stopping_patience`` looks."""
        self._count_look(kw["metrics"]["eval_loss"])
        if self._patience is not None and self._looks_without_gain >= self._patience:
            self.stopped_early = True
            control.should_training_stop = control.should_save = True

    def _count_look(self, validation_loss: float) -> None:
        improved = validation_loss < self._best
        self._best = min(self._best, validation_loss)
        self._looks_without_gain = 0 if improved else self._looks_without_gain + 1

    def _status(self) -> str:
        return f"loss {self._last_loss:.3f}  {self.tokens_per_second:,.0f} tokens/s"

    def _plain_line(self, line: dict[str, Any], max_steps: int) -> str:
        if "validation_loss" in line:
            return f"step {line['step']}/{max_steps}: validation loss {line['validation_loss']:.4f}"
        remaining = (max_steps - line["step"]) * self.seconds_in_steps / max(1, self._steps_done)
        return (
            f"step {line['step']}/{max_steps}: loss {line['loss']:.4f}, {line['tokens_per_second']:,.0f} tokens/s, "
            f"{_duration(remaining)} left"
        )


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


@contextmanager
def stop_on_signal(monitor: TrainingMonitor) -> Iterator[None]:
    """Let SIGINT and SIGTERM end the run after the current step, checkpoint saved; a second SIGINT ends it at once."""

    def request_stop(number: int, frame: Any) -> None:
        if monitor.interrupted and number == signal.SIGINT:
            raise KeyboardInterrupt
        monitor.interrupted = True
        console.warn("stopping after this step and saving a checkpoint; press Ctrl-C again to stop at once")

    before = {number: signal.signal(number, request_stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def read_log(path: Path) -> list[dict[str, Any]]:
    """Read ``train.jsonl``; a last line that was cut by a crash is dropped."""
    lines: list[dict[str, Any]] = []
    if path.is_file():
        for text in path.read_text(encoding="utf-8").splitlines():
            try:
                lines.append(json.loads(text))
            except ValueError:
                break
    return lines


def keep_log_until(path: Path, step: int) -> None:
    """Drop the lines after ``step``: a resumed run writes them again."""
    keep = [line for line in read_log(path) if line["step"] <= step]
    with atomic_file(path) as file:
        file.write("".join(json.dumps(line) + "\n" for line in keep))
