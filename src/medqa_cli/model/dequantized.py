"""4-bit layers turned into plain ones for generation on a CPU: the same numbers, each weight dequantized once.

bitsandbytes' kernel for CPUs dequantizes a whole matrix in each forward, which is a forward for each token of an
answer. Not for training or likelihoods, where a forward is long enough to pay for it and the memory is needed.
"""

from __future__ import annotations

from typing import Any

import torch

from medqa_cli.model.machine import free_memory_bytes

# The rest is for keys and values, activations and other programs.
_SHARE_OF_FREE_MEMORY = 0.5


def gains_from_dequantizing(model: torch.nn.Module, device: torch.device, dtype: torch.dtype, *, batches: bool) -> bool:
    """Tell whether generation with these 4-bit layers is better with plain ones, which have room in memory.

    On a CPU with AVX512-BF16 bitsandbytes multiplies with the packed 4-bit weights themselves. For one answer in
    bfloat16 it is left to that, which reads fewer bytes; in batches plain layers are twice as fast, and in float32
    only they compute as the training did.

    Args:
        model: as Transformers loaded it, which notes there whether it is in 4 bits.
        device: where it is.
        dtype: of the plain layers.
        batches: many answers are made at once.
    """
    # Importing bitsandbytes takes two seconds, which an answer from an unquantized model need not wait for.
    if device.type != "cpu" or not getattr(model, "is_loaded_in_4bit", False):
        return False
    layers = _four_bit_layers(model)
    if not layers or (layers[0].support_avx512bf16_for_cpu and dtype == torch.bfloat16 and not batches):
        return False
    needed_bytes: int = sum(layer.in_features * layer.out_features for layer in layers) * dtype.itemsize
    return needed_bytes <= _SHARE_OF_FREE_MEMORY * free_memory_bytes(device)


def dequantize_layers(model: torch.nn.Module, dtype: torch.dtype) -> int:
    """Replace each 4-bit layer by a plain one with the dequantized weights; return how many there were.

    Args:
        model: not yet wrapped by PEFT.
        dtype: of the matrix products; the kernel would dequantize to it, too.
    """
    import bitsandbytes as bnb

    layers = _four_bit_layers(model)
    names = {id(layer): name for name, layer in model.named_modules()}
    for layer in layers:
        weight: Any = layer.weight
        plain = torch.nn.Linear(layer.in_features, layer.out_features, bias=False, device="meta")
        # A checkpoint that was quantized elsewhere may name another type; the kernel goes by that of its input.
        weight.quant_state.dtype = dtype
        dense = bnb.functional.dequantize_4bit(weight.data, weight.quant_state)
        plain.weight = torch.nn.Parameter(dense, requires_grad=False)
        if layer.bias is not None:
            plain.bias = torch.nn.Parameter(layer.bias.data.to(dtype), requires_grad=False)
        model.set_submodule(names[id(layer)], plain.eval())
    return len(layers)


def _four_bit_layers(model: torch.nn.Module) -> list[Any]:
    import bitsandbytes as bnb

    return [module for module in model.modules() if isinstance(module, bnb.nn.Linear4bit)]
