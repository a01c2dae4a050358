"""From ``train`` of the config to what Transformers makes of it: arguments, optimizer, learning rates, trackers.

Transformers' callbacks report to the trackers: losses, rates and settings, never texts.
"""

import contextlib
import importlib.util
import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.optim.lr_scheduler import ReduceLROnPlateau
from transformers import Trainer, TrainingArguments, get_scheduler
from transformers.optimization import GreedyLR
from transformers.trainer_pt_utils import get_parameter_names

from medqa_cli import console, distributed
from medqa_cli.config.schema import TrainConfig
from medqa_cli.errors import InputError, first_line
from medqa_cli.training.fsdp import OPTIMIZERS_ON_PARTS

# Transformers' arguments that no setting changes.
_IN_EVERY_TRAINING: dict[str, Any] = {
    "gradient_accumulation_steps": 1,
    "activation_checkpointing_kwargs": {"use_reentrant": False},
    "save_strategy": "steps",
    "logging_strategy": "steps",
    "logging_first_step": True,
}
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
_PROJECT = "medqa"
# Any one of these modules is enough.
_TRACKER_MODULES = {
    "tensorboard": ("tensorboard", "tensorboardX"),
    "wandb": ("wandb",),
    "mlflow": ("mlflow",),
    "trackio": ("trackio",),
}
_TRACKER_HINTS = {
    "wandb": "log in with: wandb login, or set the variable WANDB_MODE=offline, or set train.report_to to none"
}
_ANY_TRACKER_HINT = "fix that, or set train.report_to to none"


def not_set_up(error: Exception) -> InputError:
    """Return the error for an optimizer or tracker whose package is missing."""
    message = f"the training cannot be set up: {first_line(error)}"
    return InputError(message, "install what is missing, or change train.optim or train.report_to")


def make_training_arguments(
    config: TrainConfig,
    *,
    seed: int,
    output_dir: Path,
    device: torch.device,
    compute_dtype: torch.dtype,
    eval_steps: int | None = None,
) -> TrainingArguments:
    """Translate the config into Transformers' arguments; ``eval_steps``: of ``validation_interval``.

    Raises:
        InputError: the optimizer or the tracker does not work here.
    """
    step_examples = config.per_device_train_batch_size * config.gradient_accumulation_steps
    try:
        args = TrainingArguments(
            **_IN_EVERY_TRAINING,
            output_dir=str(output_dir),
            num_train_epochs=config.num_train_epochs,
            max_steps=config.max_steps,
            per_device_train_batch_size=step_examples,
            per_device_eval_batch_size=step_examples,
            activation_checkpointing=uses_checkpointing(config, device),
            learning_rate=config.learning_rate,
            lr_scheduler_type=config.lr_scheduler_type,
            # Transformers reads values below 1 as a share of the steps, 1 and more as a number of steps.
            warmup_steps=min(config.warmup_ratio, math.nextafter(1.0, 0.0)),
            weight_decay=config.weight_decay,
            max_grad_norm=config.max_grad_norm,
            optim=optimizer_on(config.optim, device),
            save_steps=config.save_steps,
            save_total_limit=config.save_total_limit,
            logging_steps=config.logging_steps,
            eval_strategy="no" if eval_steps is None else "steps",
            eval_steps=eval_steps,
            report_to=config.report_to,
            use_cpu=device.type == "cpu",
            # float16 needs a loss scaler, which Transformers sets up; other types need nothing from it.
            fp16=compute_dtype == torch.float16 and device.type != "cpu",
            seed=seed,
        )
    except (ImportError, ValueError, RuntimeError) as error:
        raise not_set_up(error) from error
    # ``accelerate launch`` passes on its config's mixed_precision, which the arguments take where they have none of
    # their own; here model.compute_dtype decides.
    args.mixed_precision = "fp16" if args.fp16 else "no"
    # One process drives one device; several GPUs are several processes (accelerate launch), never DataParallel.
    args._n_gpu = min(args.n_gpu, 1)
    return args


def uses_checkpointing(config: TrainConfig, device: torch.device, memory_is_plentiful: bool = False) -> bool:
    """Tell whether activations are recomputed; ``auto`` does so on a GPU unless its memory holds those of a step."""
    if config.gradient_checkpointing == "auto":
        return device.type == "cuda" and not memory_is_plentiful
    return config.gradient_checkpointing


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
    """Make the learning-rate scheduler of a training run of ``max_steps`` steps."""
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


def require_tracker(name: str) -> None:
    """Check that the tracker's package is installed, before anything is loaded.

    Transformers finds out late, and its MLflow callback then leaves an "Exception ignored" behind.

    Raises:
        InputError: it is not installed.
    """
    modules = _TRACKER_MODULES.get(name, ())
    if modules and not any(importlib.util.find_spec(module) for module in modules):
        raise InputError(
            f"train.report_to is {name}, whose package is not installed",
            f"pip install {modules[0]}, or set train.report_to to none",
        )


def set_up_trackers(arguments: TrainingArguments, run_dir: Path) -> None:
    """Name the run after its folder, and let its tracker write below it unless environment variables say otherwise."""
    arguments.run_name = run_dir.name
    arguments.project = _PROJECT
    mlflow_uri = f"sqlite:///{(run_dir / 'mlflow.db').resolve()}"
    places = {
        "tensorboard": {"TENSORBOARD_LOGGING_DIR": str(run_dir / "tensorboard")},
        "wandb": {"WANDB_DIR": str(run_dir), "WANDB_PROJECT": _PROJECT},
        "mlflow": {"MLFLOW_TRACKING_URI": mlflow_uri, "MLFLOW_EXPERIMENT_NAME": _PROJECT},
        "trackio": {"TRACKIO_DIR": str(run_dir / "trackio")},
    }
    for name in arguments.report_to:
        for variable, value in places.get(name, {}).items():
            os.environ.setdefault(variable, value)


@contextlib.contextmanager
def tracker_failures_told(trackers: Sequence[str]) -> Iterator[None]:
    """Tell what a tracker's package raises, such as W&B without a login.

    Args:
        trackers: those of ``train.report_to``.

    Raises:
        InputError: a tracker's package raised an error of its own.
    """
    try:
        yield
    except Exception as error:  # each package has classes of its own, and may not be installed
        package = type(error).__module__.partition(".")[0]
        name = next((name for name in trackers if package in _TRACKER_MODULES.get(name, ())), None)
        if name is None:
            raise
        raise InputError(
            f"train.report_to: {name} failed: {first_line(error)}", _TRACKER_HINTS.get(name, _ANY_TRACKER_HINT)
        ) from error
