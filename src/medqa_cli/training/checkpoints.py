"""Checkpoints as files: written aside and renamed when whole, with a manifest that shows damage; rotation."""

import contextlib
import json
import os
import random
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from transformers.trainer_pt_utils import safe_globals

from medqa_cli.errors import InputError, MedqaError, first_line
from medqa_cli.files import is_full_disk, sha256_of_file

MANIFEST_NAME = "manifest.json"
# The files of a checkpoint, by the names of Transformers' Trainer.
TRAINER_STATE_NAME = "trainer_state.json"
OPTIMIZER_NAME = "optimizer.pt"
SCHEDULER_NAME = "scheduler.pt"
SCALER_NAME = "scaler.pt"
# Beside these.
RESUME_STATE_NAME = "medqa_state.json"
MANIFEST_FORMAT = 1
PREFIX = "checkpoint-"
# Below the checkpoints folder while something is under way; whatever is found there later is rubbish.
_SAVING, _DELETING = ".saving", ".deleting"
_ASIDE_PREFIX = "risen-"
_PROBE_BYTES = 1 << 20
HINT = "make room (train.save_total_limit keeps fewer checkpoints), then: medqa train --resume"


class NotWrittenError(MedqaError):
    """Something of the run could not be written, mostly because the disk is full: exit code 1."""


def step_of(checkpoint: Path) -> int:
    """Return the optimizer step after which a checkpoint was saved."""
    return int(checkpoint.name.removeprefix(PREFIX))


def numbered_checkpoints(checkpoints_dir: Path) -> list[Path]:
    """Return the checkpoints, whole or not, by step."""
    paths = [path for path in checkpoints_dir.glob(f"{PREFIX}*") if path.name.removeprefix(PREFIX).isdecimal()]
    return sorted(paths, key=step_of)


def checkpoint_at(checkpoints_dir: Path, step: int) -> Path:
    """Return the path of the checkpoint of ``step``."""
    return checkpoints_dir / f"{PREFIX}{step}"


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn disk errors while writing ``path`` into NotWrittenError.

    Raises:
        NotWrittenError: it could not be written.
    """
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        reason = _reason_not_written(error, path.parent)
        if reason is None:
            raise
        raise NotWrittenError(f"{path} could not be written: {reason}", HINT) from error


@contextlib.contextmanager
def saving(checkpoints_dir: Path, step: int) -> Iterator[Path]:
    """Yield a folder to write ``checkpoint-STEP`` into; nothing of it is seen until ``publish``.

    Raises:
        NotWrittenError: the disk is full or failed. What was there before is untouched.
    """
    aside = checkpoints_dir / _SAVING
    try:
        with writing(checkpoint_at(checkpoints_dir, step)):
            aside.mkdir(parents=True, exist_ok=True)
            yield aside
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def publish(aside: Path, checkpoints_dir: Path, step: int, *, scheduled: bool) -> None:
    """Give a written checkpoint its name, once all of it is on the disk.

    Args:
        aside: what ``saving`` yielded.
        checkpoints_dir: where it appears.
        step: its step.
        scheduled: True for periodic checkpoints; others are deleted once superseded.
    """
    written = checkpoint_at(aside, step)
    _write_manifest(written, step, scheduled)
    sync_folder(written)
    final = checkpoint_at(checkpoints_dir, step)
    if final.exists():
        # A damaged one of the same step: a run that was resumed from an earlier one has come here again.
        _delete(final)
    written.rename(final)
    _sync(checkpoints_dir)


def rotate(checkpoints_dir: Path, newest_step: int, limit: int | None, best_step: int | None) -> None:
    """Delete what is beyond the newest ``limit`` checkpoints up to ``newest_step``, and older ones out of turn.

    Args:
        checkpoints_dir: the folder that holds them.
        newest_step: the one that was just published. Later ones belong to another run: damaged, or longer.
        limit: how many to keep; None: all.
        best_step: the step whose checkpoint is kept besides: that of the best evaluation.
    """
    paths = [path for path in numbered_checkpoints(checkpoints_dir) if step_of(path) <= newest_step]
    beyond = [] if limit is None else paths[:-limit]
    for path in paths[:-1]:
        out_of_turn = False
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            out_of_turn = _read_manifest(path)["scheduled"] is False
        if step_of(path) != best_step and (path in beyond or out_of_turn):
            _delete(path)


def set_aside(checkpoints_dir: Path, from_step: int) -> list[Path]:
    """Rename the checkpoints from a step on, so that no run goes on from them; return their new places."""
    moved = []
    for path in numbered_checkpoints(checkpoints_dir):
        if step_of(path) >= from_step:
            aside = path.with_name(f"{_ASIDE_PREFIX}{path.name}")
            shutil.rmtree(aside, ignore_errors=True)
            moved.append(path.rename(aside))
    return moved


def remove_leftovers(checkpoints_dir: Path) -> None:
    """Remove what a run that was killed while it saved or deleted left half done."""
    for name in (_SAVING, _DELETING):
        shutil.rmtree(checkpoints_dir / name, ignore_errors=True)


def problem_of(checkpoint: Path) -> str | None:
    """Return what is wrong with a checkpoint, ``incomplete (...)`` or ``damaged (...)``; None: it is whole.

    Each file is read and compared with its hash of when it was saved.
    """
    try:
        files = _read_manifest(checkpoint)["files"]
        hashes = {name: (int(file["bytes"]), str(file["sha256"])) for name, file in files.items()}
    except FileNotFoundError:
        return f"incomplete ({MANIFEST_NAME} missing)"
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return f"damaged ({MANIFEST_NAME})"
    missing = [name for name in sorted(hashes) if not (checkpoint / name).is_file()]
    if missing:
        return f"incomplete ({', '.join(missing)} missing)"
    damaged = []
    for name, (size, sha256) in sorted(hashes.items()):
        path = checkpoint / name
        with contextlib.suppress(OSError):
            if path.stat().st_size == size and sha256_of_file(path) == sha256:
                continue
        damaged.append(name)
    return f"damaged ({', '.join(damaged)})" if damaged else None


def _write_manifest(folder: Path, step: int, scheduled: bool) -> None:
    files = {
        str(path.relative_to(folder)): {"bytes": path.stat().st_size, "sha256": sha256_of_file(path)}
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    manifest = {"format": MANIFEST_FORMAT, "step": step, "scheduled": scheduled, "files": files}
    (folder / MANIFEST_NAME).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


def _read_manifest(checkpoint: Path) -> Any:
    return json.loads((checkpoint / MANIFEST_NAME).read_text(encoding="utf-8"))


def _delete(checkpoint: Path) -> None:
    """Delete a checkpoint so that a kill in between leaves none that looks like one."""
    aside = checkpoint.parent / _DELETING
    shutil.rmtree(aside, ignore_errors=True)
    checkpoint.rename(aside)
    shutil.rmtree(aside, ignore_errors=True)


def sync_folder(folder: Path) -> None:
    """Wait until all files below ``folder`` are on the disk."""
    for path in (*folder.rglob("*"), folder):
        _sync(path)


def _sync(path: Path) -> None:
    if os.name == "nt":
        return  # Windows opens no folders, and syncs no file that is open for reading
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read_resume_state(checkpoint: Path) -> dict[str, Any]:
    """Read what a checkpoint holds besides Transformers' files: the loss since the last logged line, and the guard."""
    state: dict[str, Any] = json.loads((checkpoint / RESUME_STATE_NAME).read_text(encoding="utf-8"))
    return state


def rng_state(*, all_devices: bool) -> dict[str, Any]:
    """Return the state of this process's random numbers.

    Args:
        all_devices: with the generators of all GPUs; otherwise with that of the current one.
    """
    state: dict[str, Any] = {
        "python": random.getstate(),
        "numpy": np.random.get_state(),
        "cpu": torch.random.get_rng_state(),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.random.get_rng_state_all() if all_devices else torch.cuda.random.get_rng_state()
    return state


def rng_state_name(rank: int, world_size: int) -> str:
    """Return the name of a rank's file in a checkpoint."""
    return "rng_state.pth" if world_size == 1 else f"rng_state_{rank}.pth"


def save_rng_states(checkpoint: Path, states: Sequence[dict[str, Any]]) -> None:
    """Write the random states of all ranks, in the files and the form of Transformers' ``Trainer``."""
    for rank, state in enumerate(states):
        torch.save(state, checkpoint / rng_state_name(rank, len(states)))


def load_rng_state(checkpoint: Path, rank: int, world_size: int) -> None:
    """Go on with the random numbers of a checkpoint, unless another number of ranks wrote it."""
    path = checkpoint / rng_state_name(rank, world_size)
    if not path.is_file():
        return
    with safe_globals():
        state = torch.load(path, weights_only=True)
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    torch.random.set_rng_state(state["cpu"])
    if "cuda" in state and torch.cuda.is_available():
        if world_size > 1:
            torch.cuda.random.set_rng_state_all(state["cuda"])
        else:
            torch.cuda.random.set_rng_state(state["cuda"])


def _reason_not_written(error: Exception, folder: Path) -> str | None:
    """Return why a file could not be written; None where the error is about something else."""
    if isinstance(error, OSError):
        return os.strerror(error.errno) if error.errno else str(error)
    text = f"{error} {error.__context__}"
    if isinstance(error, RuntimeError) and not any(word in text for word in ("inline_container", "iostream")):
        return None
    # torch.save and safetensors say in their own words that a write failed: ask the disk itself.
    try:
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(bytes(_PROBE_BYTES))
            probe.flush()
            os.fsync(probe.fileno())
    except OSError as full:
        return os.strerror(full.errno) if full.errno else str(full)
    return first_line(error)


@contextlib.contextmanager
def full_disk_is_an_error(folder: Path) -> Iterator[None]:
    """Report a full disk or quota, wherever it is met below ``folder``, with a sentence instead of a traceback.

    Raises:
        NotWrittenError: something could not be written because there is no space.
    """
    try:
        yield
    except (OSError, InputError) as error:
        behind = error.__cause__ if isinstance(error, InputError) else error
        if not isinstance(behind, OSError) or not is_full_disk(behind):
            raise
        path = behind.filename or folder
        raise NotWrittenError(f"{path} could not be written: {os.strerror(behind.errno or 0)}", HINT) from error
