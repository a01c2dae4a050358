"""Loads the models that are compared, one after another; base and adapter share one. Does not score or generate."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from medqa_cli.config.schema import ModelConfig
from medqa_cli.errors import InputError
from medqa_cli.files import RunFolder
from medqa_cli.model.devices import free_unused_memory, pick_compute_dtype, pick_device
from medqa_cli.model.load import base_of_adapter, load_base, load_tuned
from medqa_cli.model.resolve import ModelRef, find_base

MODEL_NAMES = ("adapter", "base", "merged")


@dataclass
class LoadedModel:
    """A model in memory: ``dtype`` is the type of its matrix products; ``model`` is None once the next is asked for."""

    name: str
    model: Any
    device: torch.device
    dtype: torch.dtype


@dataclass(frozen=True)
class ModelSet:
    """The models of a run."""

    run: RunFolder
    config: ModelConfig

    def require(self, names: Sequence[str]) -> None:
        """Fail before hours of work where a model is not there.

        Raises:
            InputError: it is not.
        """
        if "merged" in names and not self.run.merged_dir.is_dir():
            raise InputError(f"no merged model in {self.run.merged_dir}", "make one: medqa merge")

    def each(self, names: Sequence[str], *, packed: bool) -> Iterator[LoadedModel]:
        """Yield adapter, base and merged as far as they are named; each is valid until the next one is asked for.

        Then it is let go of, also by who was given it: two at once may not fit.

        Args:
            names: of ``MODEL_NAMES``.
            packed: for likelihoods (padding-free forwards) rather than for generation.

        Raises:
            InputError: a model is not there.
        """
        self.require(names)
        device = pick_device()
        dtype = pick_compute_dtype(self.config.compute_dtype, device)
        how = {"packed": packed, "batches": not packed}

        def plain(source: ModelRef, config: ModelConfig) -> Any:
            return load_base(source, config, device, dtype, **how, settled=packed)

        def lent(name: str, model: Any) -> Iterator[LoadedModel]:
            loaded = LoadedModel(name, model, device, dtype)
            yield loaded
            loaded.model = None

        if {"adapter", "base"} & set(names):
            tuned, _, _ = load_tuned(self.run.adapter_dir, self.config, device, dtype, **how)
            if "adapter" in names:
                yield from lent("adapter", tuned)
            if "base" in names and tuned.peft_config["default"].bias == "none":
                with tuned.disable_adapter():
                    yield from lent("base", tuned)
            elif "base" in names:
                # Trained biases stand in the base's own layers, and switching the adapter off leaves them there.
                tuned = None
                free_unused_memory(device)
                source = base_of_adapter(self.run.adapter_dir)
                yield from lent("base", plain(source, self.config))
            tuned = None
            free_unused_memory(device)
        if "merged" in names:
            # As other tools load it: merged weights are not quantized again.
            unquantized = ModelConfig(quantization="none")
            yield from lent("merged", plain(find_base(str(self.run.merged_dir)), unquantized))
            free_unused_memory(device)
