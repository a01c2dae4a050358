"""The set of runs of five words of a text, hashed, and how far two such sets overlap. The same on every platform.

In scripts that put no spaces between words (Chinese, Japanese, Thai, Lao, Khmer, Burmese) each character counts as a
word. Does not look for near copies: ``near_duplicates`` does.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SHINGLE_WORDS = 5
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


def words_of(folded: str) -> list[str]:
    """Return the words of a folded text; a character of a script without spaces is a word of its own."""
    if folded.isascii() or not _HAS_UNSPACED.search(folded):
        return folded.split()
    return _WORDS.findall(folded)


def shingles(folded: str) -> NDArray[np.uint64]:
    """Return the set of hashed runs of five words of a folded text.

    Args:
        folded: the text as ``dedup.fold`` returns it; one of fewer than five words counts as one run.

    Returns:
        sorted distinct hashes, uint64, shape ``(n,)`` with n >= 1.
    """
    import numpy as np

    words = words_of(folded)
    if len(words) < SHINGLE_WORDS:
        return np.array([_WORD_HASHES[folded]], dtype=np.uint64)
    hashes = np.fromiter(map(_WORD_HASHES.__getitem__, words), dtype=np.uint64, count=len(words))
    runs = len(words) - SHINGLE_WORDS + 1
    mixed = hashes[:runs].copy()
    for offset in range(1, SHINGLE_WORDS):
        mixed *= np.uint64(MIX)
        mixed ^= mixed >> np.uint64(29)
        mixed += hashes[offset : offset + runs]
    mixed.sort()  # and no np.unique, which takes four times as long for so few
    is_new = np.empty(runs, dtype=np.bool_)
    is_new[0] = True
    np.not_equal(mixed[1:], mixed[:-1], out=is_new[1:])
    return mixed[is_new]


def jaccard(one: NDArray[np.uint64], other: NDArray[np.uint64]) -> float:
    """Return the size of the intersection of two sets of ``shingles`` divided by that of their union."""
    import numpy as np

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
    import numpy as np

    sizes = np.array([len(other) for other in others])
    joined = np.concatenate(others)
    place = np.searchsorted(one, joined)
    place[place == len(one)] = 0
    shared = np.add.reduceat(one[place] == joined, np.cumsum(sizes) - sizes, dtype=np.int64)
    smaller = np.minimum(sizes, len(one))
    overlapping = shared / (len(one) + sizes - shared) >= threshold
    return np.asarray(overlapping & ((smaller >= SHORT_RUNS) | (shared == smaller)))
