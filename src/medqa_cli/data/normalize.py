"""Texts and rows in a form to compare: without case, punctuation and spacing, and as 16-byte keys."""

import functools
import hashlib
import re
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

KEY_BYTES = 16
# What pandas, SQL, Python and spreadsheets write for a missing value. "NA" and "none" may be answers.
NOT_A_TEXT = frozenset({"nan", "NaN", "NULL", "null", "None", "<NA>", "#N/A", "\\N"})
NONE = "None"  # as an answer it may be one: the reason none_answer can be switched on for it


# Signs of comparison, charges, negative numbers, raised and lowered digits. One class, as alternatives are much slower.
_SIGNS = re.compile("[+<>≤≥±%=⁰¹²³⁴-⁹⁺⁻₀-₉−-]")
# Grave, acute and circumflex of vowels, the tilde of Portuguese ones, and the cedilla, behind their letters (NFD).
_ROMANCE_ACCENTS = re.compile("(?<=[aeiou])[\\u0300-\\u0302]|(?<=[ao])\\u0303|(?<=c)\\u0327")
_MINUS = ("-", "−")


class _NormalizeTable(dict[int, int]):
    """Maps letters, digits and combining marks to themselves, all else to a space; fills itself as it is used."""

    def __missing__(self, code: int) -> int:
        character = chr(code)
        # Marks count: without its vowel signs a word of Hindi or Thai is another word.
        kept = character.isalnum() or unicodedata.category(character).startswith("M")
        self[code] = code if kept else ord(" ")
        return self[code]


_TABLE = _NormalizeTable()


def normalize(text: str) -> str:
    """Return the text without case, punctuation and spacing, for comparison; a text of nothing else stays as it is."""
    return _normalized(text)[0]


def normalized_words(text: str) -> list[str]:
    """Return the words of the normalized text; callers must not change the list."""
    return _normalized(text)[1]


@functools.lru_cache(maxsize=8)  # the texts of a row are asked for several times, one row after the other
def _normalized(text: str) -> tuple[str, list[str]]:
    words = unicodedata.normalize("NFKC", text).casefold().translate(_TABLE).split()
    return " ".join(words) or text.strip(), words


def signs(text: str) -> str:
    """Return the signs that ``normalize`` drops and that yet make another text: >38 is not <38, HER2+ is not HER2-."""
    kept = []
    for sign in _SIGNS.finditer(text):
        if sign[0] in _MINUS:
            # A charge (HER2-) and a negative number (-5) count, hyphens between words and dashes do not.
            at = sign.start()
            before, after = text[at - 1 : at], text[at + 1 : at + 2]
            is_charge = before.isalnum() and not after.isalnum() and after not in _MINUS
            if not is_charge and (before.isalnum() or before in _MINUS or not after.isdigit()):
                continue
        kept.append(sign[0])
    return "".join(kept)


def key_of(*normalized: str) -> bytes:
    """Return the 16-byte key of one or more normalized texts, the same on every platform."""
    return hashlib.blake2b("\0".join(normalized).encode("utf-8"), digest_size=KEY_BYTES).digest()


def rank_of(seed: int, purpose: str, key: bytes) -> bytes:
    """Return the rank of a key in the order that the seed draws for a purpose."""
    return hashlib.blake2b(f"{seed}:{purpose}:".encode() + key, digest_size=KEY_BYTES).digest()


def is_empty(text: str) -> bool:
    """Tell whether a cell holds nothing that can be seen, or only a sign for a missing value."""
    seen = text.strip()
    return seen in NOT_A_TEXT or not (seen[:1].isalnum() or any(c.isprintable() and not c.isspace() for c in seen))


class RowKeys(NamedTuple):
    """The keys by which rows are compared; no topic: no key, a topic with two names: two keys.

    ``page`` is the key of what the row is from, its source.
    ``pair`` detects duplicates and respects signs; the others group rows and ignore them. ``opening`` is the key of the
    question with which the conversation of a row begins, if it is one.
    """

    pair: bytes
    question: bytes
    answer: bytes
    topics: tuple[bytes, ...]
    page: bytes = b""
    opening: bytes = b""


@functools.lru_cache(maxsize=1 << 14)
def page_key(source: str) -> bytes:
    """Return the key of a row's source; the fragment of an address (``#...``) is ignored."""
    return key_of("page", normalize(source.split("#")[0]))


def row_keys(texts: Sequence[str], normalized: Sequence[str], topic_names: Sequence[str], source: str = "") -> RowKeys:
    """Return the keys of a row.

    Args:
        texts: the question and the answer, cleaned.
        normalized: what ``normalize`` makes of them.
        topic_names: the names of its topic; none: it has no topic.
        source: what it is from, such as the address of a page.
    """
    question, answer = normalized
    return RowKeys(
        key_of(question, answer, *map(signs, texts)),
        key_of(question),
        key_of(answer),
        tuple(key_of(name) for name in topic_names),
        page_key(source),
    )


def without_romance_accents(text: str) -> str:
    """Return a lower-case text without the accents that Romance languages are typed without in a hurry.

    Letters of their own stay, such as ``ñ`` ("ano" is another word than "año") and all with two dots.
    """
    if text.isascii():
        return text
    return unicodedata.normalize("NFC", _ROMANCE_ACCENTS.sub("", unicodedata.normalize("NFD", text)))


def without_accents(text: str) -> str:
    """Return a text without the accents of its letters, as patients type it: "sintomas"."""
    if text.isascii():
        return text
    return "".join(sign for sign in unicodedata.normalize("NFD", text) if not unicodedata.combining(sign))
