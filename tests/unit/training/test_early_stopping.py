"""Which validation loss was best, that its checkpoint is asked for, and when a run stops early."""

from typing import Any

import pytest
from transformers import TrainerControl, TrainerState

from medqa_cli.training.callbacks import EarlyStopping

ARGS: Any = None  # never looked at
LOSSES = [3.0, 2.0, 2.5, 1.9, 1.9, 2.2, 1.8]  # the first is the base model's


class Run:
    """Looks after steps 0, 10, 20, ... as the Trainer makes them."""

    def __init__(self, patience: int | None = None, log: list[dict[str, Any]] | None = None) -> None:
        self.early_stopping = EarlyStopping(log or [], patience)
        self.state = TrainerState(max_steps=60, global_step=5 * len(log or []))
        self.control = TrainerControl()

    def look(self, loss: float) -> None:
        self.control.should_save = False
        self.early_stopping.on_evaluate(ARGS, self.state, self.control, metrics={"eval_loss": loss})
        self.state.global_step += 10


def log_of(losses: list[float]) -> list[dict[str, Any]]:
    return [
        line
        for n, loss in enumerate(losses)
        for line in ({"step": n, "loss": 1}, {"step": 10 * n, "validation_loss": loss})
    ]


@pytest.mark.parametrize(("patience", "stops_after"), [(1, 3), (2, 6), (3, None), (None, None)])
def test_early_stopping_stops_once_patience_is_used_up(patience: int | None, stops_after: int | None) -> None:
    """A look without gain counts, equal is no gain, and a better one starts the count again."""
    run = Run(patience)
    stopped = None
    for number, loss in enumerate(LOSSES, start=1):
        run.look(loss)
        assert run.early_stopping.stopped_early == run.control.should_training_stop
        if run.control.should_training_stop:
            assert run.control.should_save
            stopped = number
            break
    assert stopped == stops_after


@pytest.mark.parametrize("seen", range(1, 6))
def test_early_stopping_goes_on_counting_after_a_resume(seen: int) -> None:
    run = Run(2, log_of(LOSSES[:seen]))
    for number, loss in enumerate(LOSSES[seen:6], start=seen + 1):
        run.look(loss)
        assert run.control.should_training_stop == (number == 6)


def test_a_run_that_had_stopped_early_trains_no_further() -> None:
    resumed = Run(2, log_of(LOSSES[:6]))
    resumed.early_stopping.on_train_begin(ARGS, resumed.state, resumed.control)
    assert resumed.control.should_training_stop
    patient = Run(3, log_of(LOSSES[:6]))
    patient.early_stopping.on_train_begin(ARGS, patient.state, patient.control)
    assert not patient.control.should_training_stop


def test_a_loss_that_is_not_a_number_is_no_gain() -> None:
    run = Run(2)
    for loss in (2.0, float("nan"), float("nan")):
        run.look(loss)
    assert run.control.should_training_stop
    assert run.early_stopping.best_step is None


def test_each_best_look_of_an_adapter_is_saved_and_kept() -> None:
    run = Run()
    saved = []
    for loss in LOSSES:
        step = run.state.global_step
        run.look(loss)
        saved += [step] * run.control.should_save
    assert saved == [10, 30, 60]
    assert (
        run.early_stopping.best_step,
        run.early_stopping.best_loss,
        run.early_stopping.last_loss,
        run.early_stopping.base_loss,
    ) == (60, 1.8, 1.8, 3.0)


def test_the_base_model_is_no_adapter_to_keep() -> None:
    run = Run()
    for loss in (1.0, 2.0, 1.5, 1.7):
        run.look(loss)
    assert (run.early_stopping.best_step, run.early_stopping.base_loss) == (20, 1.0)


@pytest.mark.parametrize("seen", range(8))
def test_a_resumed_run_knows_the_best_look(seen: int) -> None:
    run = Run(None, log_of(LOSSES[:seen]))
    for loss in LOSSES[seen:]:
        run.look(loss)
    assert run.early_stopping.best_step == 60


def test_there_is_a_look_after_the_last_step() -> None:
    run = Run()
    run.state.global_step = 59
    run.early_stopping.on_step_end(ARGS, run.state, run.control)
    assert not run.control.should_evaluate
    run.state.global_step = 60
    run.early_stopping.on_step_end(ARGS, run.state, run.control)
    assert run.control.should_evaluate


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        ([2.0, 1.5, 1.2, 1.3, 1.4], 2),
        ([2.0, 1.5, 1.2, 1.3], None),  # one look above the best may be chance
        ([2.0, 1.5, 1.2, 1.4, 1.3, 1.1], None),
        ([2.0, 1.5, 1.4, 1.3], None),
        ([1.0, 1.5, 1.2, 1.3], None),  # nor beside a base model that is better than all
        ([1.0, 1.5, 1.2, 1.3, 1.4], 2),
    ],
)
def test_a_validation_loss_that_rises_is_dated_from_its_best_look(losses: list[float], expected: int | None) -> None:
    log = [{"step": step, "validation_loss": loss} for step, loss in enumerate(losses)]
    assert EarlyStopping(log, None).rising_since == expected
