"""A frozen (4-bit or plain) linear layer with a LoRA adapter as one function of autograd, alone or behind a gated SiLU.

Kept for the backward pass are the inputs and the adapter, never a dequantized weight. They are kept before anything is
computed: where activations are recomputed, PyTorch stops as soon as it has all that was kept, so that a layer's last
product is not computed a second time.
"""

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from medqa_cli.model.changed import changed

_Grads = tuple[Tensor | None, ...]

# ``casts``: trained weights in the type of the products, by storage and type; None: each use casts them again. No
# context variable, since autograd runs the backward pass of a GPU in a thread of its own.
_kept = SimpleNamespace(casts=None, constants=False)


def casting_once(wanted: bool = True) -> AbstractContextManager[None]:
    """Keep the trained weights' casts to the type of the products: they are needed in forward, recompute and backward.

    For the forward and backward passes of a step, between which no optimizer changes a weight.
    """
    return changed((_kept, "casts", {} if wanted else None))


def keeping_constants(wanted: bool = True) -> AbstractContextManager[None]:
    """Keep the constants of twice quantized weights from a forward pass to its backward pass: 1/16 byte a weight.

    For models whose layers are recomputed: then it is those of one layer at a time, which are there only from its
    recomputation to its backward pass.
    """
    return changed((_kept, "constants", wanted))


class LoraWeight(NamedTuple):
    """What a layer multiplies with, W + s B A.

    ``lora_a``, ``lora_b``: A, ``(r, in)``, and B, ``(out, r)``; ``base``: the frozen layer, which has W; ``scaling``:
    s; ``constants``: those of W, where they are kept.
    """

    lora_a: Tensor
    lora_b: Tensor
    base: Any
    scaling: float
    constants: Tensor | None = None


def lora_linear(x: Tensor, dropped: Tensor | None, weight: LoraWeight) -> Tensor:
    """Return x W' + bias + s (dropped A') B': ``(..., out)``.

    Args:
        x: ``(..., in)``.
        dropped: the adapter's input after dropout; None where it is ``x`` itself.
        weight: W, A, B and s.
    """
    return _with_gradient(_LoraLinear, x, dropped, weight)


def gated_silu_lora_linear(gate: Tensor, up: Tensor, weight: LoraWeight) -> Tensor:
    """Return ``lora_linear`` of silu(gate) * up, which is made again in the backward pass instead of kept."""
    return _with_gradient(_GatedSiluLoraLinear, gate, up, weight)


def _with_gradient(function: Any, x: Tensor, other: Tensor | None, weight: LoraWeight) -> Tensor:
    """Return ``function.compute`` of the inputs, whose gradient ``function.backward`` takes.

    ``function`` keeps the inputs first and returns an empty tensor, and ``_Computed`` computes only then: the top of
    the module says why.
    """
    with torch.autocast(x.device.type, enabled=False):
        weight = weight._replace(constants=_constants_of(weight.base))
        compute: Callable[[], Tensor] = partial(function.compute, x, other, weight)
        if not torch.is_grad_enabled():
            return compute()
        result: Tensor = _Computed.apply(function.apply(x, other, *weight), compute)
    return result


class _Computed(torch.autograd.Function):
    """Computes what an empty tensor stands for, and hands the gradient on to the function that made this tensor."""

    @staticmethod
    def forward(ctx: Any, empty: Tensor, compute: Callable[[], Tensor]) -> Tensor:
        return compute()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> _Grads:
        return grads[0], None


class _LoraLinear(torch.autograd.Function):
    """Keeps the inputs of ``lora_linear``; its result has no content."""

    @staticmethod
    def compute(x: Tensor, dropped: Tensor | None, weight: LoraWeight) -> Tensor:
        return product(x, dropped, weight)

    @staticmethod
    def forward(ctx: Any, x: Tensor, other: Tensor | None, *weight: Any) -> Tensor:
        lora_a, lora_b, ctx.base, ctx.scaling, constants = weight
        ctx.save_for_backward(x, other, lora_a, lora_b, constants)
        # Of the output's shape and type, and without memory.
        return x.new_empty(1).expand(*x.shape[:-1], ctx.base.out_features)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> _Grads:
        x, dropped, lora_a, lora_b, constants = ctx.saved_tensors
        weight = LoraWeight(lora_a, lora_b, ctx.base, ctx.scaling, constants)
        return *product_backward(grads[0], x, dropped, weight, ctx.needs_input_grad[0]), None, None, None


class _GatedSiluLoraLinear(_LoraLinear):
    """Keeps the inputs of ``gated_silu_lora_linear``; its result has no content."""

    @staticmethod
    def compute(gate: Tensor, up: Tensor | None, weight: LoraWeight) -> Tensor:
        assert up is not None
        return product(F.silu(gate).mul_(up), None, weight)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> _Grads:
        gate, up, lora_a, lora_b, constants = ctx.saved_tensors
        weight = LoraWeight(lora_a, lora_b, ctx.base, ctx.scaling, constants)
        activated = F.silu(gate)
        x = activated * up
        grad_x, _, grad_a, grad_b = product_backward(grads[0], x, None, weight, needs_input=True)
        assert grad_x is not None
        grad_gate = torch.ops.aten.silu_backward(torch.mul(grad_x, up, out=x), gate)
        return grad_gate, grad_x.mul_(activated), grad_a, grad_b, None, None, None


def _constants_of(base: Any) -> Tensor | None:
    """Return the scales of blocks of a twice quantized weight, where they are kept; as ``dequantize_4bit`` makes them.

    ``(blocks,)`` float32 (bitsandbytes 0.50, functional.py).
    """
    state = getattr(base.weight, "quant_state", None)
    if not _kept.constants or state is None or not state.nested:
        return None
    import bitsandbytes as bnb

    constants: Tensor = bnb.functional.dequantize_blockwise(state.absmax, state.state2)
    constants += state.offset
    return constants.float()


def _dense_weight(base: Any, dtype: torch.dtype, constants: Tensor | None = None) -> tuple[Tensor, bool]:
    """Return the frozen weight ``(out, in)`` in ``dtype``, and whether it is a copy that may be overwritten."""
    state = getattr(base.weight, "quant_state", None)
    if state is None:
        weight = base.weight.detach()
        return weight.to(dtype), weight.dtype != dtype
    import bitsandbytes as bnb

    if constants is not None:
        state = copy.copy(state)
        state.absmax, state.nested = constants, False
    return bnb.functional.dequantize_4bit(base.weight.detach(), state).to(dtype), True


def _sum_is_exact_enough(dtype: torch.dtype) -> bool:
    """Tell whether W + s B A may be summed before the product: in 16 bits the small update would round away."""
    return dtype == torch.float32


def _adapted_weight(weight: LoraWeight) -> Tensor:
    dense, owned = _dense_weight(weight.base, torch.float32, weight.constants)
    return torch.addmm(dense, weight.lora_b, weight.lora_a, alpha=weight.scaling, out=dense if owned else None)


def _cast(weight: Tensor, dtype: torch.dtype) -> Tensor:
    casts: dict[tuple[int, torch.dtype], Tensor] | None = _kept.casts
    if casts is None or weight.dtype == dtype:
        return weight.to(dtype)
    key = (weight.untyped_storage()._cdata, dtype)
    if key not in casts:
        casts[key] = weight.detach().to(dtype)
    return casts[key]


def _scaled_product(first: Tensor, second: Tensor, scaling: float) -> Tensor:
    """Return s times a product of matrices, in one kernel; what is added is not read where ``beta`` is 0."""
    return torch.addmm(first.new_empty(()), first, second, beta=0, alpha=scaling)


def product(x: Tensor, dropped: Tensor | None, weight: LoraWeight) -> Tensor:
    """Return what ``lora_linear`` does."""
    lora_a, lora_b, base, scaling, constants = weight
    shape, x = x.shape, x.flatten(0, -2)
    if dropped is None and _sum_is_exact_enough(x.dtype):
        y = F.linear(x, _adapted_weight(weight), base.bias)
    else:
        dense, _ = _dense_weight(base, x.dtype, constants)
        y = F.linear(x, dense, None if base.bias is None else base.bias.to(x.dtype))
        source = x if dropped is None else dropped.flatten(0, -2)
        narrow = torch.mm(source, _cast(lora_a, x.dtype).t())  # (tokens, r)
        y.addmm_(narrow, _cast(lora_b, x.dtype).t(), alpha=scaling)
    return y.view(*shape[:-1], -1)


def product_backward(
    grad: Tensor, x: Tensor, dropped: Tensor | None, weight: LoraWeight, needs_input: bool
) -> tuple[Tensor | None, Tensor | None, Tensor, Tensor]:
    """Return the gradients of x, dropped, A and B for that of ``product``."""
    lora_a, lora_b, base, scaling, constants = weight
    shape, grad = x.shape, grad.flatten(0, -2)
    source = (x if dropped is None else dropped).flatten(0, -2)
    narrow_a, narrow_b = _cast(lora_a, x.dtype), _cast(lora_b, x.dtype)
    narrow = torch.mm(source, narrow_a.t())  # (tokens, r)
    narrow_grad = _scaled_product(grad, narrow_b, scaling)  # (tokens, r)
    grad_b = _scaled_product(grad.t(), narrow, scaling).to(lora_b.dtype)
    grad_a = torch.mm(narrow_grad.t(), source).to(lora_a.dtype)
    grad_x = grad_dropped = None
    if dropped is not None:
        grad_dropped = torch.mm(narrow_grad, narrow_a).view(shape)
    if needs_input and dropped is None and _sum_is_exact_enough(grad.dtype):
        grad_x = torch.mm(grad, _adapted_weight(weight)).view(shape)
    elif needs_input:
        grad_x = torch.mm(grad, _dense_weight(base, grad.dtype, constants)[0])
        grad_x = (grad_x if dropped is not None else grad_x.addmm_(narrow_grad, narrow_a)).view(shape)
    return grad_x, grad_dropped, grad_a, grad_b
