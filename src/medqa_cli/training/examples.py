"""From the rows of a split to encoded examples, with a count of everything that was cut or left out.

Does not read files: ``data.dataset`` does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from medqa_cli.data.dataset import QaRow
from medqa_cli.errors import MedqaError
from medqa_cli.prompt.encoder import Example, PromptEncoder

_ENCODE_BATCH = 1000

T = TypeVar("T")


@dataclass(frozen=True)
class EncodedSplit:
    """Examples that have something to learn, and what happened to the others.

    ``num_truncated_answers``: answers cut at ``max_length``, without end token; ``num_without_answer``: rows left out
    because the prompt alone fills ``max_length``.
    """

    examples: list[Example]
    num_truncated_answers: int
    num_without_answer: int


def encode_rows(rows: Sequence[QaRow], encoder: PromptEncoder, max_length: int) -> EncodedSplit:
    """Encode rows in order; each example carries the id of its row.

    Raises:
        MedqaError: no row has a supervised token.
    """
    encoded: list[Example] = []
    for start in range(0, len(rows), _ENCODE_BATCH):
        part = rows[start : start + _ENCODE_BATCH]
        examples = encoder.encode_examples([row.question for row in part], [row.answer for row in part], max_length)
        encoded += [replace(example, row_id=row.id) for example, row in zip(examples, part, strict=True)]
    kept = [example for example in encoded if example.num_answer_tokens]
    if rows and not kept:
        raise MedqaError(
            f"no supervised token: all {len(rows)} prompts fill model.max_length = {max_length} tokens by themselves",
            "raise model.max_length, or shorten prompt.system",
        )
    return EncodedSplit(kept, sum(example.truncated for example in kept), len(encoded) - len(kept))


def evenly_spaced(items: Sequence[T], count: int | None) -> list[T]:
    """Return at most ``count`` items, spread over the whole split; always the same ones. None: all."""
    if count is None or len(items) <= count:
        return list(items)
    return [items[i * len(items) // count] for i in range(count)]
