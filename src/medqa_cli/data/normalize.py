"""Which rows are kept: folded texts and their keys, empty rows, duplicates, copies of an answer, the draw of max_rows.

Keeps 16-byte keys, not texts. Does not find near duplicates.
"""

from __future__ import annotations

import functools
import hashlib
import heapq
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

KEY_BYTES = 16
ID_DIGITS = 16
# What pandas, SQL, Python and spreadsheets write for a missing value. "NA" and "none" may be answers.
NOT_A_TEXT = frozenset({"nan", "NaN", "NULL", "null", "None", "<NA>", "#N/A", "\\N"})
NONE = "None"  # as an answer it may be one: the reason none_answer can be switched on for it


# Signs of comparison, charges, negative numbers, raised and lowered digits. One class, as alternatives are much slower.
_SIGNS = re.compile("[+<>≤≥±%=⁰¹²³⁴-⁹⁺⁻₀-₉−-]")
_MINUS = ("-", "−")


class _FoldTable(dict[int, int]):
    """Maps letters, digits and combining marks to themselves, all else to a space; fills itself as it is used."""

    def __missing__(self, code: int) -> int:
        character = chr(code)
        # Marks count: without its vowel signs a word of Hindi or Thai is another word.
        kept = character.isalnum() or unicodedata.category(character).startswith("M")
        self[code] = code if kept else ord(" ")
        return self[code]


_FOLD_TABLE = _FoldTable()


def normalize(text: str) -> str:
    """Return the text without case, punctuation and spacing, for comparison; a text of nothing else stays as it is."""
    folded = unicodedata.normalize("NFKC", text).casefold().translate(_FOLD_TABLE)
    return " ".join(folded.split()) or text.strip()


def signs(text: str) -> str:
    """Return the signs that ``normalize`` drops and that yet make another text: >38 is not <38, HER2+ is not HER2-."""
    return "".join(sign[0] for sign in _SIGNS.finditer(text) if sign[0] not in _MINUS or _is_minus(text, sign.start()))


def _is_minus(text: str, place: int) -> bool:
    """Tell a charge (HER2-) and a negative number (-5) from hyphens between words and from dashes."""
    before, after = text[place - 1 : place], text[place + 1 : place + 2]
    if before.isalnum():
        return not after.isalnum() and after not in _MINUS
    return after.isdigit() and before not in _MINUS


def key_of(*folded: str) -> bytes:
    """Return the 16-byte key of one or more folded texts, the same on every platform."""
    return hashlib.blake2b("\0".join(folded).encode("utf-8"), digest_size=KEY_BYTES).digest()


def rank_of(seed: int, purpose: str, key: bytes) -> bytes:
    """Return where a key stands in the order that the seed draws for a purpose."""
    return hashlib.blake2b(f"{seed}:{purpose}:".encode() + key, digest_size=KEY_BYTES).digest()


def is_empty(text: str) -> bool:
    """Tell whether a cell holds nothing that can be seen, or only a sign for a missing value."""
    seen = text.strip()
    return seen in NOT_A_TEXT or not any(c.isprintable() and not c.isspace() for c in seen)


def draw(keys: Sequence[bytes], max_rows: int | None, seed: int) -> list[bool]:
    """Draw at most ``max_rows`` rows by the seed; which ones does not depend on their order.

    Returns:
        for each row whether it is drawn.
    """
    if max_rows is None or len(keys) <= max_rows:
        return [True] * len(keys)
    drawn = set(heapq.nsmallest(max_rows, range(len(keys)), key=lambda index: rank_of(seed, "draw", keys[index])))
    return [index in drawn for index in range(len(keys))]


@dataclass(frozen=True, slots=True)
class RowKeys:
    """The keys by which rows are compared; no topic: no key, a topic with two names: two keys.

    ``page`` is the key of what the row is from, its source.
    ``pair`` tells duplicates and minds signs; the others keep splits apart and do not, so that they join more.
    """

    pair: bytes
    question: bytes
    answer: bytes
    topics: tuple[bytes, ...]
    page: bytes = b""


@functools.lru_cache(maxsize=1 << 14)
def page_key(source: str) -> bytes:
    """Return the key of a row's source; the part of an address that names a place within its page is left aside."""
    return key_of("page", normalize(source.split("#")[0]))


def row_keys(question: str, answer: str, folded_answer: str, topic_names: Sequence[str], source: str = "") -> RowKeys:
    """Return the keys of a row.

    Args:
        question: the question, cleaned.
        answer: the answer, cleaned.
        folded_answer: what ``normalize`` makes of it.
        topic_names: the names of its topic; none: it has no topic.
        source: what it is from, such as the address of a page.
    """
    folded_question = normalize(question)
    return RowKeys(
        key_of(folded_question, folded_answer, signs(question), signs(answer)),
        key_of(folded_question),
        key_of(folded_answer),
        tuple(key_of(name) for name in topic_names),
        page_key(source),
    )


@dataclass
class Screen:
    """Lets rows through in the order of the file and remembers the keys of those; ``reasons`` are those that count."""

    max_copies_of_an_answer: int | None
    reasons: Collection[str]
    _pairs: set[bytes] = field(default_factory=set)
    _answers: Counter[bytes] = field(default_factory=Counter)

    def refusal(self, keys: RowKeys) -> str | None:
        """Return why a row is rejected for the rows before it, or None: then it counts as let through."""
        if keys.pair in self._pairs and "exact_duplicate" in self.reasons:
            return "exact_duplicate"
        limit = self.max_copies_of_an_answer
        if limit is not None and self._answers[keys.answer] >= limit and "over_copy_limit" in self.reasons:
            return "over_copy_limit"
        self._pairs.add(keys.pair)
        self._answers[keys.answer] += 1
        return None


def unusable(question: str, answer: str, *others: str) -> str | None:
    """Return why a row cannot be used whatever the other rows are, or None; ``others`` are its further texts."""
    for text in (question, answer, *others):
        if "\0" in text:
            return "nul_byte"
        if not _is_encodable(text):
            return "invalid_unicode"
    if is_empty(question):
        return "empty_question"
    return "empty_answer" if is_empty(answer) and answer.strip() != NONE else None


def _is_encodable(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def unique_id(pair: bytes, taken: Counter[str]) -> str:
    """Return the id of a row: 16 digits of its key, with ``-2`` for the second row that has the same ones."""
    short = pair.hex()[:ID_DIGITS]
    taken[short] += 1
    return short if taken[short] == 1 else f"{short}-{taken[short]}"
