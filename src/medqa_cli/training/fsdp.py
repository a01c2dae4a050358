"""FSDP: a base that does not fit one GPU lies in parts on all of them, gathered layer by layer as they are needed.

``accelerate launch --config_file examples/accelerate_fsdp.yaml`` turns it on; accelerate and PyTorch (FSDP2,
``fully_shard``) do the sharding. Here the launcher's config is checked, and only the adapter and its optimizer state
are gathered and saved, never the base.
"""

import os
from pathlib import Path
from typing import Any, cast

import torch
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)

from medqa_cli import distributed
from medqa_cli.config.schema import ModelConfig, TrainConfig
from medqa_cli.errors import InputError

# bitsandbytes' optimizers work on the memory of whole tensors; these compute the same on parts.
OPTIMIZERS_ON_PARTS = {"paged_adamw_32bit": "adamw_torch"}
_BITSANDBYTES_OPTIMIZERS = ("8bit", "32bit", "bnb", "paged", "ademamix", "lion")
_LEFT_TO_MEDQA = {
    "activation_checkpointing": "train.gradient_checkpointing decides that",
    "cpu_ram_efficient_loading": "each process loads the base itself, because 4-bit weights cannot be sent to it",
}
_EXAMPLE = "start from examples/accelerate_fsdp.yaml"
# Where ``accelerate config`` writes what ``accelerate launch`` takes when it is given nothing else.
_LAUNCHERS_CONFIG = "accelerate's config (--config_file, or the default that `accelerate config` wrote)"
# Variables of ``accelerate launch`` that change how the model is computed: how they look where they change nothing,
# what they ask for, and what to do.
_LAUNCHERS_WISHES = {
    "ACCELERATE_USE_DEEPSPEED": (("false",), "DeepSpeed; medqa shards with FSDP", _EXAMPLE),
    "ACCELERATE_USE_MEGATRON_LM": (("false",), "Megatron-LM; medqa shards with FSDP", _EXAMPLE),
    "ACCELERATE_USE_PARALLELISM_CONFIG": (
        ("false",),
        "a parallelism_config (tensor, context or sequence parallelism), which medqa does not do",
        f"leave it out; {_EXAMPLE}",
    ),
    "ACCELERATE_DYNAMO_BACKEND": (
        ("no",),
        "dynamo_backend, which compiles the model; medqa's forward passes have ever new lengths and are not compiled",
        "set dynamo_backend to NO there, or start with: accelerate launch --dynamo_backend no",
    ),
}


def check_sharding(model: ModelConfig, train: TrainConfig) -> None:
    """Check that medqa does what the launcher asks for, and that what the config asks for can be sharded.

    Raises:
        InputError: it does not, or cannot.
    """
    for variable, (harmless, wish, instead) in _LAUNCHERS_WISHES.items():
        if os.environ.get(variable, "").lower() not in ("", *harmless):
            raise InputError(f"{_LAUNCHERS_CONFIG} asks for {wish}", instead)
    if not distributed.is_sharded():
        return
    if launchers_mixed_precision() is not None:
        raise InputError(
            f"{_LAUNCHERS_CONFIG} sets mixed_precision: {launchers_mixed_precision()}, with which FSDP would cast the "
            "4-bit weights and round the losses",
            "set mixed_precision: 'no' there, or start with: accelerate launch --mixed_precision no; "
            "model.compute_dtype decides",
        )
    if os.environ.get("FSDP_VERSION") != "2":
        raise InputError("accelerate's config asks for FSDP 1, which cannot hold 4-bit weights in parts", _EXAMPLE)
    for key, instead in _LEFT_TO_MEDQA.items():
        if os.environ.get(f"FSDP_{key.upper()}", "").lower() == "true":
            raise InputError(f"accelerate's config sets fsdp_{key}; {instead}", f"set it to false, or {_EXAMPLE}")
    if model.quantization == "int8":
        raise InputError("model.quantization: int8 weights cannot be sharded", "set model.quantization: nf4, or none")
    optimizer = OPTIMIZERS_ON_PARTS.get(train.optim, train.optim)
    if any(word in optimizer for word in _BITSANDBYTES_OPTIMIZERS) and not optimizer.startswith("adamw_torch"):
        raise InputError(
            f"train.optim: {optimizer} works on whole tensors, and FSDP leaves parts of them to each GPU",
            "set train.optim: adamw_torch; the adapter's state is divided among the GPUs",
        )


def check_sharded_type(dtype: torch.dtype) -> None:
    """Check that the type of the matrix products can be used with FSDP.

    Raises:
        InputError: it is float16: FSDP would hand out the losses in it, and their sum ends at 65,504.
    """
    if distributed.is_sharded() and dtype == torch.float16:
        raise InputError(
            "FSDP does not go with float16 products (model.compute_dtype: float16, or auto on GPUs older than Ampere)",
            "set model.compute_dtype: bfloat16, or float32 on GPUs that do not compute it; or train without FSDP",
        )


def launchers_mixed_precision() -> str | None:
    """Return what the launcher's config says of ``mixed_precision``; None: nothing, or ``no``."""
    wanted = os.environ.get("ACCELERATE_MIXED_PRECISION", "").lower()
    return wanted if wanted not in ("", "no", "none") else None


def whole_adapter(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Gather the trained parameters of a sharded model on rank 0's CPU; empty elsewhere. All ranks must call it."""
    options = StateDictOptions(full_state_dict=True, cpu_offload=True, ignore_frozen_params=True)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    gathered = cast(dict[str, torch.Tensor], get_model_state_dict(model, options=options))
    return {name: tensor for name, tensor in gathered.items() if name in trained}


def same_adapter_on_all_ranks(model: torch.nn.Module) -> None:
    """Give all ranks rank 0's trained parameters: each keeps its part of its own copy. All ranks must call it."""
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    values = distributed.from_main(lambda: {name: p.detach().cpu() for name, p in trained.items()})
    with torch.no_grad():
        for name, parameter in trained.items():
            parameter.copy_(values[name])


def whole_optimizer_state(model: torch.nn.Module, optimizer: Any) -> dict[str, Any]:
    """Gather a sharded optimizer's state on rank 0's CPU, numbered as ``torch.optim`` does; empty elsewhere.

    All ranks must call it.
    """
    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    gathered = cast(dict[str, Any], get_optimizer_state_dict(model, optimizer, options=options))
    if not distributed.is_main():
        return {}
    numbers = {name: number for number, name in enumerate(_names_of_parameters(model, optimizer))}
    return _renamed(gathered, numbers)


def divide_optimizer_state(model: torch.nn.Module, optimizer: Any, path: Path) -> None:
    """Give a sharded optimizer the state of a file that holds it whole; rank 0 reads it. All ranks must call it."""
    state: dict[str, Any] = {}
    if distributed.is_main():
        whole = torch.load(path, map_location="cpu", weights_only=True)
        state = _renamed(whole, dict(enumerate(_names_of_parameters(model, optimizer))))
    options = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True)
    set_optimizer_state_dict(model, optimizer, state, options=options)


def _renamed(state: dict[str, Any], names: dict[Any, Any]) -> dict[str, Any]:
    """Return an optimizer's state with other names, or numbers, of its parameters."""
    groups = [{**group, "params": [names[name] for name in group["params"]]} for group in state["param_groups"]]
    return {"state": {names[name]: values for name, values in state["state"].items()}, "param_groups": groups}


def _names_of_parameters(model: torch.nn.Module, optimizer: Any) -> list[str]:
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return [names[id(parameter)] for group in optimizer.param_groups for parameter in group["params"]]
