"""The nearest reference answers: which rows are found, when nothing is close, which sentences have no support."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from medqa_cli.data.retrieval import (
    Reference,
    References,
    TextIndex,
    all_words,
    as_json,
    content_words,
    unsupported_sentences,
)
from medqa_cli.errors import InputError, MedqaError

ROWS = [
    ("How to treat glaucoma?", "Glaucoma is treated with eye drops that lower the pressure, with laser or surgery."),
    ("What is glaucoma?", "Glaucoma is a group of diseases that damage the optic nerve."),
    ("How to treat asthma?", "Asthma is treated with inhaled medicines. Avoid smoke."),
    ("How to treat eczema?", "Eczema is treated with creams."),
    ("How to treat migraine?", "Migraine is treated with pain relief and rest."),
    ("What is gout?", "Gout is a painful form of arthritis caused by uric acid crystals in a joint."),
    ("What are the symptoms of anemia?", "Tiredness and pale skin are the main symptoms."),
    *(
        (f"What is {name}?", f"{name.capitalize()} is known for long.")
        for name in ("measles", "rabies", "scurvy", "tetanus", "mumps", "rickets", "leprosy", "cholera")
    ),
]


@pytest.fixture
def library(tmp_path: Path) -> References:
    lines = [
        {"id": f"r{n}", "question": q, "answer": a, "topic": q.split()[-1].strip("?"), "source": "test"}
        for n, (q, a) in enumerate(ROWS)
    ]
    lines.append({**lines[0], "id": "copy", "question": "Glaucoma: treatment", "paraphrase_of": "r0"})
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return References(tmp_path)


def test_the_nearest_row_comes_first(library: References) -> None:
    found = library.nearest("How is glaucoma treated?", 3)
    assert [each.id for each in found][:2] == ["r0", "r1"]
    assert found[0].score > found[1].score
    assert (found[0].topic, found[0].source, found[0].answer) == ("glaucoma", "test", ROWS[0][1])
    assert len(library.nearest("How is glaucoma treated?", 1)) == 1


def test_paraphrases_of_a_row_are_not_shown_again(library: References) -> None:
    assert "copy" not in {each.id for each in library.nearest("glaucoma treatment", 10)}


@pytest.mark.parametrize("question", ["How to repair a bicycle chain?", "What is lupus?", "", "?!", "what is the"])
def test_questions_of_other_things_have_no_nearest_rows(library: References, question: str) -> None:
    assert library.nearest(question, 3) == []


@pytest.mark.parametrize("question", ['gout" OR "gout', "gout AND NOT gout*", "NOT gout", "-gout", "^gout + gout"])
def test_the_syntax_of_the_search_is_plain_text(library: References, question: str) -> None:
    assert [each.id for each in library.nearest(question, 5)] == ["r5"]


@pytest.mark.parametrize("question", ["NEAR(gout asthma)", "nothing:gout", "{gout}: asthma lupus"])
def test_words_that_stand_nowhere_make_a_question_strange(library: References, question: str) -> None:
    assert library.nearest(question, 5) == []


def test_a_missing_data_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no data"):
        References(tmp_path / "absent")


def test_a_sqlite_without_fts5(library: References, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Plain(sqlite3.Connection):
        def execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
            if "fts5" in statement:
                raise sqlite3.OperationalError("no such module: fts5")
            return super().execute(statement, *values)

    monkeypatch.setattr(sqlite3, "connect", Plain)
    with pytest.raises(MedqaError, match=r"needs a SQLite with FTS5: no such module: fts5") as caught:
        References(tmp_path)
    assert "ask works without --sources" in caught.value.hint


def test_sentences_without_support(library: References) -> None:
    found = library.nearest("How to treat glaucoma?", 2)
    answer = "Glaucoma is treated with eye drops. Bananas cure every kind of blindness within days. Laser helps."
    assert unsupported_sentences(answer, found) == ["Bananas cure every kind of blindness within days."]
    assert unsupported_sentences("", found) == []


def test_the_json_of_a_reference() -> None:
    reference = Reference("r0", "q", "a", "t", "s", 1.5)
    assert as_json([reference]) == [
        {"id": "r0", "question": "q", "answer": "a", "topic": "t", "source": "s", "score": 1.5}
    ]


def test_content_words_leave_out_what_every_question_has() -> None:
    assert content_words("What are the Symptoms of symptoms, in Ménière's disease?") == [
        "symptoms",
        "ménière",
        "disease",
    ]


def test_index_search_ranks_rare_words_first_and_takes_the_first_of_equals() -> None:
    index = TextIndex([("what is gout",), ("what is mumps",), ("what is mumps",), ("how is it",)], (1.0,))
    assert [number for number, _ in index.search(["what", "is", "mumps"], 4)] == [1, 2, 0, 3]
    (best,), (_, second) = index.search(["mumps"], 1), index.search(["mumps"], 2)
    assert (best[0], second[0]) == (1, 2)
    assert best[1] == pytest.approx(second[1])
    assert index.search(["lupus"], 4) == []
    assert index.search([], 4) == []


def test_index_search_reads_every_script() -> None:
    index = TextIndex([("Что такое подагра",), ("Что такое астма",)], (1.0,))
    assert [number for number, _ in index.search(all_words("Астма: что это?"), 1)] == [1]


def test_index_weights_count_a_word_of_a_heavy_column_more() -> None:
    rows = [("gout", "a"), ("a", "gout"), ("b", "b"), ("c", "c")]
    assert [number for number, _ in TextIndex(rows, (3.0, 1.0)).search(["gout"], 2)] == [0, 1]
    assert [number for number, _ in TextIndex(rows, (1.0, 3.0)).search(["gout"], 2)] == [1, 0]


def test_index_holding_weighs_a_rare_word_more_than_two_common_ones() -> None:
    index = TextIndex([("what is gout",), ("what is mumps",), ("what is acne",), ("what is it",)], (1.0,))
    assert index.holding(["what", "is", "gout"], [3, 0, 1], 0.5) == [0]
    assert index.holding(["what", "is", "gout"], [3, 0, 1], 0.0) == [3, 0, 1]
    assert index.holding(["gout"], [], 0.5) == []
