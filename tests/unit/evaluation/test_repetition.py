"""Answers that repeat themselves are found, and ordinary ones are not."""

import pytest

from helpers.paths import SHARED_DATA
from medqa_cli.answering.stopping import has_loop, seq_rep_4
from medqa_cli.evaluation.metrics import repeats_itself

MEDQUAD = SHARED_DATA / "medquad/medquad_two_columns.csv"
# What the run that medqa takes over answered to "What is Osteoporosis?", as its README shows it.
OSTEOPOROSIS = (
    "Osteoporosis is a disease that causes bones to become weak and brittle. It is a silent disease because "
    'there are no symptoms. Osteoporosis is called the "silent disease" because it is not detected until a '
    "bone breaks. Osteoporosis is a major health problem in the United States. It affects 10 million "
    "Americans, including 1 million men. It is most common in women over age 50. Osteoporosis is a major cause"
    " of broken bones in older people. It is also a major cause of disability in older people. Osteoporosis is"
    " a major cause of broken bones in older people. It is also a major cause of disability in older people. "
    "Osteoporosis is a major cause of broken bones in"
)


def test_seq_rep_4_by_hand() -> None:
    # a b c d e a b c d: six runs, one of them twice.
    assert seq_rep_4("A b c d, e. A b c d!") == pytest.approx(1 / 6)
    assert seq_rep_4("a a a a a a a") == pytest.approx(3 / 4)
    assert seq_rep_4("one two three") == 0
    assert seq_rep_4("") == 0


def test_the_osteoporosis_answer_is_flagged() -> None:
    # 92 runs of four words, 24 of them said before.
    assert seq_rep_4(OSTEOPOROSIS) == pytest.approx(24 / 92)
    assert has_loop(OSTEOPOROSIS)
    assert repeats_itself(OSTEOPOROSIS)
    first_six_sentences = OSTEOPOROSIS[: OSTEOPOROSIS.index("Osteoporosis is a major cause")]
    assert not repeats_itself(first_six_sentences)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("Gout hurts, and it hurts, and it hurts, and it hurts", True),  # three words, three times, at the end
        ("Gout hurts, and it hurts, and it hurts. Rest helps.", False),
        ("Take one tablet of this medicine each day. Rest. Take one tablet of this medicine each day. Drink. "
         "Take one tablet of this medicine each day. Call us.", True),
        ("Take one tablet of this medicine each day. Rest. Take one tablet of this medicine each day.", False),
        ("ask your doctor about the new tablets today ask your doctor about the new tablets today", True),
        # A sentence counts from five words on.
        ("Rest in bed for days. Drink. Rest in bed for days. Eat. Rest in bed for days. Call us.", True),
        ("Rest in your bed. Drink. Rest in your bed. Eat. Rest in your bed. Call us.", False),
        ("No. No. No. No.", False),
        ("", False),
    ],
)  # fmt: skip
def test_only_answers_that_go_round_are_repetitive(answer: str, expected: bool) -> None:
    assert has_loop(answer) is expected


def test_few_reference_answers_loop() -> None:
    if not MEDQUAD.is_file():
        pytest.skip(f"no {MEDQUAD.name} in ../shared")
    import csv

    with open(MEDQUAD, encoding="utf-8", newline="") as file:
        answers = [row["answer"] for row in csv.DictReader(file)][::20]
    assert len(answers) > 800
    # 0.6 % of MedQuAD's references hold a repeated block of sentences.
    assert 0 < sum(map(has_loop, answers)) < 0.02 * len(answers)
