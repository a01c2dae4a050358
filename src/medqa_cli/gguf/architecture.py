"""The models that llama.cpp computes as Transformers does: which they are, their sizes and rope, their tensors.

Key names are those of the ``gguf`` package. What llama.cpp makes of them is taken from its ``conversion/llama.py``,
``qwen.py``, ``gemma.py`` and ``src/models/llama.cpp``, ``qwen2.cpp``, ``qwen3.cpp``, ``gemma3.cpp`` (2026-11).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt

from medqa_cli import console
from medqa_cli.errors import InputError
from medqa_cli.model.load import heads_of, load_config

_CONVERTER_HINT = (
    "llama.cpp's own converter knows more models: python convert_hf_to_gguf.py MERGED_FOLDER --outtype f16, "
    "then llama-quantize"
)
_QUERY, _KEY, _VALUE, _ATTENTION_OUT = "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"
# llama.cpp has these for gemma3 in its code: every sixth layer attends to everything, the others to a window and rotate
# by this base; the largest model (by its layers) divides its scores by another root.
_GEMMA_PERIOD = 6
_GEMMA_WINDOW_THETA = 10_000.0
_GEMMA_27B_LAYERS = 62


@dataclass(frozen=True)
class GgufKind:
    """An architecture of llama.cpp.

    ``activations``: those it computes; ``ropes``: scalings of the rotary embedding that it knows how to read;
    ``reorders``: it rotates neighboring rows of queries and keys, where Transformers rotates the halves of a head;
    ``norms``: of a layer, before and after its parts; ``has_head_norms``: queries and keys have one for each head;
    ``norm_shift``: what Transformers adds to each norm's weight as it computes; ``biased``: linear layers that always
    have a bias; ``may_have_biases``: others may have one by the config; ``has_windows``: layers have windows.
    """

    name: gguf.MODEL_ARCH
    activations: tuple[str, ...] = ("silu", "swish")
    ropes: tuple[str, ...] = ("default", "linear")
    reorders: bool = False
    norms: tuple[str, ...] = ("input_layernorm", "post_attention_layernorm")
    has_head_norms: bool = False
    norm_shift: float = 0.0
    biased: tuple[str, ...] = ()
    may_have_biases: bool = False
    has_windows: bool = False


_LLAMA = GgufKind(gguf.MODEL_ARCH.LLAMA, ropes=("default", "linear", "llama3"), reorders=True, may_have_biases=True)
_GEMMA3 = GgufKind(
    gguf.MODEL_ARCH.GEMMA3,
    activations=("gelu_pytorch_tanh",),
    norms=("input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm"),
    has_head_norms=True,
    norm_shift=1.0,
    has_windows=True,
)
_KINDS = {
    "LlamaForCausalLM": _LLAMA,
    "MistralForCausalLM": _LLAMA,
    "Qwen2ForCausalLM": GgufKind(gguf.MODEL_ARCH.QWEN2, biased=(_QUERY, _KEY, _VALUE)),
    "Qwen3ForCausalLM": GgufKind(gguf.MODEL_ARCH.QWEN3, has_head_norms=True),
    "Gemma3ForCausalLM": _GEMMA3,
    # Its language model; llama.cpp keeps what reads pictures in a file of its own.
    "Gemma3ForConditionalGeneration": _GEMMA3,
}
# Names in the files of models with a vision tower, by the version of Transformers that saved them.
_LANGUAGE_MODEL = re.compile(r"^(?:model\.language_model|language_model\.model)\.")
_OTHER_PARTS = re.compile(r"^(?:model\.)?(?:vision_tower|multi_modal_projector)\.")


@dataclass(frozen=True)
class KnownModel:
    """A model that llama.cpp computes as Transformers does: its kind, and the config of its language model."""

    kind: GgufKind
    config: Any

    @property
    def architecture(self) -> str:
        """``general.architecture`` of the file."""
        return str(gguf.MODEL_ARCH_NAMES[self.kind.name])

    @property
    def head_dim(self) -> int:
        """The size of one attention head."""
        return heads_of(self.config)[2]

    @property
    def context_length(self) -> int:
        """The longest context in tokens that llama.cpp computes as Transformers does.

        Most of its architectures attend to everything; a sliding window shows only beyond its width.
        """
        window = getattr(self.config, "sliding_window", None)
        full = int(self.config.max_position_embeddings)
        layers = getattr(self.config, "layer_types", None)
        if not window or self.kind.has_windows or (layers is not None and "sliding_attention" not in layers):
            return full
        return min(full, int(window))

    @property
    def rope(self) -> dict[str, Any]:
        """Transformers' parameters of the rotary embedding; those of the layers without a window where they differ."""
        parameters: dict[str, Any] = self.config.rope_parameters
        return parameters["full_attention"] if self.kind.has_windows else parameters

    @staticmethod
    def text_name(name: str) -> str:
        """Return the name of a tensor in the language model; empty: it belongs to another part."""
        if _OTHER_PARTS.match(name):
            return ""
        return _LANGUAGE_MODEL.sub("model.", name).removeprefix("language_model.")

    def add_hyperparameters(self, writer: Any) -> None:
        """Put the model's sizes and rope into a ``gguf.GGUFWriter``."""
        config = self.config
        if self.context_length < config.max_position_embeddings:
            console.note(f"the context is set to {self.context_length} tokens, the model's sliding window")
        writer.add_context_length(self.context_length)
        writer.add_embedding_length(config.hidden_size)
        writer.add_block_count(config.num_hidden_layers)
        writer.add_feed_forward_length(config.intermediate_size)
        heads, key_value_heads, head_dim = heads_of(config)
        writer.add_head_count(heads)
        writer.add_head_count_kv(key_value_heads)
        writer.add_key_length(head_dim)
        writer.add_value_length(head_dim)
        writer.add_rope_dimension_count(head_dim)
        writer.add_rope_freq_base(float(self.rope["rope_theta"]))
        writer.add_layer_norm_rms_eps(float(config.rms_norm_eps))
        writer.add_vocab_size(config.vocab_size)
        if self.kind.has_windows:
            writer.add_sliding_window(config.sliding_window)
        if _rope_type(self.rope) == "linear":
            writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
            writer.add_rope_scaling_factor(float(self.rope["factor"]))

    def rope_factors(self) -> npt.NDArray[np.float32] | None:
        """Return the divisor of each rope frequency under Llama 3's scaling, shape (head_dim / 2,).

        They are taken from the frequencies that Transformers computes with. None: another scaling.
        """
        if _rope_type(self.rope) != "llama3":
            return None
        import torch
        from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

        scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](self.config, torch.device("cpu"))
        theta = float(self.rope["rope_theta"])
        plain = theta ** -(torch.arange(0, self.head_dim, 2, dtype=torch.float64) / self.head_dim)
        factors: npt.NDArray[np.float32] = (plain / scaled.double()).float().numpy()
        return factors

    def expected_tensors(self) -> Iterator[tuple[str, tuple[int, ...], int]]:
        """Yield name in the folder, shape and heads of each tensor, in the order of the GGUF file.

        Heads are those within which rows are reordered; 0: the order stays.
        """
        config, kind = self.config, self.kind
        hidden, inner = config.hidden_size, config.intermediate_size
        queries, keys, size = heads_of(config)
        linear = (
            (_QUERY, queries * size, hidden, queries),
            (_KEY, keys * size, hidden, keys),
            (_VALUE, keys * size, hidden, 0),
            (_ATTENTION_OUT, hidden, queries * size, 0),
            ("mlp.gate_proj", inner, hidden, 0),
            ("mlp.up_proj", inner, hidden, 0),
            ("mlp.down_proj", hidden, inner, 0),
        )
        yield "model.embed_tokens.weight", (config.vocab_size, hidden), 0
        for layer in (f"model.layers.{index}" for index in range(config.num_hidden_layers)):
            for norm in kind.norms:
                yield f"{layer}.{norm}.weight", (hidden,), 0
            for norm in ("self_attn.q_norm", "self_attn.k_norm") if kind.has_head_norms else ():
                yield f"{layer}.{norm}.weight", (size,), 0
            for name, rows, columns, heads in linear:
                heads = heads if kind.reorders else 0
                yield f"{layer}.{name}.weight", (rows, columns), heads
                if name in kind.biased or _has_biases(config, name):
                    yield f"{layer}.{name}.bias", (rows,), heads
        yield "model.norm.weight", (hidden,), 0
        if not config.tie_word_embeddings:
            yield "lm_head.weight", (config.vocab_size, hidden), 0


def written_types() -> frozenset[str]:
    """Return the names of the models that are written, as `architectures` in config.json has them."""
    return frozenset(_KINDS)


def unsupported(what: str) -> InputError:
    """Return the refusal of a model that cannot be exported, with the way out."""
    return InputError(f"no GGUF export: {what}", _CONVERTER_HINT)


def read_known_model(location: str, revision: str | None = None) -> KnownModel:
    """Read the configuration of a model folder or hub id; refuse what llama.cpp would compute otherwise.

    Raises:
        InputError: it cannot be read, or the model is not one that can be exported.
    """
    config = load_config(location, revision)
    name = (getattr(config, "architectures", None) or ["unknown"])[0]
    kind = _KINDS.get(name)
    if kind is None:
        raise unsupported(f"the model is a {name}; medqa writes {', '.join(_KINDS)}")
    if getattr(config, "quantization_config", None):
        raise unsupported("the weights are quantized; medqa exports plain ones")
    config = config.get_text_config()
    model = KnownModel(kind, config)
    activation = getattr(config, "hidden_activation", None) or getattr(config, "hidden_act", None)
    if activation not in kind.activations:
        raise unsupported(f"its activation is {activation}; llama.cpp computes {kind.activations[0]}")
    if _rope_type(model.rope) not in kind.ropes:
        raise unsupported(f"its rope scaling is {_rope_type(model.rope)}; medqa writes {', '.join(kind.ropes)}")
    if float(model.rope.get("partial_rotary_factor", 1.0)) != 1.0:
        raise unsupported("it rotates a part of each head only")
    if not kind.may_have_biases and _has_biases(config, _QUERY):
        raise unsupported(f"its attention has biases, which llama.cpp does not read for {model.architecture}")
    if kind.name == gguf.MODEL_ARCH.QWEN2 and model.head_dim * config.num_attention_heads != config.hidden_size:
        raise unsupported(f"its heads have {model.head_dim} rows, which llama.cpp does not take for qwen2")
    if kind is _GEMMA3:
        _refuse_unusual_gemma(config, model.head_dim)
    return model


def _refuse_unusual_gemma(config: Any, head_dim: int) -> None:
    """Refuse a Gemma 3 that differs from the published ones in what llama.cpp does not read from the file."""
    layers = [
        "sliding_attention" if (i + 1) % _GEMMA_PERIOD else "full_attention" for i in range(len(config.layer_types))
    ]
    if config.layer_types != layers:
        raise unsupported(
            f"its layers with a window are not all but every {_GEMMA_PERIOD}th one, as llama.cpp has them"
        )
    local = config.rope_parameters["sliding_attention"]
    if _rope_type(local) != "default" or float(local["rope_theta"]) != _GEMMA_WINDOW_THETA:
        raise unsupported(f"its layers with a window rotate otherwise than by the base {_GEMMA_WINDOW_THETA:,.0f}")
    is_largest = config.num_hidden_layers == _GEMMA_27B_LAYERS
    scale = config.hidden_size // config.num_attention_heads if is_largest else head_dim
    if config.query_pre_attn_scalar != scale:
        raise unsupported(f"its query_pre_attn_scalar is {config.query_pre_attn_scalar}; llama.cpp takes {scale}")
    for name in ("final_logit_softcapping", "attn_logit_softcapping", "use_bidirectional_attention"):
        if getattr(config, name, None):
            raise unsupported(f"its {name} is {getattr(config, name)}, which llama.cpp does not compute for gemma3")


def _has_biases(config: Any, layer: str) -> bool:
    return bool(getattr(config, "attention_bias" if layer.startswith("self_attn") else "mlp_bias", False))


def _rope_type(parameters: dict[str, Any]) -> str:
    return str(parameters.get("rope_type", "default"))
