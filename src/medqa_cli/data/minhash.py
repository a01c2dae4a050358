"""The set of five-word runs of a text as hashes (shingles), its MinHash signature, and how far two sets overlap.

In scripts that put no spaces between words (Chinese, Japanese, Thai, Lao, Khmer, Burmese) each character counts as a
word. How many numbers of two signatures agree estimates the Jaccard similarity of the sets (Broder 1997, "On the
resemblance and containment of documents"). The permutations are multiply-add modulo 2**32 with odd factors
(Dietzfelbinger et al. 1997, "A reliable randomized algorithm for the closest-pair problem"), on hashes that are mixed
already. ``datasketch`` would take twice the time, and 0.6 s for the import of SciPy. All is the same on every platform.

``NearSearch`` compares the pairs whose signatures agree in one of their bands (Leskovec, Rajaraman and Ullman, "Mining
of Massive Datasets", chapter 3); a pair at the threshold is overlooked with a probability below ``MISS_PROBABILITY``.
"""

import functools
import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

NUM_PERM = 200
SEED = 1
ITEMS_AT_A_TIME = 1024  # 0.8 MB of permuted hashes: they stay in the cache of the core
SHINGLE_WORDS = 5
WORDS_AT_A_TIME = 1 << 15
SHORT_RUNS = 20  # fewer: a text of less than 24 words
MOST_WORDS_CACHED = 1 << 20

# Of the search.
MISS_PROBABILITY = 1e-6
STANDARD_DEVIATIONS = 5.5  # of the signature's estimate, below which a pair is skipped: one miss in 50 million
QUICK_LOOKS = 3
QUERY_BLOCK = 16384
PAIR_BLOCK = 1 << 15
MOST_PAIRS = 1 << 21
SETS_AT_A_TIME = 64
MOST_ITEMS_CACHED = 1 << 23  # 64 MiB of sets
NOT_FOUND = -1
KEY_BITS = 32
# Slots of the table of the targets' keys, a target: one slot in 32 is taken by chance.
TABLE_PLACES_PER_TARGET = 32
MOST_TABLE_BITS = 24

Numbers = NDArray[np.int64]

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


def shingle_sets(texts: Iterable[str]) -> Iterator[NDArray[np.uint64]]:
    """Yield the set of hashed runs of five words of each of many texts: numpy's calls are for many at once.

    Args:
        texts: as ``normalize`` returns them; one of fewer than five words counts as one run.

    Yields:
        sorted distinct hashes, uint64, shape ``(n,)`` with n >= 1.
    """
    words, lengths = list[str](), list[int]()
    for text in texts:
        of_text = words_of(text)
        words += of_text if len(of_text) >= SHINGLE_WORDS else [text] * SHINGLE_WORDS
        lengths.append(len(of_text))
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


def are_near(items: NDArray[np.uint64], others: Sequence[NDArray[np.uint64]], threshold: float) -> NDArray[np.bool_]:
    """Tell which of several texts are near copies of one: their sets overlap by the threshold or more.

    A short text says one thing, so that one word more or less at its edge may leave a copy, but another word does not:
    "a fracture of the jaw" is not "a fracture of the rib". There one set has to hold the other as well.

    Args:
        items: a set as ``shingle_sets`` yields it.
        others: at least one such set.
        threshold: of the size of the intersection divided by that of the union (Jaccard), above 0 and at most 1.

    Returns:
        bool, shape ``(len(others),)``.
    """
    sizes = np.array([len(other) for other in others])
    joined = np.concatenate(others)
    position = np.searchsorted(items, joined)
    position[position == len(items)] = 0
    shared = np.add.reduceat(items[position] == joined, np.cumsum(sizes) - sizes, dtype=np.int64)
    smaller = np.minimum(sizes, len(items))
    overlapping = shared / (len(items) + sizes - shared) >= threshold
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
        minima = some.min(axis=1)
        least = minima if least is None else np.minimum(least, minima)
    assert least is not None, "a set without items has no signature"
    return least


def bands(threshold: float) -> tuple[int, int]:
    """Return how many bands of how many rows a signature is cut into: the longest bands that overlook hardly a pair."""
    fitting = 1
    for rows in range(1, NUM_PERM // 2 + 1):
        if (1 - threshold**rows) ** (NUM_PERM // rows) > MISS_PROBABILITY:
            break
        fitting = rows
    return NUM_PERM // fitting, fitting


def band_keys(signatures: NDArray[np.uint32], num_bands: int, band_rows: int) -> NDArray[np.uint32]:
    """Return a key for each band of each signature: shape (n, ``NUM_PERM``) becomes (n, ``num_bands``).

    A collision of these 32 bits costs one needless comparison.
    """
    used = signatures[:, : num_bands * band_rows].astype(np.uint64)
    keys = np.zeros((len(signatures), num_bands), dtype=np.uint64)
    for row in range(band_rows):
        keys = (keys ^ used[:, row::band_rows]) * np.uint64(MIX)
        keys ^= keys >> np.uint64(31)
    return (keys >> np.uint64(16)).astype(np.uint32)


class NearSearch:
    """Finds for sketches a near copy among fixed targets."""

    def __init__(
        self,
        threshold: float,
        sizes: Numbers,
        band_keys: NDArray[np.uint32],
        signatures: NDArray[np.uint8],
        read_set: Callable[[int], NDArray[np.uint64]],
        targets: Numbers,
    ) -> None:
        """Sort the targets by their keys, band by band.

        Args:
            threshold: Jaccard similarity from which on two of n sketches are near copies.
            sizes: number of items of each set, shape (n,).
            band_keys: a key per band, shape (n, bands).
            signatures: the low byte of each minimum, shape (n, ``NUM_PERM``).
            read_set: returns the set of a sketch.
            targets: the numbers of those to compare with, ascending.
        """
        self._threshold, self._sizes, self._keys, self._signatures = threshold, sizes, band_keys, signatures
        self._read_set, self._targets = read_set, targets
        self._order = [np.argsort(band_keys[targets, band], kind="stable") for band in range(band_keys.shape[1])]
        self._sorted = [band_keys[targets[order], band] for band, order in enumerate(self._order)]
        bits = min(MOST_TABLE_BITS, (TABLE_PLACES_PER_TARGET * len(targets)).bit_length())
        self._shift = np.uint32(KEY_BITS - bits)
        self._tables = [np.zeros(1 << bits, dtype=np.bool_) for _ in self._sorted]
        for table, ordered in zip(self._tables, self._sorted, strict=True):
            table[ordered >> self._shift] = True
        # The last sets that were read: templates are compared with the same ones again and again.
        self._sets: dict[int, NDArray[np.uint64]] = {}
        self._items_cached = 0
        agreeing = threshold + (1 - threshold) / 256  # low bytes also agree by chance
        deviation = (agreeing * (1 - agreeing) / NUM_PERM) ** 0.5
        self._least_agreeing = int(NUM_PERM * (agreeing - STANDARD_DEVIATIONS * deviation))

    def find(self, asked: Numbers) -> Numbers:
        """Return for each sketch the index of a target that is a near copy, or ``NOT_FOUND``."""
        copies = np.full(len(asked), NOT_FOUND, dtype=np.int64)
        for start in range(0, len(asked), QUERY_BLOCK):
            block = np.arange(start, min(start + QUERY_BLOCK, len(asked)))
            # Where in each band's order the targets with the same key begin and end: shape (bands, block).
            keys = self._keys[asked[block]]
            low = np.zeros((keys.shape[1], len(block)), dtype=np.int64)
            high = np.zeros_like(low)
            for band, ordered in enumerate(self._sorted):
                # Most keys are no target's: one lookup in a table saves the search.
                some = np.flatnonzero(self._tables[band][keys[:, band] >> self._shift])
                low[band, some] = np.searchsorted(ordered, keys[some, band], "left")
                high[band, some] = np.searchsorted(ordered, keys[some, band], "right")
            # One pair from each of the first bands.
            looks = range(min(QUICK_LOOKS, len(self._order)))
            full = [high[band] > low[band] for band in looks]
            numbers = [block[full[band]] for band in looks]
            targets = [self._order[band][low[band][full[band]]] for band in looks]
            self._look(asked, copies, np.concatenate(numbers), np.concatenate(targets))
            # Where all answers are alike, each bucket holds all of them: the quick check has found one by then.
            open_ = copies[block] == NOT_FOUND
            for part, part_low, part_high in _parts(block[open_], low[:, open_], high[:, open_]):
                self._look(asked, copies, *self._all_of_buckets(part, part_low, part_high))
        return copies

    def _all_of_buckets(self, block: Numbers, low: Numbers, high: Numbers) -> tuple[Numbers, Numbers]:
        """Return all pairs (number in ``asked``, index of a target) that share a bucket, each once."""
        pairs = []
        for band, order in enumerate(self._order):
            counts = high[band] - low[band]
            within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
            targets = order[within + np.repeat(low[band], counts)]
            pairs.append(np.repeat(block, counts) * len(self._targets) + targets)
        distinct = np.unique(np.concatenate(pairs))
        return distinct // len(self._targets), distinct % len(self._targets)

    def _look(self, asked: Numbers, copies: Numbers, numbers: Numbers, targets: Numbers) -> None:
        """Compare pairs, and note for each number in ``asked`` the first target that is a near copy."""
        for start in range(0, len(numbers), PAIR_BLOCK):
            part = slice(start, start + PAIR_BLOCK)
            ones, others = asked[numbers[part]], self._targets[targets[part]]
            # Without pairs whose sizes rule the threshold out, or whose signatures make it all but impossible.
            small = np.minimum(self._sizes[ones], self._sizes[others])
            large = np.maximum(self._sizes[ones], self._sizes[others])
            kept = np.flatnonzero(small >= self._threshold * large)
            agreeing = np.count_nonzero(self._signatures[ones[kept]] == self._signatures[others[kept]], axis=1)
            kept = kept[agreeing >= self._least_agreeing]
            ordered = kept[np.argsort(numbers[part][kept], kind="stable")]
            left_numbers, left_targets = numbers[part][ordered], targets[part][ordered]
            distinct, first = np.unique(left_numbers, return_index=True)
            # Without a pair there is nothing to cut, which np.split returns as one empty piece.
            for number, candidates in zip(distinct.tolist(), np.split(left_targets, first[1:]), strict=False):
                if copies[number] == NOT_FOUND:
                    copies[number] = self._first_near(int(asked[number]), candidates.tolist())

    def _first_near(self, asked: int, candidates: list[int]) -> int:
        items = self._read_set(asked)
        for start in range(0, len(candidates), SETS_AT_A_TIME):
            part = candidates[start : start + SETS_AT_A_TIME]
            if self._items_cached > MOST_ITEMS_CACHED:
                self._sets.clear()
                self._items_cached = 0
            for index in part:
                if index not in self._sets:
                    self._sets[index] = self._read_set(int(self._targets[index]))
                    self._items_cached += len(self._sets[index])
            near = np.flatnonzero(are_near(items, [self._sets[index] for index in part], self._threshold))
            if len(near):
                return part[int(near[0])]
        return NOT_FOUND


def _parts(block: Numbers, low: Numbers, high: Numbers) -> Iterator[tuple[Numbers, Numbers, Numbers]]:
    """Cut a block so that no part makes more than ``MOST_PAIRS`` pairs (but for a single sketch with more)."""
    pairs = (high - low).sum(axis=0)
    start = total = 0
    for index, count in enumerate(pairs.tolist()):
        if total and total + count > MOST_PAIRS:
            yield block[start:index], low[:, start:index], high[:, start:index]
            start, total = index, 0
        total += count
    if start < len(block):
        yield block[start:], low[:, start:], high[:, start:]
