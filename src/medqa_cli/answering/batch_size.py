"""How many questions are answered in one forward: as the config says, or as many as the free memory bears."""

from __future__ import annotations

from typing import Any

import torch

from medqa_cli.config.schema import GenerateConfig
from medqa_cli.model.machine import free_memory_bytes

MOST_ROWS = 64  # more gain little: the figures are in docs/experiments.md
_SHARE_OF_MEMORY = 0.25  # of what is free; the rest is for logits, copies and other programs


def pick_batch_size(
    model: Any, device: torch.device, dtype: torch.dtype, config: GenerateConfig, longest_prompt: int
) -> int:
    """Return ``generate.batch_size``; for ``auto`` up to 64, as many as the keys and values of the answers allow.

    Args:
        model: its ``config`` gives the sizes.
        device: where its memory is.
        dtype: of keys and values.
        config: ``batch_size`` and ``max_new_tokens``.
        longest_prompt: of the questions, in tokens.
    """
    if config.batch_size != "auto":
        return config.batch_size
    shape = model.config
    heads = getattr(shape, "num_attention_heads", 32)
    head_size = getattr(shape, "head_dim", None) or getattr(shape, "hidden_size", 4096) // heads
    kept_heads = getattr(shape, "num_key_value_heads", None) or heads
    layers = getattr(shape, "num_hidden_layers", 32)
    # Keys and values of one token; twice, since a longer cache is made beside the old one.
    token_bytes = 2 * layers * kept_heads * head_size * dtype.itemsize * 2
    row_bytes = token_bytes * (longest_prompt + config.max_new_tokens)
    return max(1, min(MOST_ROWS, int(free_memory_bytes(device) * _SHARE_OF_MEMORY / row_bytes)))
