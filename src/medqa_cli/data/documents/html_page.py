"""Reads web pages: their headings, paragraphs, lists and tables, without what leads around the site.

The parser takes hours over some hostile pages of a few megabytes, so it runs in a process of its own.
"""

from collections import Counter
from html.parser import HTMLParser
from typing import NamedTuple

from medqa_cli import confined
from medqa_cli.data.documents.sections import Part
from medqa_cli.data.reading.shapes import Caps
from medqa_cli.resources import load_words

_NAVIGATION = ("navigation", "search", "banner", "contentinfo")
_MAIN = ("main", "article")
_HEADINGS = ("h1", "h2", "h3", "h4", "h5", "h6")
_CELLS = ("td", "th")
_ENDS_LEFT_OUT = ("li", "tr", "td", "th", "dd", "dt", "p")
_RAISED = str.maketrans("0123456789+-−", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁻")
_MOST_RAISED = 6  # signs: a power, a charge, the number of a note


class Tags(NamedTuple):
    """The tags that begin a line, that begin a paragraph, whose text is not read, and that have no end."""

    lines: frozenset[str]
    paragraphs: frozenset[str]
    hidden: frozenset[str]
    void: frozenset[str]


def read_page(page: str, shown: str, caps: Caps) -> tuple[str, list[Part], list[str]]:
    """Take a web page apart.

    Where it marks its main part, only that is read.

    Args:
        page: decoded.
        shown: what messages call it.
        caps: memory and time that it may take.

    Returns:
        the page's title, which may be empty, the parts, and warnings.

    Raises:
        InputError: it takes too much memory or time.
    """
    title, parts, endless = confined.call(
        parts_of_page,
        page.replace("\r\n", "\n").replace("\r", "\n"),
        Tags(*(load_words("markup", kind) for kind in Tags._fields)),
        what=shown,
        hint="open it in a browser and save its text as .txt",
        limits=caps.limits,
    )
    tags = ", ".join(f"<{tag}>" for tag in endless)
    return title, parts, [f"{shown}: what follows {tags} is not read, as its end is missing"] if endless else []


def parts_of_page(page: str, tags: Tags) -> tuple[str, list[Part], list[str]]:
    """Return the title, the parts, and the tags that hide what follows them; runs in a process of its own."""
    reader = _Reader(tags)
    # Sections of SGML, which the parser stumbles over; browsers take them for comments as well.
    reader.feed(page.replace("<![", "<! ["))
    reader.close()
    reader.end_part()
    main = [part for part, is_main in reader.parts if is_main]
    return " ".join(reader.title.split()), main or [part for part, _ in reader.parts], reader.endless()


class _Reader(HTMLParser):
    """Collects the parts; each with whether it belongs to the main part of the page."""

    def __init__(self, tags: Tags) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[tuple[Part, bool]] = []
        self.title = ""
        self._tags = tags
        # Tags that are open, each with whether its text is shown; and how many there are of each.
        self._open: list[tuple[str, bool]] = []
        self._counts: Counter[str] = Counter()
        self._num_hidden = 0
        self._lists: list[int | None] = []  # of each open list the number of its last item; None: not numbered
        self._pieces: list[str] = []
        self._endless: list[str] = []
        self._place, self._is_main, self._gap, self._level = "", False, "\n\n", 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in self._tags.void:
            self._begin_part(tag)
            return
        if tag in _ENDS_LEFT_OUT and self._open and self._open[-1][0] == tag:
            self.handle_endtag(tag)
        is_hidden = tag in self._tags.hidden or dict(attrs).get("role") in _NAVIGATION
        if tag == "aside" and self._in_main():
            is_hidden = False  # a warning in a box, not the column beside the text
        self._begin_part(tag)
        if tag in ("ul", "ol"):
            self._lists.append(0 if tag == "ol" else None)
        elif tag == "li" and not self._num_hidden:
            number = self._lists[-1] if self._lists else None
            if number is not None:
                self._lists[-1] = number = number + 1
            self._pieces = ["- " if number is None else f"{number}. "]
        elif tag in _CELLS and self._place:
            self._pieces.append(" | ")
        elif tag in _HEADINGS:
            self._level = int(tag[1])
        elif tag == "sup":
            self._pieces.append("\0")  # the mark at which its end looks; the text has none
        self._open.append((tag, is_hidden))
        self._counts[tag] += 1
        self._num_hidden += is_hidden

    def handle_endtag(self, tag: str) -> None:
        if not self._counts[tag]:
            return
        marks = [at for at, piece in enumerate(self._pieces) if piece == "\0"] if tag == "sup" else []
        if marks:
            # The digits of a power are written as raised ones: 10⁹ is not 109.
            raised = "".join(self._pieces[marks[-1] + 1 :]).strip()
            is_number = 0 < len(raised) <= _MOST_RAISED and not raised.translate(_RAISED).strip("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻")
            self._pieces[marks[-1] :] = [raised.translate(_RAISED) if is_number else raised]
        while self._open:
            name, is_hidden = self._open.pop()
            self._counts[name] -= 1
            self._num_hidden -= is_hidden
            if name in ("ul", "ol"):
                self._lists.pop()
            if name == tag:
                break
            if is_hidden and tag in ("body", "html"):
                self._endless.append(name)
        self._begin_part(tag)
        if tag == "li":
            self._pieces = []

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1][0] == "title" and not self._counts["svg"]:
            self.title = self.title or data
        if self._num_hidden or (self._counts["header"] and not self._level):
            return
        if not self._place and data.strip():
            # The line of the first word: the parser stands at the start of the text.
            line = self.getpos()[0] + data[: len(data) - len(data.lstrip())].count("\n")
            self._place = f"line {line}"
            self._is_main = self._in_main()
        self._pieces.append(data.replace("\0", " "))

    def _in_main(self) -> bool:
        return any(self._counts[tag] for tag in _MAIN)

    def endless(self) -> list[str]:
        """Return the hidden tags that are still open, or were at the end of the page."""
        return sorted({*self._endless, *(name for name, is_hidden in self._open if is_hidden)})

    def end_part(self) -> None:
        """Take what was read since the last tag that begins a line as a part."""
        if not self._place:
            return  # perhaps the sign of a list, before the paragraph in it
        text = " ".join("".join(self._pieces).replace("\0", "").split())
        self.parts.append((Part(text, self._place, self._gap, self._level), self._is_main))
        self._pieces, self._place, self._gap = [], "", "\n"

    def _begin_part(self, tag: str) -> None:
        """End the part before a tag that begins a line or a paragraph."""
        if tag in ("p", "div", "br") and (self._level or any(self._counts[cell] for cell in _CELLS)):
            self._pieces.append(" ")
        elif tag in self._tags.lines or tag in self._tags.paragraphs:
            self.end_part()
            self._level = 0
            if tag in self._tags.paragraphs and not self._counts["li"]:
                self._gap = "\n\n"
