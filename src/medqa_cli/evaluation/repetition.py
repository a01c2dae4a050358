"""Whether an answer repeats itself or its question. Does not look at references."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from medqa_cli.data.cleaning.questions import question_echo
from medqa_cli.data.normalize import normalize

# Of MedQuAD's reference answers 1.8 % repeat more than this share of their runs of four words.
HIGH_SEQ_REP_4 = 0.2
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n+")
_SHORTEST_SENTENCE = 5
_TIMES_A_SENTENCE = 3
_SHORTEST_PHRASE = 3
_LONG_PHRASE = 8
_LONGEST_PHRASE = 100


def words_of(text: str) -> list[str]:
    """Return the words of a text without case and punctuation."""
    return normalize(text).split()


def loops(text: str) -> bool:
    """Tell whether an answer goes round in circles.

    It does when one sentence of five words or more stands in it three times, or when its end is periodic: a phrase of
    3 to 100 words that is said three times (twice from eight words on) up to the last word.
    """
    sentences = Counter(normalize(sentence) for sentence in _SENTENCE_END.split(text))
    if any(
        times >= _TIMES_A_SENTENCE and len(sentence.split()) >= _SHORTEST_SENTENCE
        for sentence, times in sentences.items()
    ):
        return True
    return _ends_in_a_loop(words_of(text))


def _ends_in_a_loop(words: Sequence[str]) -> bool:
    for period in range(_SHORTEST_PHRASE, min(_LONGEST_PHRASE, len(words) // 2) + 1):
        needed = period * (2 if period >= _LONG_PHRASE else 3)
        run = period
        while run < min(len(words), needed) and words[-1 - run] == words[-1 - run + period]:
            run += 1
        if run >= needed:
            return True
    return False


def echoes_question(question: str, answer: str) -> bool:
    """Tell whether an answer begins by repeating its question."""
    if question_echo(question, answer) != answer:
        return True
    asked = normalize(question)
    return bool(asked) and f"{normalize(answer)} ".startswith(f"{asked} ")
