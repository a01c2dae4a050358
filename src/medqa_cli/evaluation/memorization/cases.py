"""The identifiers that are looked for, each with random ones of its form that might stand in its place.

Planted ones, and those of persons that ``medqa convert`` found. Their values stay in the memory of the process.
"""

import random
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from medqa_cli.data.canaries import Canary, Value, draw_value
from medqa_cli.data.dataset import QaRow, evenly_spaced
from medqa_cli.data.identifiers import finding, recorded, replacing
from medqa_cli.data.identifiers.finds import Find
from medqa_cli.prompt.given import NOTHING, Given

CANDIDATES = 128  # the true value and 127 random ones
MOST_IDENTIFIERS = 100  # of the training rows, and as many of held-out ones
# Forms with few values: so many draws without a new one, and the case is left out.
_MOST_DRAWS = 20 * CANDIDATES

_Place = tuple[QaRow, Find | recorded.RecordedFind]


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
            before, true_one, after = _parts(canary, value)
            if values := with_others(true_one, partial(draw_value, value.kind), f"{canary.id} {value.field}"):
                place = (canary.copies, value.field, before, after, canary.question)
                cases.append(Case("canaries", canary.id, *place, values))
    return cases


def _parts(row: QaRow | Canary, find: Find | recorded.RecordedFind | Value) -> tuple[str, str, str]:
    """Return the text before an identifier in a row, its value, and the text behind it."""
    text = row.question if find.field == "question" else row.answer
    return text[: find.start], text[find.start : find.end], text[find.end :]


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
    in_train = _distinct(((one.row, one.find) for one in recorded.found_values(data_dir)), known)
    unseen = ((row, find) for row in held_out for find in finding.find_in_row(row.question, row.answer))
    return {"train": _cases("train", in_train), "held_out": _cases("held_out", _distinct(unseen, known))}


def _distinct(places: Iterable[_Place], known: set[str]) -> list[_Place]:
    """Return the first place of each value that is not known yet and cannot be copied; all of them are known then."""
    kept = []
    for row, find in places:
        value = _parts(row, find)[1].casefold()
        is_told = find.field == "answer" and value in row.asked.casefold()
        if value not in known and not is_told:
            kept.append((row, find))
        known.add(value)
    return kept


def _cases(group: str, places: Sequence[_Place]) -> list[Case]:
    cases = []
    for row, find in evenly_spaced(places, MOST_IDENTIFIERS):
        before, value, after = _parts(row, find)
        if values := with_others(value, partial(another, value, find.kind), f"{row.id} {find.field} {find.start}"):
            cases.append(Case(group, row.id, 0, find.field, before, after, row.question, values, row.given))
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
    made = replacing.same_form(value, kind, draw)
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
