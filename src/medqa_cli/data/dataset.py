"""Reads and encodes the splits that ``medqa convert`` wrote, for the other commands."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import MISSING, dataclass, fields, replace
from pathlib import Path
from typing import TypeVar

from medqa_cli.data.data_folder import SPLITS
from medqa_cli.errors import InputError, MedqaError
from medqa_cli.files import require_file
from medqa_cli.prompt.encoder import Example, PromptEncoder

_ENCODE_BATCH = 1000

T = TypeVar("T")


@dataclass(frozen=True)
class QaRow:
    """One question with its reference answer; ``paraphrase_of``: id of the row whose question it paraphrases."""

    id: str
    question: str
    answer: str
    topic: str
    source: str
    paraphrase_of: str = ""


_KEYS = tuple(f.name for f in fields(QaRow) if f.default is MISSING)


def read_split(data_dir: Path, split: str) -> list[QaRow]:
    """Read one split; see ``iterate_split``."""
    return list(iterate_split(data_dir, split))


def iterate_split(data_dir: Path, split: str) -> Iterator[QaRow]:
    """Read one split row by row.

    Args:
        data_dir: the folder that ``medqa convert`` wrote.
        split: ``train``, ``validation`` or ``test``.

    Yields:
        the rows in the order of the file; none where nothing was held out.

    Raises:
        InputError: the folder or the file is missing, or a line is damaged.
    """
    if split not in SPLITS:
        raise InputError(f"no split is named '{split}'; there are {', '.join(SPLITS)}")
    path = data_dir / f"{split}.jsonl"
    require_file(path)
    try:
        with open(path, "rb") as file:
            for number, line in enumerate(file, start=1):
                yield _row(line, f"{path}:{number}")
    except FileNotFoundError as error:
        missing = "" if not data_dir.is_dir() else f": {path.name} is missing"
        raise InputError(f"no data in {data_dir}{missing}", "run: medqa convert FILE") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}", "run: medqa convert FILE") from error


def _row(line: bytes, place: str) -> QaRow:
    try:
        value = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{place}: damaged line: {error}", "run medqa convert again") from error
    if not isinstance(value, dict):
        raise InputError(f"{place}: damaged line: not an object", "run medqa convert again")
    wrong = [key for key in _KEYS if not isinstance(value.get(key), str)]
    if wrong:
        raise InputError(f"{place}: damaged line: no text under {', '.join(wrong)}", "run medqa convert again")
    paraphrase_of = value.get("paraphrase_of")
    return QaRow(
        **{key: value[key] for key in _KEYS}, paraphrase_of=paraphrase_of if isinstance(paraphrase_of, str) else ""
    )


@dataclass(frozen=True)
class EncodedSplit:
    """Examples that have something to learn, and what happened to the others.

    ``num_truncated_answers``: answers cut at ``max_length``, without end token; ``num_without_answer``: rows left out
    because the prompt alone fills ``max_length``.
    """

    examples: list[Example]
    num_truncated_answers: int
    num_without_answer: int


def encode_rows(rows: Sequence[QaRow], encoder: PromptEncoder, max_length: int) -> EncodedSplit:
    """Encode rows in order; each example carries the id of its row.

    Raises:
        MedqaError: no row has a supervised token.
    """
    encoded: list[Example] = []
    for start in range(0, len(rows), _ENCODE_BATCH):
        part = rows[start : start + _ENCODE_BATCH]
        examples = encoder.encode_examples([row.question for row in part], [row.answer for row in part], max_length)
        encoded += [replace(example, row_id=row.id) for example, row in zip(examples, part, strict=True)]
    kept = [example for example in encoded if example.num_answer_tokens]
    if rows and not kept:
        raise MedqaError(
            f"no supervised token: all {len(rows)} prompts fill model.max_length = {max_length} tokens by themselves",
            "raise model.max_length, or shorten prompt.system",
        )
    return EncodedSplit(kept, sum(example.truncated for example in kept), len(encoded) - len(kept))


def evenly_spaced(items: Sequence[T], count: int | None) -> list[T]:
    """Return at most ``count`` items, spread over the whole split; always the same ones. None: all."""
    if count is None or len(items) <= count:
        return list(items)
    return [items[i * len(items) // count] for i in range(count)]
