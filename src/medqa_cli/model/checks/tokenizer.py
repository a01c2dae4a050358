"""Whether a ``tokenizer.json`` can be used: what could run without end or blow texts up is tried in a child first.

Regular expressions and replacements run in Rust, where Ctrl-C does not reach them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from medqa_cli.confined import Limits, call
from medqa_cli.errors import InputError
from medqa_cli.model.checks.loading import AGAIN, Checks, first_line, read_object

TOKENIZER_NAME = "tokenizer.json"
TOKENIZER_CONFIG_NAME = "tokenizer_config.json"
# The largest published one has 34 MB.
_MOST_BYTES = 512 << 20
_HINT = f"take the tokenizer of another model, or {AGAIN}"
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
_TEXT_KEYS = ("bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token", "mask_token")


def check_tokenizer(folder: Path) -> None:
    """Check the tokenizer files of a folder before a library reads them.

    Raises:
        InputError: a file is damaged, or encoding with it does not end or takes far more room than the text.
    """
    _check_config(folder)
    path = folder / TOKENIZER_NAME
    if not path.is_file():
        return
    if path.stat().st_size > _MOST_BYTES:
        raise InputError(f"{path} has {path.stat().st_size:,} bytes, more than {_MOST_BYTES:,}", AGAIN)
    raw = path.read_bytes()
    repeats_text = raw.count(_REPEATS_TEXT) > _MOST_SEQUENCES
    if not repeats_text and not any(spelled in raw for spelled in _WORKS_ON_TEXT):
        return
    content = read_object(path, _MOST_BYTES)
    working = [content.get(key) for key in ("normalizer", "pre_tokenizer", "post_processor", "decoder")]
    _refuse_blowing_up(path, content)
    if repeats_text or not all(is_plain(pattern) for part in working for pattern in _patterns(part)):
        call(
            _try_out, str(path), what=str(path), hint="take the tokenizer of another model, or " + AGAIN, limits=_LIMITS
        )


def is_plain(pattern: str) -> bool:
    """Tell whether a regular expression takes a time that grows little faster than the text, by its form.

    No group is repeated and no alternative repeats more than a few characters without bound, as it is with the
    patterns of nearly all published tokenizers.
    """
    if _QUANTIFIED_GROUP.search(pattern) or _BACKREFERENCE.search(pattern):
        return False
    without_classes = re.sub(r"\[(?:\\.|[^\]\\])*\]", "C", pattern)
    return all(len(_UNBOUNDED.findall(part)) <= _MOST_UNBOUNDED for part in without_classes.split("|"))


def _check_config(folder: Path) -> None:
    path = folder / TOKENIZER_CONFIG_NAME
    if not path.is_file():
        return
    values = read_object(path, _MOST_BYTES)
    checks = Checks(path, values, f"{AGAIN}, or restore the value")
    for key in _TEXT_KEYS:
        checks.kind(key, (str, dict), "a text")
    checks.kind("chat_template", (str, list, dict), "a text")
    # Transformers writes 10**30 where there is no limit.
    checks.number("model_max_length", 1, 1e40)
    checks.kind("added_tokens_decoder", dict, "an object")
    checks.kind("tokenizer_class", str, "a name")
    for key in ("add_bos_token", "add_eos_token", "add_prefix_space", "clean_up_tokenization_spaces"):
        checks.kind(key, bool, "true or false")
    for key in ("split_special_tokens", "legacy", "from_slow"):
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


def _refuse_blowing_up(path: Path, content: dict[str, Any]) -> None:
    """Refuse replacements after which a text is many times as long: multiplied over all steps that lengthen it."""
    for key in ("normalizer", "decoder"):
        growth = 1.0
        for step in _steps(content.get(key)):
            growth *= _growth(step)
        if growth > _MOST_TOKENS_PER_CHARACTER * 4:
            raise InputError(
                f"{path}: the replacements of its {key} make a text {growth:,.0f} times as long",
                _HINT,
            )


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
