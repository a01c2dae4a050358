"""Greedy answers to many questions, a batch at a time.

The token loop is that of ``answering``; only nothing is cut here. Does not judge answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from medqa_cli import console, distributed
from medqa_cli.answering.batch_size import MOST_ROWS, pick_batch_size
from medqa_cli.answering.decoding import decode_batch
from medqa_cli.config.schema import GenerateConfig
from medqa_cli.evaluation.models import LoadedModel
from medqa_cli.evaluation.progress import Progress
from medqa_cli.prompt.encoder import PromptEncoder


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
    progress: Progress,
) -> list[GeneratedAnswer]:
    """Answer each question, in the order given; pieces that are done are taken as they are.

    Args:
        loaded: a model for generation, not a packed one.
        encoder: its prompt contract.
        questions: plain texts.
        config: its limit of new tokens, its batch size and its penalties hold; the decoding is greedy.
        progress: where finished pieces are kept.
    """
    prompts = encoder.encode_prompts(questions)
    # Prompts of like length together; always the same pieces, whatever the memory of a rank or of the next start.
    order = sorted(range(len(prompts)), key=lambda place: len(prompts[place]))
    size = MOST_ROWS if config.batch_size == "auto" else config.batch_size
    size = min(size, max(1, -(-len(order) // distributed.world_size())))
    places = {
        f"answers/{loaded.name}/{size}/{number}": order[start : start + size]
        for number, start in enumerate(range(0, len(order), size))
    }
    longest = max((len(prompt) for prompt in prompts), default=1)
    at_once = pick_batch_size(loaded.model, loaded.device, loaded.dtype, config, longest)
    done = 0
    with console.progress(f"answering with {loaded.name}", len(questions)) as bar:

        def compute(own: list[int]) -> list[list[Any]]:
            batches = [own[start : start + at_once] for start in range(0, len(own), at_once)]
            found = [
                answer
                for batch in batches
                for answer in _answer_batch(loaded, encoder, [prompts[place] for place in batch], config)
            ]
            return [[answer.text, answer.finish_reason, answer.num_tokens] for answer in found]

        def advance(name: str) -> None:
            nonlocal done
            done += len(places[name])
            bar.update(done)

        pieces = progress.run({name: partial(compute, own) for name, own in places.items()}, advance)
    by_place = {
        place: GeneratedAnswer(*values)
        for own, found in zip(places.values(), pieces, strict=True)
        for place, values in zip(own, found, strict=True)
    }
    return [by_place[place] for place in range(len(questions))]


def _answer_batch(
    loaded: LoadedModel, encoder: PromptEncoder, prompts: Sequence[Sequence[int]], config: GenerateConfig
) -> list[GeneratedAnswer]:
    stop_ids = encoder.contract.stop_token_ids
    context = getattr(loaded.model.config, "max_position_embeddings", None)
    rooms = [
        min(config.max_new_tokens, (context or len(prompt) + config.max_new_tokens) - len(prompt)) for prompt in prompts
    ]
    answers = [WholeAnswer(stop_ids, room) for room in rooms]
    # A prompt that fills the context has no answer, and takes nothing from the others.
    asked = [place for place, room in enumerate(rooms) if room > 0]
    if asked:
        own_prompts, own_answers = [prompts[place] for place in asked], [answers[place] for place in asked]
        decode_batch(loaded.model, loaded.device, own_prompts, own_answers, replace(config, temperature=0.0))
    return [
        GeneratedAnswer(encoder.decode_answer(answer.ids), answer.finish_reason or "length", len(answer.ids))
        for answer in answers
    ]
