"""What the user is told of a training run that did not complete, and which weights become the adapter."""

from pathlib import Path
from typing import Any

import pytest

from medqa_cli.errors import Interrupted, MedqaError
from medqa_cli.files import RunFolder
from medqa_cli.training.callbacks import EarlyStopping
from medqa_cli.training.checkpoints import HINT, NotWrittenError
from medqa_cli.training.divergence import DivergedError
from medqa_cli.training.outcome import Outcome, Status, StopReason, adapter_checkpoint, error_of, plot_losses, show

DATA = Path("data")


def outcome(status: Status, stop_reason: StopReason, error: DivergedError | NotWrittenError | None = None) -> Outcome:
    return Outcome(status, stop_reason, error, 7, 0, 0.0, 0, 0, EarlyStopping([], None))


def run_with(folder: Path, *steps: int) -> RunFolder:
    run = RunFolder(folder)
    for step in steps:
        (run.checkpoints_dir / f"checkpoint-{step}").mkdir(parents=True)
    return run


def told(run: RunFolder, *ending: Any) -> MedqaError:
    error = error_of(outcome(*ending), run, DATA)
    assert error is not None
    return error


@pytest.mark.parametrize(
    ("steps", "message", "hint"),
    [
        ((), "stopped after step 7, before the first checkpoint; nothing was saved", "start again with: medqa train"),
        ((5, 7), "stopped at step 7; a checkpoint was saved", "go on with: medqa train --resume"),
        # A second Ctrl-C; a checkpoint of a later step is another run's.
        ((5, 9), "stopped at step 7; the checkpoint of step 5 is kept", "go on with: medqa train --resume"),
    ],
)
def test_an_interrupted_training(tmp_path: Path, steps: tuple[int, ...], message: str, hint: str) -> None:
    error = told(run_with(tmp_path, *steps), "interrupted", "signal")
    assert isinstance(error, Interrupted)
    assert (error.message, error.hint, error.exit_code) == (message, hint, 130)


@pytest.mark.parametrize(
    ("steps", "kept"), [((), "there is no earlier checkpoint"), ((5,), "the checkpoint of step 5 is kept")]
)
def test_a_full_disk(tmp_path: Path, steps: tuple[int, ...], kept: str) -> None:
    full = NotWrittenError("checkpoint-7 could not be written: no space", HINT)
    error = told(run_with(tmp_path, *steps), "interrupted", "not_written", full)
    assert (error.message, error.hint) == (f"checkpoint-7 could not be written: no space; {kept}", HINT)
    assert error.exit_code == 1


@pytest.mark.parametrize(
    ("rows", "steps", "message", "hint"),
    [
        ((), (), "", "lower train.learning_rate, then start over with: medqa train --restart"),
        (
            ("a", "b"),
            (5,),
            "; its rows in data/train.jsonl: a, b",
            "look at these rows, lower train.learning_rate, then go on from step 5 with: medqa train --resume, or "
            "start over with: medqa train --restart",
        ),
    ],
)
def test_a_diverged_training(
    tmp_path: Path, rows: tuple[str, ...], steps: tuple[int, ...], message: str, hint: str
) -> None:
    diverged = DivergedError("the loss of step 8 is nan", 8, rows)
    error = told(run_with(tmp_path, *steps), "diverged", "diverged", diverged)
    assert error.message == f"the loss of step 8 is nan; the run was stopped and no adapter was saved{message}"
    assert error.hint == hint
    assert error.exit_code == 1


def test_a_completed_training_has_no_error_and_without_looks_its_last_weights(tmp_path: Path) -> None:
    done = outcome("completed", "max_steps")
    assert error_of(done, run_with(tmp_path, 7), DATA) is None
    assert adapter_checkpoint(run_with(tmp_path / "other", 7), done) is None


@pytest.mark.parametrize(
    "log",
    [
        [],
        [{"step": 1, "loss": 2.0}],
        [{"step": 0, "validation_loss": 3.0}, {"step": 1, "loss": 2.5}, {"step": 1, "validation_loss": 2.4}],
        [{"step": step, "loss": 4 / step} for step in range(1, 100)],
    ],
    ids=["nothing", "one loss", "with validation", "with a running mean"],
)
def test_losses_are_drawn(tmp_path: Path, log: list[dict[str, float]]) -> None:
    plot_losses(log, tmp_path / "loss.png")
    picture = (tmp_path / "loss.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert len(picture) > 10_000
    assert [path.name for path in tmp_path.iterdir()] == ["loss.png"]


@pytest.mark.parametrize(
    ("predicted", "keeps", "expected"),
    [
        (
            2 << 30,
            True,
            {"peak memory, freed memory included": "3.00 GiB", "peak memory in use, as predicted": "2.00 GiB"},
        ),
        (2 << 30, False, {"peak memory": "3.00 GiB", "peak memory, as predicted": "2.00 GiB"}),
        (None, True, {"peak memory": "3.00 GiB"}),
    ],
)
def test_no_figure_stands_inside_a_label_on_80_columns(
    predicted: int | None,
    keeps: bool,
    expected: dict[str, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    summary = {
        "status": "completed",
        "stop_reason": "max_steps",
        "num_train_examples": 12_345,
        "num_truncated_answers": 9,
        "num_examples_without_answer": 1,
        "global_step": 12_345,
        "num_train_tokens": 1_234_567,
        "train_loss": [10.25, 9.5],
        "validation_loss": [10.5, 9.25, 9.75],
        "num_validation_examples": 1_234,
        "adapter_step": 12_300,
        "best_step": 12_300,
        "num_skipped_steps": 3,
        "predicted_peak_memory_bytes": predicted,
        "keeps_freed_memory": keeps,
        "peak_memory_bytes": 3 << 30,
        "tokens_per_second": 100.0,
        "seconds": 60.0,
    }
    show(summary, RunFolder(tmp_path), num_sources=3 if keeps else 0)
    head, _, rest = capsys.readouterr().out.partition("\n\n")
    assert ("losses are of questions with sources" in rest) == keeps
    table = head.splitlines()[1:]
    rows = {label.rstrip(): value for label, value in (row.rsplit("  ", 1) for row in table)}
    assert all(label and value.strip() for label, value in rows.items())
    assert {label: value for label, value in rows.items() if label.startswith("peak memory")} == {
        label: value.strip() for label, value in expected.items()
    }
    assert rows["validation loss before, best, last"].strip() == "10.5000 -> 9.2500 -> 9.7500"
    assert rows["validation questions"].strip() == "1,234"
