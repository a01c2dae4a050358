"""The work of ``medqa train``: load, train, check, save.

Does not compute losses (``trainer``) and does not draw (``console``, ``plot``).
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers.trainer_utils import IntervalStrategy

from medqa_cli import console
from medqa_cli.config.sections import LoraConfig, ModelConfig, PromptConfig, TrainConfig
from medqa_cli.data.dataset import read_split
from medqa_cli.errors import Interrupted, MedqaError
from medqa_cli.model.adapter import add_lora, all_finite, has_effect
from medqa_cli.model.base import load_base, load_tokenizer
from medqa_cli.model.device import describe_device, peak_memory_bytes, pick_compute_dtype, pick_device
from medqa_cli.model.forward_size import activation_bytes_per_token, tokens_per_forward, tokens_that_fit
from medqa_cli.model.fused_layers import fuse_layers
from medqa_cli.model.source import BaseSource, find_base
from medqa_cli.prompt import PromptContract, PromptEncoder, make_contract
from medqa_cli.run_folder import (
    RunFolder,
    atomic_dir,
    atomic_file,
    describe_environment,
    sha256_of_file,
    write_json,
)
from medqa_cli.training.checkpoints import check_fits, find_checkpoint, fixed_settings, prepare_run_folder
from medqa_cli.training.examples import EncodedSplit, encode_rows, evenly_spaced
from medqa_cli.training.monitor import TrainingMonitor, read_log, stop_on_signal
from medqa_cli.training.plot import plot_losses
from medqa_cli.training.trainer import (
    DivergedError,
    MedqaTrainer,
    make_training_arguments,
    optimizer_on,
    uses_checkpointing,
)

# A look at the validation split costs a forward over it; this many questions settle a mean loss to about 0.05 nats.
MAX_VALIDATION_EXAMPLES = 128


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
        MedqaError: nothing to learn, or the adapter came out without effect.
    """
    started = time.perf_counter()
    train_rows = read_split(job.data_dir, "train")
    validation_rows = read_split(job.data_dir, "validation")
    checkpoint = find_checkpoint(job.run, resume=resume, restart=restart)
    trained_with = fixed_settings(
        job.prompt, job.model, job.lora, job.train.optim, sha256_of_file(job.data_dir / "train.jsonl")
    )
    if checkpoint is not None:
        check_fits(job.run, trained_with)
    source = find_base(job.model.name_or_path, job.model.revision)
    tokenizer = load_tokenizer(source.location, source.revision)
    contract = make_contract(job.prompt, tokenizer)
    encoder = PromptEncoder(contract, tokenizer)
    data = encode_rows(train_rows, encoder, job.model.max_length)
    validation = encode_rows(validation_rows, encoder, job.model.max_length) if validation_rows else _EMPTY
    _report_counts(data, job.model.max_length)

    device = pick_device()
    dtype = pick_compute_dtype(job.model.compute_dtype, device)
    model = _make_model(job, source, device, dtype)
    _describe_run(job, model, device, dtype)
    # Only now: whatever was wrong with data, model or config has left an earlier training untouched.
    prepare_run_folder(job.run, checkpoint, restart=restart)
    with atomic_file(job.run.config_path) as file:
        file.write(job.resolved_config)
    environment = {**describe_environment(), "device": describe_device(device), "trained_with": trained_with}
    write_json(job.run.environment_path, environment)

    outcome = _fit(job, model, data, validation, device, dtype, checkpoint)
    summary = _summarize(job, outcome, data, device, time.perf_counter() - started)
    if outcome.status == "interrupted":
        write_json(job.run.train_json_path, summary)
        raise Interrupted(
            f"stopped at step {outcome.global_step}; a checkpoint was saved", "go on with: medqa train --resume"
        )
    if outcome.diverged:
        write_json(job.run.train_json_path, summary)
        raise MedqaError(
            f"{outcome.diverged}; the run was stopped and no adapter was saved",
            "lower train.learning_rate, then start over with: medqa train --restart",
        )
    _check_adapter(model)
    _save_adapter(model, tokenizer, contract, job.run.adapter_dir)
    write_json(job.run.train_json_path, summary)
    return summary


@dataclass(frozen=True)
class _Outcome:
    status: str
    diverged: str
    global_step: int
    num_tokens: int
    tokens_per_second: float
    validation_loss: list[float] | None
    num_validation_examples: int


_EMPTY = EncodedSplit([], 0, 0)


def _make_model(job: TrainJob, source: BaseSource, device: torch.device, dtype: torch.dtype) -> Any:
    # Seeded before the adapter is made: its A matrices are random.
    transformers.set_seed(job.seed)
    base = load_base(source, job.model, device, dtype, packed=True)
    model = add_lora(base, job.lora, source.name, source.revision)
    fuse_layers(model)
    return model


def _fit(
    job: TrainJob,
    model: Any,
    data: EncodedSplit,
    validation: EncodedSplit,
    device: torch.device,
    dtype: torch.dtype,
    checkpoint: Path | None,
) -> _Outcome:
    watched = evenly_spaced(validation.examples, MAX_VALIDATION_EXAMPLES)
    max_tokens, memory_is_plentiful = _forward_limits(job, model, device, dtype)
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
    with console.progress("training", _num_steps(job.train, len(data.examples))) as bar:
        monitor = TrainingMonitor(job.run.train_log_path, bar, job.train.early_stopping_patience)
        trainer = MedqaTrainer(
            model=model,
            args=arguments,
            examples=data.examples,
            validation=watched,
            max_tokens_per_forward=max_tokens,
            compute_dtype=dtype,
            callbacks=[monitor],
        )
        with stop_on_signal(monitor):
            status, diverged = _run_to_the_end(trainer, monitor, checkpoint)
    log = read_log(job.run.train_log_path)
    plot_losses(log, job.run.loss_plot_path)
    looks = [line["validation_loss"] for line in log if line.get("validation_loss") is not None]
    return _Outcome(
        status=status,
        diverged=diverged,
        global_step=trainer.state.global_step,
        num_tokens=trainer.state.num_input_tokens_seen,
        tokens_per_second=monitor.tokens_per_second,
        validation_loss=[looks[0], min(looks), looks[-1]] if looks else None,
        num_validation_examples=len(watched),
    )


def _run_to_the_end(trainer: MedqaTrainer, monitor: TrainingMonitor, checkpoint: Path | None) -> tuple[str, str]:
    """Train; return the status and, where it diverged, what was seen."""
    try:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        finished = not monitor.interrupted or trainer.state.global_step >= trainer.state.max_steps
        if finished and trainer.eval_dataset and not _just_validated(monitor.log_path, trainer):
            trainer.evaluate()
    except DivergedError as error:
        return "diverged", str(error)
    return "completed" if finished else "interrupted", ""


def _just_validated(log_path: Path, trainer: MedqaTrainer) -> bool:
    step = trainer.state.global_step
    return any(line["step"] == step and "validation_loss" in line for line in read_log(log_path))


def _num_steps(config: TrainConfig, num_examples: int) -> int:
    if config.max_steps > 0:
        return config.max_steps
    per_step = config.per_device_train_batch_size * config.gradient_accumulation_steps
    return math.ceil(math.ceil(num_examples / per_step) * config.num_train_epochs)


def _forward_limits(job: TrainJob, model: Any, device: torch.device, dtype: torch.dtype) -> tuple[int, bool]:
    """Return the tokens of one forward, and whether a step of them fits without recomputing activations."""
    config = model.get_base_model().config
    kept = activation_bytes_per_token(config, dtype, recomputed=False)
    # Twice the fastest size with room to spare: then recomputing buys nothing.
    plentiful = tokens_that_fit(kept, device) >= 2 * tokens_per_forward(0, device, job.model.max_length)
    if job.train.max_tokens_per_forward != "auto":
        return job.train.max_tokens_per_forward, plentiful
    recomputed = uses_checkpointing(job.train, device, plentiful)
    bytes_per_token = activation_bytes_per_token(config, dtype, recomputed=recomputed)
    return tokens_per_forward(bytes_per_token, device, job.model.max_length), plentiful


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
    )
    if optimizer != job.train.optim:
        console.note(f"train.optim: {job.train.optim} needs a GPU; {optimizer} computes the same steps here")


def _check_adapter(model: Any) -> None:
    if not all_finite(model):
        raise MedqaError(
            "the adapter holds values that are not finite: the last step diverged; no adapter was saved",
            "lower train.learning_rate, then start over with: medqa train --restart",
        )
    if not has_effect(model):
        raise MedqaError(
            "the adapter has no effect: all its B matrices are still zero, so it answers exactly like the base model",
            "check train.learning_rate and train.max_steps (no adapter was saved), then: medqa train --restart",
        )


def _save_adapter(model: Any, tokenizer: Any, contract: PromptContract, adapter_dir: Path) -> None:
    with atomic_dir(adapter_dir) as temporary:
        model.save_pretrained(temporary, save_embedding_layers=False)
        tokenizer.save_pretrained(temporary)
        contract.save(temporary)


def _summarize(
    job: TrainJob, outcome: _Outcome, data: EncodedSplit, device: torch.device, seconds: float
) -> dict[str, Any]:
    losses = [line["loss"] for line in read_log(job.run.train_log_path) if "loss" in line]
    return {
        "status": outcome.status,
        "global_step": outcome.global_step,
        "num_train_examples": len(data.examples),
        "num_train_tokens": outcome.num_tokens,
        "num_truncated_answers": data.num_truncated_answers,
        "num_examples_without_answer": data.num_without_answer,
        "num_validation_examples": outcome.num_validation_examples,
        "tokens_per_second": round(outcome.tokens_per_second, 1),
        "peak_memory_bytes": peak_memory_bytes(device),
        "predicted_peak_memory_bytes": None,
        "seconds": round(seconds, 1),
        "train_loss": [losses[0], losses[-1]] if losses else None,
        "validation_loss": outcome.validation_loss,
    }
