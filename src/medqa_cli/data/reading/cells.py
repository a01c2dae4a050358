"""What a cell says: its text, whether it comes alone, in a list or in an object."""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

LONGEST_LITERAL = 1_000_000  # characters; Python's parser takes some hundred times as many bytes
_NO_COMMA = re.compile(r"""['"]\s+['"]""")
# Where an object holds a text beside what is known of it: SQuAD, TriviaQA, rich text.
_TEXT_KEYS = ("text", "value", "content")


@dataclass(frozen=True)
class Read:
    """What a cell says: its texts, or none and what it holds instead (without its texts).

    ``wordings``: several texts that say the same, of which the first does; else several texts are several things.
    """

    texts: tuple[str, ...] = ()
    problem: str = ""
    wordings: bool = False


def cell_text(cell: object) -> str | None:
    """Return a cell as text, an empty one for null and NaN, or None where the cell is no text (a list, an object)."""
    if isinstance(cell, str):
        return cell
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return ""
    if isinstance(cell, bool):
        return str(cell).lower()
    if isinstance(cell, bytes):
        # Bytes that are no UTF-8 become lone surrogates, for which the row is rejected later.
        return cell.decode("utf-8", "surrogateescape")
    if isinstance(cell, list | tuple | Mapping | set):
        return None
    return str(cell)


def json_text(value: object) -> str:
    """Return any value as JSON, as far as that can be: what has no form in JSON as its own text."""
    try:
        return json.dumps(value, ensure_ascii=False, default=str)
    except RecursionError:
        # The parser gets a few levels deeper than the writer does.
        return "nested too deeply to be shown"


def is_plain(cell: object) -> bool:
    """Tell whether a cell is a text that does not write down a list."""
    return isinstance(cell, str) and not cell.startswith(("['", '["'))


def read_cell(cell: object) -> Read:
    """Return the texts of a cell: those of a list, also of one written as text, and the one of ``{"text": ...}``.

    Args:
        cell: any cell.

    Returns:
        one text (which may be empty), several, or a problem.
    """
    if isinstance(cell, str) and not is_plain(cell) and isinstance(value := parsed(cell), list):
        cell = value
    text = cell_text(cell)
    if text is not None:
        return Read((text,))
    try:
        return _read_nested(cell)
    except RecursionError:
        return Read(problem="lists in lists")


def parsed(text: str) -> object:
    """Return the list or object that a text writes down, as JSON or as Python prints it; else the text itself."""
    text = text.strip()
    if text[:1] + text[-1:] not in ("[]", "{}") or len(text) > LONGEST_LITERAL:
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    # numpy prints no commas, and Python reads 'a' 'b' as one text.
    if _NO_COMMA.search(text):
        return text
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return text


def shape(cell: object) -> str:
    """Return what kind of thing a cell is, without its texts, for messages."""
    if isinstance(cell, Mapping):
        keys = ", ".join(f"'{str(key)[:20]}'" for key in list(cell)[:5])
        return f"an object with the keys {keys}" if keys else "an empty object"
    if isinstance(cell, list | tuple | set):
        kinds = {
            "text" if isinstance(item, str) else "object" if isinstance(item, Mapping) else "other" for item in cell
        }
        what = f"{kinds.pop()}s" if len(kinds) == 1 else "different things"
        return f"a list of {len(cell)} {what.replace('others', 'numbers or lists')}"
    return type(cell).__name__


def optional_text(cell: object) -> str | None:
    """Return what an optional column says: a text, a list of texts with commas between; None for anything else."""
    text = cell_text(cell)
    if text is not None:
        return text
    if isinstance(cell, Mapping):
        return None
    items = [optional_text(item) for item in cell] if isinstance(cell, list | tuple | set) else [None]
    return None if None in items else ", ".join(item.strip() for item in items if item and item.strip())


def turns_in(cell: object) -> int:
    """Return how many earlier turns a history holds: 0 for nothing, and for lists, also written down, of nothing."""
    if isinstance(cell, str):
        value = parsed(cell)
        if isinstance(value, str):
            return 0 if value.strip().casefold() in ("", "none", "null", "nan") else 1
        cell = value
    if isinstance(cell, Mapping):
        return int(any(turns_in(item) for item in cell.values()))
    if isinstance(cell, Sequence) and not isinstance(cell, bytes):
        return sum(bool(turns_in(item)) for item in cell)
    return 1 if (cell_text(cell) or "").strip() else 0


def _read_nested(cell: object) -> Read:
    if isinstance(cell, Mapping):
        key = next((key for key in _TEXT_KEYS if key in cell), None)
        if key is None:
            return Read(problem=shape(cell))
        inner = read_cell(cell[key])
        # SQuAD: the spans that several annotators marked answer one question.
        return Read(inner.texts, inner.problem, wordings=inner.wordings or "answer_start" in cell)
    items = list(cell) if isinstance(cell, list | tuple | set) else []
    found = [read_cell(item) for item in items]
    if any(each.problem for each in found):
        return Read(problem=shape(cell))
    texts = tuple(dict.fromkeys(text for each in found for text in each.texts if text.strip()))
    return Read(texts or ("",), wordings=bool(found) and all(each.wordings for each in found))
