"""Writes the model card, ``README.md`` of a merged folder: what it is made of, how it was checked, how to ask it.

Says only what ``merge.json`` says, and no path of this machine. Does not write files.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from medqa_cli.prompt.encoder import PromptContract


def model_card(summary: Mapping[str, Any], base_name: str, kind: str, contract: PromptContract) -> str:
    """Return the text of the card.

    Args:
        summary: the content of ``merge.json``.
        base_name: the base as the config names it.
        kind: ``hub``, ``folder`` or ``gguf``; a name of the hub may be linked, a path is cut to its last part.
        contract: the prompt.
    """
    shown = base_name if kind == "hub" else PurePath(base_name).name
    parts = [
        _front_matter(shown if kind == "hub" else ""),
        f"# {shown}, tuned on medical questions and answers",
        "**Not a medical device. Not for clinical use.** The answers are wrong at times, sometimes dangerously; do not "
        "use them for the care of a person.",
        "## What it is",
        _made_of(summary, shown),
        "## How it was checked",
        *_figures(summary),
        "## How to ask it",
        "The tokenizer's chat template renders one user message to the prompt that the model was tuned with"
        + ("" if summary["chat_template_exact"] else ", as nearly as this tokenizer allows (`prompt.json` is exact)")
        + ". It was tuned on single questions, not on conversations.",
        _example(contract),
        "All figures are in `merge.json`, the prompt in `prompt.json`. Made by "
        f"`medqa merge` (medqa {summary['medqa_version']}).",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _front_matter(base: str) -> str:
    lines = [
        "---",
        "library_name: transformers",
        "pipeline_tag: text-generation",
        "tags: [medical, question-answering]",
    ]
    return "\n".join([*lines, *([f"base_model: {json.dumps(base)}"] if base else []), "---"])


def _made_of(summary: Mapping[str, Any], base: str) -> str:
    adapter, data = summary["adapter"], summary["data"]
    lines = [
        f"- Base: {base}",
        f"- Adapter: {adapter['kind']}, rank {adapter['r']}, alpha {adapter['lora_alpha']}, on "
        f"{adapter['layers']} layers; trained beside {_beside(summary['trained_with'])} weights",
        f"- Merged onto: {_onto(summary)}; stored as {summary['dtype']}",
    ]
    if data:
        lines.append(
            f"- Data: {data['train']} questions for training, {data['validation']} for validation, {data['test']} for "
            f"tests; source {data['source']} (SHA-256 {data['sha256']})"
        )
    return "\n".join(lines)


def _beside(how: Mapping[str, Any]) -> str:
    if how["quantization"] == "none":
        return "unquantized"
    return f"{how['quantization']}{' (double quantization)' if how['double_quantization'] else ''}"


def _onto(summary: Mapping[str, Any]) -> str:
    if summary["base_weights"] == "original":
        return "the unquantized base weights"
    return f"base weights passed through the {summary['trained_with']['quantization']} quantization of the training"


def _figures(summary: Mapping[str, Any]) -> list[str]:
    found = summary["verification"]
    if found is None:
        return [f"It was not compared with base + adapter: {summary['not_verified']}."]
    rows = [
        ["", "answer NLL (nats per token)", "mean KL (nats)", "largest logit difference", "top-1 agreement"],
        ["---"] * 5,
        ["base + adapter", f"{found['answer_nll']['adapter']:.4f}", "", "", ""],
    ]
    named = {f"merged onto {name}": figures for name, figures in found["candidates"].items()}
    named["noise floor: base + adapter in bfloat16"] = found["noise_floor"]
    rows += [[name, *_row(figures)] for name, figures in named.items()]
    table = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    return [
        f"Against base + adapter on {found['questions']} held-out questions, {found['answer_tokens']} answer tokens, "
        "in float32:",
        table,
    ]


def _row(figures: Mapping[str, float]) -> list[str]:
    return [
        f"{figures['answer_nll']:.4f}",
        f"{figures['mean_kl']:.2e}",
        f"{figures['max_abs_logit_difference']:.3f}",
        f"{figures['top1_agreement']:.4f}",
    ]


def _example(contract: PromptContract) -> str:
    skip = "" if contract.end_token else "  # no end token"
    return (
        "```python\n"
        "from transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
        "model = AutoModelForCausalLM.from_pretrained(FOLDER)\n"
        "tokenizer = AutoTokenizer.from_pretrained(FOLDER)\n"
        'messages = [{"role": "user", "content": "How to treat glaucoma?"}]\n'
        "inputs = tokenizer.apply_chat_template(\n"
        '    messages, add_generation_prompt=True, return_tensors="pt", return_dict=True\n'
        ")\n"
        f"print(tokenizer.decode(model.generate(**inputs, max_new_tokens=256)[0])){skip}\n"
        "```"
    )
