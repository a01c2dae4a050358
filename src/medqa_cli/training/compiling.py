"""Whether a training run compiles its layers (``train.compile``)."""

from typing import Any

import torch

from medqa_cli import console, distributed
from medqa_cli.errors import InputError
from medqa_cli.model.kernels.compiled_layers import has_cpp_compiler
from medqa_cli.model.kernels.verify import Way, compile_if_right
from medqa_cli.model.quantization import num_parameters
from medqa_cli.training.data_order import num_tokens_of_training
from medqa_cli.training.setup import TrainingInputs

# Parameters times tokens of a training for each thread, from which on ``auto`` compiles: about twice what pays for the
# compiling, which keeps one thread busy (docs/experiments/2026-12.md, "one graph for all layers").
_ENOUGH_WORK = 5e13


def settle_compiling(model: Any, inputs: TrainingInputs, way: Way, *, recomputes: bool, before: bool | None) -> bool:
    """Let a model that is settled for training compile its layers, where the config wants that; return whether it does.

    Args:
        model: in the way that ``settle_way`` found.
        inputs: data, device and type.
        way: that way.
        recomputes: activations are recomputed in the backward pass.
        before: what the run that is gone on from did, which ``auto`` follows; None: a fresh start.

    Raises:
        InputError: it is ``true``, and they cannot be compiled.
    """
    config = inputs.config.train
    wanted, pays = config.compile, before
    if wanted == "auto" and pays is None:
        work = num_parameters(model) * num_tokens_of_training(config, inputs.data.examples)
        pays = work >= _ENOUGH_WORK * torch.get_num_threads()
    if wanted is False or (wanted == "auto" and not pays):
        return False
    problem = _problem(inputs, way, recomputes)
    if not problem:
        with console.status("compiling the layers ..."):
            problem = compile_if_right(model, inputs.source.name, inputs.dtype)
        if problem and wanted == "auto":
            console.note(f"the layers are not compiled: {problem}")
    if problem and wanted is True:
        raise InputError(f"train.compile: true, but {problem}", "leave it at auto, or set train.compile: false")
    if problem and before:
        console.warn(f"the run was begun with compiled layers and goes on without, to other last digits: {problem}")
    return not problem


def _problem(inputs: TrainingInputs, way: Way, recomputes: bool) -> str:
    if inputs.device.type != "cpu":
        return "layers are compiled on a CPU only"
    if distributed.world_size() > 1:
        return "layers are compiled in a training by one process only"
    if recomputes:
        return "layers whose activations are recomputed are not compiled (train.gradient_checkpointing)"
    if not way.packed:
        return "this model computes one example at a time"
    if not has_cpp_compiler():
        return "there is no C++ compiler: install g++, or name one in the environment variable CXX"
    return ""
