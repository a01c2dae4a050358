"""Detects repetition loops in generated text.

``LoopWatch`` and ``repeated_sentences`` watch an answer while it is made, on tokens and sentences; in doubt it goes on.
``is_repetitive`` judges a finished answer by its words, so that any model's text can be measured by it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from medqa_cli.data.normalize import normalize

# A whole sentence said twice in a row is a loop; a shorter phrase has to come three times.
LONG_PERIOD = 12  # tokens
SHORTEST_LOOP = 24  # tokens, all rounds of a short phrase together: "no, no, no" is none
# Share of four-word runs that occurred before. Of MedQuAD's reference answers 0.6 % are over 0.3.
MOST_REPEATED = 0.3
MOST_REPEATED_SO_FAR = 0.4  # while more is to come: a list may begin alike and then differ
_RUN = 4  # words
# In a list short items may well return; these many words do not.
_DOUBLED_WORDS = 5
_REPEATED_WORDS = 16
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n+")
_SHORTEST_SENTENCE = 5  # words
_TIMES_A_SENTENCE = 3
_SHORTEST_PHRASE, _LONG_PHRASE, _LONGEST_PHRASE = 3, 8, 100  # words


class LoopWatch:
    """Follows the token ids of one answer; each ``add`` costs as much as the token occurred before."""

    def __init__(self) -> None:
        self._count = 0
        self._places: dict[int, list[int]] = {}
        # For each distance: how many of the last tokens equal those that stand so far before them.
        self._matched: dict[int, int] = {}

    def add(self, token_id: int) -> None:
        """Take the next token."""
        places = self._places.setdefault(token_id, [])
        self._matched = {self._count - place: self._matched.get(self._count - place, 0) + 1 for place in places}
        places.append(self._count)
        self._count += 1

    @property
    def repeated(self) -> int:
        """Number of tokens at the end that have stood before in this order."""
        return max(self._matched.values(), default=0)

    @property
    def period(self) -> int | None:
        """Number of tokens after which the end repeats itself, the smallest; None: it is no loop."""
        loops = (distance for distance, matched in self._matched.items() if _is_loop(distance, matched))
        return min(loops, default=None)


def _is_loop(distance: int, matched: int) -> bool:
    if distance >= LONG_PERIOD:
        return matched >= distance
    return matched >= 2 * distance and matched + distance >= SHORTEST_LOOP


def repeated_sentences(sentences: Sequence[str]) -> tuple[int, bool]:
    """Look at the sentences at the end that were said before.

    Args:
        sentences: those of the answer so far, whole ones only.

    Returns:
        how many there are, and whether they are a loop: a sentence right after itself, or several in a row.
    """
    words = [tuple(sentence.split()) for sentence in sentences]
    count = 0
    while count < len(words) and words[-1 - count] in words[: -1 - count]:
        count += 1
    repeated = words[len(words) - count :]
    doubled = count > 0 and words[-1] == words[-2] and len(words[-1]) >= _DOUBLED_WORDS
    return count, doubled or (count > 1 and sum(map(len, repeated)) >= _REPEATED_WORDS)


def seq_rep_4(text: str) -> float:
    """Return the share of runs of four words that stood before in the text.

    Welleck et al. 2019, arXiv 1908.04319, section 3 (there on tokens).

    Words are compared without case and punctuation; a text of fewer than four words has 0.
    """
    words = normalize(text).split()
    runs = list(zip(*(words[start:] for start in range(_RUN)), strict=False))
    return 1 - len(set(runs)) / len(runs) if runs else 0.0


def is_repetitive(text: str) -> bool:
    """Tell whether a finished answer goes round in circles.

    It does when one sentence of five words or more stands in it three times, or when its end is periodic: a phrase of
    3 to 100 words that is said three times (twice from eight words on) up to the last word.
    """
    sentences = Counter(normalize(sentence) for sentence in _SENTENCE_END.split(text))
    if any(
        times >= _TIMES_A_SENTENCE and len(sentence.split()) >= _SHORTEST_SENTENCE
        for sentence, times in sentences.items()
    ):
        return True
    words = normalize(text).split()
    for period in range(_SHORTEST_PHRASE, min(_LONGEST_PHRASE, len(words) // 2) + 1):
        needed = period * (2 if period >= _LONG_PHRASE else 3)
        run = period
        while run < min(len(words), needed) and words[-1 - run] == words[-1 - run + period]:
            run += 1
        if run >= needed:
            return True
    return False
