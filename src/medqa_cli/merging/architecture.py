"""The base model without its weights: names, shapes, kinds of layers, ties, layers that 4-bit loading quantizes.

All of it comes from Transformers' own code, run on a model whose tensors are on the meta device.
"""

import contextlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from medqa_cli.errors import InputError
from medqa_cli.model import experts, load, quantization
from medqa_cli.model.checks.loading import loading

LayerKind = Literal["linear", "conv1d", "embedding", "other"]


@dataclass(frozen=True)
class Architecture:
    """What is known of a model before its weights are read.

    ``shapes``: of each parameter, by its name in the model; ``kinds``: of each layer; ``four_bit``: layers that are
    quantized when the model is loaded in 4 bits; ``tied``: parameter -> the one whose values it shares, if the config
    ties them; ``embedding`` and ``output``: names of the weights of these two layers, empty if there is none.
    """

    shapes: dict[str, tuple[int, ...]]
    kinds: dict[str, LayerKind]
    four_bit: frozenset[str]
    tied: dict[str, str]
    embedding: str
    output: str

    @property
    def is_tied(self) -> bool:
        """Whether output layer and embedding share weights."""
        return bool(self.output) and self.tied.get(self.output) == self.embedding


@dataclass(frozen=True)
class StoredNames:
    """How the names in the weight files match those in the model.

    ``of_parameter``: parameter of the model -> name in the files; ``rearranged``: names in the files of tensors that
    Transformers joins or splits while it loads them, so that none of them is a parameter; ``missing``: parameters for
    which the files hold nothing, and which are tied to none that they hold; ``unexpected``: names in the files that no
    parameter has.
    """

    of_parameter: dict[str, str]
    rearranged: frozenset[str]
    missing: frozenset[str] = frozenset()
    unexpected: frozenset[str] = frozenset()


def model_without_weights(config: Any, folder: Path) -> Any:
    """Return the model of a Transformers config, that of ``folder``, with its parameters on the meta device.

    Raises:
        InputError: Transformers does not know the architecture.
    """
    from transformers import AutoModelForCausalLM

    with loading("config", folder), torch.device("meta"):
        return AutoModelForCausalLM.from_config(config, trust_remote_code=False)


def build_architecture(folder: Path, stored: Iterable[str] = ()) -> tuple[Architecture, Any]:
    """Describe the model of a folder, with the experts of a mixture as layers of their own if its files have them so.

    Args:
        folder: of the model.
        stored: names in its weight files; without them experts stay as Transformers joins them.

    Returns:
        What is known of it, and the model itself, whose parameters are on the meta device.

    Raises:
        InputError: Transformers does not know the architecture, or the weights are stored quantized.
    """
    from transformers.pytorch_utils import Conv1D

    kinds: dict[type, LayerKind] = {torch.nn.Linear: "linear", Conv1D: "conv1d", torch.nn.Embedding: "embedding"}
    config = load.load_config(str(folder))
    if stored_as := quantization.stored_quantization(config):
        method = stored_as.get("quant_method")
        raise InputError(
            f"the base model in {folder} is stored quantized ({method}): an adapter cannot be added to such weights",
            "train and merge on the 16-bit version of the model",
        )
    model = model_without_weights(config, folder)
    experts.separate_experts(model, stored)
    embedding = None
    with contextlib.suppress(NotImplementedError):
        embedding = model.get_input_embeddings()
    names = {id(module): f"{name}.weight" for name, module in model.named_modules()}
    architecture = Architecture(
        shapes={name: tuple(value.shape) for name, value in model.state_dict().items()},
        kinds={
            name: next((kind for type_, kind in kinds.items() if isinstance(module, type_)), "other")
            for name, module in model.named_modules()
        },
        tied={name: source for name, source in (model.all_tied_weights_keys or {}).items() if name != source},
        embedding=names.get(id(embedding), ""),
        output=names.get(id(model.get_output_embeddings()), ""),
        # Last: it replaces the linear layers of the model.
        four_bit=_four_bit_layers(model),
    )
    return architecture, model


def stored_names(model: Any, names: Iterable[str]) -> StoredNames:
    """Match the names in the weight files with the parameters of ``model``, as Transformers' loading does."""
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key

    transforms = experts.without_joining(get_model_conversion_mapping(model), model)
    renamings = [entry for entry in transforms if isinstance(entry, WeightRenaming)]
    converters = [entry for entry in transforms if isinstance(entry, WeightConverter)]
    parameters = model.state_dict()
    of_parameter: dict[str, str] = {}
    rearranged, made, unexpected = set(), set(), set()
    targets = {source: entry.target_patterns for entry in converters for source in entry.source_patterns}
    for name in names:
        renamed, pattern = rename_source_key(name, renamings, converters, model.base_model_prefix, parameters)
        if renamed not in parameters and name in parameters:
            renamed, pattern = name, None
        if pattern is not None:
            rearranged.add(name)
            made |= {renamed.replace(targets[pattern][0], target) for target in targets[pattern]}
        elif renamed in parameters:
            of_parameter[renamed] = name
        else:
            unexpected.add(name)
    absent = parameters.keys() - of_parameter.keys() - made
    shared = {name for name, other in ties(model) if other not in absent}
    optional = [re.compile(pattern) for pattern in model._keys_to_ignore_on_load_missing or ()]
    missing = {name for name in absent - shared if not any(pattern.search(name) for pattern in optional)}
    return StoredNames(of_parameter, frozenset(rearranged), frozenset(missing), frozenset(unexpected))


def ties(model: Any) -> Iterator[tuple[str, str]]:
    """Yield each pair of parameters that share their values, in both orders."""
    for name, source in (model.all_tied_weights_keys or {}).items():
        yield name, source
        yield source, name


def _four_bit_layers(model: Any) -> frozenset[str]:
    from transformers import BitsAndBytesConfig
    from transformers.quantizers.auto import AutoHfQuantizer

    # Kind and constants of the quantization do not change which layers it takes.
    quantizer = AutoHfQuantizer.from_config(BitsAndBytesConfig(load_in_4bit=True), pre_quantized=False)
    quantizer.preprocess_model(model=model, device_map={"": "cpu"})
    layers = set(quantization.four_bit_layers(model))
    return frozenset(name for name, module in model.named_modules() if module in layers)
