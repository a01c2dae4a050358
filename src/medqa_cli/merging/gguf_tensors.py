"""From the safetensors of a Llama folder to the tensors of a GGUF file, one at a time, some rows at a time.

Knows which tensor gets which name, type and row order. Memory: one tensor as it is written, and a few MiB of rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt
import torch
from gguf import GGMLQuantizationType as Type
from safetensors import SafetensorError, safe_open

from medqa_cli.errors import InputError, MedqaError
from medqa_cli.merging.gguf_hyperparameters import head_dim, key_value_heads, unsupported
from medqa_cli.model.weight_headers import shard_names

FILE_TYPES = {"f16": Type.F16, "q8_0": Type.Q8_0, "q4_0": Type.Q4_0}
_CHUNK_VALUES = 4 * 2**20
_FLOATS = ("F64", "F32", "F16", "BF16")
# Buffers of old checkpoints that are computed anew.
_NOT_WEIGHTS = (".rotary_emb.inv_freq", ".attention.masked_bias")


@dataclass(frozen=True)
class StoredTensor:
    """Where a tensor of the model folder lies."""

    name: str
    path: Path
    shape: tuple[int, ...]


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


def stored_tensors(folder: Path) -> dict[str, StoredTensor]:
    """List the tensors of a model folder, without reading them.

    Raises:
        InputError: a shard is missing or damaged, or a tensor is not made of floating-point numbers.
    """
    found: dict[str, StoredTensor] = {}
    for path in _shards(folder):
        try:
            with safe_open(str(path), framework="pt") as shard:
                for name in shard.keys():  # noqa: SIM118 (not a mapping)
                    part = shard.get_slice(name)
                    if part.get_dtype() not in _FLOATS:
                        raise unsupported(f"{name} holds {part.get_dtype()}, not plain floating-point weights")
                    found[name] = StoredTensor(name, path, tuple(part.get_shape()))
        except (OSError, SafetensorError) as error:
            raise InputError(f"{path} is damaged: {error}", "merge again: medqa merge") from error
    return {name: tensor for name, tensor in found.items() if not name.endswith(_NOT_WEIGHTS)}


def plan_tensors(config: Any, stored: dict[str, StoredTensor], file_type: str) -> list[PlannedTensor]:
    """Decide name, type and row order of every tensor of the GGUF file.

    Types as ``llama-quantize`` chooses them: norms and biases f32, matrices ``file_type``. It would make the output
    matrix (and an embedding that serves as one) of a q4_0 file q6_K, which the ``gguf`` package cannot: q8_0 here.

    Raises:
        InputError: the folder lacks a tensor, holds one more, or one of another shape than the config says.
    """
    rest = dict(stored)
    planned: list[PlannedTensor] = []
    for name, source, shape, heads in _expected(config):
        tensor = rest.pop(source, None)
        if tensor is None or tensor.shape != shape:
            found = f"shape {tensor.shape}" if tensor else "none"
            raise InputError(f"the merged model should have {source} of shape {shape}; found: {found}")
        wanted = _wanted_type(name, config, file_type) if len(shape) > 1 else Type.F32
        fits = wanted in (Type.F32, Type.F16) or shape[-1] % gguf.GGML_QUANT_SIZES[wanted][0] == 0
        planned.append(PlannedTensor(name, tensor, wanted if fits else Type.F16, heads, not fits))
    if config.tie_word_embeddings:
        rest.pop("lm_head.weight", None)  # a copy of the embedding that some tools save
    if rest:
        raise unsupported(f"the model has tensors that a Llama does not have: {', '.join(sorted(rest)[:3])}")
    return planned


def convert(tensor: PlannedTensor) -> npt.NDArray[Any]:
    """Read one tensor and return it as it stands in the file, shape ``byte_shape``.

    Raises:
        InputError: the shard is damaged.
        MedqaError: it holds numbers that are not finite, or too large for f16.
    """
    converted = np.empty(tensor.byte_shape, dtype=tensor.dtype)
    start = 0
    try:
        for rows in _float_rows(tensor):
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
    except (OSError, SafetensorError) as error:
        raise InputError(f"{tensor.stored.path} is damaged: {error}", "merge again: medqa merge") from error
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


def _float_rows(tensor: PlannedTensor) -> Iterator[npt.NDArray[np.float32]]:
    """Yield the tensor's rows in the order of the file, as float32; whole heads at a time where rows are reordered."""
    shape = tensor.stored.shape
    unit = shape[0] // tensor.heads if tensor.heads else 1
    values_in_unit = unit * int(np.prod(shape[1:]))
    step = unit * max(1, _CHUNK_VALUES // values_in_unit)
    # Opened anew for each tensor: pages of a mapped file count as memory until it is closed.
    with safe_open(str(tensor.stored.path), framework="pt") as shard:
        part = shard.get_slice(tensor.stored.name)
        for start in range(0, shape[0], step):
            rows = part[start : min(start + step, shape[0])].to(torch.float32).numpy()
            yield llama_row_order(rows, len(rows) // unit) if tensor.heads else rows


def _expected(config: Any) -> Iterator[tuple[str, str, tuple[int, ...], int]]:
    """Yield name in the file, name in the folder, shape and heads of each tensor, in the order of the file."""
    hidden, inner = config.hidden_size, config.intermediate_size
    yield "token_embd.weight", "model.embed_tokens.weight", (config.vocab_size, hidden), 0
    for layer in range(config.num_hidden_layers):
        for name, source, shape, heads in _expected_in_layer(config, hidden, inner):
            yield f"blk.{layer}.{name}", f"model.layers.{layer}.{source}", shape, heads
    yield "output_norm.weight", "model.norm.weight", (hidden,), 0
    if not config.tie_word_embeddings:
        yield "output.weight", "lm_head.weight", (config.vocab_size, hidden), 0


def _expected_in_layer(config: Any, hidden: int, inner: int) -> Iterator[tuple[str, str, tuple[int, ...], int]]:
    queries, keys = config.num_attention_heads, key_value_heads(config)
    size = head_dim(config)
    linear: Sequence[tuple[str, str, int, int, int]] = (
        ("attn_q", "self_attn.q_proj", queries * size, hidden, queries),
        ("attn_k", "self_attn.k_proj", keys * size, hidden, keys),
        ("attn_v", "self_attn.v_proj", keys * size, hidden, 0),
        ("attn_output", "self_attn.o_proj", hidden, queries * size, 0),
        ("ffn_gate", "mlp.gate_proj", inner, hidden, 0),
        ("ffn_up", "mlp.up_proj", inner, hidden, 0),
        ("ffn_down", "mlp.down_proj", hidden, inner, 0),
    )
    yield "attn_norm.weight", "input_layernorm.weight", (hidden,), 0
    yield "ffn_norm.weight", "post_attention_layernorm.weight", (hidden,), 0
    for name, source, rows, columns, heads in linear:
        yield f"{name}.weight", f"{source}.weight", (rows, columns), heads
        if getattr(config, "attention_bias" if name.startswith("attn") else "mlp_bias", False):
            yield f"{name}.bias", f"{source}.bias", (rows,), heads


def _wanted_type(name: str, config: Any, file_type: str) -> Type:
    is_output = name == "output.weight" or (name == "token_embd.weight" and config.tie_word_embeddings)
    return Type.Q8_0 if is_output and file_type == "q4_0" else FILE_TYPES[file_type]


def _shards(folder: Path) -> list[Path]:
    index = folder / "model.safetensors.index.json"
    names = shard_names(index) if index.is_file() else ["model.safetensors"]
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise InputError(f"{folder} lacks {', '.join(missing)}", "merge again: medqa merge")
    return [folder / name for name in names]
