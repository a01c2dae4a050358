"""What is given with a question: earlier turns, a context such as a case or notes, and a block of numbered sources.

The block is part of the question's turn, so that every template has a place for it, and a source is as harmless as a
question: markers of turns in it are broken, and a mark such as ``[2]`` becomes ``(2)``. ``[1]`` cites it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

INTRODUCTION = "Answer from these sources and cite them, such as [1]:"
_MARK = re.compile(r"\[(\d{1,3})\]")
_MARKS = re.compile(r"\[\d{1,3}\](?:[ \t]*\[\d{1,3}\])*")
_MARKS_AT_END = re.compile(r"(?:[ \t]*\[\d{1,3}\])+$")
_OPEN_MARK_AT_END = re.compile(r"[ \t]*\[\d{0,3}$")
# Both are tried at the start of a run of white space only: at each place in it they would take time with its square.
_WHITE_SPACE = re.compile(r"\s+")
_SPACE_BEFORE_MARK = re.compile(r"(?<![ \t])[ \t]*\[\d{1,3}\]")


def shown_text(text: str) -> str:
    """Return a text as it stands in the block: without marks and blank lines, of which the block has its own."""
    unmarked = _MARK.sub(r"(\1)", text)
    return _WHITE_SPACE.sub(lambda space: "\n" if space[0].count("\n") > 1 else space[0], unmarked).strip()


def with_sources(question: str, sources: Sequence[tuple[str, str]]) -> str:
    """Return a question behind the block of its sources; without any, the question as it is.

    Args:
        question: plain text.
        sources: title and text of each, as ``shown_text`` returns them and as short as they are to be.
    """
    if not sources:
        return question
    block = "\n".join(f"[{number}] {title}\n{text}" for number, (title, text) in enumerate(sources, start=1))
    return f"{INTRODUCTION}\n{block}\n\n{question}"


def cited(answer: str) -> list[int]:
    """Return the numbers of the sources that an answer cites, in their order, repeated ones too."""
    return [int(mark) for mark in _MARK.findall(answer)]


def stretches(answer: str) -> Iterator[tuple[str, list[int]]]:
    """Yield what stands before each run of marks, from the run before it on, with the numbers that it cites."""
    start = 0
    for run in _MARKS.finditer(answer):
        yield answer[start : run.start()], cited(run[0])
        start = run.end()


def start_of_wrong_mark(text: str, num_sources: int) -> int | None:
    """Return where the mark at the end of a text begins if it names no source, or one that the marks just before it
    name too; None: there is no such mark.

    Args:
        text: an answer so far.
        num_sources: 1 to ``num_sources`` can be cited.
    """
    run = _MARKS_AT_END.search(text)
    if run is None:
        return None
    *earlier, last = _MARK.finditer(run[0])
    is_right = 0 < int(last[1]) <= num_sources and last[1] not in {mark[1] for mark in earlier}
    return None if is_right else run.start() + (earlier[-1].end() if earlier else 0)


def start_of_open_mark(text: str) -> int:
    """Return where a mark begins that may still be unfinished at the end of a text; its length: there is none."""
    mark = _OPEN_MARK_AT_END.search(text)
    return mark.start() if mark else len(text)


def without_marks(answer: str) -> str:
    """Return an answer without the marks of its sources."""
    return _SPACE_BEFORE_MARK.sub("", answer)


def with_mark(text: str, number: int) -> str:
    """Return a text that cites a source at its end."""
    return f"{text} [{number}]"


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
