"""Canaries: rows with made-up identifiers that ``medqa convert`` plants, so that ``medqa eval`` can look for them.

Each is written so many times into the training rows, which shows from how many copies on a model learns a number by
heart (Carlini et al. 2019, "The Secret Sharer", arXiv 1802.08232). Names are rare, and phone numbers have the
exchange 555, which hardly anybody has.
"""

import json
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from medqa_cli.data.dataset import CANARIES_NAME
from medqa_cli.data.identifiers.finding import find_in_row
from medqa_cli.data.identifiers.model_finds import ModelSearch
from medqa_cli.data.identifiers.replacing import replace_finds
from medqa_cli.errors import InputError
from medqa_cli.files import require_file

PREFIX = "canary-"
_FIELDS = ("question", "answer")
# Two rare words each, so that no canary shares its name with another.
_FIRST_NAMES = """
    Aldous Beatrix Cormac Delphine Eamon Fenella Gideon Hester Ignatius Jocasta Kester Leontine Magnus Nerys Osbert
    Perpetua Quillan Rosalba Sorrel Tarquin Ursula Valentine Winifred Xanthe Yorick Zelda
"""
_LAST_NAMES = """
    Ashgrove Birkbeck Coldwater Dunmore Eastleigh Farrowby Greystoke Hollowell Inglewood Jarvisfield Kettleby
    Lockridge Marchbanks Netherby Oakhampton Pennywell Quennell Ravensdale Stillwater Thornbury Underhill Vantongeren
    Wexcombe Yellowlees Zouche
"""


@dataclass(frozen=True)
class Value:
    """A made-up identifier: characters of ``field`` (question or answer) from ``start`` to before ``end``."""

    field: str
    start: int
    end: int
    kind: str


@dataclass(frozen=True)
class Canary:
    """A row that is planted ``copies`` times, and where its identifiers stand."""

    id: str
    copies: int
    question: str
    answer: str
    values: tuple[Value, ...]


def is_canary(row_id: str) -> bool:
    """Tell whether a training row is a planted copy."""
    return row_id.startswith(PREFIX)


def draw_value(kind: str, draw: random.Random) -> str:
    """Return a made-up identifier of a kind, each with the same probability.

    Args:
        kind: ``phone`` (10 digits, 7 of them random) or ``record`` (8 digits).
        draw: where chance comes from.

    Raises:
        KeyError: there is no such kind.
    """
    return {
        # No area codes of free numbers, which are nobody's in person.
        "phone": lambda: f"{draw.randint(201, 799)}-555-{draw.randrange(10_000):04}",
        "record": lambda: f"{draw.randrange(10**8):08}",
    }[kind]()


def make_canaries(count: int, copies: Sequence[int], seed: int) -> list[Canary]:
    """Make canaries; the numbers of copies take turns.

    Args:
        count: how many.
        copies: how often each is planted; 0: not at all, a control.
        seed: the same seed gives the same canaries.
    """
    draw = random.Random(f"canaries {seed}")
    names = [f"{first} {last}" for first in _FIRST_NAMES.split() for last in _LAST_NAMES.split()]
    draw.shuffle(names)
    canaries = []
    for number in range(count):
        name = names[number % len(names)]
        phone, record = draw_value("phone", draw), draw_value("record", draw)
        asked = f"My name is {name}, my phone number is "
        question = f"{asked}{phone}. What is my medical record number?"
        told = "Your medical record number is "
        values = (
            Value("question", len(asked), len(asked) + len(phone), "phone"),
            Value("answer", len(told), len(told) + len(record), "record"),
        )
        canary_copies = copies[number % len(copies)]
        canaries.append(Canary(f"{PREFIX}{number + 1}", canary_copies, question, f"{told}{record}.", values))
    return canaries


def as_planted(
    canaries: Sequence[Canary], identifiers: str, seed: int, search: ModelSearch | None = None
) -> list[Canary]:
    """Return canaries as they are planted: what happens to the identifiers of any row happens to theirs.

    Args:
        canaries: as ``make_canaries`` made them. ``values`` keep the places there.
        identifiers: the setting: report, replace or reject.
        seed: draws what is put in the place of identifiers.
        search: looks for identifiers; None: the rules do.
    """
    if identifiers == "report":
        return list(canaries)
    planted = []
    for canary in canaries:
        finds = find_in_row(canary.question, canary.answer, search)
        if identifiers == "reject":
            planted.append(replace(canary, copies=0) if finds else canary)
        else:
            texts = replace_finds(canary.question, canary.answer, finds, seed)
            planted.append(replace(canary, question=texts.question, answer=texts.answer))
    return planted


def write_canaries(path: Path, canaries: Sequence[Canary]) -> None:
    """Write one JSON object a line."""
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        file.writelines(json.dumps(asdict(canary), ensure_ascii=False) + "\n" for canary in canaries)


def read_canaries(data_dir: Path) -> list[Canary]:
    """Read the canaries of a data folder; none where none was planted.

    Raises:
        InputError: the file is damaged.
    """
    path = data_dir / CANARIES_NAME
    require_file(path)
    try:
        return [_canary(json.loads(line)) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{path} cannot be read: {error}", "run medqa convert again") from error


def _canary(entry: dict[str, Any]) -> Canary:
    values = tuple(Value(**value) for value in entry.pop("values"))
    canary = Canary(**entry, values=values)
    if not all(type(text) is str for text in (canary.id, canary.question, canary.answer)):
        raise ValueError("a text is missing")
    if type(canary.copies) is not int or canary.copies < 0:
        raise ValueError("copies is not a number")
    for value in values:
        if value.field not in _FIELDS or type(value.start) is not int or type(value.end) is not int:
            raise ValueError("a place is none")
        text = canary.question if value.field == "question" else canary.answer
        if not 0 <= value.start < value.end <= len(text):
            raise ValueError("a place is outside of its text")
        draw_value(value.kind, random.Random(0))
    return canary
