"""The older encodings that are tried, and what a text reads as in each: its letters, and the words that differ.

The encodings stand in ``resources/encodings.yaml``.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

from medqa_cli.resources import load_yaml

WINDOWS_1252 = "cp1252"
ENOUGH = 0.9  # of what is beyond ASCII has to make sense
IMPROBABLE = 0.5  # less than this makes sense
_EAST_ASIAN = ("Chinese", "Japanese", "Korean")
_MOST_WORDS = 2000
_LONGEST_SHOWN = 24  # characters of a word
_SHOWN_WORDS = 2
_ORDINARY = 9  # letters of a word
# Words of one encoding of a byte, or of several in East Asia, where a second byte may be an ASCII letter.
# From the start of a word on, and without going back: a long word of plain letters is looked at once.
_LETTERS = re.compile(rb"(?<![A-Za-z\x80-\xff])[A-Za-z]*+[\x80-\xff][A-Za-z\x80-\xff]*+")
_BETWEEN_SPACES = re.compile(rb"(?<![\x40-\xff])[\x40-\x7f]*+[\x80-\xff][\x40-\xff]*+")


class CodePage(NamedTuple):
    """An encoding that is tried: its name as people know it, the script it was made for, and whether it is rare."""

    name: str
    script: str
    is_rare: bool


@cache
def known_pages() -> Mapping[str, CodePage]:
    """Return the encodings by Python's names of their codecs; of two that read a text alike the first is taken."""
    table = load_yaml("encodings")
    return {
        codec: CodePage(name, script, kind == "rare")
        for kind in ("common", "rare")
        for codec, (name, script) in table[kind].items()
    }


def is_latin(codec: str) -> bool:
    """Tell whether an encoding is one of those for Latin letters."""
    return codec in known_pages() and known_pages()[codec].script == "Latin"


@dataclass(frozen=True)
class Reading:
    """A way to read some bytes: the codec, the bytes, the text, and the share (0 to 1) of what makes sense in it."""

    codec: str
    data: bytes
    text: str
    score: float

    @property
    def name(self) -> str:
        """The name of the encoding as people know it."""
        return known_pages()[self.codec].name


def letters_of(text: str) -> str:
    """Return the letters of a text, in which readings have to differ to be different."""
    return "".join(filter(str.isalpha, text))


def deciding_words(a: Reading, b: Reading) -> list[tuple[str, str]]:
    """Return the words in which two readings of the same bytes differ, each once, as both have them."""
    tokens = list(dict.fromkeys(_tokens(a.data, (a.codec, b.codec))))[:_MOST_WORDS]
    pairs = ((token.decode(a.codec, "replace"), token.decode(b.codec, "replace")) for token in tokens)
    return [(in_a, in_b) for in_a, in_b in pairs if in_a != in_b and any(map(str.isalpha, in_a + in_b))]


def as_shown(readings: Sequence[Reading]) -> str:
    """Show how readings have the words in which they differ most: ``cp852 reads "gyógyszer", cp850 "gyàgyszer"``.

    Args:
        readings: of the same bytes.
    """
    codecs = [reading.codec for reading in readings]
    tokens = dict.fromkeys(_tokens(readings[0].data, codecs))
    read: dict[bytes, list[str]] = {}
    for token in list(tokens)[:_MOST_WORDS]:
        decoded = [token.decode(codec, "replace") for codec in codecs]
        words = ["".join(sign if sign.isprintable() else "\ufffd" for sign in word) for word in decoded]
        read[token] = [word if len(word) <= _LONGEST_SHOWN else f"{word[:_LONGEST_SHOWN]}..." for word in words]
    # The words that tell most readings apart; of these, those of an ordinary length.
    best = sorted(read, key=lambda token: (-len(set(read[token])), abs(len(token) - _ORDINARY)))[:_SHOWN_WORDS]
    best = [token for token in best if len(set(read[token])) > 1] or best
    return ", ".join(
        f"{codec} reads " + " and ".join(f'"{read[token][number]}"' for token in best)
        for number, codec in enumerate(codecs)
    )


def _tokens(data: bytes, codecs: Sequence[str]) -> Iterator[bytes]:
    pages = known_pages()
    east_asian = any(pages[codec].script.endswith(_EAST_ASIAN) for codec in codecs if codec in pages)
    for match in (_BETWEEN_SPACES if east_asian else _LETTERS).finditer(data):
        yield match[0]
