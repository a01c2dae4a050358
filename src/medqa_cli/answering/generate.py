"""Answer one question or many; a single answer can be streamed while it is generated."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

from medqa_cli.answering import engines
from medqa_cli.answering.emergencies import emergency_notices, with_language_note
from medqa_cli.answering.open_book import Lookup, keys_of
from medqa_cli.answering.stopping import Decode, StoppingState
from medqa_cli.config.schema import GenerateConfig
from medqa_cli.data.grounding import behind
from medqa_cli.data.retrieval import Passage, unsupported_citations, unsupported_sentences
from medqa_cli.errors import InputError
from medqa_cli.prompt.encoder import PromptEncoder
from medqa_cli.prompt.given import NOTHING, Given, Turn, without_marks
from medqa_cli.prompt.text import PromptText

NOTICE = (
    "This answer was written by a language model and may be wrong. It is not medical advice: ask a clinician. "
    "In an emergency call your local emergency number."
)
# Of the object that ``ask --json`` prints.
KEYS = (
    "question",
    "answer",
    "finish_reason",
    "complete",
    "prompt_tokens",
    "answer_tokens",
    "loop_retries",
    "seconds",
    "model",
    "notices",
    "sources",
    "reviewed",
    "nothing_near",
    "nothing_answers",
    "cited",
    "unsupported_sentences",
    "unsupported_citations",
)
EMPTY = InputError("the question is empty", 'ask like this: medqa ask "How to treat glaucoma?"')


@dataclass
class Prompted:
    """A question that can be answered: it on one line, the ids of its prompt, and the state of its answer.

    ``seconds``: from the start of its batch to its end; ``given``: what stands before the question.
    """

    question: str
    ids: list[int]
    state: StoppingState
    seconds: float = 0.0
    given: Given = NOTHING

    def answer(self) -> Answer:
        """Return the answer that the state holds."""
        return Answer(
            question=self.question,
            text=self.state.text(),
            finish_reason=self.state.finish_reason or "length",
            prompt_tokens=len(self.ids),
            answer_tokens=len(self.state.ids),
            loop_retries=self.state.num_retries,
            seconds=self.seconds,
            given=self.given,
        )


@dataclass(frozen=True)
class Answer:
    """An answer and how it ended.

    ``finish_reason``: ``stop`` at the end token, ``length`` at ``max_new_tokens`` or a full context, ``repetition``
    in a loop. ``text`` is cut back to a sentence in the last two cases; ``answer_tokens`` counts its tokens without the
    end token; ``loop_retries``: how often it left a loop. ``seconds``: from the start of its batch. ``given``: what
    stood before the question.
    """

    question: str
    text: str
    finish_reason: str
    prompt_tokens: int
    answer_tokens: int
    loop_retries: int
    seconds: float
    given: Given = NOTHING

    @property
    def complete(self) -> bool:
        """Whether the model ended the answer by itself."""
        return self.finish_reason == "stop"


def tidy(question: str) -> str:
    """Return a question on one line, as the model gets it."""
    return " ".join(question.split())


def answer_question(
    answerer: engines.Answerer,
    question: str,
    config: GenerateConfig,
    *,
    passages: Sequence[Passage] = (),
    given: Given = NOTHING,
    write: Callable[[str], None] | None = None,
) -> Answer:
    """Answer one question, as ``answer_questions`` does; control tokens in it stay text."""
    return answer_questions(answerer, [question], config, passages=[passages], given=[given], write=write)[0]


def answer_questions(
    answerer: engines.Answerer,
    questions: Sequence[str],
    config: GenerateConfig,
    *,
    passages: Sequence[Sequence[Passage]] = (),
    given: Sequence[Given] = (),
    write: Callable[[str], None] | None = None,
    on_finished: Callable[[int], None] | None = None,
) -> list[Answer]:
    """Answer questions in one batch; a greedy answer is the one that the question gets alone.

    Args:
        answerer: model and prompt contract.
        questions: plain texts.
        config: decoding.
        passages: what stands before each of them; empty: nothing before any.
        given: likewise earlier turns and contexts; turns without room are left out.
        write: gets pieces of the answer to a single question while it is generated; together they are its text.
        on_finished: called with the number of an answer when it has ended.

    Raises:
        InputError: a question is empty, or its prompt and an answer cannot fit the model's context.
    """
    prompted = prompt_questions(answerer, questions, config, passages, given)
    started = time.perf_counter()

    def follow(row: int) -> None:
        state = prompted[row].state
        if write is not None and (piece := state.new_text()):
            write(piece)
        if state.finish_reason is not None:
            prompted[row].seconds = time.perf_counter() - started
            if on_finished is not None:
                on_finished(row)

    prompts, states = [one.ids for one in prompted], [one.state for one in prompted]
    engines.decode(answerer, prompts, states, config, follow)
    return [one.answer() for one in prompted]


def prompt_questions(
    answerer: engines.Answerer,
    questions: Sequence[str],
    config: GenerateConfig,
    passages: Sequence[Sequence[Passage]] = (),
    given: Sequence[Given] = (),
    make_state: Callable[[Decode, Collection[int], int, int], StoppingState] = StoppingState,
) -> list[Prompted]:
    """Return questions with the ids of their prompts, and states without a token.

    Args:
        answerer: whose prompt contract and context count.
        questions: plain texts.
        config: the limit of an answer, and how often it may leave a loop.
        passages: what stands before each of them; empty: nothing before any.
        given: likewise earlier turns and contexts.
        make_state: makes the state of an answer from the arguments of ``StoppingState``.

    Raises:
        InputError: a question is empty, or its prompt and an answer cannot fit the model's context.
    """
    asked = [tidy(question) for question in questions]
    if not all(asked):
        raise EMPTY
    encoder = answerer.encoder
    stop_ids = frozenset(encoder.contract.stop_token_ids)
    prompts = encode_asked(encoder, asked, passages, given)
    prompted = []
    for question, ids, shown, before in zip(
        asked, prompts, passages or [()] * len(asked), given or [NOTHING] * len(asked), strict=True
    ):
        limit = max_answer_tokens(answerer, len(ids), config.max_new_tokens, len(shown))
        state = make_state(encoder.decode_answer, stop_ids, limit, config.loop_retries)
        # --sources may give more than the model was trained with.
        state.num_sources = max(encoder.contract.text.sources, len(shown))
        if any(passage.answers for passage in shown):
            state.forbid(encoder.decline_token_id)
        prompted.append(Prompted(question, ids, state, given=before))
    return prompted


def encode_asked(
    encoder: PromptEncoder,
    questions: Sequence[str],
    passages: Sequence[Sequence[Passage]],
    given: Sequence[Given] = (),
) -> list[list[int]]:
    """Return the ids of the prompts of questions on one line, each behind its passages, or what is given with it."""
    if not passages:
        return encoder.encode_prompts(questions, given)
    shown = [behind(of_question, question, encoder) for question, of_question in zip(questions, passages, strict=True)]
    return encoder.encode_prompts(shown, given)


def asked_of(text: PromptText, question: str, given: Given) -> tuple[str, Given]:
    """Return a question and what is given with it as a model takes it.

    For one that learned single questions the last turn stands within the question.

    Raises:
        InputError: there is a context, and the model learned none.
    """
    given = tidy_given(given)
    if given.context and not text.context:
        raise InputError("this model was trained without contexts", "write it into the question")
    if given.earlier and text.earlier is None:
        return following(*given.earlier[-1], question), replace(given, earlier=())
    return question, given


def following(earlier_question: str, earlier_answer: str, question: str) -> str:
    """Return a question behind the question and answer before it."""
    # Its marks number other sources than those of the next answer.
    answer = without_marks(earlier_answer)
    return f"Earlier question: {earlier_question} Earlier answer: {answer} Question: {question}"


def tidy_given(given: Given) -> Given:
    """Return what is given as the model gets it: questions on one line, and no white space around other texts."""
    turns = (Turn(tidy(turn.question), turn.answer.strip()) for turn in given.earlier)
    if not given.context:
        return Given(tuple(turns))
    from medqa_cli.data.cleaning.rules import tidy_paragraphs  # with it all rules; few questions have a context

    return Given(tuple(turns), tidy_paragraphs(given.context))


def as_json(
    answer: Answer, answerer: engines.Answerer, lookup: Lookup | None = None, beside: Sequence[Passage] = ()
) -> dict[str, Any]:
    """Return the object that ``ask --json`` prints.

    Args:
        answer: the answer.
        answerer: the model that gave it.
        lookup: what the data said before, and the passages in the prompt.
        beside: passages that the model did not see.
    """
    lookup = lookup or Lookup()
    shown = lookup.passages or beside
    text = answerer.encoder.contract.text
    texts = [f"{passage.title} {passage.text}" for passage in shown]
    # For a model that learned no marks a number in brackets is one.
    citations = unsupported_citations(answer.text, texts[: len(lookup.passages)], text.decline) if text.sources else []
    return {
        "question": answer.question,
        "answer": answer.text,
        "finish_reason": answer.finish_reason,
        "complete": answer.complete,
        "prompt_tokens": answer.prompt_tokens,
        "answer_tokens": answer.answer_tokens,
        "loop_retries": answer.loop_retries,
        "seconds": round(answer.seconds, 3),
        "model": engines.describe(answerer),
        "notices": [*emergency_notices(answer.question, answer.given), with_language_note(NOTICE, answer.question)],
        "sources": [passage.as_json() for passage in shown],
        **keys_of(lookup, answer.text),
        "unsupported_sentences": (
            # What declines needs no support.
            unsupported_sentences(without_marks(answer.text), [*texts, text.decline]) if shown else []
        ),
        "unsupported_citations": citations,
    }


def max_answer_tokens(answerer: engines.Answerer, prompt_tokens: int, max_new_tokens: int, num_sources: int = 0) -> int:
    """Return how many tokens an answer may have.

    Raises:
        InputError: the prompt fills the model's context.
    """
    context = engines.context_length(answerer) or prompt_tokens + max_new_tokens
    if prompt_tokens >= context:
        who = f"the question and {num_sources} sources make" if num_sources else "the question makes"
        raise InputError(
            f"{who} a prompt of {prompt_tokens} tokens, but the model's context is {context} tokens",
            "ask with fewer sources: --sources 1" if num_sources > 1 else "ask a shorter question",
        )
    return min(max_new_tokens, context - prompt_tokens)
