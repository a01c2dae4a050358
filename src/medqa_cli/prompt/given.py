"""What is given with a question: the earlier turns of its conversation, and a context, such as a case or notes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple


class Turn(NamedTuple):
    """A question of a conversation and its answer."""

    question: str
    answer: str


@dataclass(frozen=True)
class Given:
    """What stands before a question: ``earlier`` turns, the first one first, and a ``context``; both may be empty."""

    earlier: tuple[Turn, ...] = ()
    context: str = ""

    def __bool__(self) -> bool:
        return bool(self.earlier or self.context)

    def without_first(self, count: int) -> Given:
        """Return it without so many of the earliest turns; the context stays."""
        return replace(self, earlier=self.earlier[count:])

    def before(self, question: str) -> str:
        """Return a question behind all that is given, as one text: rows that are compared ask the same in full."""
        turns = [text for turn in self.earlier for text in turn]
        return "\n".join([*([self.context] if self.context else []), *turns, question])

    def opening(self, question: str) -> str:
        """Return the question with which the conversation of a question begins, behind its context."""
        first = self.earlier[0].question if self.earlier else question
        return f"{self.context}\n{first}" if self.context else first


NOTHING = Given()
