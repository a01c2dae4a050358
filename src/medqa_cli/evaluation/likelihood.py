"""Answer likelihood of base, adapter and merged model on the same held-out questions, and a floor for it.

Does not compute intervals (``statistics``).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from medqa_cli import console
from medqa_cli.config.sections import ModelConfig
from medqa_cli.errors import InputError
from medqa_cli.model.adapter import base_of_adapter, load_tuned
from medqa_cli.model.base import load_base, load_tokenizer
from medqa_cli.model.device import pick_compute_dtype, pick_device
from medqa_cli.model.scoring import AnswerScore, score_answers
from medqa_cli.model.source import find_base
from medqa_cli.prompt import IGNORE_INDEX, Example, PromptContract, PromptEncoder
from medqa_cli.run_folder import RunFolder

MODEL_NAMES = ("adapter", "base", "merged")


@dataclass(frozen=True)
class Scorer:
    """Where and how examples are scored."""

    run: RunFolder
    model: ModelConfig
    batch_size: int

    def load_encoder(self) -> PromptEncoder:
        """Load the prompt contract and tokenizer of the run's adapter.

        Raises:
            InputError: nothing has been trained yet.
        """
        base_of_adapter(self.run.adapter_dir)
        return PromptEncoder(PromptContract.load(self.run.adapter_dir), load_tokenizer(str(self.run.adapter_dir)))

    def score(self, names: Sequence[str], examples: Sequence[Example]) -> dict[str, list[AnswerScore]]:
        """Score the examples under each named model; base and adapter share one loaded model.

        Raises:
            InputError: a model is not there.
        """
        if "merged" in names and not self.run.merged_dir.is_dir():
            # Before the other models, which may take hours.
            raise InputError(f"no merged model in {self.run.merged_dir}", "make one: medqa merge")
        device = pick_device()
        dtype = pick_compute_dtype(self.model.compute_dtype, device)
        scores: dict[str, list[AnswerScore]] = {}
        if {"adapter", "base"} & set(names):
            tuned, _, _ = load_tuned(self.run.adapter_dir, self.model, device, dtype, packed=True)
            if "adapter" in names:
                scores["adapter"] = self._score("adapter", tuned, examples, device, dtype)
            if "base" in names and tuned.peft_config["default"].bias == "none":
                with tuned.disable_adapter():
                    scores["base"] = self._score("base", tuned, examples, device, dtype)
            elif "base" in names:
                # Trained biases stand in the base's own layers, and switching the adapter off leaves them there.
                del tuned
                source = base_of_adapter(self.run.adapter_dir)
                scores["base"] = self._score(
                    "base", load_base(source, self.model, device, dtype, packed=True), examples, device, dtype
                )
        if "merged" in names:
            scores["merged"] = self._score("merged", self._load_merged(device, dtype), examples, device, dtype)
        return {name: scores[name] for name in names}

    def _load_merged(self, device: torch.device, dtype: torch.dtype) -> Any:
        unquantized = ModelConfig(quantization="none")
        return load_base(find_base(str(self.run.merged_dir)), unquantized, device, dtype, packed=True)

    def _score(
        self, name: str, model: Any, examples: Sequence[Example], device: torch.device, dtype: torch.dtype
    ) -> list[AnswerScore]:
        with console.progress(f"scoring {name}", len(examples)) as bar:
            return score_answers(
                model, examples, batch_size=self.batch_size, device=device, dtype=dtype, on_progress=bar.update
            )


def unigram_scores(
    train_examples: Sequence[Example], examples: Sequence[Example], vocabulary_size: int
) -> list[AnswerScore]:
    """Score answers by token frequencies alone: the floor that any language model must beat.

    Frequencies of the training answers' tokens, end tokens included; unseen tokens share the mass that Witten-Bell
    smoothing leaves them: types / (tokens + types) (Witten and Bell 1991, IEEE Trans. Inf. Theory 37:1085).
    """
    counts = Counter(label for example in train_examples for label in example.labels if label != IGNORE_INDEX)
    seen_and_types = counts.total() + len(counts)
    uniform = len(counts) / seen_and_types / vocabulary_size
    scores = []
    for example in examples:
        labels = [label for label in example.labels if label != IGNORE_INDEX]
        nll = -sum(math.log(counts[label] / seen_and_types + uniform) for label in labels)
        scores.append(AnswerScore(nll, len(labels)))
    return scores
