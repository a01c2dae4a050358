"""What a merge is made from: base, adapter folder, how the adapter was trained; and what identifies it.

Adapter files are identified by their content, the base's by name, size and modification time: hashing a base of many
gigabytes takes longer than merging it.
"""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import torch

from medqa_cli import console, hub
from medqa_cli.config.schema import ComputeDtype, Config, ModelConfig, PromptConfig, Quantization
from medqa_cli.environment import recorded_environment, recorded_settings
from medqa_cli.errors import InputError
from medqa_cli.files import CARD_NAME, RunFolder, sha256_of_file
from medqa_cli.model.devices import DTYPES, describe_device, dtype_name, pick_compute_dtype, pick_device
from medqa_cli.model.load import base_of_adapter
from medqa_cli.model.quantization import require_bitsandbytes
from medqa_cli.model.resolve import ModelRef, base_folder
from medqa_cli.model.weights import FLOAT_TYPES, TYPE_NAMES, WeightFiles
from medqa_cli.prompt.contract import PROMPT_FILE_NAME

BaseWeights = Literal["nf4", "original", "auto"]

# Raise it when the same inputs give another folder.
_FORMAT_VERSION = 1


@dataclass(frozen=True)
class MergeInputs:
    """The base on the disk, the adapter, and how it was trained.

    ``candidates``: the base weights to consider, the preferred ones first; ``trained``: the model section with the
    quantization of the training; ``compute_dtype``: the type that training computed in; ``options``: the settings that
    determine the merged folder; ``is_dtype_known``: ``compute_dtype`` is recorded, set in the config, or what this
    device, the same as in training, would choose.
    """

    adapter_dir: Path
    source: ModelRef
    base: WeightFiles
    candidates: tuple[str, ...]
    trained: ModelConfig
    device: torch.device
    compute_dtype: torch.dtype
    is_dtype_known: bool
    options: dict[str, Any]

    @property
    def faithful(self) -> frozenset[str]:
        """The base weights with which the merged model is, up to rounding, base + adapter as it was trained."""
        if self.trained.quantization in ("nf4", "fp4"):
            return frozenset({"nf4"})
        return frozenset({"original"} if self.trained.quantization == "none" else ())

    def types_to_try(self) -> list[str | None]:
        """Return the types to write the merged model in, the best first; None: those of the base.

        Rounding to bfloat16 keeps 8 bits of a merged weight, which flips near ties. If the training computed in a finer
        type than the base is stored in, ``auto`` takes float16, as large and eight times finer; if activations do not
        fit it, the base's own type.
        """
        if self.options["dtype"] != "auto":
            return [TYPE_NAMES[DTYPES[self.options["dtype"]]]]
        stored = {tensor.type_name for tensor in self.base.tensors.values()} & FLOAT_TYPES.keys()
        return ["F16", None] if stored == {"BF16"} and self.compute_dtype != torch.bfloat16 else [None]

    def cache_key(self, validation_path: Path, prompt: PromptConfig) -> dict[str, Any]:
        """Return what determines the merged folder, in types that JSON keeps.

        Args:
            validation_path: the split that merged models are compared on; may be missing.
            prompt: counts if the adapter has no prompt contract of its own.
        """
        files = [*self.base.paths, self.base.folder / "config.json"]
        has_contract = (self.adapter_dir / PROMPT_FILE_NAME).is_file()
        return {
            "format_version": _FORMAT_VERSION,
            "adapter": {
                path.name: sha256_of_file(path)
                for path in sorted(self.adapter_dir.iterdir())
                # PEFT's own README holds no more than the config.
                if path.is_file() and path.name != CARD_NAME
            },
            "base": {
                "name": self.source.name,
                "revision": self.source.revision,
                # [size in bytes, modification time in nanoseconds]
                "files": {path.name: [path.stat().st_size, path.stat().st_mtime_ns] for path in files},
            },
            "options": self.options if has_contract else {**self.options, "prompt": asdict(prompt)},
            "validation_sha256": sha256_of_file(validation_path) if validation_path.is_file() else None,
        }


def load_inputs(config: Config, run: RunFolder, base_weights: BaseWeights, dtype: ComputeDtype) -> MergeInputs:
    """Find the base and how it was quantized in training; read headers only.

    Raises:
        InputError: the base is missing or damaged, or the training rules out ``base_weights``.
    """
    hub.name_repository(config.model.name_or_path)
    source = base_of_adapter(run.adapter_dir)
    trained = _trained_model(run, config.model)
    candidates: tuple[str, ...]
    if trained.quantization in ("nf4", "fp4"):
        require_bitsandbytes(trained.quantization)
        candidates = ("original", "nf4") if base_weights == "original" else ("nf4", "original")
    elif base_weights == "nf4":
        kind = "unquantized" if trained.quantization == "none" else trained.quantization
        raise InputError(
            f"--base-weights nf4: the adapter was trained on {kind} weights, not on 4-bit ones",
            "merge into the original weights: --base-weights original (or auto)",
        )
    else:
        candidates = ("original",)
    device = pick_device()
    environment = recorded_environment(run)
    recorded = DTYPES.get(str(environment.get("compute_dtype")))
    compute_dtype = recorded or pick_compute_dtype(config.model.compute_dtype, device)
    same_device = environment.get("device") == describe_device(device)
    return MergeInputs(
        adapter_dir=run.adapter_dir,
        candidates=candidates,
        source=source,
        base=WeightFiles.open(base_folder(source)),
        trained=trained,
        device=device,
        compute_dtype=compute_dtype,
        is_dtype_known=recorded is not None or same_device or config.model.compute_dtype != "auto",
        options={
            "base_weights": base_weights,
            "dtype": dtype,
            "quantization": trained.quantization,
            "double_quantization": trained.double_quantization,
            "compute_dtype": dtype_name(compute_dtype),
            "max_length": config.model.max_length,
        },
    )


def _trained_model(run: RunFolder, model: ModelConfig) -> ModelConfig:
    """Return the config's model section with the quantization that the run was trained with, if that is recorded.

    Raises:
        InputError: the record is damaged.
    """
    recorded: dict[str, Any] = recorded_settings(run)
    quantization = recorded.get("model.quantization")
    if quantization is None:
        console.warn(
            f"{run.path} does not record how the base was quantized in training; taking the config's "
            f"model.quantization {model.quantization}, double_quantization {str(model.double_quantization).lower()}"
        )
        return model
    if quantization not in get_args(Quantization):
        raise InputError(f"{run.environment_path} is damaged: model.quantization {quantization!r}", "restore the file")
    double = bool(recorded.get("model.double_quantization"))
    return replace(model, quantization=quantization, double_quantization=double)
