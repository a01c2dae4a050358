"""Read a LoRA adapter as PEFT saves it, tensor by tensor, and refuse by name what cannot be merged.

The names of its parts and the formula of its scale are PEFT's (``peft/tuners/lora``, 0.21).
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from medqa_cli.errors import InputError
from medqa_cli.model.checks.adapter import ADAPTER_CONFIG_NAME, read_adapter_config, refuse_endless_patterns
from medqa_cli.model.weights import WeightFiles, adapter_file, tensors_of_file

_PREFIX = "base_model.model."
# What PEFT puts behind the name of a layer: matrices of a linear layer, of an embedding, DoRA's magnitude, a bias.
_PART = re.compile(
    r"(?P<module>.+)\.(?P<part>lora_A\.weight|lora_B\.weight|lora_B\.bias|lora_embedding_A|lora_embedding_B"
    r"|lora_magnitude_vector(?:\.weight)?)"
)
# Any other tensor with one of these in its name belongs to a method that is not plain LoRA or DoRA.
_FOREIGN = re.compile(r"\.(lora_|trainable_tokens|token_adapter|ia3_|oft_|vera_|hada_|lokr_)")

# Features of PEFT's LoraConfig whose result is no fixed change of a weight, or was not worked out here.
_UNSUPPORTED = {
    "alora_invocation_tokens": "Activated LoRA changes some tokens only and cannot be merged",
    "arrow_config": "Arrow routes each token to its own adapter and cannot be merged",
    "ensure_weight_tying": "its changes of tied layers are themselves tied (ensure_weight_tying)",
    "kasa_config": "KaSA changes the base weights themselves",
    "layer_replication": "the adapter repeats layers of the base (layer_replication)",
    "megatron_config": "the adapter was made for Megatron's layers",
    "monteclora_config": "MonteCLoRA is not supported",
    "target_parameters": "the adapter changes bare parameters (target_parameters), not layers",
    "trainable_token_indices": "the adapter trains single token embeddings (trainable_token_indices)",
    "use_bdlora": "block-diagonal LoRA (use_bdlora) is not supported",
    "use_qalora": "QALoRA (use_qalora) is made for GPTQ bases",
    "velora_config": "VeLoRA is not supported",
}
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
        _refuse_unsupported(self.config, folder)
        self._file = WeightFiles(folder, {tensor.name: tensor for tensor in tensors_of_file(adapter_file(folder))})
        self.shapes = {name: tensor.shape for name, tensor in self._file.tensors.items()}
        modules = [key.removeprefix(_PREFIX).rpartition(".lora_")[0] for key in self.shapes]
        refuse_endless_patterns(self.config, modules, folder)
        self.updates: dict[str, LoraUpdate] = {}
        self.replacements: dict[str, str] = {}
        self._sort_keys()
        saved = self.config.get("modules_to_save") or []
        self.own_copies = {
            name for name in self.replacements if any(name.rpartition(".")[0].endswith(module) for module in saved)
        }

    def tensor(self, key: str) -> torch.Tensor:
        """Return one tensor in float32, on the CPU."""
        return self._file.whole(key).float()

    def _sort_keys(self) -> None:
        parts: dict[str, dict[str, str]] = {}
        for key in self.shapes:
            name = key.removeprefix(_PREFIX)
            found = _PART.fullmatch(name)
            if found:
                parts.setdefault(found["module"], {})[found["part"].removesuffix(".weight")] = key
            elif _FOREIGN.search(f".{name}"):
                raise InputError(f"{self.folder}: {key} is not part of a LoRA or DoRA adapter; it cannot be merged")
            else:
                self.replacements[name.replace(".base_layer.", ".")] = key
        self.updates = {module: self._update(module, own) for module, own in parts.items()}
        if not self.updates and not self.replacements:
            raise InputError(f"the adapter in {self.folder} holds no weights", "train again")

    def _update(self, module: str, own: dict[str, str]) -> LoraUpdate:
        is_embedding = "lora_embedding_A" in own
        names = ("lora_embedding_A", "lora_embedding_B") if is_embedding else ("lora_A", "lora_B")
        absent = [name for name in names if name not in own]
        if absent:
            raise InputError(f"the adapter in {self.folder} is incomplete: {module} has no {absent[0]}", "train again")
        if bool(self.config.get("use_dora")) != ("lora_magnitude_vector" in own):
            raise InputError(
                f"the adapter in {self.folder} contradicts itself: use_dora is {self.config.get('use_dora')}, but "
                f"{module} has {'a' if 'lora_magnitude_vector' in own else 'no'} magnitude vector",
                "restore adapter_config.json, or train again",
            )
        a_key, b_key = (own[name] for name in names)
        return LoraUpdate(
            module=module,
            a_key=a_key,
            b_key=b_key,
            magnitude_key=own.get("lora_magnitude_vector"),
            bias_key=own.get("lora_B.bias"),
            scaling=self._scaling(module, a_key, b_key),
            is_embedding=is_embedding,
        )

    def _scaling(self, module: str, a_key: str, b_key: str) -> float:
        from peft.utils.other import get_pattern_key

        ranks, alphas = (self.config.get(name) or {} for name in ("rank_pattern", "alpha_pattern"))
        try:
            r = int(ranks.get(get_pattern_key(ranks.keys(), module), self.config["r"]))
            alpha = float(alphas.get(get_pattern_key(alphas.keys(), module), self.config["lora_alpha"]))
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{self.folder / ADAPTER_CONFIG_NAME} is damaged: r or lora_alpha: {error}") from error
        if self.shapes[a_key][:1] != (r,) or self.shapes[b_key][1:] != (r,):
            raise InputError(
                f"the adapter in {self.folder} contradicts itself: {module} has matrices of {self.shapes[a_key]} and "
                f"{self.shapes[b_key]}, its config says rank {r}",
                "restore adapter_config.json, or train again",
            )
        return alpha / math.sqrt(r) if self.config.get("use_rslora") else alpha / r


def _refuse_unsupported(config: dict[str, Any], folder: Path) -> None:
    for key, reason in _UNSUPPORTED.items():
        if config.get(key):
            raise InputError(f"the adapter in {folder} cannot be merged: {reason}")
    start = config.get("init_lora_weights", True)
    if start not in _PLAIN_STARTS:
        raise InputError(
            f"the adapter in {folder} cannot be merged: init_lora_weights {start} changed the base's own weights",
            "save it as a plain LoRA first: PEFT's save_pretrained(path_initial_model_for_weight_conversion=...)",
        )
