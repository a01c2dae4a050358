"""In which encoding a text file is, so that reading it never raises UnicodeDecodeError.

UTF-8 and UTF-16 are told by their bytes; older encodings by ``guess``; a file in which nothing makes sense is
refused rather than read wrongly.
"""

import codecs
import functools
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TextIO

from medqa_cli.data.encodings import code_pages, guess, line_codec, plausibility
from medqa_cli.data.languages import UNKNOWN, language_of, likeliest_language
from medqa_cli.errors import InputError

START = 16  # bytes: half of the shortest header in UTF-16
SAMPLE = 1 << 14  # bytes of lines that are no UTF-8, from the start of the file
SAMPLED_LINES = 100  # of them, from all over it, none longer than this:
LONGEST_SAMPLED = 2000
LONGEST_WHOLE = 1 << 16  # of a longer line only parts are judged, as long as the sample in all
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
_ASCII = "".join(map(chr, range(128)))
_UNKNOWN_WORD = re.compile(r"[^\W\d_]*\ufffd\S*")  # words with letters that are not known yet
_UTF8_CHARACTER = re.compile("[^\x00-\x7f\udc80-\udcff]")  # where other bytes are escaped


@dataclass(frozen=True)
class Encoding:
    """How the file is decoded, and what to tell the user."""

    codec: str
    errors: str
    description: str
    warnings: tuple[str, ...] = ()

    def open(self, path: Path, newline: str | None = None) -> TextIO:
        """Open a file that is in this encoding."""
        return open(path, encoding=self.codec, errors=self.errors, newline=newline)


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
    if mark is None and len(start) == START:
        # UTF-16 is told by a first line in Latin letters: each second byte is NUL, and no other.
        for codec, letters, fillers in (("utf-16-le", start[::2], start[1::2]), ("utf-16-be", start[1::2], start[::2])):
            if not any(fillers) and all(letters):
                return Encoding(codec, "replace", "UTF-16 without a byte order mark")
    codec, description = ("utf-8", "UTF-8") if mark is None else mark[1:]
    if (wrong := _first_error(path, "utf-8")) is None:
        return (mark is None and _seven_bit_japanese(path, shown)) or Encoding(codec, "replace", description)
    with open(path, "rb") as file:
        is_no_text = b"\0" in start or b"\0" in file.readline(line_codec.BLOCK)
    if is_no_text:
        codec = code_pages.WINDOWS_1252  # no text; the readers say so
        return Encoding(codec, "replace", code_pages.known_pages()[codec].name)
    return _older_encoding(path, shown, description, wrong)


def _seven_bit_japanese(path: Path, shown: str) -> Encoding | None:
    """Tell ISO-2022-JP: lines that go over to Japanese signs and back. A stray escape sequence is none."""
    japanese = first = others = 0
    with open(path, "rb") as file:
        if not any(b"\x1b" in block for block in iter(lambda: file.read(line_codec.BLOCK), b"")):
            return None
        file.seek(0)
        for number, line in enumerate(file, start=1):
            if line_codec.is_seven_bit_japanese(line):
                japanese, first = japanese + 1, first or number
                # Python goes on behind a line's end in the signs of the line; here each line begins in ASCII.
                others += not line.rpartition(b"\x1b")[2].startswith(b"(B")
            else:
                others += b"\x1b" in line or not line.isascii()
    if not japanese:
        return None
    name = code_pages.known_pages()[line_codec.SEVEN_BIT].name
    if not others:
        return Encoding(line_codec.SEVEN_BIT, "replace", name)
    lines, are = (f"{japanese:,} lines of it", "are") if japanese > 1 else ("1 line of it", "is")
    warning = f"{shown}: {lines} {are} {name} (the first: line {first:,}): look at them"
    return Encoding(f"{line_codec.LINES}{line_codec.SEVEN_BIT}", "replace", f"UTF-8, {lines} {name}", (warning,))


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
    if wrong := _first_error(path, codec):
        line, offset, byte = wrong
        raise InputError(
            f"{shown}:{line} is not in the encoding that data.encoding names: {wanted} has no character for "
            f"byte 0x{byte:02x} at offset {offset:,} of the file",
            "set data.encoding to null, or to the encoding that the file is in",
        )
    name = code_pages.known_pages()[codec].name if codec in code_pages.known_pages() else wanted
    warning = "" if mark is not None else _doubt_of_named(path, shown, wanted, codec)
    return Encoding(codec, "strict", f"{name} (data.encoding)", (warning,) if warning else ())


def _doubt_of_named(path: Path, shown: str, wanted: str, codec: str) -> str:
    """Say that what the user named makes an improbable text of the file, and what would make more sense."""
    if codec in ("utf-8", "utf-8-sig", "ascii") or _first_error(path, "ascii") is None:
        return ""
    if _first_error(path, "utf-8") is None:
        return f"{shown} is valid UTF-8, but read as {wanted}, as data.encoding says: look at the rows"
    if (pair := guess.better_than(_look_at_lines(path).head, codec)) is None:
        return ""
    read = code_pages.as_shown(pair).replace(f", {pair[1].codec} reads", f", where {pair[1].codec} reads", 1)
    return (
        f"{shown}: as data.encoding says, {read}, which makes more sense: "
        f"look at the rows, and at --set data.encoding={pair[1].codec}"
    )


def _first_error(path: Path, codec: str) -> tuple[int, int, int] | None:
    """Return the line, the offset in the file and the value of the first byte that is not in an encoding."""
    decoder = codecs.getincrementaldecoder(codec)()
    read = lines = 0  # before the current block
    with open(path, "rb") as file:
        while True:
            block = file.read(line_codec.BLOCK)
            pending = decoder.getstate()[0]
            try:
                decoder.decode(block, final=not block)
            except UnicodeDecodeError as error:
                offset = max(0, read - len(pending) + error.start)
                line = lines + block[: max(0, error.start - len(pending))].count(b"\n") + 1
                return line, offset, error.object[error.start]
            if not block:
                return None
            read, lines = read + len(block), lines + block.count(b"\n")


@dataclass
class _Sample:
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


def _look_at_lines(path: Path) -> _Sample:
    sample = _Sample()
    older: list[bytes] = []
    drawn: list[bytes] = []
    generator = random.Random(0)
    number, taken = 1, 0
    for line in line_codec.lines_of(path):
        at, number = number, number + line.count(b"\n")
        sample.lines += 1
        if line.isascii():
            continue
        if text := line_codec.utf8_text(line):
            if line_codec.is_surely_utf8(text):
                sample.utf8 += 1
                sample.known += text if len(sample.known) < SAMPLE else ""
            else:
                sample.perhaps += 1
                sample.short += [line] if sample.perhaps <= SAMPLED_LINES else []
            continue
        sample.older += 1
        sample.first_older = sample.first_older or at
        if sample.older <= LINES_WEIGHED:
            sample.mixed += [line] if line_codec.read_apart(line, code_pages.WINDOWS_1252) is not None else []
        if taken < SAMPLE:
            older.append(line if len(line) <= LONGEST_WHOLE else _parts(line))
            taken += len(older[-1])
        if len(line) > LONGEST_SAMPLED:
            continue
        if len(drawn) < SAMPLED_LINES:
            drawn.append(line)
        elif (index := generator.randrange(sample.older)) < SAMPLED_LINES:
            drawn[index] = line
    sample.head = b"".join(older)
    sample.spread = b"".join(drawn or older) if len(older) < sample.older else b""
    return sample


def _parts(line: bytes) -> bytes:
    """Return as much of a long line as is judged: at its first byte that is no UTF-8, in the middle, at the end."""
    try:
        wrong = len(line) - len(line.decode("utf-8").lstrip(_ASCII).encode())
    except UnicodeDecodeError as error:
        wrong = error.start
    size = SAMPLE // 3

    def between_words(near: int) -> int:
        # These signs are no part of a character anywhere.
        return max(line.rfind(sign, max(0, near - LONGEST_SAMPLED), near) for sign in (b" ", b'"', b",")) + 1 or near

    starts = [between_words(start) for start in (wrong, (wrong + len(line)) // 2, len(line) - size)]
    return b" ".join(line[start : between_words(start + size)] for start in starts)


def _older_encoding(path: Path, shown: str, description: str, wrong: tuple[int, int, int]) -> Encoding:
    """Find out what a file is that is no UTF-8, or not all of it.

    Args:
        path: the file.
        shown: what messages call it.
        description: what it would be if its lines were all like those that are UTF-8.
        wrong: its first byte that is no UTF-8, as ``_first_error`` returns it.
    """
    sample = _look_at_lines(path)
    language = likeliest_language(sample.known) if sample.known else ""
    if language_of(_UNKNOWN_WORD.sub(" ", sample.head.decode("ascii", "replace"))) not in (UNKNOWN, language):
        language = ""  # the lines that are no UTF-8 are in another language
    without_utf8 = _UTF8_CHARACTER.sub(" ", sample.head.decode("utf-8", "surrogateescape"))
    bare = without_utf8.encode("ascii", "surrogateescape")
    # At last as if nothing were known of the language: the other lines may be in another one.
    for data, of_language in dict.fromkeys([(sample.head, language), (bare, language), (bare, "")]):
        head = guess.guess_code_page(data, of_language)
        if head.reading is not None:
            break
    if head.reading is None:
        # Letters of an older encoding are to be read, the rest of a damaged character cannot be.
        are_letters = any(
            code_pages.is_latin(reading.codec)
            and not line_codec.CUT_CHARACTER.search(reading.data)
            and plausibility.best_latin_share(reading.text) >= code_pages.ENOUGH
            for reading in head.candidates
        )
        if are_letters or sample.utf8 + sample.perhaps < sample.older > MOST_DAMAGED * sample.lines:
            raise _refused(shown, wrong, head.candidates)
        return _of_lines(shown, description, sample, line_codec.NOTHING)
    codec = head.reading.codec
    is_joined = code_pages.is_latin(codec) and (
        any(line_codec.read_apart(line, codec) is not None for line in sample.mixed)
        or any(line_codec.is_rather_utf8(line, line.decode("utf-8"), codec) for line in sample.short)
    )
    if sample.utf8 or is_joined:
        return _of_lines(shown, description, sample, codec)
    spread = guess.guess_code_page(sample.spread, language) if sample.spread else head
    other = spread.reading
    if other is not None and other.codec != codec and other.data.decode(codec, "replace") != other.text:
        raise InputError(
            f"{shown} is no UTF-8, and its lines seem to be in several encodings: {head.reading.name} and {other.name}",
            _HINT.format(f" (perhaps {codec} or {other.codec})"),
        )
    warnings = _warnings(shown, head.reading, (*head.doubt, *spread.doubt))
    return Encoding(f"{line_codec.LINES}{codec}" if sample.perhaps else codec, "replace", head.reading.name, warnings)


def _of_lines(shown: str, description: str, sample: _Sample, codec: str) -> Encoding:
    """Return the encoding of a file of which some lines are no UTF-8, but of an older encoding or damaged."""
    lines, are = (f"{sample.older:,} lines of it", "are") if sample.older > 1 else ("1 line of it", "is")
    name = "damaged" if codec == line_codec.NOTHING else code_pages.known_pages()[codec].name
    if codec == line_codec.NOTHING:
        reason = "and in no encoding that can be told: the signs in question are lost"
    else:
        reason = f"as where files of two kinds were joined; read as {name}: look at the rows"
    first = f"the first: line {sample.first_older:,}"
    warning = f"{shown}: {lines} {are} no UTF-8 ({first}), {reason}"
    return Encoding(f"{line_codec.LINES}{codec}", "replace", f"{description}, {lines} {name}", (warning,))


def _warnings(shown: str, reading: code_pages.Reading, doubt: Sequence[code_pages.Reading]) -> tuple[str, ...]:
    if doubt:
        others = list({other.codec: other for other in doubt}.values())[:MOST_DOUBTED]
        data = others[0].data
        of_same_bytes = replace(reading, data=data, text=data.decode(reading.codec, "replace"))
        reason = f"is no UTF-8 and read as {reading.name}, but only a few words tell: "
        return (
            f"{shown} {reason}{code_pages.as_shown([of_same_bytes, *others])}. If the first is wrong, name "
            "the one that is right: --set data.encoding=NAME",
        )
    if reading.codec == code_pages.WINDOWS_1252:
        return ()
    return (
        f"{shown} is no UTF-8; by its letters it is {reading.name} ({code_pages.as_shown([reading])}): look at the "
        "rows, and if they are wrong name its encoding: --set data.encoding=NAME",
    )


def _refused(shown: str, wrong: tuple[int, int, int], candidates: Sequence[code_pages.Reading]) -> InputError:
    line, offset, byte = wrong
    words = f": {code_pages.as_shown(candidates)}" if candidates else ""
    perhaps = f", the one that reads its words right (perhaps {candidates[0].codec})" if candidates else ""
    return InputError(
        f"{shown}:{line} is no UTF-8 (byte 0x{byte:02x} at offset {offset:,}), and no older encoding reads it with "
        f"certainty{words}",
        _HINT.format(perhaps),
    )
