"""Training throughput: medqa beside TRL's SFTTrainer on the same rows, model, LoRA, sequence limit and batch.

    python benchmarks/train_throughput.py [--source MEDQUAD.csv] [--steps 6]        # CPU: SmolLM2-135M
    python benchmarks/train_throughput.py --shape llama2-7b                          # CUDA: random weights, no download

TRL runs three times: at its defaults (padded, gradient checkpointing, bfloat16), with the number type that medqa chose
for the device, and at its fastest setting that keeps examples apart here (padding-free needs a flash kernel; without it
no gradient checkpointing). Each side runs in a process of its own, one after the other. Losses of each step must
agree within 1 %, otherwise the ratio means nothing and the script exits with 1. Tokens are those that are not padding.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

from figures import add_json_option, write_figures

ROOT = Path(__file__).parents[1]
SAMPLE = ROOT / "examples/data/consumer_health_qa.csv"
TOLERANCE = 0.01
STEP_EXAMPLES = 8  # 2 x 4
SIDES = ("trl defaults", "trl same type", "trl fastest", "medqa")
# Llama-2-7B's config.json (meta-llama/Llama-2-7b-hf); the weights are random.
LLAMA2_7B = {
    "vocab_size": 32_000,
    "hidden_size": 4096,
    "intermediate_size": 11_008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False,
}


def main() -> int:
    """Run all sides in turn and print tokens/s, peak memory, losses and the ratios."""
    options = parse()
    if options.side:
        print(json.dumps(run_side(options)))
        return 0
    results = {}
    for side in options.sides.split(","):
        results[side] = in_own_process(side)
        show(side, results[side])
    ours = results["medqa"]
    worst, ratios = 0.0, {}
    for side, result in results.items():
        if side == "medqa":
            continue
        difference = largest_difference(ours["losses"], result["losses"])
        worst = max(worst, difference)
        ratio = ours["tokens_per_second"] / result["tokens_per_second"]
        memory = ours["peak_memory_bytes"] / result["peak_memory_bytes"]
        print(f"medqa / {side}: speed x {ratio:.2f}, memory x {memory:.2f}, losses differ by {difference:.2%} at most")
        ratios[side] = {"speed": ratio, "memory": memory, "largest_loss_difference": difference}
    figures = {"trl_version": metadata.version("trl"), "sides": results, "medqa_over": ratios}
    write_figures(options.json, figures)
    return int(worst > TOLERANCE)


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--source", type=Path, default=SAMPLE, help="a CSV file with question and answer")
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--warmup-steps", type=int, default=2, help="steps left out of the timing")
    parser.add_argument("--max-length", type=int, default=512, help="longest example in tokens")
    parser.add_argument("--shape", choices=["smollm2-135m", "llama2-7b"], default="smollm2-135m")
    parser.add_argument("--sides", default=",".join(SIDES), help="comma-separated; medqa must be among them")
    parser.add_argument("--max-tokens-per-forward", type=int, help="medqa: tokens in one forward pass; default: auto")
    add_json_option(parser)
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    return parser.parse_args()


def show(side: str, result: dict[str, Any]) -> None:
    """Print the figures of one side."""
    speed, memory = result["tokens_per_second"], result["peak_memory_bytes"] / 2**30
    print(
        f"{side:14} {speed:8.1f} tokens/s  {memory:6.2f} GiB  losses {[round(x, 4) for x in result['losses']]}",
        flush=True,
    )


def largest_difference(ours: list[float], theirs: list[float]) -> float:
    """Return the largest relative difference of two losses of the same step."""
    return max(abs(our - their) / their for our, their in zip(ours, theirs, strict=True))


def in_own_process(side: str) -> dict[str, Any]:
    """Run one side in a fresh interpreter, so that its peak memory is its own."""
    done = subprocess.run([sys.executable, *sys.argv, "--side", side], check=True, stdout=subprocess.PIPE, text=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def run_side(options: argparse.Namespace) -> dict[str, Any]:
    """Train a few steps and return losses, tokens per second after the warm-up, and the peak memory."""
    if options.side == "medqa":
        from medqa_cli import allocators

        allocators.keep_freed_memory()  # as `medqa train` does
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    from transformers import TrainerCallback

    from medqa_cli.model.devices import peak_memory_bytes, pick_device

    ends: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            ends.append(time.perf_counter())

    examples = load_examples(options)
    make = make_medqa if options.side == "medqa" else make_trl
    trainer = make(options, examples, Clock())
    trainer.train()
    tokens = sum(len(example.input_ids) for example in examples[STEP_EXAMPLES * options.warmup_steps :])
    return {
        "losses": [line["loss"] for line in trainer.state.log_history if "loss" in line],
        "tokens_per_second": tokens / (ends[-1] - ends[options.warmup_steps - 1]),
        "peak_memory_bytes": peak_memory_bytes(pick_device()),
    }


def settings() -> Any:
    """Load the quickstart's config; only its model, prompt and LoRA sections are used."""
    from medqa_cli.config.load import load

    return load(ROOT / "examples/quickstart.yaml").config


def load_examples(options: argparse.Namespace) -> list[Any]:
    """Encode rows of the file, drawn by a fixed seed."""
    from medqa_cli.model.load import load_tokenizer
    from medqa_cli.model.resolve import find_base
    from medqa_cli.prompt.encoder import PromptEncoder, make_contract

    config = settings()
    tokenizer = load_tokenizer(find_base(config.model.name_or_path).location)
    encoder = PromptEncoder(make_contract(config.prompt, tokenizer), tokenizer)
    csv.field_size_limit(2**31 - 1)
    with open(options.source, encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["question"].strip() and row["answer"].strip()]
    random.Random(0).shuffle(rows)
    rows = rows[: STEP_EXAMPLES * options.steps]
    examples = encoder.encode_examples(
        [row["question"] for row in rows], [row["answer"] for row in rows], options.max_length
    )
    if options.shape == "llama2-7b":  # the ids of a larger vocabulary, folded into Llama's
        return [folded(example, LLAMA2_7B["vocab_size"]) for example in examples]
    return examples


def folded(example: Any, vocabulary_size: Any) -> Any:
    """Return the example with its ids below ``vocabulary_size``; random weights do not mind."""
    from medqa_cli.prompt.encoder import IGNORE_INDEX, Example

    ids = [token % vocabulary_size for token in example.input_ids]
    labels = [i if label != IGNORE_INDEX else label for i, label in zip(ids, example.labels, strict=True)]
    return Example(ids, labels, example.truncated)


def base_and_lora(options: argparse.Namespace) -> tuple[Any, Any, Any]:
    """Return where the base lies, its config section and the LoRA section."""
    import dataclasses

    from medqa_cli.config.schema import LoraConfig, ModelConfig
    from medqa_cli.model.resolve import find_base

    config = settings()
    if options.shape == "smollm2-135m":
        return find_base(config.model.name_or_path), config.model, config.lora
    # The original run's adapter; dropout off, as no two programs draw the same.
    lora = dataclasses.replace(LoraConfig(), lora_dropout=0.0)
    return find_base(str(random_llama())), ModelConfig(compute_dtype="auto"), lora


def random_llama() -> Path:
    """Write Llama-2-7B's shape with random bfloat16 weights once (13 GB) and return the folder."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from medqa_cli.files import atomic_dir
    from medqa_cli.model.resolve import cache_dir

    folder = cache_dir() / "benchmark-random-llama2-7b"
    if not folder.is_dir():
        torch.manual_seed(0)
        with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
            model = LlamaForCausalLM(LlamaConfig(**LLAMA2_7B, dtype=torch.bfloat16)).to(torch.bfloat16)
        with atomic_dir(folder) as temporary:
            model.save_pretrained(temporary)
        del model
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
    return folder


def make_model(options: argparse.Namespace, *, packed: bool) -> Any:
    """Load the base with a fresh adapter, for medqa (packed) or as TRL's users do; the same random numbers for both."""
    import transformers

    from medqa_cli.model.devices import pick_compute_dtype, pick_device
    from medqa_cli.model.load import load_base
    from medqa_cli.model.lora import add_lora
    from medqa_cli.model.quantization import quantization_config

    transformers.set_seed(0)
    source, model, lora = base_and_lora(options)
    device = pick_device()
    dtype = pick_compute_dtype("auto", device)
    if packed:
        base = load_base(source, model, device, dtype, packed=True)
    else:
        base = transformers.AutoModelForCausalLM.from_pretrained(
            source.location,
            dtype=dtype,
            device_map={"": str(device)},
            quantization_config=quantization_config(model, dtype, sharded=False),
            attn_implementation="sdpa",
        )
        base.requires_grad_(False)
    return add_lora(base, lora, source.name, None)


def make_medqa(options: argparse.Namespace, examples: list[Any], clock: Any) -> Any:
    """Build medqa's trainer, examples in file order."""
    from medqa_cli.config.schema import Config, TrainConfig
    from medqa_cli.model.devices import pick_compute_dtype, pick_device
    from medqa_cli.model.kernels.fused_layers import fuse_layers
    from medqa_cli.training.arguments import make_training_arguments
    from medqa_cli.training.estimate import MemoryEstimator, device_at_hand
    from medqa_cli.training.trainer import MedqaTrainer

    device = pick_device()
    dtype = pick_compute_dtype("auto", device)
    checkpointing: Any = True if options.shape == "llama2-7b" else "auto"  # as the original run
    config = TrainConfig(
        max_steps=options.steps,
        logging_steps=1,
        save_steps=10**6,
        optim="adamw_torch",
        gradient_checkpointing=checkpointing,
    )
    target = device_at_hand(device)
    model = make_model(options, packed=True)
    estimator = MemoryEstimator(model.get_base_model().config, examples, dtype, target)
    _, base, lora = base_and_lora(options)
    limits = estimator.predict(Config(model=base, lora=lora, train=config)).limits
    fuse_layers(model)
    args = make_training_arguments(
        replace(config, gradient_checkpointing=limits.recomputed),
        seed=0,
        output_dir=Path(tempfile.mkdtemp()),
        device=device,
        compute_dtype=dtype,
    )
    args.save_strategy, args.train_sampling_strategy = "no", "sequential"
    return MedqaTrainer(
        model=model,
        args=args,
        examples=examples,
        validation=[],
        max_tokens_per_forward=options.max_tokens_per_forward or limits.max_tokens,
        compute_dtype=dtype,
        callbacks=[clock],
    )


def make_trl(options: argparse.Namespace, examples: list[Any], clock: Any) -> Any:
    """Build TRL's SFTTrainer for one of its three sides: same rows, labels and optimizer."""
    import torch
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    from medqa_cli.config.schema import TrainConfig
    from medqa_cli.model.devices import pick_compute_dtype, pick_device
    from medqa_cli.model.load import load_tokenizer
    from medqa_cli.model.resolve import find_base

    ours, device = TrainConfig(), pick_device()
    rows = [{"input_ids": e.input_ids, "completion_mask": [int(label != -100) for label in e.labels]} for e in examples]
    special: dict[str, Any] = {}
    if options.side != "trl defaults":
        special["bf16"] = pick_compute_dtype("auto", device) == torch.bfloat16
    if options.side == "trl fastest":
        special["gradient_checkpointing"] = False
        special["padding_free"] = device.type == "cuda" and has_flash_attention()
    args = SFTConfig(
        output_dir=tempfile.mkdtemp(),
        max_steps=options.steps,
        per_device_train_batch_size=ours.per_device_train_batch_size,
        gradient_accumulation_steps=ours.gradient_accumulation_steps,
        learning_rate=ours.learning_rate,
        lr_scheduler_type=ours.lr_scheduler_type,
        weight_decay=ours.weight_decay,
        max_grad_norm=ours.max_grad_norm,
        optim="adamw_torch",
        max_length=options.max_length,
        completion_only_loss=True,
        train_sampling_strategy="sequential",
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=device.type == "cpu",
        **special,
    )
    model = make_model(options, packed=False)
    if special.get("padding_free"):
        model.set_attn_implementation("flash_attention_2")
    return SFTTrainer(
        model=model,
        args=args,
        train_dataset=Dataset.from_list(rows),
        processing_class=load_tokenizer(find_base(settings().model.name_or_path).location),
        callbacks=[clock],
    )


def has_flash_attention() -> bool:
    """Tell whether TRL's padding-free mode may run: it refuses or mixes examples without flash attention."""
    import importlib.util

    return importlib.util.find_spec("flash_attn") is not None


if __name__ == "__main__":
    sys.exit(main())
