"""Greedy answers to many questions, a batch at a time.

The token loop is that of ``answering``; only nothing is cut here. Does not judge answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from medqa_cli import console
from medqa_cli.answering.decoding import decode_batch
from medqa_cli.config.sections import GenerateConfig
from medqa_cli.evaluation.models import LoadedModel
from medqa_cli.evaluation.progress import Progress
from medqa_cli.prompt import PromptEncoder

# Decoding reads all weights for each token of a batch: a batch of answers can be larger than one of likelihoods.
BATCHES_PER_FORWARD = 4


@dataclass(frozen=True)
class GeneratedAnswer:
    """A text and how it ended: ``stop`` at an end token, ``length`` at the limit of new tokens."""

    text: str
    finish_reason: str
    num_tokens: int


class WholeAnswer:
    """An answer of which nothing is cut: ``ask`` ends a loop and goes back to a sentence, here both are measured."""

    def __init__(self, stop_ids: Sequence[int], room: int) -> None:
        self._stop_ids, self._room = stop_ids, room
        self.ids: list[int] = []
        self.finish_reason: str | None = None

    def add(self, token_id: int) -> None:
        """Take the next token; the end token is not part of the answer."""
        if token_id in self._stop_ids:
            self.finish_reason = "stop"
            return
        self.ids.append(token_id)
        if len(self.ids) >= self._room:
            self.finish_reason = "length"


def generate_answers(
    loaded: LoadedModel,
    encoder: PromptEncoder,
    questions: Sequence[str],
    config: GenerateConfig,
    batch_size: int,
    progress: Progress,
) -> list[GeneratedAnswer]:
    """Answer each question, in the order given; batches that are done are taken as they are.

    Args:
        loaded: a model for generation, not a packed one.
        encoder: its prompt contract.
        questions: plain texts.
        config: its limit of new tokens and its penalties hold; the decoding is greedy.
        batch_size: questions in one forward.
        progress: where finished batches are kept.
    """
    prompts = encoder.encode_prompts(questions)
    # Prompts of like length together; always the same batches.
    order = sorted(range(len(prompts)), key=lambda place: len(prompts[place]))
    places = {
        f"answers/{loaded.name}/{number}": order[start : start + batch_size]
        for number, start in enumerate(range(0, len(order), batch_size))
    }
    done = 0
    with console.progress(f"answering with {loaded.name}", len(questions)) as bar:

        def compute(own: list[int]) -> list[list[Any]]:
            found = _answer_batch(loaded, encoder, [prompts[place] for place in own], config)
            return [[answer.text, answer.finish_reason, answer.num_tokens] for answer in found]

        def advance(name: str) -> None:
            nonlocal done
            done += len(places[name])
            bar.update(done)

        batches = progress.run({name: partial(compute, own) for name, own in places.items()}, advance)
    by_place = {
        place: GeneratedAnswer(*values)
        for own, found in zip(places.values(), batches, strict=True)
        for place, values in zip(own, found, strict=True)
    }
    return [by_place[place] for place in range(len(questions))]


def _answer_batch(
    loaded: LoadedModel, encoder: PromptEncoder, prompts: Sequence[Sequence[int]], config: GenerateConfig
) -> list[GeneratedAnswer]:
    stop_ids = encoder.contract.stop_token_ids
    longest = max(len(prompt) for prompt in prompts)
    context = getattr(loaded.model.config, "max_position_embeddings", None) or longest + config.max_new_tokens
    room = min(config.max_new_tokens, int(context) - longest)
    if room <= 0:
        return [GeneratedAnswer("", "length", 0)] * len(prompts)
    answers = [WholeAnswer(stop_ids, room) for _ in prompts]
    decode_batch(loaded.model, loaded.device, prompts, answers, replace(config, temperature=0.0))
    return [
        GeneratedAnswer(encoder.decode_answer(answer.ids), str(answer.finish_reason), len(answer.ids))
        for answer in answers
    ]
