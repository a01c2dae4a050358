"""In which encoding a text file is, so that reading it never raises UnicodeDecodeError.

UTF-8 and UTF-16 are told by their bytes; older encodings by ``code_pages``; a file in which nothing makes sense is
refused rather than read wrongly.
"""

from __future__ import annotations

import codecs
import functools
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from medqa_cli.data.encodings.code_pages import (
    ENOUGH,
    WINDOWS_1252,
    Reading,
    Recognised,
    as_shown,
    better_than,
    code_pages,
    is_latin,
    recognise,
)
from medqa_cli.data.encodings.line_codec import (
    BLOCK,
    CUT_CHARACTER,
    LINES,
    NOTHING,
    SEVEN_BIT,
    is_rather_utf8,
    is_seven_bit_japanese,
    is_surely_utf8,
    lines_of,
    read_apart,
    utf8_text,
)
from medqa_cli.data.encodings.plausibility import best_latin_share
from medqa_cli.data.languages import UNKNOWN, language_of, likeliest_language
from medqa_cli.errors import InputError

START = 16  # bytes: half of the shortest header in UTF-16
SAMPLE = 1 << 14  # bytes of lines that are no UTF-8, from the start of the file
SAMPLED_LINES = 100  # of them, from all over it, none longer than this:
LONGEST_SAMPLED = 2000
LINES_WEIGHED = 1000  # that are looked at for letters of two encodings, which takes a millisecond each
MOST_DOUBTED = 3  # readings that a warning shows beside the one taken
MOST_DAMAGED = 0.01  # share of the lines that may make no sense in any encoding without the file being refused

_MARKS = (  # in this order: that of UTF-32 begins like that of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32", "UTF-32"),
    (codecs.BOM_UTF32_BE, "utf-32", "UTF-32"),
    (codecs.BOM_UTF16_LE, "utf-16", "UTF-16"),
    (codecs.BOM_UTF16_BE, "utf-16", "UTF-16"),
    (codecs.BOM_UTF8, "utf-8-sig", "UTF-8 with a byte order mark"),
)
_HINT = "name its encoding: --set data.encoding=NAME{}, or save it as 'CSV UTF-8' or as .xlsx"
_UNKNOWN_WORD = re.compile(r"[^\W\d_]*\ufffd\S*")  # words with letters that are not known yet
_NOT_ASCII = re.compile(r"[^\x00-\x7f]")


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
        return (mark is None and _seven_bit_japanese(path, shown)) or Encoding(codec, "replace", description)
    with open(path, "rb") as file:
        is_no_text = b"\0" in start or b"\0" in file.readline(BLOCK)
    if is_no_text:
        return Encoding(WINDOWS_1252, "replace", code_pages()[WINDOWS_1252].name)  # no text; the readers say so
    return _older(path, shown, description, wrong)


def _unmarked_utf16(start: bytes) -> str | None:
    """Tell UTF-16 by a first line in Latin letters: each second byte is NUL, and no other."""
    for codec, letters, fillers in (("utf-16-le", start[::2], start[1::2]), ("utf-16-be", start[1::2], start[::2])):
        if len(start) == START and not any(fillers) and all(letters):
            return codec
    return None


def _seven_bit_japanese(path: Path, shown: str) -> Encoding | None:
    """Tell ISO-2022-JP: lines that go over to Japanese signs and back. A stray escape sequence is none."""
    japanese = first = others = 0
    with open(path, "rb") as file:
        if not any(b"\x1b" in block for block in iter(lambda: file.read(BLOCK), b"")):
            return None
        file.seek(0)
        for number, line in enumerate(file, start=1):
            if is_seven_bit_japanese(line):
                japanese, first = japanese + 1, first or number
                # Python goes on behind a line's end in the signs of the line; here each line begins in ASCII.
                others += not line.rpartition(b"\x1b")[2].startswith(b"(B")
            else:
                others += b"\x1b" in line or not line.isascii()
    if not japanese:
        return None
    name = code_pages()[SEVEN_BIT].name
    if not others:
        return Encoding(SEVEN_BIT, "replace", name)
    lines = f"{japanese:,} {'line' if japanese == 1 else 'lines'}"
    warning = (
        f"{shown}: {lines} of it {'is' if japanese == 1 else 'are'} {name} (the first: line {first:,}): look at them"
    )
    return Encoding(f"{LINES}{SEVEN_BIT}", "replace", f"UTF-8, {lines} of it {name}", (warning,))


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
    name = code_pages()[codec].name if codec in code_pages() else wanted
    warning = "" if mark is not None else _doubt_of_named(path, shown, wanted, codec)
    return Encoding(codec, "strict", f"{name} (data.encoding)", (warning,) if warning else ())


def _doubt_of_named(path: Path, shown: str, wanted: str, codec: str) -> str:
    """Say that what the user named makes an improbable text of the file, and what would make more sense."""
    if codec in ("utf-8", "utf-8-sig", "ascii") or _first_error(path, "ascii") is None:
        return ""
    if _first_error(path, "utf-8") is None:
        return f"{shown} is valid UTF-8, but read as {wanted}, as data.encoding says: look at the rows"
    if (pair := better_than(_look_at_lines(path).head, codec)) is None:
        return ""
    read = as_shown(pair).replace(f", {pair[1].codec} reads", f", where {pair[1].codec} reads", 1)
    return (
        f"{shown}: as data.encoding says, {read}, which makes more sense: "
        f"look at the rows, and at --set data.encoding={pair[1].codec}"
    )


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
    short: list[bytes] = field(default_factory=list)  # some of these
    older: int = 0
    mixed: list[bytes] = field(default_factory=list)  # some of these: perhaps with letters of UTF-8 among them
    first_older: int = 0  # its number
    known: str = ""  # the text of some lines of UTF-8
    head: bytes = b""  # of the older ones
    spread: bytes = b""  # none where all are in the head


def _look_at_lines(path: Path) -> _Lines:
    found = _Lines()
    older: list[bytes] = []
    drawn: list[bytes] = []
    generator = random.Random(0)
    number, taken = 1, 0
    for line in lines_of(path):
        at, number = number, number + line.count(b"\n")
        found.lines += 1
        if line.isascii():
            continue
        if text := utf8_text(line):
            if is_surely_utf8(text):
                found.utf8 += 1
                found.known += text if len(found.known) < SAMPLE else ""
            else:
                found.perhaps += 1
                found.short += [line] if found.perhaps <= SAMPLED_LINES else []
            continue
        found.older += 1
        found.first_older = found.first_older or at
        if found.older <= LINES_WEIGHED:
            found.mixed += [line] if read_apart(line, WINDOWS_1252) is not None else []
        if taken < SAMPLE:
            older.append(line)
            taken += len(line)
        if len(line) > LONGEST_SAMPLED:
            continue
        if len(drawn) < SAMPLED_LINES:
            drawn.append(line)
        elif (place := generator.randrange(found.older)) < SAMPLED_LINES:
            drawn[place] = line
    found.head = b"".join(older)
    found.spread = b"".join(drawn or older) if len(older) < found.older else b""
    return found


def _older(path: Path, shown: str, description: str, wrong: _Wrong) -> Encoding:
    """Find out what a file is that is no UTF-8, or not all of it."""
    found = _look_at_lines(path)
    language = likeliest_language(found.known) if found.known else ""
    if language_of(_UNKNOWN_WORD.sub(" ", found.head.decode("ascii", "replace"))) not in (UNKNOWN, language):
        language = ""  # the lines that are no UTF-8 are in another language
    head = recognise(found.head, language)
    if head.reading is None:
        head = recognise(_without_utf8(found.head), language)
    if head.reading is None and language:  # lines of another language than those that are UTF-8
        head = recognise(_without_utf8(found.head))
    if head.reading is None:
        if found.utf8 + found.perhaps < found.older > MOST_DAMAGED * found.lines or _are_letters(head):
            raise _refused(shown, wrong, head)
        return _of_lines(shown, description, found, NOTHING)
    codec = head.reading.codec
    is_joined = is_latin(codec) and (
        any(read_apart(line, codec) is not None for line in found.mixed)
        or any(is_rather_utf8(line, line.decode("utf-8"), codec) for line in found.short)
    )
    if not found.utf8 and not is_joined:
        encoding = _of_one_codec(shown, head, recognise(found.spread, language) if found.spread else head)
        return replace(encoding, codec=f"{LINES}{codec}") if found.perhaps else encoding
    return _of_lines(shown, description, found, codec)


def _are_letters(found: Recognised) -> bool:
    """Tell whether bytes that are in doubt are letters of an older encoding, and no rest of a character of UTF-8."""
    return any(
        is_latin(reading.codec) and not CUT_CHARACTER.search(reading.data) and best_latin_share(reading.text) >= ENOUGH
        for reading in found.candidates
    )


def _of_lines(shown: str, description: str, found: _Lines, codec: str) -> Encoding:
    lines = f"{found.older:,} {'line' if found.older == 1 else 'lines'}"
    first = f"the first: line {found.first_older:,}"
    if codec == NOTHING:
        told = "and in no encoding that can be told: the signs in question are lost"
    else:
        told = f"as where files of two kinds were joined; read as {code_pages()[codec].name}: look at the rows"
    return Encoding(
        f"{LINES}{codec}",
        "replace",
        f"{description}, {lines} of it {'damaged' if codec == NOTHING else code_pages()[codec].name}",
        (f"{shown}: {lines} of it {'is' if found.older == 1 else 'are'} no UTF-8 ({first}), {told}",),
    )


def _of_one_codec(shown: str, head: Recognised, spread: Recognised) -> Encoding:
    assert head.reading is not None
    reading, other = head.reading, spread.reading
    codec = reading.codec
    if other is not None and other.codec != codec and other.data.decode(codec, "replace") != other.text:
        raise InputError(
            f"{shown} is no UTF-8, and its lines seem to be in several encodings: {reading.name} and {other.name}",
            _HINT.format(f" (perhaps {codec} or {other.codec})"),
        )
    return Encoding(codec, "replace", reading.name, _warnings(shown, reading, (*head.doubt, *spread.doubt)))


def _warnings(shown: str, reading: Reading, doubt: Sequence[Reading]) -> tuple[str, ...]:
    if doubt:
        others = list({other.codec: other for other in doubt}.values())[:MOST_DOUBTED]
        data = others[0].data
        of_same_bytes = replace(reading, data=data, text=data.decode(reading.codec, "replace"))
        told = f"is no UTF-8 and read as {reading.name}, but only a few words tell: "
        return (
            f"{shown} {told}{as_shown([of_same_bytes, *others])}. If the first is wrong, name "
            "the one that is right: --set data.encoding=NAME",
        )
    if reading.codec == WINDOWS_1252:
        return ()
    return (
        f"{shown} is no UTF-8; by its letters it is {reading.name} ({as_shown([reading])}): look at the rows, "
        "and if they are wrong name its encoding: --set data.encoding=NAME",
    )


def _refused(shown: str, wrong: _Wrong, found: Recognised) -> InputError:
    words = f": {as_shown(found.candidates)}" if found.candidates else ""
    return InputError(
        f"{shown}:{wrong.line} is no UTF-8 (byte 0x{wrong.byte:02x} at offset {wrong.offset:,}), and no older encoding "
        f"reads it with certainty{words}",
        _HINT.format(f", the one that reads its words right (perhaps {found.candidates[0].codec})")
        if found.candidates
        else _HINT.format(""),
    )


def _without_utf8(data: bytes) -> bytes:
    text = data.decode("utf-8", "surrogateescape")
    return _NOT_ASCII.sub(lambda c: c[0] if "\udc80" <= c[0] <= "\udcff" else " ", text).encode(
        "ascii", "surrogateescape"
    )
