"""The work of ``medqa merge``: one model out of base and adapter, shard by shard, compared with what was trained.

Read it top to bottom: what is merged, whether that was done before, the files, the comparison, the choice. The folder
appears whole or not at all; a model that fails its comparison is put beside it, under ``NAME.failed``.
"""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch

from medqa_cli import console
from medqa_cli.config.sections import ModelConfig, PromptConfig
from medqa_cli.data.dataset import read_split
from medqa_cli.errors import InputError, MedqaError
from medqa_cli.merging.adapter_file import AdapterFile
from medqa_cli.merging.base_folder import base_folder, trained_how
from medqa_cli.merging.four_bit import FourBit
from medqa_cli.merging.inputs import MERGE_FILE_NAME, describe_inputs, file_sizes, finished_merge
from medqa_cli.merging.merged_weights import MergedWeights
from medqa_cli.merging.model_card import model_card
from medqa_cli.merging.model_folder import load_contract, write_companions
from medqa_cli.merging.plan import MergePlan, Recipe, make_plan
from medqa_cli.merging.reference import load_reference, memory_available_bytes, memory_needed_bytes
from medqa_cli.merging.skeleton import Skeleton, build_skeleton, stored_names
from medqa_cli.merging.streamed import NotStreamable, WeightSource, streamed_model
from medqa_cli.merging.verify import Verification, compare, pick_examples
from medqa_cli.merging.weight_files import StoredTensor, WeightFiles
from medqa_cli.merging.writing import Shard, check_disk_space, make_shards, total_bytes, write_shards
from medqa_cli.model.adapter import base_of_adapter
from medqa_cli.model.device import peak_memory_bytes, pick_compute_dtype, pick_device
from medqa_cli.model.source import BaseSource
from medqa_cli.prompt import Example, PromptEncoder
from medqa_cli.run_folder import RunFolder, atomic_dir, read_json, write_json

BaseWeights = Literal["nf4", "original", "auto"]


@dataclass(frozen=True)
class MergeJob:
    """What one merge needs."""

    run: RunFolder
    out_dir: Path
    data_dir: Path
    model: ModelConfig
    prompt: PromptConfig
    base_weights: BaseWeights


@dataclass(frozen=True)
class _Parts:
    """Everything that is known before the first weight is read. ``names``: base weights that come into question."""

    job: MergeJob
    source: BaseSource
    base_dir: Path
    base: WeightFiles
    skeleton: Skeleton
    adapter: AdapterFile
    plan: MergePlan
    trained: ModelConfig
    four_bit: FourBit | None
    names: tuple[str, ...]
    device: torch.device
    compute_dtype: torch.dtype

    def weights(self, name: str) -> MergedWeights:
        """Return the merged weights onto ``nf4`` or ``original`` base weights."""
        plan = self.plan if name == "nf4" else self.plan.without_four_bit()
        return MergedWeights(self.base, self.adapter, plan, self.four_bit if name == "nf4" else None)


def merge(job: MergeJob) -> dict[str, Any]:
    """Merge the run's adapter into its base and write a folder that other tools load.

    Returns:
        The content of ``merge.json``.

    Raises:
        InputError: adapter, base or output folder stand in the way, or there is no room.
        MedqaError: the merged model does not answer like base + adapter.
    """
    started = time.perf_counter()
    source = base_of_adapter(job.run.adapter_dir)
    trained = trained_how(job.run, job.model)
    names = _base_weights_in_question(job.base_weights, trained.quantization)
    base_dir = base_folder(source)
    base = WeightFiles.open(base_dir)
    device = pick_device()
    compute_dtype = pick_compute_dtype(job.model.compute_dtype, device)
    inputs = describe_inputs(
        job.run.adapter_dir, source, base, _options(job, trained, compute_dtype), job.data_dir / "validation.jsonl"
    )
    before = finished_merge(job.out_dir, inputs)
    if before is not None:
        console.note(f"{job.out_dir} holds this very merge already; nothing was done")
        return before
    parts = _bring_together(job, source, base_dir, base, trained, names, device, compute_dtype)
    contract, tokenizer = load_contract(job.run.adapter_dir, base_dir, job.prompt)
    examples, reason = _held_out(job, PromptEncoder(contract, tokenizer))
    with atomic_dir(job.out_dir) as folder:
        exact = write_companions(folder, base_dir, contract, tokenizer, untied=parts.plan.untied)
        chosen, found, reason, peak = _write_and_compare(parts, folder, examples, reason)
        summary = _summary(parts, chosen, found, reason, exact)
        summary["peak_memory_bytes"] = peak
        summary["seconds"] = round(time.perf_counter() - started, 1)
        card = model_card(summary, source.name, source.kind, contract)
        (folder / "README.md").write_text(card, encoding="utf-8")
        summary |= {"inputs": inputs, "files": file_sizes(folder)}
        write_json(folder / MERGE_FILE_NAME, summary)
        if found is not None and (problem := found.problem(chosen)):
            _put_aside(folder, job.out_dir, chosen, problem)
    return summary


def _base_weights_in_question(wanted: BaseWeights, quantization: str) -> tuple[str, ...]:
    """Return which base weights come into question, the one that is tried first at the front.

    Raises:
        InputError: the adapter was not trained beside 4-bit weights, and those are asked for.
    """
    if quantization in ("nf4", "fp4"):
        return ("original", "nf4") if wanted == "original" else ("nf4", "original")
    if wanted == "nf4":
        kind = "unquantized" if quantization == "none" else quantization
        raise InputError(
            f"--base-weights nf4: the adapter was trained beside {kind} weights, not 4-bit ones",
            "merge onto the original weights: --base-weights original (or auto)",
        )
    return ("original",)


def _options(job: MergeJob, trained: ModelConfig, compute_dtype: torch.dtype) -> dict[str, Any]:
    return {
        "base_weights": job.base_weights,
        "quantization": trained.quantization,
        "double_quantization": trained.double_quantization,
        "compute_dtype": str(compute_dtype).removeprefix("torch."),
        "max_length": job.model.max_length,
    }


def _bring_together(
    job: MergeJob,
    source: BaseSource,
    base_dir: Path,
    base: WeightFiles,
    trained: ModelConfig,
    names: tuple[str, ...],
    device: torch.device,
    compute_dtype: torch.dtype,
) -> _Parts:
    adapter = AdapterFile(job.run.adapter_dir)
    skeleton, model = build_skeleton(base_dir)
    in_four_bit = trained.quantization in ("nf4", "fp4")
    plan = make_plan(base, skeleton, stored_names(model, base.names), adapter, four_bit=in_four_bit)
    four_bit = None
    if trained.quantization == "nf4" or trained.quantization == "fp4":
        four_bit = FourBit(trained.quantization, trained.double_quantization, compute_dtype, device)
    return _Parts(job, source, base_dir, base, skeleton, adapter, plan, trained, four_bit, names, device, compute_dtype)


def _held_out(job: MergeJob, encoder: PromptEncoder) -> tuple[list[Example], str]:
    """Return validation questions to compare on, or none and why."""
    if not (job.data_dir / "validation.jsonl").is_file():
        return [], f"there is no validation split in {job.data_dir.name}"
    examples = pick_examples(read_split(job.data_dir, "validation"), encoder, job.model.max_length)
    return examples, "" if examples else "the validation split holds no question that can be scored"


def _write_and_compare(
    parts: _Parts, folder: Path, examples: Sequence[Example], reason: str
) -> tuple[str, Verification | None, str, int]:
    """Write the first candidate, compare, and write the other one where that is the better.

    Returns:
        The base weights that were taken; what was measured, or None; why nothing was; the peak memory of the writing.
    """
    chosen = parts.names[0]
    _write(parts, chosen, folder)
    peak = peak_memory_bytes(torch.device("cpu"))
    if not examples:
        console.warn(f"the merged model was not compared with base + adapter: {reason}")
        return chosen, None, reason, peak
    needed = memory_needed_bytes(parts.skeleton, parts.adapter, parts.trained.quantization)
    available = memory_available_bytes(parts.device)
    if needed > available:
        reason = f"that takes about {needed / 2**30:.1f} GiB of memory, {available / 2**30:.1f} GiB are available"
        console.warn(f"the merged model was not compared with base + adapter: {reason}")
        return chosen, None, reason, peak
    try:
        found = _compare(parts, folder, chosen, examples)
    except NotStreamable as error:
        console.warn(f"the merged model was not compared with base + adapter: {error.message}")
        return chosen, None, error.message, peak
    if parts.job.base_weights == "auto" and (better := found.better()) != chosen:
        console.note(f"onto {better} weights the answers are more likely: writing that one")
        _write(parts, better, folder)
        _check_written(folder, parts.weights(better))
        chosen = better
    return chosen, found, "", peak


def _write(parts: _Parts, name: str, folder: Path) -> None:
    for path in folder.glob("model*.safetensors*"):
        path.unlink()
    weights = parts.weights(name)
    shards = _shards(parts)
    total = total_bytes(shards)
    check_disk_space(parts.job.out_dir, total)
    console.note(f"merging onto {name} weights: {total / 1e9:.2f} GB in {len(shards)} file{'s'[: len(shards) > 1]} ...")
    megabytes = total >> 20
    with console.progress("writing", megabytes) as bar:
        write_shards(folder, shards, weights.raw_blocks, lambda done: bar.update(done >> 20, "MiB"))
    weights.release()


def _shards(parts: _Parts) -> list[Shard]:
    """Divide the merged tensors as the base's files do."""
    groups: dict[Path, list[StoredTensor]] = {path: [] for path in parts.base.paths}
    for recipe in parts.plan.recipes:
        path = parts.base.tensors[recipe.base_name].path
        groups[path].append(_announced(recipe, path))
    return make_shards([group for group in groups.values() if group])


def _announced(recipe: Recipe, path: Path) -> StoredTensor:
    return StoredTensor(recipe.name, path, recipe.type_name, recipe.shape, -1)


def _check_written(folder: Path, measured: MergedWeights) -> None:
    """Check that the files hold exactly the weights that were measured before they were written."""
    files = WeightFiles.open(folder)
    for name in measured.names:
        if _digest(files.raw_blocks(name)) != _digest(measured.raw_blocks(name)):
            raise MedqaError(f"{name} was not written as it was computed: the disk or the memory is faulty")


def _digest(blocks: Iterable[memoryview]) -> bytes:
    found = hashlib.sha256()
    for block in blocks:
        found.update(block)
    return found.digest()


def _compare(parts: _Parts, folder: Path, written: str, examples: Sequence[Example]) -> Verification:
    """Compare the model that was written, and the one that was not, with base + adapter."""
    sources: dict[str, WeightSource] = {
        name: WeightFiles.open(folder) if name == written else parts.weights(name) for name in parts.names
    }
    candidates = {
        name: streamed_model(folder, source, parts.device, untied=parts.plan.untied) for name, source in sources.items()
    }
    console.note(f"comparing with base + adapter on {len(examples)} validation questions ...")
    reference = load_reference(
        parts.source, parts.job.run.adapter_dir, parts.trained, parts.device, parts.compute_dtype
    )
    vocabulary_size = parts.skeleton.shapes[parts.skeleton.output or parts.skeleton.embedding][0]
    found = compare(reference, candidates, examples, parts.device, vocabulary_size)
    found.faithful = frozenset(
        {"nf4"} if parts.four_bit else {"original"} if parts.trained.quantization == "none" else ()
    )
    return found


def _put_aside(folder: Path, out_dir: Path, chosen: str, problem: str) -> None:
    """Move a model that failed its comparison to ``NAME.failed``.

    Raises:
        MedqaError: always.
    """
    failed = out_dir.with_name(f"{out_dir.name}.failed")
    shutil.rmtree(failed, ignore_errors=True)
    folder.rename(failed)
    raise MedqaError(
        f"the model merged onto {chosen} weights does not answer like base + adapter: {problem}; it was put into "
        f"{failed}, {out_dir} was left as it was",
        f"the figures are in {failed / MERGE_FILE_NAME}; try the other --base-weights, or use the adapter as it is",
    )


def _summary(parts: _Parts, chosen: str, found: Verification | None, reason: str, exact: bool) -> dict[str, Any]:
    recipes = parts.plan.recipes
    changed = [recipe for recipe in recipes if recipe.update and not recipe.is_bias_of_update]
    sizes = {recipe.name: _announced(recipe, parts.base_dir) for recipe in recipes}
    largest = max(sizes.values(), key=lambda tensor: tensor.num_bytes)
    config = parts.adapter.config
    return {
        "base_weights": chosen,
        "requested_base_weights": parts.job.base_weights,
        "reason": _why(parts, chosen, found),
        "trained_with": {
            "quantization": parts.trained.quantization,
            "double_quantization": parts.trained.double_quantization,
            "compute_dtype": str(parts.compute_dtype).removeprefix("torch."),
        },
        "dtype": str(parts.base.tensors[changed[0].base_name if changed else recipes[0].base_name].dtype)[6:],
        "adapter": {
            "kind": "DoRA" if config.get("use_dora") else "rsLoRA" if config.get("use_rslora") else "LoRA",
            "r": config.get("r"),
            "lora_alpha": config.get("lora_alpha"),
            "layers": len(changed),
            "replaced_tensors": len(parts.adapter.replacements),
        },
        "untied": parts.plan.untied,
        "total_size_bytes": sum(tensor.num_bytes for tensor in sizes.values()),
        "largest_tensor": largest.name,
        "largest_tensor_bytes": largest.num_bytes,
        "chat_template_exact": exact,
        "data": _data(parts.job.data_dir),
        "verification": found.as_json(chosen) if found else None,
        "not_verified": reason or None,
        "medqa_version": version("medqa-cli"),
    }


def _why(parts: _Parts, chosen: str, found: Verification | None) -> str:
    if len(parts.names) == 1:
        return f"the adapter was trained beside {parts.trained.quantization} weights; there is one way to merge it"
    if parts.job.base_weights != "auto":
        return "asked for"
    if found is None:
        return "nothing was measured; onto these weights the merged model is the one that was trained"
    others = [name for name in found.candidates if name != chosen]
    nll = {name: measured.nll for name, measured in found.candidates.items()}
    return f"answer NLL {nll[chosen]:.4f}, onto {others[0]} weights {nll[others[0]]:.4f} nats per token"


def _data(data_dir: Path) -> dict[str, Any] | None:
    path = data_dir / "report.json"
    if not path.is_file():
        return None
    report: Mapping[str, Any] = read_json(path)
    try:
        source = report["source"]
        # A name, not the path: the folder travels to other people.
        return {**report["splits"], "source": Path(str(source["path"])).name, "sha256": source["sha256"]}
    except (KeyError, TypeError):
        return None
