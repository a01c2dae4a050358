"""A Llama model as llama.cpp knows it: which ones it computes alike, their sizes and rope, and the tensors of the file.

Key names are those of the ``gguf`` package; which of them the architecture ``llama`` reads is taken from llama.cpp's
``conversion/llama.py`` and ``src/models/llama.cpp`` (2026-11). Converting takes the memory of one tensor as it is
written, and a few MiB of rows.
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
from gguf import GGMLQuantizationType as Type

from medqa_cli import console
from medqa_cli.errors import InputError, MedqaError
from medqa_cli.model.load import load_config
from medqa_cli.model.weights import StoredTensor, WeightFiles

ARCHITECTURE = "llama"
_TRANSFORMERS_NAMES = ("LlamaForCausalLM", "MistralForCausalLM")
_CONVERTER_HINT = (
    "llama.cpp's own converter knows more models: python convert_hf_to_gguf.py MERGED_FOLDER --outtype f16, "
    "then llama-quantize"
)
FILE_TYPES = {"f16": Type.F16, "q8_0": Type.Q8_0, "q4_0": Type.Q4_0}
# From here on a value, or the step of its block (its largest value by 127 or 8), rounds to infinity in f16.
_TOO_LARGE = {Type.F16: 65520.0, Type.Q8_0: 65520.0 * 127, Type.Q4_0: 65520.0 * 8}
CHUNK_VALUES = 4 * 2**20
_MERGE_AGAIN = "merge again: medqa merge"
# Buffers of old checkpoints; llama.cpp computes them itself.
_NOT_WEIGHTS = (".rotary_emb.inv_freq", ".attention.masked_bias")


def unsupported(what: str) -> InputError:
    """Return the refusal of a model that cannot be exported, with the way out."""
    return InputError(f"no GGUF export: {what}", _CONVERTER_HINT)


def read_config(location: str, revision: str | None = None) -> Any:
    """Read the configuration of a model folder or hub id; refuse what llama.cpp's ``llama`` would compute otherwise.

    Raises:
        InputError: it cannot be read, or the model is not one that can be exported.
    """
    config = load_config(location, revision)
    names = getattr(config, "architectures", None) or ["unknown"]
    if names[0] not in _TRANSFORMERS_NAMES:
        raise unsupported(f"the model is a {names[0]}; medqa writes {' and '.join(_TRANSFORMERS_NAMES)}")
    if getattr(config, "quantization_config", None):
        raise unsupported("the weights are quantized; medqa exports plain ones")
    if config.hidden_act not in ("silu", "swish"):
        raise unsupported(f"its activation is {config.hidden_act}; llama.cpp computes silu")
    _rope_type(config)
    return config


def head_dim(config: Any) -> int:
    """Return the size of one attention head."""
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


def key_value_heads(config: Any) -> int:
    """Return the number of key and value heads."""
    return int(getattr(config, "num_key_value_heads", None) or config.num_attention_heads)


def context_length(config: Any) -> int:
    """Return the longest context in tokens that llama.cpp computes as Transformers does.

    llama.cpp attends to everything where the architecture is ``llama``; a sliding window shows only beyond its width.
    """
    window = getattr(config, "sliding_window", None)
    full = int(config.max_position_embeddings)
    return min(full, int(window)) if window else full


def add_hyperparameters(writer: Any, config: Any) -> None:
    """Put the model's sizes and rope into a ``gguf.GGUFWriter``."""
    if context_length(config) < config.max_position_embeddings:
        console.note(f"the context is set to {context_length(config)} tokens, the model's sliding window")
    writer.add_context_length(context_length(config))
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(key_value_heads(config))
    writer.add_key_length(head_dim(config))
    writer.add_value_length(head_dim(config))
    writer.add_rope_dimension_count(head_dim(config))
    writer.add_rope_freq_base(float(config.rope_parameters["rope_theta"]))
    writer.add_layer_norm_rms_eps(float(config.rms_norm_eps))
    writer.add_vocab_size(config.vocab_size)
    if _rope_type(config) == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(float(config.rope_parameters["factor"]))


def rope_factors(config: Any) -> npt.NDArray[np.float32] | None:
    """Return the divisor of each rope frequency under Llama 3's scaling, shape (head_dim / 2,); None: another scaling.

    They are taken from the frequencies that Transformers computes with.
    """
    if _rope_type(config) != "llama3":
        return None
    import torch
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))
    size = head_dim(config)
    theta = float(config.rope_parameters["rope_theta"])
    plain = theta ** -(torch.arange(0, size, 2, dtype=torch.float64) / size)
    factors: npt.NDArray[np.float32] = (plain / scaled.double()).float().numpy()
    return factors


def _rope_type(config: Any) -> str:
    parameters = config.rope_parameters
    kind = str(parameters.get("rope_type", "default"))
    if kind not in ("default", "linear", "llama3"):
        raise unsupported(f"its rope scaling is {kind}; medqa writes default, linear and llama3")
    if float(parameters.get("partial_rotary_factor", 1.0)) != 1.0:
        raise unsupported("it rotates a part of each head only")
    return kind


@dataclass(frozen=True)
class PlannedTensor:
    """A tensor of the GGUF file.

    ``heads``: attention heads within which rows are reordered; 0: the order stays. ``fell_back``: its rows do not
    divide into blocks, so it is stored as f16.
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

    Types are those that ``llama-quantize`` chooses: norms and biases f32, matrices ``file_type``. For the output matrix
    of a q4_0 file (or the embedding that serves as one) it takes q6_K, which the ``gguf`` package cannot write: q8_0.

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
            actual = f"shape {tensor.shape}" if tensor else "none"
            raise InputError(f"the merged model should have {source} of shape {shape}; found: {actual}")
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
