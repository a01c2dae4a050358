"""What a document is once it is read: a title, and texts under headings that know where in the file they stand.

The readers of each format yield parts (headings, paragraphs, lines); here they become sections.
"""

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from medqa_cli.prompt.sentence_ends import LIST_ITEM

LONGEST_HEADING = 120  # characters; what is longer is a paragraph in the clothes of a heading
LONGEST_TITLE_LINE = 80  # characters of a first line that is taken for the title

_NO_TITLE = (".", ",", ";", ":", "!")
_FULL = 0.75  # share of the usual width from which a line may have been broken for want of room
_NARROWEST = 35  # characters of such a line: half a page in two columns
_USUAL = 0.8  # quantile of the widths of the lines
_SOFT_HYPHEN = "\xad"
_HYPHENS = ("-", "\u2010", _SOFT_HYPHEN)
_COMPOUND = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)+")
_LAST_WORD = re.compile(r"[^\W\d_]+(?=[-\u2010]\Z)")
_FIRST_WORD = re.compile(r"[^\W\d_]+")


class Part(NamedTuple):
    """A heading or a piece of text.

    ``gap``: what stands between it and the text before it. ``level``: 1 to 6 of a heading, 0 of text.
    """

    text: str
    place: str
    gap: str = "\n\n"
    level: int = 0


class Line(NamedTuple):
    """A line of a text without its end; an empty one parts paragraphs."""

    text: str
    place: str


@dataclass(frozen=True)
class Section:
    """Text that no heading interrupts.

    ``headings``: those above it, the outermost first, without the document's title. ``places``: from which position of
    the text on which place of the file, such as ``page 3``, ascending.
    """

    headings: tuple[str, ...]
    text: str
    places: tuple[tuple[int, str], ...]

    def place_at(self, position: int) -> str:
        """Return the place of the character at a position."""
        return self.places[bisect_right(self.places, position, key=lambda start: start[0]) - 1][1]


@dataclass(frozen=True)
class Document:
    """A document as text; ``warnings``: what its user has to know of it."""

    title: str
    sections: tuple[Section, ...]
    warnings: tuple[str, ...] = ()


def document_of(parts: Sequence[Part], stated: str, name: str, warnings: Sequence[str] = ()) -> Document:
    """Make a document of its parts.

    The title is the first heading of level 1, else the one stated, else a heading or a short line at the top, else the
    name. A heading without text below it becomes text itself, so that nothing is lost.

    Args:
        parts: in their order.
        stated: the title that the file states of itself; may be empty.
        name: the file's name without its suffix.
        warnings: for the user.
    """
    parts = [part._replace(level=0) if len(part.text) > LONGEST_HEADING else part for part in parts if part.text]
    top = next((at for at, part in enumerate(parts) if part.level == 1), None)
    if top is None and not stated and parts:
        line = parts[0].text
        stands_alone = len(parts) > 1 and (parts[1].level > 0 or parts[1].gap.startswith("\n"))
        is_text = line.endswith(_NO_TITLE) or line.startswith("|") or LIST_ITEM.match(line)
        if parts[0].level or (stands_alone and len(line) <= LONGEST_TITLE_LINE and not is_text):
            top = 0
    title = parts[top].text if top is not None else stated or name
    if top is None and parts and parts[0].text.casefold() == title.casefold():
        top = 0
    kept = [part for at, part in enumerate(parts) if at != top]
    return Document(title, tuple(_sections(kept)), tuple(warnings))


def _sections(parts: Iterable[Part]) -> Iterator[Section]:
    open_headings: list[Part] = []
    texts: list[Part] = []
    for part in parts:
        if not part.level:
            texts.append(part)
            continue
        yield from _section(open_headings, texts, deeper=not texts and _is_below(part, open_headings))
        texts = []
        while open_headings and not _is_below(part, open_headings):
            open_headings.pop()
        open_headings.append(part)
    yield from _section(open_headings, texts, deeper=False)


def _is_below(part: Part, headings: Sequence[Part]) -> bool:
    return bool(headings) and headings[-1].level < part.level


def _section(headings: Sequence[Part], parts: Sequence[Part], deeper: bool) -> Iterator[Section]:
    """Yield the section of the text below some headings; without any, that of the last heading, if none is below it."""
    if not parts:
        if headings and not deeper:
            *above, last = headings
            yield Section(tuple(part.text for part in above), last.text, ((0, last.place),))
        return
    pieces: list[str] = []
    places, length = [], 0
    for part in parts:
        gap = part.gap if pieces else ""
        pieces += [gap, part.text]
        length += len(gap)
        places.append((length, part.place))
        length += len(part.text)
    yield Section(tuple(part.text for part in headings), "".join(pieces), tuple(places))


def usual_width(lines: Iterable[Line]) -> int:
    """Return the width at which the lines of a text seem to be broken."""
    widths = sorted(len(line.text) for line in lines if line.text)
    return widths[int(_USUAL * (len(widths) - 1))] if widths else 0


def compounds(lines: Iterable[Line]) -> frozenset[str]:
    """Return the words with hyphens inside a line, in lower case."""
    return frozenset(word.lower() for line in lines for word in _COMPOUND.findall(line.text))


def flowed(lines: Iterable[Line], width: int, hyphenated: frozenset[str] | None = None) -> Iterator[Part]:
    """Yield the lines as parts whose gaps join what was one sentence: where a line ends for want of room.

    Args:
        lines: without headings.
        width: as ``usual_width`` returns it for the whole text.
        hyphenated: as ``compounds`` returns it where words are divided at the ends of lines; None: they are not, and a
            hyphen there belongs to its word.
    """
    before: Part | None = None
    gap = "\n\n"
    for line in lines:
        if not line.text:
            gap = "\n\n"
            continue
        if before is not None and gap == "\n":
            text, gap = _joined(before.text, line.text, width, hyphenated)
            before = before._replace(text=text)
        if before is not None:
            yield before
        before, gap = Part(line.text, line.place, gap), "\n"
    if before is not None:
        yield before


def _joined(line: str, following: str, width: int, hyphenated: frozenset[str] | None) -> tuple[str, str]:
    """Return a line as it stands before the next one, and the gap between them."""
    if LIST_ITEM.match(following) or line.startswith("|") or following.startswith("|"):
        return line, "\n"
    if line.endswith(_HYPHENS) and following[0].isalpha() and line[-2:-1].isalpha():
        # A word that was divided here has no hyphen of its own, as Magen-Darm has.
        start, end = _LAST_WORD.search(line), _FIRST_WORD.match(following)
        is_divided = line.endswith(_SOFT_HYPHEN) or (
            hyphenated is not None
            and not following[0].isupper()
            and start is not None
            and end is not None
            and f"{start[0]}-{end[0]}".lower() not in hyphenated
        )
        return (line[:-1] if is_divided else line), ""
    is_full = len(line) >= max(_FULL * width, _NARROWEST)
    return line, " " if is_full or following[0].islower() or line.endswith(",") else "\n"
