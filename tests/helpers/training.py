"""Examples of random ids, and a tiny model with an adapter to train on them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from medqa_cli.config.schema import LoraConfig, ModelConfig
from medqa_cli.model import memory_profile
from medqa_cli.model.load import load_base
from medqa_cli.model.lora import add_lora
from medqa_cli.model.memory_profile import ShapeModel, StepMemory
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


class RememberedShape(ShapeModel):
    """A ShapeModel that runs each step once.

    Tests train the same tiny model again and again, and its prediction takes longer than its steps.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._memories: dict[Any, StepMemory] = {}

    def step_memory(self, largest: Sequence[Example], **options: Any) -> StepMemory:
        shapes = tuple((len(one.input_ids), *(label == IGNORE_INDEX for label in one.labels)) for one in largest)
        # A test that replaces the losses gets its own.
        key = (shapes, *sorted(options.items()), memory_profile.answer_token_losses)
        if key not in self._memories:
            self._memories[key] = super().step_memory(largest, **options)
        return self._memories[key]


_SHAPES: dict[Any, RememberedShape] = {}


def remembered_shape(hf_config: Any, model: ModelConfig, lora: LoraConfig, dtype: torch.dtype) -> ShapeModel:
    """Stands for ``ShapeModel``: the same one for the same model."""
    key = (hf_config.to_json_string(use_diff=False), model, lora, dtype)
    if key not in _SHAPES:
        _SHAPES[key] = RememberedShape(hf_config, model, lora, dtype)
    return _SHAPES[key]
