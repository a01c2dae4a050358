"""Which model answers: the adapter of the run, its base, its merged model, or any folder. Does not generate."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from medqa_cli import hub
from medqa_cli.config.schema import ModelConfig, PromptConfig
from medqa_cli.errors import InputError
from medqa_cli.files import RunFolder
from medqa_cli.model.checks.adapter import ADAPTER_CONFIG_NAME
from medqa_cli.model.devices import pick_compute_dtype, pick_device
from medqa_cli.model.load import base_of_adapter, load_base, load_tokenizer, load_tuned, num_embeddings
from medqa_cli.model.resolve import ModelRef, find_base
from medqa_cli.prompt.encoder import PROMPT_FILE_NAME, PromptContract, PromptEncoder, make_contract


@dataclass(frozen=True)
class Answerer:
    """A loaded model with its prompt contract."""

    name: str
    base: str
    model: Any
    encoder: PromptEncoder
    device: torch.device
    dtype: torch.dtype


def load_answerer(
    choice: str, run: RunFolder, model: ModelConfig, prompt: PromptConfig, *, batches: bool = False
) -> Answerer:
    """Load the model that ``--model`` names: ``adapter``, ``base``, ``merged``, or a path or hub id.

    ``batches``: for many answers at once.

    Raises:
        InputError: it is not there; the message says which command makes it.
    """
    hub.name_repository(model.name_or_path)
    device = pick_device()
    dtype = pick_compute_dtype(model.compute_dtype, device)
    adapter_dir = _adapter_dir(choice, run)
    if adapter_dir is not None:
        tuned, tokenizer, contract = load_tuned(adapter_dir, model, device, dtype, packed=False, batches=batches)
        encoder = PromptEncoder(contract, tokenizer, num_embeddings(tuned.config))
        return Answerer(choice, base_of_adapter(adapter_dir).name, tuned, encoder, device, dtype)
    if choice == "merged" and not run.merged_dir.is_dir():
        raise InputError(f"no merged model in {run.merged_dir}", "make one: medqa merge")
    name = {"base": model.name_or_path, "merged": str(run.merged_dir)}.get(choice, choice)
    source = find_base(name, model.revision) if choice == "base" else find_base(name, named_by="--model")
    tokenizer = load_tokenizer(source.location, source.revision)
    contract = _contract_beside(source, run) or make_contract(prompt, tokenizer)
    if choice == "merged":
        # As eval scores it and other tools load it: merged weights are not quantized again.
        model = ModelConfig(quantization="none")
    loaded = load_base(source, model, device, dtype, packed=False, batches=batches)
    encoder = PromptEncoder(contract, tokenizer, num_embeddings(loaded.config))
    return Answerer(choice, source.name, loaded, encoder, device, dtype)


def _adapter_dir(choice: str, run: RunFolder) -> Path | None:
    if choice == "adapter":
        return run.adapter_dir
    path = Path(choice)
    return path if (path / ADAPTER_CONFIG_NAME).is_file() else None


def _contract_beside(source: ModelRef, run: RunFolder) -> PromptContract | None:
    """Return the contract of a merged model, or for a base that of the run's adapter: both are asked alike."""
    for folder in (Path(source.location), run.adapter_dir):
        if (folder / PROMPT_FILE_NAME).is_file():
            return PromptContract.load(folder)
    return None
