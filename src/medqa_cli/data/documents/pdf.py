"""Reads PDF files, by pypdf in a process of its own, and makes of their lines what they were before they were set."""

import importlib.util
import re
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from medqa_cli import confined
from medqa_cli.data.documents.sections import Line, Part, compounds, flowed, usual_width
from medqa_cli.data.reading.shapes import RAISED_BY, Caps
from medqa_cli.errors import InputError

# A page may take data.max_reader_seconds, a whole file so many times as long.
_MOST_WAITS = 10
_FEWEST_PAGES_WITH_A_RUNNING_HEAD = 3
_RUNNING_LINES = 2  # at the top and at the bottom of a page
_MOST_UNKNOWN_SIGNS = 0.1
_UNKNOWN_SIGN = re.compile("[\x00-\x08\x0e-\x1f\x7f\ue000-\uf8ff\ufffd\ud800-\udfff]")
_PAGE_NUMBER = re.compile(
    r"(?:page|seite|página|pagina|p\.)?\s*[-–]?\s*(\d{1,4})\s*[-–]?(?:\s*(?:/|of|von|de|di)\s*\d{1,4})?", re.I
)
_MOST_NUMBERS = 20  # of pages, in a message
_NUMBER = re.compile(r"\d+")
_NUMBER_AT_AN_END = re.compile(r"\A\d{1,4}(?=\s)|(?<=\s)\d{1,4}\Z|\A\d{1,4}\Z")
_JOINED_LETTERS = str.maketrans({"ﬀ": "ff", "ﬁ": "fi", "ﬂ": "fl", "ﬃ": "ffi", "ﬄ": "ffl", "ﬅ": "st", "ﬆ": "st"})
# What programs write where nobody gave a title.
_NO_TITLE = re.compile(r"untitled|microsoft |.*\.(?:docx?|pdf|indd|odt|tex|pptx?|qxd)\Z|[\W\d_]*\Z", re.IGNORECASE)


def check_installed() -> None:
    """Check that the package which reads PDF files is there.

    Raises:
        InputError: it is not.
    """
    if importlib.util.find_spec("pypdf") is None:
        raise InputError(
            "reading PDF files needs the package pypdf, which is not installed",
            "pip install pypdf (medqa installs it with its extra: pip install '.[pdf]')",
        )


def read_pdf(path: Path, shown: str, caps: Caps) -> tuple[str, list[Part], list[str]]:
    """Take a PDF file apart.

    Args:
        path: the file.
        shown: what messages call it.
        caps: memory and time that it may take.

    Returns:
        the title that it states, which may be empty, its parts, and warnings.

    Raises:
        InputError: it is damaged or encrypted, holds no text or takes too much.
    """
    pages: list[list[str]] = []
    hint = "open it and save it again ('Print to PDF'), or save its text as .txt"
    until = time.monotonic() + _MOST_WAITS * caps.reader_seconds
    results = confined.stream(title_and_pages, str(path), shown, what=shown, hint=hint, limits=caps.limits)
    title = next(results)
    size = 0
    for text in results:
        pages.append([" ".join(line.split()) for line in text.split("\n")])
        size += len(text)
        if size > caps.expanded_bytes:
            raise InputError(f"{shown} holds more than {caps.expanded_bytes >> 20:,} MiB of text", hint)
        if time.monotonic() > until:
            results.close()
            seconds = _MOST_WAITS * caps.reader_seconds
            raise InputError(f"{shown} cannot be read in {seconds:g} seconds", f"{hint}; {RAISED_BY}")
    unread = [number for number, lines in enumerate(pages, start=1) if not any(lines)]
    if len(unread) == len(pages):
        raise InputError(
            f"{shown} holds no text that can be read on its {len(pages):,} pages: they may be scanned pictures",
            "recognize its text first (OCR), or save its text as .txt",
        )
    numbers = ", ".join(map(str, unread[:_MOST_NUMBERS])) + (" ..." if len(unread) > _MOST_NUMBERS else "")
    warning = f"{shown}: {len(unread):,} of {len(pages):,} pages hold no text that can be read: {numbers}"
    return ("" if _NO_TITLE.match(title) else title), list(_parts(pages)), [warning] if unread else []


def title_and_pages(path: str, shown: str) -> Iterator[str]:
    """Yield the title in the file's metadata, then the text of each page; runs in a process of its own.

    The text of a page whose letters the file does not tell is empty.
    """
    from pypdf import PdfReader
    from pypdf.errors import DependencyError

    locked = InputError(f"{shown} is encrypted", "save it without a password, or save its text as .txt")
    reader = PdfReader(path)
    try:
        # Many are encrypted against changes only: without a password they can be read.
        if reader.is_encrypted and not reader.decrypt(""):
            raise locked
    except DependencyError as error:
        raise locked from error
    yield _sane((reader.metadata.title if reader.metadata else None) or "")
    for page in reader.pages:
        text = page.extract_text()
        unknown = len(_UNKNOWN_SIGN.findall(text))
        yield "" if unknown > _MOST_UNKNOWN_SIGNS * len(text) else _sane(text)


def _sane(text: str) -> str:
    """Return the text with spaces for unknown signs, and two letters for a sign that joins them."""
    return _UNKNOWN_SIGN.sub(" ", text.translate(_JOINED_LETTERS))


def _parts(pages: Sequence[Sequence[str]]) -> Iterator[Part]:
    filled = [[line for line in page if line] for page in pages]
    heads = _running_heads(filled)
    lines: list[Line] = []
    for number, page in enumerate(filled, start=1):
        start, end = 0, len(page)
        while start < end and heads.has(page[start], number):
            start += 1
        while start < end and heads.has(page[end - 1], number):
            end -= 1
        # A page of nothing else is no page with a running head.
        lines += [Line(line, f"page {number}") for line in page[start:end] or page]
    return flowed(lines, usual_width(lines), compounds(lines))


class _Heads(NamedTuple):
    """Running heads without their numbers: those of most pages, and those that hold the page's number.

    ``ahead``: by how much printed page numbers are larger than the page's place in the file.
    """

    of_most_pages: frozenset[str]
    numbered: frozenset[str]
    ahead: int

    def has(self, line: str, page: int) -> bool:
        """Tell whether a line is a running head or the number of its page."""
        alone = _PAGE_NUMBER.fullmatch(line)
        if alone is not None:
            return int(alone[1]) == page + self.ahead
        bare = _numberless(line)
        return bare in self.of_most_pages or (bare in self.numbered and page + self.ahead in _numbers(line))


def _running_heads(pages: Sequence[Sequence[str]]) -> _Heads:
    edges = [{*page[:_RUNNING_LINES], *page[-_RUNNING_LINES:]} for page in pages]
    counts = Counter(line for lines in edges for line in {_numberless(line) for line in lines})
    fewest = max(_FEWEST_PAGES_WITH_A_RUNNING_HEAD, len(pages) // 2 + 1)
    of_most_pages = frozenset(line for line, count in counts.items() if count >= fewest)
    differences = Counter(
        difference
        for page, lines in enumerate(edges, start=1)
        for difference in {number - page for line in lines for number in _numbers(line)}
    )
    ahead, count = max(differences.items(), key=lambda item: (item[1], -item[0]), default=(0, 0))
    if count < fewest:
        return _Heads(of_most_pages, frozenset(), 0)
    numbered = Counter(
        _numberless(line)
        for page, lines in enumerate(edges, start=1)
        for line in lines
        if page + ahead in _numbers(line)
    )
    return _Heads(of_most_pages, frozenset(line for line, count in numbered.items() if count > 1), ahead)


def _numbers(line: str) -> list[int]:
    """Return the numbers at the ends of a line."""
    return [int(number) for number in _NUMBER_AT_AN_END.findall(line)]


def _numberless(line: str) -> str:
    return _NUMBER.sub("0", line.casefold())
