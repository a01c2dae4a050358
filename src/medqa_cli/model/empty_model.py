"""Models whose tensors have shapes but no content, with the quantized layers that loading would give them.

For ``dry_run``, which runs a training step on them. Loads nothing.
"""

from __future__ import annotations

from typing import Any

import torch

from medqa_cli import console
from medqa_cli.config.schema import ModelConfig
from medqa_cli.model.base import CONSTANTS_PER_BLOCK, WEIGHTS_PER_BLOCK, quantization_config

# Of all weights: less than this is a router.
_NOTEWORTHY_SHARE = 0.02


def empty_base(hf_config: Any, config: ModelConfig, dtype: torch.dtype) -> Any:
    """Build the base as loading makes it, on the meta device: its layers and the sizes of their weights."""
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        base = AutoModelForCausalLM.from_config(hf_config, dtype=dtype, trust_remote_code=False)
        replace_layers(base, config, dtype)
        give_quantized_weights(base, config, dtype)
    return base


def num_unquantized(base: Any) -> int:
    """Count the weights of a quantized base that are not: those of matrices that are no linear layers.

    bitsandbytes quantizes linear layers only. Embedding and output layer always stay as they are and do not count, nor
    do norms and biases; what does are the experts of a mixture, which are parameters.
    """
    own = {
        id(layer.weight) for layer in (base.get_input_embeddings(), base.get_output_embeddings()) if layer is not None
    }
    return sum(
        parameter.numel()
        for parameter in base.parameters()
        if parameter.dim() > 1 and parameter.is_floating_point() and id(parameter) not in own
    )


def tell_unquantized(base: Any, config: ModelConfig, dtype: torch.dtype) -> None:
    """Say where much of a base stays unquantized although the config quantizes it."""
    count, total = num_unquantized(base), num_parameters(base)
    if config.quantization != "none" and count > _NOTEWORTHY_SHARE * total:
        console.warn(
            f"model.quantization: {config.quantization} takes linear layers only: {count:,} of {total:,} weights (the "
            f"experts of a mixture, as a rule) stay {str(dtype).removeprefix('torch.')}, "
            f"{count * dtype.itemsize / 2**30:.2f} GiB"
        )


def num_parameters(model: torch.nn.Module) -> int:
    """Count parameters; a 4-bit weight counts as many as it stands for."""
    return sum(p.quant_state.shape.numel() if hasattr(p, "quant_state") else p.numel() for p in model.parameters())


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
            _give_eight_bit_weight(module)


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
    module.support_avx512bf16_for_cpu = False  # as in ``base``


def _give_eight_bit_weight(module: Any) -> None:
    values = torch.empty(module.out_features, module.in_features, dtype=torch.int8)
    weight: Any = torch.nn.Parameter(values, requires_grad=False)
    weight.CB = weight.SCB = None  # as after the first forward, which hands them to the layer's state
    module.weight = weight
    module.state.CB, module.state.SCB = values, torch.empty(module.out_features)
