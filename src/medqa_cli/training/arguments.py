"""From ``train`` of the config to steps and Transformers' ``TrainingArguments``: checkpointing, trackers.

Transformers' own callbacks report to the trackers: losses, rates and settings, never texts.
"""

from __future__ import annotations

import contextlib
import importlib.util
import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import TrainingArguments

from medqa_cli.config.schema import TrainConfig
from medqa_cli.errors import InputError
from medqa_cli.training.optimizers import not_set_up, optimizer_on

# Transformers' arguments that no setting changes.
_IN_EVERY_TRAINING: dict[str, Any] = {
    "gradient_accumulation_steps": 1,
    "activation_checkpointing_kwargs": {"use_reentrant": False},
    "save_strategy": "steps",
    "logging_strategy": "steps",
    "logging_first_step": True,
}
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
_ANY_TRACKER_HINT = "mend that, or set train.report_to to none"


def make_training_arguments(
    config: TrainConfig,
    *,
    seed: int,
    output_dir: Path,
    device: torch.device,
    compute_dtype: torch.dtype,
) -> TrainingArguments:
    """Translate the config into Transformers' arguments.

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
            eval_strategy="no" if config.eval_steps is None else "steps",
            eval_steps=config.eval_steps,
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
        "mlflow": {
            "MLFLOW_TRACKING_URI": mlflow_uri,
            "MLFLOW_EXPERIMENT_NAME": _PROJECT,
        },
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
        message = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"train.report_to: {name} failed: {message}", _TRACKER_HINTS.get(name, _ANY_TRACKER_HINT)
        ) from error
