"""Whether an adapter changes the model that it is loaded on, in every layer that its config names.

PEFT says nothing of an adapter that is empty, made for other layers, or all zero: it answers like the base. Does not
load adapters.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medqa_cli import console
from medqa_cli.errors import InputError
from medqa_cli.model.loaded_weights import grouped, is_finite

ADAPTER_CONFIG_NAME = "adapter_config.json"


def check_effect(adapted: Any, adapter_dir: Path) -> None:
    """Refuse an adapter that leaves layers of its own config, or all of the model, as they are.

    PEFT ignores tensors whose names it does not know, and starts what a file lacks at zero.

    Raises:
        InputError: tensors find no layer, layers find no tensor, nothing is changed, or values are no numbers.
    """
    from peft import load_peft_weights, set_peft_model_state_dict

    weights = load_peft_weights(str(adapter_dir), device="cpu")
    result = set_peft_model_state_dict(adapted, weights)
    own = [
        name for name in result.missing_keys if ".default" in name and ("lora_" in name or "modules_to_save" in name)
    ]
    refuse_unmatched([name.replace(".default", "") for name in own], result.unexpected_keys, len(weights), adapter_dir)
    broken = [name for name, tensor in weights.items() if not is_finite(tensor)]
    if broken:
        raise InputError(
            f"the adapter in {adapter_dir} holds values that are not finite (NaN or infinite): {grouped(broken)}",
            "its training diverged; train again with a lower learning rate",
        )
    # A trained magnitude (DoRA), bias or whole layer has an effect as well.
    others = [
        name for name in weights if ".lora_A" not in name and ".lora_B" not in name and "lora_embedding" not in name
    ]
    idle = [name for name, tensor in weights.items() if is_b_matrix(name) and not tensor.count_nonzero()]
    refuse_idle(idle, sum(map(is_b_matrix, weights)), adapter_dir, has_others=bool(others))


def refuse_unmatched(missing: Sequence[str], unexpected: Sequence[str], num_tensors: int, adapter_dir: Path) -> None:
    """Refuse an adapter whose tensors and layers do not go together.

    Args:
        missing: tensors that its config asks for and its file lacks.
        unexpected: tensors in its file for which the base has no layer.
        num_tensors: in its file.
        adapter_dir: where it lies.

    Raises:
        InputError: there are any.
    """
    hint = "check that the adapter was trained on this base (base_model_name_or_path), or restore its files"
    if unexpected:
        raise InputError(
            f"{len(unexpected)} of {num_tensors} tensors of the adapter in {adapter_dir} belong to no layer of the "
            f"base: {grouped(unexpected)}",
            hint,
        )
    if missing:
        raise InputError(
            f"the adapter in {adapter_dir} is incomplete: its file lacks {len(missing)} tensors of the layers that "
            f"{ADAPTER_CONFIG_NAME} names: {grouped(missing)}",
            hint,
        )


def refuse_idle(idle: Sequence[str], num_layers: int, adapter_dir: Path, *, has_others: bool) -> None:
    """Refuse an adapter that changes nothing; warn of one that changes some of its layers only.

    Args:
        idle: B matrices that are zero.
        num_layers: how many there are.
        adapter_dir: where it lies.
        has_others: there are trained tensors beside A and B.

    Raises:
        InputError: it changes nothing.
    """
    if len(idle) == num_layers and not has_others:
        raise InputError(
            f"the adapter in {adapter_dir} changes nothing: all its B matrices are zero, as before a training",
            "train it: medqa train; or ask and measure the base by itself: --model base",
        )
    if idle:
        console.warn(
            f"the adapter in {adapter_dir} changes nothing in {len(idle)} of its {num_layers} layers, where B is zero: "
            f"{grouped(idle)}"
        )


def is_b_matrix(name: str) -> bool:
    """Tell whether a tensor of an adapter is a B matrix, of a linear layer or an embedding; they start at zero."""
    return "lora_B.weight" in name or "lora_embedding_B" in name
