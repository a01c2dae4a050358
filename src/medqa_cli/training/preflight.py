"""What must be right before a training begins, on all ranks: the same data, a fitting checkpoint, a base that is there.

Does not change the run's folder and does not load weights.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch

from medqa_cli import console, distributed
from medqa_cli.config.schema import LoraConfig, ModelConfig, PromptConfig, TrainConfig
from medqa_cli.errors import InputError
from medqa_cli.files import RunFolder, sha256_of_file
from medqa_cli.model.source import BaseSource, find_base
from medqa_cli.training.checkpoints import check_fits, find_checkpoint, fixed_settings
from medqa_cli.training.random_states import random_state_name


def examples_per_step(config: TrainConfig) -> int:
    """Return the examples of an optimizer step over all ranks."""
    return config.per_device_train_batch_size * config.gradient_accumulation_steps * distributed.world_size()


def num_steps(config: TrainConfig, num_examples: int) -> int:
    """Return the optimizer steps of a training on so many examples."""
    if config.max_steps > 0:
        return config.max_steps
    return math.ceil(math.ceil(num_examples / examples_per_step(config)) * config.num_train_epochs)


def bound_to(
    prompt: PromptConfig, model: ModelConfig, lora: LoraConfig, train: TrainConfig, data_dir: Path, optimizer: str
) -> dict[str, Any]:
    """Return all that this training's checkpoints are bound to, as ``environment.json`` records it.

    Args:
        prompt: section of the config.
        model: section of the config.
        lora: section of the config.
        train: section of the config.
        data_dir: the folder that ``medqa convert`` wrote.
        optimizer: the one that runs here for ``train.optim``; another has another state.

    Raises:
        InputError: the training split cannot be read.
    """
    path = data_dir / "train.jsonl"
    try:
        sha256 = sha256_of_file(path)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}", "run: medqa convert FILE") from error
    return {
        **fixed_settings(prompt, model, lora, train.optim, sha256),
        "the optimizer on this device": optimizer,
        # A checkpoint knows its place in the data by the number of steps.
        "the number of examples per step": examples_per_step(train),
    }


def check_same_on_all_ranks(resolved_config: str, trained_with: dict[str, Any], dtype: torch.dtype) -> None:
    """Check that all ranks have the same config, data and number type: each works out by itself what the others do.

    Raises:
        InputError: they have not.
    """
    seen = distributed.all_gather((resolved_config, trained_with, dtype))
    for number, (config, settings, own_dtype) in enumerate(seen):
        if (config, settings) != seen[0][:2]:
            what = "config" if config != seen[0][0] else "train.jsonl in data.dir"
            raise InputError(
                f"the processes do not read the same {what}: process {number} differs from process 0",
                "give all hosts the same files, best on a file system that they share",
            )
        if own_dtype != seen[0][2]:
            raise InputError(
                f"model.compute_dtype: auto is {seen[0][2]} on process 0 and {own_dtype} on process {number}",
                "set model.compute_dtype to a type that all GPUs compute",
            )


def checkpoint_to_go_on_from(
    run: RunFolder, trained_with: dict[str, Any], *, resume: bool, restart: bool
) -> Path | None:
    """Let rank 0 choose a checkpoint that fits; None for a fresh start.

    Raises:
        InputError: there is none to resume, it does not fit, another host does not see it, or an earlier training
            stands in the way.
    """

    def choose() -> Path | None:
        checkpoint = find_checkpoint(run, resume=resume, restart=restart)
        if checkpoint is not None:
            check_fits(run, trained_with)
            _warn_of_other_ranks(checkpoint)
        return checkpoint

    chosen = distributed.from_main(choose)
    with distributed.raise_on_all_ranks():
        if chosen is not None and not chosen.is_dir():
            raise InputError(
                f"there is no {chosen} here", "to resume on several hosts, put run_dir on a file system that they share"
            )
    return chosen


def _warn_of_other_ranks(checkpoint: Path) -> None:
    saved = {path.name for path in checkpoint.glob("rng_state*.pth")}
    needed = {random_state_name(rank, distributed.world_size()) for rank in range(distributed.world_size())}
    if saved != needed:
        console.warn(
            f"{checkpoint} was not saved by {distributed.world_size()} process(es): the order of the data and the "
            "optimizer go on, dropout draws other numbers"
        )


def find_base_in_turns(config: ModelConfig) -> BaseSource:
    """Find the base; a GGUF file is converted by rank 0, then by one rank of each host that has a cache of its own.

    Raises:
        InputError: it is not there.
    """
    found: BaseSource | None = None
    for my_turn in (distributed.is_main(), distributed.local_rank() == 0, True):
        with distributed.raise_on_all_ranks():
            if my_turn and found is None:
                found = find_base(config.name_or_path, config.revision)
    assert found is not None  # the last turn is everyone's
    return found
