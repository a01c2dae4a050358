"""Trainer callbacks: ``train.jsonl`` and display, early stopping, a limit on idle memory; and stopping on a signal."""

import contextlib
import json
import math
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean, pvariance
from typing import Any

import psutil
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from medqa_cli import allocators, console, distributed
from medqa_cli.files import atomic_file
from medqa_cli.streams import leave_terminal
from medqa_cli.training.checkpoints import writing
from medqa_cli.training.divergence import DivergenceDetector

# Losses in the display's curve.
_CURVE_STEPS = 24
# Fewer losses than this have no trend.
_MIN_FOR_TREND = 8
# One evaluation above the best may be chance.
_EVALUATIONS_OF_A_RISE = 2


class Throughput:
    """Measures a training run: seconds and tokens of its steps, seconds of its evaluations."""

    def __init__(self) -> None:
        self.seconds_in_steps = 0.0
        self.tokens_in_steps = 0
        self._steps = 0
        self._seconds_in_evaluations = 0.0
        self._evaluations = 0
        self._started = 0.0

    def start(self) -> None:
        """Start the clock of a step or an evaluation."""
        self._started = time.perf_counter()

    def end_step(self, tokens: int) -> None:
        """Stop the clock of a step that took ``tokens`` through the model."""
        self.seconds_in_steps += time.perf_counter() - self._started
        self.tokens_in_steps += tokens
        self._steps += 1

    def end_evaluation(self) -> None:
        """Stop the clock of an evaluation, started when the step before it ended."""
        self._seconds_in_evaluations += time.perf_counter() - self._started
        self._evaluations += 1

    @property
    def tokens_per_second(self) -> float:
        """Tokens through the model per second of training steps; validation and saving do not count."""
        return self.tokens_in_steps / self.seconds_in_steps if self.seconds_in_steps else 0.0

    def seconds_left(self, steps: int, evaluations: int) -> float:
        """Predict the time for this many more steps and evaluations from those so far; NaN before the first."""
        if not self._steps:
            return math.nan
        seconds_each = self._seconds_in_evaluations / self._evaluations if self._evaluations else 0.0
        return steps * self.seconds_in_steps / self._steps + evaluations * seconds_each


def trend_of(losses: Sequence[float]) -> str:
    """Return ``falling``, ``rising`` or ``no clear trend``: the newer half against the older; empty where too few.

    There is no clear trend where the halves differ by less than two standard errors of that difference.
    """
    half = len(losses) // 2
    if len(losses) < _MIN_FOR_TREND:
        return ""
    older, newer = list(losses)[-2 * half : -half], list(losses)[-half:]
    difference = fmean(newer) - fmean(older)
    error = math.sqrt((pvariance(older) + pvariance(newer)) / half)
    if abs(difference) <= 2 * error:
        return "no clear trend"
    return "falling" if difference < 0 else "rising"


class TrainingMonitor(TrainerCallback):
    """Writes ``train.jsonl``, feeds the display, stops the run on request.

    Args:
        log_path: ``train.jsonl``.
        display: shows the run on a terminal.
        divergence: has each step's raw loss.
        peak_memory: returns the peak so far, in bytes.
    """

    def __init__(
        self,
        log_path: Path,
        display: console.RunDisplay,
        divergence: DivergenceDetector | None = None,
        peak_memory: Callable[[], int] = lambda: 0,
    ) -> None:
        self.log_path = log_path
        self.throughput = Throughput()
        self.interrupted = False
        self._display = display
        self._divergence = divergence or DivergenceDetector()
        self._peak_memory = peak_memory
        self._tokens_before = 0
        self._evaluations = [
            (line["step"], line["validation_loss"])
            for line in distributed.from_main(lambda: read_log(log_path))
            if "validation_loss" in line
        ]

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Start the clock: an evaluation may come before the first step. Show where a resumed run goes on."""
        self.throughput.start()
        if state.global_step:
            console.note(f"going on from the checkpoint of step {state.global_step} of {state.max_steps}")
            self._display.update(state.global_step, self._figures(args, state))

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Start the clock of a step."""
        self.throughput.start()
        self._tokens_before = state.num_input_tokens_seen

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Stop the clock, show the step, and stop the run if a signal asked for it."""
        self.throughput.end_step(state.num_input_tokens_seen - self._tokens_before)
        self.throughput.start()
        if state.global_step >= state.max_steps:
            control.should_log = True
        self._stop_if_asked(control)
        self._display.update(state.global_step, self._figures(args, state))

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Stop the clock of an evaluation, and the run if a signal asked for it."""
        self.throughput.end_evaluation()
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
        """Append one line to the log; print it when there is no terminal. Validation losses are always printed.

        Raises:
            NotWrittenError: the disk is full.
        """
        logs = logs or {}
        line: dict[str, Any] = {"step": state.global_step, "epoch": round(state.epoch or 0.0, 4)}
        if "loss" in logs:
            norm = logs.get("grad_norm")
            line |= {
                "loss": logs["loss"],
                "grad_norm": float(norm) if norm is not None and math.isfinite(norm) else None,
                "learning_rate": logs["learning_rate"],
                "num_tokens": state.num_input_tokens_seen,
                "tokens_per_second": round(self.throughput.tokens_per_second, 1),
            }
        elif "eval_loss" in logs:
            line["validation_loss"] = logs["eval_loss"]
            self._evaluations.append((state.global_step, logs["eval_loss"]))
        else:
            return

        def append() -> None:
            with writing(self.log_path), open(self.log_path, "a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
                file.flush()
                # A checkpoint must not outlive the lines before it.
                os.fsync(file.fileno())

        # All ranks or none: one that cannot write must not leave others waiting.
        distributed.from_main(append)
        if "validation_loss" in line:
            console.note(f"step {line['step']}/{state.max_steps}: {self._validation()}")
        elif not console.is_live():
            trend = trend_of(self._divergence.losses)
            loss = f"loss {line['loss']:.4f}" + (f" ({trend})" if trend else "")
            console.note(f"step {line['step']}/{state.max_steps}: {', '.join([loss, *self._speed(args, state)])}")

    def _stop_if_asked(self, control: TrainerControl) -> None:
        # A signal that reached any rank stops all of them after the same step.
        if distributed.any_rank(self.interrupted):
            self.interrupted = True
            control.should_save = control.should_training_stop = True

    def _figures(self, args: TrainingArguments, state: TrainerState) -> list[str]:
        losses = list(self._divergence.losses)
        loss = f"loss {losses[-1]:.3f}" if losses else "loss -"
        words = [loss, console.sparkline(losses[-_CURVE_STEPS:]), trend_of(losses)]
        figures = [" ".join(word for word in words if word)]
        if self._evaluations:
            figures.append(self._validation())
        return [*figures, *self._speed(args, state)]

    def _speed(self, args: TrainingArguments, state: TrainerState) -> list[str]:
        evaluations = 0
        if args.eval_strategy == "steps":
            evaluations = state.max_steps // args.eval_steps - state.global_step // args.eval_steps
        left = self.throughput.seconds_left(state.max_steps - state.global_step, int(evaluations))
        figures = [f"{self.throughput.tokens_per_second:,.0f} tokens/s", f"{self._peak_memory() / 2**30:.2f} GiB"]
        if not math.isnan(left):
            figures.append(f"{console.clock(left)} left")
        if self._divergence.num_skipped_steps:
            figures.append(f"{self._divergence.num_skipped_steps} skipped by the loss scaler")
        return figures

    def _validation(self) -> str:
        """Return the newest validation loss beside the best one of an adapter."""
        step, loss = self._evaluations[-1]
        if step == 0:
            return f"validation loss {loss:.4f} (the base model)"
        best_step, best = min((entry for entry in self._evaluations if entry[0]), key=lambda entry: entry[1])
        is_best = best_step == step
        return f"validation loss {loss:.4f} ({'the best' if is_best else f'best: {best:.4f} at step {best_step}'})"


class EarlyStopping(TrainerCallback):
    """Tracks the validation loss; requests the best checkpoint, and the end when the loss no longer improves.

    The evaluation before the first step is the base model's: it counts for the patience, but has no adapter to keep.

    Args:
        log: lines of ``train.jsonl`` so far; a resumed run goes on counting where they end.
        patience: evaluations without improvement after which to stop; None: never.
    """

    def __init__(self, log: Sequence[dict[str, Any]], patience: int | None) -> None:
        self.best_step: int | None = None
        self.best_loss = float("inf")
        self.last_loss: float | None = None
        self.base_loss: float | None = None
        self._patience = patience
        self._lowest = float("inf")
        self._evaluations_without_gain = 0
        self._evaluations_since_best = 0
        for line in log:
            if "validation_loss" in line:
                self._count(line["step"], line["validation_loss"])

    @property
    def rising_since(self) -> int | None:
        """The step of the best evaluation, if the loss was not better at two or more since; None: it does not rise."""
        if self.last_loss is None or self._evaluations_since_best < _EVALUATIONS_OF_A_RISE:
            return None
        return self.best_step if self.last_loss > self.best_loss else None

    @property
    def stopped_early(self) -> bool:
        """Whether the patience is used up."""
        return self._patience is not None and self._evaluations_without_gain >= self._patience

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Train no further if an earlier run had stopped early."""
        if self.stopped_early:
            control.should_training_stop = True

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Evaluate after the last step, before its checkpoint."""
        if state.global_step >= state.max_steps:
            control.should_evaluate = True

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kw: Any) -> None:
        """Save the best adapter so far; stop when ``patience`` evaluations brought no improvement."""
        if self._count(state.global_step, kw["metrics"]["eval_loss"]):
            control.should_save = True
        if self.stopped_early:
            control.should_training_stop = control.should_save = True

    def _count(self, step: int, loss: float) -> bool:
        """Count an evaluation; return whether its adapter is the best so far."""
        self._evaluations_without_gain = 0 if loss < self._lowest else self._evaluations_without_gain + 1
        self._lowest = min(self._lowest, loss)
        self.last_loss = loss
        if step == 0:
            self.base_loss = loss
            return False
        is_best = loss < self.best_loss
        self._evaluations_since_best = 0 if is_best else self._evaluations_since_best + 1
        if is_best:
            self.best_step, self.best_loss = step, loss
        return is_best


class IdleMemoryLimit(TrainerCallback):
    """Gives idle memory back after a step that left the process with more than ``most_bytes`` resident.

    Blocks of changing sizes do not fit together again, so the freed memory that is kept grows for hundreds of steps.
    Giving it back slows the next step down, and is done as rarely as the limit allows.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._process = psutil.Process()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Give back what is idle if the process holds too much."""
        if self._process.memory_info().rss > self._most_bytes:
            allocators.release_idle_memory()


@contextmanager
def stop_on_signal(monitor: TrainingMonitor) -> Iterator[None]:
    """Let a signal end the run after the current step, with a checkpoint; a second SIGINT ends it at once.

    SIGINT, SIGTERM, and SIGHUP (the terminal is gone) unless ``nohup`` ignores it.
    """

    def request_stop(number: int, frame: Any) -> None:
        if number == getattr(signal, "SIGHUP", None):
            leave_terminal()
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
