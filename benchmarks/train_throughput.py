"""Training throughput: medqa beside TRL's SFTTrainer at its defaults, on the same rows, model, LoRA, limit and batch.

Each side runs in a process of its own, one after the other. The per-step losses must agree within 1 %, otherwise the
ratio
means nothing and the script exits with 1. Run it alone on the machine: ``make bench``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
TOLERANCE = 0.01


def main() -> int:
    """Run both sides and print tokens/s, peak memory and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--warmup-steps", type=int, default=2, help="steps left out of the timing")
    parser.add_argument("--side", choices=["medqa", "trl"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        print(json.dumps(run_side(arguments.side, arguments.steps, arguments.warmup_steps)))
        return 0
    sides = {name: in_own_process(name, arguments.steps, arguments.warmup_steps) for name in ("trl", "medqa")}
    for name, result in sides.items():
        print(f"{name:6} {result['tokens_per_second']:8.1f} tokens/s   {result['peak_memory_bytes'] / 2**30:6.2f} GiB")
        print(f"       losses {[round(loss, 4) for loss in result['losses']]}")
    print(f"ratio  {sides['medqa']['tokens_per_second'] / sides['trl']['tokens_per_second']:.2f}")
    pairs = zip(sides["medqa"]["losses"], sides["trl"]["losses"], strict=True)
    worst = max(abs(ours - theirs) / theirs for ours, theirs in pairs)
    print(f"largest difference of a step's loss: {worst:.2%}")
    return int(worst > TOLERANCE)


def in_own_process(side: str, steps: int, warmup_steps: int) -> dict[str, Any]:
    """Run one side in a fresh interpreter, so that its peak memory is its own."""
    command = [sys.executable, __file__, "--side", side, "--steps", str(steps), "--warmup-steps", str(warmup_steps)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def run_side(side: str, steps: int, warmup_steps: int) -> dict[str, Any]:
    """Train a few steps and return losses, tokens per second after the warm-up, and the peak memory."""
    from transformers import TrainerCallback

    from medqa_cli.model.device import peak_memory_bytes, pick_device

    examples = load_examples()[: 8 * steps]
    ends: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            ends.append(time.perf_counter())

    make = make_medqa if side == "medqa" else make_trl
    trainer = make(examples, steps, Clock())
    trainer.train()
    tokens = sum(len(example.input_ids) for example in examples[8 * warmup_steps :])
    return {
        "losses": [line["loss"] for line in trainer.state.log_history if "loss" in line],
        "tokens_per_second": tokens / (ends[-1] - ends[warmup_steps - 1]),
        "peak_memory_bytes": peak_memory_bytes(pick_device()),
    }


def settings() -> Any:
    """Load the quickstart's config; only its model, prompt and LoRA sections are used."""
    from medqa_cli.config import load

    return load(ROOT / "examples/quickstart.yaml").config


def load_examples() -> list[Any]:
    """Encode the sample data in file order."""
    import csv

    from medqa_cli.model.base import load_tokenizer
    from medqa_cli.model.source import find_base
    from medqa_cli.prompt import PromptEncoder, make_contract

    config = settings()
    tokenizer = load_tokenizer(find_base(config.model.name_or_path).location)
    encoder = PromptEncoder(make_contract(config.prompt, tokenizer), tokenizer)
    with open(ROOT / config.data.source, encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["question"].strip() and row["answer"].strip()]
    return encoder.encode_examples([r["question"] for r in rows], [r["answer"] for r in rows], config.model.max_length)


def make_model(*, packed: bool) -> Any:
    """Load the quantized base with fresh, seeded LoRA layers."""
    import transformers

    from medqa_cli.model.adapter import add_lora
    from medqa_cli.model.base import load_base
    from medqa_cli.model.device import pick_compute_dtype, pick_device
    from medqa_cli.model.source import find_base

    config, device = settings(), pick_device()
    source = find_base(config.model.name_or_path)
    transformers.set_seed(1)
    dtype = pick_compute_dtype("auto", device)
    base = load_base(source, config.model, device, dtype, packed=packed)
    return add_lora(base, config.lora, source.name, None)


def make_medqa(examples: list[Any], steps: int, clock: Any) -> Any:
    """Build medqa's trainer, rows in file order."""
    import tempfile

    from medqa_cli.config import TrainConfig
    from medqa_cli.model.device import pick_compute_dtype, pick_device
    from medqa_cli.training.trainer import MedqaTrainer, make_training_arguments

    config = TrainConfig(max_steps=steps, gradient_checkpointing="auto", optim="adamw_torch", logging_steps=1)
    device = pick_device()
    dtype = pick_compute_dtype("auto", device)
    folder = Path(tempfile.mkdtemp())
    args = make_training_arguments(config, seed=1, output_dir=folder, device=device, compute_dtype=dtype)
    args.train_sampling_strategy = "sequential"
    return MedqaTrainer(
        model=make_model(packed=True),
        args=args,
        examples=examples,
        validation=[],
        max_tokens_per_forward=config.per_device_train_batch_size * settings().model.max_length,
        compute_dtype=dtype,
        callbacks=[clock],
    )


def make_trl(examples: list[Any], steps: int, clock: Any) -> Any:
    """Build TRL's SFTTrainer at its defaults (padded, gradient checkpointing on), same rows, labels and optimizer."""
    import tempfile

    import torch
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    from medqa_cli.config import TrainConfig
    from medqa_cli.model.base import load_tokenizer
    from medqa_cli.model.device import pick_compute_dtype, pick_device
    from medqa_cli.model.source import find_base

    ours, device = TrainConfig(), pick_device()
    rows = [{"input_ids": e.input_ids, "completion_mask": [int(label != -100) for label in e.labels]} for e in examples]
    args = SFTConfig(
        output_dir=tempfile.mkdtemp(),
        max_steps=steps,
        per_device_train_batch_size=ours.per_device_train_batch_size,
        gradient_accumulation_steps=ours.gradient_accumulation_steps,
        learning_rate=ours.learning_rate,
        lr_scheduler_type=ours.lr_scheduler_type,
        weight_decay=ours.weight_decay,
        max_grad_norm=ours.max_grad_norm,
        optim="adamw_torch",
        max_length=settings().model.max_length,
        completion_only_loss=True,
        bf16=pick_compute_dtype("auto", device) == torch.bfloat16,
        train_sampling_strategy="sequential",
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=device.type == "cpu",
    )
    return SFTTrainer(
        model=make_model(packed=False),
        args=args,
        train_dataset=Dataset.from_list(rows),
        processing_class=load_tokenizer(find_base(settings().model.name_or_path).location),
        callbacks=[clock],
    )


if __name__ == "__main__":
    sys.exit(main())
