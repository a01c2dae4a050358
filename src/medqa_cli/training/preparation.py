"""What a training or its plan needs before weights are loaded: base, tokenizer, encoded examples, predicted memory.

Does not load weights and does not change the run's folder.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import torch

from medqa_cli import console, distributed
from medqa_cli.allocator import release_idle_memory
from medqa_cli.config.schema import LoraConfig, ModelConfig, PromptConfig, TrainConfig
from medqa_cli.data.dataset import read_split
from medqa_cli.files import RunFolder
from medqa_cli.model.attention import has_flash_attention
from medqa_cli.model.base import load_config, load_tokenizer, num_embeddings
from medqa_cli.model.machine import free_memory_bytes, host_memory_bytes
from medqa_cli.model.source import BaseSource
from medqa_cli.prompt.encoder import PromptContract, PromptEncoder, make_contract
from medqa_cli.prompt.template import prompt_notes
from medqa_cli.training.examples import EncodedSplit, encode_rows
from medqa_cli.training.prediction import Predictor, Settings, Target
from medqa_cli.training.preflight import find_base_in_turns

# What libraries take on a CPU once they compute, beside the tensors: 75 to 115 MiB (docs/experiments.md, 2026-11-24,
# less the frozen weights that the prediction counted twice then).
_COMPUTING_BYTES = 100 << 20
_NO_EXAMPLES = EncodedSplit([], 0, 0)


@dataclass(frozen=True)
class TrainJob:
    """What one training needs: sections of the config, the run's folder, and its resolved config as text."""

    run: RunFolder
    data_dir: Path
    prompt: PromptConfig
    model: ModelConfig
    lora: LoraConfig
    train: TrainConfig
    seed: int
    resolved_config: str


@dataclass(frozen=True)
class Prepared:
    """What the config's names stand for here; ``dtype`` is the type of the matrix products."""

    device: torch.device
    dtype: torch.dtype
    source: BaseSource
    tokenizer: Any
    contract: PromptContract
    data: EncodedSplit
    validation: EncodedSplit


def prepare(job: TrainJob, device: torch.device, dtype: torch.dtype) -> Prepared:
    """Find the base, read and encode the data. All ranks must call it.

    Raises:
        InputError: data or base are not there or cannot be used.
        MedqaError: there is nothing to learn.
    """
    with distributed.raise_on_all_ranks():
        train_rows = read_split(job.data_dir, "train")
        validation_rows = read_split(job.data_dir, "validation")
    source = find_base_in_turns(job.model)
    with distributed.raise_on_all_ranks():
        tokenizer = load_tokenizer(source.location, source.revision)
        contract = make_contract(job.prompt, tokenizer)
        for note in prompt_notes(job.prompt, tokenizer):
            console.note(note)
        encoder = PromptEncoder(contract, tokenizer, num_embeddings(load_config(source.location, source.revision)))
        data = encode_rows(train_rows, encoder, job.model.max_length)
        validation = encode_rows(validation_rows, encoder, job.model.max_length) if validation_rows else _NO_EXAMPLES
        _report_counts(data, job.model.max_length)
    return Prepared(device, dtype, source, tokenizer, contract, data, validation)


def _report_counts(data: EncodedSplit, max_length: int) -> None:
    if data.num_truncated_answers:
        console.warn(
            f"{data.num_truncated_answers} of {len(data.examples)} answers do not fit model.max_length = {max_length}: "
            "they are cut and get no end token"
        )
    if data.num_without_answer:
        console.warn(
            f"{data.num_without_answer} rows left out: their prompt alone fills model.max_length = {max_length}"
        )


def settings_of(job: TrainJob) -> Settings:
    """Return the sections on which memory depends."""
    return Settings(job.model, job.lora, job.train)


def predictor(prepared: Prepared, target: Target) -> Predictor:
    """Return what predicts the memory of this training on a device.

    Raises:
        InputError: the base's config cannot be read.
        MedqaError: its step cannot be run without weights.
    """
    config = load_config(prepared.source.location, prepared.source.revision)
    return Predictor(config, prepared.data.examples, prepared.dtype, target)


def device_at_hand(device: torch.device) -> Target:
    """Return the device that this process would train on."""
    free = free_memory_bytes(device)
    num_shards = distributed.world_size() if distributed.is_sharded() else 1
    if device.type == "cuda":
        total = int(torch.cuda.get_device_properties(device).total_memory)
        return Target("cuda", total, free, 0, num_shards, has_flash_attention(device))
    release_idle_memory()  # what imports and encoding left behind is not part of the program
    resident = int(psutil.Process().memory_info().rss)
    return Target("cpu", host_memory_bytes(), free + resident, resident + _COMPUTING_BYTES, num_shards)


def without_validation(prepared: Prepared) -> Prepared:
    """Return the same without validation examples."""
    return replace(prepared, validation=_NO_EXAMPLES)
