"""Conversations in the first pass of ``medqa convert``: all turns are cleaned and looked through once, as one.

So a name has the same stand-in in every turn, and an earlier turn reads in the prompt as it was learned.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from medqa_cli.data.cleaning.mojibake import mojibake
from medqa_cli.data.cleaning.reasons import unusable
from medqa_cli.data.cleaning.rules import Cleaned, clean, tidy_paragraphs
from medqa_cli.data.identifiers.finding import find_in_texts
from medqa_cli.data.identifiers.finds import Find
from medqa_cli.data.identifiers.replacing import Replaced, replace_in_texts
from medqa_cli.data.reading.shapes import Talk
from medqa_cli.prompt.given import Given, Turn

if TYPE_CHECKING:
    from medqa_cli.data.identifiers.model_finds import ModelSearch

GIVEN = "given"
"""The ``field`` of a find in what stands before a question."""
_CONTEXT = "context"


@dataclass(frozen=True)
class CleanTalk:
    """A conversation with cleaned texts, with stand-ins where identifiers are replaced.

    ``finds``: of all texts, by their names: ``context``, ``question 0``, ``answer 0``, ``question 1``, ...;
    ``values``: what was put for what.
    """

    context: str
    turns: tuple[Cleaned, ...]
    finds: tuple[Find, ...]
    values: Mapping[str, str] = field(default_factory=dict)

    def texts(self) -> dict[str, str]:
        """Return all texts by their names."""
        return _texts(self.context, self.turns)

    def given(self, number: int) -> Given:
        """Return what stands before the question of a turn."""
        return Given(tuple(Turn(turn.question, turn.answer) for turn in self.turns[:number]), self.context)

    def finds_of(self, number: int) -> list[Find]:
        """Return what identifies a person in a turn, and, as of the field ``given``, in what stands before it."""
        own = {f"question {number}": "question", f"answer {number}": "answer"}
        before = {_CONTEXT, *(f"{what} {earlier}" for earlier in range(number) for what in ("question", "answer"))}
        return [
            find._replace(field=own.get(find.field, GIVEN))
            for find in self.finds
            if find.field in own or find.field in before
        ]

    def applied(self, text: str) -> str:
        """Return another text of the row, such as its topic, with the same stand-ins."""
        return Replaced("", "", dict(self.values)).applied(text)


def usable_part(talk: Talk) -> Talk:
    """Return a conversation up to the first turn that cannot be used; no row after it can either."""
    turns = itertools.takewhile(lambda turn: unusable(turn.question, turn.answer) is None, talk.turns)
    return replace(talk, turns=tuple(turns))


def clean_talk(
    talk: Talk, rules: Sequence[str], identifiers: str, seed: int, search: ModelSearch | None = None
) -> CleanTalk:
    """Clean a conversation and look for identifiers in it.

    Of the cleaning rules ``mojibake`` and the white space of ``whitespace`` are for a context.

    Args:
        talk: as it stands in the source.
        rules: names of the rules that are on.
        identifiers: as of ``data.identifiers``.
        seed: draws the stand-ins.
        search: looks for identifiers; None: the rules do.
    """
    context = mojibake(talk.context) if "mojibake" in rules else talk.context
    context = tidy_paragraphs(context) if "whitespace" in rules else context.strip()
    turns = [clean(turn.question, turn.answer, rules) for turn in talk.turns]
    texts = _texts(context, turns)
    finds = find_in_texts(texts) if search is None else search.find(texts)
    if not finds or identifiers != "replace":
        return CleanTalk(context, tuple(turns), finds)
    texts, values = replace_in_texts(texts, finds, seed)
    replaced = (
        turn._replace(question=texts[f"question {number}"], answer=texts[f"answer {number}"])
        for number, turn in enumerate(turns)
    )
    return CleanTalk(texts.get(_CONTEXT, ""), tuple(replaced), finds, values)


def _texts(context: str, turns: Sequence[Cleaned]) -> dict[str, str]:
    texts = {_CONTEXT: context} if context else {}
    for number, turn in enumerate(turns):
        texts |= {f"question {number}": turn.question, f"answer {number}": turn.answer}
    return texts
