"""Finds answers that are near copies of others: MinHash signatures propose pairs, exact Jaccard similarity decides.

Two answers are near copies when the sets of their runs of five words overlap by the threshold or more (Jaccard; Broder
1997, "On the resemblance and containment of documents"); ``shingles`` says what holds for short answers and for text
without spaces. The pairs to look at come from banded MinHash signatures
(Leskovec, Rajaraman and Ullman, "Mining of Massive Datasets", chapter 3); a pair at the threshold is overlooked with a
probability below ``MISS_PROBABILITY``. Keeps signatures in memory and the sets in a file. Does not decide what
becomes of a near copy.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from medqa_cli.data.minhash import NUM_PERM, signature
from medqa_cli.data.near_search import NOT_FOUND, NearSearch, SketchArrays
from medqa_cli.data.shingles import MIX, jaccard, shingles

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MISS_PROBABILITY = 1e-6
PENDING_ANSWERS = 1024
SET_ITEM_BYTES = 8


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
        self._pending: list[str] = []

    def __enter__(self) -> AnswerSketches:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._file.close()  # writes what is left, which fails on a full disk
        finally:
            self._reader.close()

    def __len__(self) -> int:
        return len(self._sketch_of_answer)

    def add(self, folded: str, key: bytes) -> None:
        """Add the next answer.

        Args:
            folded: the folded answer.
            key: its key; answers with the same key are taken as equal.
        """
        sketch = self._sketch_of_key.setdefault(key, len(self._sketch_of_key))
        self._sketch_of_answer.append(sketch)
        if sketch == len(self._sizes) + len(self._pending):
            self._pending.append(folded)
            if len(self._pending) == PENDING_ANSWERS:
                self._flush()

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
        sketch_of = np.array(self._sketch_of_answer, dtype=np.int64)
        asked, position = np.unique(sketch_of[np.asarray(answers)], return_inverse=True)
        targets, first = np.unique(sketch_of[np.asarray(others)], return_index=True)
        found = np.full(len(asked), NOT_FOUND, dtype=np.int64)
        equal = np.isin(asked, targets)
        found[equal] = np.searchsorted(targets, asked[equal])
        if not equal.all():
            found[~equal] = NearSearch(self._arrays(), targets).find(asked[~equal])
        numbers = np.append(np.asarray(others)[first], NOT_FOUND)  # index -1 stays -1
        return [int(number) for number in numbers[found][position]]

    def _arrays(self) -> SketchArrays:
        import numpy as np

        self._band_keys, self._signatures = [np.concatenate(self._band_keys)], [np.concatenate(self._signatures)]
        # A copy: an array that numpy looks into could not grow when further answers are added.
        sizes = np.array(self._sizes, dtype=np.int64)
        return SketchArrays(self._threshold, sizes, self._band_keys[0], self._signatures[0], self._set)

    def similarity(self, one: int, other: int) -> float:
        """Return the exact Jaccard similarity of two answers, by their numbers."""
        self._flush()
        return jaccard(self._set(self._sketch_of_answer[one]), self._set(self._sketch_of_answer[other]))

    def _flush(self) -> None:
        """Make the sketches of the pending answers: many at a time, as each alone would find the caches cold."""
        if self._pending:
            minima = [self._minima(shingles(folded)) for folded in self._pending]
            self._pending = []
            self._store(minima)
        self._file.flush()

    def _minima(self, items: NDArray[np.uint64]) -> NDArray[np.uint32]:
        """Return the signature of a set, uint32, shape (``NUM_PERM``,), and write the set to the file."""
        self._sizes.append(len(items))
        self._starts.append(self._end)
        self._end += self._file.write(items.tobytes())
        return signature(items)

    def _store(self, minima: list[NDArray[np.uint32]]) -> None:
        import numpy as np

        whole = np.array(minima, dtype=np.uint32)
        used = whole[:, : self._num_bands * self._band_rows].astype(np.uint64)
        keys = np.zeros((len(whole), self._num_bands), dtype=np.uint64)
        for row in range(self._band_rows):
            keys = (keys ^ used[:, row :: self._band_rows]) * np.uint64(MIX)
            keys ^= keys >> np.uint64(31)
        # A collision of these 32 bits costs one look too many, the low byte of each minimum estimates as well as all.
        self._band_keys.append((keys >> np.uint64(16)).astype(np.uint32))
        self._signatures.append(whole.astype(np.uint8))

    def _set(self, sketch: int) -> NDArray[np.uint64]:
        import numpy as np

        self._reader.seek(self._starts[sketch])
        return np.frombuffer(self._reader.read(self._sizes[sketch] * SET_ITEM_BYTES), dtype=np.uint64)
