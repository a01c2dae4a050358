"""Which tensors the merged model has and how each is made: an adapter brought together with a base model.

Everything of the adapter must find its place; what does not fit is named. Computes nothing (``merged_weights``).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from medqa_cli.errors import InputError
from medqa_cli.merging.adapter_file import AdapterFile, LoraUpdate
from medqa_cli.merging.skeleton import Skeleton, StoredNames
from medqa_cli.model.weights import FLOAT_TYPES, WeightFiles

_HINT = "check that the adapter was trained on this base: base_model_name_or_path in adapter_config.json"


@dataclass(frozen=True)
class Recipe:
    """How one tensor of the merged model is made.

    ``name``: in the written files; ``base_name``: the base's tensor that it starts from; ``replacement_key``: the
    adapter's tensor that stands in its place; ``four_bit``: it was quantized in training; ``columns_are_outputs``: it
    is stored as (in, out), as Conv1D layers are, or is an embedding; ``update``: the change by the adapter;
    ``is_bias_of_update``: it is the bias that ``update`` changes, not the weight; ``is_cast``: it is written in another
    type than the base's.
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
        """Whether outputs of the layer stand in the columns: Conv1D layers and embeddings."""
        return self.conv1d or (self.update is not None and self.update.is_embedding)


@dataclass(frozen=True)
class MergePlan:
    """The tensors of the merged model in the order in which they are written. ``untied``: two layers share no more."""

    recipes: tuple[Recipe, ...]
    untied: bool

    def without_four_bit(self) -> MergePlan:
        """Return the plan onto the unquantized base."""
        return replace(self, recipes=tuple(replace(recipe, four_bit=False) for recipe in self.recipes))

    def stored_as(self, type_name: str) -> MergePlan:
        """Return the plan that writes all floating-point tensors in one type, named as in safetensors."""
        recipes = [
            replace(recipe, type_name=type_name, is_cast=recipe.type_name != type_name)
            if recipe.type_name in FLOAT_TYPES
            else recipe
            for recipe in self.recipes
        ]
        return replace(self, recipes=tuple(recipes))


def make_plan(
    base: WeightFiles, skeleton: Skeleton, names: StoredNames, adapter: AdapterFile, *, four_bit: bool
) -> MergePlan:
    """Bring adapter and base together.

    Args:
        base: the weight files.
        skeleton: the model they belong to.
        names: how names in the files and in the model go together.
        adapter: what is added.
        four_bit: weights that 4-bit loading quantizes pass through that quantization.

    Raises:
        InputError: a part of the adapter finds no weight, or one of another shape.
    """
    _check_layers(skeleton, adapter)
    _check_rearranged(names, adapter)
    parameter_of = {stored: parameter for parameter, stored in names.of_parameter.items()}
    tied = _is_tied(skeleton)
    shared = _shared_name(base, skeleton, names) if tied else ""
    separate = bool(shared) and _changes_one_of_two(skeleton, adapter)
    recipes: list[Recipe] = []
    for name, tensor in base.tensors.items():
        parameter = parameter_of.get(name, "")
        made = [(name, parameter)]
        if shared and parameter in (skeleton.embedding, skeleton.output):
            if name != shared:
                continue  # a second copy of the shared weights: they are written once
            both = (skeleton.embedding, skeleton.output)
            made = [(names.of_parameter.get(each, each), each) for each in both] if separate else made
        for written, each in made:
            recipe = Recipe(written, name, tensor.type_name, tensor.shape)
            recipes.append(_with_adapter(recipe, each, skeleton, adapter, four_bit))
    plan = MergePlan(tuple(recipes), untied=separate or (tied and not shared))
    _check_complete(plan, adapter, skeleton)
    return plan


def _with_adapter(recipe: Recipe, parameter: str, skeleton: Skeleton, adapter: AdapterFile, four_bit: bool) -> Recipe:
    layer, _, kind = parameter.rpartition(".")
    key = adapter.replacements.get(parameter) or _replacement_of_shared(parameter, skeleton, adapter)
    update = adapter.updates.get(layer) if kind in ("weight", "bias") else None
    is_bias = kind == "bias"
    if is_bias and (update is None or update.bias_key is None):
        update = None
    recipe = replace(
        recipe,
        replacement_key=key,
        update=update,
        is_bias_of_update=is_bias and update is not None,
        # A layer of modules_to_save was trained in full precision.
        four_bit=four_bit and kind == "weight" and layer in skeleton.four_bit and key is None,
        conv1d=skeleton.kinds.get(layer) == "conv1d",
    )
    if not recipe.is_copy and recipe.type_name not in FLOAT_TYPES:
        raise InputError(f"{recipe.base_name} is stored as {recipe.type_name}: an adapter cannot be added to it", _HINT)
    return recipe


def _replacement_of_shared(parameter: str, skeleton: Skeleton, adapter: AdapterFile) -> str | None:
    """Return what replaces tied weights by way of the other layer's name; a layer's own copy stays its own."""
    pair = {skeleton.embedding: skeleton.output, skeleton.output: skeleton.embedding}
    other = pair.get(parameter) if _is_tied(skeleton) else None
    return adapter.replacements.get(other) if other and other not in adapter.own_copies else None


def _is_tied(skeleton: Skeleton) -> bool:
    return bool(skeleton.output) and skeleton.tied.get(skeleton.output) == skeleton.embedding


def _shared_name(base: WeightFiles, skeleton: Skeleton, names: StoredNames) -> str:
    """Return the stored name of the tied weights; empty where the files hold two different ones, which stay apart."""
    embedding, output = (names.of_parameter.get(name, "") for name in (skeleton.embedding, skeleton.output))
    if embedding and output and not base.are_equal(embedding, output):
        return ""
    return embedding or output


def _changes_one_of_two(skeleton: Skeleton, adapter: AdapterFile) -> bool:
    """Tell whether the output layer and the embedding differ after the merge although the base ties them."""
    layers = [name.rpartition(".")[0] for name in (skeleton.embedding, skeleton.output)]
    return any(layer in adapter.updates for layer in layers) or bool(
        {skeleton.embedding, skeleton.output} & adapter.own_copies
    )


def _check_layers(skeleton: Skeleton, adapter: AdapterFile) -> None:
    for module, update in adapter.updates.items():
        kind, shape = skeleton.kinds.get(module), skeleton.shapes.get(f"{module}.weight")
        if kind is None or shape is None:
            raise InputError(f"the adapter changes {module}, which the base model does not have", _HINT)
        if update.is_embedding != (kind == "embedding") or kind == "other":
            raise InputError(f"the adapter changes {module}, which is no linear layer in the base model", _HINT)
        a, b = adapter.shapes[update.a_key], adapter.shapes[update.b_key]
        made = (a[1], b[0]) if kind in ("conv1d", "embedding") else (b[0], a[1])
        if made != shape:
            raise InputError(
                f"the adapter does not fit the base model: {module} is {_by(shape)} there, and the adapter's matrices "
                f"make {_by(made)}",
                _HINT,
            )
        if update.magnitude_key and adapter.shapes[update.magnitude_key] != (b[0],):
            found = adapter.shapes[update.magnitude_key]
            raise InputError(f"the adapter is damaged: the magnitude of {module} is {_by(found)}", "train again")
    for parameter, key in adapter.replacements.items():
        if parameter not in skeleton.shapes:
            raise InputError(f"the adapter holds {parameter}, which the base model does not have", _HINT)
        if adapter.shapes[key] != skeleton.shapes[parameter]:
            raise InputError(
                f"the adapter holds {parameter} as {_by(adapter.shapes[key])}, the base model has "
                f"{_by(skeleton.shapes[parameter])}; a changed vocabulary is not supported",
                _HINT,
            )


def _check_rearranged(names: StoredNames, adapter: AdapterFile) -> None:
    changed = {*(f"{module}.weight" for module in adapter.updates), *adapter.replacements}
    lost = sorted(name for name in changed if names.rearranged and name not in names.of_parameter)
    if lost:
        raise InputError(
            f"the adapter changes {lost[0]}, which the weight files hold in pieces that Transformers joins while "
            "loading; merging into such layers is not supported",
            "merge with PEFT's merge_and_unload, or train adapters on the attention layers only",
        )


def _check_complete(plan: MergePlan, adapter: AdapterFile, skeleton: Skeleton) -> None:
    used = {recipe.update.module for recipe in plan.recipes if recipe.update and not recipe.is_bias_of_update}
    left = [module for module in adapter.updates if module not in used]
    keys = {recipe.replacement_key for recipe in plan.recipes}
    unused = [parameter for parameter, key in adapter.replacements.items() if key not in keys]
    if _is_tied(skeleton) and not plan.untied and set(unused) <= {skeleton.embedding, skeleton.output}:
        _check_same(adapter, skeleton)
        unused = []
    left += unused
    if left:
        raise InputError(
            f"the adapter changes {left[0]}, for which the base's files hold no weight ({len(left)} left over)", _HINT
        )
    biased = {recipe.update.module for recipe in plan.recipes if recipe.update and recipe.is_bias_of_update}
    without = [module for module, update in adapter.updates.items() if update.bias_key and module not in biased]
    if without:
        raise InputError(
            f"the adapter has a bias for {without[0]} (lora_bias), which has none in the base model", _HINT
        )


def _check_same(adapter: AdapterFile, skeleton: Skeleton) -> None:
    """Check that an adapter that replaces tied weights under both names gives one set of values."""
    keys = [
        adapter.replacements[name] for name in (skeleton.embedding, skeleton.output) if name in adapter.replacements
    ]
    if len(keys) == 2 and not adapter.tensor(keys[0]).equal(adapter.tensor(keys[1])):
        raise InputError(
            f"the adapter holds two different tensors for the tied weights {skeleton.embedding} and {skeleton.output}",
            "save it with PEFT's modules_to_save for one of the two layers",
        )


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
