"""Many questions at once: the same tokens as one at a time and as Transformers' generate, finished rows leave."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaForCausalLM
from transformers.cache_utils import DynamicLayer

from helpers.models import looping_model
from medqa_cli.answering import batch, generate
from medqa_cli.answering import decode as decoding
from medqa_cli.answering.decode import SPARE, GrowingLayer, decode_batch
from medqa_cli.answering.generate import answer_question, answer_questions
from medqa_cli.answering.question_files import AskedRow
from medqa_cli.answering.stopping import StoppingState
from medqa_cli.config.schema import GenerateConfig, PromptConfig
from medqa_cli.errors import InputError, Interrupted
from medqa_cli.model.load import LoadedModel
from medqa_cli.model.resolve import ModelRef
from medqa_cli.prompt.contract import make_contract
from medqa_cli.prompt.encoder import PromptEncoder

QUESTIONS = [
    "What is glaucoma?",
    "How to treat asthma, and which of its medicines are inhaled every day for years?",
    "Symptoms?",
    "Is Ménière's disease rare?",
    "What are the causes of diseases of the optic nerve in people of 60 and more?",
    "Why?",
]
ROOM = 40


@pytest.fixture(scope="module")
def answerer(talking_model_dir: Path, chatml_tokenizer: Any) -> LoadedModel:
    """A tiny model of random weights, float32, that says many different things."""
    model = LlamaForCausalLM.from_pretrained(talking_model_dir, dtype=torch.float32).eval().requires_grad_(False)
    encoder = PromptEncoder(make_contract(PromptConfig(template="chat"), chatml_tokenizer), chatml_tokenizer)
    return LoadedModel(
        "adapter", ModelRef("tiny", "tiny", "folder"), model, encoder, torch.device("cpu"), torch.float32
    )


@pytest.fixture(scope="module")
def looping(tiny_model_dir: Path, chatml_tokenizer: Any) -> LoadedModel:
    """A tiny model whose answers differ and soon run in circles."""
    model = looping_model(tiny_model_dir)
    encoder = PromptEncoder(make_contract(PromptConfig(template="chat"), chatml_tokenizer), chatml_tokenizer)
    return LoadedModel(
        "adapter", ModelRef("tiny", "tiny", "folder"), model, encoder, torch.device("cpu"), torch.float32
    )


def decode(
    answerer: LoadedModel, prompts: Sequence[list[int]], stops: set[int], **settings: Any
) -> list[StoppingState]:
    states = [StoppingState(answerer.encoder.decode_answer, stops, ROOM) for _ in prompts]
    decode_batch(answerer.model, answerer.device, prompts, states, GenerateConfig(**settings))
    return states


def test_the_output_layer_gets_no_view(answerer: LoadedModel) -> None:
    """With frozen weights PyTorch would copy the output layer once for each row of a batch."""
    frozen = not any(parameter.requires_grad for parameter in answerer.model.parameters())
    inputs: list[torch.Tensor] = []
    hook = answerer.model.lm_head.register_forward_pre_hook(lambda _, given: inputs.append(given[0]))
    try:
        decode(answerer, answerer.encoder.encode_prompts(QUESTIONS), set())
    finally:
        hook.remove()
    assert frozen
    assert [given.shape[:2] for given in inputs[:2]] == [(len(QUESTIONS), 1)] * 2
    assert all(given.is_contiguous() for given in inputs)


def plain_generate(answerer: LoadedModel, prompt: list[int], **settings: Any) -> list[int]:
    """What Transformers itself makes of the prompt, without any end token."""
    output = answerer.model.generate(
        torch.tensor([prompt]), max_new_tokens=ROOM, do_sample=False, eos_token_id=None, pad_token_id=0, **settings
    )
    ids: list[int] = output[0, len(prompt) :].tolist()
    return ids


def some_stops(answerer: LoadedModel, prompts: Sequence[list[int]]) -> set[int]:
    """Tokens that end some of the rows at different places."""
    return {plain_generate(answerer, prompts[0])[5], plain_generate(answerer, prompts[2])[12]}


@pytest.mark.parametrize("settings", [{}, {"repetition_penalty": 1.3}, {"no_repeat_ngram_size": 2}], ids=str)
def test_a_batch_says_what_each_row_says_alone(answerer: LoadedModel, settings: dict[str, Any]) -> None:
    prompts = answerer.encoder.encode_prompts(QUESTIONS)
    assert len({len(prompt) for prompt in prompts}) > 4
    stops = some_stops(answerer, prompts)
    together = decode(answerer, prompts, stops, **settings)
    alone = [decode(answerer, [prompt], stops, **settings)[0] for prompt in prompts]
    assert [state.ids for state in together] == [state.ids for state in alone]
    assert [state.finish_reason for state in together] == [state.finish_reason for state in alone]
    # The rows differ and end at different places, so that the comparison says something.
    assert len({len(state.ids) for state in together}) >= 3
    assert len({tuple(state.ids[:5]) for state in together}) >= 4


@pytest.mark.parametrize("settings", [{}, {"repetition_penalty": 1.3}, {"no_repeat_ngram_size": 2}], ids=str)
def test_the_tokens_are_those_of_transformers(answerer: LoadedModel, settings: dict[str, Any]) -> None:
    prompts = answerer.encoder.encode_prompts(QUESTIONS)
    for prompt, state in zip(prompts, decode(answerer, prompts, set(), **settings), strict=True):
        assert len(state.ids) > 10
        assert state.ids == plain_generate(answerer, prompt, **settings)[: len(state.ids)]


def test_the_cache_holds_what_transformers_own_layer_holds() -> None:
    torch.manual_seed(0)
    growing, plain = GrowingLayer(), DynamicLayer()
    rows = 5
    for step, size in enumerate([30, *[1] * (2 * SPARE + 3), 7]):
        if step in (3, 40, SPARE + 1):
            places = torch.randperm(rows)[: rows - 1]
            rows -= 1
            growing.batch_select_indices(places)
            plain.batch_select_indices(places)
        keys, values = torch.randn(rows, 2, size, 4), torch.randn(rows, 2, size, 4)
        for own, other in zip(growing.update(keys, values), plain.update(keys, values), strict=True):
            assert torch.equal(own, other)
    assert growing.get_seq_length() == plain.get_seq_length() == 30 + 2 * SPARE + 3 + 7
    assert growing.keys.shape[0] == 2


def test_finished_rows_leave_the_batch(answerer: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts = answerer.encoder.encode_prompts(QUESTIONS)
    stops = some_stops(answerer, prompts)
    sizes: list[int] = []
    forward = answerer.model.forward

    def counted(*args: Any, **kwargs: Any) -> Any:
        sizes.append(kwargs["input_ids"].shape[0])
        return forward(*args, **kwargs)

    monkeypatch.setattr(answerer.model, "forward", counted)
    states = decode(answerer, prompts, stops)
    assert sizes[0] == len(QUESTIONS)
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < len(QUESTIONS)
    # A row is in a forward pass for each token that it took.
    assert sum(sizes) == sum(len(state.ids) + (state.finish_reason == "stop") for state in states)


def test_answers_of_a_batch_equal_single_ones(answerer: LoadedModel) -> None:
    config = GenerateConfig(max_new_tokens=ROOM)
    together = answer_questions(answerer, QUESTIONS, config)
    alone = [answer_question(answerer, question, config) for question in QUESTIONS]
    assert [replace(each, seconds=0.0) for each in together] == [replace(each, seconds=0.0) for each in alone]
    assert len({each.text for each in together}) == len(QUESTIONS)


def test_answers_that_leave_loops_are_the_same_in_a_batch_alone_and_streamed(looping: LoadedModel) -> None:
    config = GenerateConfig(max_new_tokens=300, loop_retries=3)
    together = answer_questions(looping, QUESTIONS, config)
    for question, answer in zip(QUESTIONS, together, strict=True):
        pieces: list[str] = []
        alone = answer_question(looping, question, config, write=pieces.append)
        assert replace(alone, seconds=0.0) == replace(answer, seconds=0.0)
        assert "".join(pieces) == answer.text
    # Some leave a loop, and get further than they did without.
    before = answer_questions(looping, QUESTIONS, replace(config, loop_retries=0))
    left = [place for place, answer in enumerate(together) if answer.loop_retries]
    assert left
    assert all(together[place].answer_tokens > before[place].answer_tokens for place in left)
    assert all(together[place].text.startswith(before[place].text[:40]) for place in left)


def test_what_is_streamed_is_what_is_kept(answerer: LoadedModel) -> None:
    for question in QUESTIONS:
        for room in (3, 17, 60, 200):
            pieces: list[str] = []
            answer = answer_question(answerer, question, GenerateConfig(max_new_tokens=room), write=pieces.append)
            assert "".join(pieces) == answer.text


# Files


ROWS = [AskedRow(question, {"id": number, "answer": "mine"}) for number, question in enumerate(QUESTIONS)]
SMALL = GenerateConfig(max_new_tokens=12, batch_size=2)


def texts(answerer: LoadedModel) -> list[str]:
    return [answer_question(answerer, question, SMALL).text for question in QUESTIONS]


def test_a_file_keeps_its_order_and_columns(answerer: LoadedModel, tmp_path: Path) -> None:
    out = tmp_path / "answers.jsonl"
    lines = batch.answer_file(answerer, ROWS, SMALL, out, "me")
    assert [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()] == lines
    assert [line["question"] for line in lines] == QUESTIONS
    assert [line["answer"] for line in lines] == texts(answerer)
    assert [(line["id"], line["input_answer"]) for line in lines] == [(n, "mine") for n in range(len(QUESTIONS))]
    assert {"finish_reason", "complete", "prompt_tokens", "answer_tokens", "notices"} <= set(lines[0])
    assert list(tmp_path.iterdir()) == [out]


def test_an_interrupted_file_goes_on_and_ends_alike(
    answerer: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "answers.jsonl"
    expected = texts(answerer)
    real = generate.answer_questions
    batches: list[list[str]] = []

    def interrupted(answerer: LoadedModel, questions: Sequence[str], *args: Any, **more: Any) -> Any:
        if len(batches) == 2:
            raise KeyboardInterrupt
        batches.append(list(questions))
        return real(answerer, questions, *args, **more)

    monkeypatch.setattr(generate, "answer_questions", interrupted)
    with pytest.raises(Interrupted, match="4 of 6 answers are in"):
        batch.answer_file(answerer, ROWS, SMALL, out, "me")
    assert not out.exists()
    with pytest.raises(InputError, match="of another model"):
        batch.answer_file(answerer, ROWS, SMALL, out, "another")

    def counted(answerer: LoadedModel, questions: Sequence[str], *args: Any, **more: Any) -> Any:
        batches.append(list(questions))
        return real(answerer, questions, *args, **more)

    monkeypatch.setattr(generate, "answer_questions", counted)
    # The size of the batches does not decide the answers.
    lines = batch.answer_file(answerer, ROWS, replace(SMALL, batch_size=5), out, "me")
    assert [line["answer"] for line in lines] == expected
    assert sorted(question for batch in batches for question in batch) == sorted(QUESTIONS)  # each answered once
    assert list(tmp_path.iterdir()) == [out]


def test_batches_are_of_like_length(answerer: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    real, lengths = generate.answer_questions, []

    def noted(answerer: LoadedModel, questions: Sequence[str], *args: Any, **more: Any) -> Any:
        lengths.append([len(ids) for ids in answerer.encoder.encode_prompts(list(questions))])
        return real(answerer, questions, *args, **more)

    monkeypatch.setattr(generate, "answer_questions", noted)
    batch.answer_file(answerer, ROWS, SMALL, None, "me")
    assert len(lengths) == 3
    assert [length for batch in lengths for length in batch] == sorted(length for batch in lengths for length in batch)


def test_questions_that_cannot_be_answered_do_not_stop_the_others(answerer: LoadedModel, tmp_path: Path) -> None:
    rows = [ROWS[0], AskedRow(" ", {}), AskedRow("gout " * 600, {}), ROWS[1]]
    lines = batch.answer_file(answerer, rows, SMALL, tmp_path / "answers.jsonl", "me")
    assert [line["answer"] for line in lines] == [texts(answerer)[0], None, None, texts(answerer)[1]]
    assert lines[1]["error"] == "the question is empty"
    assert "context is 512 tokens" in lines[2]["error"]
    assert "error" not in lines[0]


def test_columns_of_an_earlier_output_are_not_taken_for_keys_of_the_answer(
    answerer: LoadedModel, tmp_path: Path
) -> None:
    """The output of one run may be the input of the next; a refused question has no finish reason of its own."""
    old = {"finish_reason": "stop", "notices": ["a", "b"], "error": "old", "id": 7}
    rows = [AskedRow(QUESTIONS[0], old), AskedRow(" ", old)]
    answered, refused = batch.answer_file(answerer, rows, SMALL, tmp_path / "answers.jsonl", "me")
    assert answered.keys() - generate.KEYS == {"id", "input_finish_reason", "input_notices", "input_error"}
    assert refused.keys() == {"id", "question", "answer", "error", *(f"input_{key}" for key in old if key != "id")}
    assert refused["error"] == "the question is empty"


def test_the_batch_follows_the_memory(answerer: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def pick(config: GenerateConfig) -> int:
        return decoding.pick_batch_size(answerer.model, answerer.device, answerer.dtype, config, 50)

    config = GenerateConfig(max_new_tokens=100)
    sizes = []
    for free in (0, 10**6, 10**7, 10**12):
        monkeypatch.setattr(decoding, "free_memory_bytes", lambda device, free=free: free)
        sizes.append(pick(config))
    assert sizes[0] == 1
    assert sizes == sorted(sizes)
    assert sizes[1] < sizes[2] <= sizes[3] == decoding.MOST_ROWS
    assert pick(replace(config, batch_size=7)) == 7
