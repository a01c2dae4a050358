"""Trivial answerers say what they should, and what says the same to all gains nothing from a swap of references."""

import random

import pytest

from medqa_cli.data.dataset import QaRow
from medqa_cli.evaluation.baselines import baseline_answers, cut_words
from medqa_cli.evaluation.overlap import rouge_l
from medqa_cli.evaluation.samples import question_kind, swapped_references, topic_keys


def row(number: int, question: str, answer: str, topic: str, source: str = "a") -> QaRow:
    return QaRow(str(number), question, answer, topic, source)


TOPICS = ("gout", "asthma", "mumps", "glaucoma", "angina", "eczema")
TRAIN = [
    row(place, question.format(topic), f"{kind} answer about {topic}", topic)
    for place, (topic, (kind, question)) in enumerate(
        (topic, form)
        for topic in TOPICS
        for form in (("symptoms", "What are the symptoms of {}?"), ("treatment", "How to treat {}?"))
    )
]


def test_the_kind_of_a_question() -> None:
    assert question_kind("What are the symptoms of Gout?") == "symptoms"
    assert question_kind("My toe is red and I cannot sleep, is that bad?") == "other"


def test_each_floor_says_what_it_is_named_after() -> None:
    rows = [
        row(90, "How to treat gout?", "", "gout"),
        row(91, "What are the symptoms of migraine?", "", "migraine"),
    ] * 20
    floors = baseline_answers(TRAIN, rows, seed=1)
    assert floors["nearest_question"][0] == "treatment answer about gout"
    assert floors["nearest_question"][1].startswith("symptoms answer about")
    wrong = set(floors["wrong_topic"][::2])
    assert len(wrong) > 2
    assert all(answer.startswith("treatment") and "gout" not in answer for answer in wrong)
    assert len(set(floors["random_answer"])) > 5
    assert floors == baseline_answers(TRAIN, rows, seed=1)
    assert floors != baseline_answers(TRAIN, rows, seed=2)


def test_other_sources_do_not_lend_their_template() -> None:
    train = [*TRAIN, row(50, "How to treat rabies?", "from the other source", "rabies", "b")]
    rows = [row(90, "How to treat gout?", "", "gout", "b")] * 5
    assert set(baseline_answers(train, rows, seed=1)["wrong_topic"]) == {"from the other source"}


def test_nearest_question_has_the_rarest_shared_words_and_is_the_first_where_none_is_shared() -> None:
    questions = ["What is the cause of gout?", "What is mumps?", "How to treat it?", "How long is it?"]
    train = [row(number, question, f"answer {number}", "") for number, question in enumerate(questions)]
    asked = ["what is the mumps", "gout", "nothing alike", "treating", '"gout" AND (', ""]
    rows = [row(90, question, "", "") for question in asked]
    nearest = baseline_answers(train, rows, seed=1)["nearest_question"]
    assert nearest == ["answer 1", "answer 0", "answer 0", "answer 2", "answer 0", "answer 0"]


def test_words_are_cut_as_they_stand() -> None:
    assert cut_words("One  two\nthree four", 3) == "One  two\nthree"
    assert cut_words(" One two", 5) == "One two"
    assert cut_words("One", 0) == ""


def test_each_reference_is_swapped_to_another_topic_once() -> None:
    generator = random.Random(1)
    rows = [
        row(number, question.format(topic), f"answer {number}", topic)
        for number, (topic, question) in enumerate(
            (generator.choice(TOPICS), generator.choice(("How to treat {}?", "What causes {}?"))) for _ in range(60)
        )
    ]
    swapped = swapped_references(rows)
    by_answer = {own.answer: own for own in rows}
    used = [answer for answer in swapped if answer is not None]
    assert len(used) == len(set(used)) == 60
    for own, answer in zip(rows, swapped, strict=True):
        partner = by_answer[answer or ""]
        assert partner.topic != own.topic
        assert question_kind(partner.question) == question_kind(own.question)
    # Whoever says the same to all gains exactly nothing.
    margins = [
        rouge_l("the answer 7 is 12", own.answer) - rouge_l("the answer 7 is 12", answer or "")
        for own, answer in zip(rows, swapped, strict=True)
    ]
    assert any(margins)
    assert sum(margins) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("names", [("Zeta disease (ZD)", "ZD"), ("ZD", "Zeta disease (ZD)", "zeta diseases", "ZD")])
def test_topics_that_share_a_name_are_one(names: tuple[str, ...]) -> None:
    """The abbreviation alone has another first name than the name that it abbreviates."""
    rows = [row(number, "How to treat it?", f"answer {number}", name) for number, name in enumerate(names)]
    assert len(set(topic_keys(rows))) == 1
    assert swapped_references(rows) == [None] * len(rows)
    others = [row(10 + number, "How to treat it?", f"other {number}", topic) for number, topic in enumerate(TOPICS)]
    swapped = swapped_references([*rows, *others])
    assert all((answer or "").startswith("other") for answer in swapped[: len(rows)])
    wrong = baseline_answers([*rows[1:], *others[:1]], rows[:1] * 20, seed=1)["wrong_topic"]
    assert set(wrong) == {"other 0"}


def test_a_topic_that_fills_its_group_has_no_partner() -> None:
    rows = [row(number, "How to treat gout?", f"answer {number}", "Gout") for number in range(3)]
    assert swapped_references(rows) == [None, None, None]
    rows.append(row(3, "How to treat asthma?", "answer 3", "asthma"))
    assert swapped_references(rows) == ["answer 3", None, None, "answer 0"]
    assert swapped_references([]) == []
