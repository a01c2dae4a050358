"""Training throughput: medqa beside TRL's SFTTrainer on the same rows, model, LoRA, sequence limit and batch.

    python benchmarks/train_throughput.py [--source MEDQUAD.csv] [--steps 6]        # CPU: SmolLM2-135M
    python benchmarks/train_throughput.py --shape llama2-7b                          # CUDA: random weights, no download
    python benchmarks/train_throughput.py --shape llama2-7b --optim paged_adamw_32bit --max-length 1024 --gpu-memory 16

TRL runs three times: at its defaults (padded, gradient checkpointing, bfloat16), with the number type that medqa chose
for the device, and at its fastest setting that keeps examples apart here (padding-free needs a flash kernel; without it
no gradient checkpointing). Each side runs in a process of its own, one after the other. Losses of each step must
agree within 1 %, otherwise the ratio means nothing and the script exits with 1. Tokens are those that are not padding.
``--busy 4`` measures medqa once more beside four processes that compute all the time, and prints its speed then beside
its share of the processors: with C processors, T threads and N others that is T / (T + N), as long as T + N > C.
``--sides`` also takes "trl liger" and "unsloth", where these packages are installed (a GPU is needed for both).
"""

import argparse
import csv
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

from figures import add_json_option, write_figures

ROOT = Path(__file__).parents[1]
QUICKSTART = ROOT / "src/medqa_cli/resources/quickstart"
SAMPLE = QUICKSTART / "consumer_health_qa.csv"
TOLERANCE = 0.01
STEP_EXAMPLES = 8  # 2 x 4
SIDES = ("trl defaults", "trl same type", "trl fastest", "medqa")
MORE_SIDES = ("trl liger", "unsloth")
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
# The same in small, to walk through this script without a GPU.
TINY = {**LLAMA2_7B, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4}
TINY["num_key_value_heads"] = 4
SHAPES = {"llama2-7b": LLAMA2_7B, "tiny": TINY}
# Tokens of the tokenizer that is made for random weights.
VOCABULARY = 8000


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
    if options.busy:
        with busy_processes(options.busy):
            results["medqa, busy"] = in_own_process("medqa")
        show("medqa, busy", results["medqa, busy"])
        share = results["medqa, busy"]["tokens_per_second"] / ours["tokens_per_second"]
        fair = min(1.0, ours["threads"] / (ours["threads"] + options.busy))
        print(f"medqa beside {options.busy} busy processes: {share:.2f} of its speed; its share is {fair:.2f}")
        ratios["medqa, busy"] = {"speed": share, "share_of_processors": fair}
    figures = {"trl_version": metadata.version("trl"), "sides": results, "medqa_over": ratios}
    write_figures(options.json, figures)
    return int(worst > TOLERANCE)


@contextmanager
def busy_processes(count: int) -> Iterator[None]:
    """Keep so many processes computing."""
    started = [subprocess.Popen([sys.executable, "-c", "while True: sum(range(10**6))"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--source", type=Path, default=SAMPLE, help="a CSV file with question and answer")
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--warmup-steps", type=int, default=2, help="steps left out of the timing")
    parser.add_argument("--max-length", type=int, default=512, help="longest example in tokens")
    parser.add_argument("--shape", choices=["smollm2-135m", *SHAPES], default="smollm2-135m")
    parser.add_argument("--sides", default=",".join(SIDES), help="comma-separated; medqa must be among them")
    parser.add_argument("--max-tokens-per-forward", type=int, help="medqa: tokens in one forward pass; default: auto")
    parser.add_argument("--optim", default="adamw_torch", help="of all sides; on a CPU a paged one is not paged")
    parser.add_argument(
        "--gpu-memory", type=float, metavar="GB", help="medqa: as planned for such a card; PyTorch may take no more"
    )
    parser.add_argument("--busy", type=int, default=0, metavar="N", help="processes that compute beside medqa")
    add_json_option(parser)
    parser.add_argument("--side", choices=[*SIDES, *MORE_SIDES], help=argparse.SUPPRESS)
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
    if options.side == "unsloth":
        import unsloth  # noqa: F401 -- it changes Transformers and TRL, and must come first
    import torch
    from transformers import TrainerCallback

    from medqa_cli.model.devices import peak_memory_bytes, pick_device

    ends: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            ends.append(time.perf_counter())

    examples = load_examples(options)
    facts: dict[str, Any] = {}
    if options.side == "medqa":
        from medqa_cli.training.core_sharing import sharing_cores

        trainer, facts = make_medqa(options, examples, Clock())
        with sharing_cores(pick_device().type):  # as `medqa train` does
            trainer.train()
    else:
        trainer = make_trl(options, examples, Clock())
        trainer.train()
    tokens = sum(len(example.input_ids) for example in examples[STEP_EXAMPLES * options.warmup_steps :])
    return {
        "losses": [line["loss"] for line in trainer.state.log_history if "loss" in line],
        "tokens_per_second": tokens / (ends[-1] - ends[options.warmup_steps - 1]),
        "peak_memory_bytes": peak_memory_bytes(pick_device()),
        "threads": torch.get_num_threads(),
        **facts,
    }


def settings() -> Any:
    """Load the quickstart's config; only its model, prompt and LoRA sections are used."""
    from medqa_cli.config.load import load

    return load(QUICKSTART / "medqa.yaml").config


def load_examples(options: argparse.Namespace) -> list[Any]:
    """Encode rows of the file, drawn by a fixed seed."""
    from medqa_cli.model.load import load_tokenizer
    from medqa_cli.prompt.contract import make_contract
    from medqa_cli.prompt.encoder import PromptEncoder

    config = settings()
    tokenizer = load_tokenizer(base_and_lora(options)[0].location)
    encoder = PromptEncoder(make_contract(config.prompt, tokenizer), tokenizer)
    csv.field_size_limit(2**31 - 1)
    with open(options.source, encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["question"].strip() and row["answer"].strip()]
    random.Random(0).shuffle(rows)
    rows = rows[: STEP_EXAMPLES * options.steps]
    return list(
        encoder.encode_examples([row["question"] for row in rows], [row["answer"] for row in rows], options.max_length)
    )


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
    return find_base(str(random_base(options.shape))), ModelConfig(compute_dtype="auto"), lora


def random_base(shape: str) -> Path:
    """Write a shape with random bfloat16 weights and a tokenizer once (13 GB for 7B), and return the folder."""
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig

    from medqa_cli.files import atomic_dir
    from medqa_cli.model.resolve import cache_dir

    folder = cache_dir() / f"benchmark-random-{shape}"
    if not folder.is_dir():
        torch.manual_seed(0)
        config = LlamaConfig(**SHAPES[shape], bos_token_id=1, eos_token_id=2)
        with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
            model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
        with atomic_dir(folder) as temporary:
            model.save_pretrained(temporary)
            small_tokenizer().save_pretrained(temporary)
        del model
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
    return folder


def small_tokenizer() -> Any:
    """Make a byte-level tokenizer of the sample's words, with a chat template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<unk>", "<s>", "</s>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(SAMPLE.read_text(encoding="utf-8").splitlines(), trainer)
    template = (
        "{% for message in messages %}{{ '<s>' + message['role'] + '\n' + message['content'] + '</s>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<s>assistant\n' }}{% endif %}"
    )
    names = dict(zip(("unk_token", "bos_token", "eos_token"), special, strict=True))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, chat_template=template, pad_token="</s>", **names)


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


def make_medqa(options: argparse.Namespace, examples: list[Any], clock: Any) -> tuple[Any, dict[str, Any]]:
    """Build medqa's trainer, examples in file order; return it, and what its plan says."""
    import torch

    from medqa_cli.config.schema import Config, TrainConfig
    from medqa_cli.model.devices import GB, pick_compute_dtype, pick_device
    from medqa_cli.model.kernels.attention import has_flash_attention
    from medqa_cli.model.kernels.fused_layers import fuse_layers, use_liger_kernels
    from medqa_cli.training.arguments import make_training_arguments
    from medqa_cli.training.estimate import MemoryEstimator, Target, device_at_hand
    from medqa_cli.training.trainer import MedqaTrainer

    device = pick_device()
    dtype = pick_compute_dtype("auto", device)
    target = device_at_hand(device)
    checkpointing: Any = "auto"
    if options.gpu_memory is not None:
        size = round(options.gpu_memory * GB)
        has_flash = device.type == "cuda" and has_flash_attention(device)
        if device.type == "cuda":
            torch.cuda.set_per_process_memory_fraction(min(1.0, size / target.total_bytes))
        target = Target(device.type, size, size, target.program_bytes, has_flash=has_flash)
    elif options.shape in SHAPES:
        checkpointing = True  # as the original run
    config = TrainConfig(
        max_steps=options.steps,
        logging_steps=1,
        save_steps=10**6,
        optim=options.optim,
        gradient_checkpointing=checkpointing,
    )
    model = make_model(options, packed=True)
    estimator = MemoryEstimator(model.get_base_model().config, examples, dtype, target)
    _, base, lora = base_and_lora(options)
    planned = estimator.predict(Config(model=base, lora=lora, train=config))
    use_liger_kernels(model.get_base_model(), device)  # as `medqa train` does, where the package is installed
    fuse_layers(model)
    args = make_training_arguments(
        replace(config, gradient_checkpointing=planned.limits.recomputed),
        seed=0,
        output_dir=Path(tempfile.mkdtemp()),
        device=device,
        compute_dtype=dtype,
    )
    args.save_strategy, args.train_sampling_strategy = "no", "sequential"
    max_tokens = options.max_tokens_per_forward or planned.limits.max_tokens
    trainer = MedqaTrainer(
        model=model,
        args=args,
        examples=examples,
        validation=[],
        max_tokens_per_forward=max_tokens,
        compute_dtype=dtype,
        callbacks=[clock],
    )
    return trainer, {
        "predicted_peak_memory_bytes": planned.peak_bytes,
        "max_tokens_per_forward": max_tokens,
        "gradient_checkpointing": planned.limits.recomputed,
        "available_memory_bytes": target.available_bytes,
    }


def make_trl(options: argparse.Namespace, examples: list[Any], clock: Any) -> Any:
    """Build TRL's SFTTrainer for one of its sides, or with Unsloth's model: same rows, labels and optimizer."""
    import torch
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    from medqa_cli.config.schema import TrainConfig
    from medqa_cli.model.devices import pick_compute_dtype, pick_device
    from medqa_cli.model.load import load_tokenizer
    from medqa_cli.training.arguments import optimizer_on

    ours, device = TrainConfig(), pick_device()
    rows = [{"input_ids": e.input_ids, "completion_mask": [int(label != -100) for label in e.labels]} for e in examples]
    special: dict[str, Any] = {}
    if options.side != "trl defaults":
        special["bf16"] = pick_compute_dtype("auto", device) == torch.bfloat16
    if options.side == "trl fastest":
        special["gradient_checkpointing"] = False
        special["padding_free"] = device.type == "cuda" and has_flash_attention()
    if options.side == "trl liger":
        special["use_liger_kernel"] = True
    args = SFTConfig(
        output_dir=tempfile.mkdtemp(),
        max_steps=options.steps,
        per_device_train_batch_size=ours.per_device_train_batch_size,
        gradient_accumulation_steps=ours.gradient_accumulation_steps,
        learning_rate=ours.learning_rate,
        lr_scheduler_type=ours.lr_scheduler_type,
        weight_decay=ours.weight_decay,
        max_grad_norm=ours.max_grad_norm,
        optim=optimizer_on(options.optim, device),
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
    model = unsloth_model(options) if options.side == "unsloth" else make_model(options, packed=False)
    if special.get("padding_free"):
        model.set_attn_implementation("flash_attention_2")
    return SFTTrainer(
        model=model,
        args=args,
        train_dataset=Dataset.from_list(rows),
        processing_class=load_tokenizer(base_and_lora(options)[0].location),
        callbacks=[clock],
    )


def unsloth_model(options: argparse.Namespace) -> Any:
    """Load the base as Unsloth's users do. Never tried: it needs a GPU."""
    from unsloth import FastLanguageModel

    source, _, lora = base_and_lora(options)
    model, _ = FastLanguageModel.from_pretrained(source.location, max_seq_length=options.max_length, load_in_4bit=True)
    return FastLanguageModel.get_peft_model(
        model,
        r=lora.r,
        target_modules=["q_proj", "v_proj"],  # PEFT's choice for Llama, which the original run took
        lora_alpha=lora.lora_alpha,
        lora_dropout=0.0,
        use_gradient_checkpointing="unsloth",
        random_state=0,
    )


def has_flash_attention() -> bool:
    """Tell whether TRL's padding-free mode may run: it refuses or mixes examples without flash attention."""
    import importlib.util

    return importlib.util.find_spec("flash_attn") is not None


if __name__ == "__main__":
    sys.exit(main())
