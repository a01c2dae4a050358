"""What a person sees of a training, its log, and how it is stopped: a Trainer callback.

Does not compute losses.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from medqa_cli import console, distributed
from medqa_cli.files import atomic_file
from medqa_cli.training.checkpoint_files import writing
from medqa_cli.training.guards import StepGuard
from medqa_cli.training.pace import Pace, trend_of

# Losses in the display's curve.
_CURVE_STEPS = 24


class TrainingMonitor(TrainerCallback):
    """Writes ``train.jsonl``, feeds the display, stops the run on request.

    Args:
        log_path: ``train.jsonl``.
        display: shows the run on a terminal.
        guard: has each step's raw loss.
        peak_memory: returns the peak so far, in bytes.
    """

    def __init__(
        self,
        log_path: Path,
        display: console.RunDisplay,
        guard: StepGuard | None = None,
        peak_memory: Callable[[], int] = lambda: 0,
    ) -> None:
        self.log_path = log_path
        self.pace = Pace()
        self.interrupted = False
        self._display = display
        self._guard = guard or StepGuard()
        self._peak_memory = peak_memory
        self._tokens_before = 0
        self._looks = [
            (line["step"], line["validation_loss"])
            for line in distributed.from_main(lambda: read_log(log_path))
            if "validation_loss" in line
        ]

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Start the clock: a look may come before the first step."""
        self.pace.start()

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Start the clock of a step."""
        self.pace.start()
        self._tokens_before = state.num_input_tokens_seen

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Stop the clock, show the step, and stop the run where somebody asked for it."""
        self.pace.end_step(state.num_input_tokens_seen - self._tokens_before)
        self.pace.start()
        if state.global_step >= state.max_steps:
            control.should_log = True
        self._stop_if_asked(control)
        self._display.update(state.global_step, self._figures(args, state))

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Stop the clock of a look; do not go on to a further step where somebody asked to stop."""
        self.pace.end_look()
        self._stop_if_asked(control)
        self._display.update(state.global_step, self._figures(args, state))

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        """Append one line to the log and, without a terminal, say it; looks at validation are said everywhere.

        Raises:
            NotWrittenError: the disk is full.
        """
        logs = logs or {}
        line: dict[str, Any] = {"step": state.global_step, "epoch": round(state.epoch or 0.0, 4)}
        if "loss" in logs:
            line |= {
                "loss": logs["loss"],
                "grad_norm": _finite(logs.get("grad_norm")),
                "learning_rate": logs["learning_rate"],
                "num_tokens": state.num_input_tokens_seen,
                "tokens_per_second": round(self.pace.tokens_per_second, 1),
            }
        elif "eval_loss" in logs:
            line["validation_loss"] = logs["eval_loss"]
            self._looks.append((state.global_step, logs["eval_loss"]))
        else:
            return
        # All ranks or none: one that cannot write must not leave others waiting.
        distributed.from_main(lambda: self._append(line))
        if "validation_loss" in line:
            console.note(f"step {line['step']}/{state.max_steps}: {self._validation()}")
        elif not console.is_live():
            console.note(f"step {line['step']}/{state.max_steps}: {self._plain(line, args, state)}")

    def _append(self, line: dict[str, Any]) -> None:
        with writing(self.log_path), open(self.log_path, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            # A checkpoint must not outlive the lines before it.
            os.fsync(file.fileno())

    def _stop_if_asked(self, control: TrainerControl) -> None:
        # A signal that reached any rank stops all of them after the same step.
        if distributed.any_rank(self.interrupted):
            self.interrupted = True
            control.should_save = control.should_training_stop = True

    def _figures(self, args: TrainingArguments, state: TrainerState) -> list[str]:
        losses = list(self._guard.losses)
        loss = f"loss {losses[-1]:.3f}" if losses else "loss -"
        words = [loss, console.sparkline(losses[-_CURVE_STEPS:]), trend_of(losses)]
        figures = [" ".join(word for word in words if word)]
        if self._looks:
            figures.append(self._validation())
        return [*figures, *self._speed(args, state)]

    def _plain(self, line: dict[str, Any], args: TrainingArguments, state: TrainerState) -> str:
        trend = trend_of(self._guard.losses)
        loss = f"loss {line['loss']:.4f}" + (f" ({trend})" if trend else "")
        return ", ".join([loss, *self._speed(args, state)])

    def _speed(self, args: TrainingArguments, state: TrainerState) -> list[str]:
        looks = 0
        if args.eval_strategy == "steps":
            looks = state.max_steps // args.eval_steps - state.global_step // args.eval_steps
        left = self.pace.seconds_left(state.max_steps - state.global_step, int(looks))
        figures = [f"{self.pace.tokens_per_second:,.0f} tokens/s", f"{self._peak_memory() / 2**30:.2f} GiB"]
        if not math.isnan(left):
            figures.append(f"{console.clock(left)} left")
        if self._guard.num_skipped_steps:
            figures.append(f"{self._guard.num_skipped_steps} skipped by the loss scaler")
        return figures

    def _validation(self) -> str:
        """Return the newest look beside the best one of an adapter."""
        step, loss = self._looks[-1]
        if step == 0:
            return f"validation loss {loss:.4f} (the base model)"
        best_step, best = min((look for look in self._looks if look[0]), key=lambda look: look[1])
        is_best = best_step == step
        return f"validation loss {loss:.4f} ({'the best' if is_best else f'best: {best:.4f} at step {best_step}'})"


def _finite(value: Any) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None


@contextmanager
def stop_on_signal(monitor: TrainingMonitor) -> Iterator[None]:
    """Let a signal end the run after the current step, checkpoint saved; a second SIGINT ends it at once.

    SIGINT, SIGTERM, and SIGHUP (the terminal is gone) unless ``nohup`` has it ignored.
    """

    def request_stop(number: int, frame: Any) -> None:
        if number == getattr(signal, "SIGHUP", None):
            console.leave_terminal()
        if monitor.interrupted and number == signal.SIGINT:
            raise KeyboardInterrupt
        monitor.interrupted = True
        # The signal may have come in the middle of a write to stderr, which Python then refuses to enter again.
        with contextlib.suppress(RuntimeError):
            console.warn("stopping after this step and saving a checkpoint; press Ctrl-C again to stop at once")

    numbers = [signal.SIGINT, signal.SIGTERM]
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, request_stop) for number in numbers}
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
