"""The thread of the model: questions of many callers, those that wait in one batch."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from medqa_cli.answering.decode import decode_batch, pick_batch_size
from medqa_cli.answering.generate import Prompted
from medqa_cli.answering.stopping import Decode, StoppingState
from medqa_cli.config.schema import GenerateConfig
from medqa_cli.errors import MedqaError, first_line
from medqa_cli.model.load import LoadedModel


class ServedState(StoppingState):
    """The state of an answer that also ends at texts of the caller, or when the caller has gone.

    Args:
        decode: turns ids into text.
        stop_ids: ids that end an answer.
        limit: the most tokens that it may have.
        loop_retries: how often the answer may leave a loop.
        stops: texts that end it; they are not part of it.
    """

    def __init__(
        self,
        decode: Decode,
        stop_ids: Collection[int],
        limit: int,
        loop_retries: int = 0,
        stops: Sequence[str] = (),
    ) -> None:
        super().__init__(decode, stop_ids, limit, loop_retries)
        self._decode_all = decode
        self._stops = stops
        self._given = ""
        self._returned = 0
        self.is_cancelled = False

    def add(self, token_id: int) -> None:
        """Take the next token."""
        super().add(token_id)
        if self.finish_reason is None and self._stops and self._cut(text := self._decode_all(self.ids)) != text:
            self.finish_reason, self.went_back = "stop", False
        if self.finish_reason is None and self.is_cancelled:
            self.finish_reason, self.went_back = "length", False

    def text(self) -> str:
        """Return the answer as it ended, up to the first text that ends it."""
        return self._cut(super().text())

    def new_text(self) -> str:
        """Return text that is final; what may be the beginning of a text that ends the answer waits."""
        self._given += super().new_text()
        final = self.text()
        if self.finish_reason is None:
            final = self._cut(self._given)
            final = final[: len(final) - max((_overlap(final, stop) for stop in self._stops), default=0)]
        piece = final[self._returned :]
        self._returned = max(self._returned, len(final))
        return piece

    def _cut(self, text: str) -> str:
        return text[: min((at for stop in self._stops if (at := text.find(stop)) >= 0), default=len(text))]


def _overlap(text: str, stop: str) -> int:
    """Return how many characters at the end of a text are the beginning of another."""
    return next((size for size in range(min(len(stop), len(text)), 0, -1) if text.endswith(stop[:size])), 0)


@dataclass
class Row:
    """A question for the model. The functions are called in the model's thread.

    ``state``: that of the question; ``on_text``: gets each piece; ``on_end``: None, or the error that ended it.
    """

    prompted: Prompted
    state: ServedState
    settings: GenerateConfig
    on_text: Callable[[str], None]
    on_end: Callable[[MedqaError | None], None]


class Batches:
    """Answers rows with one model, in a thread of its own.

    What waits when a batch ends is the next one; rows with other settings wait for one more.
    """

    def __init__(self, answerer: LoadedModel) -> None:
        self._answerer = answerer
        self._waiting: queue.SimpleQueue[Row | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="model", daemon=True)
        self._thread.start()

    def submit(self, row: Row) -> None:
        """Answer a row as soon as may be."""
        self._waiting.put(row)

    def close(self) -> None:
        """Answer what waits, and end."""
        self._waiting.put(None)
        self._thread.join()

    def _run(self) -> None:
        held: list[Row] = []
        is_open = True
        while is_open or held:
            # Without work: wait for some.
            while is_open and (not held or not self._waiting.empty()):
                row = self._waiting.get()
                if row is None:
                    is_open = False
                else:
                    held.append(row)
            if not held:
                return
            # Nobody waits for these any more.
            held = [row for row in held if not row.state.is_cancelled]
            if not held:
                continue
            key = _decoding(held[0].settings)
            alike = [row for row in held if _decoding(row.settings) == key]
            batch = alike[: self._most_rows(alike)]
            held = [row for row in held if all(row is not other for other in batch)]
            self._answer(batch)

    def _most_rows(self, rows: Sequence[Row]) -> int:
        model, longest = self._answerer, max(len(row.prompted.ids) for row in rows)
        return pick_batch_size(model.model, model.device, model.dtype, rows[0].settings, longest)

    def _answer(self, rows: Sequence[Row]) -> None:
        started = time.perf_counter()

        def follow(number: int) -> None:
            row = rows[number]
            if piece := row.state.new_text():
                row.on_text(piece)
            if row.state.finish_reason is not None:
                row.prompted.seconds = time.perf_counter() - started
                row.on_end(None)

        prompts, states = [row.prompted.ids for row in rows], [row.state for row in rows]
        try:
            decode_batch(self._answerer.model, self._answerer.device, prompts, states, rows[0].settings, follow)
        except Exception as error:  # the other callers go on being answered
            told = error if isinstance(error, MedqaError) else MedqaError(f"the model failed: {first_line(error)}")
            for row in rows:
                if row.state.finish_reason is None:
                    row.on_end(told)


def _decoding(settings: GenerateConfig) -> tuple[float, ...]:
    """Return what rows of one batch share."""
    return settings.temperature, settings.top_p
