"""What is compared of a row to find what splits share: made anywhere, also in worker processes, from the row alone.

Import this module lazily: it imports numpy.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

from medqa_cli.data.dataset import QaRow, row_of_line
from medqa_cli.data.normalize import key_of, normalize, page_key
from medqa_cli.data.sketches import AnswerKind, kind_of
from medqa_cli.data.topics.topics import topic_names, topic_of


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


def compared(row: QaRow, is_own: bool) -> ComparedRow:
    """Return a row as it is compared; ``is_own``: medqa wrote it, so that its topic is final."""
    opening = row.given.opening(row.question)
    topic = topic_of(row.question, row.topic) or (topic_of(opening, "") if row.given else "")
    # In medqa's own files the topics are final: it dropped a useless column before.
    question_topic = topic if is_own else topic_of(row.question, "")
    asked, answer = normalize(row.asked), normalize(row.answer)
    return ComparedRow(
        (key_of(asked),) if opening == row.asked else (key_of(asked), key_of(normalize(opening))),
        key_of(answer),
        kind_of(asked, answer),
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
    return lambda lines: [compared(row_of_line(*line), is_own=True) for line in lines]
