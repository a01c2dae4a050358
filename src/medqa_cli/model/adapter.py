"""LoRA adapters on a frozen base: adding, loading, saving, and whether they change anything.

Does not train or merge them.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch

from medqa_cli import console, hub
from medqa_cli.config.schema import LoraConfig, ModelConfig
from medqa_cli.errors import InputError
from medqa_cli.model.adapter_config import read_adapter_config, refuse_endless_patterns
from medqa_cli.model.adapter_effect import ADAPTER_CONFIG_NAME, check_effect
from medqa_cli.model.adapter_targets import find_targets
from medqa_cli.model.base import load_base, load_tokenizer
from medqa_cli.model.loading import loading
from medqa_cli.model.parity import settle_way
from medqa_cli.model.source import BaseSource, find_base
from medqa_cli.model.weight_headers import adapter_file, pytorch_tensors, safetensors_tensors
from medqa_cli.prompt.encoder import PromptContract

_OTHER_BASE = "it was trained on another base, or on one with a resized vocabulary: take that one"


def add_lora(model: Any, config: LoraConfig, base_name: str, revision: str | None) -> Any:
    """Put fresh LoRA layers on ``model``. What is trained is float32: bfloat16 loses small updates, float16 overflows.

    Raises:
        InputError: a target module does not exist, or biases cannot be trained.
    """
    from peft import LoraConfig as PeftLoraConfig
    from peft import get_peft_model

    targets = find_targets(model, config)
    peft_config = PeftLoraConfig(
        r=config.r,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        target_modules=targets.modules,
        exclude_modules=targets.excluded,
        use_rslora=config.use_rslora,
        use_dora=config.use_dora,
        bias=config.bias,
        task_type="CAUSAL_LM",
    )
    _refuse_dora_on_int8_cpu(model, config.use_dora)
    try:
        adapted = get_peft_model(model, peft_config)
    except ValueError as error:
        raise InputError(f"lora.target_modules: {str(error).splitlines()[0]}") from error
    _refuse_narrow_biases(adapted)
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    # The name that the user gave, not a path in this machine's cache.
    adapted.peft_config["default"].base_model_name_or_path = base_name
    adapted.peft_config["default"].revision = revision
    return adapted


def _refuse_narrow_biases(model: Any) -> None:
    # bitsandbytes (0.50, Linear4bit.forward) turns a bias into the type of the products, in place and for good.
    for name, module in model.named_modules():
        is_narrow = getattr(module, "compute_dtype", None) in (torch.bfloat16, torch.float16)
        bias = getattr(module, "bias", None)
        if is_narrow and isinstance(bias, torch.Tensor) and bias.requires_grad:
            raise InputError(
                f"lora.bias: the bias of the 4-bit layer {name} would be trained in 16 bits",
                "set lora.bias to none, or model.quantization to none",
            )


def load_adapter(model: Any, adapter_dir: Path) -> Any:
    """Put a trained adapter on its base.

    Raises:
        InputError: the adapter does not fit the base or is damaged.
    """
    from peft import PeftModel

    config = read_adapter_config(adapter_dir)
    refuse_endless_patterns(config, [name for name, _ in model.named_modules()], adapter_dir)
    _refuse_absent_weights(config, adapter_dir)
    with loading("adapter", adapter_dir, _OTHER_BASE), warnings.catch_warnings():
        # ``check_effect`` makes an error of it.
        warnings.filterwarnings("ignore", "Found missing adapter keys")
        adapted = PeftModel.from_pretrained(model, str(adapter_dir)).eval()
    _refuse_dora_on_int8_cpu(model, adapted.peft_config["default"].use_dora)
    with loading("adapter", adapter_dir, _OTHER_BASE):
        check_effect(adapted, adapter_dir)
    return adapted


def _refuse_absent_weights(config: dict[str, Any], adapter_dir: Path) -> None:
    """Refuse ranks that no matrix in the file has: PEFT makes the matrices first, of whatever size.

    Where there is no file at all, PEFT would take the folder for a repository of the hub.
    """
    path = adapter_file(adapter_dir)
    if path.suffix == ".safetensors":
        shapes = {tensor.name: tensor.shape for tensor in safetensors_tensors(path)}
    else:
        shapes = {name: tuple(tensor.shape) for name, tensor in pytorch_tensors(path).items()}
    ranks = {shape[0] for name, shape in shapes.items() if "lora_A" in name or "lora_embedding_A" in name if shape}
    wanted = {config["r"], *(config.get("rank_pattern") or {}).values()}
    if ranks and max(wanted) > max(ranks):
        raise InputError(
            f"the adapter in {adapter_dir} contradicts itself: its config speaks of rank {max(wanted):,}, its matrices "
            f"have {max(ranks):,} at most",
            "restore adapter_config.json, or train again",
        )


def _refuse_dora_on_int8_cpu(model: Any, use_dora: bool) -> None:
    # PEFT 0.21 (dequantize_module_weight) drops the constants of int8 weights there: the second forward fails.
    if use_dora and getattr(model, "is_loaded_in_8bit", False) and model.device.type == "cpu":
        raise InputError(
            "lora.use_dora with model.quantization int8 works on a GPU only", "set model.quantization to nf4 or none"
        )


def all_finite(model: Any) -> bool:
    """Tell whether every trained parameter is a finite number."""
    return all(bool(p.detach().isfinite().all()) for p in model.parameters() if p.requires_grad)


def base_of_adapter(adapter_dir: Path) -> BaseSource:
    """Find the base model that an adapter was trained on.

    Raises:
        InputError: there is no adapter, or its base is not there.
    """
    config = read_adapter_config(adapter_dir)
    name = config.get("base_model_name_or_path")
    if not name:
        path = adapter_dir / ADAPTER_CONFIG_NAME
        raise InputError(f"{path} is damaged: it names no base model", "train again, or restore the file")
    return find_base(name, config.get("revision"), named_by=f"the base that {adapter_dir} names", by_user=False)


def load_tuned(
    adapter_dir: Path,
    config: ModelConfig,
    device: torch.device,
    dtype: torch.dtype,
    *,
    packed: bool,
    batches: bool = False,
) -> tuple[Any, Any, PromptContract]:
    """Load base + adapter, the adapter's tokenizer and its prompt contract; arguments as of ``load_base``.

    Raises:
        InputError: any of them is missing or damaged.
    """
    hub.name_repository(config.name_or_path)
    source = base_of_adapter(adapter_dir)
    if config.name_or_path not in (None, source.name):
        console.warn(
            f"the adapter was trained on {source.name}, which is used; model.name_or_path is {config.name_or_path}"
        )
    contract = PromptContract.load(adapter_dir)
    tokenizer = load_tokenizer(str(adapter_dir))
    model = load_adapter(load_base(source, config, device, dtype, packed=packed, batches=batches), adapter_dir)
    if packed:
        settle_way(model, source.name, dtype, trains=False)
    return model, tokenizer, contract
