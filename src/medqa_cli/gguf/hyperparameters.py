"""What llama.cpp must know of a Llama model beside its weights: sizes, rope, norms; refuses what it would get wrong.

Key names are those of the ``gguf`` package; which of them the architecture ``llama`` reads is taken from llama.cpp's
``conversion/llama.py`` and ``src/models/llama.cpp`` (2026-11).
"""

from __future__ import annotations

from typing import Any

import gguf
import numpy as np
import numpy.typing as npt

from medqa_cli import console
from medqa_cli.errors import InputError
from medqa_cli.model.load import load_config

ARCHITECTURE = "llama"
_TRANSFORMERS_NAMES = ("LlamaForCausalLM", "MistralForCausalLM")
CONVERTER_HINT = (
    "llama.cpp's own converter knows more models: python convert_hf_to_gguf.py MERGED_FOLDER --outtype f16, "
    "then llama-quantize"
)


def unsupported(what: str) -> InputError:
    """Return the refusal of a model that cannot be exported, with the way out."""
    return InputError(f"no GGUF export: {what}", CONVERTER_HINT)


def read_config(location: str, revision: str | None = None) -> Any:
    """Read the configuration of a model folder or hub id and refuse what llama.cpp's ``llama`` does not compute alike.

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
    """Return by what llama.cpp divides each rope frequency, of Llama 3's scaling; None for other kinds.

    Shape (head_dim / 2,). Taken from the frequencies that Transformers computes with, not from a formula of our own.
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
