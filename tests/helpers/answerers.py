"""A model that says what a script tells it to."""

from collections.abc import Sequence
from typing import Any

import torch
from transformers import LlamaForCausalLM

from helpers.models import make_tiny_model
from medqa_cli.config.schema import PromptConfig
from medqa_cli.model.load import LoadedModel
from medqa_cli.model.resolve import ModelRef
from medqa_cli.prompt.contract import make_contract
from medqa_cli.prompt.encoder import PromptEncoder


class ScriptedLlama(LlamaForCausalLM):
    """A Llama that says what it is told to; all else of generation is the real thing."""

    script: list[int]
    prompts: list[list[int]]

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        output = super().forward(*args, **kwargs)
        if kwargs["input_ids"].shape[1] > 1:
            self.prompts.append(kwargs["input_ids"][0].tolist())
            self._next = 0
        output.logits = torch.full_like(output.logits, -10.0)
        output.logits[:, -1, self.script[self._next % len(self.script)]] = 10.0
        self._next += 1
        return output


def make_answerer(tokenizer: Any, script: Sequence[int] = (), template: str = "chat") -> LoadedModel:
    model = ScriptedLlama(make_tiny_model(len(tokenizer)).config).eval()
    model.script, model.prompts = list(script), []
    encoder = PromptEncoder(make_contract(PromptConfig(template=template), tokenizer), tokenizer)
    return LoadedModel(
        "adapter", ModelRef("tiny", "tiny", "folder"), model, encoder, torch.device("cpu"), torch.float32
    )
