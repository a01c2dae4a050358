"""Which tensors the merged model has and how each is made from base and adapter.

Every part of the adapter must match a weight of the base; a part that does not is named.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch

from medqa_cli import console
from medqa_cli.errors import InputError
from medqa_cli.merging.adapter_file import AdapterFile, LoraUpdate, expected_tensors
from medqa_cli.merging.architecture import Architecture, StoredNames, build_architecture, stored_names
from medqa_cli.merging.inputs import MergeInputs
from medqa_cli.model.checks.adapter import refuse_idle, refuse_unmatched
from medqa_cli.model.checks.loaded_weights import by, refuse_missing
from medqa_cli.model.weights import FLOAT_TYPES, TYPES, StoredTensor, WeightFiles

_HINT = "check that the adapter was trained on this base: base_model_name_or_path in adapter_config.json"


@dataclass(frozen=True)
class FourBit:
    """How the base was quantized in training; ``source_dtype``: the type that loading cast the weights to before."""

    quant_type: Literal["nf4", "fp4"]
    double_quantization: bool
    source_dtype: torch.dtype
    device: torch.device


@dataclass(frozen=True)
class TensorPlan:
    """How one tensor of the merged model is made.

    ``name``: in the written files; ``base_name``: the base's tensor that it starts from; ``replacement_key``: the
    adapter's tensor that replaces it; ``four_bit``: it was quantized in training; ``conv1d``: it is stored as
    (in, out); ``update``: the change by the adapter; ``is_bias_of_update``: it is the bias that ``update`` changes, not
    the weight; ``is_cast``: its type is not the base's.
    """

    name: str
    base_name: str
    type_name: str
    shape: tuple[int, ...]
    replacement_key: str | None = None
    four_bit: bool = False
    conv1d: bool = False
    update: LoraUpdate | None = None
    is_bias_of_update: bool = False
    is_cast: bool = False

    @property
    def is_copy(self) -> bool:
        """Whether the bytes of the base are taken as they are."""
        return self.update is None and self.replacement_key is None and not self.four_bit and not self.is_cast

    @property
    def columns_are_outputs(self) -> bool:
        """Whether the layer's outputs are the columns: Conv1D layers and embeddings."""
        return self.conv1d or (self.update is not None and self.update.is_embedding)


@dataclass(frozen=True)
class MergePlan:
    """The tensors of the merged model in the order in which they are written, and what they are made from.

    ``untied``: embedding and output layer, shared in the base, differ; ``quantization``: of the plan's 4-bit tensors;
    None: they are taken as the base stores them.
    """

    base: WeightFiles
    adapter: AdapterFile
    architecture: Architecture
    tensors: tuple[TensorPlan, ...]
    untied: bool
    quantization: FourBit | None

    def into(self, base_weights: str) -> MergePlan:
        """Return the plan that adds to ``nf4`` weights, those of 4-bit training, or to ``original`` ones."""
        if base_weights == "nf4":
            return self
        tensors = tuple(replace(tensor, four_bit=False) for tensor in self.tensors)
        return replace(self, tensors=tensors, quantization=None)

    def stored_as(self, type_name: str) -> MergePlan:
        """Return the plan that writes all floating-point tensors in one type, named as in safetensors."""
        tensors = [
            replace(tensor, type_name=type_name, is_cast=tensor.type_name != type_name)
            if tensor.type_name in FLOAT_TYPES
            else tensor
            for tensor in self.tensors
        ]
        return replace(self, tensors=tuple(tensors))

    @property
    def one_type(self) -> torch.dtype | None:
        """The one type of all tensors if it is not the base's; None: the base's types."""
        return next((TYPES[tensor.type_name] for tensor in self.tensors if tensor.is_cast), None)

    @property
    def stored_tensors(self) -> tuple[StoredTensor, ...]:
        """The tensors of the merged model, each with the base's file that it comes from."""
        return tuple(
            StoredTensor(tensor.name, self.base.tensors[tensor.base_name].path, tensor.type_name, tensor.shape, -1)
            for tensor in self.tensors
        )


def plan_merge(inputs: MergeInputs) -> MergePlan:
    """Match the adapter with the base; read headers and configs only.

    Raises:
        InputError: they do not fit, or the adapter changes nothing.
    """
    adapter = AdapterFile(inputs.adapter_dir)
    architecture, model = build_architecture(inputs.base.folder, inputs.base.tensors)
    quantization, kind = None, inputs.trained.quantization
    if kind == "nf4" or kind == "fp4":
        quantization = FourBit(kind, inputs.trained.double_quantization, inputs.compute_dtype, inputs.device)
        stored = {tensor.type_name for tensor in inputs.base.tensors.values() if len(tensor.shape) == 2}
        # Weights are cast to the compute type before they are quantized, which changes those not stored as bfloat16.
        if stored != {"BF16"} and not inputs.is_dtype_known:
            console.note(
                f"the base is stored as {', '.join(sorted(stored))}: 4-bit weights are made as a training run in "
                f"{inputs.options['compute_dtype']} makes them; if it ran in another type, set model.compute_dtype to "
                "that"
            )
    names = stored_names(model, inputs.base.tensors)
    none_fits = not names.of_parameter and not names.rearranged
    refuse_missing(names.missing, names.unexpected, inputs.source.name, none_fits=none_fits)
    plan = make_plan(inputs.base, architecture, names, adapter, quantization)
    # An adapter that changes nothing, or not all layers that its config names, is refused as loading it does.
    missing = expected_tensors(inputs.base.folder, adapter.folder) - adapter.shapes.keys()
    refuse_unmatched(sorted(missing), (), len(adapter.shapes), adapter.folder)
    updates = adapter.updates.values()
    idle = [update.b_key for update in updates if not adapter.tensor(update.b_key).count_nonzero()]
    has_others = bool(adapter.replacements) or any(update.magnitude_key or update.bias_key for update in updates)
    refuse_idle(idle, len(adapter.updates), adapter.folder, has_others=has_others)
    return plan


def make_plan(
    base: WeightFiles,
    architecture: Architecture,
    names: StoredNames,
    adapter: AdapterFile,
    quantization: FourBit | None,
) -> MergePlan:
    """Combine adapter and base; ``quantization``: of the weights that 4-bit loading quantizes, None: they are not.

    Raises:
        InputError: a part of the adapter matches no weight, or one of another shape.
    """
    _check_layers(architecture, names, adapter)
    written, untied = _layout(base, architecture, names, adapter)
    replacements = dict(adapter.replacements)
    pair = (architecture.embedding, architecture.output)
    for parameter, other in (pair, pair[::-1]) if architecture.is_tied else ():
        # Tied weights may be replaced under the other layer's name, unless that layer has a copy of its own.
        if other in adapter.replacements and other not in adapter.own_copies:
            replacements.setdefault(parameter, adapter.replacements[other])
    tensors: list[TensorPlan] = []
    for parameter, name, base_name in written:
        stored = base.tensors[base_name]
        layer, _, kind = parameter.rpartition(".")
        update = adapter.updates.get(layer) if kind in ("weight", "bias") else None
        if kind == "bias" and update is not None and update.bias_key is None:
            update = None
        key = replacements.get(parameter)
        tensor = TensorPlan(
            name,
            base_name,
            stored.type_name,
            stored.shape,
            replacement_key=key,
            # A layer of modules_to_save was trained in full precision.
            four_bit=quantization is not None and kind == "weight" and layer in architecture.four_bit and key is None,
            conv1d=architecture.kinds.get(layer) == "conv1d",
            update=update,
            is_bias_of_update=kind == "bias" and update is not None,
        )
        if not tensor.is_copy and stored.type_name not in FLOAT_TYPES:
            raise InputError(f"{base_name} is stored as {stored.type_name}: an adapter cannot be added to it", _HINT)
        tensors.append(tensor)
    plan = MergePlan(base, adapter, architecture, tuple(tensors), untied, quantization)
    _check_complete(plan)
    return plan


def _layout(
    base: WeightFiles, architecture: Architecture, names: StoredNames, adapter: AdapterFile
) -> tuple[list[tuple[str, str, str]], bool]:
    """Return parameter, name in the merged files and name in the base's files of each tensor, in their order.

    Also returns whether weights that the config ties are written apart: the base's files hold two different tensors for
    them, or the adapter changes one layer of the pair or has a copy of it.
    """
    pair = (architecture.embedding, architecture.output) if architecture.is_tied else ()
    stored = [names.of_parameter[parameter] for parameter in pair if parameter in names.of_parameter]
    is_shared = len(stored) == 1 or (len(stored) == 2 and base.are_equal(*stored))
    changed = {f"{module}.weight" for module in adapter.updates} | adapter.own_copies
    is_split = is_shared and not changed.isdisjoint(pair)
    parameter_of = {name: parameter for parameter, name in names.of_parameter.items()}
    written: list[tuple[str, str, str]] = []
    for name in base.tensors:
        parameter = parameter_of.get(name, "")
        if not is_shared or parameter not in pair:
            written.append((parameter, name, name))
        elif name == stored[0]:  # a second copy is left out
            targets = pair if is_split else (parameter,)
            written += [(target, names.of_parameter.get(target, target), name) for target in targets]
    return written, bool(pair) and (is_split or not is_shared)


def _check_layers(architecture: Architecture, names: StoredNames, adapter: AdapterFile) -> None:
    """Check that the model has each layer of the adapter, of its kind and shape, and the files its weight as it is."""
    for module, update in adapter.updates.items():
        kind, shape = architecture.kinds.get(module), architecture.shapes.get(f"{module}.weight")
        if kind is None or shape is None:
            raise InputError(f"the adapter changes {module}, which the base model does not have", _HINT)
        if update.is_embedding != (kind == "embedding") or kind == "other":
            raise InputError(f"the adapter changes {module}, which is not a linear layer in the base model", _HINT)
        a, b = adapter.shapes[update.a_key], adapter.shapes[update.b_key]
        made = (a[1], b[0]) if kind in ("conv1d", "embedding") else (b[0], a[1])
        if made != shape:
            raise InputError(
                f"the adapter does not fit the base model: {module} is {by(shape)} there, and the adapter's matrices "
                f"make {by(made)}",
                _HINT,
            )
        if update.magnitude_key and adapter.shapes[update.magnitude_key] != (b[0],):
            size = by(adapter.shapes[update.magnitude_key])
            raise InputError(f"the adapter is damaged: the magnitude of {module} is {size}", "train again")
    for parameter, key in adapter.replacements.items():
        if parameter not in architecture.shapes:
            experts = f"{parameter.rpartition('.')[0]}.0."
            if any(name.startswith(experts) for name in architecture.shapes):
                raise _joined(parameter)
            raise InputError(f"the adapter holds {parameter}, which the base model does not have", _HINT)
        if adapter.shapes[key] != architecture.shapes[parameter]:
            raise InputError(
                f"the adapter holds {parameter} as {by(adapter.shapes[key])}, the base model has "
                f"{by(architecture.shapes[parameter])}; a changed vocabulary is not supported",
                _HINT,
            )
    changed = {*(f"{module}.weight" for module in adapter.updates), *adapter.replacements}
    joined = sorted(changed - names.of_parameter.keys()) if names.rearranged else []
    if joined:
        raise _joined(joined[0])


def _joined(parameter: str) -> InputError:
    return InputError(
        f"the adapter changes {parameter}, which the weight files hold in pieces that Transformers joins while "
        "loading; merging into such layers is not supported",
        "merge with PEFT's merge_and_unload, or train adapters on the attention layers only",
    )


def _check_complete(plan: MergePlan) -> None:
    """Check that every part of the adapter is used, and that tied weights are replaced by one set of values."""
    adapter, architecture = plan.adapter, plan.architecture
    used = {tensor.replacement_key for tensor in plan.tensors}
    if architecture.is_tied and not plan.untied:
        pair = (architecture.embedding, architecture.output)
        keys = [adapter.replacements[name] for name in pair if name in adapter.replacements]
        if len(keys) == 2 and not adapter.tensor(keys[0]).equal(adapter.tensor(keys[1])):
            raise InputError(
                f"the adapter holds two different tensors for the tied weights {pair[0]} and {pair[1]}",
                "save it with PEFT's modules_to_save for one of the two layers",
            )
        used.update(keys)  # of two equal ones the first
    changed = {tensor.update.module for tensor in plan.tensors if tensor.update and not tensor.is_bias_of_update}
    left = [module for module in adapter.updates if module not in changed]
    left += [parameter for parameter, key in adapter.replacements.items() if key not in used]
    if left:
        raise InputError(
            f"the adapter changes {left[0]}, for which the base's files hold no weight ({len(left)} such parts)", _HINT
        )
    biased = {tensor.update.module for tensor in plan.tensors if tensor.update and tensor.is_bias_of_update}
    without = [module for module, update in adapter.updates.items() if update.bias_key and module not in biased]
    if without:
        raise InputError(
            f"the adapter has a bias for {without[0]} (lora_bias), which has none in the base model", _HINT
        )
