"""Optimizers and learning rates: which of Transformers' names work here, and how they are made."""

from __future__ import annotations

from typing import Any

import torch
from torch.optim.lr_scheduler import ReduceLROnPlateau
from transformers import Trainer, TrainingArguments, get_scheduler
from transformers.optimization import GreedyLR
from transformers.trainer_pt_utils import get_parameter_names

from medqa_cli import console, distributed
from medqa_cli.errors import InputError
from medqa_cli.training.fsdp import OPTIMIZERS_ON_PARTS

# On the CPU there is no second memory to page to; the arithmetic is the same.
_CPU_EQUIVALENTS = {
    "paged_adamw_32bit": "adamw_torch",
    "paged_adamw_8bit": "adamw_8bit",
    "paged_ademamix_32bit": "ademamix",
    "paged_ademamix_8bit": "ademamix_8bit",
    "paged_lion_32bit": "lion_32bit",
    "paged_lion_8bit": "lion_8bit",
}
# Weight decay leaves these alone (transformers.Trainer.get_decay_parameter_names).
_NOT_DECAYED = [r"bias", r"layernorm", r"rmsnorm", r"(?:^|\.)norm(?:$|\.)", r"_norm(?:$|\.)"]


def not_set_up(error: Exception) -> InputError:
    """Return the error for an optimizer or tracker whose package is missing."""
    message = f"the training cannot be set up: {str(error).splitlines()[0]}"
    return InputError(message, "install what is missing, or change train.optim or train.report_to")


def optimizer_on(name: str, device: torch.device) -> str:
    """Return the optimizer that runs on ``device``, and on parts of tensors under FSDP, for the configured name."""
    if distributed.is_sharded():
        name = OPTIMIZERS_ON_PARTS.get(name, name)
    return _CPU_EQUIVALENTS.get(name, name) if device.type == "cpu" else name


def unpaged(name: str) -> str | None:
    """Return what computes the steps of a paged optimizer without waiting for the GPU; None: it is not paged."""
    if name not in _CPU_EQUIVALENTS:
        return None
    equivalent = _CPU_EQUIVALENTS[name]
    return "adamw_torch_fused" if equivalent == "adamw_torch" else equivalent


def make_optimizer(args: TrainingArguments, model: torch.nn.Module) -> torch.optim.Optimizer:
    """Make the optimizer of the parameters that are trained, in the two groups of Transformers' ``Trainer``.

    Raises:
        InputError: its package is not installed.
    """
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    decayed = set(get_parameter_names(model, [torch.nn.LayerNorm], _NOT_DECAYED))
    groups = [
        {"params": [p for name, p in trained.items() if name in decayed], "weight_decay": args.weight_decay},
        {"params": [p for name, p in trained.items() if name not in decayed], "weight_decay": 0.0},
    ]
    try:
        optimizer_class, settings = Trainer.get_optimizer_cls_and_kwargs(args, model)
        optimizer: torch.optim.Optimizer = optimizer_class(groups, **settings)
    except (ImportError, ValueError) as error:
        raise not_set_up(error) from error
    return optimizer


def make_scheduler(args: TrainingArguments, optimizer: Any, max_steps: int) -> Any:
    """Make the learning-rate scheduler of a training of ``max_steps`` steps."""
    return get_scheduler(
        args.lr_scheduler_type,
        optimizer=optimizer,
        num_warmup_steps=args.get_warmup_steps(max_steps),
        num_training_steps=max_steps,
        scheduler_specific_kwargs=args.lr_scheduler_kwargs,
    )


def follows_metrics(scheduler: Any) -> bool:
    """Tell whether the scheduler takes a step after an evaluation, by its loss, and not after each update."""
    return isinstance(scheduler, ReduceLROnPlateau | GreedyLR)


def learning_rate(optimizer: Any, scheduler: Any) -> float:
    """Return the learning rate of the next update."""
    if follows_metrics(scheduler):
        return float(optimizer.param_groups[0]["lr"])
    return float(scheduler.get_last_lr()[0])


def keep_learning_rate_of_config(optimizer: Any, scheduler: Any, before: float, now: float) -> None:
    """Scale what a checkpoint brought back with the learning rate ``before`` to that of the config, ``now``."""
    if before == now:
        return
    console.note(f"train.learning_rate was {before:g} up to this checkpoint and is {now:g} from here on")
    for group in optimizer.param_groups:
        for key in ("lr", "initial_lr"):
            if key in group:
                group[key] *= now / before
    if hasattr(scheduler, "base_lrs"):
        scheduler.base_lrs = [rate * now / before for rate in scheduler.base_lrs]
