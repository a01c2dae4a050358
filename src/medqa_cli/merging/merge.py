"""The work of ``medqa merge``, first form: the adapter's product is added to the unquantized base weights.

The result is a plain Transformers folder. The adapter was trained against the quantized base, so the merged model is
close to, not equal to, base + adapter; ``medqa eval --model adapter,merged`` measures by how much.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from medqa_cli import console
from medqa_cli.config.sections import ModelConfig
from medqa_cli.errors import InputError
from medqa_cli.model.adapter import base_of_adapter, load_adapter
from medqa_cli.model.base import load_base, load_tokenizer, stored_dtype_of
from medqa_cli.model.device import peak_memory_bytes
from medqa_cli.prompt import PromptContract
from medqa_cli.run_folder import RunFolder, atomic_dir, write_json

MERGE_FILE_NAME = "merge.json"


def merge(run: RunFolder, out_dir: Path) -> dict[str, Any]:
    """Merge the run's adapter into its base and write a folder that plain Transformers loads.

    The sums are made in float32; the weights are written in the type that the base is stored in.

    Args:
        run: the run whose adapter is merged.
        out_dir: where the folder appears, whole or not at all.

    Returns:
        The content of ``merge.json``.

    Raises:
        InputError: there is no adapter, its base is missing, or ``out_dir`` holds something else.
    """
    started = time.perf_counter()
    _require_replaceable(out_dir)
    source = base_of_adapter(run.adapter_dir)
    contract = PromptContract.load(run.adapter_dir)
    tokenizer = load_tokenizer(str(run.adapter_dir))
    stored_dtype = stored_dtype_of(source)
    unquantized = ModelConfig(quantization="none")
    base = load_base(source, unquantized, torch.device("cpu"), torch.float32, packed=False)
    tuned = load_adapter(base, run.adapter_dir)
    _untie_adapted_embeddings(tuned)
    merged = tuned.merge_and_unload(safe_merge=True).to(stored_dtype)
    with atomic_dir(out_dir) as temporary:
        _settle_generation_config(merged.generation_config, contract.stop_token_ids)
        merged.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
        contract.save(temporary)
        summary = {
            "base_weights": "original",
            "dtype": str(stored_dtype).removeprefix("torch."),
            "peak_memory_bytes": peak_memory_bytes(torch.device("cpu")),
            "largest_tensor_bytes": max(p.numel() * p.element_size() for p in merged.parameters()),
            "seconds": round(time.perf_counter() - started, 1),
            "verification": None,
        }
        write_json(temporary / MERGE_FILE_NAME, summary)
    return summary


def _untie_adapted_embeddings(tuned: Any) -> None:
    """Give the output layer weights of its own where an adapter changes only one of two tied layers."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    model = tuned.get_base_model()
    embedding, output = model.get_input_embeddings(), model.get_output_embeddings()
    adapted = [layer for layer in (embedding, output) if isinstance(layer, BaseTunerLayer)]
    if adapted and output is not None and output.weight is embedding.weight:
        plain = output.get_base_layer() if isinstance(output, BaseTunerLayer) else output
        plain.weight = torch.nn.Parameter(plain.weight.detach().clone(), requires_grad=False)
        model.config.tie_word_embeddings = False


def _settle_generation_config(config: Any, stop_token_ids: Sequence[int]) -> None:
    """Set the end tokens, and sampling where the base names a temperature without it: that file is not savable."""
    config.eos_token_id = list(stop_token_ids)
    if not config.do_sample and any(value not in (None, 1.0) for value in (config.temperature, config.top_p)):
        config.do_sample = True


def show(summary: dict[str, Any], out_dir: Path) -> None:
    """Print what was written and how to use it."""
    rows = [
        ["base weights", summary["base_weights"]],
        ["written as", summary["dtype"]],
        ["peak memory", f"{summary['peak_memory_bytes'] / 2**30:.2f} GiB"],
        ["time", f"{summary['seconds']:.0f} s"],
        ["compared with the adapter", "no: run medqa eval --model adapter,base,merged"],
    ]
    console.table("Merged", rows)
    console.line(f"model: {out_dir}   (loads in plain Transformers)")


def _require_replaceable(out_dir: Path) -> None:
    is_empty = out_dir.is_dir() and not any(out_dir.iterdir())
    if out_dir.exists() and not is_empty and not (out_dir / MERGE_FILE_NAME).is_file():
        raise InputError(f"{out_dir} exists and was not made by medqa merge", "choose another folder: --out DIR")
