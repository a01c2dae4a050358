"""Causal attention within each of several examples that lie end to end, in the fastest way that the device has.

On CUDA one variable-length flash kernel covers all examples: PyTorch's own, else ``flash_attn``, else one call of
``scaled_dot_product_attention`` per example. On a CPU it is PyTorch's flash kernel with a backward pass of our own:
the kernel's own takes up to twice as long for examples of such lengths (docs/experiments.md). What a model asks of its
attention beyond that is refused, never left out. For which models the numbers are right, ``verify`` finds out.
"""

import functools
import importlib.util
import inspect
from collections.abc import Callable
from contextlib import AbstractContextManager
from itertools import accumulate
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from medqa_cli.errors import MedqaError, reason_of
from medqa_cli.model.changed import changed
from medqa_cli.model.kernels import operators
from medqa_cli.model.kernels.cpu_attention import CpuAttention

PACKED_ATTENTION = "medqa_packed"
_FLASH_DTYPES = (torch.float16, torch.bfloat16)
_MOST_FLASH_HEAD_DIM = 256
# Keywords that models hand through their layers and that change nothing in the attention of a training run.
_WITHOUT_EFFECT = frozenset(
    ("position_ids", "cache_position", "use_cache", "output_attentions", "output_hidden_states", "output_router_logits")
)


class NotPackableError(MedqaError):
    """The model asks for an attention that is not computed for several examples end to end."""


def packed_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    example_lengths: tuple[int, ...] | Tensor | None = None,
    sliding_window: int | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """Return causal attention within each example, ``(1, T, heads, value_dim)``, and None, as Transformers asks for it.

    Args:
        module: the attention layer (unused).
        query: ``(1, heads, T, head_dim)``.
        key: ``(1, kv_heads, T, head_dim)``.
        value: ``(1, kv_heads, T, value_dim)``.
        attention_mask: must be None; the examples' lengths say all.
        dropout: of the attention.
        scaling: factor on the scores; None: 1/sqrt(head_dim).
        example_lengths: tokens per example; a tensor of ``operators.lengths_tensor`` in compiled layers.
        sliding_window: tokens that a token sees at most; None: all before it.
        others: what else the model asks for; must be nothing that changes the result.

    Raises:
        NotPackableError: the model asks for something else, or its layers do not pass the examples' lengths on.
    """
    if torch.is_autocast_enabled(query.device.type):
        # Rotated with float32 angles, query and key come wider than value where the norms are float32.
        wanted = torch.get_autocast_dtype(query.device.type)
        query, key, value = (tensor.to(wanted) for tensor in (query, key, value))
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    like_sized = query.shape[-1] == value.shape[-1]
    if isinstance(example_lengths, Tensor):
        unusual = [attention_mask, sliding_window, dropout or None, _unknown_keywords(others) or None]
        if any(found is not None for found in unusual) or not like_sized:
            raise NotPackableError("its attention has a mask, a window, dropout or more")
        return operators.attention(query, key, value, example_lengths, scale)[0], None
    _refuse_other_attention((query, key, value), attention_mask, example_lengths, others)
    assert example_lengths is not None
    window = sliding_window if sliding_window is not None and max(example_lengths) > sliding_window else None
    varlen = _varlen_kernel_for(query, key) if like_sized and _flash_takes(query, dropout) else None
    if varlen is not None:
        return varlen(query, key, value, example_lengths, scale, window), None
    if query.device.type == "cpu" and dropout == 0.0 and like_sized and _cpu_kernel_takes(query.shape[-1], window):
        out: Tensor = CpuAttention.apply(query, key, value, example_lengths, scale)
        return out, None
    return _attention_per_example(query, key, value, example_lengths, scale, window, dropout), None


def _refuse_other_attention(
    inputs: tuple[Tensor, ...], mask: Tensor | None, example_lengths: tuple[int, ...] | None, others: dict[str, Any]
) -> None:
    asked = _unknown_keywords(others)
    reason = ""
    if mask is not None:
        reason = "its attention has a mask of its own"
    elif others.get("is_causal") is False:
        reason = "its attention sees later tokens"
    elif asked:
        reason = f"its attention takes {', '.join(asked)}"
    elif example_lengths is None:
        reason = "its layers do not pass on which tokens belong together"
    elif len(inputs[0]) != 1 or any(tensor.shape[2] != sum(example_lengths) for tensor in inputs):
        reason = "its attention sees other tokens than the examples'"
    if reason:
        raise NotPackableError(reason)


def _unknown_keywords(others: dict[str, Any]) -> list[str]:
    """Return the keywords, in order, that may ask for something else than causal attention."""
    known = {*_WITHOUT_EFFECT, "is_causal"}
    return sorted(
        name for name, wanted in others.items() if name not in known and not (wanted is None or wanted is False)
    )


# What the CPU's tensors stand for: themselves (None), or those of a GPU with a variable-length flash kernel or without.
_there = SimpleNamespace(has_flash=None)


def attention_as_on(device_type: str, has_flash: bool) -> AbstractContextManager[None]:
    """Let tensors on the CPU keep for the backward pass what those of another kind of device would keep, chunks too.

    ``has_flash``: with ``cuda``: a variable-length flash kernel is used there; otherwise each example is a call.
    """
    return changed((_there, "has_flash", has_flash if device_type == "cuda" else None))


def stands_for(device_type: str) -> str:
    """Return the kind of device that tensors on a device stand for."""
    return device_type if _there.has_flash is None else "cuda"


def _cpu_kernel_takes(head_dim: int, window: int | None) -> bool:
    """Tell whether ``CpuAttention`` computes heads of this size, or keeps for the backward pass what a GPU keeps."""
    if _there.has_flash is None:
        return window is None
    # A flash kernel, windows or not, keeps what the CPU's way keeps.
    return bool(_there.has_flash) and head_dim <= _MOST_FLASH_HEAD_DIM


def register_packed_attention() -> None:
    """Make ``attn_implementation="medqa_packed"`` known to Transformers; it builds no mask for such a name."""
    from transformers import AttentionInterface

    AttentionInterface.register(PACKED_ATTENTION, packed_attention)


def own_attention(hf_config: Any) -> str:
    """Return the name of the attention that Transformers itself computes a model with on this installation."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

    if type(hf_config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        return "sdpa"
    return "sdpa" if MODEL_FOR_CAUSAL_LM_MAPPING[type(hf_config)]._supports_sdpa else "eager"


def use_packed_attention(causal_lm: Any) -> bool:
    """Let a Transformers model compute several examples end to end, where it lets others compute its attention at all.

    Returns:
        Whether it does.
    """
    if causal_lm._can_set_attn_implementation():
        register_packed_attention()
        causal_lm.set_attn_implementation(PACKED_ATTENTION)
    return is_packed(causal_lm)


def use_own_attention(causal_lm: Any) -> None:
    """Let a Transformers model compute its attention as Transformers does: one example in a row."""
    if causal_lm._can_set_attn_implementation():
        causal_lm.set_attn_implementation(own_attention(causal_lm.config))


def is_packed(model: Any) -> bool:
    """Tell whether a model (a Transformers model, or one that wraps it) computes several examples end to end."""
    return bool(model.config.get_text_config()._attn_implementation == PACKED_ATTENTION)


VarlenAttention = Callable[[Tensor, Tensor, Tensor, tuple[int, ...], float, int | None], Tensor]


def _flash_takes(query: Tensor, dropout: float) -> bool:
    return (
        query.device.type == "cuda"
        and query.dtype in _FLASH_DTYPES
        and dropout == 0.0
        and query.shape[-1] <= _MOST_FLASH_HEAD_DIM
        and torch.cuda.get_device_capability(query.device) >= (8, 0)
    )


def _varlen_kernel_for(query: Tensor, key: Tensor) -> VarlenAttention | None:
    """Return the kernel if it has been proven for such heads in this process; tensors without content prove nothing."""
    kernel = _varlen_kernel(query.device.type)
    if kernel is None or isinstance(query, FakeTensor):
        return kernel
    grouped = query.shape[1] != key.shape[1]
    problem = _problem_of(kernel, query.device, query.dtype, query.shape[-1], grouped)
    if problem:
        _problems[problem] = None
    return None if problem else kernel


# What flash kernels did wrong in this process, in the order found.
_problems: dict[str, None] = {}


def kernel_problems() -> list[str]:
    """Return why flash kernels that this installation has are not used in this process; empty where all are right."""
    return list(_problems)


@functools.cache
def _problem_of(kernel: VarlenAttention, device: torch.device, dtype: torch.dtype, head_dim: int, grouped: bool) -> str:
    """Compare a kernel with one example at a time, forward and backward, on three examples; say what is wrong.

    Both are compared with float32. The kernel may be twice as far from it as the other way in ``dtype``: the bound of
    flash-attention's own tests (``tests/test_flash_attn.py``), and one unit of rounding more.
    """
    # The last one is longer than the blocks of 64 and 128 tokens that kernels work in.
    lengths, scale = (5, 12, 150), head_dim**-0.5
    generator = torch.Generator().manual_seed(0)
    shapes = [(1, heads, sum(lengths), head_dim) for heads in (4, 2 if grouped else 4, 2 if grouped else 4, 4)]
    wide = [torch.randn(shape, generator=generator).to(device=device, dtype=dtype).float() for shape in shapes]
    *inputs, direction = wide

    def run(attend: Callable[..., Tensor], wanted: torch.dtype, window: int | None) -> list[Tensor]:
        tensors = [tensor.to(wanted, copy=True).requires_grad_() for tensor in inputs]
        out = attend(*tensors, lengths, scale, window)
        gradients = torch.autograd.grad(out, tensors, direction.transpose(1, 2).to(wanted))
        return [tensor.detach().float() for tensor in (out, *gradients)]

    one_by_one = functools.partial(_attention_per_example, dropout=0.0)
    unit = torch.finfo(dtype).eps
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast(device.type, enabled=False):
        for window in (None, 4):
            exact, plain = run(one_by_one, torch.float32, window), run(one_by_one, dtype, window)
            try:
                fast = run(kernel, dtype, window)
            except Exception as error:  # whatever a kernel raises that does not take this card, type or head
                return f"heads of {head_dim} in {dtype}: {reason_of(error)}"
            for right, slow_one, fast_one in zip(exact, plain, fast, strict=True):
                allowed = 2 * float((right - slow_one).norm()) + unit * float(right.norm())
                if not float((right - fast_one).norm()) <= allowed:  # NaN included
                    return f"heads of {head_dim} in {dtype}: its numbers are off"
    return ""


def has_flash_attention(device: torch.device) -> bool:
    """Tell whether a GPU computes 16-bit attention of all examples of a forward pass in one flash kernel."""
    return torch.cuda.get_device_capability(device) >= (8, 0) and _varlen_kernel(device.type) is not None


@functools.lru_cache(maxsize=1)
def _varlen_kernel(device_type: str) -> VarlenAttention | None:
    """Return the variable-length flash attention of this installation, or None: a T4 or an old PyTorch has none."""
    if device_type != "cuda":
        return None
    if importlib.util.find_spec("torch.nn.attention.varlen"):
        from torch.nn.attention.varlen import varlen_attn

        # The first versions of PyTorch's kernel took less than it is given here.
        if {"scale", "window_size", "enable_gqa"} <= set(inspect.signature(varlen_attn).parameters):
            return functools.partial(_varlen_attention, _torch_kernel)
    return functools.partial(_varlen_attention, _flash_attn_kernel) if importlib.util.find_spec("flash_attn") else None


def _varlen_attention(
    kernel: Callable[..., Tensor],
    query: Tensor,
    key: Tensor,
    value: Tensor,
    lengths: tuple[int, ...],
    scale: float,
    window: int | None,
) -> Tensor:
    q, k, v = (tensor[0].transpose(0, 1) for tensor in (query, key, value))  # (T, heads, head_dim)
    starts, longest = example_starts(lengths, query.device), max(lengths)
    # (-1, 0): causal, without a limit to the left.
    window_size = (-1 if window is None else window - 1, 0)
    return kernel(q, k, v, starts, starts, longest, longest, scale, window_size)[None]


def _torch_kernel(*arguments: Any) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn

    *inputs, scale, window_size = arguments
    grouped = inputs[0].shape[1] != inputs[1].shape[1]
    out = varlen_attn(*inputs, scale=scale, window_size=window_size, enable_gqa=grouped)
    assert isinstance(out, Tensor)
    return out


def _flash_attn_kernel(*arguments: Any) -> Tensor:
    from flash_attn import flash_attn_varlen_func

    *inputs, scale, window_size = arguments
    out: Tensor = flash_attn_varlen_func(*inputs, softmax_scale=scale, causal=True, window_size=window_size)
    return out


@functools.lru_cache(maxsize=2)
def example_starts(lengths: tuple[int, ...], device: torch.device) -> Tensor:
    """Return where each example begins, and the end of the last: ``(examples + 1,)`` int32.

    All layers of a forward pass ask for the same one, so it is made once.
    """
    starts = torch.tensor([0, *accumulate(lengths)], dtype=torch.int32)
    # From pinned memory the copy does not wait for what the GPU computes.
    return starts.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else starts.to(device)


def _attention_per_example(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    lengths: tuple[int, ...],
    scale: float,
    window: int | None,
    dropout: float,
) -> Tensor:
    # Not enable_gqa: on CUDA that leaves only the kernel that keeps all scores in float32 (torch/nn/functional.py).
    group = query.shape[1] // key.shape[1]
    key, value = (tensor.repeat_interleave(group, 1) if group > 1 else tensor for tensor in (key, value))
    parts = []
    for q, k, v in zip(query.split(lengths, 2), key.split(lengths, 2), value.split(lengths, 2), strict=True):
        mask, length = None, q.shape[2]
        if window is not None and length > window:
            position = torch.arange(length, device=q.device)
            distance = position[:, None] - position[None, :]  # (T, T)
            mask = (distance >= 0) & (distance < window)
        parts.append(
            F.scaled_dot_product_attention(
                q, k, v, attn_mask=mask, dropout_p=dropout, is_causal=mask is None, scale=scale
            )
        )
    return torch.cat(parts, 2).transpose(1, 2).contiguous()
