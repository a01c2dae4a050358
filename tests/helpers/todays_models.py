"""The types of today's models: those that a test takes through all commands, and their table in docs/architectures.md.

Each cell but the names of models comes from the code that decides.
"""

from collections.abc import Mapping
from typing import Any

from helpers.tiny_architectures import tiny_model

# Type in config.json -> models of it.
TODAYS = {
    "gemma2": "Gemma 2",
    "gemma3_text": "Gemma 3 270M and 1B; the language model of larger ones, MedGemma",
    "gemma4_text": "Gemma 4, its language model",
    "qwen2": "Qwen2, Qwen2.5",
    "qwen3": "Qwen3",
    "qwen3_5_text": "Qwen3.5, its language model",
    "gpt_oss": "gpt-oss in 16 bits",
    "phi3": "Phi-3, Phi-4",
    "smollm3": "SmolLM3",
    "olmo2": "OLMo 2",
    "mixtral": "Mixtral",
    "qwen3_moe": "Qwen3 with experts",
}

_HEAD = """
## Models one would start from

Tiny ones of these types go through `train`, `eval`, `ask` and `merge` in a test, against Transformers and PEFT in
float32: losses within 1e-5, the tokens of `generate`, the logits of PEFT's merge within 1e-5 of the largest.

| type | models | computed | adapters by `auto` | in 4 bits | GGUF |
|---|---|---|---|---|---|
"""


def todays_table(rows: Mapping[str, str]) -> str:
    """Return the part of docs/architectures.md about today's types; ``rows``: those of the large table, by type."""
    return _HEAD + "".join(f"{todays_row(kind, rows[kind])}\n" for kind in TODAYS)


def todays_row(kind: str, row: str) -> str:
    """Return the row of a type; ``row``: its row of the large table."""
    import torch

    from medqa_cli.config.schema import LoraConfig, ModelConfig
    from medqa_cli.gguf.architecture import written_types
    from medqa_cli.model.load import empty_base
    from medqa_cli.model.lora import find_targets
    from medqa_cli.model.quantization import num_unquantized

    model = tiny_model(kind)
    targets = ", ".join(sorted(find_targets(model, LoraConfig()).modules))
    base: Any = empty_base(model.config, ModelConfig(quantization="nf4"), torch.float32)
    experts = sum(p.numel() for name, p in base.named_parameters() if ".experts." in name and p.dim() == 3)
    quantized = "all but its experts" if experts else "linear layers"
    if any(".experts." in name for name, _ in base.named_modules()):
        quantized += " and experts"
    assert experts == 0 or num_unquantized(base) >= experts
    architecture = model.config.architectures[0] if model.config.architectures else type(model).__name__
    gguf = "yes" if architecture in written_types() else "no"
    return f"| {kind} | {TODAYS[kind]} | {row.split('|')[2].strip()} | {targets} | {quantized} | {gguf} |"
