"""Where a run keeps what, files that appear whole or not at all, and the record of the environment.

Does not know what the files mean: the workers decide that.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from medqa_cli import console
from medqa_cli.errors import InputError
from medqa_cli.leftovers import OLD, held, remove, sweep
from medqa_cli.plain_file import require_file

# The key of the training split's hash among the recorded settings.
TRAIN_SHA256 = "train_sha256"
RECORDED_PACKAGES = (
    "torch",
    "transformers",
    "peft",
    "bitsandbytes",
    "accelerate",
    "datasets",
    "tokenizers",
    "medqa-cli",
)


@dataclass(frozen=True)
class RunFolder:
    """The paths below ``run_dir``: docs/files.md."""

    path: Path

    @property
    def config_path(self) -> Path:
        """The resolved configuration of the last training."""
        return self.path / "config.yaml"

    @property
    def environment_path(self) -> Path:
        """Versions, machine and commit of the last training."""
        return self.path / "environment.json"

    @property
    def adapter_dir(self) -> Path:
        """The trained adapter: PEFT files, tokenizer, prompt.json."""
        return self.path / "adapter"

    @property
    def checkpoints_dir(self) -> Path:
        """``checkpoint-N`` folders."""
        return self.path / "checkpoints"

    @property
    def train_log_path(self) -> Path:
        """One JSON object per logged step."""
        return self.path / "train.jsonl"

    @property
    def train_json_path(self) -> Path:
        """The summary of the training."""
        return self.path / "train.json"

    @property
    def loss_plot_path(self) -> Path:
        """The loss curves."""
        return self.path / "loss.png"

    @property
    def merged_dir(self) -> Path:
        """The merged model, a plain Transformers folder."""
        return self.path / "merged"

    @property
    def gguf_dir(self) -> Path:
        """The merged model as GGUF files, and an Ollama Modelfile."""
        return self.path / "gguf"

    @property
    def eval_dir(self) -> Path:
        """Samples and results of the evaluation."""
        return self.path / "eval"

    @property
    def results_path(self) -> Path:
        """The figures of the evaluation."""
        return self.eval_dir / "results.json"


def sha256_of_file(path: Path) -> str:
    """Return the hex SHA-256 of a file, read in blocks."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[IO[str]]:
    """Open a UTF-8 text file that replaces ``path`` only when the block ends without an error.

    Removes what killed runs left of writing it.

    Raises:
        InputError: the folder cannot be written.
    """
    sweep(path)
    with contextlib.ExitStack() as stack:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, temporary = _held_temporary(tempfile.mkstemp, path, stack)
        except OSError as error:
            raise InputError(f"cannot write {path}: {error.strerror}") from error
        try:
            with open(handle, "w", encoding="utf-8", newline="\n") as file:
                yield file
            # mkstemp makes private files; the result is an ordinary one.
            temporary.chmod(0o666 & ~_umask())
            temporary.replace(path)
        except BaseException:
            remove(temporary)
            raise


@contextlib.contextmanager
def atomic_dir(path: Path) -> Iterator[Path]:
    """Yield a new folder beside ``path`` that replaces it only when the block ends without an error.

    Removes what killed runs left of writing it.

    Raises:
        InputError: the folder cannot be written.
    """
    sweep(path)
    with contextlib.ExitStack() as stack:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _, temporary = _held_temporary(lambda **place: (-1, tempfile.mkdtemp(**place)), path, stack)
        except OSError as error:
            raise InputError(f"cannot write {path}: {error.strerror}") from error
        try:
            yield temporary
            temporary.chmod(0o777 & ~_umask())
            if path.exists():
                _swap(path, temporary, stack)
            else:
                temporary.rename(path)
        except BaseException:
            remove(temporary)
            raise


def _held_temporary(make: Callable[..., tuple[int, str]], path: Path, stack: contextlib.ExitStack) -> tuple[int, Path]:
    """Make a temporary file or folder beside a path and hold it; another run may remove it before it is held."""
    while True:
        handle, name = make(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        stack.enter_context(held(Path(name)))
        if os.path.lexists(name):
            return handle, Path(name)
        if handle >= 0:
            os.close(handle)


def _swap(path: Path, new: Path, stack: contextlib.ExitStack) -> None:
    """Put a folder in the place of another, by two renames: ``leftovers.sweep`` mends what stops between them."""
    old = new.with_suffix(OLD)
    stack.enter_context(held(path))
    path.rename(old)
    try:
        new.rename(path)
    except BaseException:
        old.rename(path)
        raise
    if not remove(old):
        console.warn(f"{path} is written, but what it replaced could not be deleted: {old}")


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON, whole or not at all."""
    with atomic_file(path) as file:
        json.dump(value, file, ensure_ascii=False, indent=2, allow_nan=False)
        file.write("\n")


def read_json(path: Path) -> Any:
    """Read a JSON file that medqa wrote.

    Raises:
        InputError: the file is missing or damaged.
    """
    require_file(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{path} is missing") from error
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read as JSON: {error}") from error


def is_full_disk(error: OSError) -> bool:
    """Tell whether a file could not be written for want of room, on the disk or in the user's quota."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


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


def describe_environment() -> dict[str, Any]:
    """Return what one needs to repeat a run: versions, machine, command, commit of the working tree."""
    versions = {}
    for name in RECORDED_PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return {
        "command": sys.argv,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpu_count": os.cpu_count(),
        "packages": versions,
        "git_commit": _git_commit(),
    }


def _git_commit() -> str | None:
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
