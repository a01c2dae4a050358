"""Experiment trackers (``train.report_to``): is the package there, and where does it write.

Transformers' own callbacks do the reporting: losses, rates and settings, never texts.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from transformers import TrainingArguments

from medqa_cli.errors import InputError

_PROJECT = "medqa"
# Any one of these modules is enough.
_MODULES = {
    "tensorboard": ("tensorboard", "tensorboardX"),
    "wandb": ("wandb",),
    "mlflow": ("mlflow",),
    "trackio": ("trackio",),
}
_HINTS = {"wandb": "log in with: wandb login, or set the variable WANDB_MODE=offline, or set train.report_to to none"}
_ANY_HINT = "mend that, or set train.report_to to none"


def require_tracker(name: str) -> None:
    """Check that the tracker's package is installed, before anything is loaded.

    Transformers finds out late, and its MLflow callback then leaves an "Exception ignored" behind.

    Raises:
        InputError: it is not installed.
    """
    modules = _MODULES.get(name, ())
    if modules and not any(importlib.util.find_spec(module) for module in modules):
        raise InputError(
            f"train.report_to is {name}, whose package is not installed",
            f"pip install {modules[0]}, or set train.report_to to none",
        )


def set_up(arguments: TrainingArguments, run_dir: Path) -> None:
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
def failures_told(trackers: Sequence[str]) -> Iterator[None]:
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
        name = next((name for name in trackers if package in _MODULES.get(name, ())), None)
        if name is None:
            raise
        said = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"train.report_to: {name} failed: {said}", _HINTS.get(name, _ANY_HINT)) from error
