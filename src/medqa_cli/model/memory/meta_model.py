"""Models whose tensors have shapes but no content, with the quantized layers that loading would give them."""

from __future__ import annotations

from typing import Any

import torch

from medqa_cli.config.schema import ModelConfig
from medqa_cli.model.quantization import CONSTANTS_PER_BLOCK, WEIGHTS_PER_BLOCK, quantization_config


def empty_base(hf_config: Any, config: ModelConfig, dtype: torch.dtype) -> Any:
    """Build the base as loading makes it, on the meta device: its layers and the sizes of their weights."""
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        base = AutoModelForCausalLM.from_config(hf_config, dtype=dtype, trust_remote_code=False)
        replace_layers(base, config, dtype)
        give_quantized_weights(base, config, dtype)
    return base


def replace_layers(base: Any, config: ModelConfig, dtype: torch.dtype) -> None:
    """Put bitsandbytes' layers where loading the model would; their weights are on the meta device."""
    settings = quantization_config(config, dtype, sharded=False)
    if settings is None:
        return
    from transformers.quantizers.auto import AutoHfQuantizer

    quantizer = AutoHfQuantizer.from_config(settings, pre_quantized=False)
    quantizer.preprocess_model(model=base, device_map={"": "cpu"})
    base.is_loaded_in_4bit = config.quantization in ("nf4", "fp4")
    base.is_loaded_in_8bit = config.quantization == "int8"


def leave_meta_device(model: torch.nn.Module) -> None:
    """Put fake tensors of the default device in the place of all parameters and buffers; what was shared stays so."""
    made: dict[int, Any] = {}
    for module in model.modules():
        for tensors in (module._parameters, module._buffers):
            for name, tensor in tensors.items():
                if tensor is None:
                    continue
                if id(tensor) not in made:
                    fake = torch.empty(tensor.shape, dtype=tensor.dtype, device=torch.get_default_device())
                    is_parameter = isinstance(tensor, torch.nn.Parameter)
                    # The old one is kept as well: a freed tensor's id may come again.
                    made[id(tensor)] = tensor, torch.nn.Parameter(fake, tensor.requires_grad) if is_parameter else fake
                tensors[name] = made[id(tensor)][1]


def give_quantized_weights(base: Any, config: ModelConfig, dtype: torch.dtype) -> None:
    """Give bitsandbytes' layers weights of the size that quantization makes."""
    import bitsandbytes as bnb

    for module in base.modules():
        if isinstance(module, bnb.nn.Linear4bit):
            _give_four_bit_weight(module, config, dtype)
        elif isinstance(module, bnb.nn.Linear8bitLt):
            values = torch.empty(module.out_features, module.in_features, dtype=torch.int8)
            weight: Any = torch.nn.Parameter(values, requires_grad=False)
            weight.CB = weight.SCB = None  # as after the first forward, which hands them to the layer's state
            module.weight = weight
            module.state.CB, module.state.SCB = values, torch.empty(module.out_features)


def _give_four_bit_weight(module: Any, config: ModelConfig, dtype: torch.dtype) -> None:
    """Give a layer a packed weight and constants of the sizes that bitsandbytes makes."""
    from bitsandbytes.functional import QuantState

    shape = (module.out_features, module.in_features)
    count = shape[0] * shape[1]
    blocks = -(-count // WEIGHTS_PER_BLOCK)
    state = QuantState(
        absmax=torch.empty(blocks),
        shape=torch.Size(shape),
        code=torch.empty(16),
        blocksize=WEIGHTS_PER_BLOCK,
        quant_type=config.quantization,
        dtype=dtype,
    )
    if config.double_quantization:
        state.absmax, state.offset, state.nested = torch.empty(blocks, dtype=torch.uint8), torch.empty(()), True
        state.state2 = QuantState(
            absmax=torch.empty(-(-blocks // CONSTANTS_PER_BLOCK)),
            code=torch.empty(256),
            blocksize=CONSTANTS_PER_BLOCK,
            dtype=torch.float32,
        )
    weight: Any = torch.nn.Parameter(torch.empty((count + 1) // 2, 1, dtype=torch.uint8), requires_grad=False)
    # PEFT knows 4-bit weights by this name; bitsandbytes' own class cannot be made of a tensor without content.
    weight.__class__ = type("Params4bit", (type(weight),), {"__deepcopy__": lambda self, _: self})
    weight.quant_state, weight.quant_type = state, config.quantization
    weight.compress_statistics = config.double_quantization
    module.weight = weight
    module.support_avx512bf16_for_cpu = False  # as in loading
