"""Causal attention within packed examples on a CPU: PyTorch's flash forward pass, a backward pass of our own."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

# Queries in one piece of the CPU's backward pass: little above the diagonal is computed in vain.
QUERY_BLOCK = 192


class CpuAttention(torch.autograd.Function):
    """Flash forward per example; backward from its log-sum-exp by batched matrix products (Dao 2023, arXiv 2307.08691).

    Without dropout and sliding windows. Keeps query, key, value, output and one float per head and token.
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, lengths: tuple[int, ...], scale: float) -> Tensor:
        """Return ``(1, T, heads, head_dim)`` for a query ``(1, heads, T, head_dim)``, key and value with kv_heads."""
        out, log_sums = attend(query, key, value, lengths, scale)
        ctx.save_for_backward(query, key, value, out, log_sums)
        ctx.lengths, ctx.scale = lengths, scale
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of query, key and value, a block of queries at a time."""
        query, key, value, out, log_sums = ctx.saved_tensors
        gradients = attend_backward(grads[0], query, key, value, out, log_sums, ctx.lengths, ctx.scale)
        return *gradients, None, None


def attend(query: Tensor, key: Tensor, value: Tensor, lengths: tuple[int, ...], scale: float) -> tuple[Tensor, Tensor]:
    """Return what ``CpuAttention`` does, and the log-sum-exp of the scores: ``(heads, T)`` float32."""
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
    return out, log_sums


def attend_backward(
    grad: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    out: Tensor,
    log_sums: Tensor,
    lengths: tuple[int, ...],
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of query, key and value for that of ``attend``'s first result."""
    # In the layout (T, heads, head_dim), which the layers before it want back.
    sums = tuple(
        tensor.new_zeros(tensor.shape[2], tensor.shape[1], tensor.shape[3]).transpose(0, 1)
        for tensor in (query, key, value)
    )
    rows = (query[0], grad[0].transpose(0, 1), out[0].transpose(0, 1), log_sums)
    for start, end in _spans(lengths):
        for first in range(start, end, QUERY_BLOCK):
            last = min(first + QUERY_BLOCK, end)
            _add_gradients(
                tuple(tensor[:, first:last] for tensor in rows),
                (key[0, :, start:last], value[0, :, start:last]),
                (sums[0][:, first:last], sums[1][:, start:last], sums[2][:, start:last]),
                scale,
            )
    return sums[0][None], sums[1][None], sums[2][None]


def _spans(lengths: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    start = 0
    for length in lengths:
        yield start, start + length
        start += length


def _add_gradients(
    rows: tuple[Tensor, ...], seen: tuple[Tensor, Tensor], sums: tuple[Tensor, ...], scale: float
) -> None:
    """Add the gradients of a block of queries, which see the S tokens from their example's first to their own last.

    Args:
        rows: query, gradient and value of the output, each ``(heads, rows, head_dim)``, and log-sum-exp of the scores,
            ``(heads, rows)`` float32.
        seen: key and value, each ``(kv_heads, S, head_dim)``.
        sums: gradients of the queries and of what they see, as ``rows`` and ``seen``; added to.
        scale: factor on the scores.
    """
    query, grad_out, out, log_sums = rows
    key, value = seen
    kv_heads, num_rows = key.shape[0], query.shape[1]

    def by_group(tensor: Tensor) -> Tensor:
        """Join the query heads that share a key head: (kv_heads, group * rows, ...)."""
        return tensor.reshape(kv_heads, -1, *tensor.shape[2:])

    delta = (grad_out.float() * out.float()).sum(-1)  # (heads, rows)
    q, grad = by_group(query), by_group(grad_out)
    # The scale comes after the product: a query scaled before would be rounded, unless the scale is a power of two.
    probabilities = _product_less(q, key, by_group(log_sums / scale)).mul_(scale).exp_()
    # Nothing after the query itself: the last columns are the block's own, below their diagonal only.
    probabilities.view(-1, num_rows, key.shape[1])[..., -num_rows:].tril_()
    grad_scores = _product_less(grad, value, by_group(delta)).mul_(probabilities)
    grad_query, grad_key, grad_value = sums
    grad_query += torch.bmm(grad_scores, key).mul_(scale).view(query.shape)
    grad_key += torch.bmm(grad_scores.transpose(1, 2), q).mul_(scale)
    grad_value += torch.bmm(probabilities.transpose(1, 2), grad)


def _product_less(rows: Tensor, columns: Tensor, subtrahend: Tensor) -> Tensor:
    """Return rows columns' - subtrahend.

    In 16 bits a product is rounded before something can be taken off it, which loses the small difference of large
    numbers. So the subtrahend takes part in the product: as two columns that sum to it, against ones.

    Args:
        rows: ``(batch, R, head_dim)``.
        columns: ``(batch, C, head_dim)``.
        subtrahend: ``(batch, R)`` float32.
    """
    if rows.dtype == torch.float32:
        return torch.bmm(rows, columns.transpose(1, 2)).sub_(subtrahend.unsqueeze(-1))
    high = subtrahend.to(rows.dtype)
    low = (subtrahend - high.float()).to(rows.dtype)
    wide_rows = torch.cat([rows, -torch.stack((high, low), -1)], -1)
    wide_columns = torch.cat([columns, columns.new_ones(*columns.shape[:2], 2)], -1)
    return torch.bmm(wide_rows, wide_columns.transpose(1, 2))
