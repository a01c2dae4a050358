"""How the base of an adapter was quantized in its training, and in which type it computed. Does not read weights."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from medqa_cli import console
from medqa_cli.config.schema import ModelConfig
from medqa_cli.environment import recorded_environment, recorded_settings
from medqa_cli.errors import InputError
from medqa_cli.files import RunFolder
from medqa_cli.model.devices import DTYPES

_QUANTIZATIONS = ("nf4", "fp4", "int8", "none")


def trained_how(run: RunFolder, model: ModelConfig) -> ModelConfig:
    """Return the config's model section with the quantization that the run was trained with, where that is recorded.

    Raises:
        InputError: the record is damaged.
    """
    recorded: dict[str, Any] = recorded_settings(run)
    quantization = recorded.get("model.quantization")
    if quantization is None:
        console.warn(
            f"{run.path} does not record how the base was quantized in training; taking the config's "
            f"model.quantization {model.quantization}, double_quantization {str(model.double_quantization).lower()}"
        )
        return model
    if quantization not in _QUANTIZATIONS:
        raise InputError(f"{run.environment_path} is damaged: model.quantization {quantization!r}", "restore the file")
    double = bool(recorded.get("model.double_quantization"))
    return replace(model, quantization=quantization, double_quantization=double)


def trained_dtype(run: RunFolder) -> torch.dtype | None:
    """Return the type that the run's training computed in; None where that is not recorded."""
    name = _recorded(run, "compute_dtype")
    return DTYPES.get(name) if name is not None else None


def trained_device(run: RunFolder) -> str | None:
    """Return the description of the device that the run was trained on; None where that is not recorded."""
    return _recorded(run, "device")


def _recorded(run: RunFolder, key: str) -> str | None:
    value = recorded_environment(run).get(key)
    return value if isinstance(value, str) else None
