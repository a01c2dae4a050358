"""The set of five-word runs of a text as hashes (shingles), its MinHash signature, and how far two sets overlap.

In scripts that put no spaces between words (Chinese, Japanese, Thai, Lao, Khmer, Burmese) each character counts as a
word. How many numbers of two signatures agree estimates the Jaccard similarity of the sets (Broder 1997, "On the
resemblance and containment of documents"). The permutations are multiply-add modulo 2**32 with odd factors
(Dietzfelbinger et al. 1997, "A reliable randomized algorithm for the closest-pair problem"), on hashes that are mixed
already. ``datasketch`` would take twice the time, and 0.6 s for the import of SciPy. All is the same on every platform.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

NUM_PERM = 200
SEED = 1
ITEMS_AT_A_TIME = 1024  # 0.8 MB of permuted hashes: they stay in the cache of the core
SHINGLE_WORDS = 5
WORDS_AT_A_TIME = 1 << 15
SHORT_RUNS = 20  # fewer: a text of less than 24 words
MOST_WORDS_CACHED = 1 << 20

MIX = 0x9E3779B97F4A7C15  # 2**64 divided by the golden ratio: Knuth's multiplicative hashing

# Han with Bopomofo and kana, Thai, Lao, Burmese, Khmer with their digits and marks.
_UNSPACED = (
    "\u3005-\u3007\u3040-\u312f\u31a0-\u31bf\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af"
    "\u0e00-\u0eff\u1000-\u109f\ua9e0-\ua9ff\uaa60-\uaa7f\u1780-\u17ff\u19e0-\u19ff"
)
_HAS_UNSPACED = re.compile(f"[{_UNSPACED}]")
_WORDS = re.compile(f"[{_UNSPACED}]|[^{_UNSPACED}\\s]+")


class _WordHashes(dict[str, int]):
    """64-bit hashes of words, the same on every platform; forgets them all when they become too many."""

    def __missing__(self, word: str) -> int:
        if len(self) >= MOST_WORDS_CACHED:
            self.clear()
        value = int.from_bytes(hashlib.blake2b(word.encode("utf-8"), digest_size=8).digest(), "little")
        self[word] = value
        return value


_WORD_HASHES = _WordHashes()


def words_of(normalized: str) -> list[str]:
    """Return the words of a normalized text; a character of a script without spaces is a word of its own."""
    if normalized.isascii() or not _HAS_UNSPACED.search(normalized):
        return normalized.split()
    return _WORDS.findall(normalized)


def num_words(normalized: str) -> tuple[int, bool]:
    """Return the number of words of a normalized text, and whether there are signs among them that count as words."""
    are_signs = not normalized.isascii() and _HAS_UNSPACED.search(normalized) is not None
    return len(_WORDS.findall(normalized)) if are_signs else normalized.count(" ") + 1, are_signs


def shingles(normalized: str) -> NDArray[np.uint64]:
    """Return the set of hashed runs of five words of a normalized text.

    Args:
        normalized: the text as ``normalize`` returns it; one of fewer than five words counts as one run.

    Returns:
        sorted distinct hashes, uint64, shape ``(n,)`` with n >= 1.
    """
    return next(shingle_sets([normalized]))


def shingle_sets(texts: Iterable[str]) -> Iterator[NDArray[np.uint64]]:
    """Yield the ``shingles`` of each of many texts, in a third of the time: numpy's calls are for many at once."""
    words, lengths = list[str](), list[int]()
    for text in texts:
        own = words_of(text)
        words += own if len(own) >= SHINGLE_WORDS else [text] * SHINGLE_WORDS
        lengths.append(len(own))
        if len(words) >= WORDS_AT_A_TIME:
            yield from _sets(words, lengths)
            words, lengths = [], []
    if lengths:
        yield from _sets(words, lengths)


def _sets(words: list[str], lengths: Sequence[int]) -> list[NDArray[np.uint64]]:
    """Return the sets of texts whose words stand one behind the other, those with too few words five times."""
    hashes = np.fromiter(map(_WORD_HASHES.__getitem__, words), dtype=np.uint64, count=len(words))
    mixed = hashes[: len(words) - SHINGLE_WORDS + 1].copy()
    for offset in range(1, SHINGLE_WORDS):
        mixed *= np.uint64(MIX)
        mixed ^= mixed >> np.uint64(29)
        mixed += hashes[offset : offset + len(mixed)]
    sets, start = [], 0
    for length in lengths:
        end = start + max(length - SHINGLE_WORDS, 0) + 1
        if length < SHINGLE_WORDS:
            mixed[start] = hashes[start]
        mixed[start:end].sort()  # and no np.unique, which takes four times as long for so few
        sets.append((start, end))
        start = end + SHINGLE_WORDS - 1
    is_new = np.empty(len(mixed), dtype=np.bool_)
    np.not_equal(mixed[1:], mixed[:-1], out=is_new[1:])
    is_new[[start for start, _ in sets]] = True
    return [mixed[start:end][is_new[start:end]] for start, end in sets]


def jaccard(one: NDArray[np.uint64], other: NDArray[np.uint64]) -> float:
    """Return the size of the intersection of two sets of ``shingles`` divided by that of their union."""
    both = np.concatenate((one, other))
    both.sort()
    shared = int(np.count_nonzero(both[1:] == both[:-1]))
    return shared / (len(both) - shared)


def are_near(one: NDArray[np.uint64], others: Sequence[NDArray[np.uint64]], threshold: float) -> NDArray[np.bool_]:
    """Tell which of several texts are near copies of one: their sets overlap by the threshold (``jaccard``) or more.

    A short text says one thing, so that one word more or less at its edge may leave a copy, but another word does not:
    "a fracture of the jaw" is not "a fracture of the rib". There one set has to hold the other as well.

    Args:
        one: a set as ``shingles`` returns it.
        others: at least one such set.
        threshold: above 0 and at most 1.

    Returns:
        bool, shape ``(len(others),)``.
    """
    sizes = np.array([len(other) for other in others])
    joined = np.concatenate(others)
    place = np.searchsorted(one, joined)
    place[place == len(one)] = 0
    shared = np.add.reduceat(one[place] == joined, np.cumsum(sizes) - sizes, dtype=np.int64)
    smaller = np.minimum(sizes, len(one))
    overlapping = shared / (len(one) + sizes - shared) >= threshold
    return np.asarray(overlapping & ((smaller >= SHORT_RUNS) | (shared == smaller)))


@functools.cache
def _permutations() -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """Return factors and offsets, uint32, shape (``NUM_PERM``, 1). ``RandomState`` draws the same ones for ever."""
    factors, offsets = np.random.RandomState(SEED).randint(0, 1 << 32, size=(2, NUM_PERM, 1), dtype=np.uint32)
    return factors | np.uint32(1), offsets


def signature(items: NDArray[np.uint64]) -> NDArray[np.uint32]:
    """Return the least hash of a set under each permutation.

    Args:
        items: hashes whose upper halves are well mixed, uint64, shape (n,) with n >= 1.

    Returns:
        uint32, shape (``NUM_PERM``,).
    """
    factors, offsets = _permutations()
    hashes = (items >> np.uint64(32)).astype(np.uint32)
    permuted = np.empty((NUM_PERM, min(len(hashes), ITEMS_AT_A_TIME)), dtype=np.uint32)
    least: NDArray[np.uint32] | None = None
    for start in range(0, len(hashes), ITEMS_AT_A_TIME):
        part = hashes[start : start + ITEMS_AT_A_TIME]
        some = permuted[:, : len(part)]
        np.multiply(factors, part, out=some)
        some += offsets
        found = some.min(axis=1)
        least = found if least is None else np.minimum(least, found)
    assert least is not None, "a set without items has no signature"
    return least
