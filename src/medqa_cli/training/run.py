"""The work of ``medqa train``: set up, load, train, check, save."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import Any

import torch

from medqa_cli import console, distributed
from medqa_cli.cards import adapter_card
from medqa_cli.config.schema import Config
from medqa_cli.data.data_folder import report_of
from medqa_cli.environment import describe_environment
from medqa_cli.errors import InputError
from medqa_cli.files import RunFolder, atomic_file, write_json
from medqa_cli.model import devices
from medqa_cli.model.kernels.parity import Way
from medqa_cli.model.lora import check_init
from medqa_cli.model.memory_profile import UnknownMemoryError
from medqa_cli.training import fsdp, setup
from medqa_cli.training.arguments import require_tracker
from medqa_cli.training.callbacks import read_log
from medqa_cli.training.checkpoints import full_disk_is_an_error
from medqa_cli.training.data_order import num_steps
from medqa_cli.training.estimate import MemoryEstimate, MemoryEstimator, device_at_hand, fits, gib
from medqa_cli.training.loop import run_loop
from medqa_cli.training.optimizers import optimizer_on, unpaged
from medqa_cli.training.outcome import Outcome, adapter_checkpoint, error_of, save_adapter, summarize
from medqa_cli.training.resume import (
    bound_to,
    checkpoint_to_go_on_from,
    lock,
    prepare_run_folder,
    warn_if_disk_is_small,
    written_by_main,
)


def train(
    config: Config, run: RunFolder, resolved_config: str, *, resume: bool = False, restart: bool = False
) -> dict[str, Any]:
    """Train an adapter and save it with everything that is needed to use it.

    Args:
        config: what to train on what.
        run: the folder that gets it.
        resolved_config: the config as the text of ``config.yaml``.
        resume: go on from the newest checkpoint.
        restart: delete an earlier training of this run folder first.

    Returns:
        The content of ``train.json``.

    Raises:
        InputError: data or model cannot be used, or the folder already holds a training.
        Interrupted: stopped by a signal, checkpoint saved.
        NotWrittenError: the disk is full; the checkpoints before are kept.
        MedqaError: the training diverged, there was nothing to learn, or the adapter came out without effect.
    """
    started = time.perf_counter()
    device, dtype, trained_with = _check_settings(config, resolved_config)
    checkpoint = checkpoint_to_go_on_from(run, trained_with, resume=resume, restart=restart)
    inputs = setup.prepare(config, device, dtype)
    estimate = _estimated(config, inputs)
    with distributed.raise_on_all_ranks():
        model = setup.make_model(config, inputs)
        _describe_run(config, model, inputs)
    environment = _environment(inputs, setup.settle_way_for_training(model, inputs), trained_with)
    with contextlib.ExitStack() as locks:

        def begin() -> None:
            # Only now: whatever was wrong with data, model or config has left an earlier training untouched.
            if (held := lock(run)) is not None:
                locks.callback(os.close, held)
            prepare_run_folder(run, checkpoint, restart=restart)
            num_trained = model.get_nb_trainable_parameters()[0]
            warn_if_disk_is_small(run, config.train, num_steps(config.train, len(inputs.data.examples)), num_trained)
            with atomic_file(run.config_path) as file:
                file.write(resolved_config)
            write_json(run.environment_path, environment)

        written_by_main(run, begin)
        with full_disk_is_an_error(run.path):
            outcome = run_loop(config, run, model, inputs, estimate, checkpoint)
        summary = _summarize(run, outcome, inputs, estimate, time.perf_counter() - started)
        distributed.from_main(lambda: _raise_if_incomplete(config, run, outcome, summary))
        return _save(config, run, model, inputs, outcome, summary, environment)


def _check_settings(config: Config, resolved_config: str) -> tuple[torch.device, torch.dtype, dict[str, Any]]:
    """Check what needs neither data nor model; return device, type of the products and what checkpoints are bound to.

    Raises:
        InputError: settings do not go together, or with this machine, or are not the same on all ranks.
    """
    with distributed.raise_on_all_ranks():
        fsdp.check_sharding(config.model, config.train)
        check_init(config.model, config.lora, sharded=distributed.is_sharded())
        require_tracker(config.train.report_to)
        device = devices.pick_device()
        trained_with = bound_to(config, optimizer_on(config.train.optim, device))
        dtype = devices.pick_compute_dtype(config.model.compute_dtype, device)
        fsdp.check_sharded_type(dtype)
    setup.check_same_on_all_ranks(resolved_config, trained_with, dtype)
    return device, dtype, trained_with


def _environment(inputs: setup.TrainingInputs, way: Way, trained_with: dict[str, Any]) -> dict[str, Any]:
    """Return the content of ``environment.json``."""
    return {
        **describe_environment(),
        "device": devices.describe_device(inputs.device),
        "unused_gpu": devices.unused_gpu() if inputs.device.type == "cpu" else None,
        "compute_dtype": devices.dtype_name(inputs.dtype),
        "num_processes": distributed.world_size(),
        "forwards": way.as_json(),
        "trained_with": trained_with,
    }


def _estimated(config: Config, inputs: setup.TrainingInputs) -> MemoryEstimate | None:
    """Estimate the memory of the training here; None where a layer of the architecture needs real numbers."""
    target = device_at_hand(inputs.device)
    try:
        estimate = MemoryEstimator(inputs.hf_config, inputs.data.examples, inputs.dtype, target).predict_on_all_ranks(
            config
        )
    except UnknownMemoryError as error:
        console.note(f"{error.message}; the size of a forward is the fastest, whether it fits or not")
        return None
    if distributed.is_sharded():  # FSDP's own buffers are not part of the estimate
        return estimate
    if not fits(estimate, target):
        console.warn(
            f"this training will probably run out of memory: it takes {gib(estimate.peak_bytes)} at its peak, and "
            f"{gib(target.available_bytes)} are available; `medqa train --plan` says which settings make it fit"
        )
    elif target.device_type == "cuda" and (instead := unpaged(config.train.optim)) is not None:
        console.note(
            f"train.optim: {config.train.optim} waits for the GPU after each of the adapter's tensors; its state "
            f"({gib(estimate.optimizer_bytes)}) has room here, and {instead} computes the same steps faster"
        )
    return estimate


def _describe_run(config: Config, model: Any, inputs: setup.TrainingInputs) -> None:
    trainable, total = model.get_nb_trainable_parameters()
    console.note(
        f"{config.model.name_or_path}: {config.model.quantization} base, {devices.dtype_name(inputs.dtype)} products, "
        f"{trainable:,} of {total:,} parameters trained, on {devices.describe_device(inputs.device)}"
        + (f", in each of {distributed.world_size()} processes" if distributed.world_size() > 1 else "")
    )
    if (ignored := fsdp.launchers_mixed_precision()) is not None:
        console.note(f"mixed_precision: {ignored} of accelerate's config has no effect; model.compute_dtype decides")
    setup.tell_unusual_settings(config, total, len(inputs.data.examples))
    optimizer = optimizer_on(config.train.optim, inputs.device)
    if optimizer != config.train.optim:
        why = "works on whole tensors" if distributed.is_sharded() else "needs a GPU"
        console.note(f"train.optim: {config.train.optim} {why}; {optimizer} computes the same steps here")


def _summarize(
    run: RunFolder, outcome: Outcome, inputs: setup.TrainingInputs, estimate: MemoryEstimate | None, seconds: float
) -> dict[str, Any]:
    """Return the content of ``train.json`` without the adapter's step."""
    return {
        **distributed.from_main(lambda: summarize(outcome, run, read_log(run.train_log_path))),
        "num_train_examples": len(inputs.data.examples),
        "num_truncated_answers": inputs.data.num_truncated_answers,
        "num_examples_without_answer": inputs.data.num_without_answer,
        "peak_memory_bytes": max(distributed.all_gather(devices.peak_memory_bytes(inputs.device))),
        # FSDP's own buffers are not part of the estimate.
        "predicted_peak_memory_bytes": None if estimate is None or distributed.is_sharded() else estimate.peak_bytes,
        "keeps_freed_memory": estimate is not None and estimate.keeps_freed_memory,
        "seconds": round(seconds, 1),
    }


def _raise_if_incomplete(config: Config, run: RunFolder, outcome: Outcome, summary: dict[str, Any]) -> None:
    error = error_of(outcome, run, Path(config.data.dir))
    if error is None:
        return
    # On a full disk it may not find room either; the message says what matters.
    with contextlib.suppress(OSError, InputError):
        write_json(run.train_json_path, summary)
    raise error


def _save(
    config: Config,
    run: RunFolder,
    model: Any,
    inputs: setup.TrainingInputs,
    outcome: Outcome,
    summary: dict[str, Any],
    environment: dict[str, Any],
) -> dict[str, Any]:
    """Save the adapter; return the content of ``train.json``, which names the adapter's step once there is one."""
    chosen = distributed.from_main(lambda: adapter_checkpoint(run, outcome, config.train.early_stopping_patience))
    adapter_step = outcome.global_step if chosen is None else outcome.early_stopping.best_step
    complete = {**summary, "adapter_step": adapter_step}
    weights = fsdp.whole_adapter(model) if distributed.is_sharded() and chosen is None else None

    def write() -> None:
        write_json(run.train_json_path, summary)
        card = adapter_card(
            config,
            base_name=inputs.source.name,
            base_kind=inputs.source.kind,
            base_revision=inputs.source.revision,
            contract=inputs.contract,
            compute_dtype=devices.dtype_name(inputs.dtype),
            summary=complete,
            data=report_of(Path(config.data.dir)),  # None if damaged: no reason to give up a trained adapter
            environment=environment,
        )
        save_adapter(
            run.adapter_dir,
            model,
            chosen,
            tokenizer=inputs.tokenizer,
            contract=inputs.contract,
            card=card,
            weights=weights,
        )
        write_json(run.train_json_path, complete)

    written_by_main(run, write)
    return complete
