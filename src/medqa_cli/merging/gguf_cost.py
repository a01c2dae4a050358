"""What a GGUF file's rounding costs: its logits, computed by llama.cpp, against those of base + adapter."""

import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from medqa_cli import console
from medqa_cli.config.schema import Config
from medqa_cli.data.dataset import read_split
from medqa_cli.errors import InputError
from medqa_cli.files import RunFolder
from medqa_cli.merging.verify import LogitMetrics, computing_in, pick_examples
from medqa_cli.model import devices, gguf_model, llamacpp, load
from medqa_cli.model.kernels import packing
from medqa_cli.model.llamacpp import LlamaWeights
from medqa_cli.prompt.encoder import Example

# Answer tokens: the error of a share of 0.98 is half a percent, and a small model takes some seconds a file.
_WANTED_TOKENS = 800
_FLOAT32_OVER_STORED = 2  # the merged folder holds 16-bit weights


def measure(config: Config, run: RunFolder, merged_dir: Path, written: Sequence[dict[str, Any]]) -> None:
    """Compare files with base + adapter on held-out questions; add ``cost`` to their summaries and to ``gguf.json``.

    Where that cannot be done, a note says why, and ``cost`` is None.

    Args:
        config: the run, its data and its model.
        run: the folder that holds ``gguf.json``.
        merged_dir: the model that the files were made of.
        written: what ``export_run`` returned.
    """
    paths = {file["type"]: Path(file["path"]) for file in written}
    try:
        costs: Mapping[str, dict[str, Any]] = _costs(config, run, merged_dir, paths)
    except InputError as error:
        console.note(f"what the GGUF files cost was not measured: {error.message}")
        costs = {}
    for file in written:
        file["cost"] = costs.get(file["type"])
    record = gguf_model.GgufRecord.load(run.gguf_dir)
    if record is not None:
        replace(record, costs=costs).save(run.gguf_dir)


def _costs(config: Config, run: RunFolder, merged_dir: Path, paths: Mapping[str, Path]) -> dict[str, dict[str, Any]]:
    """Return the figures by type of file.

    Raises:
        InputError: llama.cpp, the data or the memory for it are not there.
    """
    if not llamacpp.is_installed():
        raise InputError("llama.cpp is not installed", llamacpp.INSTALL)
    data_dir = Path(config.data.dir)
    if not (data_dir / "validation.jsonl").is_file():
        raise InputError(f"there is no validation split in {data_dir.name}")
    stored = sum(path.stat().st_size for path in merged_dir.glob("*.safetensors"))
    needed = _FLOAT32_OVER_STORED * stored + max(path.stat().st_size for path in paths.values())
    if needed > devices.free_memory_bytes(torch.device("cpu")):
        raise InputError(f"that takes about {needed / 2**30:.1f} GiB of memory")
    started = time.perf_counter()
    console.doing("comparing the GGUF files ...")
    tuned = load.load_model("adapter", run, config.model, config.prompt, packed=True)
    rows = read_split(data_dir, "validation")
    examples = pick_examples(rows, tuned.encoder, config.model.max_length, _WANTED_TOKENS)
    if not examples:
        raise InputError("the validation split holds no question that can be scored")
    console.note(f"comparing the GGUF files with base + adapter on {len(examples)} validation questions ...")
    batches = [packing.pack([example], tuned.device) for example in examples]
    expected: list[torch.Tensor] = []
    with console.progress("computing base + adapter", len(batches)) as bar, computing_in(tuned.model, torch.float32):
        for batch in batches:
            bar.update(len(expected))
            expected.append(packing.answer_logits(tuned.model, batch).cpu())
    scores = [packing.scores_of_logits(logits, batch) for logits, batch in zip(expected, batches, strict=True)]
    adapter_nll = packing.mean_nll([score for of_batch in scores for score in of_batch])
    reference_seconds = time.perf_counter() - started
    costs = {}
    for kind, path in paths.items():
        started = time.perf_counter()
        with console.progress(f"comparing {path.name}", len(examples)) as bar:
            metrics = _compared(path, examples, batches, expected, bar)
        costs[kind] = {
            "questions": len(examples),
            **metrics.as_json(),
            "adapter_nll": adapter_nll,
            "seconds": round(reference_seconds / len(paths) + time.perf_counter() - started, 1),
        }
    return costs


def _compared(
    path: Path,
    examples: Sequence[Example],
    batches: Sequence[packing.PackedBatch],
    expected: Sequence[torch.Tensor],
    bar: console.ProgressHandle,
) -> LogitMetrics:
    """Return how far a file's logits are from those that are expected, ``(N, V)`` for each example."""
    metrics, longest = LogitMetrics(), max(len(example.input_ids) for example in examples)
    with closing(LlamaWeights(path)) as weights, closing(weights.open(1, longest)) as context:
        for number, (example, batch, logits) in enumerate(zip(examples, batches, expected, strict=True)):
            bar.update(number)
            places = batch.logit_positions.tolist()
            found = torch.from_numpy(context.logits_at(example.input_ids, places))
            if found.shape != logits.shape:
                raise InputError(f"{path.name} has a vocabulary of {found.shape[1]:,} tokens")
            metrics.add_batch(logits, found, replace(batch, targets=batch.targets.cpu()))
    return metrics


def show(written: Sequence[dict[str, Any]]) -> None:
    """Print what was measured, if anything was."""
    measured = [file for file in written if file["cost"]]
    if not measured:
        return
    first = measured[0]["cost"]
    rows = [["base + adapter", f"{first['adapter_nll']:.4f}", "", ""]]
    for file in measured:
        cost = file["cost"]
        nll, kl, top1 = f"{cost['answer_nll']:.4f}", f"{cost['mean_kl']:.1e}", f"{cost['top1_agreement']:.2%}"
        rows.append([Path(file["path"]).name, nll, kl, top1])
    title = f"GGUF against base + adapter: {first['questions']} questions, {first['answer_tokens']} answer tokens"
    console.table(title, rows, ["llama.cpp", "answer NLL", "mean KL", "top-1 agreement"])
