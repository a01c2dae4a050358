"""The token loop: prompts run in one batch, finished rows leave it, each row's state takes its token.

A streamed answer is a batch of one, so one answer and many are the same code.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers.cache_utils import DynamicCache, DynamicLayer

from medqa_cli.answering.stopping import RowState
from medqa_cli.config.schema import GenerateConfig
from medqa_cli.errors import MedqaError
from medqa_cli.model.devices import free_memory_bytes

MOST_ROWS = 64  # more gain little: docs/experiments.md
SPARE = 128  # tokens by which a cache grows at a time
_SHARE_OF_MEMORY = 0.25  # of the free memory; the rest is for logits, copies and other programs


def decode_batch(
    model: Any,
    device: torch.device,
    prompts: Sequence[Sequence[int]],
    states: Sequence[RowState],
    config: GenerateConfig,
    on_token: Callable[[int], None] | None = None,
) -> None:
    """Let the model continue all prompts until each state has a finish reason.

    A row that goes back waits until the others are done. Then those that wait are read again, as one batch: no cache of
    keys and values has to forget, which not every architecture's can.

    Args:
        model: a causal language model of Transformers.
        device: where it is.
        prompts: ids of each prompt, none of them empty.
        states: one per prompt; they take the tokens and decide when their row ends. One that has ids goes on from them.
        config: how tokens are chosen.
        on_token: called with the number of a row after it took a token.

    Raises:
        MedqaError: the logits are not finite.
    """
    choose = _Choice(config)
    rows = list(range(len(prompts)))
    with torch.inference_mode():
        while rows:
            batch = _Batch(model, device, [[*prompts[row], *states[row].ids] for row in rows])
            rows = _continue(batch, rows, prompts, states, choose, on_token)


def _continue(
    batch: _Batch,
    rows: list[int],
    prompts: Sequence[Sequence[int]],
    states: Sequence[RowState],
    choose: _Choice,
    on_token: Callable[[int], None] | None,
) -> list[int]:
    """Continue the rows of a batch until each has ended or gone back; return those that went back."""
    went_back: list[int] = []
    logits = batch.prefill()
    while True:
        histories = [[*prompts[row], *states[row].ids] for row in rows] if choose.needs_history else []
        chosen = choose(logits, histories, [states[row] for row in rows])
        for row, token_id in zip(rows, chosen.tolist(), strict=True):
            states[row].add(token_id)
            if on_token is not None:
                on_token(row)
        went_back += [row for row in rows if states[row].went_back]
        going_on = [
            index for index, row in enumerate(rows) if states[row].finish_reason is None and not states[row].went_back
        ]
        if not going_on:
            return went_back
        if len(going_on) < len(rows):
            kept = torch.tensor(going_on, device=chosen.device)
            rows, chosen = [rows[index] for index in going_on], chosen[kept]
            batch.keep(kept)
        logits = batch.step(chosen)


class _Batch:
    """Rows that are continued together, padded on the left, with the keys and values of their tokens."""

    def __init__(self, model: Any, device: torch.device, prompts: Sequence[Sequence[int]]) -> None:
        self._model = model
        longest = max(map(len, prompts))
        padded = [[0] * (longest - len(ids)) + list(ids) for ids in prompts]
        self._ids = torch.tensor(padded, device=device)  # (B, T) int64
        # (B, T) int64, 1 for a token, 0 for padding
        self._mask = torch.tensor([[0] * (longest - len(ids)) + [1] * len(ids) for ids in prompts], device=device)
        self._cache = make_cache(model)
        self._accepted = inspect.signature(without_adapter(model).forward).parameters.keys()

    def prefill(self) -> torch.Tensor:
        """Read the prompts; return ``(B, V)`` logits of the next token."""
        return self._forward(self._ids, (self._mask.cumsum(-1) - 1).clamp(min=0))

    def step(self, token_ids: torch.Tensor) -> torch.Tensor:
        """Read one more token per row, ``(B,)`` int64; return ``(B, V)`` logits of the next one."""
        self._mask = torch.cat([self._mask, self._mask.new_ones(len(token_ids), 1)], dim=1)
        return self._forward(token_ids[:, None], self._mask.sum(-1, keepdim=True) - 1)

    def keep(self, indices: torch.Tensor) -> None:
        """Continue these rows only, so that finished ones cost no more time."""
        self._cache.batch_select_indices(indices)
        self._mask = self._mask[indices]

    def _forward(self, input_ids: torch.Tensor, position_ids: torch.Tensor) -> torch.Tensor:
        more: dict[str, Any] = {}
        if "position_ids" in self._accepted:
            more["position_ids"] = position_ids
        if "logits_to_keep" in self._accepted:
            # The logits of a whole prompt are large, and only the last are used. An index copies that position: with a
            # mere view PyTorch multiplies row by row, with a copy of a frozen output layer for each.
            more["logits_to_keep"] = torch.full((1,), input_ids.shape[1] - 1, device=input_ids.device)
        output = self._model(
            input_ids=input_ids, attention_mask=self._mask, past_key_values=self._cache, use_cache=True, **more
        )
        self._cache = output.past_key_values
        logits: torch.Tensor = output.logits[:, -1]
        return logits


class _Choice:
    """Picks the next token of each row as the config says; the model's generation config is ignored."""

    def __init__(self, config: GenerateConfig) -> None:
        from transformers import (
            NoRepeatNGramLogitsProcessor,
            RepetitionPenaltyLogitsProcessor,
            TemperatureLogitsWarper,
            TopPLogitsWarper,
        )

        self._sampled = config.temperature > 0
        self._penalties: list[Any] = []
        if config.repetition_penalty != 1:
            self._penalties.append(RepetitionPenaltyLogitsProcessor(config.repetition_penalty))
        if config.no_repeat_ngram_size > 0:
            self._penalties.append(NoRepeatNGramLogitsProcessor(config.no_repeat_ngram_size))
        self._warpers: list[Any] = []
        if self._sampled and config.temperature != 1:
            self._warpers.append(TemperatureLogitsWarper(config.temperature))
        if self._sampled and config.top_p < 1:
            self._warpers.append(TopPLogitsWarper(config.top_p))

    @property
    def needs_history(self) -> bool:
        """Whether the earlier tokens of a row matter."""
        return bool(self._penalties)

    def __call__(
        self, logits: torch.Tensor, histories: Sequence[Sequence[int]], states: Sequence[RowState]
    ) -> torch.Tensor:
        """Return ``(B,)`` int64 ids for ``(B, V)`` logits.

        ``histories``: each row's prompt and answer, if needed; ``states``: of the rows.

        Raises:
            MedqaError: the logits are not finite.
        """
        scores = logits.float()
        # The largest score is NaN if any score is, and infinite if none is finite.
        if not bool(scores.amax(-1).isfinite().all()):
            raise MedqaError(
                "the model gives no numbers (NaN or infinite) for the next token",
                "its weights or its adapter are broken, or float16 is too narrow for it: try "
                "--set model.compute_dtype=float32",
            )
        for index, history in enumerate(histories):
            # Row by row: the padding of a batch is not part of a row's text.
            ids = torch.tensor([list(history)], device=logits.device)
            for penalty in self._penalties:
                scores[index : index + 1] = penalty(ids, scores[index : index + 1])
        for index, state in enumerate(states):
            # At the first token the words that decline may be forbidden.
            if state.num_retries or not state.ids:
                for token_id, bias in state.biases(int(scores[index].argmax())).items():
                    scores[index, token_id] += bias
        if not self._sampled:
            return scores.argmax(-1)
        for warper in self._warpers:
            scores = warper(None, scores)
        return torch.multinomial(scores.softmax(-1), 1)[:, 0]


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
        # The selected rows are new tensors without spare room; the next token adds some.
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


def without_adapter(model: Any) -> Any:
    """Return the model of Transformers inside one of PEFT; any other as it is."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def make_cache(model: Any) -> Any:
    """Return an empty cache for a model; layers other than plain attention keep Transformers' kind."""
    cache = DynamicCache(config=without_adapter(model).config)
    cache.layers = [GrowingLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


def pick_batch_size(
    model: Any, device: torch.device, dtype: torch.dtype, config: GenerateConfig, longest_prompt: int
) -> int:
    """Return ``generate.batch_size``; for ``auto`` up to 64, limited by the memory for keys and values.

    Args:
        model: its ``config`` gives the sizes.
        device: whose memory counts.
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
    # Keys and values of one token; twice, since a growing cache is copied next to the old one.
    token_bytes = 2 * layers * kept_heads * head_size * dtype.itemsize * 2
    row_bytes = token_bytes * (longest_prompt + config.max_new_tokens)
    return max(1, min(MOST_ROWS, int(free_memory_bytes(device) * _SHARE_OF_MEMORY / row_bytes)))
