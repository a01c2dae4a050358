"""Answers of a batch are those of single questions, whatever their neighbors do and whenever they end."""

import contextlib
import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers.models import looping_model
from medqa_cli import console
from medqa_cli.answering import decode as decoding
from medqa_cli.answering.decode import decode_batch
from medqa_cli.answering.generate import answer_question
from medqa_cli.config.schema import GenerateConfig, PromptConfig
from medqa_cli.console.displays import ProgressHandle
from medqa_cli.data.dataset import QaRow
from medqa_cli.data.retrieval import Passage
from medqa_cli.evaluation import generation
from medqa_cli.evaluation.generation import WholeAnswer, generate_answers
from medqa_cli.evaluation.samples import make_questions
from medqa_cli.journal import SharedJournal
from medqa_cli.model.load import LoadedModel
from medqa_cli.model.resolve import ModelRef
from medqa_cli.prompt.contract import make_contract
from medqa_cli.prompt.encoder import PromptEncoder

QUESTIONS = [f"{ask} {name}{'?' * (1 + n % 3)}" for n, (ask, name) in enumerate(
    (ask, name) for ask in ("What is", "How to treat", "What are the symptoms and causes of") for name in
    ("gout", "asthma", "glaucoma in adults and in children", "mumps")
)]  # fmt: skip
CONFIG = GenerateConfig(max_new_tokens=20)


@pytest.fixture
def loaded(tiny_model_dir: Path, chatml_tokenizer: Any) -> LoadedModel:
    model = looping_model(tiny_model_dir)
    encoder = PromptEncoder(make_contract(PromptConfig(template="chat"), chatml_tokenizer), chatml_tokenizer)
    source = ModelRef("tiny", "tiny", "folder")
    return LoadedModel("base", source, model, encoder, torch.device("cpu"), torch.float32)


@pytest.fixture
def encoder(loaded: LoadedModel, chatml_tokenizer: Any) -> PromptEncoder:
    """A contract whose end token is one that this model says sooner or later to some of the questions."""
    contract = make_contract(PromptConfig(template="chat"), chatml_tokenizer)
    plain = PromptEncoder(contract, chatml_tokenizer)
    said: Counter[int] = Counter()
    for prompt in plain.encode_prompts(QUESTIONS):
        ids = torch.tensor([prompt])
        output = loaded.model.generate(ids, max_new_tokens=20, do_sample=False, eos_token_id=None, pad_token_id=0)
        said.update(set(output[0, len(prompt) + 2 :].tolist()))
    half = min(said, key=lambda token: (abs(said[token] - len(QUESTIONS) // 2), token))
    return PromptEncoder(replace(contract, stop_token_ids=(half,)), chatml_tokenizer)


def decoded(loaded: LoadedModel, encoder: PromptEncoder, questions: list[str], **config: Any) -> list[WholeAnswer]:
    """All that the model says to each question, in one batch."""
    prompts = encoder.encode_prompts(questions)
    answers = [WholeAnswer(encoder.decode_answer, encoder.contract.stop_token_ids, 20) for _ in prompts]
    decode_batch(loaded.model, loaded.device, prompts, answers, GenerateConfig(max_new_tokens=20, **config))
    return answers


@pytest.mark.parametrize("batch_size", [1, 5, 100])
def test_a_batch_answers_as_one_by_one(
    loaded: LoadedModel, encoder: PromptEncoder, tmp_path: Path, batch_size: int
) -> None:
    with SharedJournal(tmp_path, 1) as journal:
        asked, found = generate_answers(loaded, encoder, QUESTIONS, replace(CONFIG, batch_size=batch_size), journal)
        assert journal.num_done == -(-len(QUESTIONS) // batch_size)
    answerer = replace(loaded, encoder=encoder)
    for question, as_asked, answer in zip(QUESTIONS, asked, found, strict=True):
        alone = answer_question(answerer, question, CONFIG)
        assert (as_asked.text, as_asked.finish_reason, as_asked.num_tokens) == (
            alone.text,
            alone.finish_reason,
            alone.answer_tokens,
        )
        (whole,) = decoded(loaded, encoder, [question])
        assert answer.text == encoder.decode_answer(whole.ids)
        assert (answer.finish_reason, answer.num_tokens) == (whole.finish_reason, len(whole.ids))
    assert {answer.finish_reason for answer in found} == {"stop", "length"}
    assert len({answer.num_tokens for answer in found}) > 2
    assert len({answer.text for answer in found}) > 5


@pytest.mark.parametrize("batch_size", [1, 5])
def test_answers_that_leave_loops_are_those_of_ask_and_the_plain_ones_stay(
    loaded: LoadedModel, encoder: PromptEncoder, tmp_path: Path, batch_size: int
) -> None:
    config = GenerateConfig(max_new_tokens=120, loop_retries=2, batch_size=batch_size)
    with SharedJournal(tmp_path / "retries", 1) as journal:
        asked, plain = generate_answers(loaded, encoder, QUESTIONS, config, journal)
    with SharedJournal(tmp_path / "none", 1) as journal:
        without = generate_answers(loaded, encoder, QUESTIONS, replace(config, loop_retries=0), journal)
    assert plain == without[0] == without[1]
    answers = [answer_question(replace(loaded, encoder=encoder), question, config) for question in QUESTIONS]
    assert [(answer.text, answer.finish_reason, answer.num_tokens) for answer in asked] == [
        (answer.text, answer.finish_reason, answer.answer_tokens) for answer in answers
    ]
    assert sum(answer.loop_retries for answer in answers) > 2
    assert "repetition" not in {answer.finish_reason for answer in plain}


@pytest.mark.parametrize(("retries", "arm"), [(0, ""), (2, ""), (2, "_with_sources")])
def test_progress_grows_by_parts_of_answers_while_they_are_written(
    loaded: LoadedModel,
    encoder: PromptEncoder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    retries: int,
    arm: str,
) -> None:
    told: list[float] = []

    @contextlib.contextmanager
    def progress(title: str, total: int, done: int) -> Iterator[ProgressHandle]:
        yield ProgressHandle(lambda completed, status: told.append(completed))

    monkeypatch.setattr("medqa_cli.console.progress", progress)
    monkeypatch.setattr(generation, "_SECONDS_BETWEEN_REPORTS", 0)
    config = GenerateConfig(max_new_tokens=120, loop_retries=retries, batch_size=7)
    with SharedJournal(tmp_path, 1) as journal:
        asked, plain = generate_answers(loaded, encoder, QUESTIONS, config, journal, arm)
    assert told == sorted(told)
    assert told[-1] == len(QUESTIONS) == 12
    assert 7 in told  # the end of the first piece
    assert max(after - before for before, after in itertools.pairwise(told)) < 7 / 2
    num_tokens = sum(answer.num_tokens or 0 for answer in (asked if arm else plain))
    assert len(told) >= num_tokens


@pytest.mark.parametrize("penalties", [{}, {"repetition_penalty": 1.4}, {"no_repeat_ngram_size": 2}])
def test_tokens_are_those_of_transformers_generate(
    loaded: LoadedModel, encoder: PromptEncoder, penalties: dict[str, Any]
) -> None:
    """Prompt by prompt, with and without the penalties; ended rows leave the batch at different times."""
    prompts = encoder.encode_prompts(QUESTIONS)
    stop_ids = encoder.contract.stop_token_ids
    found = decoded(loaded, encoder, QUESTIONS, **penalties)
    for prompt, own in zip(prompts, found, strict=True):
        expected = loaded.model.generate(
            torch.tensor([prompt]), max_new_tokens=20, do_sample=False, eos_token_id=list(stop_ids),
            pad_token_id=stop_ids[0], **penalties,
        )  # fmt: skip
        assert [*own.ids, *(stop_ids if own.finish_reason == "stop" else ())] == expected[0, len(prompt) :].tolist()
    assert len({len(own.ids) for own in found}) > 2


def test_a_row_that_has_ended_takes_no_more_work(loaded: LoadedModel, encoder: PromptEncoder) -> None:
    rows: list[int] = []

    handle = loaded.model.register_forward_pre_hook(
        lambda model, args, inputs: rows.append(len(inputs["input_ids"])), with_kwargs=True
    )
    found = decoded(loaded, encoder, QUESTIONS)
    handle.remove()
    num_tokens = sum(len(own.ids) + (own.finish_reason == "stop") for own in found)
    assert sum(rows) == num_tokens < 20 * len(QUESTIONS)


def test_a_prompt_that_fills_the_context_has_no_answer_and_costs_the_others_nothing(
    loaded: LoadedModel, encoder: PromptEncoder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = ["gout " * number for number in range(50, 512)]
    rooms = [512 - len(prompt) for prompt in encoder.encode_prompts(texts)]
    almost_full, room = next((text, room) for text, room in zip(texts, rooms, strict=True) if room < 10)
    assert room > 0
    found = []
    for place, questions in enumerate((["gout " * 600, almost_full, QUESTIONS[0]], [QUESTIONS[0]], ["gout " * 600])):
        with SharedJournal(tmp_path / str(place), 1) as journal:
            asked, plain = generate_answers(loaded, encoder, questions, replace(CONFIG, loop_retries=1), journal)
            assert [answer.finish_reason == "length" for answer in asked] == [
                answer.finish_reason == "length" for answer in plain
            ]
            found.append(plain)
    said = capsys.readouterr().err
    assert f"{loaded.name}: 1 of 3 prompts fill the model's context of 512 tokens: their answers are empty" in said
    assert "of 1 prompts" in said
    together, (alone,), (none,) = found
    assert (together[0].text, together[0].finish_reason, together[0].num_tokens) == ("", "length", 0)
    assert together[0] == none
    assert (together[1].num_tokens or 0) <= room
    assert together[2] == alone
    assert alone.num_tokens


def test_pieces_do_not_follow_the_memory_and_suffice_for_all_ranks(
    loaded: LoadedModel, encoder: PromptEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = None
    for free, world_size, num_pieces in ((10**12, 1, 1), (0, 1, 1), (10**12, 4, 4)):
        monkeypatch.setattr(decoding, "free_memory_bytes", lambda device, free=free: free)
        monkeypatch.setattr(generation.distributed, "world_size", lambda: 1)
        with SharedJournal(tmp_path / f"{free}-{world_size}", 1) as journal:
            pieces = journal.run

            def run(work: Any, on_done: Any, pieces: Any = pieces) -> list[Any]:
                monkeypatch.setattr(generation.distributed, "world_size", lambda: 1)
                return pieces(work, on_done)

            monkeypatch.setattr(journal, "run", run)
            monkeypatch.setattr(generation.distributed, "world_size", lambda size=world_size: size)
            found = generate_answers(loaded, encoder, QUESTIONS, CONFIG, journal)[1]
            assert journal.num_done == num_pieces
        expected = expected or found
        assert found == expected


def test_questions_without_room_for_an_answer_are_told_and_left_out(
    chatml_tokenizer: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    encoder = PromptEncoder(make_contract(PromptConfig(template="chat"), chatml_tokenizer), chatml_tokenizer)
    long = "What is gout? " * 40
    answer = "Gout is a disease. " * 40
    rows = [QaRow("1", long, "Rest.", "gout", "a"), QaRow("2", "What is gout?", answer, "gout", "a")]
    console.use_json(False)
    found = make_questions(rows, rows, encoder, 120)
    assert "1 questions fill model.max_length by themselves and are not scored" in capsys.readouterr().err
    assert [row.id for row in found.rows] == ["2"]
    # Of a cut answer the bytes that were scored count.
    assert found.examples[0].truncated
    scored = encoder.decode_answer(found.examples[0].input_ids[-found.examples[0].num_answer_tokens :])
    assert answer.startswith(scored)
    assert found.answer_bytes == [len(scored)]
    assert scored


@pytest.mark.parametrize("loop_retries", [0, 2])
def test_answers_that_must_not_decline_begin_otherwise_as_in_ask(
    loaded: LoadedModel, chatml_tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loop_retries: int
) -> None:
    config = replace(CONFIG, loop_retries=loop_retries)
    contract = make_contract(PromptConfig(template="chat", sources=1), chatml_tokenizer)
    encoder = PromptEncoder(contract, chatml_tokenizer)
    firsts = [answer.ids[0] for answer in decoded(loaded, encoder, QUESTIONS)]
    # As if the words that decline began as this model answers the first question.
    monkeypatch.setattr(PromptEncoder, "decline_token_id", firsts[0])
    with SharedJournal(tmp_path, 1) as journal:
        free, _ = generate_answers(loaded, encoder, QUESTIONS, config, journal, "_free")
        must, _ = generate_answers(loaded, encoder, QUESTIONS, config, journal, "_must", [True] * len(QUESTIONS))
        only_first = [number == 0 for number in range(len(QUESTIONS))]
        one, _ = generate_answers(loaded, encoder, QUESTIONS, config, journal, "_one", only_first)
    declined = [first == firsts[0] for first in firsts]
    assert [a != b for a, b in zip(free, must, strict=True)] == declined
    assert one == [must[0], *free[1:]]
    passage = Passage("r1", "row", "What is gout?", "Gout hurts.", "", "", answers=True)
    prompt = encoder.with_sources(QUESTIONS[0], [(passage.title, passage.text)])
    monkeypatch.setattr(PromptEncoder, "decline_token_id", decoded(loaded, encoder, [prompt])[0].ids[0])
    texts = []
    with SharedJournal(tmp_path / "ask", 1) as journal:
        for answers in (None, True):
            (found,), _ = generate_answers(loaded, encoder, [prompt], config, journal, f"_{answers}", [bool(answers)])
            shown = [replace(passage, answers=answers)]
            asked = answer_question(replace(loaded, encoder=encoder), QUESTIONS[0], config, passages=[shown[0]])
            texts.append(asked.text)
            if loop_retries:  # without them ask still cuts at a loop
                assert asked.text == found.text
    assert texts[0] != texts[1]
