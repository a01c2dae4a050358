"""Signs of an emergency: hits and false alarms on a labeled set, and what the notices say.

The set was written by hand in four rounds, each before the rules had seen it; after a round was measured, the rules
were extended by what they missed, so that the figure over all rounds says how well known wordings are found, not how
well new ones are. At first sight the rounds 2, 3 (wordings made odd on purpose) and 4 had a recall of 0.77, 0.42 and
0.63, and one false alarm in 90 look-alikes (docs/asking.md). Questions that a person could label either way
("What do I do if someone chokes?") were left out.
"""

import json
import re
from collections import Counter

import pytest

from helpers.paths import TESTS
from medqa_cli.answering.emergencies import (
    ONLY_ENGLISH,
    PERHAPS_NOT_ENGLISH,
    EmergencyKind,
    emergency_notices,
    kinds,
    kinds_in,
    with_language_note,
)
from medqa_cli.prompt.given import Given, Turn


def emergencies_in(question: str) -> list[str]:
    return [kind.name for kind in kinds_in(question)]


LABELED = [json.loads(line) for line in (TESTS / "data/emergencies.jsonl").read_text(encoding="utf-8").splitlines()]
EMERGENCIES = [row for row in LABELED if row["kind"] is not None]
LOOK_ALIKES = [row for row in LABELED if row["kind"] is None]


def test_the_labeled_set_is_large_and_balanced() -> None:
    assert len(LABELED) >= 120
    assert abs(len(EMERGENCIES) - len(LOOK_ALIKES)) <= 4
    assert len({row["question"] for row in LABELED}) == len(LABELED)
    per_kind = Counter(row["kind"] for row in EMERGENCIES)
    assert set(per_kind) == {kind.name for kind in kinds()}
    assert min(per_kind.values()) >= 10


def test_recall_and_false_alarms() -> None:
    found = sum(bool(emergencies_in(row["question"])) for row in EMERGENCIES)
    alarms = [row["question"] for row in LOOK_ALIKES if emergencies_in(row["question"])]
    assert found / len(EMERGENCIES) >= 0.95
    assert len(alarms) / len(LOOK_ALIKES) <= 0.05, alarms


def test_the_right_kind_is_named() -> None:
    named = sum(row["kind"] in emergencies_in(row["question"]) for row in EMERGENCIES)
    assert named / len(EMERGENCIES) >= 0.95


@pytest.mark.parametrize(
    ("person", "topic"),
    [
        ("my father's face is drooping", "What causes a drooping face?"),
        ("My father’s face is drooping", "What does a drooping face look like in Bell's palsy?"),
        ("I have chest pain and I am sweating", "What are the causes of chest pain with sweating?"),
        ("I have chest pain", "I have no chest pain, can I stop my beta blocker?"),
        ("she is having a seizure", "What is a seizure?"),
        ("I want to kill myself", "Which medicines make people want to kill themselves?"),
        ("My chest hurts since an hour ago", "My chest hurt years ago, is an ECG useful?"),
    ],
)
def test_a_person_now_is_told_from_a_topic(person: str, topic: str) -> None:
    assert emergencies_in(person)
    assert emergencies_in(topic) == []


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("chest pain, left arm numb", ["heart attack"]),
        ("What causes chest pain and a numb left arm?", []),
        ("What causes this sudden chest pain with sweating right now?", ["heart attack"]),
    ],
)
def test_a_person_in_a_hurry_need_not_be_named(question: str, expected: list[str]) -> None:
    assert emergencies_in(question) == expected


def test_an_old_story_does_not_excuse_what_happens_now() -> None:
    old = "My husband had a stroke two years ago, can he drive?"
    assert emergencies_in(old) == []
    assert emergencies_in("My husband had a stroke two years ago and suddenly his speech is slurred") == ["stroke"]


def test_case_line_breaks_and_quotes_do_not_matter() -> None:
    assert emergencies_in("MY SON\nCAN’T  BREATHE") == ["breathing trouble"]


@pytest.mark.parametrize("kind", kinds(), ids=lambda kind: str(kind.name))
def test_a_notice_is_short_and_fits_every_country(kind: EmergencyKind) -> None:
    notice = kind.notice
    assert notice.startswith("Call your local emergency number now.")
    assert len(notice) < 260
    assert re.search(r"\d", notice) is None


@pytest.mark.parametrize(
    "given",
    [
        Given(context="My father's face is drooping and he can't lift his arm."),
        Given((Turn("My father's face is drooping and he can't lift his arm.", "Since when?"),)),
    ],
)
def test_an_emergency_before_the_question_is_told(given: Given) -> None:
    question = "What should I do?"
    assert emergency_notices(question) == []
    (notice,) = emergency_notices(question, given)
    assert "stroke" in notice


def test_the_same_emergency_in_question_and_context_is_told_once() -> None:
    question = "My father's face is drooping, what should I do?"
    assert emergency_notices(question, Given(context=question)) == emergency_notices(question)


def test_at_most_two_notices_come_before_an_answer() -> None:
    question = "My newborn is limp, blue, not breathing, had a seizure and bleeding won't stop, I want to die, help now"
    assert len(emergencies_in(question)) > 2
    assert len(emergency_notices(question)) == 2
    assert emergency_notices("How to treat glaucoma?") == []


@pytest.mark.parametrize(
    "question",
    [
        "Hilfe, mein Kind atmet nicht",
        "Was ist Asthma?",
        "Mon père ne respire plus",
        "mi hijo no respira",
        "哮喘怎么治疗",
    ],
)
def test_an_answer_in_another_language_says_that_no_emergency_was_looked_for(question: str) -> None:
    assert emergency_notices(question) == []
    assert with_language_note("Ask a clinician.", question) == "Ask a clinician." + ONLY_ENGLISH


@pytest.mark.parametrize(
    "question",
    [
        "no puedo respirar",
        "Quiero morirme, me he tomado todas las pastillas",
        "me cuesta respirar y tengo los labios azules",
        "me duele mucho el pecho y el brazo izquierdo",
        "non respiro",
        "convulsiones",
    ],
)
def test_an_answer_says_what_is_looked_at_where_the_language_is_in_doubt(question: str) -> None:
    assert with_language_note("Ask a clinician.", question) == "Ask a clinician." + PERHAPS_NOT_ENGLISH


def test_an_answer_in_english_hardly_ever_says_so() -> None:
    said = [row["question"] for row in LABELED if with_language_note("", row["question"]) == ONLY_ENGLISH]
    assert [question for question in said if not emergency_notices(question)] == []
    assert len(said) <= 0.01 * len(LABELED)
    doubted = [row["question"] for row in LABELED if with_language_note("", row["question"])]
    assert len(doubted) <= 0.05 * len(LABELED)
