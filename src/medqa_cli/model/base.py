"""Loading a base model and its tokenizer, quantized by bitsandbytes where the config says so.

Does not add adapters: ``adapter`` does.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any, get_args

import torch

from medqa_cli import console, hub
from medqa_cli.config.schema import ModelConfig, Quantization
from medqa_cli.errors import InputError
from medqa_cli.model.answer_loss import install_answer_losses
from medqa_cli.model.attention import own_attention, use_packed_attention
from medqa_cli.model.base_folder import base_folder, described_folder
from medqa_cli.model.config_file import CONFIG_NAME, check_config, check_layer_types
from medqa_cli.model.dequantized import dequantize_layers, gains_from_dequantizing
from medqa_cli.model.loaded_weights import LoadedWeights, watching_quantization
from medqa_cli.model.loading import loading
from medqa_cli.model.parity import settle_way
from medqa_cli.model.source import BaseSource
from medqa_cli.model.tokenizer_file import check_tokenizer
from medqa_cli.model.weight_headers import check_weight_files

# Transformers' and bitsandbytes' defaults (Params4bit; quantize_4bit with compress_statistics), which loading uses.
WEIGHTS_PER_BLOCK = 64
CONSTANTS_PER_BLOCK = 256


def quiet_libraries() -> None:
    """Silence the notices and bars of Transformers: medqa says itself what it is doing."""
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    hub.ask_only_what_is_named()


def load_tokenizer(location: str, revision: str | None = None) -> Any:
    """Load the tokenizer of a hub id or folder.

    Raises:
        InputError: there is none, or it is damaged or cannot be used.
    """
    from transformers import AutoTokenizer

    quiet_libraries()
    folder = described_folder(location, revision, "tokenizer")
    if (folder / CONFIG_NAME).is_file():
        check_config(folder)  # Transformers reads it for the tokenizer as well
    check_tokenizer(folder)
    with loading("tokenizer", location):
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        # Some values are only read when it is used.
        tokenizer.decode(tokenizer("How are you?")["input_ids"])
    return tokenizer


def load_config(location: str, revision: str | None = None) -> Any:
    """Load the Transformers config of the model in a hub id or folder.

    Raises:
        InputError: there is none, or it is damaged or does not go with the weight files.
    """
    from transformers import AutoConfig

    quiet_libraries()
    folder = described_folder(location, revision, "config")
    check_config(folder)
    with loading("config", location):
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        check_layer_types(folder, config.get_text_config())
    return config


def num_embeddings(hf_config: Any) -> int | None:
    """Return how many token ids a model has embeddings for, as its config says; None: it does not say."""
    found = getattr(hf_config.get_text_config(), "vocab_size", None)
    return found if isinstance(found, int) else None


def load_base(
    source: BaseSource,
    config: ModelConfig,
    device: torch.device,
    dtype: torch.dtype,
    *,
    packed: bool,
    settled: bool = False,
    batches: bool = False,
    sharded: bool = False,
) -> Any:
    """Load the frozen base model on one device.

    Args:
        source: where it lies.
        config: precision of the weights.
        device: where it goes.
        dtype: type of the unquantized tensors and of the matrix products.
        packed: for padding-free forwards (training, likelihoods) rather than for generation, of several examples at
            once where the architecture takes that; whether its numbers are right then is to be proven (``parity``).
        settled: it is to be scored as it is: its way of computing several examples is settled at once.
        batches: for generation, of many answers at once.
        sharded: leave it in host memory, in a form that FSDP can divide among devices, which takes each layer
            from there.

    Returns:
        A Transformers causal language model in eval mode; no parameter requires a gradient.

    Raises:
        InputError: the model is not there, cannot be loaded, lacks weights, has some that are not numbers, or would be
            computed wrongly on this CPU.
    """
    from transformers import AutoModelForCausalLM

    quiet_libraries()
    hf_config = load_config(source.location, source.revision)
    _refuse_other_quantization(hf_config, config, source.name)
    folder = base_folder(source)
    check_weight_files(folder)
    status = console.status(f"loading {source.name} ...")
    # Watching imports bitsandbytes, which takes a second and is not needed for whole weights.
    watching = nullcontext(LoadedWeights()) if config.quantization == "none" else watching_quantization()
    with status, loading("model", source.location), watching as weights:
        model, info = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=dtype,
            device_map={"": "cpu" if sharded else str(device)},
            quantization_config=quantization_config(config, dtype, sharded=sharded),
            attn_implementation=own_attention(hf_config),
            trust_remote_code=False,
            local_files_only=True,
            # Otherwise an error in the words of Transformers; ``check`` says more.
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    weights.check(model, info, source.name)
    model.requires_grad_(False)
    if config.quantization != "none" and device.type == "cpu" and not sharded:
        _let_go_of_file(model)
    if device.type == "cpu" and getattr(model, "is_loaded_in_4bit", False):
        _refuse_rows_dequantized_wrongly(model, source.name)
    if packed:
        _keep_weights_differentiable(model)
        install_answer_losses(model)
        use_packed_attention(model)
    elif gains_from_dequantizing(model, device, dtype, batches=batches):
        dequantize_layers(model, dtype)
    model.eval()
    if settled:
        settle_way(model, source.name, dtype, trains=False, fuses=False)
    return model


def quantization_config(config: ModelConfig, dtype: torch.dtype, *, sharded: bool) -> Any:
    """Return what Transformers is told of the quantization; None: there is none. Arguments as of ``load_base``."""
    from transformers import BitsAndBytesConfig

    if config.quantization == "none":
        return None
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


def _refuse_other_quantization(hf_config: Any, config: ModelConfig, name: str) -> None:
    """Refuse weights that are stored quantized in another way than the config says.

    Transformers goes by the files, or takes their 8-bit integers for weights where no quantization is asked for.
    """
    stored = getattr(hf_config, "quantization_config", None)
    stored = stored if isinstance(stored, dict) else stored and stored.to_dict()
    if not stored:
        return
    kind = str(stored.get("quant_method"))
    if kind == "bitsandbytes":
        kind = str(stored.get("bnb_4bit_quant_type", "fp4")) if stored.get("load_in_4bit") else "int8"
    if kind == config.quantization:
        console.warn(f"{name} is stored quantized ({kind}): an adapter for it can be trained and used, but not merged")
        return
    own = f"set model.quantization: {kind}, or take" if kind in get_args(Quantization) else "take"
    raise InputError(
        f"{name} is stored quantized ({kind}), and model.quantization is {config.quantization}",
        f"{own} the 16-bit version of the model, which loading quantizes as the config says",
    )


def _let_go_of_file(model: torch.nn.Module) -> None:
    """Copy what was not quantized: tensors of the file's own type are views of the mapped file, all of which counts.

    An unquantized model stays mapped, as its pages are all in use and the system can take them back.
    """
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.is_floating_point():
            tensor.data = tensor.data.clone()


def _refuse_rows_dequantized_wrongly(model: torch.nn.Module, name: str) -> None:
    """Refuse 4-bit rows that do not fill whole blocks, on CPUs with AVX-512.

    The kernel of bitsandbytes 0.50 for these takes the constants of other blocks there: errors of half the largest
    weight, without a word (docs/footguns.md). Published models have rows of whole blocks.
    """
    import bitsandbytes as bnb

    layers = (module for module in model.modules() if isinstance(module, bnb.nn.Linear4bit))
    odd = next((layer for layer in layers if layer.in_features % WEIGHTS_PER_BLOCK), None)
    if odd is not None and torch.backends.cpu.get_cpu_capability() == "AVX512":
        raise InputError(
            f"{name} has layers with {odd.in_features} inputs, no multiple of {WEIGHTS_PER_BLOCK}: bitsandbytes' 4-bit "
            "code for this CPU (AVX-512) computes such layers wrongly",
            "set model.quantization: int8 or none, or use a GPU",
        )


def _keep_weights_differentiable(model: torch.nn.Module) -> None:
    """Stop bitsandbytes from repacking 4-bit weights on CPUs with AVX512-BF16.

    In 0.50 one forward in eval mode repacks the weights for good: later training forwards then have no gradient
    (``matmul_4bit`` takes a kernel without a backward) and the constants are rounded to bfloat16, so that validation
    would score other weights than training sees. See docs/footguns.md.
    """
    import bitsandbytes as bnb

    for module in model.modules():
        if isinstance(module, bnb.nn.Linear4bit):
            module.support_avx512bf16_for_cpu = False
