"""Reads text files line by line, each as UTF-8 where it is, else in an older encoding: a codec for joined files."""

import codecs
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from medqa_cli.data.encodings.code_pages import ENOUGH, WINDOWS_1252, is_latin
from medqa_cli.data.encodings.plausibility import latin_score

BLOCK = 1 << 20
LONGEST_LINE = 1 << 20
MOST_BY_CHANCE = 3  # characters of two bytes in a line of another encoding that is valid UTF-8
NOTHING = "ascii"  # what a line of no known encoding is read as
LINES = "medqa-lines-"  # the codec that decodes each line by itself: UTF-8, else what its name says

SEVEN_BIT = "iso2022_jp"
# Where it writes Japanese: an escape sequence, pairs of bytes, and another one before the line ends.
_JAPANESE = re.compile(rb"\x1b\$[@B](?:[!-~]{2})+\x1b")
_NEVER_CLOSED = re.compile(rb"\x1b\$[@B][^\x1b]*\Z")

# What two bytes of UTF-8 that stand in a line by chance do not decode to: letters and signs in use.
_IN_USE = re.compile(
    "[\xa0-\u017f\u0192\u0218-\u021b\u02c6-\u02dd\u0370-\u052f\u0590-\u06ff\u0900-\ud7ff\uf900-\ufffc\U00010000-\U0010ffff]"
)
_BEYOND_LATIN = re.compile("[\u0370-\u1fff\u3040-\ud7ff\uf900-\ufffc\U00010000-\U0010ffff]")
_NOT_ASCII = re.compile(r"[^\x00-\x7f]")
_WITHIN_A_WORD = re.compile("[a-z][\xdf-\xff\u0100-\u017f]|[\xdf-\xff\u0100-\u017f][a-z]")
_ESCAPED = re.compile("[\udc80-\udcff]+")
CUT_CHARACTER = re.compile(rb"[\xe0-\xf4][\x80-\xbf]")
"""The first bytes of a character of UTF-8 that lacks its last ones."""


def utf8_text(line: bytes) -> str:
    """Return the text of a line that is UTF-8; nothing where it is none, or has only letters that nobody uses."""
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError:
        return ""
    return text if _IN_USE.search(text) else ""


def is_surely_utf8(text: str) -> bool:
    """Tell whether a line cannot be UTF-8 by chance: by a long character, by many, or by letters within a word."""
    beyond = _NOT_ASCII.findall(text)
    return max(beyond) > "\u07ff" or len(beyond) > MOST_BY_CHANCE or _WITHIN_A_WORD.search(text) is not None


def is_seven_bit_japanese(line: bytes) -> bool:
    """Tell whether a line is in ISO-2022-JP: it goes over to Japanese signs, and back before it ends."""
    if b"\x1b$" not in line or not _JAPANESE.search(line) or _NEVER_CLOSED.search(line):
        return False
    try:
        line.decode(SEVEN_BIT)
    except UnicodeDecodeError:
        return False
    return True


def is_rather_utf8(line: bytes, text: str, codec: str) -> bool:
    """Tell whether a line, ``text`` as UTF-8, makes more sense so than in the older encoding of the file."""
    if is_surely_utf8(text) or codec == NOTHING:
        return True
    return is_latin(codec) and latin_score(text) >= latin_score(line.decode(codec, "replace"))


def lines_of(path: Path) -> Iterator[bytes]:
    """Yield the lines of a file with their ends; of a line of megabytes pieces."""
    with open(path, "rb") as file:
        kept = b""
        while block := file.read(BLOCK):
            pieces, kept = _cut(kept + block)
            yield from pieces
        if kept:
            yield kept


def _cut(data: bytes) -> tuple[list[bytes], bytes]:
    """Cut after each line; of a line of megabytes, after a space or quote, which is no part of a character anywhere."""
    end = data.rfind(b"\n") + 1
    if not end and len(data) > LONGEST_LINE:
        end = max(data.rfind(b" "), data.rfind(b'"')) + 1
    return data[:end].splitlines(keepends=True) if end else [], data[end:]


class _LineDecoder(codecs.IncrementalDecoder):
    """Decodes each line by itself: as UTF-8 where it is, else in an older encoding."""

    codec = WINDOWS_1252

    def __init__(self, errors: str = "strict") -> None:
        super().__init__(errors)
        self._kept = b""
        self._begun = False

    def decode(self, input: Any, final: bool = False) -> str:
        """Decode whole lines; what follows the last of them waits for its end."""
        pieces, self._kept = _cut(self._kept + bytes(input))
        if final and self._kept:
            pieces, self._kept = [*pieces, self._kept], b""
        text = "".join(_decoded_line(piece, self.codec) for piece in pieces)
        if text and not self._begun:
            self._begun, text = True, text.removeprefix("\ufeff")
        return text

    def reset(self) -> None:
        """Forget what waits."""
        self._kept, self._begun = b"", False

    def getstate(self) -> tuple[bytes, int]:
        """Return what waits."""
        return self._kept, int(self._begun)

    def setstate(self, state: tuple[bytes, int]) -> None:
        """Take what waits."""
        self._kept, self._begun = state[0], bool(state[1])


def _decoded_line(line: bytes, codec: str) -> str:
    if codec == SEVEN_BIT:
        return line.decode(SEVEN_BIT if is_seven_bit_japanese(line) else "utf-8", "replace")
    if line.isascii():
        return line.decode("ascii")
    if (text := utf8_text(line)) and is_rather_utf8(line, text, codec):
        return text
    if is_latin(codec) or codec == NOTHING:
        apart = read_apart(line, codec)
        if apart is not None:
            return apart
    return line.decode(codec, "replace")


def read_apart(line: bytes, codec: str) -> str | None:
    """Read a line in which letters of UTF-8 and of an older encoding stand; None where it makes more sense as a whole.

    Args:
        line: no valid UTF-8.
        codec: the older encoding, in Latin letters.
    """
    text = line.decode("utf-8", "surrogateescape")
    if not _IN_USE.search(text):
        return None
    beyond_latin = _BEYOND_LATIN.search(text) is not None

    def decoded(escaped: re.Match[str]) -> str:
        data = escaped[0].encode("ascii", "surrogateescape")
        is_lost = beyond_latin or codec == NOTHING or CUT_CHARACTER.match(data)
        return "\ufffd" if is_lost else data.decode(codec, "replace")

    apart = _ESCAPED.sub(decoded, text)
    if codec == NOTHING:
        return apart
    score = latin_score(line.decode(codec, "replace"))
    return apart if score < ENOUGH and (beyond_latin or score <= latin_score(apart)) else None


def _line_codec(name: str) -> codecs.CodecInfo | None:
    prefix = LINES.replace("-", "_")
    name = name.replace("-", "_")
    if not name.startswith(prefix):
        return None
    decoder = type("_LineDecoder", (_LineDecoder,), {"codec": name.removeprefix(prefix)})

    def decode(data: bytes, errors: str = "strict") -> tuple[str, int]:
        return decoder(errors).decode(bytes(data), final=True), len(data)

    def encode(text: str, errors: str = "strict") -> tuple[bytes, int]:
        return text.encode("utf-8", errors), len(text)

    return codecs.CodecInfo(encode, decode, incrementaldecoder=decoder, name=name)  # type: ignore[arg-type]


codecs.register(_line_codec)
