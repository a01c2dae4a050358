"""What is kept of the finds: how many there are of each kind, in how many rows, and ``identifiers.jsonl``.

The counts are what report.json, the card and the table say. The file says where identifiers stand in the training rows,
for the commands after convert. Its first line is an object with ``format`` and ``salt``. Each other line is a find:
``id`` of the row, ``field`` (question or answer), ``start`` and ``end`` (characters, ``end`` excluded), ``kind``, and
``hash``, the value's keyed hash. The value itself is not in the file; it is looked up in ``train.jsonl``, and the hash
tells whether it is still there. There is no file where nothing was found, or where what was found was replaced or
rejected.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

from medqa_cli.data.dataset import IDENTIFIERS_NAME, QaRow, iterate_split
from medqa_cli.data.identifiers.finds import KINDS, LANGUAGES, PlainFind
from medqa_cli.errors import InputError

_TRAIN = "train"
FORMAT = 1
HASH_BYTES = 16
_FIELDS = ("question", "answer")


@dataclass
class FoundCounts:
    """Finds and rows by kind, of all rows looked through and of those of train; never a value.

    ``by_model``: of ``finds``, those that the rules alone do not find, or not as long.
    """

    finds: Counter[str] = field(default_factory=Counter)
    by_model: Counter[str] = field(default_factory=Counter)
    rows: Counter[str] = field(default_factory=Counter)
    train_finds: Counter[str] = field(default_factory=Counter)
    train_rows: Counter[str] = field(default_factory=Counter)
    rows_with_any: int = 0
    train_rows_with_any: int = 0

    def add(self, finds: Iterable[PlainFind], split: str) -> None:
        """Count the finds of one row; ``split`` is empty where it is rejected for them."""
        finds = list(finds)
        kinds = Counter(kind for _, _, _, kind, _ in finds)
        self.finds.update(kinds)
        self.by_model.update(kind for _, _, _, kind, by_model in finds if by_model)
        self.rows.update(kinds.keys())
        self.rows_with_any += 1
        if split == _TRAIN:
            self.train_finds.update(kinds)
            self.train_rows.update(kinds.keys())
            self.train_rows_with_any += 1

    def as_json(self, setting: str, model: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return the part of ``report.json``.

        Args:
            setting: what became of the finds.
            model: what is told of the model that looked beside the rules; None: there was none.
        """
        return {
            "setting": setting,
            **({} if model is None else {"model": dict(model)}),
            "languages": [*LANGUAGES],
            "rows": self.rows_with_any,
            "train_rows": self.train_rows_with_any,
            "kinds": {
                kind: {
                    "finds": self.finds[kind],
                    "rows": self.rows[kind],
                    "train_finds": self.train_finds[kind],
                    "train_rows": self.train_rows[kind],
                    **({} if model is None else {"by_model": self.by_model[kind]}),
                }
                for kind in KINDS
                if self.finds[kind]
            },
        }


@dataclass(frozen=True)
class RecordedFind:
    """A find in a training row: characters from ``start`` to before ``end`` of its ``field``."""

    id: str
    field: str
    start: int
    end: int
    kind: str
    hash: str


@dataclass(frozen=True)
class FoundValue:
    """A find with its row and the value that stands there. The value must not be printed or written."""

    find: RecordedFind
    row: QaRow
    value: str


def salt_of(*parts: str) -> str:
    """Return the salt of a data set in hexadecimal digits, from what it is made of: the same again each time."""
    return hashlib.blake2b("\0".join(("identifiers", *parts)).encode(), digest_size=HASH_BYTES).hexdigest()


def hash_of(value: str, salt: str) -> str:
    """Return the keyed hash of a value, in hexadecimal digits."""
    data = value.encode("utf-8", "surrogatepass")
    return hashlib.blake2b(data, digest_size=HASH_BYTES, key=bytes.fromhex(salt)).hexdigest()


class Recorder:
    """Writes the file, so that only its owner can read it; none where nothing is added."""

    def __init__(self, path: Path, salt: str) -> None:
        self._path, self._salt = path, salt
        self._file: IO[str] | None = None

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *error: object) -> None:
        if self._file is not None:
            self._file.close()

    def add(self, row_id: str, question: str, answer: str, finds: Iterable[PlainFind]) -> None:
        """Write the finds of a row; those in what stands before its question are none of its own."""
        finds = [find for find in finds if find[0] in _FIELDS]
        if not finds:
            return
        if self._file is None:
            opener = functools.partial(os.open, mode=0o600)
            self._file = open(self._path, "x", encoding="utf-8", newline="\n", opener=opener)  # noqa: SIM115
            self._file.write(json.dumps({"format": FORMAT, "salt": self._salt}) + "\n")
        for name, start, end, kind, _ in finds:
            value = (question if name == "question" else answer)[start:end]
            find = RecordedFind(row_id, name, start, end, kind, hash_of(value, self._salt))
            self._file.write(json.dumps(asdict(find), ensure_ascii=False) + "\n")


def read_recorded(data_dir: Path) -> tuple[str, list[RecordedFind]]:
    """Read the finds of the training rows.

    Args:
        data_dir: the folder that ``medqa convert`` wrote.

    Returns:
        the salt and the finds in the order of the rows; empty where there is no file.

    Raises:
        InputError: the file is damaged.
    """
    path = data_dir / IDENTIFIERS_NAME
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        head = json.loads(lines[0])
        if head["format"] != FORMAT:
            raise InputError(f"{path} has format {head['format']}; expected {FORMAT}", "run medqa convert again")
        bytes.fromhex(head["salt"])
        finds = [RecordedFind(**json.loads(line)) for line in lines[1:]]
        for find in finds:
            is_part = type(find.start) is int and type(find.end) is int and 0 <= find.start < find.end
            if find.field not in _FIELDS or not is_part:
                raise ValueError("a line is no find")
        return head["salt"], finds
    except FileNotFoundError:
        return "", []
    except (OSError, ValueError, KeyError, IndexError, TypeError, RecursionError) as error:
        raise InputError(f"{path} cannot be read: {error}", "run medqa convert again") from error


def found_values(data_dir: Path) -> Iterator[FoundValue]:
    """Look up the finds of the training rows in ``train.jsonl``.

    Args:
        data_dir: the folder that ``medqa convert`` wrote.

    Yields:
        the finds with their rows and values, in the order of the rows.

    Raises:
        InputError: a file is missing or damaged, or a text is no longer what was found.
    """
    salt, finds = read_recorded(data_dir)
    by_row: dict[str, list[RecordedFind]] = {}
    for find in finds:
        by_row.setdefault(find.id, []).append(find)
    for row in iterate_split(data_dir, "train") if by_row else ():
        for find in by_row.pop(row.id, ()):
            text = row.question if find.field == "question" else row.answer
            value = text[find.start : find.end]
            if hash_of(value, salt) != find.hash:
                raise InputError(
                    f"{data_dir / IDENTIFIERS_NAME}: row {find.id} is no longer what was looked through",
                    "run medqa convert again",
                )
            yield FoundValue(find, row, value)
    if by_row:
        raise InputError(
            f"{data_dir / IDENTIFIERS_NAME} names {len(by_row):,} rows that train.jsonl lacks",
            "run medqa convert again",
        )
