"""On how small a GPU each model of ``resources/base_models.yaml`` can be trained, by medqa's own plan."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from medqa_cli.config.dump import preset_for
from medqa_cli.config.load import load
from medqa_cli.config.schema import Config
from medqa_cli.model.devices import GB
from medqa_cli.prompt.encoder import IGNORE_INDEX, Example
from medqa_cli.training.estimate import MemoryEstimator, Target, fits

# What cards of 4, 6, 8, 10, 11, 12, 16, 20, 24, 32, 40, 48 and 80 GB show, at least.
SIZES = (3.8, 5.6, 7.6, 9.8, 10.9, 11.6, 14.6, 20.0, 22.0, 31.0, 39.0, 44.0, 79.0)
_PROMPT = 32  # tokens


def base_config(shape: dict[str, Any]) -> Any:
    """Return the Transformers config of a model's shape."""
    from transformers import CONFIG_MAPPING

    settings = dict(shape)
    return CONFIG_MAPPING[settings.pop("model_type")](**settings)


def settings_of_presets(folder: Path) -> Config:
    """Return what the presets for GPUs have in common."""
    path = folder / "preset.yaml"
    path.write_text(preset_for(8.0).filled_in("a plan"), encoding="utf-8")
    return load(path).config


def least_gb(shape: dict[str, Any], config: Config) -> float:
    """Return the smallest of ``SIZES`` on which a training fits; infinite if it fits on none.

    All rows are as long as ``model.max_length``, one is in a forward pass, activations are recomputed: what ``auto``
    comes to where memory is short. The card has neither bfloat16 nor flash attention, as a T4 has not: what fits there
    fits on any card of that size.
    """
    tokens = config.model.max_length
    ids = [7] * tokens
    example = Example(ids, [IGNORE_INDEX] * _PROMPT + ids[_PROMPT:], False)
    thrifty = replace(config.train, gradient_checkpointing=True, max_tokens_per_forward=tokens)
    estimator = MemoryEstimator(base_config(shape), [example] * 8, torch.float16, _card(SIZES[-1]))
    estimate = estimator.predict(replace(config, train=thrifty))
    return next((size for size in SIZES if fits(estimate, _card(size))), float("inf"))


def _card(size_gb: float) -> Target:
    return Target("cuda", round(size_gb * GB), round(size_gb * GB), 0, has_flash=False)
