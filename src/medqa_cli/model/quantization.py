"""Quantization by bitsandbytes: its settings, what it leaves unquantized, its layers without content or turned back.

Also the faults of bitsandbytes 0.50 that loading guards against: docs/footguns.md.
"""

import copy
import sys
from typing import Any, get_args

import torch

from medqa_cli import console
from medqa_cli.config.schema import ModelConfig, Quantization
from medqa_cli.errors import InputError, first_line
from medqa_cli.model.devices import dtype_name, free_memory_bytes
from medqa_cli.model.experts import separate_experts

# Transformers' and bitsandbytes' defaults (Params4bit; quantize_4bit with compress_statistics), which loading uses.
WEIGHTS_PER_BLOCK = 64
CONSTANTS_PER_BLOCK = 256
# Of the free memory, for plain layers; the rest is for keys and values, activations and other programs.
_SHARE_OF_FREE_MEMORY = 0.5
# Of all weights: less than this is a router.
_NOTEWORTHY_SHARE = 0.02


def quantization_config(config: ModelConfig, dtype: torch.dtype, *, sharded: bool) -> Any:
    """Return Transformers' quantization config; None: no quantization. Arguments as of ``load_base``.

    Raises:
        InputError: bitsandbytes is needed and not there.
    """
    from transformers import BitsAndBytesConfig

    if config.quantization == "none":
        return None
    require_bitsandbytes(config.quantization)
    if config.quantization == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=config.quantization,
        bnb_4bit_use_double_quant=config.double_quantization,
        bnb_4bit_compute_dtype=dtype,
        # The same bytes either way. FSDP divides floating-point tensors only and leaves others whole on every device.
        bnb_4bit_quant_storage=dtype if sharded else torch.uint8,
    )


def require_bitsandbytes(kind: str) -> None:
    """Check that weights can be quantized; what is not quantized does without bitsandbytes.

    Raises:
        InputError: bitsandbytes is not installed, or does not start here.
    """
    advice = "or set model.quantization: none, which takes four times the memory of nf4 for the base"
    try:
        import bitsandbytes  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name != "bitsandbytes":
            raise
        raise InputError(
            f"model.quantization is {kind}, and the package bitsandbytes is not installed",
            f"install it: pip install 'bitsandbytes>=0.50'; {advice}",
        ) from error
    except Exception as error:  # its native library does not fit this system
        raise InputError(
            f"model.quantization is {kind}, and bitsandbytes does not start here: {first_line(error)}",
            f"install it anew: pip install --force-reinstall 'bitsandbytes>=0.50'; {advice}",
        ) from error


def refuse_other_quantization(hf_config: Any, config: ModelConfig, name: str) -> None:
    """Refuse weights that are stored quantized in another way than the config says.

    Transformers goes by the files, or takes their 8-bit integers for weights where no quantization is asked for.
    """
    stored = stored_quantization(hf_config)
    if not stored:
        return
    kind = str(stored.get("quant_method"))
    if kind == "bitsandbytes":
        kind = str(stored.get("bnb_4bit_quant_type", "fp4")) if stored.get("load_in_4bit") else "int8"
    if kind == config.quantization:
        console.warn(f"{name} is stored quantized ({kind}): an adapter for it can be trained and used, but not merged")
        return
    advice = f"set model.quantization: {kind}, or take" if kind in get_args(Quantization) else "take"
    raise InputError(
        f"{name} is stored quantized ({kind}), and model.quantization is {config.quantization}",
        f"{advice} the 16-bit version of the model, which loading quantizes as the config says",
    )


def stored_quantization(hf_config: Any) -> dict[str, Any]:
    """Return how the files hold the weights quantized, as their config says it; empty: they hold them whole."""
    stored = getattr(hf_config, "quantization_config", None) or {}
    return stored if isinstance(stored, dict) else dict(stored.to_dict())


def release_weight_file(model: torch.nn.Module) -> None:
    """Copy what was not quantized: tensors of the file's own type are views of the mapped file, all of which counts.

    An unquantized model stays mapped, as its pages are all in use and the system can take them back.
    """
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.is_floating_point():
            tensor.data = tensor.data.clone()


def refuse_rows_dequantized_wrongly(model: torch.nn.Module, name: str) -> None:
    """Refuse 4-bit rows that do not fill whole blocks, on CPUs with AVX-512.

    The kernel of bitsandbytes 0.50 for these takes the constants of other blocks there: errors of half the largest
    weight, without a word (docs/footguns.md). Published models have rows of whole blocks.
    """
    odd = next((layer for layer in four_bit_layers(model) if layer.in_features % WEIGHTS_PER_BLOCK), None)
    if odd is not None and torch.backends.cpu.get_cpu_capability() == "AVX512":
        raise InputError(
            f"{name} has layers with {odd.in_features} inputs, no multiple of {WEIGHTS_PER_BLOCK}: bitsandbytes' 4-bit "
            "code for this CPU (AVX-512) computes such layers wrongly",
            "set model.quantization: int8 or none, or use a GPU",
        )


def keep_weights_differentiable(model: torch.nn.Module) -> None:
    """Stop bitsandbytes from repacking 4-bit weights on CPUs with AVX512-BF16.

    In 0.50 one forward pass in eval mode repacks the weights for good: later training forward passes then have no
    gradient (``matmul_4bit`` takes a kernel without a backward) and the constants are rounded to bfloat16, so that
    validation would score other weights than training sees. See docs/footguns.md.
    """
    for layer in four_bit_layers(model):
        layer.support_avx512bf16_for_cpu = False


def num_unquantized(base: Any) -> int:
    """Count the weights of a quantized base that are not: those of matrices that are no linear layers.

    bitsandbytes quantizes linear layers only. Embedding and output layer always stay as they are and do not count, nor
    do norms and biases; what does are the experts of a mixture, which are parameters.
    """
    tables = {
        id(layer.weight) for layer in (base.get_input_embeddings(), base.get_output_embeddings()) if layer is not None
    }
    return sum(
        parameter.numel()
        for parameter in base.parameters()
        if parameter.dim() > 1 and parameter.is_floating_point() and id(parameter) not in tables
    )


def tell_unquantized(base: Any, config: ModelConfig, dtype: torch.dtype) -> None:
    """Say where much of a base stays unquantized although the config quantizes it."""
    count, total = num_unquantized(base), num_parameters(base)
    if config.quantization != "none" and count > _NOTEWORTHY_SHARE * total:
        console.warn(
            f"model.quantization: {config.quantization} takes linear layers only: {count:,} of {total:,} weights (the "
            f"experts of a mixture, as a rule) stay {dtype_name(dtype)}, "
            f"{count * dtype.itemsize / 2**30:.2f} GiB"
        )


def num_parameters(model: torch.nn.Module) -> int:
    """Count parameters; a 4-bit weight counts as many as it stands for."""
    return sum(p.quant_state.shape.numel() if hasattr(p, "quant_state") else p.numel() for p in model.parameters())


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
    layers = four_bit_layers(model)
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
    layers = four_bit_layers(model)
    if not layers:
        return 0
    import bitsandbytes as bnb

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


def dense_weight(layer: Any) -> torch.Tensor | None:
    """Return a quantized layer's weight ``(out, in)`` float32, by bitsandbytes' own code; None: it is not quantized."""
    weight, state = getattr(layer, "weight", None), getattr(layer, "state", None)
    if getattr(weight, "quant_state", None) is not None:
        import bitsandbytes as bnb

        in_float32 = copy.copy(layer.weight.quant_state)
        in_float32.dtype = torch.float32  # otherwise it is rounded to the type of the products
        dense: torch.Tensor = bnb.functional.dequantize_4bit(layer.weight.data, in_float32)
        return dense
    values, scales = getattr(state, "CB", None), getattr(state, "SCB", None)
    if scales is None:  # as before the first forward pass
        values, scales = getattr(weight, "data", None), getattr(weight, "SCB", None)
    return None if values is None or scales is None else values.float() * (scales.float() / 127)[:, None]


def four_bit_layers(model: torch.nn.Module) -> list[Any]:
    """Return the layers that bitsandbytes holds in 4 bits."""
    return _layers_of(model, "Linear4bit")


def eight_bit_layers(model: torch.nn.Module) -> list[Any]:
    """Return the layers that bitsandbytes holds in 8 bits."""
    return _layers_of(model, "Linear8bitLt")


def _layers_of(model: torch.nn.Module, name: str) -> list[Any]:
    # Where nobody has imported the package, which may not be there, no model has its layers.
    bnb: Any = sys.modules.get("bitsandbytes")
    return [] if bnb is None else [module for module in model.modules() if isinstance(module, getattr(bnb.nn, name))]


def quantize_without_content(base: Any, config: ModelConfig, dtype: torch.dtype) -> None:
    """Put bitsandbytes' layers where loading the model would, with weights on the default device: the meta device.

    Args:
        base: the model, on the meta device.
        config: the quantization.
        dtype: of the matrix products.
    """
    settings = quantization_config(config, dtype, sharded=False)
    if settings is None:
        return
    from transformers.quantizers.auto import AutoHfQuantizer

    separate_experts(base)
    AutoHfQuantizer.from_config(settings, pre_quantized=False).preprocess_model(model=base, device_map={"": "cpu"})
    base.is_loaded_in_4bit = config.quantization in ("nf4", "fp4")
    base.is_loaded_in_8bit = config.quantization == "int8"
    give_empty_weights(base, config, dtype)


def give_empty_weights(base: Any, config: ModelConfig, dtype: torch.dtype) -> None:
    """Give bitsandbytes' layers weights of the size that quantization makes, on the default device."""
    import bitsandbytes as bnb

    for module in base.modules():
        if isinstance(module, bnb.nn.Linear4bit):
            _give_four_bit_weight(module, config, dtype)
        elif isinstance(module, bnb.nn.Linear8bitLt):
            values = torch.empty(module.out_features, module.in_features, dtype=torch.int8)
            weight: Any = torch.nn.Parameter(values, requires_grad=False)
            weight.CB = weight.SCB = None  # as after the first forward pass, which hands them to the layer's state
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
