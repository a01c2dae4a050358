"""One question under one model: all that the figures are computed from, as ``samples.jsonl`` keeps it.

A file of samples is enough to compute every figure again (``medqa eval --rescore``). Does not compute figures.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from medqa_cli.errors import InputError
from medqa_cli.run_folder import atomic_file

CUT_REFERENCE = "cut_reference"
REFERENCE = "reference"
FLOORS = ("unigram", "random_answer", "nearest_question", "wrong_topic", CUT_REFERENCE, REFERENCE)


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


_KEYS = {field.name for field in fields(Sample)}


def write_samples(path: Path, samples: Iterable[Sample]) -> None:
    """Write one JSON object a line, whole or not at all."""
    with atomic_file(path) as file:
        for sample in samples:
            file.write(json.dumps(asdict(sample), ensure_ascii=False) + "\n")


def read_samples(path: Path) -> dict[str, list[Sample]]:
    """Read samples by model, models and questions in the order of the file.

    Raises:
        InputError: the file is missing, empty or damaged, or its models were asked different questions.
    """
    found: dict[str, list[Sample]] = {}
    try:
        with open(path, encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                sample = _sample(line, f"{path}:{number}")
                found.setdefault(sample.model, []).append(sample)
    except FileNotFoundError as error:
        raise InputError(f"no samples in {path}", "measure first: medqa eval") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}", "measure again: medqa eval") from error
    asked = {tuple(sample.id for sample in own) for own in found.values()}
    if len(asked) != 1:
        what = "holds no samples" if not asked else "holds different questions for different models"
        raise InputError(f"{path} {what}", "measure again: medqa eval")
    return found


def _sample(line: str, place: str) -> Sample:
    try:
        value: Any = json.loads(line)
        if not value.keys() <= _KEYS:
            raise ValueError(f"unknown key {sorted(value.keys() - _KEYS)[0]}")
        return Sample(**{**value, "references": tuple(value["references"])})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{place}: damaged line: {error}", "measure again: medqa eval") from error
