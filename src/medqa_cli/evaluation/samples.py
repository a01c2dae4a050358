"""One question under one model: all that the figures are computed from, as ``samples.jsonl`` keeps it.

A file of samples is enough to compute every figure again (``medqa eval --rescore``).
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any

from medqa_cli.errors import InputError
from medqa_cli.files import atomic_file, require_file

_LONGEST_LINE = 1 << 25  # characters
_LARGEST = 10**12  # far above any sum of losses or count of tokens
_SHOWN = 60  # characters of a value in a message


@dataclass(frozen=True)
class Sample:
    """One question and what one model, or one floor, makes of it.

    ``references``: all reference answers of the question, the row's own one first; ``swap_reference``: a reference of
    the same kind of question about another topic, None where there is none; ``nll_sum``, ``answer_tokens`` and
    ``answer_bytes``: loss in nats and size of the own reference, as far as it was scored, None where likelihood was not
    measured; ``answer``: the generated text, None where none was generated; ``finish_reason``: ``stop`` or ``length``,
    None for a text that no model wrote.
    """

    id: str
    topic: str
    model: str
    question: str
    references: tuple[str, ...]
    swap_reference: str | None = None
    nll_sum: float | None = None
    answer_tokens: int | None = None
    answer_bytes: int | None = None
    truncated: bool = False
    answer: str | None = None
    finish_reason: str | None = None
    generated_tokens: int | None = None


def write_samples(path: Path, samples: Iterable[Sample]) -> None:
    """Write one JSON object a line, whole or not at all."""
    with atomic_file(path) as file:
        for sample in samples:
            file.write(json.dumps(asdict(sample), ensure_ascii=False) + "\n")


def read_samples(path: Path) -> dict[str, list[Sample]]:
    """Read samples by model, models and questions in the order of the file.

    Raises:
        InputError: the file is missing, empty or damaged, a value is not what eval writes, or its models were asked
            different questions.
    """
    found: dict[str, list[Sample]] = {}
    try:
        require_file(path)
        with open(path, encoding="utf-8") as file:
            for number in itertools.count(1):
                line = file.readline(_LONGEST_LINE + 1)
                if not line:
                    break
                sample = _sample(line, f"{path}:{number}")
                found.setdefault(sample.model, []).append(sample)
    except FileNotFoundError as error:
        raise InputError(f"no samples in {path}", "measure first: medqa eval") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}", "measure again: medqa eval") from error
    for name, own in found.items():
        if len({sample.id for sample in own}) < len(own):
            raise InputError(f"{path} holds a question of {name} twice", "measure again: medqa eval")
    asked = {tuple(sample.id for sample in own) for own in found.values()}
    if len(asked) != 1:
        what = "holds no samples" if not asked else "holds different questions for different models"
        raise InputError(f"{path} {what}", "measure again: medqa eval")
    return found


def _sample(line: str, place: str) -> Sample:
    try:
        value: Any = json.loads(line) if len(line) <= _LONGEST_LINE else None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{place}: damaged line: {error}", "measure again: medqa eval") from error
    if problem := _problem(value):
        raise InputError(f"{place}: damaged line: {problem}", "measure again: medqa eval")
    return Sample(**{**value, "references": tuple(value["references"])})


def _problem(value: Any) -> str:
    """Return what is wrong with the value of a line, or nothing."""
    if not isinstance(value, dict):
        return f"expected an object of at most {_LONGEST_LINE:,} characters"
    if unknown := sorted(value.keys() - _RULES.keys()):
        return f"unknown key {ascii(unknown[0])[1:-1][:_SHOWN]}"
    for name, (expected, fits) in _RULES.items():
        if name not in value and name in _REQUIRED:
            return f"the key {name} is missing"
        if name in value and not fits(value[name]):
            return f"{name} is {ascii(value[name])[:_SHOWN]}; expected {expected}"
    return ""


def _is_text(value: Any) -> bool:
    if not isinstance(value, str):
        return False
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _is_filled(value: Any) -> bool:
    return _is_text(value) and bool(value.strip())


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= _LARGEST


def _is_loss(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value <= _LARGEST  # not true of NaN


def _or_null(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or fits(value)


# What each key may hold: in words, and as a check.
_Rule = tuple[str, Callable[[Any], bool]]
_TEXT: _Rule = ("text", _is_text)
_FILLED: _Rule = ("text that is not empty", _is_filled)
_TEXT_OR_NULL: _Rule = ("text or null", _or_null(_is_text))
_COUNT_OR_NULL: _Rule = (f"a whole number from 0 to {_LARGEST:,}, or null", _or_null(_is_count))
_RULES: dict[str, _Rule] = {
    "id": _FILLED,
    "topic": _TEXT,
    "model": _FILLED,
    "question": _FILLED,
    "references": (
        "a list of texts that are not empty",
        lambda value: isinstance(value, list) and bool(value) and all(map(_is_filled, value)),
    ),
    "swap_reference": _TEXT_OR_NULL,
    "nll_sum": (f"a number from 0 to {_LARGEST:,}, or null", _or_null(_is_loss)),
    "answer_tokens": _COUNT_OR_NULL,
    "answer_bytes": _COUNT_OR_NULL,
    "truncated": ("true or false", lambda value: isinstance(value, bool)),
    "answer": _TEXT_OR_NULL,
    "finish_reason": ("stop, length or null", lambda value: value in ("stop", "length", None)),
    "generated_tokens": _COUNT_OR_NULL,
}
_REQUIRED = {field.name for field in fields(Sample) if field.default is MISSING}
assert list(_RULES) == [field.name for field in fields(Sample)]
