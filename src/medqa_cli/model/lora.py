"""Fresh LoRA adapters: the layers that get one, and what they start from.

PEFT knows the attention layers of some architectures by name and fails on others; what it makes of the experts of a
mixture cannot be merged; and it takes layers outside of the language model, which get no gradient.

LoftQ (arXiv 2310.08659, one step): B A is the best approximation of rank r to what quantization took away, so that the
model starts nearer to the unquantized one. The base stays the 4-bit base that everyone loads. PEFT's own
``replace_lora_weights_loftq`` needs a GPU and ignores the scaling, so that only adapters with lora_alpha = r start
where they should.

PiSSA (arXiv 2404.02948): B A are the main r directions of the weight, which is left with the rest. So that the adapter
works on the untouched base, it is saved as the difference from its start, at twice the rank (``as_plain_lora``). Of an
unquantized base only: a 4-bit one would have to be quantized again without these directions, and nobody could load it.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from medqa_cli import console
from medqa_cli.config.schema import LoraConfig, ModelConfig
from medqa_cli.errors import InputError, first_line
from medqa_cli.model.experts import experts_of
from medqa_cli.model.resolve import ModelRef, base_folder
from medqa_cli.model.weights import WeightFiles
from medqa_cli.spelling import did_you_mean

# The layers of attention that PEFT takes in Llama and its kin, and what they are called where they are one layer.
_QUERY_AND_VALUE = (("q_proj", "v_proj"), ("qkv_proj",), ("query_key_value",), ("Wqkv",), ("c_attn",))
_PEFT_PREFIX = "base_model.model."
_NAME = "default"


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
    refuse_dora_on_int8_cpu(model, config.use_dora)
    try:
        adapted = get_peft_model(model, peft_config)
    except ValueError as error:
        raise InputError(f"lora.target_modules: {first_line(error)}") from error
    for name, module in adapted.named_modules():
        # bitsandbytes (0.50, Linear4bit.forward) turns a bias into the type of the products, in place and for good.
        is_narrow = getattr(module, "compute_dtype", None) in (torch.bfloat16, torch.float16)
        bias = getattr(module, "bias", None)
        if is_narrow and isinstance(bias, torch.Tensor) and bias.requires_grad:
            raise InputError(
                f"lora.bias: the bias of the 4-bit layer {name} would be trained in 16 bits",
                "set lora.bias to none, or model.quantization to none",
            )
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    # The name that the user gave, not a path in this machine's cache.
    adapted.peft_config["default"].base_model_name_or_path = base_name
    adapted.peft_config["default"].revision = revision
    return adapted


def write_adapter(model: Any, folder: Path, weights: Mapping[str, torch.Tensor] | None) -> None:
    """Write a model's adapter as PEFT does, with equal bytes for equal runs.

    Args:
        model: the PEFT model.
        folder: where; made where it is missing.
        weights: the trained parameters of a model that lies in parts on several ranks; None: the model has them whole.
    """
    config = model.peft_config[_NAME]
    for key in ("target_modules", "exclude_modules"):
        # A set, which PEFT would write in another order in each process.
        if isinstance(names := getattr(config, key), set):
            setattr(config, key, sorted(names))
    # save_embedding_layers=False: otherwise PEFT asks the hub whether the vocabulary was resized.
    model.save_pretrained(str(folder), state_dict=weights, save_embedding_layers=False)


def refuse_dora_on_int8_cpu(model: Any, use_dora: bool) -> None:
    """Refuse DoRA layers on int8 weights in a CPU's memory.

    Raises:
        InputError: they are.
    """
    # PEFT 0.21 (dequantize_module_weight) drops the constants of int8 weights there: the second forward pass fails.
    if use_dora and getattr(model, "is_loaded_in_8bit", False) and model.device.type == "cpu":
        raise InputError(
            "lora.use_dora with model.quantization int8 works on a GPU only", "set model.quantization to nf4 or none"
        )


def all_finite(model: Any) -> bool:
    """Tell whether every trained parameter is a finite number."""
    return all(bool(p.detach().isfinite().all()) for p in model.parameters() if p.requires_grad)


@dataclass(frozen=True)
class Targets:
    """The layers to adapt, as PEFT takes them, and a note for the user.

    ``modules``: names of layers, or ``all-linear``; ``excluded``: a regular expression of layers to leave alone;
    ``note``: where it is not what the config says.
    """

    modules: str | list[str]
    excluded: str | None = None
    note: str = ""


def find_targets(model: Any, config: LoraConfig) -> Targets:
    """Find the layers of ``model`` that the config means.

    Raises:
        InputError: it names the experts of a mixture, which are parameters and no layers, or what is not there.
    """
    from transformers.pytorch_utils import Conv1D

    layers = (torch.nn.Linear, Conv1D)
    # Experts that quantization made layers of their own stay as they are, like those that are parameters.
    inside_experts = tuple(f"{name}." for name in experts_of(model))
    names = [
        name
        for name, module in model.named_modules()
        if isinstance(module, layers) and not name.startswith(inside_experts)
    ]
    if config.target_modules == "auto":
        targets = _automatic(model, names)
    elif config.target_modules == "all-linear":
        targets = _all_but_experts(model, names)
    else:
        targets = Targets(list(config.target_modules))
        lost = sorted(set(config.target_modules) - set(_as_peft_takes(model, config.target_modules)))
        if lost:
            raise InputError(
                f"lora.target_modules: {', '.join(lost)} are the experts of {model.config.model_type}: parameters and "
                "no linear layers, whose adapters cannot be merged",
                "leave them out, such as [q_proj, k_proj, v_proj, o_proj]; or set all-linear, which does",
            )
        present = {name for name, _ in model.named_modules()}
        for wanted in config.target_modules:
            # As PEFT matches them: the whole name, or its end behind a dot.
            if not any(name == wanted or name.endswith(f".{wanted}") for name in present):
                known = sorted({name.rpartition(".")[2] for name in names})
                raise InputError(
                    f"lora.target_modules: no layer of {model.config.model_type} is called {wanted}"
                    f"{did_you_mean(wanted, known)}",
                    f"its linear layers: {', '.join(known)}",
                )
    # Text alone is learned here, so that linear layers beside the language model have no part in it: a vision tower and
    # what joins it.
    decoder, output, modules = model.get_decoder(), model.get_output_embeddings(), dict(model.named_modules())
    inside = next((name for name, module in modules.items() if module is decoder), "")
    outside = [name for name in names if not name.startswith(f"{inside}.") and modules[name] is not output]
    return replace(targets, excluded=rf"(?!{re.escape(inside)}\.).*" if inside and outside else None)


def _automatic(model: Any, names: Sequence[str]) -> Targets:
    """Return PEFT's choice for the architecture; where it has none, the same layers of attention by their names."""
    from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING

    kind = str(model.config.model_type)
    leaves = {name.rpartition(".")[2] for name in names}
    known = _as_peft_takes(model, TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING.get(kind, []))
    if leaves & set(known):
        return Targets(known)
    note = f"lora.target_modules: auto: PEFT names no layers for {kind};"
    for group in _QUERY_AND_VALUE:
        if leaves.issuperset(group):
            return Targets(list(group), note=f"{note} {' and '.join(group)} get an adapter")
    return replace(_all_but_experts(model, names), note=f"{note} all linear layers get an adapter")


def _all_but_experts(model: Any, names: Sequence[str]) -> Targets:
    """Return all linear layers but the output layer; of a mixture those that PEFT does not take for its experts."""
    output, modules = model.get_output_embeddings(), dict(model.named_modules())
    leaves = sorted({name.rpartition(".")[2] for name in names if modules[name] is not output})
    kept = _as_peft_takes(model, leaves)
    if kept == leaves and not experts_of(model) and _as_peft_takes(model, "all-linear"):
        return Targets("all-linear")
    note = (
        f"lora.target_modules: all-linear: {', '.join(kept)} get an adapter; experts are not linear layers and get none"
    )
    return Targets(kept, note=note)


def _as_peft_takes(model: Any, modules: Sequence[str]) -> list[str]:
    """Return those names that PEFT takes for layers: in some mixtures it makes parameters of the others.

    ``all-linear`` as it is where it takes layers only, else nothing.
    """
    from peft import LoraConfig as PeftLoraConfig
    from peft.utils.transformers_weight_conversion import convert_peft_config_for_transformers

    trial = PeftLoraConfig(target_modules=modules if isinstance(modules, str) else list(modules))
    try:
        convert_peft_config_for_transformers(trial, model, None)
    except ValueError:  # some, but not all, of the names that stand for one parameter
        return [name for name in modules if len(modules) > 1 and _as_peft_takes(model, [name])]
    if isinstance(modules, str):
        return [] if trial.target_parameters else [modules]
    return [name for name in modules if name in (trial.target_modules or ())]


def check_init(model: ModelConfig, lora: LoraConfig, *, sharded: bool) -> None:
    """Check that the adapter's initialization is compatible with the base.

    Raises:
        InputError: it is not compatible.
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


def init_adapter(model: Any, lora: LoraConfig, source: ModelRef) -> None:
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
    import bitsandbytes as bnb

    files = WeightFiles.open(base_folder(source)) if lora.init_lora_weights == "loftq" else None
    with console.status(f"{lora.init_lora_weights}: decomposing weights ...") as show, torch.no_grad():
        for path, layer in _adapted(model):
            show(f"{lora.init_lora_weights}: decomposing {path} ...")
            weight = layer.get_base_layer().weight
            if files is not None:
                if f"{path}.weight" not in files.tensors:
                    raise InputError(
                        f"lora.init_lora_weights: loftq: the files of {source.name} hold no {path}.weight",
                        "set it to default",
                    )
                quantized = bnb.functional.dequantize_4bit(weight.data, weight.quant_state).float()
                _start_from(layer, files.whole(f"{path}.weight").float().to(quantized.device) - quantized)
            else:
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
