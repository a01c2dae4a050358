"""Compares answers with a fixed set of others by their signatures, and exactly where these make it likely.

Cheapest check first: a shared band of the signature, the sizes of the sets, the whole signature, the sets themselves.
Does not make signatures: ``near_duplicates`` does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from medqa_cli.data.minhash import NUM_PERM
from medqa_cli.data.shingles import are_near

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

STANDARD_DEVIATIONS = 5.5  # of the signature's estimate, below which a pair is not looked at: one miss in 50 million
QUICK_LOOKS = 3
QUERY_BLOCK = 16384
PAIR_BLOCK = 1 << 15
MOST_PAIRS = 1 << 21
SETS_AT_A_TIME = 64
MOST_ITEMS_CACHED = 1 << 23  # 64 MiB of sets
NOT_FOUND = -1
KEY_BITS = 32
# Places of the table that tells whether some target may have a key: one in 32 is taken by chance.
TABLE_PLACES_PER_TARGET = 32
MOST_TABLE_BITS = 24


@dataclass(frozen=True)
class SketchArrays:
    """What is known of n distinct answers.

    ``sizes``: number of items of each set, int64, shape (n,). ``band_keys``: a key per band, uint32, shape (n, bands).
    ``signatures``: the low byte of each minimum, uint8, shape (n, ``NUM_PERM``). ``read_set`` returns the set of one.
    """

    threshold: float
    sizes: NDArray[np.int64]
    band_keys: NDArray[np.uint32]
    signatures: NDArray[np.uint8]
    read_set: Callable[[int], NDArray[np.uint64]]


class NearSearch:
    """Finds for sketches a near copy among fixed targets."""

    def __init__(self, sketches: SketchArrays, targets: NDArray[np.int64]) -> None:
        """Sort the targets by their keys, band by band.

        Args:
            sketches: the sketches.
            targets: the numbers of those to compare with, int64, ascending.
        """
        import numpy as np

        self._sketches = sketches
        self._targets = targets
        keys = sketches.band_keys
        self._order = [np.argsort(keys[targets, band], kind="stable") for band in range(keys.shape[1])]
        self._sorted = [keys[targets[order], band] for band, order in enumerate(self._order)]
        bits = min(MOST_TABLE_BITS, (TABLE_PLACES_PER_TARGET * len(targets)).bit_length())
        self._shift = np.uint32(KEY_BITS - bits)
        self._tables = [_table(ordered >> self._shift, bits) for ordered in self._sorted]
        self._sets: dict[int, NDArray[np.uint64]] = {}
        self._items_cached = 0
        agreeing = sketches.threshold + (1 - sketches.threshold) / 256  # low bytes also agree by chance
        deviation = (agreeing * (1 - agreeing) / NUM_PERM) ** 0.5
        self._least_agreeing = int(NUM_PERM * (agreeing - STANDARD_DEVIATIONS * deviation))

    def find(self, asked: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return for each sketch the index of a target that is a near copy, or ``NOT_FOUND``."""
        import numpy as np

        found = np.full(len(asked), NOT_FOUND, dtype=np.int64)
        for start in range(0, len(asked), QUERY_BLOCK):
            block = np.arange(start, min(start + QUERY_BLOCK, len(asked)))
            low, high = self._buckets(asked[block])
            self._look(asked, found, *self._first_of_buckets(block, low, high))
            # Where all answers are alike, each bucket holds all of them: the quick look has found one by then.
            open_ = found[block] == NOT_FOUND
            for part, part_low, part_high in _parts(block[open_], low[:, open_], high[:, open_]):
                self._look(asked, found, *self._all_of_buckets(part, part_low, part_high))
        return found

    def _buckets(self, asked: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return where in each band's order the targets with the same key begin and end: shape (bands, asked)."""
        import numpy as np

        keys = self._sketches.band_keys[asked]
        low = np.zeros((keys.shape[1], len(asked)), dtype=np.int64)
        high = np.zeros_like(low)
        for band, ordered in enumerate(self._sorted):
            # Most keys are those of no target, which one look at a table tells without a search.
            some = np.flatnonzero(self._tables[band][keys[:, band] >> self._shift])
            low[band, some] = np.searchsorted(ordered, keys[some, band], "left")
            high[band, some] = np.searchsorted(ordered, keys[some, band], "right")
        return low, high

    def _first_of_buckets(
        self, block: NDArray[np.int64], low: NDArray[np.int64], high: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return pairs (number in ``asked``, index of a target): one from each of the first bands."""
        import numpy as np

        looks = range(min(QUICK_LOOKS, len(self._order)))
        full = [high[band] > low[band] for band in looks]
        numbers = [block[full[band]] for band in looks]
        targets = [self._order[band][low[band][full[band]]] for band in looks]
        return np.concatenate(numbers), np.concatenate(targets)

    def _all_of_buckets(
        self, block: NDArray[np.int64], low: NDArray[np.int64], high: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        import numpy as np

        pairs = []
        for band, order in enumerate(self._order):
            counts = high[band] - low[band]
            within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
            targets = order[within + np.repeat(low[band], counts)]
            pairs.append(np.repeat(block, counts) * len(self._targets) + targets)
        distinct = np.unique(np.concatenate(pairs))
        return distinct // len(self._targets), distinct % len(self._targets)

    def _look(
        self,
        asked: NDArray[np.int64],
        found: NDArray[np.int64],
        numbers: NDArray[np.int64],
        targets: NDArray[np.int64],
    ) -> None:
        """Compare pairs, and note for each number in ``asked`` the first target that is a near copy."""
        import numpy as np

        for start in range(0, len(numbers), PAIR_BLOCK):
            part = slice(start, start + PAIR_BLOCK)
            likely = self._likely(asked[numbers[part]], self._targets[targets[part]])
            ordered = np.argsort(numbers[part][likely], kind="stable")
            left_numbers, left_targets = numbers[part][likely][ordered], targets[part][likely][ordered]
            distinct, first = np.unique(left_numbers, return_index=True)
            # Without a pair there is nothing to cut, which np.split returns as one empty piece.
            for number, candidates in zip(distinct.tolist(), np.split(left_targets, first[1:]), strict=False):
                if found[number] == NOT_FOUND:
                    found[number] = self._first_near(int(asked[number]), candidates.tolist())

    def _first_near(self, asked: int, candidates: list[int]) -> int:
        import numpy as np

        one = self._sketches.read_set(asked)
        for start in range(0, len(candidates), SETS_AT_A_TIME):
            part = candidates[start : start + SETS_AT_A_TIME]
            near = np.flatnonzero(are_near(one, [self._target_set(index) for index in part], self._sketches.threshold))
            if len(near):
                return part[int(near[0])]
        return NOT_FOUND

    def _target_set(self, index: int) -> NDArray[np.uint64]:
        """Read a set, or take it from the last ones read: templates are compared with the same sets again and again."""
        if index not in self._sets:
            if self._items_cached > MOST_ITEMS_CACHED:
                self._sets.clear()
                self._items_cached = 0
            self._sets[index] = self._sketches.read_set(int(self._targets[index]))
            self._items_cached += len(self._sets[index])
        return self._sets[index]

    def _likely(self, ones: NDArray[np.int64], others: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Drop pairs whose sizes rule the threshold out, or whose signatures make it all but impossible."""
        import numpy as np

        small = np.minimum(self._sketches.sizes[ones], self._sketches.sizes[others])
        large = np.maximum(self._sketches.sizes[ones], self._sketches.sizes[others])
        likely = small >= self._sketches.threshold * large
        kept = np.flatnonzero(likely)
        agreeing = np.count_nonzero(
            self._sketches.signatures[ones[kept]] == self._sketches.signatures[others[kept]], axis=1
        )
        likely[kept] = agreeing >= self._least_agreeing
        return np.asarray(likely)


def _table(places: NDArray[np.uint32], bits: int) -> NDArray[np.bool_]:
    import numpy as np

    table = np.zeros(1 << bits, dtype=np.bool_)
    table[places] = True
    return table


def _parts(
    block: NDArray[np.int64], low: NDArray[np.int64], high: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]]:
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
