"""Causal attention within each of several examples that lie end to end, in the fastest way that the device has.

On CUDA one variable-length flash kernel covers all examples: PyTorch's own, else ``flash_attn``, else one call of
``scaled_dot_product_attention`` per example. The CPU has a way of its own (``cpu_attention``). Does not lay out
examples: ``packing`` does.
"""

from __future__ import annotations

import functools
import importlib.util
import inspect
from collections.abc import Callable
from functools import lru_cache
from itertools import accumulate
from typing import Any

import torch
import torch.nn.functional as F

from medqa_cli.errors import MedqaError
from medqa_cli.model.cpu_attention import CpuAttention

PACKED_ATTENTION = "medqa_packed"
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
        out: torch.Tensor = CpuAttention.apply(query, key, value, lengths, scale)
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
    if _torch_kernel_is_whole():
        return functools.partial(_varlen_attention, _torch_kernel)
    return functools.partial(_varlen_attention, _flash_attn_kernel) if importlib.util.find_spec("flash_attn") else None


def _torch_kernel_is_whole() -> bool:
    """Tell whether this PyTorch's kernel takes all that it is given here: its first versions took less."""
    if not importlib.util.find_spec("torch.nn.attention.varlen"):
        return False
    from torch.nn.attention.varlen import varlen_attn

    return {"scale", "window_size", "enable_gqa"} <= set(inspect.signature(varlen_attn).parameters)


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
    # Not enable_gqa: on CUDA that leaves only the kernel that keeps all scores in float32 (torch/nn/functional.py).
    group = query.shape[1] // key.shape[1]
    key, value = (tensor.repeat_interleave(group, 1) if group > 1 else tensor for tensor in (key, value))
    parts = [
        F.scaled_dot_product_attention(
            q,
            k,
            v,
            attn_mask=_window_mask(q.shape[2], window, q.device),
            dropout_p=dropout,
            is_causal=not _exceeds(q.shape[2], window),
            scale=scale,
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
