"""What a training writes down, how fast it says it is, and when it stops."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from transformers import TrainerControl, TrainerState

from medqa_cli import console
from medqa_cli.training import monitor as monitor_module
from medqa_cli.training.monitor import TrainingMonitor, keep_log_until, read_log, stop_on_signal

ARGS: Any = None  # the monitor never looks at the training arguments


class Clock:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(monitor_module, "time", made)
    return made


class Run:
    """Drives a monitor the way the Trainer does."""

    def __init__(self, log_path: Path, clock: Clock | None = None, patience: int | None = None) -> None:
        self.shown: list[tuple[int, str]] = []
        bar = console.ProgressHandle(lambda done, status: self.shown.append((done, status)))
        self.monitor = TrainingMonitor(log_path, bar, patience)
        self.state = TrainerState(max_steps=10, epoch=0.0, num_input_tokens_seen=0)
        self.control = TrainerControl()
        self.clock = clock

    def step(self, tokens: int = 0, seconds: float = 0.0) -> None:
        self.monitor.on_step_begin(ARGS, self.state, self.control)
        self.state.global_step += 1
        self.state.num_input_tokens_seen += tokens
        if self.clock is not None:
            self.clock.now += seconds
        self.monitor.on_step_end(ARGS, self.state, self.control)

    def log(self, **logs: Any) -> None:
        self.monitor.on_log(ARGS, self.state, self.control, logs)

    def look(self, loss: float) -> None:
        self.log(eval_loss=loss)
        self.monitor.on_evaluate(ARGS, self.state, self.control, metrics={"eval_loss": loss})


def test_the_lines_of_the_log(tmp_path: Path, clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    run = Run(tmp_path / "train.jsonl", clock)
    run.look(3.5)
    run.step(tokens=300, seconds=2.0)
    run.state.epoch = 0.123456
    run.log(loss=3.25, grad_norm=0.5, learning_rate=1e-4)
    run.log(train_runtime=9.0)  # the Trainer's own summary is none of ours
    lines = [json.loads(line) for line in (tmp_path / "train.jsonl").read_text(encoding="utf-8").splitlines()]
    assert lines == [
        {"step": 0, "epoch": 0.0, "validation_loss": 3.5},
        {
            "step": 1,
            "epoch": 0.1235,
            "loss": 3.25,
            "grad_norm": 0.5,
            "learning_rate": 1e-4,
            "num_tokens": 300,
            "tokens_per_second": 150.0,
        },
    ]
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "step 0/10: validation loss 3.5000",
        "step 1/10: loss 3.2500, 150 tokens/s, 18 s left",
    ]


def test_on_a_terminal_the_bar_tells_and_no_lines_are_printed(
    tmp_path: Path, clock: Clock, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "is_live", lambda: True)
    run = Run(tmp_path / "train.jsonl", clock)
    run.step(tokens=3000, seconds=2.0)
    run.log(loss=3.25, grad_norm=0.5, learning_rate=1e-4)
    run.step(tokens=3000, seconds=1.0)
    assert [done for done, _ in run.shown] == [1, 2]
    assert run.shown[1][1] == "loss 3.250  2,000 tokens/s"
    assert len(read_log(tmp_path / "train.jsonl")) == 1
    assert capsys.readouterr() == ("", "")


def test_speed_counts_steps_only(tmp_path: Path, clock: Clock) -> None:
    run = Run(tmp_path / "train.jsonl", clock)
    assert run.monitor.tokens_per_second == 0.0
    run.step(tokens=100, seconds=1.0)
    clock.now += 500  # validation, saving
    run.step(tokens=500, seconds=2.0)
    assert run.monitor.tokens_per_second == pytest.approx(200.0)


def test_speed_of_a_resumed_run_leaves_out_what_was_done_before(tmp_path: Path, clock: Clock) -> None:
    run = Run(tmp_path / "train.jsonl", clock)
    run.state.global_step, run.state.num_input_tokens_seen = 5, 1_000_000
    run.step(tokens=100, seconds=1.0)
    assert run.monitor.tokens_per_second == pytest.approx(100.0)
    run.log(loss=1.0, learning_rate=1e-4)
    assert read_log(tmp_path / "train.jsonl")[0]["num_tokens"] == 1_000_100


def test_the_time_left(tmp_path: Path, clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    run = Run(tmp_path / "train.jsonl", clock)
    run.state.global_step = 4  # resumed: only its own steps tell how long a step takes
    run.step(tokens=10, seconds=60.0)
    run.log(loss=1.0, learning_rate=1e-4)
    assert "step 5/10: loss 1.0000, 0 tokens/s, 5 min left" in capsys.readouterr().err


def test_the_last_step_is_logged(tmp_path: Path) -> None:
    run = Run(tmp_path / "train.jsonl")
    wanted = []
    for _ in range(10):
        run.control.should_log = False
        run.step()
        wanted.append(run.control.should_log)
    assert wanted == [False] * 9 + [True]


LOSSES = [3.0, 2.0, 2.5, 1.9, 1.9, 2.2, 1.8]


@pytest.mark.parametrize(("patience", "stops_after"), [(1, 3), (2, 6), (3, None), (None, None)])
def test_early_stopping(tmp_path: Path, patience: int | None, stops_after: int | None) -> None:
    """A look without gain counts, equal is no gain, and a better one starts the count again."""
    run = Run(tmp_path / "train.jsonl", patience=patience)
    stopped = None
    for number, loss in enumerate(LOSSES, start=1):
        run.look(loss)
        if run.control.should_training_stop and stopped is None:
            stopped = number
            assert run.control.should_save
    assert stopped == stops_after
    assert run.monitor.stopped_early == (stops_after is not None)


@pytest.mark.parametrize("seen", range(1, 6))
def test_early_stopping_goes_on_counting_after_a_resume(tmp_path: Path, seen: int) -> None:
    path = tmp_path / "train.jsonl"
    before = Run(path, patience=2)
    for loss in LOSSES[:seen]:
        before.look(loss)
    assert not before.control.should_training_stop
    after = Run(path, patience=2)
    for number, loss in enumerate(LOSSES[seen:6], start=seen + 1):
        after.look(loss)
        assert after.control.should_training_stop == (number == 6)


def test_a_loss_that_is_not_a_number_is_no_gain(tmp_path: Path) -> None:
    run = Run(tmp_path / "train.jsonl", patience=2)
    for loss in (2.0, float("nan"), float("nan")):
        run.look(loss)
    assert run.control.should_training_stop


def test_a_resume_drops_the_lines_after_its_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    run = Run(path)
    run.look(3.0)
    for _ in range(4):
        run.step()
        run.log(loss=1.0, learning_rate=1e-4)
    run.look(2.0)
    keep_log_until(path, 2)
    assert [(line["step"], "loss" in line) for line in read_log(path)] == [(0, False), (1, True), (2, True)]
    keep_log_until(path, 4)
    assert len(read_log(path)) == 3
    # What comes next is a line of its own.
    run.log(loss=1.0, learning_rate=1e-4)
    assert [line["step"] for line in read_log(path)] == [0, 1, 2, 4]


def test_a_last_line_that_a_crash_cut_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text('{"step": 1, "loss": 1.5}\n{"step": 2, "lo', encoding="utf-8")
    assert read_log(path) == [{"step": 1, "loss": 1.5}]
    keep_log_until(path, 9)
    assert path.read_text(encoding="utf-8") == '{"step": 1, "loss": 1.5}\n'


def test_no_log_is_an_empty_log(tmp_path: Path) -> None:
    assert read_log(tmp_path / "none.jsonl") == []
    keep_log_until(tmp_path / "none.jsonl", 3)
    assert (tmp_path / "none.jsonl").read_text() == ""


@pytest.fixture
def own_handlers() -> Iterator[list[int]]:
    """Handlers of the test, so that a signal that slips through is recorded instead of ending pytest."""
    received: list[int] = []
    before = {
        number: signal.signal(number, lambda n, frame: received.append(n)) for number in (signal.SIGINT, signal.SIGTERM)
    }
    yield received
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_after_its_step(
    tmp_path: Path, own_handlers: list[int], capsys: pytest.CaptureFixture[str], number: signal.Signals
) -> None:
    run = Run(tmp_path / "train.jsonl")
    with stop_on_signal(run.monitor):
        run.step()
        assert not run.control.should_training_stop
        os.kill(os.getpid(), number)
        assert run.monitor.interrupted
        assert not run.control.should_training_stop
        run.step()
        assert (run.control.should_training_stop, run.control.should_save, run.control.should_log) == (True,) * 3
        assert "stopping after this step and saving a checkpoint" in capsys.readouterr().err
    os.kill(os.getpid(), number)
    assert own_handlers == [number]  # handed back


def test_a_second_ctrl_c_ends_it_at_once(tmp_path: Path, own_handlers: list[int]) -> None:
    run = Run(tmp_path / "train.jsonl")

    def interrupt_twice() -> None:
        with stop_on_signal(run.monitor):
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGTERM)  # a supervisor's reminder does not hurry it
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        interrupt_twice()
    assert own_handlers == []
    os.kill(os.getpid(), signal.SIGTERM)
    assert own_handlers == [signal.SIGTERM]
