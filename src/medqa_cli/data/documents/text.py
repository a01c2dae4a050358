"""Text files: decodes them and web pages, and reads the headings and paragraphs of text and Markdown.

They are decoded by their bytes, by what a page declares, or as the config says where both fail.
"""

import codecs
import contextlib
import re
from collections.abc import Callable
from pathlib import Path

from medqa_cli.data.cleaning.rules import one_line
from medqa_cli.data.documents.sections import Line, Part, flowed, usual_width
from medqa_cli.data.encodings.detect import detect_encoding
from medqa_cli.errors import InputError
from medqa_cli.prompt.sentence_ends import LIST_ITEM

LARGEST_TEXT = 10_000_000  # bytes; War and Peace has 3 million
_DECLARED_WITHIN = 4096  # bytes from the start of a page
_DECLARED = re.compile(
    rb"<(?:meta\s[^<>]{0,500}?charset|\?xml\s[^<>]{0,200}?encoding)\s*=\s*[\"']?\s*([\w.:-]{1,40})", re.IGNORECASE
)
# What browsers take for it.
_WINDOWS = {"iso8859-1": "cp1252", "ascii": "cp1252", "iso8859-9": "cp1254", "gb2312": "gb18030", "gbk": "gb18030"}
_HEADING = re.compile(r" {0,3}(#{1,6})[ \t]+(.*?)(?:[ \t]+#+)?[ \t]*\Z")
_UNDERLINE = re.compile(r" {0,3}(?:={3,}|-{3,})[ \t]*\Z")
_RULE = re.compile(r"[ \t]*(?:(?:\*[ \t]*){3,}|(?:-[ \t]*){3,}|(?:_[ \t]*){3,}|\|?(?:[ \t]*:?-+:?[ \t]*\|)+[ \t:-]*)\Z")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_QUOTE = re.compile(r"\A {0,3}(?:> ?)+")
_IMAGE = re.compile(r"!\[[^\]\n]{0,300}\]\([^()\n]{0,2000}\)")
_LINK = re.compile(r"\[([^\[\]\n]{1,300})\]\([^()\n]{0,2000}\)")
_BOLD = re.compile(r"(?<!\w)(\*\*|__)(?=\S)([^*_\n]{1,500}?)(?<=\S)\1(?!\w)")
_FRONT_TITLE = re.compile(r"title:\s*([\"']?)(.+?)\1\s*\Z")
_MOST_FRONT_LINES = 100
Repair = Callable[[str], str]
"""What the cleaning rules make of one line."""


def decoded_text(path: Path, shown: str, named: str | None) -> tuple[str, tuple[str, ...]]:
    """Return the text of a file, and warnings.

    Args:
        path: the file.
        shown: what messages call it.
        named: the encoding to take where the bytes do not tell one; None: none.

    Raises:
        InputError: it is too large, no text, or in no encoding that can be told.
    """
    size = path.stat().st_size
    if size > LARGEST_TEXT:
        raise InputError(f"{shown} has {size:,} bytes; at most {LARGEST_TEXT:,} are read", "split it into smaller ones")
    try:
        encoding = detect_encoding(path, shown)
    except InputError:
        if named is None:
            raise
        encoding = detect_encoding(path, shown, named)
    text = path.read_bytes().decode(encoding.codec, encoding.errors)
    if "\0" in text:
        raise InputError(f"{shown} holds NUL bytes: it is no text", "open it and save it as text in UTF-8")
    return text, encoding.warnings


def decoded_page(path: Path, shown: str, named: str | None) -> tuple[str, tuple[str, ...]]:
    """Return the text of a web page, and warnings: in the encoding that it declares, where that fits.

    What is valid UTF-8 is read as UTF-8. Arguments and errors are those of ``decoded_text``.
    """
    with open(path, "rb") as file:
        content = file.read(LARGEST_TEXT)
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        if declared := _declared(content):
            with contextlib.suppress(UnicodeDecodeError):  # its bytes tell more than its words
                return content.decode(declared), ()
    return decoded_text(path, shown, named)


def _declared(content: bytes) -> str:
    """Return the codec that a page declares; nothing where it is none of text, or needs a mark that is looked at."""
    declaration = _DECLARED.search(content[:_DECLARED_WITHIN])
    if declaration is None:
        return ""
    try:
        codec = codecs.lookup(declaration[1].decode("ascii"))
        "".encode(codec.name)
    except (LookupError, UnicodeError):
        return ""
    return "" if codec.name.startswith("utf") else _WINDOWS.get(codec.name, codec.name)


def read_text(text: str, is_markdown: bool, repair: Repair) -> tuple[str, list[Part]]:
    """Take a text apart.

    Args:
        text: with line breaks of any system.
        is_markdown: whether links, bold type, comments and the lines of tables are markup.
        repair: applied to each line.

    Returns:
        the title that stands above the text of Markdown, else nothing, and the parts.
    """
    raw = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    title, first = _front_matter(raw) if is_markdown else ("", 0)
    if is_markdown:
        raw = _without_comments("\n".join(["", *raw[first:]] if first else raw)).split("\n")
        raw[:0] = [""] * max(0, first - 1)
    parts: list[Part] = []
    lines: list[Line] = []
    width = usual_width(Line(line.strip(), "") for line in raw)
    fence = ""
    for number, (text, following) in enumerate(zip(raw, [*raw[1:], ""], strict=True), start=1):
        marks = _FENCE.match(text) if is_markdown else None
        if marks and (not fence or marks[1].startswith(fence)):
            fence = "" if fence else marks[1]
            lines.append(Line("", ""))
            continue
        heading = None if fence else _heading(text, following, is_after_text=bool(lines and lines[-1].text))
        if heading is not None:
            parts += flowed(lines, width)
            lines = []
            level, words = heading
            heading_text = one_line(repair(_unmarked(words) if is_markdown else words))
            parts.append(Part(heading_text, f"line {number}", level=level))
            continue
        if not fence and (_UNDERLINE.match(text) or (is_markdown and _RULE.match(text))):
            # A row of dashes inside a table parts nothing.
            text = "" if "|" not in text else "|"
        if text != "|":
            text = repair(_unmarked(_QUOTE.sub("", text)) if is_markdown and not fence else text)
            lines += [Line(one_line(line), f"line {number}") for line in text.split("\n")]
    return title, [*parts, *flowed(lines, width)]


def _front_matter(raw: list[str]) -> tuple[str, int]:
    """Return the title in the block between lines of dashes at the top, and how many lines it has."""
    if raw[0].rstrip() != "---":
        return "", 0
    for number, line in enumerate(raw[1:_MOST_FRONT_LINES], start=1):
        if line.rstrip() in ("---", "..."):
            titles = [title[2] for title in map(_FRONT_TITLE.match, raw[1:number]) if title]
            return (one_line(titles[0]) if titles else ""), number + 1
    return "", 0


def _without_comments(text: str) -> str:
    """Return the text without HTML comments, with their line breaks; one that does not end stays."""
    pieces, end = [], 0
    while (start := text.find("<!--", end)) >= 0 and (stop := text.find("-->", start)) >= 0:
        pieces += [text[end:start], "\n" * text.count("\n", start, stop)]
        end = stop + len("-->")
    return "".join([*pieces, text[end:]])


def _heading(text: str, following: str, is_after_text: bool) -> tuple[int, str] | None:
    if match := _HEADING.match(text):
        return len(match[1]), match[2]
    is_underlined = _UNDERLINE.match(following) and not _UNDERLINE.match(text) and any(map(str.isalnum, text))
    if is_underlined and not is_after_text and "|" not in text and not LIST_ITEM.match(text):
        return (1 if "=" in following else 2), text.strip()
    return None


def _unmarked(text: str) -> str:
    """Return a line of Markdown with the words of its links and its bold type alone, and without its pictures."""
    if "](" in text:
        text = _LINK.sub(r"\1", _IMAGE.sub("", text))
    return _BOLD.sub(r"\2", text) if "**" in text or "__" in text else text
