"""What a training run writes down, how fast it says it is, and when it stops."""

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from transformers import TrainerControl, TrainerState

from medqa_cli import console, distributed
from medqa_cli.training import callbacks
from medqa_cli.training.callbacks import TrainingMonitor, keep_log_until, read_log, stop_on_signal
from medqa_cli.training.checkpoints import NotWrittenError
from medqa_cli.training.divergence import DivergenceDetector

GIB = 2**30


class Clock:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(callbacks, "time", made)
    return made


class Args:
    """All that the monitor asks of the training arguments."""

    eval_strategy = "steps"
    eval_steps = 5


ARGS: Any = Args


class Display(console.RunDisplay):
    """Keeps what it was told."""

    def __init__(self) -> None:
        super().__init__("training", 10)
        self.shown: list[tuple[int, list[str]]] = []

    def update(self, completed: int, figures: Sequence[str]) -> None:
        self.shown.append((completed, list(figures)))


class Run:
    """Drives a monitor the way the Trainer does."""

    def __init__(self, log_path: Path, clock: Clock | None = None, step: int = 0) -> None:
        self.display = Display()
        self.guard = DivergenceDetector()
        self.monitor = TrainingMonitor(log_path, self.display, self.guard, lambda: 3 * GIB)
        self.state = TrainerState(max_steps=10, epoch=0.0, num_input_tokens_seen=0, global_step=step)
        self.control = TrainerControl()
        self.clock = clock
        self.monitor.on_train_begin(ARGS, self.state, self.control)

    def wait(self, seconds: float) -> None:
        if self.clock is not None:
            self.clock.now += seconds

    def step(self, tokens: int = 0, seconds: float = 0.0, loss: float = 2.0) -> None:
        self.monitor.on_step_begin(ARGS, self.state, self.control)
        self.guard.losses.append(loss)
        self.state.global_step += 1
        self.state.num_input_tokens_seen += tokens
        self.wait(seconds)
        self.monitor.on_step_end(ARGS, self.state, self.control)

    def log(self, **logs: Any) -> None:
        self.monitor.on_log(ARGS, self.state, self.control, logs)

    def look(self, loss: float, seconds: float = 0.0) -> None:
        self.wait(seconds)
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
        "step 0/10: validation loss 3.5000 (the base model)",
        "step 1/10: loss 3.2500, 150 tokens/s, 3.00 GiB, 0:18 left",
    ]


def test_on_a_terminal_the_display_tells_and_only_looks_are_printed(
    tmp_path: Path, clock: Clock, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "is_live", lambda: True)
    monkeypatch.setattr(console, "sparkline", lambda losses: "/".join(f"{loss:g}" for loss in losses))
    run = Run(tmp_path / "train.jsonl", clock)
    run.look(3.0, seconds=4.0)
    run.step(tokens=3000, seconds=2.0, loss=2.5)
    run.log(loss=2.5, grad_norm=0.5, learning_rate=1e-4)
    run.step(tokens=3000, seconds=1.0, loss=2.0)
    assert [done for done, _ in run.display.shown] == [0, 1, 2]
    assert run.display.shown[2][1] == [
        "loss 2.000 2.5/2",
        "validation loss 3.0000 (the base model)",
        "2,000 tokens/s",
        "3.00 GiB",
        "0:20 left",  # eight steps of 1.5 s, and two looks of 4 s
    ]
    assert len(read_log(tmp_path / "train.jsonl")) == 2
    assert capsys.readouterr() == ("", "step 0/10: validation loss 3.0000 (the base model)\n")


def test_a_resumed_run_shows_where_it_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = Run(tmp_path / "train.jsonl", step=6)
    assert [done for done, _ in run.display.shown] == [6]
    assert capsys.readouterr().err == "going on from the checkpoint of step 6 of 10\n"


def test_looks_are_told_beside_the_best(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = Run(tmp_path / "train.jsonl")
    for loss in (1.0, 3.0, 2.0, 2.5):  # the base model's is no adapter's
        run.look(loss)
        run.step()
    resumed = Run(tmp_path / "train.jsonl")
    resumed.state.global_step = 4
    resumed.look(2.25)
    assert [line.partition(": ")[2] for line in capsys.readouterr().err.splitlines()] == [
        "validation loss 1.0000 (the base model)",
        "validation loss 3.0000 (the best)",
        "validation loss 2.0000 (the best)",
        "validation loss 2.5000 (best: 2.0000 at step 2)",
        "validation loss 2.2500 (best: 2.0000 at step 2)",
    ]


@pytest.mark.parametrize(
    ("losses", "trend"),
    [
        ([3.0, 2.9, 2.8, 2.7, 2.2, 2.1, 2.0, 1.9], "falling"),
        ([2.0, 2.1, 2.2, 2.3, 2.8, 2.9, 3.0, 3.1], "rising"),
        ([3.1, 2.0, 2.9, 2.2, 2.8, 2.1, 2.7, 2.0], "no clear trend"),
        ([3.0, 2.0, 1.0], ""),
    ],
)
def test_a_trend_is_told_where_it_is_beyond_noise(losses: list[float], trend: str) -> None:
    assert callbacks.trend_of(losses) == trend


def test_a_norm_that_is_not_finite_leaves_the_log_json(tmp_path: Path) -> None:
    run = Run(tmp_path / "train.jsonl")
    run.log(loss=2.0, grad_norm=float("inf"), learning_rate=1e-4)
    assert json.loads((tmp_path / "train.jsonl").read_text(), parse_constant=pytest.fail)["grad_norm"] is None


def test_a_full_disk_is_no_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    run = Run(tmp_path / "train.jsonl")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(NotWrittenError, match=r"train\.jsonl could not be written: No space left on device"):
        run.log(loss=2.0, learning_rate=1e-4)


def test_only_the_first_process_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done_by_main: list[Any] = []
    run = Run(tmp_path / "train.jsonl")
    # Another rank: the work is left to rank 0.
    monkeypatch.setattr(distributed, "from_main", done_by_main.append)
    run.log(loss=2.0, learning_rate=1e-4)
    run.look(2.0)
    assert not (tmp_path / "train.jsonl").exists()
    assert len(done_by_main) == 2


def test_a_signal_to_another_process_stops_this_one_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(tmp_path / "train.jsonl")
    run.step(tokens=100, seconds=1.0)
    assert (run.monitor.interrupted, run.control.should_training_stop) == (False, False)
    monkeypatch.setattr(distributed, "any_rank", lambda condition: True)
    run.step(tokens=100, seconds=1.0)
    assert (run.monitor.interrupted, run.control.should_training_stop, run.control.should_save) == (True, True, True)


def test_speed_counts_steps_only(tmp_path: Path, clock: Clock) -> None:
    run = Run(tmp_path / "train.jsonl", clock)
    assert run.monitor.throughput.tokens_per_second == 0.0
    run.step(tokens=100, seconds=1.0)
    clock.now += 500  # validation, saving
    run.step(tokens=500, seconds=2.0)
    assert run.monitor.throughput.tokens_per_second == pytest.approx(200.0)


def test_speed_of_a_resumed_run_leaves_out_what_was_done_before(tmp_path: Path, clock: Clock) -> None:
    run = Run(tmp_path / "train.jsonl", clock)
    run.state.global_step, run.state.num_input_tokens_seen = 5, 1_000_000
    run.step(tokens=100, seconds=1.0)
    assert run.monitor.throughput.tokens_per_second == pytest.approx(100.0)
    run.log(loss=1.0, learning_rate=1e-4)
    assert read_log(tmp_path / "train.jsonl")[0]["num_tokens"] == 1_000_100


def test_the_time_left(tmp_path: Path, clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    run = Run(tmp_path / "train.jsonl", clock)
    run.state.global_step = 4  # resumed: only its own steps tell how long a step takes
    run.step(tokens=10, seconds=60.0)
    run.log(loss=1.0, learning_rate=1e-4)
    assert "step 5/10: loss 1.0000, 0 tokens/s, 3.00 GiB, 5:00 left" in capsys.readouterr().err


def test_the_last_step_is_logged(tmp_path: Path) -> None:
    run = Run(tmp_path / "train.jsonl")
    wanted = []
    for _ in range(10):
        run.control.should_log = False
        run.step()
        wanted.append(run.control.should_log)
    assert wanted == [False] * 9 + [True]


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
        number: signal.signal(number, lambda n, frame: received.append(n))
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    }
    yield received
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
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
        assert (run.control.should_training_stop, run.control.should_save) == (True, True)
        # A line that an uninterrupted run would not have.
        assert not run.control.should_log
        assert "stopping after this step and saving a checkpoint" in capsys.readouterr().err
    os.kill(os.getpid(), number)
    assert own_handlers == [number]  # handed back


def test_a_signal_during_a_look_ends_the_run_before_another_step(tmp_path: Path, own_handlers: list[int]) -> None:
    run = Run(tmp_path / "train.jsonl")
    with stop_on_signal(run.monitor):
        run.step()
        os.kill(os.getpid(), signal.SIGTERM)
        run.look(2.0)
        assert (run.control.should_training_stop, run.control.should_save) == (True, True)


def test_a_signal_in_the_middle_of_a_write_is_obeyed_all_the_same(
    tmp_path: Path, own_handlers: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def reentrant(text: str) -> None:
        raise RuntimeError("reentrant call inside <_io.BufferedWriter name='<stderr>'>")

    run = Run(tmp_path / "train.jsonl")
    monkeypatch.setattr(console, "warn", reentrant)
    with stop_on_signal(run.monitor):
        os.kill(os.getpid(), signal.SIGINT)
    assert run.monitor.interrupted


def test_what_nohup_ignores_stays_ignored(tmp_path: Path, own_handlers: list[int]) -> None:
    run = Run(tmp_path / "train.jsonl")
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with stop_on_signal(run.monitor):
        os.kill(os.getpid(), signal.SIGHUP)
    assert not run.monitor.interrupted


def test_a_terminal_that_is_gone_is_written_to_no_more(tmp_path: Path) -> None:
    """A pseudo-terminal whose other end closes: printing to it fails from then on, unless it is left."""
    program = (
        "import os, pty, sys\n"
        "from medqa_cli import console, streams\n"
        "master, slave = pty.openpty()\n"
        "os.dup2(slave, 2); os.close(slave); os.close(master)\n"
        "try:\n    os.write(2, b'x')\nexcept OSError:\n    print('gone')\n"
        "streams.leave_terminal()\n"
        "console.warn('nobody reads this')\n"
        "print('still here')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["gone", "still here"]


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
