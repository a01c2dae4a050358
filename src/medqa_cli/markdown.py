"""Text as Markdown that shows it as it is, for the cards that medqa writes. Knows no card."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table of cells that are escaped already."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def file_name(path: str) -> str:
    """Return the last part of a path of any system: the folders above it are nobody's business."""
    parts = [part for part in re.split(r"[/\\]", path) if part]
    return parts[-1] if parts else path


def one_line(text: str) -> str:
    """Return the text on one line, without control characters and what is no character at all."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def escaped(text: str) -> str:
    """Return the text on one line, as Markdown that shows it as it is, in a table too."""
    return re.sub(r"([\\`*_\[\]<>|~&$#])", r"\\\1", one_line(text))


def code_block(code: str, language: str) -> str:
    """Return a fenced block whose fence is longer than any run of backticks inside."""
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", code)), default=0))
    return f"{fence}{language}\n{code.rstrip()}\n{fence}"
