"""Decodes text files and web pages: by their bytes, by what a page declares, or as the config says where both fail."""

from __future__ import annotations

import codecs
import re
from pathlib import Path

from medqa_cli.data.encodings.detect import detect_encoding
from medqa_cli.errors import InputError

LARGEST_TEXT = 10_000_000  # bytes; War and Peace has 3 million
_DECLARED_WITHIN = 4096  # bytes from the start of a page
_DECLARED = re.compile(
    rb"<(?:meta\s[^<>]{0,500}?charset|\?xml\s[^<>]{0,200}?encoding)\s*=\s*[\"']?\s*([\w.:-]{1,40})", re.IGNORECASE
)
# What browsers take for it.
_WINDOWS = {"iso8859-1": "cp1252", "ascii": "cp1252", "iso8859-9": "cp1254", "gb2312": "gb18030", "gbk": "gb18030"}


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
    declared = _declared(content)
    if declared and not _is_utf8(content):
        try:
            return content.decode(declared), ()
        except UnicodeDecodeError:
            pass  # its bytes tell more than its words
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


def _is_utf8(content: bytes) -> bool:
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
