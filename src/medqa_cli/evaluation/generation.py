"""Greedy answers to many questions, a batch at a time.

Small on purpose: batches of answers are to come from ``answering`` once it makes them. Does not judge answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from medqa_cli import console
from medqa_cli.config.sections import GenerateConfig
from medqa_cli.evaluation.greedy import decode_greedily
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
    found = decode_greedily(
        loaded.model, prompts, stop_ids=stop_ids, max_new_tokens=room, penalties=config, device=loaded.device
    )
    return [_cut_at_stop(token_ids, stop_ids, encoder) for token_ids in found]


def _cut_at_stop(token_ids: list[int], stop_ids: Sequence[int], encoder: PromptEncoder) -> GeneratedAnswer:
    end = next((place for place, token_id in enumerate(token_ids) if token_id in stop_ids), None)
    own = token_ids if end is None else token_ids[:end]
    return GeneratedAnswer(encoder.decode_answer(own), "length" if end is None else "stop", len(own))
