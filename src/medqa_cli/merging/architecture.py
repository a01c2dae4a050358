"""The base model without its weights: names, shapes, kinds of layers, ties, and which layers 4-bit loading quantizes.

Transformers' own code answers all of it, on a model whose tensors are on the meta device.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from medqa_cli.errors import InputError
from medqa_cli.model.checks.adapter import read_adapter_config, refuse_endless_patterns
from medqa_cli.model.checks.loading import loading
from medqa_cli.model.load import load_config

LayerKind = Literal["linear", "conv1d", "embedding", "other"]


@dataclass(frozen=True)
class Architecture:
    """What is known of a model before its weights are read.

    ``shapes``: of each parameter, by its name in the model; ``kinds``: of each layer; ``four_bit``: layers that are
    quantized when the model is loaded in 4 bit; ``tied``: parameter -> the one whose values it shares, where the
    config ties them; ``embedding`` and ``output``: names of the weights of these two layers, empty where there is none.
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
    """How the names in the weight files and in the model go together.

    ``of_parameter``: parameter of the model -> name in the files; ``rearranged``: names in the files of tensors that
    Transformers joins or splits while it loads them, so that no single one is a parameter; ``missing``: parameters for
    which the files hold nothing, also not by a tie; ``unexpected``: names in the files that no parameter has.
    """

    of_parameter: dict[str, str]
    rearranged: frozenset[str]
    missing: frozenset[str] = frozenset()
    unexpected: frozenset[str] = frozenset()


def build_architecture(folder: Path) -> tuple[Architecture, Any]:
    """Build the model of a folder without weights.

    Returns:
        What is known of it, and the model itself, whose parameters are on the meta device.

    Raises:
        InputError: Transformers does not know the architecture, or the weights are stored quantized.
    """
    from transformers import AutoModelForCausalLM

    config = load_config(str(folder))
    stored = getattr(config, "quantization_config", None)
    if stored:
        method = stored.get("quant_method") if isinstance(stored, dict) else stored.quant_method
        raise InputError(
            f"the base model in {folder} is stored quantized ({method}): an adapter cannot be added to such weights",
            "train and merge on the 16-bit version of the model",
        )
    with loading("config", folder), torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    embedding = None
    with contextlib.suppress(NotImplementedError):
        embedding = model.get_input_embeddings()
    names = {id(module): f"{name}.weight" for name, module in model.named_modules()}
    described = Architecture(
        shapes={name: tuple(value.shape) for name, value in model.state_dict().items()},
        kinds={name: _kind(module) for name, module in model.named_modules()},
        tied={name: source for name, source in _tied(model).items() if name != source},
        embedding=names.get(id(embedding), ""),
        output=names.get(id(model.get_output_embeddings()), ""),
        # Last: it replaces the linear layers of the model.
        four_bit=_four_bit_layers(model),
    )
    return described, model


def stored_names(model: Any, names: Iterable[str]) -> StoredNames:
    """Match the names in the weight files with the parameters of ``model`` (a architecture), as loading does."""
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key

    transforms = get_model_conversion_mapping(model)
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
    missing = _missing(model, parameters.keys() - of_parameter.keys() - made)
    return StoredNames(of_parameter, frozenset(rearranged), frozenset(missing), frozenset(unexpected))


def expected_tensors(base_dir: Path, adapter_dir: Path) -> set[str]:
    """Return the tensors that the file of an adapter must hold by its config; none where PEFT renames them on loading.

    Args:
        base_dir: the base's folder.
        adapter_dir: the adapter's.

    Raises:
        InputError: the adapter's config does not go with the base.
    """
    from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
    from transformers import AutoModelForCausalLM

    values = read_adapter_config(adapter_dir)
    hf_config = load_config(str(base_dir))
    with loading("config", base_dir), torch.device("meta"):
        base = AutoModelForCausalLM.from_config(hf_config, trust_remote_code=False)
    refuse_endless_patterns(values, [name for name, _ in base.named_modules()], adapter_dir)
    with loading("adapter", adapter_dir, "check that it was trained on this base"), torch.device("meta"):
        config = LoraConfig.from_pretrained(str(adapter_dir))
        model = get_peft_model(base, config)
        if config.target_parameters:
            return set()
        return set(get_peft_model_state_dict(model, save_embedding_layers=False))


def _missing(model: Any, without_tensor: set[str]) -> set[str]:
    """Leave out of the parameters without a tensor those that share another's, and those that may be missing."""
    tied = _tied(model)
    ties = [*tied.items(), *((source, name) for name, source in tied.items())]
    shared = {name for name, other in ties if other not in without_tensor}
    patterns = model._keys_to_ignore_on_load_missing or ()
    return {name for name in without_tensor - shared if not any(re.search(pattern, name) for pattern in patterns)}


def _tied(model: Any) -> dict[str, str]:
    return dict(getattr(model, "all_tied_weights_keys", None) or {})


def _kind(module: Any) -> LayerKind:
    from transformers.pytorch_utils import Conv1D

    if isinstance(module, torch.nn.Linear):
        return "linear"
    if isinstance(module, Conv1D):
        return "conv1d"
    return "embedding" if isinstance(module, torch.nn.Embedding) else "other"


def _four_bit_layers(model: Any) -> frozenset[str]:
    import bitsandbytes as bnb
    from transformers import BitsAndBytesConfig
    from transformers.quantizers.auto import AutoHfQuantizer

    # Kind and constants of the quantization do not change which layers it takes.
    quantizer = AutoHfQuantizer.from_config(BitsAndBytesConfig(load_in_4bit=True), pre_quantized=False)
    quantizer.preprocess_model(model=model, device_map={"": "cpu"})
    return frozenset(name for name, module in model.named_modules() if isinstance(module, bnb.nn.Linear4bit))
