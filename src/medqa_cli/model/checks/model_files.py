"""What a model's ``config.json`` and its tokenizer's files may say: types, ranges, sizes, patterns that come to an end.

Transformers checks the types of most values, but not that a size fits the weight files, so that a wrong digit takes all
memory or builds layers without end. A tokenizer's regular expressions and replacements run in Rust, where Ctrl-C does
not reach them: what could run without end or blow texts up is tried in a child process first.
"""

import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from medqa_cli.confined import Limits, call
from medqa_cli.errors import InputError, first_line
from medqa_cli.model.checks.loading import AGAIN, Checks, are_token_ids, is_integer, is_number, read_object, shown
from medqa_cli.model.weights import WEIGHT_FILES, weight_paths
from medqa_cli.resources import load_yaml

CONFIG_NAME = "config.json"
_HINT = f"{AGAIN}, or restore the value"

# So many numbers are no matter, whatever the files hold.
_ALWAYS_FITS = 10_000_000
_MOST_LABELS = 1 << 16
_DTYPES = ("float32", "float16", "bfloat16", "float64", "auto")
_ROPE = ("rope_scaling", "rope_parameters")


# Of a tokenizer.
TOKENIZER_NAME = "tokenizer.json"
TOKENIZER_CONFIG_NAME = "tokenizer_config.json"
# The largest published one has 34 MB.
_MOST_TOKENIZER_BYTES = 512 << 20
_TOKENIZER_HINT = f"take the tokenizer of another model, or {AGAIN}"
_LIMITS = Limits(seconds=20.0, memory_bytes=1 << 30)
# Parts that work on text with a pattern; escapes could spell them otherwise.
_WORKS_ON_TEXT = (b'"Regex"', b'"Replace"', b'"Prepend"', b"\\u004", b"\\u005", b"\\u006", b"\\u007")
# A post-processor that puts the text in several times; ordinary ones say this word three times.
_REPEATS_TEXT = b'"Sequence"'
_MOST_SEQUENCES = 32
_QUANTIFIED_GROUP = re.compile(r"(?<!\\)\)(?:[*+]|\{)")
_BACKREFERENCE = re.compile(r"\\[1-9kg]|\(\?[R&P0-9]")
_UNBOUNDED = re.compile(r"(?<!\\)(?:[*+]|\{\d*,\d*\})")
_MOST_UNBOUNDED = 3
_MOST_TOKENS_PER_CHARACTER = 16


def check_config(folder: Path) -> dict[str, Any]:
    """Check ``config.json`` of a folder, before any library reads it, and return its content.

    Raises:
        InputError: it is damaged, or a value has the wrong type, is out of range, or does not fit the weight files.
    """
    path = folder / CONFIG_NAME
    content = read_object(path)
    for prefix, values in _sections(content, ""):
        _check_section(Checks(path, values, _HINT), values)
        if not any((folder / name).is_file() for name in WEIGHT_FILES):
            continue  # a folder without weights, of a tokenizer or a plan
        # Can the largest matrices stand in the weight files at all? A loose bound, of one bit per weight: it keeps a
        # wrong digit from taking all memory. Whether each shape is right is seen when the weights are loaded.
        num_bytes = sum(file.stat().st_size for file in weight_paths(folder))
        widths, inner = (max((_size(values, name) for name in _keys(kind)), default=1) for kind in ("widths", "inner"))
        layers = max((_size(values, name) for name in _keys("layers")), default=1)
        learns_positions = values.get("model_type") in _keys("learned_positions")
        positions = "max_position_embeddings" if learns_positions else "n_positions"
        matrices = {"layers": layers * widths * inner}
        matrices |= {name: _size(values, name) * widths for name in ("vocab_size", positions)}
        for rows, factors in matrices.items():
            if factors > 8 * num_bytes + _ALWAYS_FITS:
                raise InputError(
                    f"{path} does not go with the weights beside it: {prefix}{rows} and the widths make "
                    f"{factors:,} numbers, the files have {num_bytes:,} bytes",
                    "take config.json and weights from the same model",
                )
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


def _keys(kind: str) -> list[str]:
    """Return keys of a kind, in the order in which they are checked."""
    keys: str = load_yaml("model_keys")[kind]
    return keys.split()


def _check_section(checks: Checks, values: Mapping[str, Any]) -> None:
    for most, names in load_yaml("model_keys")["sizes"].items():
        for name in names.split():
            sizes = values.get(name)
            # Some architectures give one value for each layer.
            if not (
                isinstance(sizes, list) and sizes and all(is_integer(size) and 0 <= size <= most for size in sizes)
            ):
                checks.integer(name, 0 if name in _keys("may_be_zero") else 1, most)
    for name in _keys("epsilons"):
        checks.number(name, 0.0, 0.1)
    for name in _keys("shares"):
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
    for name in _keys("token_ids"):
        if not are_token_ids(values.get(name)):
            checks.integer(name, -1, 1 << 31)
    for name in _ROPE:
        checks.kind(name, dict, "an object")
        _check_rope(checks, name, values.get(name))
    for key in _keys("implementations"):
        value = values.get(key)
        named = [*value.values()] if isinstance(value, dict) else [value]
        foreign = [item for item in named if isinstance(item, str) and "/" in item]
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


def _size(values: Mapping[str, Any], name: str) -> int:
    value = values.get(name)
    sizes = value if isinstance(value, list) else [value]
    return max((size for size in sizes if isinstance(size, int)), default=1)


def check_tokenizer(folder: Path) -> None:
    """Check the tokenizer files of a folder before a library reads them.

    Raises:
        InputError: a file is damaged, or encoding with it does not end or takes far more room than the text.
    """
    _check_tokenizer_config(folder)
    path = folder / TOKENIZER_NAME
    if not path.is_file():
        return
    if path.stat().st_size > _MOST_TOKENIZER_BYTES:
        raise InputError(f"{path} has {path.stat().st_size:,} bytes, more than {_MOST_TOKENIZER_BYTES:,}", AGAIN)
    raw = path.read_bytes()
    repeats_text = raw.count(_REPEATS_TEXT) > _MOST_SEQUENCES
    if not repeats_text and not any(spelled in raw for spelled in _WORKS_ON_TEXT):
        return
    content = read_object(path, _MOST_TOKENIZER_BYTES)
    working = [content.get(key) for key in ("normalizer", "pre_tokenizer", "post_processor", "decoder")]
    for key in ("normalizer", "decoder"):
        # Replacements after which a text is many times as long, multiplied over all steps that lengthen it.
        growth = math.prod(_growth(step) for step in _steps(content.get(key)))
        if growth > _MOST_TOKENS_PER_CHARACTER * 4:
            raise InputError(
                f"{path}: the replacements of its {key} make a text {growth:,.0f} times as long", _TOKENIZER_HINT
            )
    if repeats_text or not all(is_plain(pattern) for part in working for pattern in _patterns(part)):
        call(_try_out, str(path), what=str(path), hint=_TOKENIZER_HINT, limits=_LIMITS)


def is_plain(pattern: str) -> bool:
    """Tell whether a regular expression takes a time that grows little faster than the text, by its form.

    No group is repeated and no alternative repeats more than a few characters without bound, as it is with the
    patterns of nearly all published tokenizers.
    """
    if _QUANTIFIED_GROUP.search(pattern) or _BACKREFERENCE.search(pattern):
        return False
    without_classes = re.sub(r"\[(?:\\.|[^\]\\])*\]", "C", pattern)
    return all(len(_UNBOUNDED.findall(part)) <= _MOST_UNBOUNDED for part in without_classes.split("|"))


def _check_tokenizer_config(folder: Path) -> None:
    path = folder / TOKENIZER_CONFIG_NAME
    if not path.is_file():
        return
    values = read_object(path, _MOST_TOKENIZER_BYTES)
    checks = Checks(path, values, _HINT)
    for key in _keys("texts"):
        checks.kind(key, (str, dict), "a text")
    checks.kind("chat_template", (str, list, dict), "a text")
    # Transformers writes 10**30 where there is no limit.
    checks.number("model_max_length", 1, 1e40)
    checks.kind("added_tokens_decoder", dict, "an object")
    checks.kind("tokenizer_class", str, "a name")
    for key in _keys("switches"):
        checks.kind(key, bool, "true or false")
    checks.one_of("padding_side", ("left", "right"))
    checks.one_of("truncation_side", ("left", "right"))


def _patterns(part: Any) -> Iterator[str]:
    """Yield every regular expression in a part of the file."""
    if isinstance(part, dict):
        if isinstance(part.get("Regex"), str):
            yield part["Regex"]
        for value in part.values():
            yield from _patterns(value)
    elif isinstance(part, list):
        for value in part:
            yield from _patterns(value)


def _steps(part: Any) -> Iterator[dict[str, Any]]:
    if not isinstance(part, dict):
        return
    yield part
    for key in ("normalizers", "decoders"):
        inner = part.get(key)
        for step in inner if isinstance(inner, list) else ():
            yield from _steps(step)


def _growth(step: dict[str, Any]) -> float:
    """Return how many times longer a step may make a text, at most."""
    if step.get("type") == "Replace":
        pattern = step.get("pattern")
        text = pattern.get("String") if isinstance(pattern, dict) else pattern
        content = step.get("content")
        # A regular expression may match one character, or none: before each one then.
        shortest = len(text) if isinstance(text, str) and text else 1
        more = 0 if isinstance(text, str) and text else 1
        return max(1.0, len(content) / shortest + more * bool(content)) if isinstance(content, str) else 1.0
    if step.get("type") == "Prepend":
        # A word has some four characters.
        return 1.0 + len(str(step.get("prepend") or "")) / 4
    return 1.0


def _try_out(path: str) -> None:
    """Encode and decode with the file alone; runs in the child.

    Raises:
        InputError: it makes far more tokens than there are characters, or cannot be read.
    """
    from tokenizers import Tokenizer

    # On these slow patterns show: long runs of each kind of character, and what ends them.
    texts = ["ab" * 40 + "!", "a1" * 40 + "?", "xy z" * 40 + "\x00", "What is glaucoma? " * 40]
    texts += ["é" * 60 + "!", "緑内障" * 30 + "。", "\n" * 200 + "x", " " * 2000 + "x", "a" * 5000 + " b"]
    texts += [chr(code) * 48 + end for code in range(32, 127) for end in ("", "!", "\n")]
    try:
        tokenizer = Tokenizer.from_file(path)
        for text in texts:
            ids = tokenizer.encode(text).ids
            if len(ids) > _MOST_TOKENS_PER_CHARACTER * len(text) + 1000:
                raise InputError(f"{path} makes {len(ids):,} tokens of {len(text):,} characters", AGAIN)
            tokenizer.decode(ids[:2000], skip_special_tokens=False)
    except BaseException as error:
        if isinstance(error, InputError) or not (
            isinstance(error, Exception) or type(error).__name__ == "PanicException"
        ):
            raise
        raise InputError(f"{path} cannot be used: {first_line(error)}", AGAIN) from error
