"""Finds rows whose answers are near copies of others: MinHash signatures propose pairs, exact similarity decides.

Two answers are near copies when the sets of their runs of five words overlap by the threshold or more (Jaccard; Broder
1997, "On the resemblance and containment of documents"); ``minhash`` says what holds for short answers and for text
without spaces. The pairs to compare come from banded MinHash signatures (Leskovec, Rajaraman and Ullman, "Mining of
Massive Datasets", chapter 3); a pair at the threshold is overlooked with a probability below ``MISS_PROBABILITY``.
Signatures are kept in memory, the sets in a file. Of an answer that says little by itself, as yes, the question has to
be a near copy as well. Import this module lazily: it imports numpy.
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from medqa_cli.data.minhash import MIX, NUM_PERM, are_near, jaccard, num_words, shingle_sets, signature
from medqa_cli.data.normalize import key_of, normalize

# An answer of so few words, or signs of a script without spaces (yes, an option), is the answer to many questions;
MOST_WORDS_OF_AN_OPTION, MOST_SIGNS_OF_AN_OPTION = 7, 12
# one of so many is where so many different questions of a split have it.
MOST_WORDS_OF_A_TEMPLATE, QUESTIONS_OF_A_TEMPLATE = 23, 5
MISS_PROBABILITY = 1e-6
PENDING_ANSWERS = 1024
SET_ITEM_BYTES = 8
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


def bands(threshold: float) -> tuple[int, int]:
    """Return how many bands of how many rows a signature is cut into: the longest bands that overlook hardly a pair."""
    fitting = 1
    for rows in range(1, NUM_PERM // 2 + 1):
        if (1 - threshold**rows) ** (NUM_PERM // rows) > MISS_PROBABILITY:
            break
        fitting = rows
    return NUM_PERM // fitting, fitting


class RowSketches:
    """The rows of a data set, numbered as they are added, as sketches that show which have nearly the same answer.

    Equal answers share one sketch; about 0.4 KB of memory per distinct one, and per distinct pair of a question and a
    short answer. To be used in a ``with`` statement; the caller deletes the file with the sets.
    """

    def __init__(self, sets_path: Path, threshold: float) -> None:
        """Create an empty set of rows; the arguments are those of ``AnswerSketches``."""
        self._sketches = AnswerSketches(sets_path, threshold)
        # Numbers among the sketches; of a question with its answer only where that may say little.
        self._answers = array("l")
        self._pairs = array("l")
        self._is_option = bytearray()

    def __enter__(self) -> RowSketches:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._sketches.__exit__(kind, error, trace)

    def __len__(self) -> int:
        return len(self._answers)

    def add(self, question: str, normalized_answer: str, answer_key: bytes) -> None:
        """Add the next row.

        Args:
            question: the question.
            normalized_answer: the normalized answer.
            answer_key: its key; answers with the same key are taken as equal.
        """
        words, are_signs = num_words(normalized_answer)
        self._answers.append(self._sketches.add(normalized_answer, answer_key))
        self._is_option.append(words <= (MOST_SIGNS_OF_AN_OPTION if are_signs else MOST_WORDS_OF_AN_OPTION))
        pair = NOT_FOUND
        if words <= MOST_WORDS_OF_A_TEMPLATE:
            asked = normalize(question)
            # The runs of the question, mixed with the answer: only those of one answer are ever the same.
            pair = self._sketches.add(asked, key_of("pair", asked, normalized_answer), answer_key)
        self._pairs.append(pair)

    def of_little_meaning(self, held_out: Sequence[int]) -> set[int]:
        """Return the rows of a split whose answers say too little to be told as copies without their questions."""
        questions: dict[int, set[int]] = defaultdict(set)
        for row in held_out:
            if self._pairs[row] != NOT_FOUND:
                questions[self._sketches.sketch_of(self._answers[row])].add(self._sketches.sketch_of(self._pairs[row]))
        many = {answer for answer, pairs in questions.items() if len(pairs) >= QUESTIONS_OF_A_TEMPLATE}
        return {row for row in held_out if self._is_option[row] or self._sketches.sketch_of(self._answers[row]) in many}

    def near(self, rows: Sequence[int], others: Sequence[int], little: Collection[int]) -> list[int]:
        """Search for near copies between a split that is held out and the rows that it is held out from.

        Args:
            rows: numbers of the rows in question, of either.
            others: numbers of the rows of the other.
            little: what ``of_little_meaning`` returned for the split.

        Returns:
            for each of ``rows`` the number of one of ``others`` whose answer is equal or a near copy, and where it says
            little the question as well; or ``NOT_FOUND``.
        """
        found = dict.fromkeys(rows, NOT_FOUND)
        telling = [[row for row in side if row not in little] for side in (rows, others)]
        searches = [(self._answers, *telling)]
        if little:
            ours, theirs = ([row for row in side if row in little] for side in (rows, others))
            paired = [[row for row in side if self._pairs[row] != NOT_FOUND] for side in (rows, others)]
            searches.append((self._pairs, ours or paired[0], theirs or paired[1]))
        for numbers, asked, candidates in searches:
            row_of = dict(zip([numbers[row] for row in candidates], candidates, strict=True))
            near = self._sketches.near([numbers[row] for row in asked], list(row_of))
            found |= {row: row_of[other] for row, other in zip(asked, near, strict=True) if other != NOT_FOUND}
        return [found[row] for row in rows]


class AnswerSketches:
    """The answers of a data set, numbered as they are added, as sketches that show which are near copies.

    Equal answers share one sketch. About 0.4 KB of memory per distinct answer; the sets lie in a file that the
    caller deletes. To be used in a ``with`` statement.
    """

    def __init__(self, sets_path: Path, threshold: float) -> None:
        """Create an empty set of answers.

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
        self._pending: list[tuple[str, int]] = []

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

    def add(self, normalized: str, key: bytes, salt: bytes = b"") -> int:
        """Add the next answer, and return its number.

        Args:
            normalized: the normalized answer.
            key: its key; answers with the same key are taken as equal.
            salt: makes runs other ones than those of the same text with another salt.
        """
        sketch = self._sketch_of_key.setdefault(key, len(self._sketch_of_key))
        self._sketch_of_answer.append(sketch)
        if sketch == len(self._sizes) + len(self._pending):
            self._pending.append((normalized, int.from_bytes(salt[:SET_ITEM_BYTES], "little")))
            if len(self._pending) == PENDING_ANSWERS:
                self._flush()
        return len(self._sketch_of_answer) - 1

    def near(self, answers: Sequence[int], others: Sequence[int]) -> list[int]:
        """Search for near copies.

        Args:
            answers: numbers of the answers in question.
            others: numbers of the answers that they are compared with.

        Returns:
            for each of ``answers`` the number of one of ``others`` that is equal or a near copy, or ``NOT_FOUND``.
        """
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
            self._band_keys, self._signatures = [np.concatenate(self._band_keys)], [np.concatenate(self._signatures)]
            # A copy: an array that numpy shares could not grow when more answers are added.
            sizes = np.array(self._sizes, dtype=np.int64)
            search = NearSearch(
                self._threshold, sizes, self._band_keys[0], self._signatures[0], self.set_of_sketch, targets
            )
            found[~equal] = search.find(asked[~equal])
        numbers = np.append(np.asarray(others)[first], NOT_FOUND)  # index -1 stays -1
        return [int(number) for number in numbers[found][position]]

    def sketch_of(self, number: int) -> int:
        """Return the sketch of an answer, by its number: equal answers have the same."""
        return self._sketch_of_answer[number]

    def similarity(self, one: int, other: int) -> float:
        """Return the exact Jaccard similarity of two answers, by their numbers."""
        self._flush()
        return jaccard(
            self.set_of_sketch(self._sketch_of_answer[one]), self.set_of_sketch(self._sketch_of_answer[other])
        )

    def _flush(self) -> None:
        """Make the sketches of the pending answers: many at a time, as each alone would find the caches cold."""
        if self._pending:
            minima = []
            texts, salts = zip(*self._pending, strict=True)
            for items, salt in zip(shingle_sets(texts), salts, strict=True):
                if salt:
                    items = np.sort(items ^ np.uint64(salt))
                self._sizes.append(len(items))
                self._starts.append(self._end)
                self._end += self._file.write(items.tobytes())
                minima.append(signature(items))
            self._pending = []
            self._store(minima)
        self._file.flush()

    def _store(self, minima: list[NDArray[np.uint32]]) -> None:
        whole = np.array(minima, dtype=np.uint32)
        used = whole[:, : self._num_bands * self._band_rows].astype(np.uint64)
        keys = np.zeros((len(whole), self._num_bands), dtype=np.uint64)
        for row in range(self._band_rows):
            keys = (keys ^ used[:, row :: self._band_rows]) * np.uint64(MIX)
            keys ^= keys >> np.uint64(31)
        # A collision of these 32 bits costs one needless comparison. The low bytes of the minima estimate as well.
        self._band_keys.append((keys >> np.uint64(16)).astype(np.uint32))
        self._signatures.append(whole.astype(np.uint8))

    def set_of_sketch(self, sketch: int) -> NDArray[np.uint64]:
        """Return the set of a sketch."""
        self._reader.seek(self._starts[sketch])
        return np.frombuffer(self._reader.read(self._sizes[sketch] * SET_ITEM_BYTES), dtype=np.uint64)


class NearSearch:
    """Finds for sketches a near copy among fixed targets."""

    def __init__(
        self,
        threshold: float,
        sizes: NDArray[np.int64],
        band_keys: NDArray[np.uint32],
        signatures: NDArray[np.uint8],
        read_set: Callable[[int], NDArray[np.uint64]],
        targets: NDArray[np.int64],
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
        keys = band_keys
        self._order = [np.argsort(keys[targets, band], kind="stable") for band in range(keys.shape[1])]
        self._sorted = [keys[targets[order], band] for band, order in enumerate(self._order)]
        bits = min(MOST_TABLE_BITS, (TABLE_PLACES_PER_TARGET * len(targets)).bit_length())
        self._shift = np.uint32(KEY_BITS - bits)
        self._tables = [np.zeros(1 << bits, dtype=np.bool_) for _ in self._sorted]
        for table, ordered in zip(self._tables, self._sorted, strict=True):
            table[ordered >> self._shift] = True
        self._sets: dict[int, NDArray[np.uint64]] = {}
        self._items_cached = 0
        agreeing = threshold + (1 - threshold) / 256  # low bytes also agree by chance
        deviation = (agreeing * (1 - agreeing) / NUM_PERM) ** 0.5
        self._least_agreeing = int(NUM_PERM * (agreeing - STANDARD_DEVIATIONS * deviation))

    def find(self, asked: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return for each sketch the index of a target that is a near copy, or ``NOT_FOUND``."""
        found = np.full(len(asked), NOT_FOUND, dtype=np.int64)
        for start in range(0, len(asked), QUERY_BLOCK):
            block = np.arange(start, min(start + QUERY_BLOCK, len(asked)))
            low, high = self._buckets(asked[block])
            self._look(asked, found, *self._first_of_buckets(block, low, high))
            # Where all answers are alike, each bucket holds all of them: the quick check has found one by then.
            open_ = found[block] == NOT_FOUND
            for part, part_low, part_high in _parts(block[open_], low[:, open_], high[:, open_]):
                self._look(asked, found, *self._all_of_buckets(part, part_low, part_high))
        return found

    def _buckets(self, asked: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return where in each band's order the targets with the same key begin and end: shape (bands, asked)."""
        keys = self._keys[asked]
        low = np.zeros((keys.shape[1], len(asked)), dtype=np.int64)
        high = np.zeros_like(low)
        for band, ordered in enumerate(self._sorted):
            # Most keys are no target's: one lookup in a table saves the search.
            some = np.flatnonzero(self._tables[band][keys[:, band] >> self._shift])
            low[band, some] = np.searchsorted(ordered, keys[some, band], "left")
            high[band, some] = np.searchsorted(ordered, keys[some, band], "right")
        return low, high

    def _first_of_buckets(
        self, block: NDArray[np.int64], low: NDArray[np.int64], high: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return pairs (number in ``asked``, index of a target): one from each of the first bands."""
        looks = range(min(QUICK_LOOKS, len(self._order)))
        full = [high[band] > low[band] for band in looks]
        numbers = [block[full[band]] for band in looks]
        targets = [self._order[band][low[band][full[band]]] for band in looks]
        return np.concatenate(numbers), np.concatenate(targets)

    def _all_of_buckets(
        self, block: NDArray[np.int64], low: NDArray[np.int64], high: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
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
        one = self._read_set(asked)
        for start in range(0, len(candidates), SETS_AT_A_TIME):
            part = candidates[start : start + SETS_AT_A_TIME]
            near = np.flatnonzero(are_near(one, [self._target_set(index) for index in part], self._threshold))
            if len(near):
                return part[int(near[0])]
        return NOT_FOUND

    def _target_set(self, index: int) -> NDArray[np.uint64]:
        """Read a set, or take it from the last ones read: templates are compared with the same sets again and again."""
        if index not in self._sets:
            if self._items_cached > MOST_ITEMS_CACHED:
                self._sets.clear()
                self._items_cached = 0
            self._sets[index] = self._read_set(int(self._targets[index]))
            self._items_cached += len(self._sets[index])
        return self._sets[index]

    def _likely(self, ones: NDArray[np.int64], others: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Drop pairs whose sizes rule the threshold out, or whose signatures make it all but impossible."""
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
