"""The thread of the model: questions of many callers, answered together."""

from __future__ import annotations

import functools
import queue
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from medqa_cli.answering import engines
from medqa_cli.answering.generate import Prompted
from medqa_cli.answering.llamacpp_decode import Rows
from medqa_cli.answering.stopping import Decode, StoppingState
from medqa_cli.config.schema import GenerateConfig
from medqa_cli.errors import MedqaError, first_line
from medqa_cli.model.gguf_model import LlamaModel


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
            begun = (size for stop in self._stops for size in range(len(stop) + 1) if final.endswith(stop[:size]))
            final = final[: len(final) - max(begun, default=0)]
        piece = final[self._returned :]
        self._returned = max(self._returned, len(final))
        return piece

    def _cut(self, text: str) -> str:
        return text[: min((at for stop in self._stops if (at := text.find(stop)) >= 0), default=len(text))]


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

    def follow(self, started: float) -> None:
        """Pass on what the state has after a token; ``started``: when the row began."""
        if piece := self.state.new_text():
            self.on_text(piece)
        if self.state.finish_reason is not None:
            self.prompted.seconds = time.perf_counter() - started
            self.on_end(None)


class ModelThread(ABC):
    """Answers rows with one model, in a thread of its own."""

    def __init__(self) -> None:
        self._waiting: queue.SimpleQueue[Row | None] = queue.SimpleQueue()
        self._is_open = True
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
        while self._is_open or held or self._is_busy():
            # All that came; one at least where nothing else is to do.
            waits = not held and not self._is_busy()
            while self._is_open and (waits or not self._waiting.empty()):
                row = self._waiting.get()
                if row is None:
                    self._is_open = False
                else:
                    held.append(row)
                waits = False
            # Nobody waits for those that are cancelled.
            held = self._continue([row for row in held if not row.state.is_cancelled])

    def _is_busy(self) -> bool:
        """Tell whether rows that began go on at the next call of ``_continue``."""
        return False

    @abstractmethod
    def _continue(self, rows: list[Row]) -> list[Row]:
        """Answer some rows, or all of them a little; return those that have not begun."""

    def _fail(self, rows: Iterable[Row], error: Exception) -> None:
        told = error if isinstance(error, MedqaError) else MedqaError(f"the model failed: {first_line(error)}")
        for row in rows:
            if row.state.finish_reason is None:
                row.on_end(told)


class Batches(ModelThread):
    """Over Transformers: what waits when a batch ends is the next one; rows with other settings wait for one more."""

    def __init__(self, answerer: engines.Answerer) -> None:
        self._answerer = answerer
        super().__init__()

    def _continue(self, rows: list[Row]) -> list[Row]:
        if not rows:
            return []
        key = _decoding(rows[0].settings)
        alike = [row for row in rows if _decoding(row.settings) == key]
        longest = max(len(row.prompted.ids) for row in alike)
        batch = alike[: engines.rows_at_once(self._answerer, rows[0].settings, longest)]
        started = time.perf_counter()

        def follow(number: int) -> None:
            batch[number].follow(started)

        prompts, states = [row.prompted.ids for row in batch], [row.state for row in batch]
        try:
            engines.decode(self._answerer, prompts, states, rows[0].settings, follow)
        except Exception as error:  # the other callers go on being answered
            self._fail(batch, error)
        return [row for row in rows if all(row is not other for other in batch)]


class Continuous(ModelThread):
    """Over llama.cpp: rows join and leave at any step, each with its own settings."""

    def __init__(self, answerer: LlamaModel, most: int, max_new_tokens: int, longest_prompt: int) -> None:
        """Make room.

        Args:
            answerer: the model.
            most: rows at one time, if they fit into memory.
            max_new_tokens: of an answer.
            longest_prompt: in tokens.
        """
        weights = answerer.weights
        tokens_each = min(weights.context_length, longest_prompt + max_new_tokens)
        self._context = weights.open(weights.pick_sequences(most, tokens_each), tokens_each)
        self._rows = Rows(self._context)
        self._under_way: list[Row] = []
        super().__init__()

    def close(self) -> None:
        """Answer what waits, and end."""
        super().close()
        self._context.close()

    def _is_busy(self) -> bool:
        return bool(self._under_way)

    def _continue(self, rows: list[Row]) -> list[Row]:
        while rows and self._rows.has_room:
            row = rows.pop(0)
            self._under_way.append(row)
            # The time of a row counts from here.
            self._rows.add(
                row.prompted.ids, row.state, row.settings, functools.partial(row.follow, time.perf_counter())
            )
        try:
            if len(self._rows):
                self._rows.step()
        except Exception as error:  # callers that come later are answered
            self._rows.clear()
            self._fail(self._under_way, error)
            self._under_way = []
        self._under_way = [row for row in self._under_way if row.state.finish_reason is None]
        return rows


def _decoding(settings: GenerateConfig) -> tuple[float, ...]:
    """Return what rows of one batch share."""
    return settings.temperature, settings.top_p
