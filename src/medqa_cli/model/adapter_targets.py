"""Which layers of a base get an adapter: what ``lora.target_modules`` means for its architecture.

PEFT knows the attention layers of some architectures by name and fails on others; what it makes of the experts of a
mixture cannot be merged; and it takes layers outside of the language model, which get no gradient. Does not add
adapters (``adapter`` does).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from medqa_cli.config.schema import LoraConfig
from medqa_cli.errors import InputError

# The layers of attention that PEFT takes in Llama and its kin, and what they are called where they are one layer.
_QUERY_AND_VALUE = (("q_proj", "v_proj"), ("qkv_proj",), ("query_key_value",), ("Wqkv",), ("c_attn",))


@dataclass(frozen=True)
class Targets:
    """What PEFT is told, and what the user is told of it.

    ``modules``: names of layers, or ``all-linear``; ``excluded``: a regular expression of layers to leave alone;
    ``note``: where it is not what the config says.
    """

    modules: str | list[str]
    excluded: str | None = None
    note: str = ""


def find_targets(model: Any, config: LoraConfig) -> Targets:
    """Find the layers of ``model`` that the config means.

    Raises:
        InputError: it names the experts of a mixture, which are parameters and no layers.
    """
    names = _linear_names(model)
    if config.target_modules == "auto":
        found = _automatic(model, names)
    elif config.target_modules == "all-linear":
        found = _all_but_experts(model, names)
    else:
        found = Targets(list(config.target_modules))
        _refuse_experts(model, config.target_modules)
    return replace(found, excluded=_outside_of_language_model(model, names))


def _automatic(model: Any, names: Sequence[str]) -> Targets:
    """Return PEFT's choice for the architecture; where it has none, the same layers of attention by their names."""
    from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING

    kind = str(model.config.model_type)
    leaves = {name.rpartition(".")[2] for name in names}
    known = _as_peft_takes(model, TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING.get(kind, []))
    if leaves & set(known):
        return Targets(known)
    said = f"lora.target_modules: auto: PEFT names no layers for {kind};"
    for group in _QUERY_AND_VALUE:
        if leaves.issuperset(group):
            return Targets(list(group), note=f"{said} {' and '.join(group)} get an adapter")
    return replace(_all_but_experts(model, names), note=f"{said} all linear layers get an adapter")


def _all_but_experts(model: Any, names: Sequence[str]) -> Targets:
    """Return all linear layers but the output layer; of a mixture those that PEFT does not take for its experts."""
    output, modules = model.get_output_embeddings(), dict(model.named_modules())
    leaves = sorted({name.rpartition(".")[2] for name in names if modules[name] is not output})
    kept = _as_peft_takes(model, leaves)
    if kept == leaves and _as_peft_takes(model, "all-linear"):
        return Targets("all-linear")
    note = (
        f"lora.target_modules: all-linear: {', '.join(kept)} get an adapter; experts are no linear layers, and get none"
    )
    return Targets(kept, note=note)


def _refuse_experts(model: Any, modules: Sequence[str]) -> None:
    lost = sorted(set(modules) - set(_as_peft_takes(model, modules)))
    if lost:
        raise InputError(
            f"lora.target_modules: {', '.join(lost)} are the experts of {model.config.model_type}: parameters and no "
            "linear layers, whose adapters cannot be merged",
            "leave them out, such as [q_proj, k_proj, v_proj, o_proj]; or set all-linear, which does",
        )


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


def _outside_of_language_model(model: Any, names: Sequence[str]) -> str | None:
    """Return an expression for linear layers beside the language model: a vision tower and what joins it.

    Text alone is learnt here, so that they have no part in it.
    """
    decoder = model.get_decoder()
    inside = next((name for name, module in model.named_modules() if module is decoder), "")
    output = model.get_output_embeddings()
    modules = dict(model.named_modules())
    outside = [name for name in names if not name.startswith(f"{inside}.") and modules[name] is not output]
    return rf"(?!{re.escape(inside)}\.).*" if inside and outside else None


def _linear_names(model: Any) -> list[str]:
    from transformers.pytorch_utils import Conv1D

    return [name for name, module in model.named_modules() if isinstance(module, (torch.nn.Linear, Conv1D))]
