"""When one answer ends, why, and which text is kept of it; what counts as a repetition loop.

The same state serves one streamed answer and each row of a batch, so that both end alike. ``LoopWatch`` and
``repeated_sentences`` follow an answer while it is made, on tokens and sentences, and let it go on in doubt.
``is_repetitive`` judges a finished answer by its words, so that it can measure any model's text.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from itertools import pairwise
from typing import Literal

from medqa_cli.data.normalize import normalize
from medqa_cli.prompt.sentence_ends import sentence_ends

FinishReason = Literal["stop", "length", "repetition"]
Decode = Callable[[Sequence[int]], str]

_LOOK_EVERY = 32  # tokens between two looks at the share of repeated words, which need the text
_MARKS = ".!?…。！？｡"
_REPEATED_RUN = 8  # tokens; a shorter repeated end is an ordinary phrase

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


class StoppingState:
    """One answer while it is made.

    Args:
        decode: turns ids into text.
        stop_ids: ids that end an answer.
        room: the most tokens that it may have.
    """

    def __init__(self, decode: Decode, stop_ids: Collection[int], room: int) -> None:
        self._decode = decode
        self._stop_ids = stop_ids
        self._room = room
        self._watch = LoopWatch()
        self._shown = 0
        # Where the sentences begin that end the text and were said before; None: the last one is new.
        self._repeats_from: int | None = None
        self._sentences_loop = False
        self.ids: list[int] = []
        self.finish_reason: FinishReason | None = None

    def add(self, token_id: int) -> None:
        """Take the next token; afterwards ``finish_reason`` tells whether it was the last one."""
        if token_id in self._stop_ids:
            self.finish_reason = "stop"
        else:
            self.ids.append(token_id)
            self._watch.add(token_id)
            self._look_at_sentences(token_id)
            if self._watch.period is not None or self._sentences_loop or self._repeats_much():
                self.finish_reason = "repetition"
            elif len(self.ids) >= self._room:
                self.finish_reason = "length"
        if self.finish_reason in ("stop", "length") and seq_rep_4(self._decode(self.ids)) > MOST_REPEATED:
            self.finish_reason = "repetition"

    def new_text(self) -> str:
        """Return the text that will stay, whatever comes next, and was not returned before.

        Words that stood before in the same order wait, since they may turn out to be a loop. In the second half of
        the room an unfinished sentence waits, since it may have to go.
        """
        if self.finish_reason is not None:
            text = self.text()
        else:
            text = self._decode(self.ids[: len(self.ids) - self._watch.repeated])
            # U+FFFD at the end: the last character is not complete yet.
            if len(text) <= self._shown or text.endswith("\ufffd"):
                return ""
            text = text[: self._settled(text)]
        piece = text[self._shown :]
        self._shown = max(self._shown, len(text))
        return piece

    def text(self) -> str:
        """Return the answer as it ended: whole, or cut back to a sentence where the end is a loop or the limit."""
        if self.finish_reason == "repetition":
            return self._without_loop()
        text = self._decode(self.ids)
        if self.finish_reason != "length":
            return text
        # With a word behind it a full stop at the very end counts as well.
        end = _last_sentence_end(f"{text} X")
        first_half = len(self._decode(self.ids[: self._room // 2]))
        # What was shown cannot be taken back.
        return text[: max(end, self._shown)] if end >= max(1, first_half) else text

    def _settled(self, text: str) -> int:
        """Return up to where the text stays whatever comes next."""
        end = _last_sentence_end(text)
        begun = text[end:].strip()
        if len(self.ids) > self._room // 2 or any(sentence.startswith(begun) for sentence in _sentences(text[:end])):
            return end if self._repeats_from is None else min(end, self._repeats_from)
        return len(text) if self._repeats_from is None else self._repeats_from

    def _look_at_sentences(self, token_id: int) -> None:
        """Where a token may have ended a sentence, see whether that one was said before."""
        if not any(mark in self._decode([token_id]) for mark in _MARKS):
            return
        # With a word behind it a full stop at the very end counts as well.
        text = f"{self._decode(self.ids)} X"
        ends = [0, *(end for end in sentence_ends(text) if end < len(text))]
        sentences = [text[start:end] for start, end in pairwise(ends)]
        count, self._sentences_loop = repeated_sentences(sentences)
        self._repeats_from = ends[-1 - count] if count else None

    def _repeats_much(self) -> bool:
        if len(self.ids) % _LOOK_EVERY or len(self.ids) < 2 * _LOOK_EVERY:
            return False
        return seq_rep_4(self._decode(self.ids)) > MOST_REPEATED_SO_FAR

    def _without_loop(self) -> str:
        """Return the text up to the loop's second round; some tokens more where that completes a sentence."""
        if self._sentences_loop and self._repeats_from is not None:
            return self._decode(self.ids)[: max(self._repeats_from, self._shown)].rstrip()
        repeated = self._watch.repeated
        if repeated < _REPEATED_RUN:
            return self._decode(self.ids)
        kept = len(self.ids) - repeated
        text = self._decode(self.ids[:kept])
        # A loop may begin anywhere in a sentence: its first round then lacks the sentence's end.
        longer = self._decode(self.ids[: kept + min(repeated, self._watch.period or 0)])
        ends = [end for end in sentence_ends(longer) if len(text) <= end < len(longer)]
        return longer[: ends[0]] if ends else text


def _sentences(text: str) -> list[str]:
    return [text[start:end].strip() for start, end in pairwise([0, *sentence_ends(text)])]


def _last_sentence_end(text: str) -> int:
    """Return where the last sentence ends that has text behind it; 0: none does."""
    whole = len(text.rstrip())
    return max((end for end in sentence_ends(text) if end < whole), default=0)


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
