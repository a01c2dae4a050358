"""When one answer ends, why, and which text is kept of it; what counts as a repetition loop.

The same state serves one streamed answer and each row of a batch, so that both end alike. ``LoopWatch`` and
``repeated_sentences`` follow an answer while it is made, on tokens and sentences, and let it go on in doubt.
``has_loop`` judges a finished answer by its words, so that it can measure any model's text.
"""

import math
import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import pairwise
from typing import Literal, Protocol

from medqa_cli.data.normalize import normalize
from medqa_cli.prompt.given import start_of_open_mark, start_of_wrong_mark
from medqa_cli.prompt.sentence_ends import sentence_ends

FinishReason = Literal["stop", "length", "repetition"]
Decode = Callable[[Sequence[int]], str]

_CHECK_EVERY = 32  # tokens between two checks of the share of repeated words, which need the text
_MARKS = ".!?…。！？｡"
END_BONUS = 4.0  # nats
_REPEATED_RUN = 8  # tokens; a shorter repeated end is an ordinary phrase

# A whole sentence twice in a row is a loop; a shorter phrase must come three times.
LONG_PERIOD = 12  # tokens
SHORTEST_LOOP = 24  # tokens, all rounds of a short phrase together: "no, no, no" is none
# Share of four-word runs that occurred before. Of MedQuAD's reference answers 0.6 % are over 0.3.
MOST_REPEATED = 0.3
MOST_REPEATED_SO_FAR = 0.4  # while more is to come: a list may begin alike and then differ
_RUN = 4  # words
# Short items of a list may repeat; this many words do not.
_DOUBLED_WORDS = 5
_REPEATED_WORDS = 16
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n+")
_SHORTEST_SENTENCE = 5  # words
_TIMES_A_SENTENCE = 3
_SHORTEST_PHRASE, _LONG_PHRASE, _LONGEST_PHRASE = 3, 8, 100  # words


class RowState(Protocol):
    """One answer while it is made (``StoppingState``; evaluation has one that cuts nothing)."""

    ids: list[int]
    went_back: bool  # by its last token, to leave a loop: ``ids`` are shorter than they were
    num_retries: int  # how often it went back

    @property
    def finish_reason(self) -> str | None:
        """Why the row ended; None: it goes on."""

    def biases(self, best: int) -> Mapping[int, float]:
        """What is added to the scores of the next token, by id; minus infinity forbids it. ``best``: the likeliest."""

    def add(self, token_id: int) -> None:
        """Take the next token."""


class StoppingState:
    """One answer while it is made.

    Args:
        decode: turns ids into text.
        stop_ids: ids that end an answer.
        limit: the most tokens that it may have.
        loop_retries: how often the answer may leave a loop: it goes back to the first word that repeats, and that
            token is forbidden there.

    ``num_sources``: sources that the answer may cite. A mark that names none of them, or the same twice in a row, is
    left like a loop: small models count on after ``[1]``.
    """

    def __init__(
        self, decode: Decode, stop_ids: Collection[int], limit: int, loop_retries: int = 0, end_bonus: float = END_BONUS
    ) -> None:
        self._end_bonus = end_bonus
        self._decode = decode
        self._stop_ids = stop_ids
        self._limit = limit
        self._most_retries = loop_retries
        self._forbidden: dict[int, set[int]] = {}  # by position
        self._settled_ids = 0  # ids at the start that stay, whatever comes
        self._watch = LoopWatch()
        self._shown = 0
        # Start of the sentences at the end of the text that repeat earlier ones; None: the last one is new.
        self._repeats_from: int | None = None
        self._sentences_loop = False
        self._wrong_mark: int | None = None  # where it begins in the text
        self.num_sources = 0
        self.ids: list[int] = []
        self.finish_reason: FinishReason | None = None
        self.went_back = False
        self.num_retries = 0

    def forbid(self, token_id: int) -> None:
        """Forbid a token as the next one."""
        self._forbidden.setdefault(len(self.ids), set()).add(token_id)

    def biases(self, best: int) -> Mapping[int, float]:
        """What is added to the scores of the next token, by id.

        Minus infinity for those that led into a loop from here; where a sentence or a line ends in an answer that began
        to repeat itself, some more for the end, since it may have said what it had to say.

        Args:
            best: the likeliest next token.
        """
        biases = dict.fromkeys(self._forbidden.get(len(self.ids), ()), -math.inf)
        text = self._decode(self.ids)
        # A line break is decoded to nothing.
        if not self._decode([best]) or len(text) in sentence_ends(f"{text} X"):
            biases |= dict.fromkeys(self._stop_ids, self._end_bonus * self.num_retries)
        return biases

    def add(self, token_id: int) -> None:
        """Take the next token.

        Afterwards ``finish_reason`` tells whether it was the last one, and ``went_back`` whether ``ids`` were cut back
        to leave a loop.
        """
        self.went_back = False
        if token_id in self._stop_ids:
            self.finish_reason = "stop"
        else:
            self.ids.append(token_id)
            self._watch.add(token_id)
            text = self._decode([token_id])
            if any(mark in text for mark in _MARKS):  # it may have ended a sentence
                self._find_repeated_sentences()
            if self.num_sources and "]" in text:
                self._wrong_mark = start_of_wrong_mark(self._decode(self.ids), self.num_sources)
            checked = len(self.ids) % _CHECK_EVERY == 0 and len(self.ids) > _CHECK_EVERY
            repeats_much = checked and seq_rep_4(self._decode(self.ids)) > MOST_REPEATED_SO_FAR
            if self._watch.period is not None or self._sentences_loop or repeats_much or self._wrong_mark is not None:
                self.went_back = self._leave_loop(repeats_much)
                self.finish_reason = None if self.went_back else "repetition"
            elif len(self.ids) >= self._limit:
                self.finish_reason = "length"
        if self.finish_reason in ("stop", "length") and seq_rep_4(self._decode(self.ids)) > MOST_REPEATED:
            self.finish_reason = "repetition"

    def _leave_loop(self, repeats_much: bool) -> bool:
        """Go back to the first word that repeats and forbid its token there.

        Return whether that was done: it is not where no retry is left or no such word is found.
        """
        kept = self._num_ids_before_loop(repeats_much) if self.num_retries < self._most_retries else None
        if kept is None:
            return False
        # Text before the place of an earlier retry may have been shown.
        kept = max(kept, self._settled_ids)
        # A full stop, a new line or the sign of a list item may stand there again; what follows it must not.
        while (
            self._wrong_mark is None
            and kept < len(self.ids) - 1
            and not any(map(str.isalnum, self._decode([self.ids[kept]])))
        ):
            kept += 1
        self._settled_ids = kept
        self.num_retries += 1
        repeated, self.ids = self.ids[kept], self.ids[:kept]
        self.forbid(repeated)
        self._watch = LoopWatch()
        for token_id in self.ids:
            self._watch.add(token_id)
        self._find_repeated_sentences()
        self._wrong_mark = None
        return True

    def _num_ids_before_loop(self, repeats_much: bool) -> int | None:
        """Return how many ids stand before a wrong mark, a loop of tokens or sentences that repeat, in this order."""
        if self._wrong_mark is not None:
            return self._num_ids_up_to(self._wrong_mark)
        if (matched := self._watch.matched_in_loop) is not None:
            return len(self.ids) - matched
        repeats_from = self._repeats_from if self._sentences_loop else None
        if repeats_from is None and repeats_much:
            repeats_from = start_of_repeats(self._decode(self.ids))
        return None if repeats_from is None else self._num_ids_up_to(repeats_from)

    def _num_ids_up_to(self, position: int) -> int:
        """Return how many ids make the text up to a position."""
        return bisect_right(range(len(self.ids)), position, key=lambda n: len(self._decode(self.ids[: n + 1])))

    def new_text(self) -> str:
        """Return the text that is final, whatever comes next, and was not returned before."""
        text = self._settled_text() if self.finish_reason is None else self.text()
        piece = text[self._shown :]
        self._shown = max(self._shown, len(text))
        return piece

    def _settled_text(self) -> str:
        """Return the start of an unfinished answer that is final; nothing where no more of it is than before.

        Words that repeat earlier ones in the same order wait, since they may turn out to be a loop. In the second half
        of the limit an unfinished sentence waits, since it may have to go.
        """
        text = self._decode(self.ids[: len(self.ids) - self._watch.repeated])
        # U+FFFD at the end: the last character is not complete yet.
        if len(text) <= self._shown or text.endswith("\ufffd"):
            return ""
        end = _last_sentence_end(text)
        begun = text[end:].strip()
        sentences = (text[start:stop].strip() for start, stop in pairwise([0, *sentence_ends(text[:end])]))
        may_go = len(self.ids) > self._limit // 2 or any(sentence.startswith(begun) for sentence in sentences)
        settled = end if may_go else len(text)
        text = text[: settled if self._repeats_from is None else min(settled, self._repeats_from)]
        return text[: start_of_open_mark(text)] if self.num_sources else text

    def text(self) -> str:
        """Return the answer as it ended: whole, or cut back to a sentence where a loop or the limit ended it."""
        if self.finish_reason == "repetition":
            return self._without_loop()
        text = self._decode(self.ids)
        if self.finish_reason != "length":
            return text
        # A word is added so that a full stop at the very end counts.
        end = _last_sentence_end(f"{text} X")
        first_half = len(self._decode(self.ids[: self._limit // 2]))
        # What was shown cannot be taken back.
        return text[: max(end, self._shown)] if end >= max(1, first_half) else text

    def _find_repeated_sentences(self) -> None:
        # A word is added so that a full stop at the very end counts.
        text = f"{self._decode(self.ids)} X"
        ends = [0, *(end for end in sentence_ends(text) if end < len(text))]
        sentences = [text[start:end] for start, end in pairwise(ends)]
        count, self._sentences_loop = repeated_sentences(sentences)
        self._repeats_from = ends[-1 - count] if count else None

    def _without_loop(self) -> str:
        """Return the text up to the loop's second round, and a few tokens more if they complete a sentence."""
        if self._wrong_mark is not None:
            return self._decode(self.ids)[: self._wrong_mark].rstrip()
        settled = len(self._decode(self.ids[: self._settled_ids]))
        if self._sentences_loop and self._repeats_from is not None:
            return self._decode(self.ids)[: max(self._repeats_from, self._shown, settled)].rstrip()
        repeated = self._watch.repeated
        if repeated < _REPEATED_RUN:
            return self._decode(self.ids)
        kept = max(len(self.ids) - repeated, self._settled_ids)
        text = self._decode(self.ids[:kept])
        # A loop may begin in the middle of a sentence: its first round then lacks the end of the sentence.
        longer = self._decode(self.ids[: kept + min(repeated, self._watch.period or 0)])
        ends = [end for end in sentence_ends(longer) if len(text) <= end < len(longer)]
        return longer[: ends[0]] if ends else text


def _last_sentence_end(text: str) -> int:
    """Return the end of the last sentence that is followed by text; 0: there is none."""
    whole = len(text.rstrip())
    return max((end for end in sentence_ends(text) if end < whole), default=0)


class LoopWatch:
    """Follows the token ids of one answer; ``add`` costs time in proportion to the token's earlier occurrences."""

    def __init__(self) -> None:
        self._count = 0
        self._positions: dict[int, list[int]] = {}
        # For each distance: how many of the last tokens equal the tokens that far before them.
        self._matched: dict[int, int] = {}

    def add(self, token_id: int) -> None:
        """Take the next token."""
        positions = self._positions.setdefault(token_id, [])
        distances = [self._count - position for position in positions]
        self._matched = {distance: self._matched.get(distance, 0) + 1 for distance in distances}
        positions.append(self._count)
        self._count += 1

    @property
    def repeated(self) -> int:
        """Number of tokens at the end that occurred before in this order."""
        return max(self._matched.values(), default=0)

    @property
    def period(self) -> int | None:
        """The smallest number of tokens after which the end repeats itself; None: there is no loop."""

        def is_loop(distance: int, matched: int) -> bool:
            if distance >= LONG_PERIOD:
                return matched >= distance
            return matched >= 2 * distance and matched + distance >= SHORTEST_LOOP

        return min(
            (distance for distance, matched in self._matched.items() if is_loop(distance, matched)), default=None
        )

    @property
    def matched_in_loop(self) -> int | None:
        """Number of tokens at the end that repeat those ``period`` before them; None: there is no loop."""
        return None if self.period is None else self._matched[self.period]


def repeated_sentences(sentences: Sequence[str]) -> tuple[int, bool]:
    """Return how many sentences at the end repeat earlier ones, and whether they are a loop.

    A loop is a sentence that follows itself, or several repeated ones in a row.

    Args:
        sentences: the complete sentences of the answer so far.
    """
    words = [tuple(sentence.split()) for sentence in sentences]
    count = 0
    while count < len(words) and words[-1 - count] in words[: -1 - count]:
        count += 1
    repeated = words[len(words) - count :]
    doubled = count > 0 and words[-1] == words[-2] and len(words[-1]) >= _DOUBLED_WORDS
    return count, doubled or (count > 1 and sum(map(len, repeated)) >= _REPEATED_WORDS)


def start_of_repeats(text: str) -> int | None:
    """Return where the sentences at the end begin that are mostly made of runs of four words from before.

    Such sentences differ in a word or two, so that no run of tokens comes back whole.

    Args:
        text: an answer so far; its last sentence may be unfinished.

    Returns:
        a position in the text; None: the last sentence is mostly new.
    """
    seen: set[tuple[str, ...]] = set()
    start_of_block: int | None = None
    for start, end in pairwise([0, *sentence_ends(text)]):
        runs = _runs_of_words(text[start:end])
        repeated = sum(run in seen for run in runs)
        if not runs:  # a short line of a list, or one that has just begun
            continue
        if 2 * repeated < len(runs):
            start_of_block = None
        elif start_of_block is None:
            start_of_block = start
        seen.update(runs)
    return start_of_block


def _runs_of_words(text: str) -> list[tuple[str, ...]]:
    words = normalize(text).split()
    return list(zip(*(words[start:] for start in range(_RUN)), strict=False))


def seq_rep_4(text: str) -> float:
    """Return the share of runs of four words that occurred before in the text.

    Welleck et al. 2019, arXiv 1908.04319, section 3 (there on tokens). Words are compared without case and
    punctuation; a text of fewer than four words has 0.
    """
    runs = _runs_of_words(text)
    return 1 - len(set(runs)) / len(runs) if runs else 0.0


def has_loop(text: str) -> bool:
    """Tell whether a finished answer repeats itself in a loop.

    It does if a sentence of five words or more occurs three times, or if its end is periodic: a phrase of 3 to 100
    words occurs three times (from eight words on: twice) up to the last word.
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
