"""The tensors of a GGUF file: which there are, of what type, and how each is made from the merged folder.

Converting takes the memory of one tensor as it is written, and a few MiB of rows.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt
from gguf import GGMLQuantizationType as Type

from medqa_cli.errors import InputError, MedqaError
from medqa_cli.gguf.architecture import KnownModel, unsupported
from medqa_cli.model.weights import StoredTensor, WeightFiles

FILE_TYPES = {"f16": Type.F16, "q8_0": Type.Q8_0, "q4_0": Type.Q4_0}
# From here on a value, or the step of its block (its largest value by 127 or 8), rounds to infinity in f16.
_TOO_LARGE = {Type.F16: 65520.0, Type.Q8_0: 65520.0 * 127, Type.Q4_0: 65520.0 * 8}
CHUNK_VALUES = 4 * 2**20
_MERGE_AGAIN = "merge again: medqa merge"
# Buffers of old checkpoints; llama.cpp computes them itself.
_NOT_WEIGHTS = (".rotary_emb.inv_freq", ".attention.masked_bias")


@dataclass(frozen=True)
class PlannedTensor:
    """A tensor of the GGUF file.

    ``heads``: attention heads within which rows are reordered; 0: the order stays. ``shift``: what is added to each
    number. ``fell_back``: its rows do not divide into blocks, so it is stored as f16.
    """

    name: str
    stored: StoredTensor
    type: Type
    heads: int
    shift: float
    fell_back: bool

    @property
    def byte_shape(self) -> tuple[int, ...]:
        """Shape of the array that is written: bytes in a row for block types, values otherwise."""
        if self.type in (Type.F32, Type.F16):
            return self.stored.shape
        return tuple(gguf.quant_shape_to_byte_shape(self.stored.shape, self.type))

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the array that is written."""
        return np.dtype({Type.F32: np.float32, Type.F16: np.float16}.get(self.type, np.uint8))

    @property
    def num_bytes(self) -> int:
        """Size in the file, without padding."""
        return int(np.prod(self.byte_shape)) * self.dtype.itemsize


def open_weights(folder: Path) -> WeightFiles:
    """Open the weights of a merged model, without reading them.

    Raises:
        InputError: a shard is missing or damaged, or a tensor is not made of floating-point numbers.
    """
    try:
        weights = WeightFiles.open(folder)
    except InputError as error:
        raise InputError(error.message, _MERGE_AGAIN) from error
    for tensor in weights.tensors.values():
        if not tensor.dtype.is_floating_point:
            raise unsupported(f"{tensor.name} holds {tensor.type_name}, not plain floating-point weights")
    return weights


def plan_tensors(model: KnownModel, stored: Mapping[str, StoredTensor], file_type: str) -> list[PlannedTensor]:
    """Decide name, type and row order of every tensor of the GGUF file.

    Types are those that ``llama-quantize`` chooses: norms and biases f32, matrices ``file_type``. For the output matrix
    of a q4_0 file (or the embedding that serves as one) it takes q6_K, which the ``gguf`` package cannot write: q8_0.

    Raises:
        InputError: the folder lacks a tensor, holds one more, or one of another shape than the config says.
    """
    config = model.config
    names = gguf.get_tensor_name_map(model.kind.name, config.num_hidden_layers)
    rest = {
        model.text_name(name): tensor
        for name, tensor in stored.items()
        if not name.endswith(_NOT_WEIGHTS) and model.text_name(name)
    }
    output = "model.embed_tokens.weight" if config.tie_word_embeddings else "lm_head.weight"
    planned: list[PlannedTensor] = []
    for source, shape, heads in model.expected_tensors():
        tensor = rest.pop(source, None)
        if tensor is None or tensor.shape != shape:
            actual = f"shape {tensor.shape}" if tensor else "none"
            raise InputError(f"the merged model should have {source} of shape {shape}; found: {actual}")
        wanted = FILE_TYPES["q8_0" if source == output and file_type == "q4_0" else file_type]
        if len(shape) == 1:
            wanted = Type.F32
        shift = model.kind.norm_shift if len(shape) == 1 and source.endswith("norm.weight") else 0.0
        fits = wanted in (Type.F32, Type.F16) or shape[-1] % gguf.GGML_QUANT_SIZES[wanted][0] == 0
        name = str(names.get_name(source, try_suffixes=(".weight", ".bias")))
        planned.append(PlannedTensor(name, tensor, wanted if fits else Type.F16, heads, shift, not fits))
    if config.tie_word_embeddings:
        rest.pop("lm_head.weight", None)  # a copy of the embedding that some tools save
    if rest:
        raise unsupported(
            f"the model has tensors that a {model.architecture} model does not have: {', '.join(sorted(rest)[:3])}"
        )
    return planned


def convert(weights: WeightFiles, tensor: PlannedTensor) -> npt.NDArray[Any]:
    """Read one tensor and return it as the file holds it, shape ``byte_shape``.

    Raises:
        InputError: the shard is damaged.
        MedqaError: it holds numbers that are not finite, or too large for the type.
    """
    converted, shape = np.empty(tensor.byte_shape, dtype=tensor.dtype), tensor.stored.shape
    # Whole heads at a time where rows are reordered.
    unit = shape[0] // tensor.heads if tensor.heads else 1
    step = unit * max(1, CHUNK_VALUES // (unit * prod(shape[1:])))
    try:
        for start in range(0, shape[0], step):
            rows = weights.rows(tensor.stored.name, start, min(start + step, shape[0])).float().numpy()
            if tensor.heads:
                rows = llama_row_order(rows, len(rows) // unit)
            if tensor.shift:
                rows = rows + np.float32(tensor.shift)
            if not np.isfinite(rows).all():
                raise MedqaError(f"{tensor.stored.name} holds numbers that are not finite: the model is broken")
            if np.abs(rows).max() >= _TOO_LARGE.get(tensor.type, np.inf):
                kind = tensor.type.name.lower()
                raise MedqaError(
                    f"{tensor.stored.name} holds numbers that are too large for {kind}",
                    "export q8_0 instead, which holds larger ones" if tensor.type != Type.Q8_0 else "",
                )
            converted[start : start + len(rows)] = gguf.quants.quantize(rows, tensor.type)
    except (OSError, InputError) as error:
        raise InputError(f"{tensor.stored.path} is damaged: {error}", _MERGE_AGAIN) from error
    return converted


def llama_row_order(rows: npt.NDArray[Any], heads: int) -> npt.NDArray[Any]:
    """Reorder the rows of a query or key matrix (or bias) from Transformers' rope to llama.cpp's.

    Transformers rotates row i of a head with row i + head_dim / 2, llama.cpp's ``llama`` neighbors with each other.

    Args:
        rows: shape (heads * head_dim, ...).
        heads: number of heads in ``rows``.
    """
    halves = rows.reshape(heads, 2, len(rows) // heads // 2, *rows.shape[1:])
    return halves.swapaxes(1, 2).reshape(rows.shape)
