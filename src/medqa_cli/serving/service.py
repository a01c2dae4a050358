"""Answers questions of many callers, by the rules of ``medqa ask``.

Three threads: the event loop's, the model's (``rows.Batches``), and one that looks things up in the data and encodes
prompts. Nothing of a question or an answer is kept or logged.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import functools
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from medqa_cli.answering import engines, open_book
from medqa_cli.answering.ask import AskOptions
from medqa_cli.answering.emergencies import emergency_notices
from medqa_cli.answering.generate import Prompted, as_json, prompt_questions, tidy
from medqa_cli.answering.open_book import Lookup, OpenBook
from medqa_cli.config.schema import Config
from medqa_cli.data.retrieval import Passage
from medqa_cli.errors import InputError, MedqaError
from medqa_cli.model.gguf_model import LlamaModel
from medqa_cli.prompt.text import PromptText
from medqa_cli.serving.model_thread import Batches, Continuous, ModelThread, Row, ServedState
from medqa_cli.serving.requests import SOURCES, AnswerRequest, ApiError

SECONDS_BETWEEN_SIGNS = 15.0  # of life, while a question waits
_LONG_PROMPT = 1024  # tokens, without sources: each answer of llama.cpp has room for so many


@dataclass(frozen=True)
class Prepared:
    """What the data says to a question, and the prompt; no prompt where no model is to answer.

    ``notices``: of an emergency; ``turns_left_out``: earlier turns for which the prompt has no room.
    """

    question: str
    notices: list[str]
    found: Lookup
    beside: list[Passage]
    prompted: Prompted | None
    turns_left_out: int = 0


class Service:
    """One model and its data.

    Args:
        config: the run, its data, limits, and how answers are generated.
        choice: which model.
        answerer: that model.
        options: what is shown beside an answer.

    Raises:
        InputError: the data cannot be read.
    """

    def __init__(self, config: Config, choice: str, answerer: engines.Answerer, options: AskOptions) -> None:
        self._answerer, self._options = answerer, options
        self._model: ModelThread
        if isinstance(answerer, LlamaModel):
            most = min(engines.rows_at_once(answerer, config.generate, _LONG_PROMPT), config.serve.max_requests)
            # Titles of sources take room beside their texts.
            text = answerer.encoder.contract.text
            longest = _LONG_PROMPT + 2 * text.sources * text.source_tokens
            longest = max(longest, text.earlier.max_tokens if text.earlier else 0)
            self._longest_prompt: int | None = longest
            self._model = Continuous(answerer, most, config.generate.max_new_tokens, longest)
        else:
            self._longest_prompt = None
            self._model = Batches(answerer)
        self._data = ThreadPoolExecutor(1, "data")
        # A tokenizer cannot be used by two threads.
        self._encoder = copy.deepcopy(answerer.encoder)
        # SQLite's connections belong to the thread that made them.
        self._book = self._data.submit(OpenBook.of, config, choice, options.sources).result()

    @property
    def prompt(self) -> PromptText:
        """How the model is asked."""
        return self._answerer.encoder.contract.text

    def close(self) -> None:
        """Answer what is under way, and end."""
        self._data.shutdown()
        self._model.close()

    async def prepare(self, asked: AnswerRequest) -> Prepared:
        """Look a question up and encode its prompt.

        Raises:
            ApiError: the prompt does not fit the model's context.
        """
        return await asyncio.get_running_loop().run_in_executor(self._data, self._prepare, asked)

    def _prepare(self, asked: AnswerRequest) -> Prepared:
        question = tidy(asked.question)
        options = replace(
            self._options,
            also_model=self._options.also_model or asked.also_model,
            anyway=self._options.anyway or asked.anyway,
        )
        in_full = tidy(asked.given.before(question))
        notices = [*emergency_notices(tidy(asked.typed)), *emergency_notices(question, asked.given)]
        notices = list(dict.fromkeys(notices))
        found = self._book.look_up(in_full)
        if options.is_settled(found):
            return Prepared(question, notices, found, [], None)
        found = replace(found, passages=self._book.passages(question, self._encoder))
        make_state = functools.partial(ServedState, stops=asked.stops)
        lent = replace(self._answerer, encoder=self._encoder)
        try:
            kept = self._encoder.fitted(question, asked.given)
            (prompted,) = prompt_questions(lent, [question], asked.settings, [found.passages], [kept], make_state)
        except InputError as error:
            raise ApiError(400, error.message, "context_length_exceeded") from error
        if self._longest_prompt is not None and len(prompted.ids) > self._longest_prompt:
            what = f"a prompt of {len(prompted.ids):,} tokens; at most {self._longest_prompt:,} are read here"
            raise ApiError(400, f"the question makes {what}", "context_length_exceeded")
        left_out = len(asked.given.earlier) - len(kept.earlier)
        return Prepared(question, notices, found, self._book.shown_beside(question), prompted, left_out)

    async def answer(self, asked: AnswerRequest, prepared: Prepared) -> AsyncGenerator[str | dict[str, Any], None]:
        """Yield the pieces of an answer (empty ones while it waits), and at last what ``ask --json`` prints.

        Closing the iterator ends the answer at its next token.

        Raises:
            ApiError: the model failed.
        """
        before = [f"{notice}\n\n" for notice in prepared.notices]
        if prepared.prompted is None:
            data = open_book.as_json(prepared.question, prepared.found)
            data["notices"] = list(dict.fromkeys([*prepared.notices, *data["notices"]]))
            settled = "\n\n".join(filter(None, [data["answer"], data["notices"][-1]]))
            text = data["answer"] if asked.bare else "".join([*before, settled])
            for part in filter(None, [text]):
                yield part
            yield data
            return
        if not asked.bare:
            if prepared.found.reviewed is not None:
                row = prepared.found.reviewed
                before.append(f"Reviewed answer, word for word: {row.title}\n\n{row.text}\n\nThe model's answer:\n\n")
            for part in before:
                yield part
        async for piece in self._pieces(asked, prepared.prompted):
            yield piece
        answer = prepared.prompted.answer()
        data = as_json(answer, self._answerer, prepared.found, prepared.beside)
        data["notices"] = list(dict.fromkeys([*prepared.notices, *data["notices"]]))
        if prepared.turns_left_out:
            data["earlier_turns_left_out"] = prepared.turns_left_out
        if not asked.bare:
            passages = prepared.found.passages
            lines = open_book.source_lines(passages, data["cited"])
            lines += open_book.citation_lines(data["unsupported_citations"], len(passages))
            if lines:
                yield SOURCES + "\n".join(lines)
            yield f"\n\n{data['notices'][-1]}"
        yield data

    async def _pieces(self, asked: AnswerRequest, prompted: Prompted) -> AsyncGenerator[str, None]:
        loop = asyncio.get_running_loop()
        events: asyncio.Queue[str | MedqaError | None] = asyncio.Queue()

        def tell(event: str | MedqaError | None) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(events.put_nowait, event)

        state = prompted.state
        assert isinstance(state, ServedState)
        self._model.submit(Row(prompted, state, asked.settings, tell, tell))
        try:
            while True:
                try:
                    event = await asyncio.wait_for(events.get(), SECONDS_BETWEEN_SIGNS)
                except TimeoutError:
                    yield ""
                    continue
                if event is None:
                    return
                if isinstance(event, MedqaError):
                    raise ApiError(500, event.message)
                yield event
        finally:
            state.is_cancelled = True
