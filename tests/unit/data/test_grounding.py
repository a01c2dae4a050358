"""Open-book training rows: which passages stand in a prompt, where the gold one is, and what is learned."""

from typing import Any

import pytest

from medqa_cli.config.schema import PromptConfig, SourcesConfig
from medqa_cli.data.dataset import QaRow
from medqa_cli.data.grounding import Sources, answer_test, as_heading, ground_rows, in_other_words
from medqa_cli.data.retrieval import Passage, PassageIndex, passage_of
from medqa_cli.prompt.contract import make_contract
from medqa_cli.prompt.encoder import PromptEncoder
from medqa_cli.prompt.given import INTRODUCTION, cited, without_marks

DISEASES = ("glaucoma", "asthma", "gout", "anemia", "migraine", "eczema", "mumps", "rabies", "scurvy", "tetanus")
KINDS = {
    "What is {}?": "{} is a disease of the {} kind, known for long.",
    "What are the treatments for {}?": "Doctors treat {} with medicine number {} twice a day.",
    "What are the symptoms of {}?": "People with {} feel sign {} at night and in the morning.",
}
ROWS = [
    QaRow(f"r{n}-{kind}", question.format(name), answer.format(name.capitalize(), n), name, "test")
    for n, name in enumerate(DISEASES)
    for kind, (question, answer) in enumerate(KINDS.items())
]
DECLINE = "No source answers."


@pytest.fixture
def sources(chatml_tokenizer: Any) -> Sources:
    config = PromptConfig(template="chat", sources=3, source_tokens=60, decline=DECLINE)
    encoder = PromptEncoder(make_contract(config, chatml_tokenizer), chatml_tokenizer)
    return Sources(PassageIndex(map(passage_of, ROWS)), encoder)


def test_with_gold_always_the_answer_cites_the_passage_that_holds_it(sources: Sources) -> None:
    rows = ground_rows(ROWS, sources, SourcesConfig(gold=1, closed_book=0, headings=0), DECLINE, seed=1)
    positions = []
    for row, before in zip(rows, ROWS, strict=True):
        block, question = row.question.rsplit("\n\n", 1)
        assert question == in_other_words(before.question, 1) != before.question
        (number,) = cited(row.answer)
        assert f"[{number}] {before.question}\n{before.answer}" in block
        assert without_marks(row.answer) == before.answer
        assert block.count(before.answer) == 1
        assert "[3]" in block
        assert "[4]" not in block
        positions.append(number)
    assert set(positions) == {1, 2, 3}


def test_titles_are_shown_as_headings_in_the_share_of_the_config_and_nothing_else_changes(sources: Sources) -> None:
    plain = ground_rows(ROWS, sources, SourcesConfig(gold=1, closed_book=0, headings=0), DECLINE, seed=1)
    headed = ground_rows(ROWS, sources, SourcesConfig(gold=1, closed_book=0, headings=1), DECLINE, seed=1)
    some = ground_rows(ROWS, sources, SourcesConfig(gold=1, closed_book=0, headings=0.5), DECLINE, seed=1)
    titles = {row.question for row in ROWS}
    num_headings = 0
    for row, with_headings, mixed in zip(plain, headed, some, strict=True):
        assert row.answer == with_headings.answer == mixed.answer
        lines, headings, either = (each.question.splitlines() for each in (row, with_headings, mixed))
        for line, heading, one in zip(lines, headings, either, strict=True):
            assert one in (line, heading)
            if line[4:] in titles:
                assert heading == f"{line[:4]}{as_heading(line[4:])}" != line
                num_headings += one == heading
            else:
                assert line == heading
    assert 25 <= num_headings <= 65  # of 90 passages


@pytest.mark.parametrize(
    ("question", "heading"),
    [
        ("What are the treatments for Glaucoma?", "Glaucoma: treatment"),
        ("How is asthma treated?", "Asthma: treatment"),
        ("What is (are) gout ?", "Gout"),
        ("How is anemia diagnosed?", "Anemia: exams and tests"),
        ("Why does my knee hurt when I run?", "Why does my knee hurt when I run?"),
    ],
)
def test_a_question_as_the_heading_of_a_leaflet(question: str, heading: str) -> None:
    assert as_heading(question) == heading


def test_without_gold_nothing_that_answers_is_shown_and_the_row_declines(sources: Sources) -> None:
    rows = ground_rows(ROWS, sources, SourcesConfig(gold=0, closed_book=0, headings=0), DECLINE, seed=1)
    for row, before in zip(rows, ROWS, strict=True):
        assert row.question.startswith(INTRODUCTION)
        assert before.answer not in row.question
        assert before.question not in row.question
        # Passages on the same disease that answer something else are the hard ones, and the nearest.
        assert before.topic in row.question.rsplit("\n\n", 1)[0].lower()
        assert row.answer == DECLINE


def test_without_gold_the_answer_may_be_learned_without_a_mark(sources: Sources) -> None:
    rows = ground_rows(ROWS, sources, SourcesConfig(gold=0, closed_book=0, absent="answer"), DECLINE, seed=1)
    assert [row.answer for row in rows] == [row.answer for row in ROWS]


def test_closed_book_rows_are_as_they_were(sources: Sources) -> None:
    assert ground_rows(ROWS, sources, SourcesConfig(closed_book=1), DECLINE, seed=1) == ROWS


def test_rows_are_drawn_in_the_shares_of_the_config_and_by_themselves(sources: Sources) -> None:
    rows = [QaRow(f"{row.id}/{n}", row.question, row.answer, row.topic, row.source) for n in range(20) for row in ROWS]
    grounded = ground_rows(rows, sources, SourcesConfig(gold=0.75, closed_book=0.2), DECLINE, seed=3)
    closed = sum(
        row.answer == before.answer and not cited(row.answer) for row, before in zip(grounded, rows, strict=True)
    )
    declined = sum(row.answer == DECLINE for row in grounded)
    assert 90 <= closed <= 150  # of 600, 120 expected
    assert 85 <= declined <= 155  # 120 expected
    assert (
        ground_rows(rows[100:110], sources, SourcesConfig(gold=0.75, closed_book=0.2), DECLINE, 3) == grounded[100:110]
    )
    assert ground_rows(rows, sources, SourcesConfig(gold=0.75, closed_book=0.2), DECLINE, 4) != grounded


def test_a_long_answer_is_learned_as_far_as_it_is_shown(sources: Sources) -> None:
    answer = "Gout hurts. " + " ".join(f"Sentence {n} says one thing more." for n in range(60))
    row = QaRow("long", "What is gout?", answer, "gout", "test")
    (grounded,) = ground_rows([row], sources, SourcesConfig(gold=1, closed_book=0, headings=0), DECLINE, seed=1)
    learned = without_marks(grounded.answer)
    assert answer.startswith(learned)
    assert learned.endswith(".")
    assert len(learned) < len(answer) / 2
    assert f"{learned}\n" in grounded.question or f"{learned}\n\n" in grounded.question


def test_a_paraphrase_keeps_its_words_and_has_its_rows_answer_as_gold(sources: Sources) -> None:
    row = QaRow("r0-0-p1", "glaucoma, what is that", ROWS[0].answer, "glaucoma", "test", paraphrase_of="r0-0")
    (grounded,) = ground_rows([row], sources, SourcesConfig(gold=1, closed_book=0, headings=0), DECLINE, seed=1)
    assert grounded.question.endswith("\n\nglaucoma, what is that")
    assert grounded.question.count(ROWS[0].answer) == 1


def test_the_gold_passage_of_a_paraphrase_stands_under_the_question_of_its_row(sources: Sources) -> None:
    row = QaRow("r0-0-p1", "glaucoma, what is that", ROWS[0].answer, "glaucoma", "test", paraphrase_of="r0-0")
    *_, grounded = ground_rows([*ROWS, row], sources, SourcesConfig(gold=1, closed_book=0, headings=0), DECLINE, seed=1)
    block, question = grounded.question.rsplit("\n\n", 1)
    assert question == row.question
    # As ask will find it: the question is not the title of the passage that answers, word for word.
    assert row.question not in block
    assert f"{ROWS[0].question}\n{ROWS[0].answer}" in block


def test_a_row_for_which_nothing_is_found_stays_closed_book(sources: Sources) -> None:
    row = QaRow("x", "Xyzzy?", "Plugh.", "", "test")
    assert ground_rows([row], sources, SourcesConfig(gold=0, closed_book=0, headings=0), DECLINE, seed=1) == [row]


@pytest.mark.parametrize(
    ("passage", "expected"),
    [
        (Passage("r0-1", "row", "anything", "else", "", ""), True),  # the row itself
        (Passage("x", "row", "What are the treatments for glaucoma?", "Other words.", "", ""), True),
        (Passage("x", "row", "How is glaucoma treated?", "Other words.", "Glaucoma", ""), True),
        (Passage("x", "row", "What are the symptoms of glaucoma?", "Other words.", "glaucoma", ""), False),
        (Passage("x", "row", "Tell me more", "Other words.", "glaucoma", ""), True),  # it may answer
        (Passage("x", "row", "Tell me more", "Other words.", "asthma", ""), False),
        (Passage("x", "document", "Leaflet", ROWS[1].answer + " More.", "", ""), True),
        (Passage("x", "document", "Leaflet", "Doctors treat gout with medicine number 2 twice a day.", "", ""), False),
    ],
)
def test_what_answers_a_question_too(passage: Passage, expected: bool) -> None:
    assert answer_test(ROWS[1])(passage) is expected
