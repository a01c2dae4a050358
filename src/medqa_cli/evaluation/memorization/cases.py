"""The identifiers that are looked for, each with random ones of its form that might stand in its place."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from medqa_cli.data.canaries import Canary, draw_value

CANDIDATES = 128  # the true value and 127 random ones
# Forms with few values: so many draws without a new one, and the case is left out.
_MOST_DRAWS = 20 * CANDIDATES


@dataclass(frozen=True)
class Case:
    """A value in its place, and what could stand there.

    ``group``: ``canaries``, ``train`` or ``held_out``; ``name``: which one; ``copies``: how often the row was planted,
    0 for one of the data; ``field``: question or answer; ``before``, ``after``: the text around the value there;
    ``question``: of the row; ``values``: the true one first, then others of its form, all different.
    """

    group: str
    name: str
    copies: int
    field: str
    before: str
    after: str
    question: str
    values: tuple[str, ...]


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
