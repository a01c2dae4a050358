"""The arms of an open book: which passages stand in each, which of them answer, and what is measured of answers."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from medqa_cli.config.schema import PromptConfig
from medqa_cli.data.dataset import QaRow
from medqa_cli.data.grounding import in_other_words
from medqa_cli.data.retrieval import PassageIndex, passage_of
from medqa_cli.evaluation.arms import (
    ABSENT,
    ARMS,
    BM25_PASSAGE,
    FIRST_PASSAGE,
    GOLD_PASSAGE,
    OPEN_BOOK,
    WRONG_TOPIC,
    arm_samples,
    ask_in_other_words,
    is_decline,
    make_arms,
    passage_baselines,
    without_marks_of,
)
from medqa_cli.evaluation.metrics import metric
from medqa_cli.evaluation.samples import GeneratedAnswer, Questions, Sample, make_questions, read_samples, write_samples
from medqa_cli.prompt.contract import make_contract
from medqa_cli.prompt.encoder import PromptEncoder

KINDS = {
    "What is {}?": "{} is a disease of the {} kind, known for long.",
    "What are the treatments for {}?": "Doctors treat {} with medicine number {} twice a day.",
    "What are the symptoms of {}?": "People with {} feel sign {} at night and in the morning.",
}
TRAIN, HELD_OUT = ("asthma", "gout", "anemia", "eczema", "mumps"), ("glaucoma", "rabies")
DECLINE = "No source answers."


def rows_of(names: tuple[str, ...]) -> list[QaRow]:
    return [
        QaRow(f"{name}-{kind}", question.format(name), answer.format(name.capitalize(), len(name)), name, "test")
        for name in names
        for kind, (question, answer) in enumerate(KINDS.items())
    ]


@pytest.fixture
def encoder(chatml_tokenizer: Any) -> PromptEncoder:
    config = PromptConfig(template="chat", sources=3, source_tokens=60, decline=DECLINE)
    return PromptEncoder(make_contract(config, chatml_tokenizer), chatml_tokenizer)


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    lines = [{**asdict(row), "text": ""} for row in rows_of(TRAIN)]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return tmp_path


@pytest.fixture
def questions(encoder: PromptEncoder) -> Questions:
    held_out = rows_of(HELD_OUT)
    return make_questions(held_out, held_out, encoder, 256)


def test_questions_are_asked_in_other_words_and_keep_their_references(questions: Questions) -> None:
    asked = ask_in_other_words(questions, 7)
    assert [row.question for row in asked.rows] == [in_other_words(row.question, 7) for row in questions.rows]
    assert all(row.question != before.question for row, before in zip(asked.rows, questions.rows, strict=True))
    assert asked.references == questions.references
    assert asked.examples == questions.examples


def test_each_arm_holds_what_its_name_says(questions: Questions, data_dir: Path, encoder: PromptEncoder) -> None:
    asked = ask_in_other_words(questions, 7)
    arms, _ = make_arms(asked, questions.rows, questions.rows, data_dir, encoder, rules=False)
    assert tuple(arms) == ARMS
    for number, row in enumerate(questions.rows):
        shown = {name: [passage.id for passage in arm.passages[number]] for name, arm in arms.items()}
        assert row.id in shown[OPEN_BOOK]
        assert arms[OPEN_BOOK].gold[number] == (shown[OPEN_BOOK].index(row.id) + 1,)
        assert row.id not in shown[ABSENT] + shown[WRONG_TOPIC]
        assert arms[ABSENT].gold[number] == arms[WRONG_TOPIC].gold[number] == ()
        # Without the answer the disease's other pages are left; of a wrong topic nothing is.
        assert any(name.startswith(row.topic) for name in shown[ABSENT])
        assert not any(name.startswith(row.topic) for name in shown[WRONG_TOPIC])
        assert all(1 <= len(ids) <= 3 for ids in shown.values())


def test_prompts_of_an_arm_hold_its_passages(questions: Questions, data_dir: Path, encoder: PromptEncoder) -> None:
    asked = ask_in_other_words(questions, 7)
    arm = make_arms(asked, questions.rows, questions.rows, data_dir, encoder, rules=False)[0][OPEN_BOOK]
    for prompt, row, shown in zip(arm.prompts(asked, encoder), asked.rows, arm.passages, strict=True):
        assert prompt.endswith(f"\n\n{row.question}")
        assert [prompt.count(f"[{n}] {passage.title}\n{passage.text}") for n, passage in enumerate(shown, 1)] == [
            1,
            1,
            1,
        ]


def test_the_copies_are_the_first_passage_and_the_rows_answer(
    questions: Questions, data_dir: Path, encoder: PromptEncoder
) -> None:
    asked = ask_in_other_words(questions, 7)
    arms, by_bm25 = make_arms(asked, questions.rows, questions.rows, data_dir, encoder, rules=False)
    copies = passage_baselines(questions.rows, arms, by_bm25, encoder)
    index = PassageIndex(map(passage_of, [*rows_of(TRAIN), *questions.rows]))
    plain = [index.by_bm25(row.question, 1) for row in asked.rows]
    assert copies[BM25_PASSAGE] == [found[0].text if found else "" for found in plain]
    assert copies[FIRST_PASSAGE] == [shown[0].text for shown in arms[OPEN_BOOK].passages]
    assert copies[GOLD_PASSAGE] == [row.answer for row in questions.rows]


def test_a_question_that_no_title_asks_is_declined_without_the_model(
    questions: Questions, data_dir: Path, encoder: PromptEncoder
) -> None:
    asked = ask_in_other_words(questions, 7)
    arms, _ = make_arms(asked, questions.rows, questions.rows, data_dir, encoder, rules=True)
    expected = {OPEN_BOOK: False, ABSENT: True, WRONG_TOPIC: True}
    for name, arm in arms.items():
        assert arm.nothing_answers == [expected[name]] * len(asked.rows)
        assert len(arm.prompts(asked, encoder)) == (0 if expected[name] else len(asked.rows))
    for passages, gold in zip(arms[OPEN_BOOK].passages, arms[OPEN_BOOK].gold, strict=True):
        assert [number for number, passage in enumerate(passages, 1) if passage.answers] == list(gold)
    assert arms[OPEN_BOOK].must_answer == [True] * len(asked.rows)


def test_declined_questions_keep_their_places_among_the_answers(
    questions: Questions, data_dir: Path, encoder: PromptEncoder
) -> None:
    arm = make_arms(questions, questions.rows, questions.rows, data_dir, encoder, rules=False)[0][OPEN_BOOK]
    answers = [None, False, True, False, None, False]
    judged = [
        [replace(passage, answers=told) for passage in shown] for told, shown in zip(answers, arm.passages, strict=True)
    ]
    arm = replace(arm, passages=judged)
    prompts = arm.prompts(questions, encoder)
    made = [GeneratedAnswer(prompt.splitlines()[-1], "stop", 3) for prompt in prompts]
    texts = [answer.text for answer in arm.with_declined(made, DECLINE)]
    asked = [row.question for row in questions.rows]
    assert texts == [asked[0], DECLINE, asked[2], DECLINE, asked[4], DECLINE]
    assert arm.must_answer == [False, True, False]


def sample_of(**changes: Any) -> Sample:
    return replace(Sample("r", "gout", "adapter_open_book", "What is gout?", ("A disease.",), answer="x"), **changes)


def value_of(name: str, *samples: Sample) -> float | None:
    parts = metric(name).parts(samples)
    return None if parts is None else float(metric(name).reduce(parts.sum(axis=0, keepdims=True))[0])


def test_citation_precision_counts_marks_and_recall_counts_answers() -> None:
    samples = [
        sample_of(cited=(1,), gold=(1,)),
        sample_of(cited=(1, 2), gold=(2,)),
        sample_of(cited=(), gold=(3,)),
        sample_of(cited=(9,), gold=()),
    ]
    assert value_of("citation_precision", *samples) == pytest.approx(2 / 4)
    assert value_of("citation_recall", *samples) == pytest.approx(2 / 3)
    assert value_of("citation_precision", sample_of(gold=(1,))) is None
    assert value_of("citation_recall", sample_of(cited=(1,))) is None


def test_supported_share_counts_sentences_and_leaves_out_who_declines() -> None:
    text = "Gout\nGout is treated with rest and cold packs."
    samples = [
        sample_of(answer="Rest treats gout. Bananas cure blindness within days.", sources=(text,)),
        sample_of(answer="No source answers.", sources=(text,), declined=True),
    ]
    assert value_of("supported_share", *samples) == pytest.approx(1 / 2)
    assert value_of("supported_share", samples[1]) is None


def test_decline_rate_is_measured_only_with_sources() -> None:
    assert value_of("decline_rate", sample_of(declined=True), sample_of(declined=False)) == pytest.approx(1 / 2)
    assert value_of("decline_rate", sample_of()) is None


@pytest.mark.parametrize(
    ("answer", "expected"), [("No source answers.", True), ("no source answers [1]", True), ("No, rest.", False)]
)
def test_an_answer_declines_with_the_fixed_sentence(answer: str, expected: bool) -> None:
    assert is_decline(answer, DECLINE) is expected


@pytest.mark.parametrize("decline", ["No", "???"])
def test_words_that_begin_alike_do_not_decline(decline: str) -> None:
    assert not is_decline("Nothing helps but rest.", decline)


def test_marks_of_closed_book_answers_are_taken_out_too() -> None:
    (answer,) = without_marks_of([GeneratedAnswer("Rest helps. [1]", "stop", 5)])
    assert answer == GeneratedAnswer("Rest helps.", "stop", 5)


def test_samples_of_an_arm_come_back_from_their_file(
    questions: Questions, data_dir: Path, encoder: PromptEncoder, tmp_path: Path
) -> None:
    arm = make_arms(questions, questions.rows, questions.rows, data_dir, encoder, rules=False)[0][OPEN_BOOK]
    answers = [GeneratedAnswer(f"Rest helps [{n % 4}]. [1]", "stop", 5) for n in range(len(questions.rows))]
    samples = arm_samples("adapter_open_book", questions, arm, answers, DECLINE)
    assert {sample.answer for sample in samples} == {"Rest helps."}
    assert [sample.cited for sample in samples[:3]] == [(0, 1), (1,), (2, 1)]
    assert not any(sample.declined for sample in samples)
    write_samples(tmp_path / "samples.jsonl", samples)
    assert read_samples(tmp_path / "samples.jsonl") == {"adapter_open_book": samples}
