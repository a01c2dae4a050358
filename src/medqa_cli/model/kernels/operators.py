"""LoRA's products and the CPU's attention as operators that ``torch.compile`` takes as they are.

What they compute and what they keep for the backward pass is that of ``lora_products`` and ``cpu_attention``. A graph
of the compiler takes tensors only: a layer is handed in as its number, and lengths as a tensor.
"""

import itertools
import weakref
from typing import Any

import torch
from torch import Tensor

from medqa_cli.model.kernels.cpu_attention import attend, attend_backward
from medqa_cli.model.kernels.lora_products import LoraWeight, product, product_backward

# LoRA layers by their number: the base's packed weights and the scale are read there.
_layers: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()
_numbers = itertools.count()


def number_of(layer: torch.nn.Module) -> Tensor:
    """Return the number, ``()`` int64 on the CPU, by which ``lora_linear`` finds a LoRA layer with one adapter."""
    number = next(_numbers)
    _layers[number] = layer
    return torch.tensor(number)


def _weight(lora_a: Tensor, lora_b: Tensor, number: Tensor) -> LoraWeight:
    layer = _layers[int(number)]
    return LoraWeight(lora_a, lora_b, layer.get_base_layer(), layer.scaling[layer.active_adapters[0]])


@torch.library.custom_op("medqa::lora_linear", mutates_args=())
def lora_linear(x: Tensor, lora_a: Tensor, lora_b: Tensor, number: Tensor) -> Tensor:
    """Return x W' + bias + s (x A') B': ``(..., out)`` for ``(..., in)``; W, bias and s are the numbered layer's."""
    with torch.autocast(x.device.type, enabled=False):
        return product(x, None, _weight(lora_a, lora_b, number))


@lora_linear.register_fake
def _(x: Tensor, lora_a: Tensor, lora_b: Tensor, number: Tensor) -> Tensor:
    return x.new_empty(*x.shape[:-1], lora_b.shape[0])


@torch.library.custom_op("medqa::lora_linear_backward", mutates_args=())
def _lora_linear_backward(
    grad: Tensor, x: Tensor, lora_a: Tensor, lora_b: Tensor, number: Tensor, needs_input: bool
) -> tuple[Tensor, Tensor, Tensor]:
    with torch.autocast(x.device.type, enabled=False):
        grad_x, _, grad_a, grad_b = product_backward(grad, x, None, _weight(lora_a, lora_b, number), needs_input)
    return x.new_empty(0) if grad_x is None else grad_x, grad_a, grad_b


@_lora_linear_backward.register_fake
def _(
    grad: Tensor, x: Tensor, lora_a: Tensor, lora_b: Tensor, number: Any, needs_input: bool
) -> tuple[Tensor, Tensor, Tensor]:
    return x.new_empty(x.shape if needs_input else (0,)), torch.empty_like(lora_a), torch.empty_like(lora_b)


def _lora_gradients(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    needs_input = ctx.needs_input_grad[0]
    grad_x, grad_a, grad_b = _lora_linear_backward(grad, *ctx.saved_tensors, needs_input)
    return grad_x if needs_input else None, grad_a, grad_b, None


lora_linear.register_autograd(_lora_gradients, setup_context=lambda ctx, inputs, output: ctx.save_for_backward(*inputs))


def lengths_tensor(lengths: tuple[int, ...]) -> Tensor:
    """Return the lengths of examples for ``attention``: int64 on the CPU. One alone, which would get graphs of its own,
    has a zero beside it.
    """
    return torch.tensor(lengths if len(lengths) > 1 else [*lengths, 0])


def _as_tuple(lengths: Tensor) -> tuple[int, ...]:
    return tuple(length for length in lengths.tolist() if length)


@torch.library.custom_op("medqa::attention", mutates_args=())
def attention(query: Tensor, key: Tensor, value: Tensor, lengths: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """Return what ``cpu_attention.attend`` does; lengths: of ``lengths_tensor``."""
    return attend(query, key, value, _as_tuple(lengths), scale)


@attention.register_fake
def _(query: Tensor, key: Tensor, value: Tensor, lengths: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    _, heads, tokens, head_dim = query.shape
    return query.new_empty(1, tokens, heads, head_dim), query.new_empty(heads, tokens, dtype=torch.float32)


@torch.library.custom_op("medqa::attention_backward", mutates_args=())
def _attention_backward(
    grad: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    out: Tensor,
    log_sums: Tensor,
    lengths: Tensor,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    return attend_backward(grad, query, key, value, out, log_sums, _as_tuple(lengths), scale)


@_attention_backward.register_fake
def _(grad: Tensor, query: Tensor, key: Tensor, value: Tensor, *others: Any) -> tuple[Tensor, Tensor, Tensor]:
    def like(tensor: Tensor) -> Tensor:
        _, heads, tokens, head_dim = tensor.shape
        return tensor.new_empty(1, tokens, heads, head_dim).transpose(1, 2)

    return like(query), like(key), like(value)


def _keep_attention(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    query, key, value, lengths, ctx.scale = inputs
    ctx.save_for_backward(query, key, value, *output, lengths)
    ctx.mark_non_differentiable(output[1])


attention.register_autograd(
    lambda ctx, grad, _: (*_attention_backward(grad, *ctx.saved_tensors, ctx.scale), None, None),
    setup_context=_keep_attention,
)
