"""Finds rows whose answers are near copies of others: MinHash signatures propose pairs, exact similarity decides.

Two answers are near copies when the sets of their runs of five words overlap by the threshold or more (Jaccard; Broder
1997, "On the resemblance and containment of documents"); ``minhash`` says what holds for short answers and for text
without spaces, and how the pairs to compare are found. Signatures are kept in memory, the sets in a file. Of an answer
that says little by itself, as yes, the question has to be a near copy as well. Import this module lazily: it imports
numpy.
"""

from array import array
from collections import defaultdict
from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medqa_cli.data.minhash import NOT_FOUND, NUM_PERM, NearSearch
from medqa_cli.data.normalize import normalize
from medqa_cli.data.sketches import SET_ITEM_BYTES, AnswerKind, RowSketch, TextSketch, answer_kind, text_sketches

# An answer that is none of an option but short says little where so many different questions of a split have it.
QUESTIONS_OF_A_TEMPLATE = 5
PENDING_TEXTS = 1024


class RowSketches(AbstractContextManager["RowSketches"]):
    """The rows of a data set, numbered as they are added, as sketches that show which have nearly the same answer.

    Equal answers share one sketch; about 0.4 KB of memory per distinct one, and per distinct pair of a question and a
    short answer. To be used in a ``with`` statement; the caller deletes the file with the sets.
    """

    def __init__(self, sets_path: Path, threshold: float) -> None:
        """Create an empty set of rows; the arguments are those of ``TextSketches``."""
        self._sketches = TextSketches(sets_path, threshold)
        # By row, the number of a text in ``_sketches``. A question with its answer is there only where the answer may
        # say little.
        self._answers = array("l")
        self._pairs = array("l")
        self._is_option = bytearray()

    def __exit__(self, *error: object) -> None:
        self._sketches.__exit__(*error)

    def __len__(self) -> int:
        return len(self._answers)

    def add(self, question: str, normalized_answer: str, answer_key: bytes) -> None:
        """Add the next row.

        Args:
            question: the question.
            normalized_answer: the normalized answer.
            answer_key: its key; answers with the same key are taken as equal.
        """
        asked = normalize(question)
        is_option, pair_key = answer_kind(asked, normalized_answer)
        self._answers.append(self._sketches.add(normalized_answer, answer_key))
        self._is_option.append(is_option)
        # The runs of the question, mixed with the answer: only those of one answer are ever the same.
        self._pairs.append(NOT_FOUND if pair_key is None else self._sketches.add(asked, pair_key, answer_key))

    def add_known(self, answer_key: bytes, kind: AnswerKind) -> bool:
        """Add the next row where its answer, and its question if that counts, have a sketch; return whether they do."""
        if not self._sketches.has(answer_key) or (kind.pair_key is not None and not self._sketches.has(kind.pair_key)):
            return False
        self.add_made(answer_key, RowSketch(kind.is_option, None, kind.pair_key, None))
        return True

    def add_made(self, answer_key: bytes, made: RowSketch) -> None:
        """Add the next row, whose sketch has been made elsewhere.

        Args:
            answer_key: the key of its normalized answer.
            made: by a maker all of whose rows are added in the order in which it made them, but for some rows that
                share their answer with one that is added before them.
        """
        self._answers.append(self._sketches.add_made(answer_key, made.answer))
        self._is_option.append(made.is_option)
        pair_key = made.pair_key
        self._pairs.append(NOT_FOUND if pair_key is None else self._sketches.add_made(pair_key, made.pair))

    def of_little_meaning(self, held_out: Sequence[int]) -> set[int]:
        """Return the rows of a split whose answers say too little to be told as copies without their questions."""
        questions: dict[int, set[int]] = defaultdict(set)
        for row in held_out:
            if self._pairs[row] != NOT_FOUND:
                questions[self._sketches.sketch_of(self._answers[row])].add(self._sketches.sketch_of(self._pairs[row]))
        many = {answer for answer, pairs in questions.items() if len(pairs) >= QUESTIONS_OF_A_TEMPLATE}
        return {row for row in held_out if self._is_option[row] or self._sketches.sketch_of(self._answers[row]) in many}

    def near_rows(self, rows: Sequence[int], others: Sequence[int], of_little_meaning: Collection[int]) -> list[int]:
        """Search for near copies between the rows of a held-out split and the rows that it is held out from.

        Rows are compared by their answers. Rows of little meaning are compared by question and answer instead, with
        all rows of the other side for which both are kept.

        Args:
            rows: the numbers of the rows of one side, whichever it is.
            others: the numbers of the rows of the other side.
            of_little_meaning: what the method of this name returned for the split. The other side has none of them.

        Returns:
            for each of ``rows`` the number of one near copy among ``others``, or ``NOT_FOUND``.
        """
        sides = (rows, others)
        searches = [(self._answers, *([row for row in side if row not in of_little_meaning] for side in sides))]
        if of_little_meaning:
            paired = [
                [row for row in side if row in of_little_meaning]
                or [row for row in side if self._pairs[row] != NOT_FOUND]
                for side in sides
            ]
            searches.append((self._pairs, *paired))
        copies = dict.fromkeys(rows, NOT_FOUND)
        for text_of_row, asked, candidates in searches:
            row_of_text = dict(zip([text_of_row[row] for row in candidates], candidates, strict=True))
            near = self._sketches.near([text_of_row[row] for row in asked], list(row_of_text))
            copies |= {row: row_of_text[text] for row, text in zip(asked, near, strict=True) if text != NOT_FOUND}
        return [copies[row] for row in rows]


class TextSketches(AbstractContextManager["TextSketches"]):
    """Texts, numbered as they are added, as sketches that show which are near copies.

    They are answers, and questions that belong to an answer. Equal texts share one sketch. About 0.4 KB of memory per
    distinct text; the sets lie in a file that the caller deletes. To be used in a ``with`` statement.
    """

    def __init__(self, sets_path: Path, threshold: float) -> None:
        """Create an empty set of texts.

        Args:
            sets_path: the file to write the sets to.
            threshold: Jaccard similarity from which on two texts are near copies, above 0 and at most 1.
        """
        self._threshold = threshold
        self._file = open(sets_path, "wb")  # noqa: SIM115 -- closed by __exit__, as the next one
        self._reader = open(sets_path, "rb", buffering=0)  # noqa: SIM115
        self._sketch_of_key: dict[bytes, int] = {}
        self._sketch_of_text = array("l")
        self._sizes = array("l")
        self._starts = array("q")
        self._end = 0
        self._signatures = bytearray()
        self._band_keys = bytearray()
        self._pending: list[tuple[str, bytes]] = []

    def __exit__(self, *error: object) -> None:
        try:
            self._file.close()  # writes what is left, which fails on a full disk
        finally:
            self._reader.close()

    def __len__(self) -> int:
        return len(self._sketch_of_text)

    def add(self, normalized: str, key: bytes, salt: bytes = b"") -> int:
        """Add the next text, and return its number.

        Args:
            normalized: the normalized text.
            key: its key; texts with the same key are taken as equal.
            salt: makes runs other ones than those of the same text with another salt.
        """
        if self._is_new(key):
            self._pending.append((normalized, salt))
            if len(self._pending) == PENDING_TEXTS:
                self._flush()
        return len(self._sketch_of_text) - 1

    def add_made(self, key: bytes, made: TextSketch | None) -> int:
        """Add the next text, by its key and the sketch that has been made of it; None: one with this key is here."""
        is_new = self._is_new(key)
        if is_new:
            assert made is not None, "a text without a sketch has none from before"
            self._flush()
            self._keep(made)
        return len(self._sketch_of_text) - 1

    def has(self, key: bytes) -> bool:
        """Tell whether a text with this key has been added."""
        return key in self._sketch_of_key

    def near(self, texts: Sequence[int], others: Sequence[int]) -> list[int]:
        """Search for near copies.

        Args:
            texts: numbers of the texts in question.
            others: numbers of the texts that they are compared with.

        Returns:
            for each of ``texts`` the number of one of ``others`` that is equal or a near copy, or ``NOT_FOUND``.
        """
        self._flush()
        if not texts or not others:
            return [NOT_FOUND] * len(texts)
        sketch_of = np.array(self._sketch_of_text, dtype=np.int64)
        asked, position = np.unique(sketch_of[np.asarray(texts)], return_inverse=True)
        targets, first = np.unique(sketch_of[np.asarray(others)], return_index=True)
        copies = np.full(len(asked), NOT_FOUND, dtype=np.int64)
        equal = np.isin(asked, targets)
        copies[equal] = np.searchsorted(targets, asked[equal])
        if not equal.all():
            # A copy: what numpy shares cannot grow when more texts are added. The others are shared for the search.
            sizes = np.array(self._sizes, dtype=np.int64)
            signatures = np.frombuffer(self._signatures, dtype=np.uint8).reshape(len(sizes), NUM_PERM)
            keys = np.frombuffer(self._band_keys, dtype=np.uint32).reshape(len(sizes), -1)
            search = NearSearch(self._threshold, sizes, keys, signatures, self.set_of_sketch, targets)
            copies[~equal] = search.find(asked[~equal])
        numbers = np.append(np.asarray(others)[first], NOT_FOUND)  # index -1 stays -1
        return [int(number) for number in numbers[copies][position]]

    def sketch_of(self, number: int) -> int:
        """Return the sketch of a text, by its number: equal texts have the same."""
        return self._sketch_of_text[number]

    def _is_new(self, key: bytes) -> bool:
        """Number the next text, and tell whether its sketch is still to be kept."""
        sketch = self._sketch_of_key.setdefault(key, len(self._sketch_of_key))
        self._sketch_of_text.append(sketch)
        return sketch == len(self._sizes) + len(self._pending)

    def _flush(self) -> None:
        """Make the sketches of the pending texts."""
        pending, self._pending = self._pending, []
        for made in text_sketches(pending, self._threshold):
            self._keep(made)
        self._file.flush()

    def _keep(self, made: TextSketch) -> None:
        self._sizes.append(len(made.items) // SET_ITEM_BYTES)
        self._starts.append(self._end)
        self._end += self._file.write(made.items)
        self._signatures += made.signature
        self._band_keys += made.band_keys

    def set_of_sketch(self, sketch: int) -> NDArray[np.uint64]:
        """Return the set of a sketch."""
        self._reader.seek(self._starts[sketch])
        return np.frombuffer(self._reader.read(self._sizes[sketch] * SET_ITEM_BYTES), dtype=np.uint64)
