"""The work of ``medqa merge``: one model out of base and adapter, shard by shard, compared with what was trained.

Read it top to bottom: what is merged, whether that was done before, the files, the comparison, the choice. The folder
appears whole or not at all; a model that fails its comparison is put beside it, under ``NAME.failed``.
"""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from medqa_cli import console
from medqa_cli.cards import merged_card
from medqa_cli.config.schema import Config
from medqa_cli.data.dataset import read_split
from medqa_cli.errors import MedqaError
from medqa_cli.files import RunFolder, atomic_dir, write_json
from medqa_cli.merging.inputs import (
    MERGE_FILE_NAME,
    BaseWeights,
    MergeInputs,
    StoredType,
    file_sizes,
    finished_merge,
    load_inputs,
)
from medqa_cli.merging.model_folder import load_contract, write_companions, write_config
from medqa_cli.merging.plan import MergePlan, plan_merge
from medqa_cli.merging.report import summarize
from medqa_cli.merging.safetensors_writer import check_disk_space, make_shards, total_bytes, write_shards
from medqa_cli.merging.streaming_model import NotStreamable, WeightSource, largest_activation, streamed_model
from medqa_cli.merging.verify import Verification, compare, memory_needed_bytes, pick_examples
from medqa_cli.merging.weights import MergedWeights
from medqa_cli.model.devices import free_memory_bytes, free_unused_memory, peak_memory_bytes
from medqa_cli.model.kernels.parity import settle_way, use_way
from medqa_cli.model.load import load_adapter, load_base, load_config, num_embeddings
from medqa_cli.model.weights import StoredTensor, WeightFiles
from medqa_cli.prompt.encoder import Example, PromptEncoder


@dataclass
class _Written:
    """The model in the folder: onto which weights, by which plan, and what was measured of it.

    ``not_verified``: why nothing was; ``small_changes``: fractions below half a step of GGUF's types, by base weights.
    """

    base_weights: str
    plan: MergePlan
    verification: Verification | None = None
    not_verified: str = ""
    peak_bytes: int = 0
    small_changes: dict[str, dict[str, float] | None] = field(default_factory=dict)


def merge(
    config: Config, run: RunFolder, out_dir: Path, base_weights: BaseWeights = "auto", dtype: StoredType = "auto"
) -> dict[str, Any]:
    """Merge the run's adapter into its base and write a folder that other tools load.

    Returns:
        The content of ``merge.json``.

    Raises:
        InputError: adapter, base or output folder stand in the way, or there is no room.
        MedqaError: the merged model does not answer like base + adapter.
    """
    started = time.perf_counter()
    data_dir = Path(config.data.dir)
    inputs = load_inputs(config, run, base_weights, dtype)
    key = inputs.cache_key(data_dir / "validation.jsonl")
    before = finished_merge(out_dir, key)
    if before is not None:
        console.note(f"{out_dir} holds this very merge already; nothing was done")
        return before
    plan = plan_merge(inputs)
    contract, tokenizer = load_contract(run.adapter_dir, inputs.base.folder, config.prompt)
    encoder = PromptEncoder(contract, tokenizer, num_embeddings(load_config(str(inputs.base.folder))))
    examples, not_verified = _examples_to_compare(inputs, plan, data_dir, encoder)
    with atomic_dir(out_dir) as folder:
        exact = write_companions(folder, inputs.base.folder, contract, tokenizer)
        written = _write_and_compare(inputs, plan, examples, not_verified, folder, out_dir)
        _take_the_better(inputs, written, folder, out_dir)
        chosen, verification = written.base_weights, written.verification
        summary = summarize(inputs, written.plan, chosen, verification, written.not_verified, data_dir)
        summary |= {"changes_below_half_a_step": written.small_changes[chosen]}
        summary |= {"chat_template_exact": exact, "peak_memory_bytes": written.peak_bytes}
        summary["seconds"] = round(time.perf_counter() - started, 1)
        card = merged_card(summary, inputs.source.name, inputs.source.kind, contract)
        (folder / "README.md").write_text(card, encoding="utf-8")
        summary |= {"inputs": key, "files": file_sizes(folder)}
        write_json(folder / MERGE_FILE_NAME, summary)
        if verification is not None and (problem := verification.problem(chosen)):
            _put_aside(folder, out_dir, chosen, problem)
    return summary


def _examples_to_compare(
    inputs: MergeInputs, plan: MergePlan, data_dir: Path, encoder: PromptEncoder
) -> tuple[list[Example], str]:
    """Return validation questions to compare on, or none and why there can be no comparison."""
    if not (data_dir / "validation.jsonl").is_file():
        return [], f"there is no validation split in {data_dir.name}"
    examples = pick_examples(read_split(data_dir, "validation"), encoder, inputs.options["max_length"])
    if not examples:
        return [], "the validation split holds no question that can be scored"
    needed = memory_needed_bytes(plan.architecture, plan.adapter, inputs.trained.quantization)
    available = free_memory_bytes(inputs.device)
    if needed > available:
        return [], f"that takes about {needed / 2**30:.1f} GiB of memory, {available / 2**30:.1f} GiB are available"
    return examples, ""


def _write_and_compare(
    inputs: MergeInputs,
    plan: MergePlan,
    examples: Sequence[Example],
    not_verified: str,
    folder: Path,
    out_dir: Path,
) -> _Written:
    """Write the model in the finest type that suits it, and compare it; ``not_verified``: why it cannot be compared."""
    written = _Written(inputs.candidates[0], plan, not_verified=not_verified)
    # Whether activations fit a type shows in the comparison only: without one the base's own is taken.
    types = inputs.types_to_try()[-1 if not_verified else 0 :]
    for type_name in types:
        written.plan = plan if type_name is None else plan.stored_as(type_name)
        write_config(folder, inputs.base.folder, untied=plan.untied, dtype=written.plan.one_type)
        _write(written, written.base_weights, folder, out_dir)
        written.peak_bytes = written.peak_bytes or peak_memory_bytes(torch.device("cpu"))
        if not written.not_verified:
            _compare(inputs, written, examples, folder)
        verification = written.verification
        if verification is None or verification.fits(written.plan.one_type) or type_name in (None, types[-1]):
            break
        largest = f"{verification.largest_activation:.3g}"
        console.note(f"activations reach {largest}, too large for float16: taking the base's type")
        free_unused_memory(inputs.device)
    if written.verification is None:
        console.warn(f"the merged model was not compared with base + adapter: {written.not_verified}")
    return written


def _write(written: _Written, base_weights: str, folder: Path, out_dir: Path) -> None:
    """Write the weights onto ``base_weights``, divided into files as the base's are."""
    for path in folder.glob("model*.safetensors*"):
        path.unlink()
    groups: dict[Path, list[StoredTensor]] = {path: [] for path in written.plan.base.paths}
    for tensor in written.plan.stored_tensors:
        groups[tensor.path].append(tensor)
    shards = make_shards([group for group in groups.values() if group])
    total = total_bytes(shards)
    check_disk_space(out_dir, total)
    files = f"{len(shards)} file{'s'[: len(shards) > 1]}"
    console.note(f"merging onto {base_weights} weights: {total / 1e9:.2f} GB in {files} ...")
    weights = MergedWeights(written.plan.onto(base_weights))
    with console.progress("writing", total >> 20) as bar:
        write_shards(folder, shards, weights.raw_blocks, lambda done: bar.update(done >> 20, "MiB"))
    weights.release()
    written.base_weights = base_weights
    written.small_changes[base_weights] = weights.small_changes.fractions()


def _compare(inputs: MergeInputs, written: _Written, examples: Sequence[Example], folder: Path) -> None:
    """Compare the model that was written, and the one that was not, with base + adapter."""
    device, plan = inputs.device, written.plan
    sources: dict[str, WeightSource] = {
        name: WeightFiles.open(folder) if name == written.base_weights else MergedWeights(plan.onto(name))
        for name in inputs.candidates
    }
    try:
        candidates = {
            name: streamed_model(folder, source, device, untied=plan.untied) for name, source in sources.items()
        }
    except NotStreamable as error:
        written.verification, written.not_verified = None, error.message
        return
    console.note(f"comparing with base + adapter on {len(examples)} validation questions ...")
    base = load_base(inputs.source, inputs.trained, device, inputs.compute_dtype, packed=True)
    reference = load_adapter(base, inputs.adapter_dir)
    way = settle_way(reference, inputs.source.name, inputs.compute_dtype, trains=False, fuses=False)
    for candidate in candidates.values():
        use_way(candidate, way)
    architecture = plan.architecture
    vocabulary_size = architecture.shapes[architecture.output or architecture.embedding][0]
    written.verification = compare(reference, candidates, examples, device, vocabulary_size)
    written.verification.faithful = inputs.faithful
    written.verification.largest_activation = max(map(largest_activation, candidates.values()))


def _take_the_better(inputs: MergeInputs, written: _Written, folder: Path, out_dir: Path) -> None:
    """Under ``auto`` take the base weights that answer better; write that model if it is not the one in the folder.

    Raises:
        MedqaError: the files do not hold the weights that were measured before they were written.
    """
    if written.verification is None or inputs.options["base_weights"] != "auto":
        return
    better = written.verification.better()
    if better == written.base_weights:
        return
    console.note(f"onto {better} weights the answers are more likely: writing that one")
    _write(written, better, folder, out_dir)
    files, measured = WeightFiles.open(folder), MergedWeights(written.plan.onto(better))
    for name in measured.names:
        if _digest(files.raw_blocks(name)) != _digest(measured.raw_blocks(name)):
            raise MedqaError(f"{name} was not written as it was computed: the disk or the memory is faulty")


def _digest(blocks: Iterable[memoryview]) -> bytes:
    digest = hashlib.sha256()
    for block in blocks:
        digest.update(block)
    return digest.digest()


def _put_aside(folder: Path, out_dir: Path, base_weights: str, problem: str) -> None:
    """Move a model that failed its comparison to ``NAME.failed``.

    Raises:
        MedqaError: always.
    """
    failed = out_dir.with_name(f"{out_dir.name}.failed")
    shutil.rmtree(failed, ignore_errors=True)
    folder.rename(failed)
    raise MedqaError(
        f"the model merged onto {base_weights} weights does not answer like base + adapter: {problem}; it was put into "
        f"{failed}, {out_dir} was left as it was",
        f"the figures are in {failed / MERGE_FILE_NAME}; try the other --base-weights, or use the adapter as it is",
    )
