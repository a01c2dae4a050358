"""What a question asks and about what: MedQuAD's forms, people's wordings, and what must give nothing."""

import csv
import re
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.paths import SAMPLE, SHARED_DATA
from medqa_cli.data.normalize import normalize
from medqa_cli.data.topics.question_types import LONGEST_QUESTION, QuestionType, recognize

MEDQUAD = SHARED_DATA / "medquad/medquad.csv"
TABLE = SAMPLE / "consumer_health_qa.csv"


@pytest.mark.parametrize(
    ("question", "kind", "topic"),
    [
        ("What is (are) Heat Rash ?", "information", "Heat Rash"),
        ("Do you have information about Heat Rash", "information", "Heat Rash"),
        ("What are the symptoms of Heat Rash ?", "symptoms", "Heat Rash"),
        ("What are the treatments for Heat Rash ?", "treatment", "Heat Rash"),
        ("What causes Heat Rash ?", "causes", "Heat Rash"),
        ("How to diagnose Heat Rash ?", "exams and tests", "Heat Rash"),
        ("Is Heat Rash inherited ?", "inheritance", "Heat Rash"),
        ("How many people are affected by Heat Rash ?", "frequency", "Heat Rash"),
        ("What are the genetic changes related to Heat Rash ?", "genetic changes", "Heat Rash"),
        ("what research (or clinical trials) is being done for Heat Rash ?", "research", "Heat Rash"),
        ("What is the outlook for Heat Rash ?", "outlook", "Heat Rash"),
        ("Who is at risk for Heat Rash? ?", "susceptibility", "Heat Rash"),
        ("How to prevent Heat Rash ?", "prevention", "Heat Rash"),
        ("What to do for Heat Rash ?", "considerations", "Heat Rash"),
        ("What are the stages of Heat Rash ?", "stages", "Heat Rash"),
        ("What are the complications of Heat Rash ?", "complications", "Heat Rash"),
        ("Where to find support for people with Heat Rash ?", "support groups", "Heat Rash"),
    ],
)
def test_medquads_forms_raw_cleaned_and_shouted(question: str, kind: str, topic: str) -> None:
    cleaned = re.sub(r"[ ?]*\?$", "?", question).replace(" (are)", "")
    for text in (question, cleaned, f"\n {question.replace(' ', '  ')}\t"):
        assert recognize(text) == QuestionType(kind, topic)
    assert recognize(cleaned.upper()) == QuestionType(kind, topic.upper())
    assert recognize(cleaned.lower()) == QuestionType(kind, topic.lower())


@pytest.mark.parametrize(
    ("question", "kind", "topic"),
    [
        ("How to treat glaucoma?", "treatment", "glaucoma"),
        ("What are treatments of glaucoma", "treatment", "glaucoma"),
        ("glaucoma treatment", "treatment", "glaucoma"),
        ("How is a peptic ulcer usually treated?", "treatment", "peptic ulcer"),
        ("Give symptoms of lung cancer", "symptoms", "lung cancer"),
        ("What are the signs of lung cancer?", "symptoms", "lung cancer"),
        ("What symptoms does Crohn's disease cause?", "symptoms", "Crohn's disease"),
        ("What’s the cause of gout?", "causes", "gout"),
        ("What causes gallstones to form?", "causes", "gallstones"),
        ("How are kidney stones diagnosed?", "exams and tests", "kidney stones"),
        ("Can the flu be prevented?", "prevention", "flu"),
        ("What is the prognosis for people with ALS?", "outlook", "ALS"),
        ("How common is hepatitis B?", "frequency", "hepatitis B"),
        ("What are the risk factors for stroke?", "susceptibility", "stroke"),
        ("Please tell me about vitamin D.", "information", "vitamin D"),
        ("What is an ear infection?", "information", "ear infection"),
        # The topic is certain, but the question is narrower than any kind: no paraphrase would ask the same.
        ("What are the warning signs of a heart attack?", "other", "heart attack"),
        ("How is asthma diagnosed and treated?", "other", "asthma"),
        ("Is chickenpox contagious?", "other", "chickenpox"),
    ],
)
def test_wordings_of_people(question: str, kind: str, topic: str) -> None:
    assert recognize(question) == QuestionType(kind, topic)


@pytest.mark.parametrize(
    "topic",
    [
        "Your Guide to Diabetes: Type 1 and Type 2",
        "What I need to know about Gas",
        "His bundle tachycardia",
        "Best vitelliform macular dystrophy",
        "Peripheral Arterial Disease (P.A.D.)",
        "48,XXYY syndrome",
        "collagen type I defect",
        "Larynx, absence of",
    ],
)
def test_topics_with_words_of_a_sentence(topic: str) -> None:
    assert recognize(f"What is (are) {topic} ?") == QuestionType("information", topic)
    assert recognize(f"What are the symptoms of {topic}?") == QuestionType("symptoms", topic)


@pytest.mark.parametrize(
    "question",
    [
        "What should I ask my doctor before surgery?",
        "What is the best way to lose weight?",
        "What is the difference between a cold and the flu?",
        "What is it?",
        "What is this?",
        "What are the symptoms?",
        "What are the symptoms of the disease?",
        "What causes it?",
        "How is this treated?",
        "how can these diseases be treated?",
        "What are the symptoms of asthma and how is it treated?",
        "What is asthma? How is it treated?",
        "What is the treatment for my asthma?",
        "What is wrong with me?",
        "What are my chances?",
        "What is (are)  ?",
        "Who is at risk for ? ?",
        "my back hurts",
        "What are the symptoms of 7?",
        "What is " + "a very long story " * 30,
        "?",
        "",
    ],
)
def test_what_names_no_topic_gives_nothing(question: str) -> None:
    assert recognize(question) is None


@given(
    question=st.one_of(
        st.text(max_size=LONGEST_QUESTION + 10),
        st.tuples(
            st.sampled_from(["What is", "symptoms of the", "How is", "Is", "Tell me about a", "who gets"]),
            st.text(max_size=60),
            st.sampled_from(["?", "treated ?", " inherited? ?", ""]),
        ).map(" ".join),
    )
)
def check_topic(question: str, seen: Counter[bool]) -> None:
    form = recognize(question)
    seen[form is not None] += 1
    if form is not None:
        assert form.topic in " ".join(question.split())
        assert form.topic == form.topic.strip() != ""


def test_the_topic_of_any_text_is_a_piece_of_it() -> None:
    seen: Counter[bool] = Counter()
    check_topic(seen=seen)
    assert min(seen[True], seen[False]) >= 20, seen


def test_the_topic_equals_medquads_focus() -> None:
    if not MEDQUAD.is_file():
        pytest.skip(f"{MEDQUAD} is not there")
    with open(MEDQUAD, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for clean in (False, True):
        count: Counter[str] = Counter()
        for row in rows:
            question = row["question"]
            if clean:
                question = re.sub(r"\s*(\?\s*)+$", "?", question).replace("What is (are) ", "What is ")
            form = recognize(question)
            count["recognized"] += form is not None
            count["topic"] += (
                form is not None and row["focus"] != "" and normalize(form.topic) == normalize(row["focus"])
            )
            count["kind"] += form is not None and form.kind == row["qtype"]
        assert count["recognized"] == 16_397  # of 16,407
        assert count["topic"] == (16_386 if clean else 16_392)
        assert count["kind"] == (16_376 if clean else 16_382)


def test_the_sample_data() -> None:
    with open(TABLE, encoding="utf-8", newline="") as file:
        questions = [row["question"] for row in csv.DictReader(file) if row["question"].strip()]
    unknown = [question for question in questions if recognize(question) is None]
    assert len(questions) == 276
    assert unknown == ["What symptoms and health problems come with obesity?"]
