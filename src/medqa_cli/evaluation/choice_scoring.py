"""Which choice a model finds likeliest: lm-evaluation-harness's rule, argmax of the summed log-likelihood of " choice".

Tokens are cut as the harness cuts them (``lm_eval/api/model.py``, ``_encode_pair``): the continuation is what the whole
text has beyond the tokens of the prompt alone. Where all continuations are single tokens one forward serves them all.
Does not read files (``multiple_choice``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from medqa_cli.errors import MedqaError
from medqa_cli.evaluation.models import LoadedModel
from medqa_cli.evaluation.multiple_choice import ChoiceItem
from medqa_cli.journal import SharedJournal
from medqa_cli.model.kernels.packing import answer_token_losses, group_by_size, packed_batch

_ITEMS_PER_PIECE = 16
_TOKENS_PER_FORWARD = 4096
_DELIMITER = " "


@dataclass(frozen=True)
class _Row:
    """One sequence to read and what is asked of it: ``targets`` are (position whose next token, token, choice)."""

    input_ids: list[int]
    targets: list[tuple[int, int, int]]


def score_choices(
    loaded: LoadedModel, tokenizer: Any, set_name: str, items: Sequence[ChoiceItem], journal: SharedJournal
) -> list[list[float]]:
    """Return the log-likelihood in nats of each choice of each item; finished pieces are taken as they are.

    Args:
        loaded: a packed model.
        tokenizer: its tokenizer; special tokens are added as it does by itself.
        set_name: name of the file in the report.
        items: the questions.
        journal: where finished pieces are kept.

    Raises:
        MedqaError: a likelihood is not a finite number.
    """
    return journal.map(
        f"choices/{set_name}/{loaded.name}",
        lambda part, _: _log_likelihoods(loaded, tokenizer, part),
        items,
        size=_ITEMS_PER_PIECE,
        title=f"{set_name}: scoring {loaded.name}",
    )


def _log_likelihoods(loaded: LoadedModel, tokenizer: Any, items: Sequence[ChoiceItem]) -> list[list[float]]:
    context = int(getattr(loaded.model.config, "max_position_embeddings", None) or 1 << 30)
    rows = [(place, row) for place, item in enumerate(items) for row in _rows_of(item, tokenizer, context)]
    sums = [[0.0] * len(item.choices) for item in items]
    for group in group_by_size(rows, lambda entry: (len(entry[1].input_ids),), (_TOKENS_PER_FORWARD,)):
        _add_scores(loaded, group, sums)
    if not np.isfinite(np.concatenate([np.asarray(own) for own in sums])).all():
        raise MedqaError(
            f"{loaded.name}: the likelihoods of choices are not finite in {loaded.dtype}",
            "set model.compute_dtype to float32 (or bfloat16), then give the same command again",
        )
    return sums


def _rows_of(item: ChoiceItem, tokenizer: Any, context: int) -> list[_Row]:
    """Return the sequences that an item needs: one where all choices are single tokens, else one a choice."""
    pairs = [_encode_pair(item.prompt, _DELIMITER + choice, tokenizer, context) for choice in item.choices]
    if all(len(continuation) == 1 and prompt == pairs[0][0] for prompt, continuation in pairs):
        prompt = pairs[0][0]
        return [_Row(prompt, [(len(prompt) - 1, own[0], choice) for choice, (_, own) in enumerate(pairs)])]
    return [
        _Row(
            prompt + own[:-1],
            [(len(prompt) - 1 + offset, token_id, choice) for offset, token_id in enumerate(own)],
        )
        for choice, (prompt, own) in enumerate(pairs)
    ]


def _without_end(tokenizer: Any, text: str) -> list[int]:
    """Encode a text as the tokenizer does by itself, but for an end token that some put behind every text."""
    ids = list(tokenizer(text)["input_ids"])
    ends = len(ids) - len(tokenizer(text, add_special_tokens=False)["input_ids"]) > (
        ids[:1] == [tokenizer.bos_token_id]
    )
    return ids[:-1] if ends and ids[-1:] == [tokenizer.eos_token_id] else ids


def _encode_pair(prompt: str, continuation: str, tokenizer: Any, context: int) -> tuple[list[int], list[int]]:
    whole, own_prompt = (_without_end(tokenizer, text) for text in (prompt + continuation, prompt))
    own = whole[len(own_prompt) :]
    # The last token is only a target, so one more than the context fits; what is too long loses its beginning.
    kept = whole[-(context + 1) :]
    return kept[: len(kept) - len(own)], own


def _add_scores(loaded: LoadedModel, group: Sequence[tuple[int, _Row]], sums: list[list[float]]) -> None:
    starts = np.cumsum([0, *(len(row.input_ids) for _, row in group)])
    asked = [
        (int(start) + position, token_id, place, choice)
        for start, (place, row) in zip(starts, group, strict=False)
        for position, token_id, choice in row.targets
    ]

    positions, targets, places, _ = (np.array(column, np.int64) for column in zip(*asked, strict=True))
    input_ids = np.array([i for _, row in group for i in row.input_ids], np.int64)
    lengths = tuple(len(row.input_ids) for _, row in group)
    batch = packed_batch(input_ids, lengths, positions, targets, places, loaded.device)
    with (
        torch.no_grad(),
        torch.autocast(loaded.device.type, loaded.dtype, enabled=loaded.dtype != torch.float32),
    ):
        losses = answer_token_losses(loaded.model, batch)
    for (_, _, place, choice), loss in zip(asked, losses.tolist(), strict=True):
        sums[place][choice] -= loss
