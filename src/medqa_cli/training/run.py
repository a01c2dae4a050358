"""The work of ``medqa train``: load, train, check, save.

Does not run the training loop (``fit``), compute losses (``trainer``) or draw (``console``, ``plot``).
"""

from __future__ import annotations

import contextlib
import os
import time
from typing import Any

import transformers

from medqa_cli import console, distributed
from medqa_cli.data.output_folder import report_of
from medqa_cli.environment import describe_environment
from medqa_cli.errors import InputError
from medqa_cli.files import atomic_file, write_json
from medqa_cli.model.adapter import add_lora
from medqa_cli.model.adapter_init import check_init, init_adapter
from medqa_cli.model.adapter_targets import find_targets
from medqa_cli.model.base import load_base
from medqa_cli.model.device import describe_device, peak_memory_bytes, pick_compute_dtype, pick_device
from medqa_cli.model.dry_run import UnknownMemoryError
from medqa_cli.model.empty_model import tell_unquantized
from medqa_cli.model.liger import use_liger_kernels
from medqa_cli.model.machine import unused_gpu
from medqa_cli.model.parity import Way, settle_way
from medqa_cli.training import trackers
from medqa_cli.training.adapter_folder import AdapterParts, save_adapter
from medqa_cli.training.checkpoint_files import full_disk_is_an_error
from medqa_cli.training.checkpoints import lock, prepare_run_folder, warn_if_disk_is_small, written_by_main
from medqa_cli.training.ending import Outcome, adapter_checkpoint, error_of, summarize
from medqa_cli.training.fit import fit
from medqa_cli.training.model_card import CardFacts, model_card
from medqa_cli.training.monitor import read_log
from medqa_cli.training.plan_report import gib
from medqa_cli.training.prediction import Prediction, Target, available_bytes, fits
from medqa_cli.training.preflight import bound_to, check_same_on_all_ranks, checkpoint_to_go_on_from, num_steps
from medqa_cli.training.preparation import Prepared, TrainJob, device_at_hand, predictor, prepare, settings_of
from medqa_cli.training.sharding import (
    check_sharded_type,
    check_sharding,
    launchers_mixed_precision,
    whole_adapter,
)
from medqa_cli.training.trainer import check_optimizer, optimizer_on, unpaged
from medqa_cli.training.unusual import unusual_settings


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
    with distributed.raise_on_all_ranks():
        check_sharding(job.model, job.train)
        check_init(job.model, job.lora, sharded=distributed.is_sharded())
        check_optimizer(job.train.optim)
        trackers.require_tracker(job.train.report_to)
        device = pick_device()
        optimizer = optimizer_on(job.train.optim, device)
        trained_with = bound_to(job.prompt, job.model, job.lora, job.train, job.data_dir, optimizer)
        dtype = pick_compute_dtype(job.model.compute_dtype, device)
        check_sharded_type(dtype)
    check_same_on_all_ranks(job.resolved_config, trained_with, dtype)
    checkpoint = checkpoint_to_go_on_from(job.run, trained_with, resume=resume, restart=restart)
    prepared = prepare(job, device, dtype)
    with distributed.raise_on_all_ranks():
        prediction = predicted(job, prepared)
        model = make_model(job, prepared)
        _describe_run(job, model, prepared)
    way = settle_way_for_training(model, prepared)

    def begin() -> dict[str, Any]:
        # Only now: whatever was wrong with data, model or config has left an earlier training untouched.
        if (held := lock(job.run)) is not None:
            locks.callback(os.close, held)
        prepare_run_folder(job.run, checkpoint, restart=restart)
        num_trained = model.get_nb_trainable_parameters()[0]
        warn_if_disk_is_small(job.run, job.train, num_steps(job.train, len(prepared.data.examples)), num_trained)
        return _record(job, trained_with, prepared, way)

    environment = written_by_main(job.run, begin)
    with full_disk_is_an_error(job.run.path):
        outcome = fit(job, model, prepared, prediction, checkpoint)
    summary = _summarize(job, outcome, prepared, prediction, time.perf_counter() - started)
    distributed.from_main(lambda: _raise_if_incomplete(job, outcome, summary))
    chosen = distributed.from_main(lambda: adapter_checkpoint(job.run, outcome, job.train.early_stopping_patience))
    summary["adapter_step"] = outcome.global_step if chosen is None else outcome.looks.best_step
    weights = whole_adapter(model) if distributed.is_sharded() and chosen is None else None

    def finish() -> None:
        # Without adapter_step until there is an adapter.
        write_json(job.run.train_json_path, {**summary, "adapter_step": None})
        card = _card(job, prepared, summary, environment)
        parts = AdapterParts(prepared.tokenizer, prepared.contract, card, weights)
        save_adapter(job.run.adapter_dir, model, chosen, parts)
        write_json(job.run.train_json_path, summary)

    written_by_main(job.run, finish)
    return summary


def predicted(job: TrainJob, prepared: Prepared) -> Prediction | None:
    """Predict the memory of the training here; None where a layer of the architecture needs real numbers."""
    target = device_at_hand(prepared.device)
    try:
        prediction = predictor(prepared, target).predict(settings_of(job))
    except UnknownMemoryError as error:
        console.note(f"{error.message}; the size of a forward is the fastest, whether it fits or not")
        return None
    if not distributed.is_sharded():  # FSDP's own buffers are not part of the prediction
        _tell_of_memory(job, prediction, target)
    return prediction


def _tell_of_memory(job: TrainJob, prediction: Prediction, target: Target) -> None:
    if not fits(prediction, target):
        console.warn(
            f"this training will probably run out of memory: it takes {gib(prediction.peak_bytes)} at its peak, and "
            f"{gib(available_bytes(target))} are available; `medqa train --plan` says which settings make it fit"
        )
    elif target.device_type == "cuda" and (instead := unpaged(job.train.optim)) is not None:
        console.note(
            f"train.optim: {job.train.optim} waits for the GPU after each of the adapter's tensors; its state "
            f"({gib(prediction.optimizer_bytes)}) has room here, and {instead} computes the same steps faster"
        )


def make_model(job: TrainJob, prepared: Prepared) -> Any:
    """Load the base and put a fresh adapter on it, as it is trained."""
    # Seeded before the adapter is made: its A matrices are random.
    transformers.set_seed(job.seed)
    source = prepared.source
    base = load_base(source, job.model, prepared.device, prepared.dtype, packed=True, sharded=distributed.is_sharded())
    if not distributed.is_sharded():
        use_liger_kernels(base, prepared.device)
    tell_unquantized(base, job.model, prepared.dtype)
    if note := find_targets(base, job.lora).note:
        console.note(note)
    model = add_lora(base, job.lora, source.name, source.revision)
    init_adapter(model, job.lora, source)
    return model


def settle_way_for_training(model: Any, prepared: Prepared) -> Way:
    """Let a fresh model compute in the fastest way that is right for it. All ranks must call it.

    Raises:
        InputError: there is none.
    """
    # The backward passes of fused layers read the base's weights, which FSDP has given away by then.
    return settle_way(model, prepared.source.name, prepared.dtype, trains=True, fuses=not distributed.is_sharded())


def _record(job: TrainJob, trained_with: dict[str, Any], prepared: Prepared, way: Way) -> dict[str, Any]:
    """Write what the run is made with; return the environment."""
    with atomic_file(job.run.config_path) as file:
        file.write(job.resolved_config)
    environment = {
        **describe_environment(),
        "device": describe_device(prepared.device),
        "unused_gpu": unused_gpu() if prepared.device.type == "cpu" else None,
        "compute_dtype": str(prepared.dtype).removeprefix("torch."),
        "num_processes": distributed.world_size(),
        "forwards": way.as_json(),
        "trained_with": trained_with,
    }
    write_json(job.run.environment_path, environment)
    return environment


def _describe_run(job: TrainJob, model: Any, prepared: Prepared) -> None:
    device, dtype = prepared.device, prepared.dtype
    trainable, total = model.get_nb_trainable_parameters()
    optimizer = optimizer_on(job.train.optim, device)
    console.note(
        f"{job.model.name_or_path}: {job.model.quantization} base, {str(dtype).removeprefix('torch.')} products, "
        f"{trainable:,} of {total:,} parameters trained, on {describe_device(device)}"
        + (f", in each of {distributed.world_size()} processes" if distributed.world_size() > 1 else "")
    )
    if (ignored := launchers_mixed_precision()) is not None:
        console.note(f"mixed_precision: {ignored} of accelerate's config has no effect; model.compute_dtype decides")
    examples = len(prepared.data.examples)
    for unusual in unusual_settings(
        job.lora, job.train, num_parameters=total, num_examples=examples, num_steps=num_steps(job.train, examples)
    ):
        console.note(f"unusual: {unusual}")
    if optimizer != job.train.optim:
        why = "works on whole tensors" if distributed.is_sharded() else "needs a GPU"
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
            data=report_of(job.data_dir),  # None where it is damaged: no reason to give up a trained adapter
            environment=environment,
        )
    )


def _summarize(
    job: TrainJob, outcome: Outcome, prepared: Prepared, prediction: Prediction | None, seconds: float
) -> dict[str, Any]:
    data = prepared.data
    return {
        **distributed.from_main(lambda: summarize(outcome, job.run, read_log(job.run.train_log_path))),
        "num_train_examples": len(data.examples),
        "num_truncated_answers": data.num_truncated_answers,
        "num_examples_without_answer": data.num_without_answer,
        "peak_memory_bytes": max(distributed.all_gather(peak_memory_bytes(prepared.device))),
        # FSDP's own buffers are not part of the prediction.
        "predicted_peak_memory_bytes": None
        if prediction is None or distributed.is_sharded()
        else prediction.peak_bytes,
        "keeps_freed_memory": prediction is not None and prediction.keeps_freed_memory,
        "seconds": round(seconds, 1),
    }
