"""What a merge is asked to do and what it works on: base, adapter, plan and quantization, brought together.

Reads headers and configs only, which takes no time. The work itself is in ``run``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch

from medqa_cli import console, hub
from medqa_cli.config.schema import ModelConfig, PromptConfig
from medqa_cli.errors import InputError
from medqa_cli.files import RunFolder
from medqa_cli.merging.adapter_file import AdapterFile
from medqa_cli.merging.four_bit import FourBit
from medqa_cli.merging.merged_weights import MergedWeights
from medqa_cli.merging.plan import MergePlan, make_plan
from medqa_cli.merging.skeleton import Skeleton, build_skeleton, expected_tensors, stored_names
from medqa_cli.merging.trained_how import trained_device, trained_dtype, trained_how
from medqa_cli.model.checks.adapter import refuse_idle, refuse_unmatched
from medqa_cli.model.checks.loaded_weights import refuse_missing
from medqa_cli.model.devices import describe_device, pick_compute_dtype, pick_device
from medqa_cli.model.load import base_of_adapter
from medqa_cli.model.resolve import ModelRef, base_folder
from medqa_cli.model.weights import FLOAT_TYPES, StoredTensor, WeightFiles, dtype_of

BaseWeights = Literal["nf4", "original", "auto"]
StoredType = Literal["auto", "bfloat16", "float16", "float32"]
_TYPE_NAMES = {"bfloat16": "BF16", "float16": "F16", "float32": "F32"}


@dataclass(frozen=True)
class MergeJob:
    """What one merge needs."""

    run: RunFolder
    out_dir: Path
    data_dir: Path
    model: ModelConfig
    prompt: PromptConfig
    base_weights: BaseWeights
    dtype: StoredType = "auto"


@dataclass(frozen=True)
class Given:
    """The base as it lies on the disk, and how the adapter was trained beside it.

    ``names``: the base weights that come into question, the one that is tried first at the front; ``trained``: the
    model section with the quantization of the training; ``compute_dtype``: the type that training computed in.
    """

    source: ModelRef
    base: WeightFiles
    names: tuple[str, ...]
    trained: ModelConfig
    device: torch.device
    compute_dtype: torch.dtype

    def options(self, job: MergeJob) -> dict[str, Any]:
        """Return the settings that decide about the merged folder."""
        return {
            "base_weights": job.base_weights,
            "dtype": job.dtype,
            "quantization": self.trained.quantization,
            "double_quantization": self.trained.double_quantization,
            "compute_dtype": str(self.compute_dtype).removeprefix("torch."),
            "max_length": job.model.max_length,
        }


@dataclass(frozen=True)
class Parts:
    """Everything that is known before the first weight is read. ``four_bit``: None if not trained beside 4 bits."""

    given: Given
    skeleton: Skeleton
    adapter: AdapterFile
    plan: MergePlan
    four_bit: FourBit | None

    def stored_as(self, type_name: str) -> Parts:
        """Return the same with all tensors of the merged model in one type, named as in safetensors."""
        return replace(self, plan=self.plan.stored_as(type_name))

    @property
    def one_type(self) -> torch.dtype | None:
        """The type of all tensors of the merged model where it is another than the base's; None: the base's types."""
        cast = next((recipe for recipe in self.plan.recipes if recipe.is_cast), None)
        return None if cast is None else dtype_of(cast.type_name)

    def weights(self, name: str) -> MergedWeights:
        """Return the merged weights onto ``nf4`` or ``original`` base weights."""
        plan = self.plan if name == "nf4" else self.plan.without_four_bit()
        return MergedWeights(self.given.base, self.adapter, plan, self.four_bit if name == "nf4" else None)

    @property
    def tensors(self) -> tuple[StoredTensor, ...]:
        """The tensors of the merged model, each with the base's file that it comes from."""
        stored = self.given.base.tensors
        return tuple(
            StoredTensor(recipe.name, stored[recipe.base_name].path, recipe.type_name, recipe.shape, -1)
            for recipe in self.plan.recipes
        )

    @property
    def faithful(self) -> frozenset[str]:
        """The base weights onto which the merged model is, up to rounding, base + adapter as it was trained."""
        if self.four_bit is not None:
            return frozenset({"nf4"})
        return frozenset({"original"} if self.given.trained.quantization == "none" else ())


def look_up(job: MergeJob) -> Given:
    """Find the base and how it was quantized in training.

    Raises:
        InputError: the base is missing or damaged, or the wanted base weights do not go with the training.
    """
    hub.name_repository(job.model.name_or_path)
    source = base_of_adapter(job.run.adapter_dir)
    trained = trained_how(job.run, job.model)
    names = _base_weights_in_question(job.base_weights, trained.quantization)
    device = pick_device()
    return Given(
        source=source,
        base=WeightFiles.open(base_folder(source)),
        names=names,
        trained=trained,
        device=device,
        compute_dtype=trained_dtype(job.run) or pick_compute_dtype(job.model.compute_dtype, device),
    )


def bring_together(job: MergeJob, given: Given) -> Parts:
    """Match the adapter with the base.

    Raises:
        InputError: they do not fit.
    """
    adapter = AdapterFile(job.run.adapter_dir)
    skeleton, model = build_skeleton(given.base.folder)
    four_bit = None
    if given.trained.quantization == "nf4" or given.trained.quantization == "fp4":
        how = given.trained
        four_bit = FourBit(given.trained.quantization, how.double_quantization, given.compute_dtype, given.device)
        _note_unsure_type(job, given)
    names = stored_names(model, given.base.names)
    none_fits = not names.of_parameter and not names.rearranged
    refuse_missing(names.missing, names.unexpected, given.source.name, none_fits=none_fits)
    plan = make_plan(given.base, skeleton, names, adapter, four_bit=four_bit is not None)
    _refuse_without_effect(adapter, given.base.folder)
    return Parts(given, skeleton, adapter, plan, four_bit)


def _refuse_without_effect(adapter: AdapterFile, base_dir: Path) -> None:
    """Refuse an adapter that changes nothing, or not all layers that its config names: as loading it does."""
    missing = expected_tensors(base_dir, adapter.folder) - adapter.shapes.keys()
    refuse_unmatched(sorted(missing), (), len(adapter.shapes), adapter.folder)
    updates = adapter.updates.values()
    idle = [update.b_key for update in updates if not adapter.tensor(update.b_key).count_nonzero()]
    has_others = bool(adapter.replacements) or any(update.magnitude_key or update.bias_key for update in updates)
    refuse_idle(idle, len(adapter.updates), adapter.folder, has_others=has_others)


def types_to_try(job: MergeJob, given: Given) -> list[str | None]:
    """Return the types to write the merged model in, the best first; None: those of the base.

    Rounded to bfloat16, merged weights lose one bit in 2**8, which turns near ties. Where the training computed more
    finely than the base is stored, ``auto`` takes float16, as large and eight times finer; if activations do not fit
    it, the base's own type.
    """
    if job.dtype != "auto":
        return [_TYPE_NAMES[job.dtype]]
    stored = {tensor.type_name for tensor in given.base.tensors.values()} & FLOAT_TYPES.keys()
    finer = stored == {"BF16"} and given.compute_dtype != torch.bfloat16
    return ["F16", None] if finer else [None]


def _base_weights_in_question(wanted: BaseWeights, quantization: str) -> tuple[str, ...]:
    if quantization in ("nf4", "fp4"):
        return ("original", "nf4") if wanted == "original" else ("nf4", "original")
    if wanted == "nf4":
        kind = "unquantized" if quantization == "none" else quantization
        raise InputError(
            f"--base-weights nf4: the adapter was trained beside {kind} weights, not 4-bit ones",
            "merge onto the original weights: --base-weights original (or auto)",
        )
    return ("original",)


def _note_unsure_type(job: MergeJob, given: Given) -> None:
    """Say so where the 4-bit weights depend on a type that training chose on another device and did not record.

    Weights are cast to that type before they are quantized, which changes those that are not stored as bfloat16.
    """
    stored = {tensor.type_name for tensor in given.base.tensors.values() if len(tensor.shape) == 2}
    recorded = trained_dtype(job.run) is not None or trained_device(job.run) == describe_device(given.device)
    if job.model.compute_dtype == "auto" and stored != {"BF16"} and not recorded:
        type_name = str(given.compute_dtype).removeprefix("torch.")
        console.note(
            f"the base is stored as {', '.join(sorted(stored))}: 4-bit weights are made as a training in {type_name} "
            "makes them; if it ran in another type, set model.compute_dtype to that"
        )
