"""Paraphrases: repeatable, about the same topic, well-formed; the benchmark's wordings are none of theirs."""

import json
import re
from pathlib import Path
from types import ModuleType

import pytest

from helpers.paths import ROOT
from helpers.scripts import load_script
from medqa_cli.data.normalize import normalize
from medqa_cli.data.topics.medical_terms import is_illness
from medqa_cli.data.topics.paraphrases import fill, in_running_text, is_title, paraphrase
from medqa_cli.errors import InputError
from medqa_cli.resources import load_yaml

BANK: dict[str, tuple[list[str], list[str]]] = {
    kind: (wordings["general"], wordings["illness"]) for kind, wordings in load_yaml("paraphrases").items()
}
SCRIPT = ROOT / "benchmarks/off_template_questions.py"
FREQUENT = {
    "information",
    "symptoms",
    "treatment",
    "causes",
    "exams and tests",
    "inheritance",
    "frequency",
    "outlook",
    "prevention",
    "susceptibility",
}
QUESTIONS = {
    "information": "What is (are) {} ?",
    "symptoms": "What are the symptoms of {} ?",
    "treatment": "What are the treatments for {} ?",
    "causes": "What causes {} ?",
    "exams and tests": "How to diagnose {} ?",
    "inheritance": "Is {} inherited ?",
    "frequency": "How many people are affected by {} ?",
    "outlook": "What is the outlook for {} ?",
    "susceptibility": "Who is at risk for {}? ?",
    "prevention": "How to prevent {} ?",
    "genetic changes": "What are the genetic changes related to {} ?",
    "research": "what research (or clinical trials) is being done for {} ?",
    "considerations": "What to do for {} ?",
    "stages": "What are the stages of {} ?",
    "complications": "What are the complications of {} ?",
    "support groups": "Where to find support for people with {} ?",
}
TOPICS = ["Lung Cancer", "Kidney Stones in Adults", "Ataxia, episodic", "COPD", "Chronic Fatigue Syndrome (CFS)"]


@pytest.fixture(scope="module")
def off_template_questions() -> ModuleType:
    return load_script(SCRIPT)


def test_the_same_question_and_seed_give_the_same_wordings_everywhere() -> None:
    assert paraphrase("How to treat glaucoma?", 3, 42) == [
        "treatment for glaucoma",
        "how do doctors treat glaucoma",
        "I would like to know about treatments for glaucoma.",
    ]
    assert paraphrase("What are the symptoms of Lung Cancer ?", 3, 42) == [
        "Tell me the symptoms of Lung Cancer.",
        "I was just told I have lung cancer. What symptoms does it cause?",
        "List the symptoms of Lung Cancer.",
    ]
    raw, cleaned = "What is (are) Parkinson's Disease ?", "what is (are) parkinson's disease?"
    folded = [[normalize(text) for text in paraphrase(question, 5, 1)] for question in (raw, cleaned)]
    assert folded[0] == folded[1]
    assert len(folded[0]) == 5
    assert paraphrase(raw, 5, 1) != paraphrase(raw, 5, 2)
    assert paraphrase(raw, 3, 1) == paraphrase(raw, 5, 1)[:3]


@pytest.mark.parametrize("kind", QUESTIONS)
@pytest.mark.parametrize("topic", TOPICS)
def test_wordings_are_well_formed(kind: str, topic: str) -> None:
    question = QUESTIONS[kind].format(topic)
    wordings = paraphrase(question, 100, 7)
    assert len(wordings) >= (12 if kind in FREQUENT else 6)
    assert len({normalize(text) for text in wordings} | {normalize(question)}) == len(wordings) + 1
    for text in wordings:
        assert normalize(text).count(normalize(topic)) == 1
        assert "  " not in text
        assert "{" not in text
        assert text == text.strip()
        rest = text.replace(topic, "X").replace(in_running_text(topic), "X")
        # Sentences end as sentences; what begins small is typed as into a search box.
        assert re.search(r"[.?]$", rest) or rest[0].islower() or rest[0] == "X" or rest.startswith("Give symptoms")


def test_the_bank_has_enough_wordings_and_none_twice() -> None:
    assert set(BANK) == set(QUESTIONS)
    counts = {kind: len(general) + len(illness) for kind, (general, illness) in BANK.items()}
    assert counts["treatment"] == 17
    assert min(counts[kind] for kind in FREQUENT) >= 12
    assert min(counts.values()) == counts["support groups"] == 6
    wordings = [normalize(text) for general, illness in BANK.values() for text in general + illness]
    assert len(set(wordings)) == len(wordings), "a wording asks one thing only"


def test_a_question_is_not_its_own_paraphrase() -> None:
    every = paraphrase("What causes gout?", 100, 1)
    again = paraphrase("causes of gout", 100, 1)
    assert "causes of gout" in every
    assert sorted(again) == sorted(set(every) - {"causes of gout"})


@pytest.mark.parametrize(
    "question",
    [
        "my back hurts",
        "Is chickenpox contagious?",  # the bank has nothing that asks this
        "What is (are) What I need to know about Gas ?",
        "How to prevent Parasites - Scabies ?",
        "What is (are) Kidney Failure: What to Expect ?",
    ],
)
def test_questions_without_paraphrases(question: str) -> None:
    assert paraphrase(question, 3, 1) == []


def test_wordings_for_an_illness_need_one() -> None:
    def told(topic: str) -> bool:
        return any("told I have" in text for text in paraphrase(f"What is (are) {topic} ?", 100, 1))

    assert [told(topic) for topic in ("Gout", "Wilson disease", "Hepatitis B", "Asthma")] == [True] * 4
    for topic in ("Exercise for Seniors", "Kidney Stones", "Heart Attack", "Childhood Leukemia", "Asthma and Allergy"):
        assert not told(topic)
        assert not is_illness(topic)


@pytest.mark.parametrize(
    ("topic", "running"),
    [
        ("Lung Cancer", "lung cancer"),
        ("Parkinson's Disease", "Parkinson's disease"),
        ("Guillain-Barré Syndrome", "Guillain-Barré syndrome"),
        ("Adult Non-Hodgkin Lymphoma", "adult non-Hodgkin lymphoma"),
        ("COPD", "COPD"),
        ("Type 2 Diabetes", "type 2 diabetes"),
        ("Crimean-Congo Hemorrhagic Fever (CCHF)", "Crimean-Congo hemorrhagic fever (CCHF)"),
        ("Peripheral Arterial Disease (P.A.D.)", "peripheral arterial disease (P.A.D.)"),
        ("Tetralogy of Fallot", "Tetralogy of Fallot"),
        ("Hispanic American Health", "Hispanic American health"),
        ("alkaptonuria", "alkaptonuria"),
    ],
)
def test_case_in_running_text(topic: str, running: str) -> None:
    assert in_running_text(topic) == running
    assert in_running_text(running) == running


def test_braces_in_a_topic_are_left_alone() -> None:
    assert fill("symptoms of {lower}", "{topic} Disease") == "symptoms of {topic} disease"


def test_titles_are_told_from_names_of_diseases() -> None:
    assert is_title("Prevent diabetes problems: Keep your eyes healthy")
    assert not is_title("Charcot-Marie-Tooth disease")


def test_the_benchmark_asks_in_words_that_the_bank_does_not_hold(off_template_questions: ModuleType) -> None:
    off: dict[str, tuple[str, ...]] = off_template_questions.OFF_TEMPLATE
    assert set(off) == set(BANK)
    assert all(3 <= len(wordings) <= 5 for wordings in off.values())
    bank = {
        normalize(re.sub(r"\{\w+\}", "X", text)) for general, illness in BANK.values() for text in general + illness
    }
    others = {normalize(re.sub(r"\{\w+\}", "X", text)) for wordings in off.values() for text in wordings}
    assert len(others) == sum(map(len, off.values()))
    assert not bank & others
    for kind, form in QUESTIONS.items():
        question = form.format("Lung Cancer")
        assert {normalize(off_template_questions.off_template(question, seed)) for seed in range(40)} == {
            normalize(fill(text, "Lung Cancer")) for text in off[kind]
        }
    assert off_template_questions.off_template("my back hurts", 1) is None


def test_the_benchmark_rewrites_a_test_split(off_template_questions: ModuleType, tmp_path: Path) -> None:
    rows = [
        {"id": "1", "question": "What is (are) Gout ?", "answer": "a\u2028b", "topic": "Gout", "source": "s"},
        {"id": "2", "question": "my back hurts", "answer": "c", "topic": "", "source": "s"},
    ]
    data, out = tmp_path / "data", tmp_path / "out"
    data.mkdir()
    lines = [json.dumps({**row, "text": f"<{row['question']}>{row['answer']}"}, ensure_ascii=False) for row in rows]
    (data / "test.jsonl").write_text("\n".join([*lines, ""]), encoding="utf-8")
    assert off_template_questions.write_split(data, out, 1) == (1, 1)
    written = json.loads((out / "test.jsonl").read_text(encoding="utf-8"))
    assert written["question"] == off_template_questions.off_template("What is (are) Gout ?", 1)
    assert written["text"] == f"<{written['question']}>a\u2028b"
    assert {key: written[key] for key in ("id", "answer", "topic", "source")} == {
        key: rows[0][key] for key in ("id", "answer", "topic", "source")
    }
    with pytest.raises(InputError, match="is the data folder itself"):
        off_template_questions.write_split(data, data, 1)
    with pytest.raises(InputError, match="no test split"):
        off_template_questions.write_split(out / "missing", out, 1)
