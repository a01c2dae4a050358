"""Greedy decoding of several prompts at once, in which a prompt whose answer has ended takes no more work.

``transformers``' own ``generate`` computes every row until the last one ends: with answers of 50 to 500 tokens most of
the work is for rows that are done. Does not turn tokens into text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from medqa_cli.config.sections import GenerateConfig


def decode_greedily(
    model: Any,
    prompts: Sequence[Sequence[int]],
    *,
    stop_ids: Sequence[int],
    max_new_tokens: int,
    penalties: GenerateConfig,
    device: torch.device,
) -> list[list[int]]:
    """Return the likeliest continuation of each prompt, its end token included where it came.

    Args:
        model: a causal language model for generation (not a packed one), or a PEFT model around one.
        prompts: token ids, at least one prompt and one token each.
        stop_ids: tokens that end an answer.
        max_new_tokens: longest continuation.
        penalties: its ``repetition_penalty`` and ``no_repeat_ngram_size`` hold, over prompt and answer.
        device: where the model is.
    """
    from transformers import DynamicCache

    longest = max(len(prompt) for prompt in prompts)
    # Padded on the left, so that the new tokens of all rows stand in the same column. (B, T)
    ids = torch.tensor([[stop_ids[0]] * (longest - len(prompt)) + list(prompt) for prompt in prompts], device=device)
    mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts], device=device)
    processors = _processors(penalties)
    stops = torch.tensor(list(stop_ids), device=device)
    answers: list[list[int]] = [[] for _ in prompts]
    rows = list(range(len(prompts)))
    cache = DynamicCache(config=model.config)
    read, positions = ids, (mask.cumsum(-1) - 1).clamp(min=0)
    with torch.inference_mode():
        for _ in range(max_new_tokens):
            output = model(
                input_ids=read,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
            likeliest = _penalized(processors, ids, mask, output.logits[:, -1].float()).argmax(-1)  # (B,)
            for row, token_id in zip(rows, likeliest.tolist(), strict=True):
                answers[row].append(token_id)
            going = (~torch.isin(likeliest, stops)).nonzero()[:, 0]
            if not len(going):
                break
            if len(going) < len(rows):
                cache.batch_select_indices(going)
                ids, mask, positions, likeliest = ids[going], mask[going], positions[going], likeliest[going]
                rows = [rows[place] for place in going.tolist()]
            read = likeliest[:, None]
            ids = torch.cat([ids, read], dim=1)
            mask = torch.cat([mask, mask.new_ones(len(rows), 1)], dim=1)
            positions = positions[:, -1:] + 1
    return answers


def _penalized(processors: Any, ids: torch.Tensor, mask: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    if not processors:
        return scores
    # Row by row without its padding: the token that pads would count as said, and be penalized.
    rows = [processors(own[kept.bool()][None], score[None]) for own, kept, score in zip(ids, mask, scores, strict=True)]
    return torch.cat(rows)


def _processors(penalties: GenerateConfig) -> Any:
    from transformers import LogitsProcessorList, NoRepeatNGramLogitsProcessor, RepetitionPenaltyLogitsProcessor

    found = LogitsProcessorList()
    if penalties.repetition_penalty != 1:
        found.append(RepetitionPenaltyLogitsProcessor(penalties.repetition_penalty))
    if penalties.no_repeat_ngram_size:
        found.append(NoRepeatNGramLogitsProcessor(penalties.no_repeat_ngram_size))
    return found
