"""What is compared of a row to find near copies and what splits share, from the row alone, in any process.

Import this module lazily: it imports numpy.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from medqa_cli.data.dataset import QaRow, row_of_line
from medqa_cli.data.minhash import band_keys, bands, num_words, shingle_sets, signature
from medqa_cli.data.normalize import key_of, normalize, page_key
from medqa_cli.data.topics.topics import topic_names, topic_of

# An answer of so few words, or signs of a script without spaces (yes, an option), is the answer to many questions.
MOST_WORDS_OF_AN_OPTION, MOST_SIGNS_OF_AN_OPTION = 7, 12
# A longer answer, of up to so many words, is such an answer where many different questions of a split have it.
_MOST_WORDS_OF_A_TEMPLATE = 23
SET_ITEM_BYTES = 8
MOST_KEYS_REMEMBERED = 1 << 17


class ComparedRow(NamedTuple):
    """A row as it is compared.

    Attributes:
        questions: keys of the question with what stands before it, and of that with which its conversation begins.
        answer: key of the answer.
        kind: what kind of answer it is.
        topics: keys of the names of its topic.
        question_topics: of that which the question names, whatever its topic is.
        page: key of its source.
        is_paraphrase: it is one of another row.
    """

    questions: tuple[bytes, ...]
    answer: bytes
    kind: AnswerKind
    topics: tuple[bytes, ...]
    question_topics: tuple[bytes, ...]
    page: bytes
    is_paraphrase: bool


def compared_row(row: QaRow, is_own: bool) -> ComparedRow:
    """Return a row as it is compared; ``is_own``: medqa wrote it, so that its topic is final."""
    opening = row.given.opening(row.question)
    topic = topic_of(row.question, row.topic) or (topic_of(opening, "") if row.given else "")
    # In medqa's own files the topics are final: it dropped a useless column before.
    question_topic = topic if is_own else topic_of(row.question, "")
    asked, answer = normalize(row.asked), normalize(row.answer)
    return ComparedRow(
        (key_of(asked),) if opening == row.asked else (key_of(asked), key_of(normalize(opening))),
        key_of(answer),
        answer_kind(asked, answer),
        _topic_keys(topic),
        _topic_keys(question_topic),
        page_key(row.source),
        bool(row.paraphrase_of),
    )


@functools.lru_cache(maxsize=1 << 16)
def _topic_keys(topic: str) -> tuple[bytes, ...]:
    return tuple(key_of(name) for name in topic_names(topic))


def lines_work() -> Callable[[Sequence[tuple[bytes, str]]], list[ComparedRow]]:
    """Return what reads some lines of a split that medqa wrote, each with its location, as rows that are compared."""
    return lambda lines: [compared_row(row_of_line(*line), is_own=True) for line in lines]


class TextSketch(NamedTuple):
    """A text as what is compared: its set (uint64), the low bytes of its signature, and its band keys (uint32)."""

    items: bytes
    signature: bytes
    band_keys: bytes


class RowSketch(NamedTuple):
    """What ``RowSketches`` keeps of a row.

    ``answer``, ``pair``: None where the same maker has given a sketch with that key before; ``pair_key``: None where
    the answer is too long to say little.
    """

    is_option: bool
    answer: TextSketch | None
    pair_key: bytes | None
    pair: TextSketch | None


class AnswerKind(NamedTuple):
    """What kind of answer a row has.

    ``is_option``: it is so short that it says little. ``pair_key``: of its question with it, where it says little if
    many questions have it; None: it is too long for that.
    """

    is_option: bool
    pair_key: bytes | None


class SketchMaker:
    """Makes the sketches of rows, anywhere: many at a time, as each alone would find the caches cold.

    Args:
        threshold: as for ``TextSketches``.
    """

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold
        self._made: set[bytes] = set()

    def sketches(self, rows: Sequence[tuple[str, str]], answer_keys: Sequence[bytes]) -> list[RowSketch]:
        """Return the sketches of rows.

        Args:
            rows: the normalized question and answer of each.
            answer_keys: the keys of the answers.
        """
        if len(self._made) > MOST_KEYS_REMEMBERED:
            self._made.clear()
        texts: dict[bytes, tuple[str, bytes]] = {}
        kinds = []
        for (question, answer), answer_key in zip(rows, answer_keys, strict=True):
            is_option, pair_key = answer_kind(question, answer)
            kinds.append((is_option, answer_key, pair_key))
            texts.setdefault(answer_key, (answer, b""))
            if pair_key is not None:
                texts.setdefault(pair_key, (question, answer_key))
        new = [key for key in texts if key not in self._made]
        self._made.update(new)
        made = dict(zip(new, text_sketches([texts[key] for key in new], self._threshold), strict=True))
        return [
            RowSketch(
                is_option,
                made.pop(answer_key, None),
                pair_key,
                None if pair_key is None else made.pop(pair_key, None),
            )
            for is_option, answer_key, pair_key in kinds
        ]


def answer_kind(normalized_question: str, normalized_answer: str) -> AnswerKind:
    """Return what kind of answer a row has."""
    words, are_signs = num_words(normalized_answer)
    is_option = words <= (MOST_SIGNS_OF_AN_OPTION if are_signs else MOST_WORDS_OF_AN_OPTION)
    if words > _MOST_WORDS_OF_A_TEMPLATE:
        return AnswerKind(is_option, None)
    return AnswerKind(is_option, key_of("pair", normalized_question, normalized_answer))


def text_sketches(texts: Sequence[tuple[str, bytes]], threshold: float) -> Iterator[TextSketch]:
    """Yield the sketches of normalized texts, each with a salt that makes its runs others than without."""
    if not texts:
        return
    sets = []
    for items, (_, salt) in zip(shingle_sets(text for text, _ in texts), texts, strict=True):
        sets.append(np.sort(items ^ np.uint64(int.from_bytes(salt[:SET_ITEM_BYTES], "little"))) if salt else items)
    signatures = np.array([signature(items) for items in sets])
    keys = band_keys(signatures, *bands(threshold))
    # The low bytes of the minima estimate as well.
    for items, low, row in zip(sets, signatures.astype(np.uint8), keys, strict=True):
        yield TextSketch(items.tobytes(), low.tobytes(), row.tobytes())
