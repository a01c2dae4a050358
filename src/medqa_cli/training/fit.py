"""The training loop of one run, from the first look at the validation split to how it ended.

Does not load or save the adapter (``run``), does not compute losses (``trainer``).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import TrainerCallback
from transformers.trainer_utils import IntervalStrategy

from medqa_cli import allocator, console, distributed
from medqa_cli.model.device import peak_memory_bytes
from medqa_cli.training import trackers
from medqa_cli.training.checkpoint_files import NotWrittenError, set_aside
from medqa_cli.training.checkpoints import written_by_main
from medqa_cli.training.ending import Ending, Outcome
from medqa_cli.training.examples import evenly_spaced
from medqa_cli.training.guards import DivergedError, StepGuard
from medqa_cli.training.idle_memory import IdleMemoryLimit
from medqa_cli.training.looks import ValidationLooks
from medqa_cli.training.monitor import TrainingMonitor, read_log, stop_on_signal
from medqa_cli.training.plot import plot_losses
from medqa_cli.training.prediction import Prediction, forward_limits
from medqa_cli.training.preflight import num_steps
from medqa_cli.training.preparation import Prepared, TrainJob
from medqa_cli.training.trainer import MedqaTrainer, make_training_arguments

# A look at the validation split costs a forward over it; this many questions settle a mean loss to about 0.05 nats.
MAX_VALIDATION_EXAMPLES = 128


def fit(
    job: TrainJob, model: Any, prepared: Prepared, prediction: Prediction | None, checkpoint: Path | None
) -> Outcome:
    """Run the training loop; what it does is in the run's folder, but for the adapter.

    Args:
        job: what to train on what.
        model: of ``make_model``.
        prepared: data and device.
        prediction: the size of a forward.
        checkpoint: where to go on from.
    """
    callbacks: list[TrainerCallback] = []
    if prepared.device.type == "cpu" and prediction is not None:
        if prediction.keeps_freed_memory:
            callbacks.append(IdleMemoryLimit(prediction.peak_bytes + prediction.idle_bytes))
        else:
            allocator.give_back_freed_memory()
    device, dtype, examples = prepared.device, prepared.dtype, prepared.data.examples
    watched = evenly_spaced(prepared.validation.examples, MAX_VALIDATION_EXAMPLES)
    limits = forward_limits(job.model, job.train, device, dtype) if prediction is None else prediction.limits
    with distributed.raise_on_all_ranks():
        arguments = make_training_arguments(
            job.train,
            seed=job.seed,
            output_dir=job.run.checkpoints_dir,
            device=device,
            compute_dtype=dtype,
            memory_is_plentiful=limits.memory_is_plentiful,
        )
    # Before the first step the adapter is zero: the first look is the base model's loss.
    arguments.eval_on_start = bool(watched) and checkpoint is None
    if not watched:
        arguments.eval_strategy = IntervalStrategy.NO
    trackers.set_up(arguments, job.run.path)
    guard = StepGuard()
    log = distributed.from_main(lambda: read_log(job.run.train_log_path))
    looks = ValidationLooks(log, job.train.early_stopping_patience)
    with console.run_display("training", num_steps(job.train, len(examples))) as display:
        monitor = TrainingMonitor(job.run.train_log_path, display, guard, lambda: peak_memory_bytes(device))
        trainer = MedqaTrainer(
            model=model,
            args=arguments,
            examples=examples,
            validation=watched,
            max_tokens_per_forward=limits.max_tokens,
            compute_dtype=dtype,
            callbacks=[*callbacks, monitor, looks] if watched else [*callbacks, monitor],
            guard=guard,
        )
        trainer.kept_steps = looks.kept_steps
        with stop_on_signal(monitor), trackers.failures_told(arguments.report_to):
            ending = _run_to_the_end(trainer, monitor, looks, checkpoint)
    written_by_main(job.run, lambda: plot_losses(read_log(job.run.train_log_path), job.run.loss_plot_path))
    return Outcome(
        ending=ending,
        global_step=trainer.state.global_step,
        num_tokens=trainer.state.num_input_tokens_seen,
        tokens_per_second=monitor.pace.tokens_per_second,
        num_skipped_steps=guard.num_skipped_steps,
        num_validation_examples=len(watched),
        looks=looks,
    )


def _run_to_the_end(
    trainer: MedqaTrainer, monitor: TrainingMonitor, looks: ValidationLooks, checkpoint: Path | None
) -> Ending:
    """Train; return how it ended."""
    ending = Ending("interrupted", "signal")
    try:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        at_the_end = trainer.state.global_step >= trainer.state.max_steps
        if at_the_end and trainer.eval_dataset and not _just_validated(monitor.log_path, trainer):
            # Resumed from a checkpoint of the last step that had not been looked at.
            trainer.evaluate()
        if at_the_end or not distributed.any_rank(monitor.interrupted):
            ending = Ending("completed", "max_steps" if at_the_end and not looks.stopped_early else "early_stopping")
    except DivergedError as error:
        ending = Ending("diverged", "diverged", error)
        if error.risen_since < error.step:
            # What was saved since then is part of the trouble.
            checkpoints_dir, since = Path(trainer.args.output_dir), error.risen_since - 1
            moved = distributed.from_main(lambda: set_aside(checkpoints_dir, since))
            for path in moved:
                console.warn(f"{path} was saved when the loss was rising already; --resume does not go on from it")
    except NotWrittenError as error:
        ending = Ending("interrupted", "not_written", error)
    except KeyboardInterrupt:
        # A second Ctrl-C: at once, with the checkpoints that there are. Other ranks may be anywhere by now.
        if distributed.world_size() > 1:
            raise
        console.warn("stopping at once")
    if ending.error is not None:
        # Trackers close their runs here; the Trainer does not get that far.
        trainer.callback_handler.on_train_end(trainer.args, trainer.state, trainer.control)
    return ending


def _just_validated(log_path: Path, trainer: MedqaTrainer) -> bool:
    step = trainer.state.global_step
    log = distributed.from_main(lambda: read_log(log_path))
    return any(line["step"] == step and "validation_loss" in line for line in log)
