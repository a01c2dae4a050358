"""Run a model over the questions: likelihoods of the reference answers, and its greedy answers.

The token loop is that of ``answering``. Beside the answers of ``ask`` stand plain greedy ones, of which nothing is cut.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from medqa_cli import console, distributed
from medqa_cli.answering import engines
from medqa_cli.answering.decode import MOST_ROWS
from medqa_cli.answering.stopping import Decode, RowState, StoppingState
from medqa_cli.config.schema import Config, GenerateConfig
from medqa_cli.errors import MedqaError
from medqa_cli.evaluation.samples import GeneratedAnswer
from medqa_cli.journal import SharedJournal
from medqa_cli.model.devices import free_unused_memory
from medqa_cli.model.gguf_model import OF_RUN, LlamaModel
from medqa_cli.model.kernels.packing import AnswerScore, pack, score_answers, scores_of_logits
from medqa_cli.model.kernels.verify import settle_way
from medqa_cli.model.load import LoadedModel, load_base, load_model
from medqa_cli.prompt.encoder import Example, PromptEncoder
from medqa_cli.prompt.given import Given

# Forwards in a piece of work that a second start finds done.
_FORWARDS_PER_PIECE = 8
_SECONDS_BETWEEN_REPORTS = 0.5


def each_model(names: Sequence[str], config: Config, *, packed: bool) -> Iterator[LoadedModel]:
    """Yield adapter, base and merged where they are named; base and adapter share their weights. No GGUF file is.

    Each is released before the next one loads (its ``model`` is then None), since two at once may not fit.

    Args:
        names: of ``MODEL_NAMES``.
        config: the run, and how they are loaded.
        packed: for likelihoods (padding-free forward passes) rather than for generation.

    Raises:
        InputError: a model is not there.
    """
    how = {"packed": packed, "batches": not packed}

    def lent(loaded: LoadedModel) -> Iterator[LoadedModel]:
        yield loaded
        loaded.model = None

    if {"adapter", "base"} & set(names):
        with console.status("loading ..."):
            tuned = load_model("adapter", config.run, config.model, config.prompt, **how)
        if "adapter" in names:
            yield from lent(replace(tuned))
        if "base" in names and tuned.model.peft_config["default"].bias == "none":
            with tuned.model.disable_adapter():
                yield from lent(replace(tuned, name="base"))
        elif "base" in names:
            # Trained biases are in the base's own layers, and disabling the adapter leaves them there.
            tuned.model = None
            free_unused_memory(tuned.device)
            tuned.model = load_base(tuned.source, config.model, tuned.device, tuned.dtype, **how)
            if packed:
                settle_way(tuned.model, tuned.source.name, tuned.dtype, trains=False, fuses=False)
            yield from lent(replace(tuned, name="base"))
        tuned.model = None
        free_unused_memory(tuned.device)
    if "merged" in names:
        with console.status("loading ..."):
            merged = load_model("merged", config.run, config.model, config.prompt, **how)
        yield from lent(merged)
        free_unused_memory(merged.device)


def each_answerer(names: Sequence[str], config: Config, num_questions: int) -> Iterator[engines.Answerer]:
    """Yield the models that write answers: all through llama.cpp or all through Transformers, so that they compare.

    Only a GGUF file, which is measured as other tools run it, is always llama.cpp's.

    Raises:
        InputError: a model is not there, or not for the engine that ``generate.engine`` names.
    """
    loaded_here = [name for name in names if name != OF_RUN]
    # What is measured of the machine for it may differ between ranks.
    if not distributed.from_main(lambda: engines.llama_answers_many(config, loaded_here, num_questions)):
        yield from each_model(loaded_here, config, packed=False)
        names = [name for name in names if name == OF_RUN]
    for name in names:
        answerer = engines.load_answerer(config, name, batches=True)
        yield answerer
        engines.release(answerer)


def score_likelihood(
    loaded: engines.Answerer, examples: Sequence[Example], batch_size: int, journal: SharedJournal
) -> list[AnswerScore]:
    """Score each example's answer, in the order given; finished pieces are taken from the journal.

    A model of Transformers was loaded with ``packed=True``. A GGUF file's logits are llama.cpp's own.

    Raises:
        MedqaError: a likelihood is not a finite number.
    """

    def compute(part: Sequence[Example], on_progress: Callable[[float], None]) -> list[tuple[float, int]]:
        if isinstance(loaded, LlamaModel):
            scores = _scores_of_gguf(loaded, part, on_progress)
            kind, hint = loaded.quantization, "write another type: medqa merge --gguf f16"
        else:
            scores = score_answers(
                loaded.model,
                part,
                batch_size=batch_size,
                device=loaded.device,
                dtype=loaded.dtype,
                on_progress=on_progress,
            )
            kind = str(loaded.dtype)
            hint = "set model.compute_dtype to float32 (or bfloat16), then give the same command again"
        broken = sum(not math.isfinite(score.nll_sum) for score in scores)
        if broken:
            raise MedqaError(f"{loaded.name}: {broken} of {len(scores)} likelihoods are not finite in {kind}", hint)
        return [(score.nll_sum, score.num_tokens) for score in scores]

    values = journal.map(
        f"likelihood/{loaded.name}",
        compute,
        examples,
        size=batch_size * _FORWARDS_PER_PIECE,
        title=f"scoring {loaded.name}",
        length=lambda example: len(example.input_ids),
    )
    return [AnswerScore(nll_sum, num_tokens) for nll_sum, num_tokens in values]


def _scores_of_gguf(
    loaded: LlamaModel, examples: Sequence[Example], on_progress: Callable[[float], None]
) -> list[AnswerScore]:
    scores: list[AnswerScore] = []
    context = loaded.weights.open(1, max(len(example.input_ids) for example in examples))
    try:
        for example in examples:
            batch = pack([example], torch.device("cpu"))
            logits = context.logits_at(example.input_ids, batch.logit_positions.tolist())
            scores += scores_of_logits(torch.from_numpy(logits), batch)
            on_progress(len(scores))
    finally:
        context.close()
    return scores


class WholeAnswer:
    """The state of an answer of which nothing is cut: ``ask`` ends loops at a sentence, here they are measured."""

    def __init__(self, decode: Decode, stop_ids: Sequence[int], limit: int) -> None:
        self._decode, self._stop_ids, self._limit = decode, stop_ids, limit
        self.went_back = False
        self.num_retries = 0
        self.ids: list[int] = []
        self.finish_reason: str | None = None
        self._forbidden_first: int | None = None

    def forbid(self, token_id: int) -> None:
        """Forbid a token as the first one."""
        self._forbidden_first = token_id

    def biases(self, best: int) -> Mapping[int, float]:
        """Nothing is added to any score but that of a forbidden first token."""
        return {} if self.ids or self._forbidden_first is None else {self._forbidden_first: -math.inf}

    def add(self, token_id: int) -> None:
        """Take the next token; the end token is not part of the answer."""
        if token_id in self._stop_ids:
            self.finish_reason = "stop"
            return
        self.ids.append(token_id)
        if len(self.ids) >= self._limit:
            self.finish_reason = "length"

    def text(self) -> str:
        """Return the whole answer."""
        return self._decode(self.ids)

    def replay_into(self, state: StoppingState) -> None:
        """Feed the finished answer to a new state of ``ask``, until that state ends or goes back out of a loop."""
        end = self._stop_ids[:1] if self.finish_reason == "stop" else ()
        for token_id in (*self.ids, *end):
            state.add(token_id)
            if state.went_back or state.finish_reason is not None:
                break


def generate_answers(
    loaded: engines.Answerer,
    encoder: PromptEncoder,
    questions: Sequence[str],
    config: GenerateConfig,
    journal: SharedJournal,
    arm: str = "",
    must_answer: Sequence[bool] = (),
    given: Sequence[Given] = (),
) -> tuple[list[GeneratedAnswer], list[GeneratedAnswer]]:
    """Answer each question, in the order given; finished pieces are taken from the journal.

    Args:
        loaded: a model for generation, not a packed one, or one of llama.cpp.
        encoder: its prompt contract.
        questions: plain texts, or as they stand behind their sources.
        config: the limit of new tokens, the batch size, the penalties and the retries; decoding is always greedy.
        journal: where finished pieces are kept.
        arm: of the sources; it tells these answers from others of the model. No plain ones are made there.
        must_answer: which of the answers may not begin with the words that decline; empty: none.
        given: what stands before each question in its conversation; empty: nothing.

    Returns:
        the answers as ``ask`` gives them, and plain greedy ones, of which nothing is cut and which stay in their loops.
        Without ``loop_retries`` both are the plain ones.
    """
    context = engines.context_length(loaded)
    prompts = encoder.encode_prompts(questions, given)
    num_full = sum(context is not None and len(prompt) >= context for prompt in prompts)
    if num_full:
        console.warn(
            f"{loaded.name + arm}: {num_full} of {len(prompts)} prompts fill the model's context of {context} tokens: "
            "their answers are empty"
        )
    # The same pieces in every run, whatever the memory of a rank or of the next start.
    size = MOST_ROWS if config.batch_size == "auto" else config.batch_size
    size = min(size, max(1, -(-len(prompts) // distributed.world_size())))
    longest = max((len(prompt) for prompt in prompts), default=1)
    at_once = engines.rows_at_once(loaded, config, longest)

    def compute(part: Sequence[tuple[list[int], bool]], on_progress: Callable[[float], None]) -> list[list[list[Any]]]:
        room = [context - len(ids) if context else config.max_new_tokens for ids, _ in part]
        limits = [min(config.max_new_tokens, left) for left in room]
        told = _Progress(limits, on_progress)

        def go_on(of_all: Sequence[RowState], indices: Sequence[int], since: float = 0.0, to: float = 1.0) -> None:
            chosen = [part[index][0] for index in indices], [of_all[index] for index in indices]
            greedy = replace(config, temperature=0.0)
            engines.decode(loaded, *chosen, greedy, told.of(of_all, since, to), at_once)

        answers, plain = _decode_twice(encoder, part, limits, config.loop_retries, go_on, with_plain=not arm)
        return [[_as_list(answer), _as_list(whole)] for answer, whole in zip(answers, plain, strict=True)]

    name = loaded.name + arm
    engine = engines.describe_engine(loaded)["engine"]
    values = journal.map(
        f"answers/{name}/{size}/{engine}",  # which engine is faster may turn out otherwise at the next start
        compute,
        list(zip(prompts, must_answer or [False] * len(prompts), strict=True)),
        size=size,
        title=f"answering with {name}",
        length=lambda item: len(item[0]),
    )
    return [GeneratedAnswer(*answer) for answer, _ in values], [GeneratedAnswer(*plain) for _, plain in values]


def _decode_twice(
    encoder: PromptEncoder,
    questions: Sequence[tuple[list[int], bool]],
    limits: Sequence[int],
    loop_retries: int,
    go_on: Callable[..., None],
    *,
    with_plain: bool,
) -> tuple[Sequence[WholeAnswer | StoppingState], Sequence[WholeAnswer | StoppingState]]:
    """Return the finished states of answers as ``ask`` gives them, and of plain greedy ones.

    Without retries the plain ones stand for both, and without ``with_plain`` those of ``ask`` do: the model then runs
    once. Otherwise it runs on for the answers that leave a loop.

    Args:
        encoder: the prompt contract.
        questions: the ids of each prompt, and whether its answer may not decline.
        limits: the most tokens of each answer.
        loop_retries: how often an answer of ``ask`` may leave a loop.
        go_on: decodes the answers at some indices of a list of states to their end, ``since`` one share of their work
            ``to`` another.
        with_plain: whether plain answers are wanted beside those of ``ask``.
    """
    stop_ids = encoder.contract.stop_token_ids
    # A prompt that fills the context has no answer, and takes nothing from the others.
    asked = [index for index, limit in enumerate(limits) if limit > 0]
    states = [StoppingState(encoder.decode_answer, stop_ids, limit, loop_retries) for limit in limits]
    plain = [WholeAnswer(encoder.decode_answer, stop_ids, limit) for limit in limits]
    for (_, must_answer), state, whole in zip(questions, states, plain, strict=True):
        state.num_sources = encoder.contract.text.sources
        if must_answer:
            state.forbid(encoder.decline_token_id)
            whole.forbid(encoder.decline_token_id)
    if not loop_retries:
        go_on(plain, asked)
        return plain, plain
    if not with_plain:
        go_on(states, asked)
        return states, states
    go_on(plain, asked, to=0.5)
    # Up to the first loop both answers are the same. From there the states that went back go on.
    for whole, state in zip(plain, states, strict=True):
        whole.replay_into(state)
    go_on(states, [index for index in asked if states[index].finish_reason is None], since=0.5)
    return states, plain


def _as_list(state: WholeAnswer | StoppingState) -> list[Any]:
    return [state.text(), state.finish_reason or "length", len(state.ids)]


class _Progress:
    """Reports how many answers of a piece of work there are, now and then; of one that goes on its share of the limit.

    Args:
        limits: of the tokens of each answer; one without room for any is done.
        on_progress: takes the number.
    """

    def __init__(self, limits: Sequence[int], on_progress: Callable[[float], None]) -> None:
        self._limits, self._on_progress = limits, on_progress
        self._told_at, self._most = time.monotonic(), 0.0

    def of(self, states: Sequence[RowState], since: float = 0.0, to: float = 1.0) -> Callable[[int], None]:
        """Return the ``on_token`` of a pass that takes an answer from one share of its work to another.

        One that ended by itself is done, whatever pass may follow.
        """

        def share(state: RowState, limit: int) -> float:
            if limit <= 0 or state.finish_reason == "stop":
                return 1.0
            return to if state.finish_reason else since + (to - since) * len(state.ids) / limit

        def on_token(_: int) -> None:
            now = time.monotonic()
            if now - self._told_at >= _SECONDS_BETWEEN_REPORTS:
                self._told_at = now
                # An answer that goes back out of a loop gets shorter.
                self._most = max(self._most, sum(map(share, states, self._limits)))
                self._on_progress(self._most)

        return on_token
