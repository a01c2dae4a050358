"""The work of ``medqa train --plan``: what the training would take, whether it fits, and what to change if it does not.

Loads no weights, but for ``probe``: that takes two real steps and tells the time. Does not touch the run's folder.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from medqa_cli import console
from medqa_cli.config.schema import TrainConfig
from medqa_cli.errors import InputError
from medqa_cli.files import RunFolder
from medqa_cli.model.adapter_init import check_init
from medqa_cli.model.adapter_targets import find_targets
from medqa_cli.model.base import load_config
from medqa_cli.model.device import DTYPES, describe_device, peak_memory_bytes, pick_compute_dtype, pick_device
from medqa_cli.model.empty_model import empty_base, num_parameters, num_unquantized, tell_unquantized
from medqa_cli.model.machine import GB
from medqa_cli.training.fit import fit
from medqa_cli.training.prediction import Prediction, Predictor, Settings, Target, available_bytes, fits
from medqa_cli.training.preflight import num_steps
from medqa_cli.training.preparation import (
    Prepared,
    TrainJob,
    device_at_hand,
    predictor,
    prepare,
    settings_of,
    without_validation,
)
from medqa_cli.training.run import make_model, settle_way_for_training
from medqa_cli.training.unusual import unusual_settings

PROBE_STEPS = 2
LEAST_MAX_LENGTH = 256


@dataclass(frozen=True)
class Advice:
    """A change of the config (key: value) and the predicted peak once it and those before it are made."""

    change: dict[str, Any]
    peak_bytes: int
    fits: bool


def plan(job: TrainJob, *, gpu_memory_gb: float | None = None, probe: bool = False) -> dict[str, Any]:
    """Predict a training.

    Args:
        job: what would be trained.
        gpu_memory_gb: plan for a GPU with this much memory (10**9 bytes) instead of the device at hand.
        probe: load the weights and take two steps as well.

    Returns:
        What ``--json`` prints; all memory in bytes, times in seconds.

    Raises:
        InputError: data or base are missing, or a probe is asked for on a device that is not there.
        UnknownMemoryError: the architecture's step cannot be run without weights.
    """
    if probe and gpu_memory_gb is not None:
        raise InputError("--probe takes steps on the device at hand; --gpu-memory plans for another", "leave one out")
    check_init(job.model, job.lora, sharded=False)
    device = pick_device()
    prepared = prepare(job, device, pick_compute_dtype(job.model.compute_dtype, device))
    target, device_name = device_at_hand(device), describe_device(device)
    if gpu_memory_gb is not None:
        target, prepared, device_name = _imagined(job, prepared, gpu_memory_gb)
    base = empty_base(load_config(prepared.source.location, prepared.source.revision), job.model, prepared.dtype)
    tell_unquantized(base, job.model, prepared.dtype)
    if note := find_targets(base, job.lora).note:
        console.note(note)
    predict = predictor(prepared, target)
    prediction = predict.predict(settings_of(job))
    examples = prepared.data.examples
    tokens = sum(len(example.input_ids) for example in examples)
    steps = num_steps(job.train, len(examples))
    train_tokens = round(tokens * _trained_examples(job.train, len(examples), steps) / len(examples))
    for unusual in unusual_settings(
        job.lora, job.train, num_parameters=num_parameters(base), num_examples=len(examples), num_steps=steps
    ):
        console.note(f"unusual: {unusual}")
    result: dict[str, Any] = {
        "model": prepared.source.name,
        "device": device_name,
        "parameters": {
            "total": prediction.step.num_parameters,
            "trainable": prediction.step.num_trainable,
            "unquantized": num_unquantized(base) if job.model.quantization != "none" else None,
        },
        "num_train_examples": len(examples),
        "tokens_per_epoch": tokens,
        "optimizer_steps": steps,
        "train_tokens": train_tokens,
        "max_tokens_per_forward": prediction.limits.max_tokens,
        "largest_forward_tokens": prediction.largest_forward_tokens,
        "gradient_checkpointing": prediction.limits.recomputed,
        "memory_bytes": prediction.parts(),
        "predicted_peak_memory_bytes": prediction.peak_bytes,
        "most_idle_bytes": prediction.idle_bytes,
        "device_memory_bytes": target.total_bytes,
        "available_memory_bytes": available_bytes(target),
        "fits": fits(prediction, target),
        "advice": [],
        "probe": None,
    }
    if not result["fits"]:
        result["advice"] = [vars(advice) for advice in advise(predict, settings_of(job), prediction)]
    if probe:
        result["probe"] = _probe(job, prepared, prediction, train_tokens)
    return result


def advise(predict: Predictor, settings: Settings, prediction: Prediction) -> list[Advice]:
    """Return the changes that make a training fit, the cheapest first, each on top of those before it.

    The last one fits, unless none does.
    """
    advices: list[Advice] = []
    current, lowest = settings, prediction.peak_bytes
    for change in _changes(settings):
        changed = _with(current, change)
        found = predict.predict(changed)
        if found.peak_bytes >= lowest:
            continue
        current, lowest = changed, found.peak_bytes
        advices.append(Advice(dict(change), lowest, fits(found, predict.target)))
        if advices[-1].fits:
            by_itself = predict.predict(_with(settings, change))
            if fits(by_itself, predict.target):
                # Those before it helped too little, and need not be made.
                return [Advice(dict(change), by_itself.peak_bytes, True)]
            break
    return advices


def _changes(settings: Settings) -> Iterator[dict[str, Any]]:
    """Yield changes of the config that may save memory; those of no use are told by their prediction."""
    length = settings.model.max_length
    yield {"train.gradient_checkpointing": True}
    yield {"train.max_tokens_per_forward": length}
    if settings.model.quantization not in ("nf4", "fp4"):
        yield {"model.quantization": "nf4"}
    yield {"model.double_quantization": True}
    while length // 2 >= LEAST_MAX_LENGTH:
        length //= 2
        yield {"model.max_length": length, "train.max_tokens_per_forward": length}


def _with(settings: Settings, change: dict[str, Any]) -> Settings:
    for key, value in change.items():
        section, name = key.split(".")
        settings = replace(settings, **{section: replace(getattr(settings, section), **{name: value})})
    return settings


def _imagined(job: TrainJob, prepared: Prepared, memory_gb: float) -> tuple[Target, Prepared, str]:
    """Return a GPU that is not there, and the data prepared for it."""
    dtype = DTYPES.get(job.model.compute_dtype, torch.bfloat16)
    size = round(memory_gb * GB)
    # Who sets float16 has a card without bfloat16, and those have no flash attention either.
    target = Target("cuda", size, size, 0, has_flash=dtype == torch.bfloat16)
    return target, replace(prepared, dtype=dtype), f"a GPU with {memory_gb:g} GB"


def _trained_examples(config: TrainConfig, num_examples: int, steps: int) -> float:
    if config.max_steps <= 0:
        return num_examples * config.num_train_epochs
    return steps * min(num_examples, config.per_device_train_batch_size * config.gradient_accumulation_steps)


def _probe(job: TrainJob, prepared: Prepared, prediction: Prediction, train_tokens: int) -> dict[str, Any]:
    """Load the weights and take two steps in a folder that is deleted; return speed, time and the measured peak."""
    started = time.perf_counter()
    model = make_model(job, prepared)
    settle_way_for_training(model, prepared)
    load_seconds = time.perf_counter() - started
    quiet = replace(
        job.train, max_steps=PROBE_STEPS, save_steps=PROBE_STEPS + 1, logging_steps=1, eval_steps=None, report_to="none"
    )
    with tempfile.TemporaryDirectory(prefix="medqa-plan-") as folder:
        run = RunFolder(Path(folder))
        outcome = fit(replace(job, run=run, train=quiet), model, without_validation(prepared), prediction, None)
    if not outcome.tokens_per_second:
        console.warn("the two steps were too few to tell the speed")
    speed = outcome.tokens_per_second
    return {
        "tokens_per_second": round(speed, 1),
        "load_seconds": round(load_seconds, 1),
        "training_seconds": round(train_tokens / speed, 1) if speed else None,
        "measured_peak_memory_bytes": peak_memory_bytes(prepared.device),
    }
