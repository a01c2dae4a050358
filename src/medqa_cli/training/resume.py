"""Going on from an earlier training run of a run's folder, or starting over: which checkpoint, and whether it fits."""

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from medqa_cli import console, distributed
from medqa_cli.config.schema import Config, TrainConfig
from medqa_cli.data.dataset import INDEX_NAME
from medqa_cli.environment import INDEX_SHA256, TRAIN_SHA256, recorded_settings
from medqa_cli.errors import InputError
from medqa_cli.files import RunFolder, lack_of_room, sha256_of_file
from medqa_cli.training import callbacks, checkpoints, data_order

T = TypeVar("T")

_FIXED_MODEL_KEYS = ("name_or_path", "revision", "quantization", "double_quantization")
_FIXED_SOURCES_KEYS = ("gold", "closed_book", "absent", "headings")


def latest_checkpoint(checkpoints_dir: Path) -> Path | None:
    """Return the newest whole checkpoint; a damaged newer one is named and passed over."""
    for path in reversed(checkpoints.numbered_checkpoints(checkpoints_dir)):
        problem = checkpoints.problem_of(path)
        if problem is None:
            return path
        console.warn(f"{path} is {problem}; looking for an earlier checkpoint")
    return None


def find_checkpoint(run: RunFolder, *, resume: bool, restart: bool) -> Path | None:
    """Return the checkpoint to go on from; None for a fresh start. Changes nothing.

    Raises:
        InputError: there is nothing to resume, or the folder already holds a training run.
    """
    if restart:
        return None
    checkpoint = latest_checkpoint(run.checkpoints_dir)
    if resume and checkpoint is None:
        raise InputError(
            f"no checkpoint to resume from in {run.checkpoints_dir}", "start over with: medqa train --restart"
        )
    if not resume and (checkpoint is not None or run.adapter_dir.exists()):
        raise InputError(
            f"{run.path} already holds a training run",
            "go on with --resume, start over with --restart, or choose another folder: --set run_dir=...",
        )
    return checkpoint


def bound_to(config: Config, optimizer: str) -> dict[str, Any]:
    """Return all that a checkpoint is bound to (prompt, base, adapter, optimizer, data), as JSON gives it back.

    Args:
        config: of the training.
        optimizer: the one that runs here for ``train.optim``; the state of another does not fit.

    Raises:
        InputError: the training split cannot be read.
    """
    path = Path(config.data.dir) / "train.jsonl"
    index_path = Path(config.data.dir) / INDEX_NAME
    try:
        sha256 = sha256_of_file(path)
        index_sha256 = sha256_of_file(index_path) if config.prompt.sources and index_path.is_file() else None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}", "run: medqa convert FILE") from error
    settings = {
        **{f"lora.{key}": value for key, value in asdict(config.lora).items()},
        **{f"model.{key}": getattr(config.model, key) for key in _FIXED_MODEL_KEYS},
        **{f"prompt.{key}": value for key, value in asdict(config.prompt).items()},
        "train.optim": config.train.optim,
        TRAIN_SHA256: sha256,
        # The order of the rows, and what of long ones is left.
        "seed": config.seed,
        "model.max_length": config.model.max_length,
        "the optimizer on this device": optimizer,
        # A checkpoint knows its place in the data by the number of steps.
        "the number of examples per step": data_order.examples_per_step(config.train),
    }
    if config.prompt.sources:
        settings |= {f"sources.{key}": getattr(config.sources, key) for key in _FIXED_SOURCES_KEYS}
        settings[INDEX_SHA256] = index_sha256
    recorded: dict[str, Any] = json.loads(json.dumps(settings))
    return recorded


def check_fits(run: RunFolder, now: dict[str, Any]) -> None:
    """Check that the checkpoints of a run were made with what ``bound_to`` returns now.

    Raises:
        InputError: they were not; the message names each key that changed.
    """
    before = recorded_settings(run)
    if before:
        # An older medqa had no sources.
        before = {"prompt.sources": 0, **before}
    changed = [f"{key} was {before[key]}, is {value}" for key, value in now.items() if value != before.get(key, value)]
    if any(before.get(key, now.get(key)) != now.get(key) for key in (TRAIN_SHA256, INDEX_SHA256) if key in now):
        raise InputError(
            f"the data was converted again after the checkpoints of {run.path} were saved",
            "start over with: medqa train --restart",
        )
    if changed:
        raise InputError(
            f"the checkpoints of {run.path} do not fit the config: {'; '.join(changed)}",
            f"set what {run.config_path} says, or start over with: medqa train --restart",
        )


def checkpoint_to_go_on_from(
    run: RunFolder, trained_with: dict[str, Any], *, resume: bool, restart: bool
) -> Path | None:
    """Let rank 0 choose a checkpoint that fits; None for a fresh start.

    Raises:
        InputError: there is none to resume, it does not fit, another host does not see it, or an earlier training run
            stands in the way.
    """

    def choose() -> Path | None:
        checkpoint = find_checkpoint(run, resume=resume, restart=restart)
        if checkpoint is not None:
            check_fits(run, trained_with)
            size = distributed.world_size()
            saved = {path.name for path in checkpoint.glob("rng_state*.pth")}
            if saved != {checkpoints.rng_state_name(rank, size) for rank in range(size)}:
                console.warn(
                    f"{checkpoint} was not saved by {size} process(es): the order of the data and the optimizer go on, "
                    "dropout draws other numbers"
                )
        return checkpoint

    chosen = distributed.from_main(choose)
    with distributed.raise_on_all_ranks():
        if chosen is not None and not chosen.is_dir():
            raise InputError(
                f"there is no {chosen} here", "to resume on several hosts, put run_dir on a file system that they share"
            )
    return chosen


def prepare_run_folder(run: RunFolder, checkpoint: Path | None, *, restart: bool) -> None:
    """Make the folder and clear away what a killed run left half done.

    ``restart`` deletes the earlier training run and all that was made from its adapter.

    Raises:
        InputError: the folder cannot be written.
    """
    if restart:
        failed_merge = run.merged_dir.with_name(f"{run.merged_dir.name}.failed")
        made = (run.checkpoints_dir, run.adapter_dir, run.merged_dir, failed_merge, run.gguf_dir, run.eval_dir)
        for folder in made:
            shutil.rmtree(folder, ignore_errors=True)
        for path in (run.train_log_path, run.train_json_path, run.loss_plot_path):
            path.unlink(missing_ok=True)
    try:
        run.path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"run_dir: cannot write {run.path}: {error.strerror}", "--set run_dir=DIR") from error
    checkpoints.remove_leftovers(run.checkpoints_dir)
    for leftover in run.path.glob(f".{run.adapter_dir.name}.*"):
        shutil.rmtree(leftover, ignore_errors=True)
    # What it says is no longer so; it comes back at the end.
    run.train_json_path.unlink(missing_ok=True)
    if checkpoint is None:
        run.train_log_path.unlink(missing_ok=True)
    else:
        callbacks.keep_log_until(run.train_log_path, checkpoints.step_of(checkpoint))


def warn_if_disk_is_small(run: RunFolder, config: TrainConfig, num_steps: int, num_trained: int) -> None:
    """Say before a training run, not after hours of it, that its checkpoints may not find room.

    Args:
        run: where they go.
        config: how many there will be.
        num_steps: optimizer steps of the run.
        num_trained: parameters that are trained.
    """
    # Weights and two moments in float32. One more is written before an old one goes, and the best one is kept.
    checkpoint_bytes = num_trained * 4 * 3
    saves = -(-num_steps // config.save_steps)
    most = saves if config.save_total_limit is None else min(saves, config.save_total_limit + 2)
    what = f"{most} checkpoints of about {checkpoint_bytes / 2**20:,.0f} MiB"
    if problem := lack_of_room(run.path, most * checkpoint_bytes, what):
        console.warn(f"{problem}; train.save_total_limit keeps fewer, train.save_steps makes fewer")


def written_by_main(run: RunFolder, write: Callable[[], T]) -> T:
    """Do on rank 0 what writes into the run's folder; a full disk is an error on all ranks."""

    def guarded() -> T:
        with checkpoints.full_disk_is_an_error(run.path):
            return write()

    return distributed.from_main(guarded)
