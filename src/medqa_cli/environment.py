"""What a run needs to know of its machine, and ``environment.json``: what one needs to repeat a training."""

import contextlib
import importlib.metadata
import os
import platform
import subprocess
import sys
from typing import Any

from medqa_cli.files import RunFolder, read_json

# The key of the training split's hash among the recorded settings.
TRAIN_SHA256 = "train_sha256"
INDEX_SHA256 = "the index of the data"
RECORDED_PACKAGES = (
    "torch",
    "transformers",
    "peft",
    "bitsandbytes",
    "accelerate",
    "datasets",
    "tokenizers",
    "trl",
    "medqa-cli",
)


def usable_cores() -> list[int]:
    """Return the numbers of the cores that this process may use."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


def recorded_environment(run: RunFolder) -> dict[str, Any]:
    """Return what ``environment.json`` records of a run's training; empty if it is not there or no object.

    Raises:
        InputError: it is no JSON.
    """
    recorded = read_json(run.environment_path) if run.environment_path.is_file() else None
    return recorded if isinstance(recorded, dict) else {}


def recorded_settings(run: RunFolder) -> dict[str, Any]:
    """Return the settings that a run's training is bound to; empty if none are recorded. Raises as the above."""
    settings = recorded_environment(run).get("trained_with")
    return settings if isinstance(settings, dict) else {}


def package_versions() -> dict[str, str]:
    """Return the versions of medqa and of the packages that it computes with, those that are installed."""
    versions = {}
    for name in RECORDED_PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions


def describe_environment() -> dict[str, Any]:
    """Return what one needs to repeat a run: versions, machine, command, commit of the working tree."""
    commit = None
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            timeout=5,
            check=True,
            stdin=subprocess.DEVNULL,
        )
        commit = done.stdout.strip()
    return {
        "command": sys.argv,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpu_count": os.cpu_count(),
        "packages": package_versions(),
        "git_commit": commit,
    }
