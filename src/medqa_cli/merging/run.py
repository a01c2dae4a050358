"""The work of ``medqa merge``: one model out of base and adapter, shard by shard, compared with what was trained.

Read it top to bottom: what is merged, whether that was done before, the files, the comparison, the choice. The folder
appears whole or not at all; a model that fails its comparison is put beside it, under ``NAME.failed``.
"""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

from medqa_cli import console
from medqa_cli.data.dataset import read_split
from medqa_cli.errors import MedqaError
from medqa_cli.files import atomic_dir, write_json
from medqa_cli.merging.inputs import MERGE_FILE_NAME, describe_inputs, file_sizes, finished_merge
from medqa_cli.merging.merged_weights import MergedWeights
from medqa_cli.merging.model_card import model_card
from medqa_cli.merging.model_folder import load_contract, write_companions, write_config
from medqa_cli.merging.parts import MergeJob, Parts, bring_together, look_up, types_to_try
from medqa_cli.merging.reference import load_reference, memory_needed_bytes
from medqa_cli.merging.small_changes import SmallChanges
from medqa_cli.merging.streamed import NotStreamable, WeightSource, largest_activation, streamed_model
from medqa_cli.merging.summary import summarize
from medqa_cli.merging.verify import Verification, compare, pick_examples
from medqa_cli.merging.writing import Shard, check_disk_space, make_shards, total_bytes, write_shards
from medqa_cli.model.devices import free_memory_bytes, free_unused_memory, peak_memory_bytes
from medqa_cli.model.kernels.parity import settle_way, use_way
from medqa_cli.model.load import load_config, num_embeddings
from medqa_cli.model.weights import StoredTensor, WeightFiles
from medqa_cli.prompt.encoder import Example, PromptEncoder


def merge(job: MergeJob) -> dict[str, Any]:
    """Merge the run's adapter into its base and write a folder that other tools load.

    Returns:
        The content of ``merge.json``.

    Raises:
        InputError: adapter, base or output folder stand in the way, or there is no room.
        MedqaError: the merged model does not answer like base + adapter.
    """
    started = time.perf_counter()
    given = look_up(job)
    inputs = describe_inputs(
        job.run.adapter_dir, given.source, given.base, given.options(job), job.data_dir / "validation.jsonl"
    )
    before = finished_merge(job.out_dir, inputs)
    if before is not None:
        console.note(f"{job.out_dir} holds this very merge already; nothing was done")
        return before
    parts = bring_together(job, given)
    contract, tokenizer = load_contract(job.run.adapter_dir, given.base.folder, job.prompt)
    encoder = PromptEncoder(contract, tokenizer, num_embeddings(load_config(str(given.base.folder))))
    examples, reason = _held_out(job, encoder)
    with atomic_dir(job.out_dir) as folder:
        exact = write_companions(folder, given.base.folder, contract, tokenizer)
        reason = reason or _no_memory_for(parts)
        first = given.names[0]
        small: dict[str, SmallChanges] = {}
        parts, found, reason, peak = _write_and_compare(job, parts, examples, reason, folder, small)
        if found is None:
            console.warn(f"the merged model was not compared with base + adapter: {reason}")
        chosen = _choose(job, parts, first, found, folder, small)
        summary = summarize(job, parts, chosen, found, reason)
        summary |= {"changes_below_half_a_step": small[chosen].shares()}
        summary |= {"chat_template_exact": exact, "peak_memory_bytes": peak}
        summary["seconds"] = round(time.perf_counter() - started, 1)
        card = model_card(summary, given.source.name, given.source.kind, contract)
        (folder / "README.md").write_text(card, encoding="utf-8")
        summary |= {"inputs": inputs, "files": file_sizes(folder)}
        write_json(folder / MERGE_FILE_NAME, summary)
        if found is not None and (problem := found.problem(chosen)):
            _put_aside(folder, job.out_dir, chosen, problem)
    return summary


def _write_and_compare(
    job: MergeJob,
    parts: Parts,
    examples: Sequence[Example],
    reason: str,
    folder: Path,
    small: dict[str, SmallChanges],
) -> tuple[Parts, Verification | None, str, int]:
    """Write the model in the finest type that suits it, and compare it; ``reason``: why it cannot be compared.

    ``small`` gets the count of small changes, by base weights.

    Returns:
        The parts as they were written, what was measured or None and why nothing was, and the peak memory of writing.
    """
    first, peak = parts.given.names[0], 0
    found: Verification | None = None
    # Whether activations fit a type shows in the comparison only: without one the base's own is taken.
    types = types_to_try(job, parts.given)[-1 if reason else 0 :]
    for type_name in types:
        typed = parts if type_name is None else parts.stored_as(type_name)
        write_config(folder, parts.given.base.folder, untied=parts.plan.untied, dtype=typed.one_type)
        small[first] = _write(job, typed, first, folder)
        peak = peak or peak_memory_bytes(torch.device("cpu"))
        if not reason:
            found, reason = _compare(job, typed, first, examples, folder)
        if found is None or type_name is None or found.fits(typed.one_type) or type_name == types[-1]:
            break
        console.note(f"activations reach {found.largest_activation:.3g}, too large for float16: taking the base's type")
        free_unused_memory(parts.given.device)
    return typed, found, reason, peak


def _held_out(job: MergeJob, encoder: PromptEncoder) -> tuple[list[Example], str]:
    """Return validation questions to compare on, or none and why."""
    if not (job.data_dir / "validation.jsonl").is_file():
        return [], f"there is no validation split in {job.data_dir.name}"
    examples = pick_examples(read_split(job.data_dir, "validation"), encoder, job.model.max_length)
    return examples, "" if examples else "the validation split holds no question that can be scored"


def _no_memory_for(parts: Parts) -> str:
    """Say why base + adapter cannot be loaded for a comparison; empty where it can."""
    needed = memory_needed_bytes(parts.skeleton, parts.adapter, parts.given.trained.quantization)
    available = free_memory_bytes(parts.given.device)
    if needed <= available:
        return ""
    return f"that takes about {needed / 2**30:.1f} GiB of memory, {available / 2**30:.1f} GiB are available"


def _write(job: MergeJob, parts: Parts, name: str, folder: Path) -> SmallChanges:
    for path in folder.glob("model*.safetensors*"):
        path.unlink()
    weights = parts.weights(name)
    shards = _shards(parts)
    total = total_bytes(shards)
    check_disk_space(job.out_dir, total)
    console.note(f"merging onto {name} weights: {total / 1e9:.2f} GB in {len(shards)} file{'s'[: len(shards) > 1]} ...")
    with console.progress("writing", total >> 20) as bar:
        write_shards(folder, shards, weights.raw_blocks, lambda done: bar.update(done >> 20, "MiB"))
    weights.release()
    return weights.small_changes


def _shards(parts: Parts) -> list[Shard]:
    """Divide the merged tensors as the base's files do."""
    groups: dict[Path, list[StoredTensor]] = {path: [] for path in parts.given.base.paths}
    for tensor in parts.tensors:
        groups[tensor.path].append(tensor)
    return make_shards([group for group in groups.values() if group])


def _compare(
    job: MergeJob, parts: Parts, written: str, examples: Sequence[Example], folder: Path
) -> tuple[Verification | None, str]:
    """Compare the model that was written, and the one that was not, with base + adapter.

    Returns:
        What was measured, or None and why nothing was.
    """
    given, device, untied = parts.given, parts.given.device, parts.plan.untied
    sources: dict[str, WeightSource] = {
        name: WeightFiles.open(folder) if name == written else parts.weights(name) for name in given.names
    }
    try:
        candidates = {name: streamed_model(folder, source, device, untied=untied) for name, source in sources.items()}
    except NotStreamable as error:
        return None, error.message
    console.note(f"comparing with base + adapter on {len(examples)} validation questions ...")
    reference = load_reference(given.source, job.run.adapter_dir, given.trained, device, given.compute_dtype)
    way = settle_way(reference, given.source.name, given.compute_dtype, trains=False, fuses=False)
    for candidate in candidates.values():
        use_way(candidate, way)
    vocabulary_size = parts.skeleton.shapes[parts.skeleton.output or parts.skeleton.embedding][0]
    found = compare(reference, candidates, examples, device, vocabulary_size)
    found.faithful = parts.faithful
    found.largest_activation = max(map(largest_activation, candidates.values()))
    return found, ""


def _choose(
    job: MergeJob,
    parts: Parts,
    written: str,
    found: Verification | None,
    folder: Path,
    small: dict[str, SmallChanges],
) -> str:
    """Return the base weights to take; under ``auto`` the better ones, which are written if they are not yet."""
    if found is None or job.base_weights != "auto":
        return written
    better = found.better()
    if better != written:
        console.note(f"onto {better} weights the answers are more likely: writing that one")
        small[better] = _write(job, parts, better, folder)
        _check_written(folder, parts.weights(better))
    return better


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
