"""Base + adapter as it was trained, to compare a merged model with: the same 4-bit base, any number type.

Knows how much memory that takes. Does not compare (``comparison``) and does not merge.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any

import torch

from medqa_cli.config.schema import ModelConfig
from medqa_cli.merging.adapter_file import AdapterFile
from medqa_cli.merging.skeleton import Skeleton
from medqa_cli.model.load import load_adapter, load_base
from medqa_cli.model.resolve import ModelRef

# Logits, activations, the interpreter's own growth.
_WORKING_BYTES = 1 << 30
# bitsandbytes quantizes a whole matrix at a time and needs about this many copies of it in float32.
_COPIES_WHILE_QUANTIZING = 8


def load_reference(
    source: ModelRef, adapter_dir: Path, how: ModelConfig, device: torch.device, dtype: torch.dtype
) -> Any:
    """Load base + adapter as training loads it, for padding-free forwards.

    Args:
        source: the base.
        adapter_dir: the adapter.
        how: the quantization of the training.
        device: where it goes.
        dtype: the type that training computed in; weights are cast to it before they are quantized.
    """
    return load_adapter(load_base(source, how, device, dtype, packed=True), adapter_dir)


@contextlib.contextmanager
def computing_in(model: Any, dtype: torch.dtype) -> Iterator[None]:
    """Compute in ``dtype`` inside the block: unquantized weights are cast, 4-bit layers multiply in it.

    The quantized weights stay as they are, and afterwards so does everything else.
    """
    import bitsandbytes as bnb

    parameters = [p for name, p in model.named_parameters() if p.is_floating_point() and "lora_" not in name]
    layers = [module for module in model.modules() if isinstance(module, bnb.nn.Linear4bit)]
    data, types = [p.data for p in parameters], [layer.compute_dtype for layer in layers]
    device_type = next(model.parameters()).device.type
    try:
        for parameter in parameters:
            parameter.data = parameter.data.to(dtype)
        for layer in layers:
            layer.compute_dtype = dtype
        with torch.inference_mode(), torch.autocast(device_type, dtype, enabled=dtype != torch.float32):
            yield
    finally:
        for parameter, values in zip(parameters, data, strict=True):
            parameter.data = values
        for layer, before in zip(layers, types, strict=True):
            layer.compute_dtype = before


def memory_needed_bytes(skeleton: Skeleton, adapter: AdapterFile, quantization: str) -> int:
    """Return about how much memory it takes to load and to run base + adapter in float32."""
    bytes_of = {"nf4": 0.5 + 4 / 64, "fp4": 0.5 + 4 / 64, "int8": 1.0}
    weights = [(name, prod(shape)) for name, shape in skeleton.shapes.items() if name not in skeleton.tied]
    total = 4.0 * sum(prod(shape) for shape in adapter.shapes.values()) + _WORKING_BYTES
    largest = 0
    for name, count in weights:
        is_quantized = quantization != "none" and name.removesuffix(".weight") in skeleton.four_bit
        # In float32, and a second time in bfloat16 for the noise floor.
        total += count * (bytes_of[quantization] if is_quantized else 6.0)
        largest = max(largest, count if is_quantized else 0)
    return int(total + _COPIES_WHILE_QUANTIZING * 4 * largest)
