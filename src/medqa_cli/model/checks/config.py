"""What a model's ``config.json`` may say: types, ranges, sizes that go with the bytes of its weight files.

Transformers checks the types of most values, but not that a size fits the files, so that a wrong digit takes all memory
or builds layers without end.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from medqa_cli.errors import InputError
from medqa_cli.model.checks.loading import AGAIN, Checks, is_integer, is_number, read_object, shown
from medqa_cli.model.weights import WEIGHT_FILES, weight_paths

CONFIG_NAME = "config.json"
_HINT = f"{AGAIN}, or restore the value"

# Largest values with room above any published model; 0 layers or heads make no model. The names are those that the
# architectures of Transformers use for the same thing.
_SIZES = {
    1 << 24: ("vocab_size",),
    1 << 20: ("hidden_size", "n_embd", "d_model", "model_dim", "embed_dim", "dim"),
    1 << 23: ("intermediate_size", "n_inner", "ffn_dim", "d_ff", "moe_intermediate_size", "ffn_hidden_size"),
    1 << 12: ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "num_decoder_layers"),
    1 << 16: ("num_attention_heads", "num_key_value_heads", "n_head", "n_heads", "num_heads", "head_dim"),
    1 << 14: ("num_experts", "num_local_experts", "n_routed_experts"),
}
_WIDTHS = ("hidden_size", "n_embd", "d_model")
_INNER = ("hidden_size", "n_embd", "d_model", "intermediate_size", "n_inner", "ffn_dim", "moe_intermediate_size")
_LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
_EPSILONS = ("rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon", "norm_epsilon", "norm_eps")
_SHARES = ("attention_dropout", "hidden_dropout", "resid_pdrop", "embd_pdrop", "attn_pdrop", "dropout")
# So many numbers are no matter, whatever the files hold.
_ALWAYS_FITS = 10_000_000
_MOST_LABELS = 1 << 16
_TOKEN_IDS = ("bos_token_id", "eos_token_id", "pad_token_id")
_DTYPES = ("float32", "float16", "bfloat16", "float64", "auto")
# Where Transformers would take an implementation from; a name with a slash is a repository with program code.
_IMPLEMENTATIONS = (
    "attn_implementation",
    "_attn_implementation",
    "_attn_implementation_internal",
    "experts_implementation",
    "_experts_implementation",
    "_experts_implementation_internal",
)
# Architectures with one vector for each position under this name; those of GPT-2 call it n_positions.
_LEARNED_POSITIONS = ("opt", "gpt_neo", "biogpt", "xglm", "xlm-roberta", "bert", "roberta")
_ROPE = ("rope_scaling", "rope_parameters")


def check_config(folder: Path) -> dict[str, Any]:
    """Check ``config.json`` of a folder, before any library reads it, and return its content.

    Raises:
        InputError: it is damaged, or a value has the wrong type, is out of range, or does not fit the weight files.
    """
    path = folder / CONFIG_NAME
    content = read_object(path)
    for prefix, values in _sections(content, ""):
        _check_section(Checks(path, values, _HINT), values)
        _check_against_files(folder, prefix, values)
    return content


def check_layer_types(folder: Path, config: Any) -> None:
    """Check that the kinds of layers in a config, as Transformers read it, go with its other values.

    Raises:
        InputError: there are more or fewer kinds than layers, or one needs a value that is absent.
    """
    kinds = getattr(config, "layer_types", None)
    if kinds is None:
        return
    path = folder / CONFIG_NAME
    layers = getattr(config, "num_hidden_layers", None)
    if not isinstance(kinds, list | tuple) or (is_integer(layers) and len(kinds) != layers):
        raise InputError(f"{path}: layer_types is {shown(kinds)}, expected one kind for each of {layers} layers", _HINT)
    for kind, needed in (("sliding_attention", "sliding_window"), ("chunked_attention", "attention_chunk_size")):
        if kind in kinds and getattr(config, needed, None) is None:
            raise InputError(f"{path}: layer_types holds {kind}, and there is no {needed}", _HINT)


def _sections(values: dict[str, Any], prefix: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the config and those of the parts that it is made of, such as ``text_config``."""
    yield prefix, values
    for key, value in values.items():
        if isinstance(value, dict) and key.endswith("_config") and key != "quantization_config":
            yield from _sections(value, f"{prefix}{key}.")


def _check_section(checks: Checks, values: Mapping[str, Any]) -> None:
    for most, names in _SIZES.items():
        for name in names:
            sizes = values.get(name)
            # Some architectures give one value for each layer.
            listed = isinstance(sizes, list) and sizes and all(is_integer(one) and 0 <= one <= most for one in sizes)
            if not listed and name not in ("num_local_experts", "num_experts", "n_routed_experts"):
                checks.integer(name, 1, most)
            elif not listed:
                checks.integer(name, 0, most)
    for name in _EPSILONS:
        checks.number(name, 0.0, 0.1)
    for name in _SHARES:
        checks.number(name, 0.0, 1.0)
    checks.number("rope_theta", 1e-3, 1e15)
    checks.integer("num_labels", 0, _MOST_LABELS)
    checks.kind("quantization_config", dict, "an object")
    checks.kind("id2label", dict, "an object")
    checks.one_of("return_dict", (True,))  # otherwise a model gives tuples, which its own layers do not expect
    if values.get("use_sliding_window") is not False:
        checks.integer("sliding_window", 1, 1 << 40)
    checks.integer("max_position_embeddings", 1, 1 << 40)
    for name in ("dtype", "torch_dtype"):
        dtype = values.get(name)
        if dtype is not None and str(dtype).removeprefix("torch.") not in _DTYPES and not isinstance(dtype, dict):
            checks.refuse(name, "one of " + ", ".join(_DTYPES))
    for name in _TOKEN_IDS:
        ids = values.get(name)
        if not isinstance(ids, list) or not all(is_integer(one) and one >= 0 for one in ids):
            checks.integer(name, -1, 1 << 31)
    for name in _ROPE:
        checks.kind(name, dict, "an object")
        _check_rope(checks, name, values.get(name))
    for key in _IMPLEMENTATIONS:
        given = values.get(key)
        named = [*given.values()] if isinstance(given, dict) else [given]
        foreign = [one for one in named if isinstance(one, str) and "/" in one]
        if foreign:
            raise InputError(
                f"{checks.path}: {key} names {shown(foreign[0])}, program code of a hub repository, which medqa does "
                "not run",
                f"take {key} out of the file: medqa chooses the implementation itself",
            )


def _check_rope(checks: Checks, name: str, rope: Any) -> None:
    """Check the numbers of a rotary embedding; some models give one set for each kind of layer."""
    for key, value in (rope or {}).items():
        if isinstance(value, dict):
            _check_rope(checks, name, value)
        elif key in ("rope_theta", "factor") and value is not None and not (is_number(value) and 0 < value <= 1e15):
            checks.refuse(name, f"a positive number as its {key}, not {shown(value)}")


def _check_against_files(folder: Path, prefix: str, values: Mapping[str, Any]) -> None:
    """Check that the largest matrices that the sizes speak of can stand in the weight files at all.

    A loose bound, of one bit per weight: it keeps a wrong digit from taking all memory. Whether each shape is right is
    seen when the weights are loaded.
    """
    if not any((folder / name).is_file() for name in WEIGHT_FILES):
        return  # a folder without weights, of a tokenizer or a plan
    num_bytes = sum(path.stat().st_size for path in weight_paths(folder))
    most = 8 * num_bytes + _ALWAYS_FITS
    widths, inner = (max((_size(values, name) for name in names), default=1) for names in (_WIDTHS, _INNER))
    layers = max((_size(values, name) for name in _LAYERS), default=1)
    positions = "max_position_embeddings" if values.get("model_type") in _LEARNED_POSITIONS else "n_positions"
    matrices = {"layers": layers * widths * inner}
    matrices |= {name: _size(values, name) * widths for name in ("vocab_size", positions)}
    for rows, factors in matrices.items():
        if factors > most:
            raise InputError(
                f"{folder / CONFIG_NAME} does not go with the weights beside it: {prefix}{rows} and the widths make "
                f"{factors:,} numbers, the files have {num_bytes:,} bytes",
                "take config.json and weights from the same model",
            )


def _size(values: Mapping[str, Any], name: str) -> int:
    value = values.get(name)
    sizes = value if isinstance(value, list) else [value]
    return max((one for one in sizes if isinstance(one, int)), default=1)
