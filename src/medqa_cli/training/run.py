"""The work of ``medqa train``: load, train, check, save.

Does not compute losses (``trainer``) and does not draw (``console``, ``plot``).
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import transformers
from transformers.trainer_utils import IntervalStrategy

from medqa_cli import allocator, console, ranks
from medqa_cli.errors import InputError
from medqa_cli.model.adapter import add_lora
from medqa_cli.model.adapter_init import check_init, init_adapter
from medqa_cli.model.base import load_base
from medqa_cli.model.device import describe_device, peak_memory_bytes, pick_compute_dtype, pick_device
from medqa_cli.model.dry_run import UnknownMemoryError
from medqa_cli.model.fused_layers import fuse_layers
from medqa_cli.model.liger import use_liger_kernels
from medqa_cli.run_folder import RunFolder, atomic_file, describe_environment, read_json, write_json
from medqa_cli.training import trackers
from medqa_cli.training.adapter_folder import AdapterParts, save_adapter
from medqa_cli.training.checkpoint_files import NotWrittenError, full_disk_is_an_error, set_aside
from medqa_cli.training.checkpoints import lock, prepare_run_folder, warn_if_disk_is_small
from medqa_cli.training.ending import Ending, Outcome, adapter_checkpoint, error_of, summarize
from medqa_cli.training.examples import evenly_spaced
from medqa_cli.training.guards import DivergedError, StepGuard
from medqa_cli.training.looks import ValidationLooks
from medqa_cli.training.model_card import CardFacts, model_card
from medqa_cli.training.monitor import TrainingMonitor, read_log, stop_on_signal
from medqa_cli.training.plot import plot_losses
from medqa_cli.training.prediction import Prediction, forward_limits
from medqa_cli.training.preflight import bound_to, check_same_on_all_ranks, checkpoint_to_go_on_from, num_steps
from medqa_cli.training.preparation import Prepared, TrainJob, device_at_hand, predictor, prepare, settings_of
from medqa_cli.training.sharding import check_sharding, whole_adapter
from medqa_cli.training.trainer import MedqaTrainer, check_optimizer, make_training_arguments, optimizer_on

# A look at the validation split costs a forward over it; this many questions settle a mean loss to about 0.05 nats.
MAX_VALIDATION_EXAMPLES = 128

T = TypeVar("T")


def train(job: TrainJob, *, resume: bool = False, restart: bool = False) -> dict[str, Any]:
    """Train an adapter and save it with everything that is needed to use it.

    Args:
        job: what to train on what.
        resume: go on from the newest checkpoint.
        restart: delete an earlier training of this run folder first.

    Returns:
        The content of ``train.json``.

    Raises:
        InputError: data, model or an earlier run stand in the way.
        Interrupted: stopped by a signal, checkpoint saved.
        NotWrittenError: the disk is full; the checkpoints before are kept.
        MedqaError: the training diverged, there was nothing to learn, or the adapter came out without effect.
    """
    with contextlib.ExitStack() as locks:
        return _train(job, locks, resume=resume, restart=restart)


def _train(job: TrainJob, locks: contextlib.ExitStack, *, resume: bool, restart: bool) -> dict[str, Any]:
    started = time.perf_counter()
    with ranks.agreed():
        check_sharding(job.model, job.train)
        check_init(job.model, job.lora, sharded=ranks.is_sharded())
        check_optimizer(job.train.optim)
        trackers.require_tracker(job.train.report_to)
        device = pick_device()
        optimizer = optimizer_on(job.train.optim, device)
        trained_with = bound_to(job.prompt, job.model, job.lora, job.train, job.data_dir, optimizer)
        dtype = pick_compute_dtype(job.model.compute_dtype, device)
    check_same_on_all_ranks(job.resolved_config, trained_with, dtype)
    checkpoint = checkpoint_to_go_on_from(job.run, trained_with, resume=resume, restart=restart)
    prepared = prepare(job, device, dtype)
    with ranks.agreed():
        prediction = predicted(job, prepared)
        model = make_model(job, prepared)
        _describe_run(job, model, prepared)

    def begin() -> dict[str, Any]:
        # Only now: whatever was wrong with data, model or config has left an earlier training untouched.
        if (held := lock(job.run)) is not None:
            locks.callback(os.close, held)
        prepare_run_folder(job.run, checkpoint, restart=restart)
        num_trained = model.get_nb_trainable_parameters()[0]
        warn_if_disk_is_small(job.run, job.train, num_steps(job.train, len(prepared.data.examples)), num_trained)
        return _record(job, trained_with, prepared)

    environment = _written_by_main(job.run, begin)
    with full_disk_is_an_error(job.run.path):
        outcome = fit(job, model, prepared, prediction, checkpoint)
    summary = _summarize(job, outcome, prepared, prediction, time.perf_counter() - started)
    ranks.from_main(lambda: _raise_if_incomplete(job, outcome, summary))
    chosen = ranks.from_main(lambda: adapter_checkpoint(job.run, outcome, job.train.early_stopping_patience))
    summary["adapter_step"] = outcome.global_step if chosen is None else outcome.looks.best_step
    weights = whole_adapter(model) if ranks.is_sharded() and chosen is None else None

    def finish() -> None:
        # Without adapter_step until there is an adapter.
        write_json(job.run.train_json_path, {**summary, "adapter_step": None})
        card = _card(job, prepared, summary, environment)
        parts = AdapterParts(prepared.tokenizer, prepared.contract, card, weights)
        save_adapter(job.run.adapter_dir, model, chosen, parts)
        write_json(job.run.train_json_path, summary)

    _written_by_main(job.run, finish)
    return summary


def _written_by_main(run: RunFolder, write: Callable[[], T]) -> T:
    """Do on rank 0 what writes into the run's folder; a full disk is an error on all ranks."""

    def guarded() -> T:
        with full_disk_is_an_error(run.path):
            return write()

    return ranks.from_main(guarded)


def predicted(job: TrainJob, prepared: Prepared) -> Prediction | None:
    """Predict the memory of the training here; None where a layer of the architecture needs real numbers."""
    try:
        return predictor(prepared, device_at_hand(prepared.device)).predict(settings_of(job))
    except UnknownMemoryError as error:
        console.note(f"{error.message}; the size of a forward is the fastest, whether it fits or not")
        return None


def make_model(job: TrainJob, prepared: Prepared) -> Any:
    """Load the base and put a fresh adapter on it, as it is trained."""
    # Seeded before the adapter is made: its A matrices are random.
    transformers.set_seed(job.seed)
    source = prepared.source
    base = load_base(source, job.model, prepared.device, prepared.dtype, packed=True, sharded=ranks.is_sharded())
    if not ranks.is_sharded():
        use_liger_kernels(base, prepared.device)
    model = add_lora(base, job.lora, source.name, source.revision)
    init_adapter(model, job.lora, source)
    if not ranks.is_sharded():
        # Their backward passes read the base's weights, which FSDP has given away by then.
        fuse_layers(model)
    return model


def _record(job: TrainJob, trained_with: dict[str, Any], prepared: Prepared) -> dict[str, Any]:
    """Write what the run is made with; return the environment."""
    with atomic_file(job.run.config_path) as file:
        file.write(job.resolved_config)
    environment = {
        **describe_environment(),
        "device": describe_device(prepared.device),
        "compute_dtype": str(prepared.dtype).removeprefix("torch."),
        "num_processes": ranks.world_size(),
        "trained_with": trained_with,
    }
    write_json(job.run.environment_path, environment)
    return environment


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
    if prepared.device.type == "cpu" and prediction is not None and not prediction.keeps_freed_memory:
        allocator.give_back_freed_memory()
    device, dtype, examples = prepared.device, prepared.dtype, prepared.data.examples
    watched = evenly_spaced(prepared.validation.examples, MAX_VALIDATION_EXAMPLES)
    limits = forward_limits(job.model, job.train, device) if prediction is None else prediction.limits
    with ranks.agreed():
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
    log = ranks.from_main(lambda: read_log(job.run.train_log_path))
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
            callbacks=[monitor, looks] if watched else [monitor],
            guard=guard,
        )
        trainer.kept_steps = looks.kept_steps
        with stop_on_signal(monitor):
            ending = _run_to_the_end(trainer, monitor, looks, checkpoint)
    _written_by_main(job.run, lambda: plot_losses(read_log(job.run.train_log_path), job.run.loss_plot_path))
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
        if at_the_end or not ranks.any_rank(monitor.interrupted):
            ending = Ending("completed", "max_steps" if at_the_end and not looks.stopped_early else "early_stopping")
    except DivergedError as error:
        ending = Ending("diverged", "diverged", error)
        if error.risen_since < error.step:
            # What was saved since then is part of the trouble.
            checkpoints_dir, since = Path(trainer.args.output_dir), error.risen_since - 1
            moved = ranks.from_main(lambda: set_aside(checkpoints_dir, since))
            for path in moved:
                console.warn(f"{path} was saved when the loss was rising already; --resume does not go on from it")
    except NotWrittenError as error:
        ending = Ending("interrupted", "not_written", error)
    except KeyboardInterrupt:
        # A second Ctrl-C: at once, with the checkpoints that there are. Other ranks may be anywhere by now.
        if ranks.world_size() > 1:
            raise
        console.warn("stopping at once")
    if ending.error is not None:
        # Trackers close their runs here; the Trainer does not get that far.
        trainer.callback_handler.on_train_end(trainer.args, trainer.state, trainer.control)
    return ending


def _just_validated(log_path: Path, trainer: MedqaTrainer) -> bool:
    step = trainer.state.global_step
    log = ranks.from_main(lambda: read_log(log_path))
    return any(line["step"] == step and "validation_loss" in line for line in log)


def _describe_run(job: TrainJob, model: Any, prepared: Prepared) -> None:
    device, dtype = prepared.device, prepared.dtype
    trainable, total = model.get_nb_trainable_parameters()
    optimizer = optimizer_on(job.train.optim, device)
    console.note(
        f"{job.model.name_or_path}: {job.model.quantization} base, {str(dtype).removeprefix('torch.')} products, "
        f"{trainable:,} of {total:,} parameters trained, on {describe_device(device)}"
        + (f", in each of {ranks.world_size()} processes" if ranks.world_size() > 1 else "")
    )
    if optimizer != job.train.optim:
        why = "works on whole tensors" if ranks.is_sharded() else "needs a GPU"
        console.note(f"train.optim: {job.train.optim} {why}; {optimizer} computes the same steps here")


def _raise_if_incomplete(job: TrainJob, outcome: Outcome, summary: dict[str, Any]) -> None:
    error = error_of(outcome, job.run, job.data_dir)
    if error is None:
        return
    # On a full disk it may not find room either; the message says what matters.
    with contextlib.suppress(OSError, InputError):
        write_json(job.run.train_json_path, summary)
    raise error


def _card(job: TrainJob, prepared: Prepared, summary: dict[str, Any], environment: dict[str, Any]) -> str:
    report_path = job.data_dir / "report.json"
    return model_card(
        CardFacts(
            source=prepared.source,
            contract=prepared.contract,
            model=job.model,
            lora=job.lora,
            train=job.train,
            seed=job.seed,
            compute_dtype=str(prepared.dtype).removeprefix("torch."),
            summary=summary,
            data=read_json(report_path) if report_path.is_file() else None,
            environment=environment,
        )
    )


def _summarize(
    job: TrainJob, outcome: Outcome, prepared: Prepared, prediction: Prediction | None, seconds: float
) -> dict[str, Any]:
    data = prepared.data
    return {
        **ranks.from_main(lambda: summarize(outcome, job.run, read_log(job.run.train_log_path))),
        "num_train_examples": len(data.examples),
        "num_truncated_answers": data.num_truncated_answers,
        "num_examples_without_answer": data.num_without_answer,
        "peak_memory_bytes": max(ranks.gathered(peak_memory_bytes(prepared.device))),
        # FSDP's own buffers are not part of the prediction.
        "predicted_peak_memory_bytes": None if prediction is None or ranks.is_sharded() else prediction.peak_bytes,
        "keeps_freed_memory": prediction is not None and prediction.keeps_freed_memory,
        "seconds": round(seconds, 1),
    }
