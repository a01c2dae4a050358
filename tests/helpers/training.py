"""Examples of random ids, and a tiny model with an adapter to train on them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from medqa_cli.config.schema import LoraConfig, ModelConfig
from medqa_cli.model.load import load_base
from medqa_cli.model.lora import add_lora
from medqa_cli.model.resolve import find_base
from medqa_cli.prompt.encoder import IGNORE_INDEX, Example

CPU = torch.device("cpu")


def make_examples(lengths: list[tuple[int, int]], vocabulary: int = 200) -> list[Example]:
    """Examples of (prompt, answer) lengths with random ids."""
    generator = torch.Generator().manual_seed(1)
    examples = []
    for prompt, answer in lengths:
        ids = torch.randint(3, vocabulary, (prompt + answer,), generator=generator).tolist()
        examples.append(Example(ids, [IGNORE_INDEX] * prompt + ids[prompt:], False))
    return examples


def make_model(folder: Path, quantization: Any = "nf4") -> Any:
    torch.manual_seed(3)
    source = find_base(str(folder))
    base = load_base(source, ModelConfig(quantization=quantization), CPU, torch.float32, packed=True)
    lora = LoraConfig(r=4, lora_dropout=0.0, target_modules="all-linear")
    return add_lora(base, lora, source.name, None)
