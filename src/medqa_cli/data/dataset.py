"""Reads the splits that ``medqa convert`` wrote, for the other commands. Does not change them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import MISSING, dataclass, fields
from pathlib import Path

from medqa_cli.data.splitting import SPLITS
from medqa_cli.errors import InputError
from medqa_cli.files import require_file


@dataclass(frozen=True)
class QaRow:
    """One question with its reference answer; ``paraphrase_of``: id of the row whose question it words anew."""

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
