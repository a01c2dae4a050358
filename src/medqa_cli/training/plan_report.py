"""What ``medqa train --plan`` prints. Does not compute anything."""

from __future__ import annotations

import json
from typing import Any

from medqa_cli import console

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


def gib(size: int) -> str:
    """Return bytes for people, in GiB."""
    return f"{size / 2**30:.2f} GiB"


def show(plan: dict[str, Any]) -> None:
    """Print the plan: counts, memory by part, whether it fits, what to change, and the probe if there was one."""
    parameters = plan["parameters"]
    checkpointing = "recomputed" if plan["gradient_checkpointing"] else "kept"
    console.table(
        f"Plan: {plan['model']} on {plan['device']}",
        [
            ["parameters", f"{parameters['total']:,}"],
            ["of them trained", f"{parameters['trainable']:,}"],
            ["training examples", f"{plan['num_train_examples']:,}"],
            ["tokens per epoch", f"{plan['tokens_per_epoch']:,}"],
            ["optimizer steps", f"{plan['optimizer_steps']:,}"],
            ["tokens in all", f"{plan['train_tokens']:,}"],
            [f"largest forward, activations {checkpointing}", f"{plan['largest_forward_tokens']:,} tokens"],
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
    _show_advice(plan)
    if plan["probe"]:
        _show_probe(plan["probe"])


def _show_advice(plan: dict[str, Any]) -> None:
    if plan["fits"]:
        console.line("it fits")
        return
    advice = plan["advice"]
    if not advice or not advice[-1]["fits"]:
        console.line("it does not fit, and no setting makes it fit; the least that it takes:")
    else:
        console.line("it does not fit; it does with these changes, each on top of those above:")
    for line in advice:
        change = " ".join(f"--set {key}={json.dumps(value)}" for key, value in line["change"].items())
        console.line(f"  {change.replace(chr(34), '')}   predicted peak {gib(line['peak_bytes'])}")
    if not advice or not advice[-1]["fits"]:
        console.line("take a smaller base model, or share it among several GPUs: docs/several_gpus.md")


def _show_probe(probe: dict[str, Any]) -> None:
    seconds = probe["training_seconds"]
    time = "unknown" if seconds is None else console.clock(seconds)
    console.line(f"at {probe['tokens_per_second']:,.0f} tokens per second the training takes {time}")
