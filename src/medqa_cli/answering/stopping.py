"""When one answer ends, why, and which text is kept of it.

The same state serves one streamed answer and each row of a batch, so that both end alike.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from itertools import pairwise
from typing import Literal

from medqa_cli.answering.repetition import MOST_REPEATED, MOST_REPEATED_SO_FAR, LoopWatch, repeated_sentences, seq_rep_4
from medqa_cli.prompt.sentence_ends import sentence_ends

FinishReason = Literal["stop", "length", "repetition"]
Decode = Callable[[Sequence[int]], str]

_LOOK_EVERY = 32  # tokens between two looks at the share of repeated words, which need the text
_MARKS = ".!?…。！？｡"
_REPEATED_RUN = 8  # tokens; a shorter repeated end is an ordinary phrase


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
