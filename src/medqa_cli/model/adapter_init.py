"""What a fresh adapter starts from: nothing, the error of 4-bit quantization (LoftQ), or the base's main directions.

LoftQ (arXiv 2310.08659, one step): B A is the best approximation of rank r to what quantization took away, so that the
model starts nearer to the unquantized one. The base stays the 4-bit base that everyone loads. PEFT's own
``replace_lora_weights_loftq`` needs a GPU and leaves the scaling out of account, so that only adapters with
lora_alpha = r start where they should.

PiSSA (arXiv 2404.02948): B A are the main r directions of the weight, which is left with the rest. So that the adapter
works on the untouched base, it is saved as the difference from its start, at twice the rank (``as_plain_lora``). Of an
unquantized base only: a 4-bit one would have to be quantized again without these directions, and nobody could load it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from medqa_cli import console
from medqa_cli.config.schema import LoraConfig, ModelConfig
from medqa_cli.errors import InputError
from medqa_cli.model.base_folder import base_folder
from medqa_cli.model.source import BaseSource
from medqa_cli.model.weight_files import WeightFiles

_PEFT_PREFIX = "base_model.model."
_NAME = "default"


def check_init(model: ModelConfig, lora: LoraConfig, *, sharded: bool) -> None:
    """Check that the start of the adapter goes with the base.

    Raises:
        InputError: it does not.
    """
    start = lora.init_lora_weights
    if start == "default":
        return
    key = f"lora.init_lora_weights: {start}"
    if start == "loftq" and model.quantization not in ("nf4", "fp4"):
        raise InputError(
            f"{key} makes up for 4-bit quantization, and model.quantization is {model.quantization}",
            "set model.quantization: nf4, or lora.init_lora_weights: default",
        )
    if start == "pissa" and model.quantization != "none":
        raise InputError(
            f"{key} takes directions out of the base's weights, which 4- and 8-bit weights cannot give up",
            "set model.quantization: none, or lora.init_lora_weights: loftq, which goes with 4 bits",
        )
    if lora.use_dora:
        raise InputError(f"{key} and lora.use_dora exclude each other", "leave one of them out")
    if sharded:
        raise InputError(f"{key} needs whole weights, which FSDP divides", "set lora.init_lora_weights: default")


def init_adapter(model: Any, lora: LoraConfig, source: BaseSource) -> None:
    """Let a fresh adapter start where the config says; ``default`` is PEFT's: B is zero.

    Args:
        model: the PEFT model on its base.
        lora: section of the config.
        source: the base; LoftQ reads its unquantized weights, a layer at a time.

    Raises:
        InputError: the files of the base do not hold a weight that LoftQ needs.
    """
    if lora.init_lora_weights == "default":
        return
    files = WeightFiles.open(base_folder(source)) if lora.init_lora_weights == "loftq" else None
    with console.status(f"{lora.init_lora_weights}: decomposing weights ...") as show, torch.no_grad():
        for path, layer in _adapted(model):
            show(f"{lora.init_lora_weights}: decomposing {path} ...")
            if files is not None:
                _start_from(layer, _original(files, path, source).to(layer.weight.device) - _dequantized(layer))
            else:
                weight = layer.get_base_layer().weight
                _start_from(layer, weight.float())
                layer.pissa_start = tuple(matrix.detach().clone() for matrix in _matrices(layer))
                a, b = layer.pissa_start
                weight.data -= (layer.scaling[_NAME] * (b @ a)).to(weight.dtype)


def as_plain_lora(model: Any, weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor] | None:
    """Return the weights of an adapter to the untouched base, at twice the rank; None where they are that already.

    s B A - s B0 A0 = s [B, -B0] [A; A0]: the file keeps the scaling s, so lora_alpha grows with the rank.

    Args:
        model: the PEFT model that was trained.
        weights: its adapter's tensors, named as in the file.
    """
    starts = {path: layer.pissa_start for path, layer in _adapted(model) if hasattr(layer, "pissa_start")}
    if not starts:
        return None
    plain = dict(weights)
    for path, (a, b) in starts.items():
        names = (f"{_PEFT_PREFIX}{path}.lora_A.weight", f"{_PEFT_PREFIX}{path}.lora_B.weight")
        own_a, own_b = (weights[name] for name in names)
        plain[names[0]] = torch.cat([own_a, a.to(own_a)], 0).contiguous()
        plain[names[1]] = torch.cat([own_b, -b.to(own_b)], 1).contiguous()
    return plain


def plain_lora_config(config: dict[str, Any]) -> dict[str, Any]:
    """Return ``adapter_config.json`` for what ``as_plain_lora`` makes: rank doubled, scaling unchanged."""
    factor = math.sqrt(2) if config.get("use_rslora") else 2
    return {**config, "r": 2 * config["r"], "lora_alpha": factor * config["lora_alpha"]}


def _adapted(model: Any) -> Iterator[tuple[str, Any]]:
    for name, module in model.named_modules():
        if _NAME in getattr(module, "lora_A", {}):
            yield name.removeprefix(_PEFT_PREFIX), module


def _matrices(layer: Any) -> tuple[torch.Tensor, torch.Tensor]:
    return layer.lora_A[_NAME].weight, layer.lora_B[_NAME].weight


def _start_from(layer: Any, wanted: torch.Tensor) -> None:
    """Set A and B so that scaling * B A is the best approximation to ``wanted``, ``(out, in)`` float32."""
    a, b = _matrices(layer)
    u, s, vh = torch.linalg.svd(wanted, full_matrices=False)
    rank = min(len(a), len(s))
    root = (s[:rank] / layer.scaling[_NAME]).sqrt()
    a.zero_()
    b.zero_()
    a[:rank] = root[:, None] * vh[:rank]
    b[:, :rank] = u[:, :rank] * root


def _dequantized(layer: Any) -> torch.Tensor:
    import bitsandbytes as bnb

    weight = layer.get_base_layer().weight
    dense: torch.Tensor = bnb.functional.dequantize_4bit(weight.data, weight.quant_state)
    return dense.float()


def _original(files: WeightFiles, path: str, source: BaseSource) -> torch.Tensor:
    name = f"{path}.weight"
    if name not in files.tensors:
        raise InputError(
            f"lora.init_lora_weights: loftq: the files of {source.name} hold no {name}", "set it to default"
        )
    return files.whole(name).float()
