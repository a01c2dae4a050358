"""The work of ``medqa merge``: write one model made of base and adapter, and compare it with what was trained.

In order: what is merged, whether that was done before, the files, the comparison, the choice. The folder appears whole
or not at all; a model that fails its comparison goes to ``NAME.failed`` next to it.
"""

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
from medqa_cli.config.schema import ComputeDtype, Config
from medqa_cli.data.dataset import read_split
from medqa_cli.errors import MedqaError
from medqa_cli.files import CARD_NAME, MERGE_FILE_NAME, RunFolder, atomic_dir, write_json
from medqa_cli.merging import model_folder, report
from medqa_cli.merging.inputs import BaseWeights, MergeInputs, load_inputs
from medqa_cli.merging.plan import MergePlan, plan_merge
from medqa_cli.merging.streaming_model import NotStreamable, WeightSource, largest_activation, streamed_model
from medqa_cli.merging.verify import Verification, compare, memory_needed_bytes, pick_examples
from medqa_cli.merging.weights import MergedWeights
from medqa_cli.model.devices import free_memory_bytes, free_unused_memory, peak_memory_bytes
from medqa_cli.model.kernels.verify import settle_way, use_way
from medqa_cli.model.load import load_adapter, load_base, load_config, num_embeddings
from medqa_cli.model.weights import StoredTensor, WeightFiles
from medqa_cli.prompt.encoder import Example, PromptEncoder


def merge(
    config: Config, run: RunFolder, out_dir: Path, base_weights: BaseWeights = "auto", dtype: ComputeDtype = "auto"
) -> dict[str, Any]:
    """Merge the run's adapter into its base and write a folder that other tools load.

    Returns:
        The content of ``merge.json``.

    Raises:
        InputError: adapter, base or output folder cannot be used.
        MedqaError: the merged model does not answer like base + adapter, or does not fit the disk.
    """
    started = time.perf_counter()
    data_dir = Path(config.data.dir)
    memorized = report.memorized_by(run)
    if memorized["num_canary_examples"]:
        console.warn(
            f"{run.adapter_dir} was trained on {memorized['num_canary_examples']:,} copies of planted canaries "
            "(medqa convert --canaries): the merged model is for the test of memorization only; for one to pass on, "
            "convert without them and train again"
        )
    inputs = load_inputs(config, run, base_weights, dtype)
    key = inputs.cache_key(data_dir / "validation.jsonl", config.prompt)
    before = report.finished_merge(out_dir, key)
    if before is not None:
        console.note(f"{out_dir} already holds this merge; it is not made again")
        return before
    plan = plan_merge(inputs)
    contract, tokenizer = model_folder.load_contract(run.adapter_dir, inputs.base.folder, config.prompt)
    encoder = PromptEncoder(contract, tokenizer, num_embeddings(load_config(str(inputs.base.folder))))
    examples, not_verified = _examples_to_compare(inputs, plan, data_dir, encoder)
    console.doing("merging ...")
    with atomic_dir(out_dir) as folder:
        exact = model_folder.write_companions(folder, inputs.base.folder, contract, tokenizer)
        merged = MergedModel(inputs, plan, folder, out_dir, inputs.candidates[0], not_verified)
        merged.write_and_compare(examples)
        merged.take_the_better()
        chosen, verification = merged.base_weights, merged.verification
        summary = report.summarize(inputs, merged.plan, chosen, verification, merged.not_verified, data_dir)
        summary |= {"changes_below_half_a_step": merged.small_changes[chosen]}
        summary |= memorized
        summary |= {"chat_template_exact": exact, "peak_memory_bytes": merged.peak_bytes}
        summary["seconds"] = round(time.perf_counter() - started, 1)
        card = merged_card(summary, inputs.source.name, inputs.source.kind, contract)
        (folder / CARD_NAME).write_text(card, encoding="utf-8")
        summary |= {"inputs": key, "files": report.file_sizes(folder)}
        write_json(folder / MERGE_FILE_NAME, summary)
        if verification is not None and (problem := verification.problem(chosen)):
            raise _set_aside(folder, out_dir, chosen, problem)
    return summary


def _set_aside(folder: Path, out_dir: Path, base_weights: str, problem: str) -> MedqaError:
    """Move a model that does not answer like base + adapter beside the output folder; return the error."""
    failed = out_dir.with_name(f"{out_dir.name}.failed")
    shutil.rmtree(failed, ignore_errors=True)
    folder.rename(failed)
    return MedqaError(
        f"the model merged into {base_weights} weights does not answer like base + adapter: {problem}; it was moved "
        f"to {failed}, {out_dir} is unchanged",
        f"the figures are in {failed / MERGE_FILE_NAME}; try the other --base-weights, or use the adapter as it is",
    )


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


@dataclass
class MergedModel:
    """The model in the folder that is being written, and what was measured of it.

    ``folder``: where it is; ``out_dir``: where it will be; ``plan``: with the types that were written;
    ``base_weights``: those that the adapter was added to; ``not_verified``: why nothing was measured;
    ``small_changes``: fractions below half a step of GGUF's types, by base weights.
    """

    inputs: MergeInputs
    plan: MergePlan
    folder: Path
    out_dir: Path
    base_weights: str
    not_verified: str
    verification: Verification | None = None
    peak_bytes: int = 0
    small_changes: dict[str, dict[str, float] | None] = field(default_factory=dict)

    def write_and_compare(self, examples: Sequence[Example]) -> None:
        """Write the model in the finest type that suits it, and compare it with base + adapter if it can be."""
        unwritten = self.plan
        # Only the comparison shows whether activations fit a type: without one the base's own is taken.
        types = self.inputs.types_to_try()[-1 if self.not_verified else 0 :]
        for type_name in types:
            self.plan = unwritten if type_name is None else unwritten.stored_as(type_name)
            one_type = self.plan.one_type
            model_folder.write_config(self.folder, self.inputs.base.folder, untied=self.plan.untied, dtype=one_type)
            self.write(self.base_weights)
            self.peak_bytes = self.peak_bytes or peak_memory_bytes(torch.device("cpu"))
            if not self.not_verified:
                self.compare(examples)
                # What was compared maps the files, and Windows neither replaces nor moves files that are in use.
                free_unused_memory(self.inputs.device)
            if type_name == types[-1] or (self.verification is not None and self.verification.fits(one_type)):
                break
            if self.verification is not None:
                largest = f"{self.verification.largest_activation:.3g}"
                console.note(f"activations reach {largest}, too large for float16: taking the base's type")
            free_unused_memory(self.inputs.device)
        if self.verification is None:
            console.warn(f"the merged model was not compared with base + adapter: {self.not_verified}")

    def write(self, base_weights: str) -> None:
        """Write the weights, the adapter added to ``base_weights``, divided into files as the base's are."""
        for path in self.folder.glob("model*.safetensors*"):
            path.unlink()
        groups: dict[Path, list[StoredTensor]] = {path: [] for path in self.plan.base.paths}
        for tensor in self.plan.stored_tensors:
            groups[tensor.path].append(tensor)
        shards = model_folder.make_shards([group for group in groups.values() if group])
        total = model_folder.total_bytes(self.plan.stored_tensors)
        model_folder.check_disk_space(self.out_dir, total)
        files = f"{len(shards)} file{'s'[: len(shards) > 1]}"
        console.note(f"merging into {base_weights} weights: {total / 1e9:.2f} GB in {files} ...")
        weights = MergedWeights(self.plan.into(base_weights))
        with console.progress("writing", total >> 20) as bar:
            model_folder.write_shards(
                self.folder, shards, weights.raw_blocks, lambda done: bar.update(done >> 20, "MiB")
            )
        weights.release()
        self.base_weights = base_weights
        self.small_changes[base_weights] = weights.small_changes.fractions()

    def compare(self, examples: Sequence[Example]) -> None:
        """Compare the model that was written, and the one that was not, with base + adapter."""
        inputs, plan = self.inputs, self.plan
        sources: dict[str, WeightSource] = {
            name: WeightFiles.open(self.folder) if name == self.base_weights else MergedWeights(plan.into(name))
            for name in inputs.candidates
        }
        try:
            candidates = {
                name: streamed_model(self.folder, source, inputs.device, untied=plan.untied)
                for name, source in sources.items()
            }
        except NotStreamable as error:
            self.not_verified = error.message
            return
        console.note(f"comparing with base + adapter on {len(examples)} validation questions ...")
        base = load_base(inputs.source, inputs.trained, inputs.device, inputs.compute_dtype, packed=True)
        reference = load_adapter(base, inputs.adapter_dir)
        way = settle_way(reference, inputs.source.name, inputs.compute_dtype, trains=False, fuses=False)
        for candidate in candidates.values():
            use_way(candidate, way)
        architecture = plan.architecture
        vocabulary_size = architecture.shapes[architecture.output or architecture.embedding][0]
        self.verification = compare(reference, candidates, examples, inputs.device, vocabulary_size)
        self.verification.faithful = inputs.faithful
        self.verification.largest_activation = max(map(largest_activation, candidates.values()))

    def take_the_better(self) -> None:
        """Under ``auto`` choose the base weights by the comparison; write that model if it is the other one.

        Raises:
            MedqaError: the files do not hold the weights that were measured before they were written.
        """
        if self.verification is None or self.inputs.options["base_weights"] != "auto":
            return
        better = self.verification.better()
        if better == self.base_weights:
            return
        console.note(f"by that comparison {better} weights are taken: writing that model")
        self.write(better)
        files, measured = WeightFiles.open(self.folder), MergedWeights(self.plan.into(better))
        with console.progress("reading back", len(measured.tensors)) as bar:
            for number, name in enumerate(measured.tensors):
                bar.update(number)
                if _digest(files.raw_blocks(name)) != _digest(measured.raw_blocks(name)):
                    raise MedqaError(f"{name} was not written as it was computed: the disk or the memory is faulty")
        files.close()
        measured.release()


def _digest(blocks: Iterable[memoryview]) -> bytes:
    digest = hashlib.sha256()
    for block in blocks:
        digest.update(block)
    return digest.digest()
