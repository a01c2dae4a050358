"""Keys and values of what was read, kept with room to spare: a further token does not copy all those before it.

Transformers' own layer joins the old and the new into a third tensor at each token. Does not run the model.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers.cache_utils import DynamicCache, DynamicLayer

SPARE = 128  # tokens of room that are taken at a time


class GrowingLayer(DynamicLayer):
    """The keys and values of one attention layer, each ``(B, heads, T, head size)``."""

    keys: torch.Tensor
    values: torch.Tensor
    _key_block: torch.Tensor | None = None
    _value_block: torch.Tensor | None = None

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append the keys and values of new tokens; return those of all tokens."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        length = self.get_seq_length()
        self._key_block = _with_room(self._key_block, self.keys, length, key_states)
        self._value_block = _with_room(self._value_block, self.values, length, value_states)
        total = length + key_states.shape[-2]
        self._key_block[:, :, length:total] = key_states
        self._value_block[:, :, length:total] = value_states
        self.keys, self.values = self._key_block[:, :, :total], self._value_block[:, :, :total]
        return self.keys, self.values

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Keep these rows only; ``indices``: ``(rows,)`` int64."""
        super().batch_select_indices(indices)
        # What was kept is a new tensor without room; the next token makes some.
        self._key_block = self._value_block = None


def _with_room(block: torch.Tensor | None, kept: torch.Tensor, length: int, new: torch.Tensor) -> torch.Tensor:
    """Return a block that holds what is kept and has room for the new tokens."""
    total = length + new.shape[-2]
    if block is not None and block.shape[2] >= total:
        return block
    grown = new.new_empty(new.shape[0], new.shape[1], total + SPARE, new.shape[3])
    if length:
        grown[:, :, :length] = kept
    return grown


def make_cache(model: Any) -> Any:
    """Return an empty cache for a model; layers that are no plain attention keep Transformers' own kind."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    cache = DynamicCache(config=inner.config)
    cache.layers = [GrowingLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache
