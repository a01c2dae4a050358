"""Convert the weights of a Llama folder to the tensors of a GGUF file: name, type and row order of each.

Memory: one tensor as it is written, and a few MiB of rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt
import torch
from gguf import GGMLQuantizationType as Type

from medqa_cli.errors import InputError, MedqaError
from medqa_cli.gguf.hyperparameters import head_dim, key_value_heads, unsupported
from medqa_cli.model.weights import StoredTensor, WeightFiles

FILE_TYPES = {"f16": Type.F16, "q8_0": Type.Q8_0, "q4_0": Type.Q4_0}
CHUNK_VALUES = 4 * 2**20
_MERGE_AGAIN = "merge again: medqa merge"
# Buffers of old checkpoints that are computed anew.
_NOT_WEIGHTS = (".rotary_emb.inv_freq", ".attention.masked_bias")


@dataclass(frozen=True)
class PlannedTensor:
    """A tensor of the GGUF file.

    ``heads``: number of attention heads within which rows change their order; 0 leaves them. ``fell_back``: its rows
    do not divide into blocks, so it is stored as f16.
    """

    name: str
    stored: StoredTensor
    type: Type
    heads: int
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


def plan_tensors(config: Any, stored: Mapping[str, StoredTensor], file_type: str) -> list[PlannedTensor]:
    """Decide name, type and row order of every tensor of the GGUF file.

    Types as ``llama-quantize`` chooses them: norms and biases f32, matrices ``file_type``. It would make the output
    matrix (and an embedding that serves as one) of a q4_0 file q6_K, which the ``gguf`` package cannot: q8_0 here.

    Raises:
        InputError: the folder lacks a tensor, holds one more, or one of another shape than the config says.
    """
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    rest = {name: tensor for name, tensor in stored.items() if not name.endswith(_NOT_WEIGHTS)}
    output = "model.embed_tokens.weight" if config.tie_word_embeddings else "lm_head.weight"
    planned: list[PlannedTensor] = []
    for source, shape, heads in _expected(config):
        tensor = rest.pop(source, None)
        if tensor is None or tensor.shape != shape:
            found = f"shape {tensor.shape}" if tensor else "none"
            raise InputError(f"the merged model should have {source} of shape {shape}; found: {found}")
        wanted = FILE_TYPES["q8_0" if source == output and file_type == "q4_0" else file_type]
        if len(shape) == 1:
            wanted = Type.F32
        fits = wanted in (Type.F32, Type.F16) or shape[-1] % gguf.GGML_QUANT_SIZES[wanted][0] == 0
        name = str(names.get_name(source, try_suffixes=(".weight", ".bias")))
        planned.append(PlannedTensor(name, tensor, wanted if fits else Type.F16, heads, not fits))
    if config.tie_word_embeddings:
        rest.pop("lm_head.weight", None)  # a copy of the embedding that some tools save
    if rest:
        raise unsupported(f"the model has tensors that a Llama does not have: {', '.join(sorted(rest)[:3])}")
    return planned


def convert(weights: WeightFiles, tensor: PlannedTensor) -> npt.NDArray[Any]:
    """Read one tensor and return it as it stands in the file, shape ``byte_shape``.

    Raises:
        InputError: the shard is damaged.
        MedqaError: it holds numbers that are not finite, or too large for f16.
    """
    converted = np.empty(tensor.byte_shape, dtype=tensor.dtype)
    start = 0
    try:
        for rows in _float_rows(weights, tensor):
            if not np.isfinite(rows).all():
                raise MedqaError(f"{tensor.stored.name} holds numbers that are not finite: the model is broken")
            with np.errstate(over="ignore"):
                part = gguf.quants.quantize(rows, tensor.type)
            if tensor.type == Type.F16 and not np.isfinite(part).all():
                raise MedqaError(
                    f"{tensor.stored.name} holds numbers beyond 65,504, the largest of f16", "export q8_0 instead"
                )
            converted[start : start + len(part)] = part
            start += len(part)
    except OSError as error:
        raise InputError(f"{tensor.stored.path} is damaged: {error}", _MERGE_AGAIN) from error
    except InputError as error:
        raise InputError(f"{tensor.stored.path} is damaged: {error.message}", _MERGE_AGAIN) from error
    return converted


def llama_row_order(rows: npt.NDArray[Any], heads: int) -> npt.NDArray[Any]:
    """Reorder the rows of a query or key matrix (or bias) from Transformers' rope to llama.cpp's.

    Transformers rotates row i of a head with row i + head_dim / 2, llama.cpp's ``llama`` neighbours with each other.

    Args:
        rows: shape (heads * head_dim, ...).
        heads: number of heads in ``rows``.
    """
    halves = rows.reshape(heads, 2, len(rows) // heads // 2, *rows.shape[1:])
    return halves.swapaxes(1, 2).reshape(rows.shape)


def _float_rows(weights: WeightFiles, tensor: PlannedTensor) -> Iterator[npt.NDArray[np.float32]]:
    """Yield the tensor's rows in the order of the file, as float32; whole heads at a time where rows are reordered."""
    shape = tensor.stored.shape
    unit = shape[0] // tensor.heads if tensor.heads else 1
    step = unit * max(1, CHUNK_VALUES // (unit * prod(shape[1:])))
    for start in range(0, shape[0], step):
        rows = weights.rows(tensor.stored.name, start, min(start + step, shape[0])).to(torch.float32).numpy()
        yield llama_row_order(rows, len(rows) // unit) if tensor.heads else rows


def _expected(config: Any) -> Iterator[tuple[str, tuple[int, ...], int]]:
    """Yield name in the folder, shape and heads of each tensor, in the order of the GGUF file."""
    hidden, inner, size = config.hidden_size, config.intermediate_size, head_dim(config)
    queries, keys = config.num_attention_heads, key_value_heads(config)
    linear = (
        ("self_attn.q_proj", queries * size, hidden, queries),
        ("self_attn.k_proj", keys * size, hidden, keys),
        ("self_attn.v_proj", keys * size, hidden, 0),
        ("self_attn.o_proj", hidden, queries * size, 0),
        ("mlp.gate_proj", inner, hidden, 0),
        ("mlp.up_proj", inner, hidden, 0),
        ("mlp.down_proj", hidden, inner, 0),
    )
    yield "model.embed_tokens.weight", (config.vocab_size, hidden), 0
    for layer in (f"model.layers.{index}" for index in range(config.num_hidden_layers)):
        yield f"{layer}.input_layernorm.weight", (hidden,), 0
        yield f"{layer}.post_attention_layernorm.weight", (hidden,), 0
        for name, rows, columns, heads in linear:
            yield f"{layer}.{name}.weight", (rows, columns), heads
            if getattr(config, "attention_bias" if name.startswith("self_attn") else "mlp_bias", False):
                yield f"{layer}.{name}.bias", (rows,), heads
    yield "model.norm.weight", (hidden,), 0
    if not config.tie_word_embeddings:
        yield "lm_head.weight", (config.vocab_size, hidden), 0
