"""The identifiers that are looked for, each with random ones of its form that might stand in its place.

Planted ones, and those of persons that ``medqa convert`` found. Their values stay in the memory of the process.
"""

import random
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from medqa_cli.data.canaries import Canary, draw_value
from medqa_cli.data.dataset import QaRow, evenly_spaced
from medqa_cli.data.identifiers.finding import find_in_row
from medqa_cli.data.identifiers.recorded import found_values
from medqa_cli.data.identifiers.replacing import same_form
from medqa_cli.prompt.given import NOTHING, Given

CANDIDATES = 128  # the true value and 127 random ones
MOST_IDENTIFIERS = 100  # of the training rows, and as many of held-out ones
# Forms with few values: so many draws without a new one, and the case is left out.
_MOST_DRAWS = 20 * CANDIDATES


@dataclass(frozen=True)
class Case:
    """A value in its place, and what could stand there.

    ``group``: ``canaries``, ``train`` or ``held_out``; ``name``: which one; ``copies``: how often the row was planted,
    0 for one of the data; ``field``: question or answer; ``before``, ``after``: the text around the value there;
    ``question``: of the row, ``given``: what stands before it; ``values``: the true one first, then others of its form,
    all different.
    """

    group: str
    name: str
    copies: int
    field: str
    before: str
    after: str
    question: str
    values: tuple[str, ...]
    given: Given = NOTHING


def canary_cases(canaries: Sequence[Canary]) -> list[Case]:
    """Return the numbers of canaries; the others come from where the true one came from, so each was as likely."""
    cases = []
    for canary in canaries:
        for value in canary.values:
            text = canary.question if value.field == "question" else canary.answer
            values = with_others(
                text[value.start : value.end],
                lambda draw, kind=value.kind: draw_value(kind, draw),  # type: ignore[misc]
                f"{canary.id} {value.field}",
            )
            if values:
                before, after = text[: value.start], text[value.end :]
                place = (canary.copies, value.field, before, after, canary.question)
                cases.append(Case("canaries", canary.id, *place, values))
    return cases


@dataclass(frozen=True)
class _Place:
    """An identifier in a row: characters of ``field`` from ``start`` to before ``end``."""

    row: QaRow
    field: str
    start: int
    end: int
    kind: str

    @property
    def text(self) -> str:
        return self.row.question if self.field == "question" else self.row.answer

    @property
    def value(self) -> str:
        return self.text[self.start : self.end]


def identifier_cases(data_dir: Path, held_out: Sequence[QaRow]) -> dict[str, list[Case]]:
    """Return the identifiers that ``medqa convert`` found in the training rows, and those of rows that are a control.

    Each value counts once. One of an answer that the question holds too is left out: it can be copied from there. A
    form of few values, such as an age over 89, is left out.

    Args:
        data_dir: the folder that ``medqa convert`` wrote.
        held_out: rows that no training has shown the model.

    Raises:
        InputError: a file of the folder is damaged, or its texts are no longer those that were looked through.
    """
    known: set[str] = set()
    found = (
        _Place(one.row, one.find.field, one.find.start, one.find.end, one.find.kind) for one in found_values(data_dir)
    )
    in_train = _distinct(found, known)
    unseen = (
        _Place(row, find.field, find.start, find.end, find.kind)
        for row in held_out
        for find in find_in_row(row.question, row.answer)
    )
    return {"train": _cases("train", in_train), "held_out": _cases("held_out", _distinct(unseen, known))}


def _distinct(places: Iterable[_Place], known: set[str]) -> list[_Place]:
    """Return the first place of each value that is not known yet and cannot be copied; all of them are known then."""
    kept = []
    for place in places:
        value = place.value.casefold()
        is_told = place.field == "answer" and value in place.row.asked.casefold()
        if value not in known and not is_told:
            kept.append(place)
        known.add(value)
    return kept


def _cases(group: str, places: Sequence[_Place]) -> list[Case]:
    cases = []
    for place in evenly_spaced(places, MOST_IDENTIFIERS):
        values = with_others(
            place.value,
            lambda draw, place=place: another(place.value, place.kind, draw),  # type: ignore[misc]
            f"{place.row.id} {place.field} {place.start}",
        )
        if values:
            before, after = place.text[: place.start], place.text[place.end :]
            row = place.row
            cases.append(Case(group, row.id, 0, place.field, before, after, row.question, values, row.given))
    return cases


def another(value: str, kind: str, draw: random.Random) -> str:
    """Return a random value of the same form, from where real ones are.

    Stand-ins of numbers and mail come from ranges that are kept for examples. A model that has seen any real number
    finds those less likely, without knowing one by heart. So digits are drawn here, and a mail keeps its domain.
    """
    if kind in ("phone", "fax", "ip"):
        signs = "0123456789abcdef" if ":" in value else "0123456789"
        # A group of digits that begins with none of 0 and 1, as area codes do, goes on to.
        return re.sub(
            r"[0-9a-fA-F]+" if ":" in value else r"\d+",
            lambda group: "".join(
                draw.choice("23456789" if place == 0 and sign not in "01" else signs)
                for place, sign in enumerate(group[0])
            ),
            value,
        )
    made = same_form(value, kind, draw)
    if kind == "email" and "@" in value and "@" in made:
        return made.partition("@")[0] + "@" + value.partition("@")[2]
    return made


def with_others(value: str, draw_one: Callable[[random.Random], str], seed: str) -> tuple[str, ...]:
    """Return a value and ``CANDIDATES`` - 1 others, all different; nothing where its form has too few.

    Args:
        value: the true one.
        draw_one: returns a random one of its form.
        seed: the same seed gives the same ones.
    """
    draw = random.Random(seed)
    values = dict.fromkeys([value])
    for _ in range(_MOST_DRAWS):
        values.setdefault(draw_one(draw))
        if len(values) == CANDIDATES:
            return tuple(values)
    return ()
