"""Layers that compute what Transformers' and PEFT's compute, in fewer passes over memory and keeping less for backward.

Three of them, put into a model by ``fuse_layers``: a LoRA layer on a frozen (4-bit or plain) linear layer, a gated
SiLU followed by such a layer, and RMSNorm. What does not fit the pattern (DoRA, int8, LoRA biases, other activations)
keeps its own code. Parameters, names and files stay those of PEFT.

On CUDA, Liger's kernels for the rotary embedding and RMSNorm are used where the package is installed.
"""

import types
from collections.abc import Collection, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from medqa_cli.model.kernels import operators
from medqa_cli.model.kernels.lora_products import LoraWeight, gated_silu_lora_linear, lora_linear
from medqa_cli.model.quantization import four_bit_layers

_Grads = tuple[Tensor | None, ...]


LORA_LINEAR, GATED_SILU, RMS_NORM = "LoRA linear", "gated SiLU", "RMSNorm"
LAYER_KINDS = (LORA_LINEAR, GATED_SILU, RMS_NORM)
# Of the package ``liger-kernel``, by Transformers' integration. With an adapter, medqa's own losses in chunks and gated
# SiLU keep less for the backward pass.
_LIGER_KERNELS = {
    "rope": True,
    "rms_norm": True,
    "swiglu": False,
    "cross_entropy": False,
    "fused_linear_cross_entropy": False,
}
_LIGER_MARK = "medqa_uses_liger_kernels"


def fuse_layers(model: torch.nn.Module, kinds: Collection[str] = LAYER_KINDS) -> int:
    """Replace the forward methods of the layers that fit; return how many were replaced.

    Args:
        model: a PEFT model, already loaded and on its device.
        kinds: those of ``LAYER_KINDS`` that are wanted; layers of others get their own forward methods back.
    """
    unfuse_layers(model)
    replaced = 0
    for kind, module in _fitting(model):
        if kind in kinds:
            module.plain_forward = module.forward
            module.forward = types.MethodType(_FORWARDS[kind], module)
            replaced += 1
    return replaced


def unfuse_layers(model: torch.nn.Module) -> None:
    """Give all layers their own forward methods back."""
    for module in model.modules():
        plain: Any = vars(module).pop("plain_forward", None)
        if plain is not None:
            module.forward = plain


def first_layers(model: torch.nn.Module) -> dict[str, Any]:
    """Return the first layer of each kind that the model has."""
    first: dict[str, Any] = {}
    for kind, module in _fitting(model):
        first.setdefault(kind, module)
    return first


def _fitting(model: torch.nn.Module) -> Iterator[tuple[str, Any]]:
    from peft.tuners.lora import LoraLayer

    four_bit = {id(layer) for layer in four_bit_layers(model)}
    norms_are_fused = uses_liger_kernels(model)
    module: Any
    for module in model.modules():
        if isinstance(module, LoraLayer) and (
            type(base := module.get_base_layer()) is torch.nn.Linear or id(base) in four_bit
        ):
            yield LORA_LINEAR, module
        elif _is_gated_silu(module):
            yield GATED_SILU, module
        elif (
            not norms_are_fused
            and type(module).__name__ in _RMS_NORMS
            and hasattr(module, "variance_epsilon")
            and not module.weight.requires_grad
        ):
            yield RMS_NORM, module


def _is_gated_silu(module: torch.nn.Module) -> bool:
    names = ("gate_proj", "up_proj", "down_proj")
    has_layers = all(isinstance(getattr(module, name, None), torch.nn.Module) for name in names)
    # No other layer that we know nothing about: only the activation may stand beside the three.
    children = {name for name, _ in module.named_children()}
    activation = getattr(module, "act_fn", None)
    is_silu = isinstance(activation, torch.nn.SiLU) or type(activation).__name__ == "SiLUActivation"
    return has_layers and children <= {*names, "act_fn"} and is_silu


# Each architecture has a class of its own with the same code (Gemma adds 1 to the weight).
_RMS_NORMS = ("LlamaRMSNorm", "MistralRMSNorm", "Qwen2RMSNorm", "Qwen3RMSNorm", "SmolLM3RMSNorm", "Phi3RMSNorm")


def _active_adapter(module: Any) -> str | None:
    """Return the name of the one plain LoRA adapter that acts in this layer, or None."""
    if module.disable_adapters or module.merged or len(module.active_adapters) != 1:
        return None
    name: str = module.active_adapters[0]
    if name not in module.lora_A or name in module.lora_variant or module.lora_bias.get(name):
        return None
    base = module.get_base_layer()
    is_trained = base.weight.requires_grad or (base.bias is not None and base.bias.requires_grad)
    return None if is_trained else name


def fused_adapter(layer: Any) -> str | None:
    """Return the name of the adapter that a layer's fused forward pass computes, without dropout; None: it has none."""
    name = _active_adapter(layer) if hasattr(layer, "plain_forward") and hasattr(layer, "lora_A") else None
    return None if name is None or _dropout_probability(layer, name) else name


def _lora_forward(self: Any, x: Tensor, *args: Any, **kwargs: Any) -> Any:
    if torch.compiler.is_compiling():
        if torch.is_autocast_enabled(x.device.type):
            x = x.to(torch.get_autocast_dtype(x.device.type))
        name, number = self.compiled_adapter, self.compiled_number  # of ``compile_layers``
        return operators.lora_linear(x, self.lora_A[name].weight, self.lora_B[name].weight, number)
    name = _active_adapter(self)
    if name is None or args or kwargs:
        return self.plain_forward(x, *args, **kwargs)
    device_type = x.device.type
    if torch.is_autocast_enabled(device_type):
        x = x.to(torch.get_autocast_dtype(device_type))
    # The adapter's input after dropout; None where it is ``x`` itself.
    dropped = self.lora_dropout[name](x) if self.training and _dropout_probability(self, name) else None
    return lora_linear(x, dropped, _weight_of(self, name))


def _gated_silu_forward(self: Any, x: Tensor) -> Any:
    if torch.compiler.is_compiling():  # the compiler fuses it
        return self.plain_forward(x)
    gate, up, down = self.gate_proj(x), self.up_proj(x), self.down_proj
    name = _active_adapter(down) if hasattr(down, "lora_A") and hasattr(down, "plain_forward") else None
    if name is None or (down.training and _dropout_probability(down, name)):
        return down(_GatedSilu.apply(gate, up))
    return gated_silu_lora_linear(gate, up, _weight_of(down, name))


def _weight_of(layer: Any, name: str) -> LoraWeight:
    lora_a, lora_b = layer.lora_A[name].weight, layer.lora_B[name].weight
    return LoraWeight(lora_a, lora_b, layer.get_base_layer(), layer.scaling[name])


def _rms_norm_forward(self: Any, hidden_states: Tensor) -> Any:
    if torch.compiler.is_compiling():
        return self.plain_forward(hidden_states)
    if hidden_states.is_cuda and hidden_states.dtype == self.weight.dtype and _HAS_RMS_NORM_KERNEL:
        return rms_norm_in_one_kernel(hidden_states, self.weight, self.variance_epsilon)
    return _RmsNorm.apply(hidden_states, self.weight, self.variance_epsilon)


_FORWARDS = {LORA_LINEAR: _lora_forward, GATED_SILU: _gated_silu_forward, RMS_NORM: _rms_norm_forward}


# From 2.9 on there are CUDA kernels for forward and backward; before, the function was made of eight others.
_HAS_RMS_NORM_KERNEL = hasattr(torch.ops.aten, "_fused_rms_norm_backward")


def rms_norm_in_one_kernel(x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """Return what ``_RmsNorm`` does, rounded once instead of twice where ``x`` has 16 bits; keeps as much."""
    with torch.autocast(x.device.type, enabled=False):
        return F.rms_norm(x, weight.shape, weight, epsilon)


def _dropout_probability(module: Any, name: str) -> float:
    return float(getattr(module.lora_dropout[name], "p", 0.0))


class _GatedSilu(torch.autograd.Function):
    """silu(gate) * up; keeps its two inputs only."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        ctx.save_for_backward(gate, up)
        return F.silu(gate).mul_(up)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> _Grads:
        gate, up = ctx.saved_tensors
        grad_gate = torch.ops.aten.silu_backward(grads[0] * up, gate)
        return grad_gate, F.silu(gate).mul_(grads[0])


class _RmsNorm(torch.autograd.Function):
    """w x / sqrt(mean(x^2) + eps) with a frozen w, in float32 inside; keeps its input and one float per token."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        wide = x.float()
        # Autocast would compute it in 16 bits: float16 ends at 65,504.
        with torch.autocast(x.device.type, enabled=False):
            inverse = torch.linalg.vecdot(wide, wide).div_(x.shape[-1]).add_(epsilon).rsqrt_().unsqueeze(-1)
        ctx.save_for_backward(x, weight, inverse)
        normed = (wide * inverse).to(x.dtype)
        product: Tensor = normed.mul_(weight) if normed.dtype == weight.dtype else weight * normed
        return product

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> _Grads:
        x, weight, inverse = ctx.saved_tensors
        wide = x.float()
        grad = grads[0].float() * weight.float()
        with torch.autocast(x.device.type, enabled=False):
            along = torch.linalg.vecdot(grad, wide).unsqueeze(-1).mul_(inverse.pow(3)).div_(-x.shape[-1])
        return grad.mul_(inverse).addcmul_(wide, along).to(x.dtype), None, None


def use_liger_kernels(causal_lm: Any, device: torch.device) -> bool:
    """Let a model on CUDA compute with Liger's kernels; return whether it does."""
    from transformers.utils import is_liger_kernel_available

    if device.type != "cuda" or not is_liger_kernel_available():
        return False
    from liger_kernel.transformers.monkey_patch import MODEL_TYPE_TO_APPLY_LIGER_FN
    from transformers.integrations.liger import apply_liger_kernel

    if causal_lm.config.model_type not in MODEL_TYPE_TO_APPLY_LIGER_FN:
        return False
    apply_liger_kernel(causal_lm, dict(_LIGER_KERNELS))
    setattr(causal_lm, _LIGER_MARK, True)
    return True


def uses_liger_kernels(model: torch.nn.Module) -> bool:
    """Tell whether ``use_liger_kernels`` changed this model, or the one that it wraps."""
    return any(hasattr(module, _LIGER_MARK) for module in model.modules())
