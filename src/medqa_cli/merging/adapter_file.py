"""Read a LoRA adapter as PEFT saves it, tensor by tensor, and refuse by name what cannot be merged.

The names of its parts and the formula of its scale are PEFT's (``peft/tuners/lora``, 0.21).
"""

import math
import re
from dataclasses import dataclass
from pathlib import Path

import torch

from medqa_cli.errors import InputError
from medqa_cli.merging.architecture import model_without_weights
from medqa_cli.model.checks.adapter import read_adapter_config, refuse_endless_patterns
from medqa_cli.model.checks.loading import loading
from medqa_cli.model.load import load_config
from medqa_cli.model.weights import WeightFiles, adapter_file, tensors_of_file
from medqa_cli.resources import load_yaml

_PREFIX = "base_model.model."
# What PEFT appends to the name of a layer: matrices of a linear layer or an embedding, DoRA's magnitude, a bias.
_PART = re.compile(
    r"(?P<module>.+)\.(?P<part>lora_A\.weight|lora_B\.weight|lora_B\.bias|lora_embedding_A|lora_embedding_B"
    r"|lora_magnitude_vector(?:\.weight)?)"
)
# Any other tensor with one of these in its name belongs to a method other than LoRA and DoRA.
_FOREIGN = re.compile(r"\.(lora_|trainable_tokens|token_adapter|ia3_|oft_|vera_|hada_|lokr_)")

_RESTORE = "restore adapter_config.json, or train again"
_PLAIN_STARTS = (True, False, None, "gaussian", "eva", "orthogonal")


@dataclass(frozen=True)
class LoraUpdate:
    """The change of one layer: keys of its tensors in the adapter file, and its scale.

    ``a_key``, ``b_key``: ``(r, in)`` and ``(out, r)``; ``magnitude_key`` (of DoRA) and ``bias_key``: ``(out,)``.
    """

    module: str
    a_key: str
    b_key: str
    magnitude_key: str | None
    bias_key: str | None
    scaling: float
    is_embedding: bool


class AdapterFile:
    """The tensors of an adapter: changes of layers, and weights that replace the base's.

    ``updates``: by layer; ``replacements``: name of a parameter of the model -> key in the file; ``own_copies``: those
    replaced parameters that belong to ``modules_to_save``: their layer is no longer tied to another one.
    """

    def __init__(self, folder: Path) -> None:
        """Open the adapter in ``folder``.

        Raises:
            InputError: it is missing, damaged, or of a kind that cannot be merged.
        """
        self.folder = folder
        self.config = read_adapter_config(folder)
        for option, reason in load_yaml("adapter_features")["not_merged"].items():
            if self.config.get(option):
                raise InputError(f"the adapter in {folder} cannot be merged: {reason}")
        start = self.config.get("init_lora_weights", True)
        if start not in _PLAIN_STARTS:
            raise InputError(
                f"the adapter in {folder} cannot be merged: init_lora_weights {start} changed the base's own weights",
                "save it as a plain LoRA first: PEFT's save_pretrained(path_initial_model_for_weight_conversion=...)",
            )
        self._file = WeightFiles(folder, {tensor.name: tensor for tensor in tensors_of_file(adapter_file(folder))})
        self.shapes = {name: tensor.shape for name, tensor in self._file.tensors.items()}
        modules = [key.removeprefix(_PREFIX).rpartition(".lora_")[0] for key in self.shapes]
        refuse_endless_patterns(self.config, modules, folder)
        self.replacements: dict[str, str] = {}
        parts: dict[str, dict[str, str]] = {}
        for key in self.shapes:
            name = key.removeprefix(_PREFIX)
            if match := _PART.fullmatch(name):
                parts.setdefault(match["module"], {})[match["part"].removesuffix(".weight")] = key
            elif _FOREIGN.search(f".{name}"):
                raise InputError(f"{folder}: {key} is not part of a LoRA or DoRA adapter; it cannot be merged")
            else:
                self.replacements[name.replace(".base_layer.", ".")] = key
        self.updates = {module: self._update(module, keys) for module, keys in parts.items()}
        if not self.updates and not self.replacements:
            raise InputError(f"the adapter in {folder} holds no weights", "train again")
        saved = self.config.get("modules_to_save") or []
        self.own_copies = {
            name for name in self.replacements if any(name.rpartition(".")[0].endswith(module) for module in saved)
        }

    def tensor(self, key: str) -> torch.Tensor:
        """Return one tensor in float32, on the CPU."""
        return self._file.whole(key).float()

    def _update(self, module: str, keys: dict[str, str]) -> LoraUpdate:
        """Return the change of a layer by the keys of its tensors."""
        from peft.utils.other import get_pattern_key

        is_embedding = "lora_embedding_A" in keys
        names = ("lora_embedding_A", "lora_embedding_B") if is_embedding else ("lora_A", "lora_B")
        absent = [name for name in names if name not in keys]
        if absent:
            raise InputError(f"the adapter in {self.folder} is incomplete: {module} has no {absent[0]}", "train again")
        if bool(self.config.get("use_dora")) != ("lora_magnitude_vector" in keys):
            raise InputError(
                f"the adapter in {self.folder} contradicts itself: use_dora is {self.config.get('use_dora')}, but "
                f"{module} has {'a' if 'lora_magnitude_vector' in keys else 'no'} magnitude vector",
                _RESTORE,
            )
        a_key, b_key = (keys[name] for name in names)
        # The patterns of the config may set rank and alpha of a layer.
        ranks, alphas = (self.config.get(name) or {} for name in ("rank_pattern", "alpha_pattern"))
        r: int = ranks.get(get_pattern_key(ranks.keys(), module), self.config["r"])
        alpha: float = alphas.get(get_pattern_key(alphas.keys(), module), self.config["lora_alpha"])
        if self.shapes[a_key][:1] != (r,) or self.shapes[b_key][1:] != (r,):
            raise InputError(
                f"the adapter in {self.folder} contradicts itself: {module} has matrices of {self.shapes[a_key]} and "
                f"{self.shapes[b_key]}, its config says rank {r}",
                _RESTORE,
            )
        return LoraUpdate(
            module=module,
            a_key=a_key,
            b_key=b_key,
            magnitude_key=keys.get("lora_magnitude_vector"),
            bias_key=keys.get("lora_B.bias"),
            scaling=alpha / math.sqrt(r) if self.config.get("use_rslora") else alpha / r,
            is_embedding=is_embedding,
        )


def expected_tensors(base_dir: Path, adapter_dir: Path) -> set[str]:
    """Return the names of the tensors that an adapter must hold by its config; none if PEFT renames them on loading.

    Args:
        base_dir: the base's folder.
        adapter_dir: the adapter's.

    Raises:
        InputError: the adapter's config does not fit the base.
    """
    from peft import LoraConfig, get_peft_model, get_peft_model_state_dict

    values = read_adapter_config(adapter_dir)
    base = model_without_weights(load_config(str(base_dir)), base_dir)
    refuse_endless_patterns(values, [name for name, _ in base.named_modules()], adapter_dir)
    with loading("adapter", adapter_dir, "check that it was trained on this base"), torch.device("meta"):
        config = LoraConfig.from_pretrained(str(adapter_dir))
        model = get_peft_model(base, config)
        if config.target_parameters:
            return set()
        return set(get_peft_model_state_dict(model, save_embedding_layers=False))
