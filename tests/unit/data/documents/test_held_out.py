"""Which held-out answers count as standing in the documents."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from medqa_cli.data.documents.held_out import DocumentRuns

WORDS = [f"word{n}" for n in range(60)]
LONG = " ".join(WORDS)
SHORT = "The flow of tears is blocked by a narrow duct in the nose."


def count(folder: Path, answers: list[str], texts: list[str], pairs: Sequence[tuple[str, str]] = ()) -> int:
    rows = [
        {"id": str(n), "question": f"What is {n}?", "answer": answer, "topic": "", "source": ""}
        for n, answer in enumerate(answers)
    ]
    (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (folder / "validation.jsonl").write_text("", encoding="utf-8")
    found = DocumentRuns(texts, pairs, 0.8).count(folder)
    assert found["validation"] == 0
    return found["test"]


def test_an_answer_that_a_text_holds_counts_whatever_its_case_and_punctuation(tmp_path: Path) -> None:
    text = f"Before it. {', '.join(WORDS).upper()}! After it."
    assert count(tmp_path, [LONG, "another answer of a few words that stand nowhere"], [text]) == 1


@pytest.mark.parametrize(("kept", "held"), [(48, 1), (47, 0)])
def test_the_share_of_runs_that_counts_is_the_threshold(tmp_path: Path, kept: int, held: int) -> None:
    # 56 runs of five words; 48 words hold 44 of them (0.786), 49 would hold 45 (0.804).
    assert count(tmp_path, [LONG], [" ".join(WORDS[: kept + 1])]) == held


def test_an_answer_may_stand_across_texts(tmp_path: Path) -> None:
    assert count(tmp_path, [LONG], [" ".join(WORDS[:30]), " ".join(WORDS[30:])]) == 1  # 52 of 56 runs


def test_another_word_makes_a_short_answer_another_one(tmp_path: Path) -> None:
    assert count(tmp_path, [SHORT], [f"It is said: {SHORT}"]) == 1
    assert count(tmp_path, [SHORT], [SHORT.replace("nose", "ear")]) == 0


def test_an_answer_that_says_little_counts_with_its_question_only(tmp_path: Path) -> None:
    answers = ["Yes, it can be cured.", "Ask your doctor."]
    assert count(tmp_path, answers, ["Yes, it can be cured. Ask your doctor."]) == 0
    assert (
        count(tmp_path, answers, ["x"], [("what is 0", "yes it can be cured"), ("What is 9?", "Ask your doctor.")]) == 1
    )


def test_rows_beyond_one_block_are_counted(tmp_path: Path) -> None:
    assert count(tmp_path, [LONG] * 2100, [LONG]) == 2100
