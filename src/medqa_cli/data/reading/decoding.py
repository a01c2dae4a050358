"""In which encoding a text file is, so that reading it never raises UnicodeDecodeError.

UTF-8 and UTF-16 are told by their bytes; older encodings by ``code_pages``; a file in which nothing makes sense is
refused rather than read wrongly. Does not repair texts that were decoded wrongly before.
"""

from __future__ import annotations

import codecs
import functools
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from medqa_cli.data.languages import likeliest_language
from medqa_cli.data.reading.code_pages import (
    ENOUGH,
    LATIN_CODECS,
    NAMES,
    WINDOWS_1252,
    Reading,
    Recognised,
    latin_score,
    recognise,
)
from medqa_cli.errors import InputError

BLOCK = 1 << 20
START = 16  # bytes: half of the shortest header in UTF-16
SAMPLE = 1 << 14  # bytes of lines that are no UTF-8, from the start of the file
SAMPLED_LINES = 100  # of them, from all over it, none longer than this:
LONGEST_SAMPLED = 2000
LINES_WEIGHED = 1000  # that are looked at for letters of two encodings, which takes a millisecond each
LONGEST_LINE = 1 << 20
MOST_BY_CHANCE = 3  # characters of two bytes in a line of another encoding that is valid UTF-8
NOTHING = "ascii"  # what a line of no known encoding is read as
MOST_DAMAGED = 0.01  # share of the lines that may make no sense in any encoding without the file being refused
LINES = "medqa-lines-"  # the codec that decodes each line by itself: UTF-8, else what its name says

_MARKS = (  # in this order: that of UTF-32 begins like that of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32", "UTF-32"),
    (codecs.BOM_UTF32_BE, "utf-32", "UTF-32"),
    (codecs.BOM_UTF16_LE, "utf-16", "UTF-16"),
    (codecs.BOM_UTF16_BE, "utf-16", "UTF-16"),
    (codecs.BOM_UTF8, "utf-8-sig", "UTF-8 with a byte order mark"),
)
_SEVEN_BIT = (b"\x1b$B", b"\x1b$@", b"\x1b(J")  # how ISO-2022-JP changes to Japanese and back
_HINT = "name its encoding: --set data.encoding=NAME{}, or save it as 'CSV UTF-8' or as .xlsx"
# What two bytes of UTF-8 that stand in a line by chance do not decode to: letters and signs in use.
_IN_USE = re.compile(
    "[\xa0-\u017f\u0192\u0218-\u021b\u02c6-\u02dd\u0370-\u052f\u0590-\u06ff\u0900-\ud7ff\uf900-\ufffc\U00010000-\U0010ffff]"
)
_BEYOND_LATIN = re.compile("[\u0370-\u1fff\u3040-\ud7ff\uf900-\ufffc\U00010000-\U0010ffff]")
_NOT_ASCII = re.compile(r"[^\x00-\x7f]")
_WITHIN_A_WORD = re.compile("[a-z][\xdf-\xff\u0100-\u017f]|[\xdf-\xff\u0100-\u017f][a-z]")
_ESCAPED = re.compile("[\udc80-\udcff]+")
_CUT_CHARACTER = re.compile(rb"[\xe0-\xf4][\x80-\xbf]")


@dataclass(frozen=True)
class Encoding:
    """How to open the file (``encoding`` and ``errors`` of ``open``), and what to tell the user."""

    codec: str
    errors: str
    description: str
    warnings: tuple[str, ...] = ()


def detect_encoding(path: Path, shown: str, wanted: str | None = None) -> Encoding:
    """Return the encoding of a text file.

    Args:
        path: the file.
        shown: what messages call it.
        wanted: the encoding that the user named: any text codec of Python; None: find it.

    Returns:
        the encoding. Where a file is UTF-8 but for some lines, each line is read by itself.

    Raises:
        InputError: the file is not in the encoding that was named, or nothing makes sense of its bytes.
    """
    status = path.stat()
    # A table is opened several times: for its columns, its shape and its rows.
    return _detected(path, shown, wanted, status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=1024)
def _detected(path: Path, shown: str, wanted: str | None, size: int, changed: int) -> Encoding:
    with open(path, "rb") as file:
        start = file.read(START)
    mark = next((mark for mark in _MARKS if start.startswith(mark[0])), None)
    if wanted is not None:
        return _named(path, shown, wanted, mark and mark[1:])
    if mark is not None and not mark[1].startswith("utf-8"):
        return Encoding(mark[1], "replace", mark[2])
    if mark is None and (codec := _unmarked_utf16(start)):
        return Encoding(codec, "replace", "UTF-16 without a byte order mark")
    codec, description = ("utf-8", "UTF-8") if mark is None else mark[1:]
    if (wrong := _first_error(path, "utf-8")) is None:
        if mark is None and _holds_seven_bit_japanese(path):
            return Encoding("iso2022_jp", "replace", NAMES["iso2022_jp"])
        return Encoding(codec, "replace", description)
    if b"\0" in start or _begins_with_nul_bytes(path):
        return Encoding(WINDOWS_1252, "replace", NAMES[WINDOWS_1252])  # no text; the readers say so
    return _older(path, shown, description, wrong)


def _begins_with_nul_bytes(path: Path) -> bool:
    with open(path, "rb") as file:
        return b"\0" in file.readline(BLOCK)


def _unmarked_utf16(start: bytes) -> str | None:
    """Tell UTF-16 by a first line in Latin letters: each second byte is NUL, and no other."""
    for codec, letters, fillers in (("utf-16-le", start[::2], start[1::2]), ("utf-16-be", start[1::2], start[::2])):
        if len(start) == START and not any(fillers) and all(letters):
            return codec
    return None


def _holds_seven_bit_japanese(path: Path) -> bool:
    """Tell ISO-2022-JP: most lines with its signs are valid in it. A stray sign in a text would take what follows."""
    valid = 0
    with open(path, "rb") as file:
        for line in file:
            if b"\x1b" in line and any(sign in line for sign in _SEVEN_BIT):
                valid += 1 if _is_valid(line, "iso2022_jp") else -1
    return valid > 0


def _is_valid(data: bytes, codec: str) -> bool:
    try:
        data.decode(codec)
    except UnicodeDecodeError:
        return False
    return True


def _named(path: Path, shown: str, wanted: str, mark: tuple[str, str] | None) -> Encoding:
    """Check that a file can be read in the encoding that the user named."""
    codec = codecs.lookup(wanted).name
    if mark is not None:
        if codecs.lookup(mark[0].removesuffix("-sig")).name != codec.removesuffix("-sig"):
            raise InputError(
                f"{shown} begins with the mark of {mark[1].split()[0]}, but data.encoding says {wanted}",
                "set data.encoding to null, or convert the files apart",
            )
        codec = mark[0]
    wrong = _first_error(path, codec)
    if wrong is not None:
        raise InputError(
            f"{shown}:{wrong.line} is not in the encoding that data.encoding names: {wanted} has no character for "
            f"byte 0x{wrong.byte:02x} at offset {wrong.offset:,} of the file",
            "set data.encoding to null, or to the encoding that the file is in",
        )
    warnings: tuple[str, ...] = ()
    if codec not in ("utf-8", "utf-8-sig", "ascii") and mark is None and _is_utf8_beyond_ascii(path):
        warnings = (f"{shown} is valid UTF-8, but read as {wanted}, as data.encoding says: look at the rows",)
    return Encoding(codec, "strict", f"{NAMES.get(codec, wanted)} (data.encoding)", warnings)


def _is_utf8_beyond_ascii(path: Path) -> bool:
    return _first_error(path, "utf-8") is None and _first_error(path, "ascii") is not None


@dataclass(frozen=True)
class _Wrong:
    """The first byte that cannot be decoded."""

    line: int
    offset: int
    byte: int


def _first_error(path: Path, codec: str) -> _Wrong | None:
    decoder = codecs.getincrementaldecoder(codec)()
    read = lines = 0  # before the current block
    with open(path, "rb") as file:
        while True:
            block = file.read(BLOCK)
            pending = decoder.getstate()[0]
            try:
                decoder.decode(block, final=not block)
            except UnicodeDecodeError as error:
                offset = max(0, read - len(pending) + error.start)
                line = lines + block[: max(0, error.start - len(pending))].count(b"\n") + 1
                return _Wrong(line, offset, error.object[error.start])
            if not block:
                return None
            read, lines = read + len(block), lines + block.count(b"\n")


@dataclass
class _Lines:
    """The lines beyond ASCII of a file that is no UTF-8, or not all of it: how many are, and samples of them."""

    lines: int = 0  # those of ASCII too
    utf8: int = 0
    perhaps: int = 0  # valid UTF-8, but so short that it may be by chance
    older: int = 0
    mixed: int = 0  # of these: with letters of UTF-8 and of Windows-1252
    first_older: int = 0  # its number
    known: str = ""  # the text of some lines of UTF-8
    head: bytes = b""  # of the older ones
    spread: bytes = b""


def _look_at_lines(path: Path) -> _Lines:
    found = _Lines()
    older: list[bytes] = []
    drawn: list[bytes] = []
    generator = random.Random(0)
    number, taken = 1, 0
    for line in _pieces(path):
        at, number = number, number + line.count(b"\n")
        found.lines += 1
        if line.isascii():
            continue
        if text := _utf8(line):
            if _is_surely_utf8(text):
                found.utf8 += 1
                found.known += text if len(found.known) < SAMPLE else ""
            else:
                found.perhaps += 1
            continue
        found.older += 1
        found.first_older = found.first_older or at
        if found.older <= LINES_WEIGHED:
            found.mixed += _apart(line, WINDOWS_1252) is not None
        if taken < SAMPLE:
            older.append(line)
            taken += len(line)
        if len(line) > LONGEST_SAMPLED:
            continue
        if len(drawn) < SAMPLED_LINES:
            drawn.append(line)
        elif (place := generator.randrange(found.older)) < SAMPLED_LINES:
            drawn[place] = line
    found.head, found.spread = b"".join(older), b"".join(drawn or older)
    return found


def _older(path: Path, shown: str, description: str, wrong: _Wrong) -> Encoding:
    """Find out what a file is that is no UTF-8, or not all of it."""
    found = _look_at_lines(path)
    language = likeliest_language(found.known) if found.known else ""
    head = recognise(found.head, language)
    if head.reading is None:
        head = recognise(_without_utf8(found.head), language)
    if head.reading is None:
        if found.utf8 + found.perhaps < found.older > MOST_DAMAGED * found.lines:
            raise _refused(shown, wrong, head)
        return _of_lines(shown, description, found, NOTHING)
    codec = head.reading.codec
    if not found.utf8 and (codec not in LATIN_CODECS or not found.perhaps + found.mixed):
        encoding = _of_one_codec(shown, head.reading, recognise(found.spread, language))
        return replace(encoding, codec=f"{LINES}{codec}") if found.perhaps else encoding
    return _of_lines(shown, description, found, codec)


def _of_lines(shown: str, description: str, found: _Lines, codec: str) -> Encoding:
    lines = f"{found.older:,} {'line' if found.older == 1 else 'lines'}"
    first = f"the first: line {found.first_older:,}"
    if codec == NOTHING:
        told = "and in no encoding that can be told: the signs in question are lost"
    else:
        told = f"as where files of two kinds were joined; read as {NAMES[codec]}: look at the rows"
    return Encoding(
        f"{LINES}{codec}",
        "replace",
        f"{description}, {lines} of it {NAMES.get(codec, 'damaged')}",
        (f"{shown}: {lines} of it {'is' if found.older == 1 else 'are'} no UTF-8 ({first}), {told}",),
    )


def _of_one_codec(shown: str, reading: Reading, spread: Recognised) -> Encoding:
    codec, other = reading.codec, spread.reading
    if other is not None and other.codec != codec and other.data.decode(codec, "replace") != other.text:
        raise InputError(
            f"{shown} is no UTF-8, and its lines seem to be in several encodings: {NAMES[codec]} and "
            f"{NAMES[other.codec]}",
            _HINT.format(f" (perhaps {codec} or {other.codec})"),
        )
    warnings: tuple[str, ...] = ()
    if codec != WINDOWS_1252:
        warnings = (
            f"{shown} is no UTF-8; by its letters it is {NAMES[codec]}: look at the rows, and if they are wrong name "
            "its encoding: --set data.encoding=NAME",
        )
    return Encoding(codec, "replace", NAMES[codec], warnings)


def _refused(shown: str, wrong: _Wrong, found: Recognised) -> InputError:
    perhaps = f" (perhaps {' or '.join(found.candidates)})" if found.candidates else ""
    return InputError(
        f"{shown}:{wrong.line} is no UTF-8 (byte 0x{wrong.byte:02x} at offset {wrong.offset:,}), and no older encoding "
        "reads it with certainty",
        _HINT.format(perhaps),
    )


def _utf8(line: bytes) -> str:
    """Return the text of a line that is UTF-8; nothing where it is none, or has only letters that nobody uses."""
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError:
        return ""
    return text if _IN_USE.search(text) else ""


def _is_surely_utf8(text: str) -> bool:
    """Tell whether a line cannot be UTF-8 by chance: by a long character, by many, or by letters within a word."""
    beyond = _NOT_ASCII.findall(text)
    return max(beyond) > "\u07ff" or len(beyond) > MOST_BY_CHANCE or _WITHIN_A_WORD.search(text) is not None


def _without_utf8(data: bytes) -> bytes:
    text = data.decode("utf-8", "surrogateescape")
    return _NOT_ASCII.sub(lambda c: c[0] if "\udc80" <= c[0] <= "\udcff" else " ", text).encode(
        "ascii", "surrogateescape"
    )


def _pieces(path: Path) -> Iterator[bytes]:
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
    if line.isascii():
        return line.decode("ascii")
    if (text := _utf8(line)) and (codec in LATIN_CODECS or _is_surely_utf8(text)):
        return text
    if codec in LATIN_CODECS or codec == NOTHING:
        apart = _apart(line, codec)
        if apart is not None:
            return apart
    return line.decode(codec, "replace")


def _apart(line: bytes, codec: str) -> str | None:
    """Read a line in which letters of UTF-8 and of an older encoding stand; None where it makes more sense as a whole.

    Args:
        line: no valid UTF-8.
        codec: the older encoding, in Latin letters.
    """
    text = line.decode("utf-8", "surrogateescape")
    if not _IN_USE.search(text):
        return None
    beyond_latin = _BEYOND_LATIN.search(text) is not None
    apart = _ESCAPED.sub(lambda found: _decoded_bytes(found[0], codec, beyond_latin), text)
    if codec == NOTHING:
        return apart
    score = latin_score(line.decode(codec, "replace"))
    return apart if score < ENOUGH and (beyond_latin or score <= latin_score(apart)) else None


def _decoded_bytes(escaped: str, codec: str, beyond_latin: bool) -> str:
    """Read bytes amid UTF-8: the rest of a character that was cut, else letters of the older encoding."""
    data = escaped.encode("ascii", "surrogateescape")
    if beyond_latin or codec == NOTHING or _CUT_CHARACTER.match(data):
        return "\ufffd"
    return data.decode(codec, "replace")


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
