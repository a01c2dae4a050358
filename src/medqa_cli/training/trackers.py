"""Experiment trackers (``train.report_to``): is the package there, and where does it write.

Transformers' own callbacks do the reporting: losses, rates and settings, never texts. Sends nothing by itself.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

from medqa_cli.errors import InputError

# Any one of these modules is enough.
_MODULES = {
    "tensorboard": ("tensorboard", "tensorboardX"),
    "wandb": ("wandb",),
    "mlflow": ("mlflow",),
    "trackio": ("trackio",),
}


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


def keep_in_run_folder(name: str, run_dir: Path) -> None:
    """Let a tracker write its files below ``run_dir``, unless its environment variables say otherwise."""
    places = {
        "tensorboard": ("TENSORBOARD_LOGGING_DIR", str(run_dir / "tensorboard")),
        "wandb": ("WANDB_DIR", str(run_dir)),
        "mlflow": ("MLFLOW_TRACKING_URI", f"sqlite:///{(run_dir / 'mlflow.db').resolve()}"),
        "trackio": ("TRACKIO_DIR", str(run_dir / "trackio")),
    }
    if name in places:
        variable, value = places[name]
        os.environ.setdefault(variable, value)
