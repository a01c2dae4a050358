"""Which rows hold no answer, and which short answers are good ones."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medqa_cli.data.cleaning.rules import clean, enabled_rules
from medqa_cli.data.cleaning.unhelpful import unhelpful

MEDQUAD = Path(__file__).parents[2].parent / "shared/data/medquad/medquad_two_columns.csv"

LINKS = (
    "These resources address the diagnosis or management of arden:ine deficiency:\n- Gene Review: Ardent syndrome\n"
    "- A Society: How Is Ardent Syndrome Treated? These resources from a library offer information about health "
    "conditions:\n- Diagnostic Tests\n- Drug Therapy"
)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("How is 48,XXYY syndrome inherited?", "answer_is_question"),
        ("Why? How?", "answer_is_question"),
        ("Topics", "stub"),
        ("Frequently Asked Queestions (FAQs)", "stub"),
        ("Frequently Asked Questions (FAQs)\n\nFact Sheets", "stub"),
        ("Summary:", "stub"),
        ("- Overview\n- References", "stub"),
        ("N/A", "stub"),
        ("n.a.", "stub"),
        ("TBD", "stub"),
        ("Not available.", "stub"),
        ("-", "stub"),
        ("...", "stub"),
        ("?", "stub"),
        ("See above.", "stub"),
        ("see Table 3", "stub"),
        ("See the summary about Ardent Syndrome Treatment for information.", "stub"),
        (LINKS, "link_list"),
        (LINKS.replace("\n- ", "  - "), "link_list"),
        ("http://a.org/b", "link_list"),
        ("- https://a.org\n- www.b.org/c?d=e", "link_list"),
        ("More detailed information on heart failure is available at http://a.org/b.", "link_list"),
    ],
)
def test_rows_without_an_answer(answer: str, reason: str) -> None:
    assert unhelpful("What is flu?", answer) == reason


@pytest.mark.parametrize(
    "answer",
    [
        "Yes.",
        "No",
        "None.",
        "Unknown",
        "Vitamin C",
        "5 mg",
        "Na+",
        "Autosomal recessive",
        "BRCA1",
        "+",
        "38 °C",
        "ऑक्सीजन",
        "See a doctor right away.",
        "See your doctor about the link to diabetes.",
        "Go to the emergency room at the hospital.",
        "Key points of the hip are two.",
        "Flu is viral. Do you have it?",
        "Ask these questions:\n- Is it safe?",
        "Topics are creams.",
        "These resources address flu: rest and water.",
        "These resources address flu:\n- Rest helps. Drink water as well.",
        f"Surgery is the first choice.\n\n{LINKS}",
        "Call the clinic (www.a.org) before you come.",
    ],
)
def test_answers(answer: str) -> None:
    assert unhelpful("What is flu?", answer) is None


@settings(derandomize=True, database=None, deadline=None, max_examples=500)
@given(st.text(max_size=40) | st.lists(st.sampled_from([*" -.?:\n", "Topics", "http://a", LINKS])).map("".join))
def test_any_text_is_judged(answer: str) -> None:
    assert unhelpful("q", answer) in (None, "answer_is_question", "stub", "link_list")


@pytest.mark.parametrize("piece", [" ", "?", "- ", "(", "www.", "See the ", "These resources a: ", "\n"])
def test_long_texts_are_judged(piece: str) -> None:
    text = piece * (100_000 // len(piece))
    assert unhelpful("q", f"A drug helps.{text}") is None
    assert unhelpful("q", f"{LINKS}{text}It helps.") is None


@pytest.mark.skipif(not MEDQUAD.exists(), reason=f"no file {MEDQUAD}")
def test_medquad() -> None:
    """Exact counts; the reference counts 17 questions, 6 stubs and 1,085 lists of its one form."""
    rules = enabled_rules({})
    reasons: Counter[str | None] = Counter()
    with open(MEDQUAD, encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            cleaned = clean(row["question"], row["answer"], rules)
            reasons[unhelpful(cleaned.question, cleaned.answer)] += 1
    assert reasons == {None: 15295, "link_list": 1089, "answer_is_question": 17, "stub": 6}
