"""Causal attention within each of several examples that lie end to end, in the fastest way that the device has.

On CUDA one variable-length flash kernel covers all examples: PyTorch's own, else ``flash_attn``, else one call of
``scaled_dot_product_attention`` per example. On the CPU the forward is PyTorch's flash kernel per example; its backward
costs several times what plain matrix products cost for such lengths, so those are used. Does not lay out examples:
``packing`` does.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import accumulate
from typing import Any

import torch
import torch.nn.functional as F

from medqa_cli.errors import MedqaError

PACKED_ATTENTION = "medqa_packed"
# Queries in one piece of the backward pass on the CPU: little above the diagonal is computed in vain.
QUERY_BLOCK = 192
_FLASH_DTYPES = (torch.float16, torch.bfloat16)
_MOST_FLASH_HEAD_DIM = 256


def packed_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    example_lengths: tuple[int, ...] | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention within each example, in the form that Transformers' attention interface asks for.

    Args:
        module: the attention layer (unused).
        query: ``(1, heads, T, head_dim)``.
        key: ``(1, kv_heads, T, head_dim)``.
        value: as ``key``.
        attention_mask: unused; the examples' lengths say all.
        dropout: attention dropout.
        scaling: factor on the scores; None: 1/sqrt(head_dim).
        example_lengths: tokens per example; None: one example.
        sliding_window: tokens that a token sees at most; None: all before it.
        softcap: not supported.

    Returns:
        ``(1, T, heads, head_dim)`` and None.

    Raises:
        MedqaError: the architecture caps its attention scores.
    """
    if softcap is not None:
        raise MedqaError(
            "this architecture caps its attention scores, which padding-free training does not support yet"
        )
    if torch.is_autocast_enabled(query.device.type):
        # Rotated with float32 angles, query and key come wider than value where the norms are float32.
        wanted = torch.get_autocast_dtype(query.device.type)
        query, key, value = (tensor.to(wanted) for tensor in (query, key, value))
    lengths = example_lengths if example_lengths is not None else (query.shape[2],)
    window = sliding_window if sliding_window is not None and max(lengths) > sliding_window else None
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    varlen = _varlen_kernel(query.device.type) if _flash_takes(query, dropout) else None
    if varlen is not None:
        return varlen(query, key, value, lengths, scale, window), None
    if query.device.type == "cpu" and dropout == 0.0 and window is None:
        out: torch.Tensor = _CpuAttention.apply(query, key, value, lengths, scale)
        return out, None
    return _attention_per_example(query, key, value, lengths, scale, window, dropout), None


def register_packed_attention() -> None:
    """Make ``attn_implementation="medqa_packed"`` known to Transformers; it builds no mask for such a name."""
    from transformers import AttentionInterface

    AttentionInterface.register(PACKED_ATTENTION, packed_attention)


VarlenAttention = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, tuple[int, ...], float, int | None], torch.Tensor]


def _flash_takes(query: torch.Tensor, dropout: float) -> bool:
    return (
        query.device.type == "cuda"
        and query.dtype in _FLASH_DTYPES
        and dropout == 0.0
        and query.shape[-1] <= _MOST_FLASH_HEAD_DIM
        and torch.cuda.get_device_capability(query.device) >= (8, 0)
    )


@lru_cache(maxsize=1)
def _varlen_kernel(device_type: str) -> VarlenAttention | None:
    """Return the variable-length flash attention of this installation, or None: a T4 or an old PyTorch has none."""
    if device_type != "cuda":
        return None
    if importlib.util.find_spec("torch.nn.attention.varlen"):
        return functools.partial(_varlen_attention, _torch_kernel)
    return functools.partial(_varlen_attention, _flash_attn_kernel) if importlib.util.find_spec("flash_attn") else None


def _varlen_attention(
    kernel: Callable[..., torch.Tensor],
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    lengths: tuple[int, ...],
    scale: float,
    window: int | None,
) -> torch.Tensor:
    q, k, v = (tensor[0].transpose(0, 1) for tensor in (query, key, value))  # (T, heads, head_dim)
    starts, longest = example_starts(lengths, query.device), max(lengths)
    # (-1, 0): causal, without a limit to the left.
    window_size = (-1 if window is None else window - 1, 0)
    return kernel(q, k, v, starts, starts, longest, longest, scale, window_size)[None]


def _torch_kernel(*arguments: Any) -> torch.Tensor:
    from torch.nn.attention.varlen import varlen_attn

    *inputs, scale, window_size = arguments
    grouped = inputs[0].shape[1] != inputs[1].shape[1]
    out = varlen_attn(*inputs, scale=scale, window_size=window_size, enable_gqa=grouped)
    assert isinstance(out, torch.Tensor)
    return out


def _flash_attn_kernel(*arguments: Any) -> torch.Tensor:
    from flash_attn import flash_attn_varlen_func

    *inputs, scale, window_size = arguments
    out: torch.Tensor = flash_attn_varlen_func(*inputs, softmax_scale=scale, causal=True, window_size=window_size)
    return out


@lru_cache(maxsize=2)
def example_starts(lengths: tuple[int, ...], device: torch.device) -> torch.Tensor:
    """Return where each example begins, and the end of the last: ``(examples + 1,)`` int32.

    All layers of a forward ask for the same one, so it is made once.
    """
    return torch.tensor([0, *accumulate(lengths)], dtype=torch.int32, device=device)


def _attention_per_example(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    lengths: tuple[int, ...],
    scale: float,
    window: int | None,
    dropout: float,
) -> torch.Tensor:
    grouped = query.shape[1] != key.shape[1]
    parts = [
        F.scaled_dot_product_attention(
            q,
            k,
            v,
            attn_mask=_window_mask(q.shape[2], window, q.device),
            dropout_p=dropout,
            is_causal=not _exceeds(q.shape[2], window),
            scale=scale,
            enable_gqa=grouped,
        )
        for q, k, v in zip(query.split(lengths, 2), key.split(lengths, 2), value.split(lengths, 2), strict=True)
    ]
    return torch.cat(parts, 2).transpose(1, 2).contiguous()


def _exceeds(length: int, window: int | None) -> bool:
    return window is not None and length > window


def _window_mask(length: int, window: int | None, device: torch.device) -> torch.Tensor | None:
    if window is None or not _exceeds(length, window):
        return None
    position = torch.arange(length, device=device)
    distance = position[:, None] - position[None, :]  # (T, T)
    return (distance >= 0) & (distance < window)


class _CpuAttention(torch.autograd.Function):
    """Flash forward per example; backward from its log-sum-exp by batched matrix products (Dao 2023, arXiv 2307.08691).

    Keeps query, key, value, output and one float per head and token.
    """

    @staticmethod
    def forward(
        ctx: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        lengths: tuple[int, ...],
        scale: float,
    ) -> torch.Tensor:
        _, heads, tokens, head_dim = query.shape
        group = heads // key.shape[1]
        out = query.new_empty(1, tokens, heads, head_dim)
        log_sums = query.new_empty(heads, tokens, dtype=torch.float32)
        for start, end in _spans(lengths):
            k, v = (tensor[:, :, start:end].repeat_interleave(group, 1) for tensor in (key, value))
            part, part_log_sums = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
                query[:, :, start:end], k, v, 0.0, True, scale=scale
            )
            out[:, start:end] = part.transpose(1, 2)
            # The kernel gives (1, heads, L), in the layout that suits it.
            log_sums[:, start:end] = part_log_sums[0]
        ctx.save_for_backward(query, key, value, out, log_sums)
        ctx.lengths, ctx.scale = lengths, scale
        return out

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        query, key, value, out, log_sums = ctx.saved_tensors
        grad_out = grads[0]
        # In the layout (T, heads, head_dim), which the layers before it want back.
        grad_query, grad_key, grad_value = (
            tensor.new_zeros(tensor.shape[2], tensor.shape[1], tensor.shape[3]).transpose(0, 1)
            for tensor in (query, key, value)
        )
        delta = (grad_out[0].float() * out[0].float()).sum(-1).transpose(0, 1)  # (heads, T)
        for start, end in _spans(ctx.lengths):
            for first in range(start, end, QUERY_BLOCK):
                last = min(first + QUERY_BLOCK, end)
                _backward_block(
                    (query[0], key[0], value[0]),
                    grad_out[0].transpose(0, 1),
                    (log_sums, delta),
                    (grad_query, grad_key, grad_value),
                    (start, first, last),
                    ctx.scale,
                )
        return grad_query[None], grad_key[None], grad_value[None], None, None


def _spans(lengths: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    start = 0
    for length in lengths:
        yield start, start + length
        start += length


def _backward_block(
    inputs: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    grad_out: torch.Tensor,
    per_row: tuple[torch.Tensor, torch.Tensor],
    grads: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    span: tuple[int, int, int],
    scale: float,
) -> None:
    """Add the gradients of the queries ``first .. last`` of the example that begins at ``start``.

    Args:
        inputs: query ``(heads, T, head_dim)``, key and value ``(kv_heads, T, head_dim)``.
        grad_out: ``(heads, T, head_dim)``.
        per_row: log-sum-exp of the scores and the row sums of ``grad_out * out``, each ``(heads, T)`` float32.
        grads: as ``inputs``; added to.
        span: ``(start, first, last)``.
        scale: factor on the scores.
    """
    query, key, value = inputs
    start, first, last = span
    kv_heads = key.shape[0]

    def by_group(tensor: torch.Tensor) -> torch.Tensor:
        """Join the query heads that share a key head: (kv_heads, group * rows, ...)."""
        part = tensor[:, first:last]
        return part.reshape(kv_heads, -1, *part.shape[2:])

    q, grad = by_group(query), by_group(grad_out)
    log_sums, delta = (by_group(rows).unsqueeze(-1) for rows in per_row)
    k, v = key[:, start:last], value[:, start:last]
    probabilities = torch.bmm(q, k.transpose(1, 2)).float().mul_(scale).sub_(log_sums).exp_()
    # Nothing after the query itself: the last columns are the block's own, below their diagonal only.
    probabilities.view(-1, last - first, last - start).tril_(first - start)
    grad_scores = torch.bmm(grad, v.transpose(1, 2)).float().sub_(delta).mul_(probabilities).mul_(scale)
    weights, grad_scores = probabilities.to(q.dtype), grad_scores.to(q.dtype)
    grad_query, grad_key, grad_value = grads
    grad_query[:, first:last] = torch.bmm(grad_scores, k).view(query.shape[0], last - first, -1)
    grad_key[:, start:last] += torch.bmm(grad_scores.transpose(1, 2), q)
    grad_value[:, start:last] += torch.bmm(weights.transpose(1, 2), grad)
