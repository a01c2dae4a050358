"""Wires up one training run: limits, callbacks, trainer, and how it ended."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainingArguments

from medqa_cli import console, distributed, malloc
from medqa_cli.config.schema import Config
from medqa_cli.data.dataset import evenly_spaced
from medqa_cli.files import RunFolder
from medqa_cli.model.devices import peak_memory_bytes
from medqa_cli.training.arguments import make_training_arguments, set_up_trackers, tracker_failures_told
from medqa_cli.training.callbacks import EarlyStopping, IdleMemoryLimit, TrainingMonitor, read_log, stop_on_signal
from medqa_cli.training.checkpoints import NotWrittenError, set_aside
from medqa_cli.training.data_order import num_steps
from medqa_cli.training.divergence import DivergedError, DivergenceDetector
from medqa_cli.training.estimate import ForwardLimits, MemoryEstimate, forward_limits
from medqa_cli.training.loss_plot import plot_losses
from medqa_cli.training.outcome import Ending, Outcome
from medqa_cli.training.resume import written_by_main
from medqa_cli.training.setup import TrainingInputs
from medqa_cli.training.trainer import MedqaTrainer

# An evaluation costs a forward over the split; this many questions settle a mean loss to about 0.05 nats.
MAX_VALIDATION_EXAMPLES = 128


def run_loop(
    config: Config,
    run: RunFolder,
    model: Any,
    inputs: TrainingInputs,
    estimate: MemoryEstimate | None,
    checkpoint: Path | None,
) -> Outcome:
    """Run the training loop. Writes everything except the adapter to the run folder.

    Args:
        config: of the training.
        run: its folder.
        model: of ``make_model``.
        inputs: data and device.
        estimate: of the memory, which decides on the size of a forward; None: unknown.
        checkpoint: where to go on from.
    """
    validation = evenly_spaced(inputs.validation.examples, MAX_VALIDATION_EXAMPLES)
    limits = estimate.limits if estimate else forward_limits(config.model, config.train, inputs.device, inputs.dtype)
    arguments = _arguments(config, run, inputs, limits, evaluates=bool(validation), is_resumed=checkpoint is not None)
    divergence = DivergenceDetector()
    log = distributed.from_main(lambda: read_log(run.train_log_path))
    early_stopping = EarlyStopping(log, config.train.early_stopping_patience)
    with console.run_display("training", num_steps(config.train, len(inputs.data.examples))) as display:
        monitor = TrainingMonitor(run.train_log_path, display, divergence, lambda: peak_memory_bytes(inputs.device))
        trainer = MedqaTrainer(
            model=model,
            args=arguments,
            examples=inputs.data.examples,
            validation=validation,
            max_tokens_per_forward=limits.max_tokens,
            compute_dtype=inputs.dtype,
            callbacks=[*_limits_on_idle_memory(inputs.device.type, estimate), monitor],
            divergence=divergence,
            early_stopping=early_stopping,
        )
        with stop_on_signal(monitor), tracker_failures_told(arguments.report_to):
            ending = _run_to_the_end(trainer, monitor, early_stopping, checkpoint)
    written_by_main(run, lambda: plot_losses(read_log(run.train_log_path), run.loss_plot_path))
    return Outcome(
        ending=ending,
        global_step=trainer.state.global_step,
        num_tokens=trainer.state.num_input_tokens_seen,
        tokens_per_second=monitor.throughput.tokens_per_second,
        num_skipped_steps=divergence.num_skipped_steps,
        num_validation_examples=len(validation),
        early_stopping=early_stopping,
    )


def _arguments(
    config: Config, run: RunFolder, inputs: TrainingInputs, limits: ForwardLimits, *, evaluates: bool, is_resumed: bool
) -> TrainingArguments:
    train = config.train
    with distributed.raise_on_all_ranks():
        arguments = make_training_arguments(
            replace(
                train, gradient_checkpointing=limits.recomputed, eval_steps=train.eval_steps if evaluates else None
            ),
            seed=config.seed,
            output_dir=run.checkpoints_dir,
            device=inputs.device,
            compute_dtype=inputs.dtype,
        )
    # Before the first step the adapter is zero: the first evaluation is the base model's.
    arguments.eval_on_start = evaluates and not is_resumed
    set_up_trackers(arguments, run.path)
    return arguments


def _limits_on_idle_memory(device_type: str, estimate: MemoryEstimate | None) -> list[TrainerCallback]:
    if device_type != "cpu" or estimate is None:
        return []
    if estimate.keeps_freed_memory:
        return [IdleMemoryLimit(estimate.peak_bytes + estimate.idle_bytes)]
    malloc.give_back_freed_memory()
    return []


def _run_to_the_end(
    trainer: MedqaTrainer, monitor: TrainingMonitor, early_stopping: EarlyStopping, checkpoint: Path | None
) -> Ending:
    """Train; return how it ended."""
    ending = Ending("interrupted", "signal")
    try:
        trainer.train(checkpoint)
        step = trainer.state.global_step
        at_the_end = step >= trainer.state.max_steps
        if at_the_end and trainer.validation:
            log = distributed.from_main(lambda: read_log(monitor.log_path))
            if not any(line["step"] == step and "validation_loss" in line for line in log):
                # Resumed from a checkpoint of the last step that had not been evaluated.
                trainer.evaluate()
        if at_the_end or not distributed.any_rank(monitor.interrupted):
            reached = at_the_end and not early_stopping.stopped_early
            ending = Ending("completed", "max_steps" if reached else "early_stopping")
    except DivergedError as error:
        ending = Ending("diverged", "diverged", error)
        if error.risen_since < error.step:
            # Checkpoints saved after that point are already diverging.
            checkpoints_dir, since = Path(trainer.args.output_dir), error.risen_since - 1
            for path in distributed.from_main(lambda: set_aside(checkpoints_dir, since)):
                console.warn(f"{path} was saved when the loss was rising already; --resume does not go on from it")
    except NotWrittenError as error:
        ending = Ending("interrupted", "not_written", error)
    except KeyboardInterrupt:
        # A second Ctrl-C: at once, with the checkpoints that there are. Other ranks may be anywhere by now.
        if distributed.world_size() > 1:
            raise
        console.warn("stopping at once")
    if ending.error is not None:
        # Trackers close their runs here.
        trainer.callback_handler.on_train_end(trainer.args, trainer.state, trainer.control)
    return ending
