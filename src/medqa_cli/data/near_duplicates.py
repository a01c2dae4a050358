"""Finds answers that are near copies of others: MinHash signatures propose pairs, exact Jaccard similarity decides.

Two answers are near copies when the sets of their runs of five words overlap by the threshold or more (Jaccard; Broder
1997, "On the resemblance and containment of documents"). The pairs to look at come from banded MinHash signatures
(Leskovec, Rajaraman and Ullman, "Mining of Massive Datasets", chapter 3); a pair at the threshold is overlooked with a
probability below ``MISS_PROBABILITY``. Keeps signatures in memory and the sets in a file. Does not decide what
becomes of a near copy.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from medqa_cli.data.shingles import MIX, jaccard, shingles

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

NUM_PERM = 200
MISS_PROBABILITY = 1e-6
STANDARD_DEVIATIONS = 5.5  # of the signature's estimate, below which a pair is not looked at: one miss in 50 million
QUICK_LOOKS = 3
PENDING_ANSWERS = 1024
QUERY_BLOCK = 2048
PAIR_BLOCK = 1 << 15
MOST_PAIRS = 1 << 21
SET_ITEM_BYTES = 8
NOT_FOUND = -1


def bands(threshold: float) -> tuple[int, int]:
    """Return how many bands of how many rows a signature is cut into: the longest bands that overlook hardly a pair."""
    fitting = 1
    for rows in range(1, NUM_PERM // 2 + 1):
        if (1 - threshold**rows) ** (NUM_PERM // rows) > MISS_PROBABILITY:
            break
        fitting = rows
    return NUM_PERM // fitting, fitting


class AnswerSketches:
    """The answers of a data set, numbered as they are added, in a form that shows which are near copies.

    Equal answers share one sketch. About 0.4 KB of memory per distinct answer; the sets lie in a file that the
    caller deletes. To be used in a ``with`` statement.
    """

    def __init__(self, sets_path: Path, threshold: float) -> None:
        """Start without answers.

        Args:
            sets_path: the file to write the sets to.
            threshold: Jaccard similarity from which on two answers are near copies, above 0 and at most 1.
        """
        self._threshold = threshold
        self._num_bands, self._band_rows = bands(threshold)
        self._file = open(sets_path, "wb")  # noqa: SIM115 -- closed by __exit__, as the next one
        self._reader = open(sets_path, "rb", buffering=0)  # noqa: SIM115
        self._sketch_of_key: dict[bytes, int] = {}
        self._sketch_of_answer = array("l")
        self._sizes = array("l")
        self._starts = array("q")
        self._end = 0
        self._signatures: list[NDArray[np.uint8]] = []
        self._band_keys: list[NDArray[np.uint32]] = []
        self._pending: list[NDArray[np.uint32]] = []
        self._permutations: Any = None

    def __enter__(self) -> AnswerSketches:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._reader.close()

    def __len__(self) -> int:
        return len(self._sketch_of_answer)

    def add(self, folded: str, key: bytes) -> None:
        """Add the next answer.

        Args:
            folded: the folded answer.
            key: its key; answers with the same key are taken as equal.
        """
        sketch = self._sketch_of_key.setdefault(key, len(self._sizes))
        self._sketch_of_answer.append(sketch)
        if sketch == len(self._sizes):
            self._add_sketch(shingles(folded))

    def near(self, answers: Sequence[int], others: Sequence[int]) -> list[int]:
        """Look for near copies.

        Args:
            answers: numbers of the answers in question.
            others: numbers of the answers that they are compared with.

        Returns:
            for each of ``answers`` the number of one of ``others`` that is equal or a near copy, or ``NOT_FOUND``.
        """
        import numpy as np

        self._flush()
        if not answers or not others:
            return [NOT_FOUND] * len(answers)
        sketch_of = np.frombuffer(self._sketch_of_answer, dtype=np.dtype("l"))
        asked, position = np.unique(sketch_of[np.asarray(answers)], return_inverse=True)
        targets, first = np.unique(sketch_of[np.asarray(others)], return_index=True)
        found = np.full(len(asked), NOT_FOUND, dtype=np.int64)
        equal = np.isin(asked, targets)
        found[equal] = np.searchsorted(targets, asked[equal])
        if not equal.all():
            found[~equal] = _Search(self, targets).find(asked[~equal])
        numbers = np.append(np.asarray(others)[first], NOT_FOUND)  # index -1 stays -1
        return [int(number) for number in numbers[found][position]]

    def similarity(self, one: int, other: int) -> float:
        """Return the exact Jaccard similarity of two answers, by their numbers."""
        return jaccard(self._set(self._sketch_of_answer[one]), self._set(self._sketch_of_answer[other]))

    def _add_sketch(self, items: NDArray[np.uint64]) -> None:
        from datasketch import MinHash

        if self._permutations is None:
            self._permutations = MinHash(num_perm=NUM_PERM, scheme="affine32").permutations
        sketch = MinHash(num_perm=NUM_PERM, scheme="affine32", hashfunc=_as_is, permutations=self._permutations)
        sketch.update_batch((items >> 32).tolist())
        self._pending.append(sketch.hashvalues)
        self._sizes.append(len(items))
        self._starts.append(self._end)
        self._end += self._file.write(items.tobytes())
        if len(self._pending) == PENDING_ANSWERS:
            self._flush()

    def _flush(self) -> None:
        import numpy as np

        self._file.flush()
        if not self._pending:
            return
        whole = np.array(self._pending, dtype=np.uint32)
        used = whole[:, : self._num_bands * self._band_rows].astype(np.uint64)
        keys = np.zeros((len(whole), self._num_bands), dtype=np.uint64)
        for row in range(self._band_rows):
            keys = (keys ^ used[:, row :: self._band_rows]) * np.uint64(MIX)
            keys ^= keys >> np.uint64(31)
        # A collision of these 32 bits costs one look too many, the low byte of each minimum estimates as well as all.
        self._band_keys.append((keys >> np.uint64(16)).astype(np.uint32))
        self._signatures.append(whole.astype(np.uint8))
        self._pending = []

    def _set(self, sketch: int) -> NDArray[np.uint64]:
        import numpy as np

        self._reader.seek(self._starts[sketch])
        return np.frombuffer(self._reader.read(self._sizes[sketch] * SET_ITEM_BYTES), dtype=np.uint64)


class _Search:
    """Compares sketches with a fixed set of target sketches."""

    def __init__(self, sketches: AnswerSketches, targets: NDArray[np.int64]) -> None:
        import numpy as np

        self._sketches = sketches
        self._targets = targets
        self._threshold = sketches._threshold
        self._sizes = np.frombuffer(sketches._sizes, dtype=np.dtype("l"))
        self._keys = np.concatenate(sketches._band_keys)
        self._signatures = np.concatenate(sketches._signatures)
        sketches._band_keys, sketches._signatures = [self._keys], [self._signatures]
        self._order = [np.argsort(self._keys[targets, band], kind="stable") for band in range(self._keys.shape[1])]
        self._sorted = [self._keys[targets[order], band] for band, order in enumerate(self._order)]
        agreeing = self._threshold + (1 - self._threshold) / 256  # low bytes also agree by chance
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

        keys = self._keys[asked]
        low = [np.searchsorted(ordered, keys[:, band], "left") for band, ordered in enumerate(self._sorted)]
        high = [np.searchsorted(ordered, keys[:, band], "right") for band, ordered in enumerate(self._sorted)]
        return np.array(low), np.array(high)

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
        """Compare pairs, cheapest check first, and note the first near copy of each."""
        for start in range(0, len(numbers), PAIR_BLOCK):
            part = slice(start, start + PAIR_BLOCK)
            likely = self._likely(asked[numbers[part]], self._targets[targets[part]])
            for number, target in zip(numbers[part][likely].tolist(), targets[part][likely].tolist(), strict=True):
                if found[number] != NOT_FOUND:
                    continue
                one, other = self._sketches._set(int(asked[number])), self._sketches._set(int(self._targets[target]))
                if jaccard(one, other) >= self._threshold:
                    found[number] = target

    def _likely(self, ones: NDArray[np.int64], others: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Drop pairs whose sizes rule the threshold out, or whose signatures make it all but impossible."""
        import numpy as np

        small = np.minimum(self._sizes[ones], self._sizes[others])
        large = np.maximum(self._sizes[ones], self._sizes[others])
        likely = small >= self._threshold * large
        kept = np.flatnonzero(likely)
        agreeing = np.count_nonzero(self._signatures[ones[kept]] == self._signatures[others[kept]], axis=1)
        likely[kept] = agreeing >= self._least_agreeing
        return np.asarray(likely)


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


def _as_is(value: int) -> int:
    return value
