"""The work of ``medqa train``: load, train, check, save.

Does not compute losses (``trainer``) and does not draw (``console``, ``plot``).
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
import transformers
from transformers.trainer_utils import IntervalStrategy

from medqa_cli import console, ranks
from medqa_cli.config.sections import LoraConfig, ModelConfig, PromptConfig, TrainConfig
from medqa_cli.data.dataset import read_split
from medqa_cli.errors import InputError
from medqa_cli.model.adapter import add_lora
from medqa_cli.model.base import load_base, load_tokenizer
from medqa_cli.model.device import describe_device, peak_memory_bytes, pick_compute_dtype, pick_device
from medqa_cli.model.forward_size import activation_bytes_per_token, tokens_per_forward, tokens_that_fit
from medqa_cli.model.fused_layers import fuse_layers
from medqa_cli.model.source import BaseSource
from medqa_cli.prompt import PromptContract, PromptEncoder, make_contract
from medqa_cli.run_folder import RunFolder, atomic_file, describe_environment, read_json, write_json
from medqa_cli.training import trackers
from medqa_cli.training.adapter_folder import AdapterParts, save_adapter
from medqa_cli.training.checkpoint_files import NotWrittenError, full_disk_is_an_error, set_aside
from medqa_cli.training.checkpoints import prepare_run_folder, warn_if_disk_is_small
from medqa_cli.training.ending import Ending, Outcome, adapter_checkpoint, error_of, summarize
from medqa_cli.training.examples import EncodedSplit, encode_rows, evenly_spaced
from medqa_cli.training.guards import DivergedError, StepGuard
from medqa_cli.training.looks import ValidationLooks
from medqa_cli.training.model_card import CardFacts, model_card
from medqa_cli.training.monitor import TrainingMonitor, read_log, stop_on_signal
from medqa_cli.training.plot import plot_losses
from medqa_cli.training.preflight import (
    bound_to,
    check_same_on_all_ranks,
    checkpoint_to_go_on_from,
    examples_per_step,
    find_base_in_turns,
)
from medqa_cli.training.sharding import check_sharding, whole_adapter
from medqa_cli.training.trainer import MedqaTrainer, make_training_arguments, optimizer_on, uses_checkpointing

# A look at the validation split costs a forward over it; this many questions settle a mean loss to about 0.05 nats.
MAX_VALIDATION_EXAMPLES = 128

T = TypeVar("T")


@dataclass(frozen=True)
class TrainJob:
    """What one training needs: sections of the config, the run's folder, and its resolved config as text."""

    run: RunFolder
    data_dir: Path
    prompt: PromptConfig
    model: ModelConfig
    lora: LoraConfig
    train: TrainConfig
    seed: int
    resolved_config: str


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
    started = time.perf_counter()
    with ranks.agreed():
        check_sharding(job.model, job.train)
        trackers.require_tracker(job.train.report_to)
        train_rows = read_split(job.data_dir, "train")
        validation_rows = read_split(job.data_dir, "validation")
        device = pick_device()
        optimizer = optimizer_on(job.train.optim, device)
        trained_with = bound_to(job.prompt, job.model, job.lora, job.train, job.data_dir, optimizer)
        dtype = pick_compute_dtype(job.model.compute_dtype, device)
    check_same_on_all_ranks(job.resolved_config, trained_with, dtype)
    checkpoint = checkpoint_to_go_on_from(job.run, trained_with, resume=resume, restart=restart)
    source = find_base_in_turns(job.model)
    with ranks.agreed():
        tokenizer = load_tokenizer(source.location, source.revision)
        contract = make_contract(job.prompt, tokenizer)
        encoder = PromptEncoder(contract, tokenizer)
        data = encode_rows(train_rows, encoder, job.model.max_length)
        validation = encode_rows(validation_rows, encoder, job.model.max_length) if validation_rows else _EMPTY
        _report_counts(data, job.model.max_length)
        model = _make_model(job, source, device, dtype)
        _describe_run(job, model, device, dtype)

    def begin() -> dict[str, Any]:
        # Only now: whatever was wrong with data, model or config has left an earlier training untouched.
        prepare_run_folder(job.run, checkpoint, restart=restart)
        num_trained = model.get_nb_trainable_parameters()[0]
        warn_if_disk_is_small(job.run, job.train, _num_steps(job.train, len(data.examples)), num_trained)
        return _record(job, trained_with, device)

    environment = _written_by_main(job.run, begin)
    with full_disk_is_an_error(job.run.path):
        outcome = _fit(job, model, data, validation, device, dtype, checkpoint)
    summary = _summarize(job, outcome, data, device, time.perf_counter() - started)
    ranks.from_main(lambda: _raise_if_incomplete(job, outcome, summary))
    chosen = ranks.from_main(lambda: adapter_checkpoint(job.run, outcome, job.train.early_stopping_patience))
    summary["adapter_step"] = outcome.global_step if chosen is None else outcome.looks.best_step
    weights = whole_adapter(model) if ranks.is_sharded() and chosen is None else None

    def finish() -> None:
        # Without adapter_step until there is an adapter.
        write_json(job.run.train_json_path, {**summary, "adapter_step": None})
        card = _card(job, source, contract, dtype, summary, environment)
        save_adapter(job.run.adapter_dir, model, chosen, AdapterParts(tokenizer, contract, card, weights))
        write_json(job.run.train_json_path, summary)

    _written_by_main(job.run, finish)
    return summary


def _written_by_main(run: RunFolder, write: Callable[[], T]) -> T:
    """Do on rank 0 what writes into the run's folder; a full disk is an error on all ranks."""

    def guarded() -> T:
        with full_disk_is_an_error(run.path):
            return write()

    return ranks.from_main(guarded)


_EMPTY = EncodedSplit([], 0, 0)


def _make_model(job: TrainJob, source: BaseSource, device: torch.device, dtype: torch.dtype) -> Any:
    # Seeded before the adapter is made: its A matrices are random.
    transformers.set_seed(job.seed)
    base = load_base(source, job.model, device, dtype, packed=True, sharded=ranks.is_sharded())
    model = add_lora(base, job.lora, source.name, source.revision)
    if not ranks.is_sharded():
        # Their backward passes read the base's weights, which FSDP has given away by then.
        fuse_layers(model)
    return model


def _record(job: TrainJob, trained_with: dict[str, Any], device: torch.device) -> dict[str, Any]:
    """Write what the run is made with; return the environment."""
    with atomic_file(job.run.config_path) as file:
        file.write(job.resolved_config)
    environment = {
        **describe_environment(),
        "device": describe_device(device),
        "num_processes": ranks.world_size(),
        "trained_with": trained_with,
    }
    write_json(job.run.environment_path, environment)
    return environment


def _fit(
    job: TrainJob,
    model: Any,
    data: EncodedSplit,
    validation: EncodedSplit,
    device: torch.device,
    dtype: torch.dtype,
    checkpoint: Path | None,
) -> Outcome:
    watched = evenly_spaced(validation.examples, MAX_VALIDATION_EXAMPLES)
    max_tokens, memory_is_plentiful = _forward_limits(job, model, device, dtype)
    with ranks.agreed():
        arguments = make_training_arguments(
            job.train,
            seed=job.seed,
            output_dir=job.run.checkpoints_dir,
            device=device,
            compute_dtype=dtype,
            memory_is_plentiful=memory_is_plentiful,
        )
    # Before the first step the adapter is zero: the first look is the base model's loss.
    arguments.eval_on_start = bool(watched) and checkpoint is None
    if not watched:
        arguments.eval_strategy = IntervalStrategy.NO
    trackers.set_up(arguments, job.run.path)
    guard = StepGuard()
    log = ranks.from_main(lambda: read_log(job.run.train_log_path))
    looks = ValidationLooks(log, job.train.early_stopping_patience)
    with console.run_display("training", _num_steps(job.train, len(data.examples))) as display:
        monitor = TrainingMonitor(job.run.train_log_path, display, guard, lambda: peak_memory_bytes(device))
        trainer = MedqaTrainer(
            model=model,
            args=arguments,
            examples=data.examples,
            validation=watched,
            max_tokens_per_forward=max_tokens,
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


def _num_steps(config: TrainConfig, num_examples: int) -> int:
    if config.max_steps > 0:
        return config.max_steps
    return math.ceil(math.ceil(num_examples / examples_per_step(config)) * config.num_train_epochs)


def _forward_limits(job: TrainJob, model: Any, device: torch.device, dtype: torch.dtype) -> tuple[int, bool]:
    """Return the tokens of one forward, and whether a step of them fits without recomputing activations."""
    config = model.get_base_model().config
    kept = activation_bytes_per_token(config, dtype, recomputed=False)
    # Twice the fastest size with room to spare: then recomputing buys nothing. The ranks do as the smallest must.
    fits = min(ranks.gathered(tokens_that_fit(kept, device)))
    plentiful = fits >= 2 * tokens_per_forward(0, device, job.model.max_length)
    if job.train.max_tokens_per_forward != "auto":
        return job.train.max_tokens_per_forward, plentiful
    recomputed = uses_checkpointing(job.train, device, plentiful)
    bytes_per_token = activation_bytes_per_token(config, dtype, recomputed=recomputed)
    return min(ranks.gathered(tokens_per_forward(bytes_per_token, device, job.model.max_length))), plentiful


def _report_counts(data: EncodedSplit, max_length: int) -> None:
    if data.num_truncated_answers:
        console.warn(
            f"{data.num_truncated_answers} of {len(data.examples)} answers do not fit model.max_length = {max_length}: "
            "they are cut and get no end token"
        )
    if data.num_without_answer:
        console.warn(
            f"{data.num_without_answer} rows left out: their prompt alone fills model.max_length = {max_length}"
        )


def _describe_run(job: TrainJob, model: Any, device: torch.device, dtype: torch.dtype) -> None:
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


def _card(
    job: TrainJob,
    source: BaseSource,
    contract: PromptContract,
    dtype: torch.dtype,
    summary: dict[str, Any],
    environment: dict[str, Any],
) -> str:
    report_path = job.data_dir / "report.json"
    return model_card(
        CardFacts(
            source=source,
            contract=contract,
            model=job.model,
            lora=job.lora,
            train=job.train,
            seed=job.seed,
            compute_dtype=str(dtype).removeprefix("torch."),
            summary=summary,
            data=read_json(report_path) if report_path.is_file() else None,
            environment=environment,
        )
    )


def _summarize(
    job: TrainJob, outcome: Outcome, data: EncodedSplit, device: torch.device, seconds: float
) -> dict[str, Any]:
    return {
        **ranks.from_main(lambda: summarize(outcome, job.run, read_log(job.run.train_log_path))),
        "num_train_examples": len(data.examples),
        "num_truncated_answers": data.num_truncated_answers,
        "num_examples_without_answer": data.num_without_answer,
        "peak_memory_bytes": max(ranks.gathered(peak_memory_bytes(device))),
        "predicted_peak_memory_bytes": None,
        "seconds": round(seconds, 1),
    }
