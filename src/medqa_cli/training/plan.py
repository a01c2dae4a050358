"""The work of ``medqa train --plan``: what the training would take, whether it fits, what to change if it does not.

Loads no weights, except for ``--probe``: that takes two real steps and measures their speed.
"""

import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from medqa_cli import console
from medqa_cli.config.schema import Config
from medqa_cli.data.dataset import EncodedSplit
from medqa_cli.errors import InputError
from medqa_cli.files import RunFolder
from medqa_cli.model import devices, load, lora, quantization
from medqa_cli.training import data_order, setup
from medqa_cli.training.estimate import MemoryEstimate, MemoryEstimator, Target, device_at_hand, fits, gib
from medqa_cli.training.run import run_loop

PROBE_STEPS = 2
LEAST_MAX_LENGTH = 256
_PARTS = {
    "program": "the program and its libraries",
    "base": "base weights",
    "adapter": "adapter",
    "gradient": "gradients",
    "activation": "activations kept for the backward pass",
    "logit": "logits of answer tokens",
    "working": "working space",
    "optimizer": "optimizer state",
}


def plan(config: Config, *, gpu_memory_gb: float | None, probe: bool) -> dict[str, Any]:
    """Predict a training run.

    Args:
        config: of the training.
        gpu_memory_gb: plan for a GPU with this much memory (10**9 bytes) instead of the device at hand.
        probe: load the weights and take two steps as well.

    Returns:
        What ``--json`` prints; all memory in bytes, times in seconds.

    Raises:
        InputError: data or base are missing, or a probe is asked for on a device that is not there.
        MedqaError: the architecture's step cannot be run without weights, or there is nothing to learn.
    """
    if probe and gpu_memory_gb is not None:
        raise InputError("--probe takes steps on the device at hand; --gpu-memory plans for another", "leave one out")
    lora.check_init(config.model, config.lora, sharded=False)
    device = devices.pick_device()
    console.doing("reading the data ...")
    inputs = setup.prepare(config, device, devices.pick_compute_dtype(config.model.compute_dtype, device))
    target, device_name = device_at_hand(device), devices.describe_device(device)
    if gpu_memory_gb is not None:
        dtype, size = devices.DTYPES.get(config.model.compute_dtype, torch.bfloat16), round(gpu_memory_gb * devices.GB)
        # Who sets float16 has a card without bfloat16, and those have no flash attention either.
        target = Target("cuda", size, size, 0, has_flash=dtype == torch.bfloat16)
        inputs, device_name = replace(inputs, dtype=dtype), f"a GPU with {gpu_memory_gb:g} GB"
    console.doing("predicting the memory ...")
    base, examples = load.empty_base(inputs.hf_config, config.model, inputs.dtype), inputs.data.examples
    setup.tell_layers(base, config, inputs.dtype)
    estimator = MemoryEstimator(inputs.hf_config, examples, inputs.dtype, target)
    estimate = estimator.predict(config)
    train_tokens = data_order.num_tokens_of_training(config.train, examples)
    setup.tell_unusual_settings(config, quantization.num_parameters(base), len(examples))
    return {
        "model": inputs.source.name,
        "device": device_name,
        "parameters": {
            "total": estimate.step.num_parameters,
            "trainable": estimate.step.num_trainable,
            "unquantized": quantization.num_unquantized(base) if config.model.quantization != "none" else None,
        },
        "num_train_examples": len(examples),
        "tokens_per_epoch": data_order.num_tokens(examples),
        "optimizer_steps": data_order.num_steps(config.train, len(examples)),
        "train_tokens": train_tokens,
        **_memory(estimate, target),
        "advice": [] if fits(estimate, target) else advise(estimator, config, estimate),
        "probe": _probe(replace(inputs, estimate=estimate), train_tokens) if probe else None,
    }


def _memory(estimate: MemoryEstimate, target: Target) -> dict[str, Any]:
    return {
        "max_tokens_per_forward": estimate.limits.max_tokens,
        "largest_forward_tokens": estimate.largest_forward_tokens,
        "gradient_checkpointing": estimate.limits.recomputed,
        "memory_bytes": estimate.parts(),
        "predicted_peak_memory_bytes": estimate.peak_bytes,
        "most_idle_bytes": estimate.idle_bytes,
        "device_memory_bytes": target.total_bytes,
        "available_memory_bytes": target.available_bytes,
        "fits": fits(estimate, target),
    }


def advise(estimator: MemoryEstimator, config: Config, estimate: MemoryEstimate) -> list[dict[str, Any]]:
    """Return the changes that make a training run fit, the cheapest first, each on top of those before it.

    The last one fits, unless none does.

    Returns:
        ``change`` of the config (key: value), ``peak_bytes`` predicted once it and those before it are made, ``fits``.
    """
    # What may save memory; the estimate shows which of them do.
    length = config.model.max_length
    changes: list[dict[str, Any]] = [{"train.gradient_checkpointing": True}, {"train.max_tokens_per_forward": length}]
    if config.model.quantization not in ("nf4", "fp4"):
        changes.append({"model.quantization": "nf4"})
    changes.append({"model.double_quantization": True})
    while length // 2 >= LEAST_MAX_LENGTH:
        length //= 2
        changes.append({"model.max_length": length, "train.max_tokens_per_forward": length})
    advice: list[dict[str, Any]] = []
    current, lowest = config, estimate.peak_bytes
    for change in changes:
        changed = _with(current, change)
        after = estimator.predict(changed)
        if after.peak_bytes >= lowest:
            continue
        current, lowest = changed, after.peak_bytes
        advice.append({"change": change, "peak_bytes": lowest, "fits": fits(after, estimator.target)})
        if advice[-1]["fits"]:
            by_itself = estimator.predict(_with(config, change))
            if fits(by_itself, estimator.target):
                # Those before it helped too little, and need not be made.
                return [{"change": change, "peak_bytes": by_itself.peak_bytes, "fits": True}]
            break
    return advice


def _with(config: Config, change: dict[str, Any]) -> Config:
    for key, value in change.items():
        section, name = key.split(".")
        config = replace(config, **{section: replace(getattr(config, section), **{name: value})})
    return config


def _probe(inputs: setup.TrainingInputs, train_tokens: int) -> dict[str, Any]:
    """Load the weights and take two steps in a folder that is deleted; return speed, time and the measured peak."""
    started = time.perf_counter()
    model = setup.make_model(inputs)
    setup.settle_way_for_training(model, inputs)
    load_seconds = time.perf_counter() - started
    quiet = replace(
        inputs.config.train,
        max_steps=PROBE_STEPS,
        save_steps=PROBE_STEPS + 1,
        logging_steps=1,
        eval_steps=None,
        report_to="none",
    )
    inputs = replace(inputs, config=replace(inputs.config, train=quiet), validation=EncodedSplit([], 0, 0))
    with tempfile.TemporaryDirectory(prefix="medqa-plan-") as folder:
        outcome = run_loop(RunFolder(Path(folder)), model, inputs, None)
    if not outcome.tokens_per_second:
        console.warn("the two steps were too few to tell the speed")
    speed = outcome.tokens_per_second
    return {
        "tokens_per_second": round(speed, 1),
        "load_seconds": round(load_seconds, 1),
        "training_seconds": round(train_tokens / speed, 1) if speed else None,
        "measured_peak_memory_bytes": devices.peak_memory_bytes(inputs.device),
    }


def show(plan: dict[str, Any]) -> None:
    """Print the plan: counts, memory by part, whether it fits, what to change, and the probe if there was one."""
    parameters = plan["parameters"]
    checkpointing = "recomputed" if plan["gradient_checkpointing"] else "kept"
    console.table(
        f"Plan: {plan['model']} on {plan['device']}",
        [
            ["parameters", f"{parameters['total']:,}"],
            ["trained parameters", f"{parameters['trainable']:,}"],
            ["training examples", f"{plan['num_train_examples']:,}"],
            ["tokens per epoch", f"{plan['tokens_per_epoch']:,}"],
            ["optimizer steps", f"{plan['optimizer_steps']:,}"],
            ["tokens in all", f"{plan['train_tokens']:,}"],
            [f"largest forward pass, activations {checkpointing}", f"{plan['largest_forward_tokens']:,} tokens"],
        ],
    )
    rows = [[_PARTS[part], gib(size)] for part, size in plan["memory_bytes"].items()]
    rows.append(["predicted peak", gib(plan["predicted_peak_memory_bytes"])])
    if plan["most_idle_bytes"]:
        rows.append(["freed memory that is kept for speed, at most", gib(plan["most_idle_bytes"])])
    if plan["probe"]:
        rows.append(["measured in two steps", gib(plan["probe"]["measured_peak_memory_bytes"])])
    rows.append(["available on the device", gib(plan["available_memory_bytes"])])
    console.table("Memory", rows)
    if plan["fits"]:
        console.line("it fits")
    else:
        helps = bool(plan["advice"]) and plan["advice"][-1]["fits"]
        console.line(
            "it does not fit; it does with these changes, each on top of those above:"
            if helps
            else "it does not fit, and no setting makes it fit; the least that it takes:"
        )
        for line in plan["advice"]:
            change = " ".join(f"--set {key}={json.dumps(value)}" for key, value in line["change"].items())
            console.line(f"  {change.replace(chr(34), '')}   predicted peak {gib(line['peak_bytes'])}")
        if not helps:
            console.line("take a smaller base model, or share it among several GPUs: docs/several_gpus.md")
    if probe := plan["probe"]:
        seconds = probe["training_seconds"]
        duration = "unknown" if seconds is None else console.clock(seconds)
        console.line(f"at {probe['tokens_per_second']:,.0f} tokens per second the training takes {duration}")
