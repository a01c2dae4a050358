"""Documents as passages: ids, titles and places of each format, encodings, tables, what is left out and said.

And which held-out answers count as standing in them.
"""

import gzip
import importlib.util
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from helpers.pdfs import write_pdf
from helpers.spreadsheets import write_xlsx
from medqa_cli import console
from medqa_cli.config.schema import DataConfig
from medqa_cli.data.convert import column_names
from medqa_cli.data.documents.finding import find_documents
from medqa_cli.data.documents.passages import FEWEST_WORDS, MOST_WORDS, Documents, cut, read_documents
from medqa_cli.data.documents.sections import Section
from medqa_cli.errors import InputError
from medqa_cli.files import sha256_of_file

WORDS = [f"word{n}" for n in range(60)]
LONG = " ".join(WORDS)
SHORT = "The flow of tears is blocked by a narrow duct in the nose."


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was warned of."""
    warnings: list[str] = []
    monkeypatch.setattr(console, "warn", warnings.append)
    return warnings


def read(path: Path, **data: Any) -> Documents:
    config = DataConfig(documents=str(path), **data)
    return read_documents(find_documents(config.documents, Path("no/such/folder"), []), config, column_names(config))


def shown(documents: Documents) -> list[tuple[str, str, str, str]]:
    return [(one.source, one.place, one.title, one.text) for one in documents.passages]


def test_each_format_gives_passages_with_title_text_and_place(tmp_path: Path, said: list[str]) -> None:
    (tmp_path / "a.md").write_text("# Gout\n\nLead.\n\n## Food\n\nLess beer.\n", encoding="utf-8")
    (tmp_path / "b.html").write_text("<h1>Gout</h1>\n<h2>Food</h2>\n<p>Less beer.</p>", encoding="utf-8")
    (tmp_path / "c.txt").write_text("Gout\n\nLess beer.\n", encoding="utf-8")
    write_pdf(tmp_path / "d.pdf", [["Drink."], ["Rest."]], "Gout")
    (tmp_path / "e.csv").write_text("question,answer,topic\nWhat is gout?,It hurts.,gout\n", encoding="utf-8")
    documents = read(tmp_path)
    assert shown(documents) == [
        ("a.md", "line 3", "Gout", "Lead."),
        ("a.md", "line 7", "Gout: Food", "Less beer."),
        ("b.html", "line 3", "Gout: Food", "Less beer."),
        ("c.txt", "line 3", "Gout", "Less beer."),
        ("d.pdf", "page 1", "Gout", "Drink.\nRest."),
        ("e.csv", "row 1", "What is gout?", "It hurts."),
    ]
    assert {one.kind for one in documents.passages} == {"document"}
    assert [one.topic for one in documents.passages] == ["", "", "", "", "", "gout"]
    assert documents.report == {
        "files": [
            {"path": name, "sha256": sha256_of_file(tmp_path / name), "title": title, "passages": count}
            for name, title, count in (
                ("a.md", "Gout", 2),
                ("b.html", "Gout", 1),
                ("c.txt", "Gout", 1),
                ("d.pdf", "Gout", 1),
                ("e.csv", "e", 1),
            )
        ],
        "passages": 6,
        "skipped": [],
        "others": {},
    }
    assert documents.texts == ["Lead.", "Less beer.", "Less beer.", "Less beer.", "Drink.\nRest.", "It hurts."]
    assert documents.pairs == [("What is gout?", "It hurts.")]
    assert said == []


def test_ids_stay_the_same_and_are_unique(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("question,answer\nQ?,Yes it is.\nQ?,Yes it is.\n", encoding="utf-8")
    (tmp_path / "b.html").write_text("<h2>A</h2><p>Same.</p><h2>A</h2><p>Same.</p>", encoding="utf-8")
    ids = [one.id for one in read(tmp_path).passages]
    assert ids == [one.id for one in read(tmp_path).passages]
    assert len(set(ids)) == 4
    assert ids[3] == f"{ids[2]}-2"  # one line, one text
    assert all(one.startswith("doc-") and len(one.removesuffix("-2")) == 20 for one in ids)


def test_tables_of_every_kind_are_read_with_the_columns_of_the_config_or_by_their_names(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"question": "Q1?", "answer": "A1 &amp; more."}\n', encoding="utf-8")
    (tmp_path / "b.csv.gz").write_bytes(gzip.compress(b"frage;antwort\nQ2?;A2.\n"))
    write_xlsx(tmp_path / "c.xlsx", {"one": [["question", "answer"], ["Q3?", "A3."], ["", "no"], ["Q4?", "A4."]]})
    documents = read(tmp_path, question_column="frage", answer_column="antwort")
    assert shown(documents) == [
        ("a.jsonl", "row 1", "Q1?", "A1 & more."),
        ("b.csv.gz", "row 1", "Q2?", "A2."),
        ("c.xlsx", "row 1", "Q3?", "A3."),
        ("c.xlsx", "row 3", "Q4?", "A4."),
    ]


def test_rows_without_an_answer_are_told(tmp_path: Path, said: list[str]) -> None:
    (tmp_path / "a.csv").write_text("question,answer\nQ?,\nQ?,A.\nQ?,A,B\n", encoding="utf-8")
    assert len(read(tmp_path / "a.csv").passages) == 1
    assert said == [f"{tmp_path}/a.csv: 2 of 3 rows hold no question and answer"]


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("a.txt", "Das Kind hat über Nacht Husten.".encode("cp1252"), "Das Kind hat über Nacht Husten."),
        ("a.txt", "\ufeffPatientâ€™s drops.".encode(), "Patient’s drops."),
        ("a.md", "Größe.".encode("utf-16"), "Größe."),
        ("a.html", b"<meta charset=windows-1251><p>" + "Подагра".encode("cp1251"), "Подагра"),
        ("a.html", b'<meta http-equiv=x content="text/html; charset=iso-8859-1"><p>\x93Gout\x94', "“Gout”"),
        ("a.html", b"<meta charset=latin1><p>" + "Größe".encode(), "Größe"),
        ("a.html", b"<?xml version='1.0' encoding='shift_jis'?><p>" + "痛風".encode("shift_jis"), "痛風"),
        ("a.html", b"<meta charset=no-such><p>Gout", "Gout"),
        ("a.html", b"<meta charset=base64><p>Gout", "Gout"),
        ("a.html", "<p>Größe".encode("utf-16"), "Größe"),
    ],
)  # fmt: skip
def test_encodings_are_told_or_declared(tmp_path: Path, name: str, content: bytes, text: str) -> None:
    (tmp_path / name).write_bytes(content)
    assert [one.text for one in read(tmp_path).passages] == [text]


def test_the_encoding_of_the_config_counts_where_the_bytes_tell_none(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("Größe über alles.".encode())
    (tmp_path / "b.txt").write_bytes(bytes(range(0x80, 0xA0)) * 40)
    with pytest.raises(InputError, match=r"b\.txt"):
        read(tmp_path / "b.txt")
    texts = [one.text for one in read(tmp_path, encoding="cp437").passages]
    assert texts[0] == "Größe über alles."
    assert "Ç" in texts[1]


def test_a_cleaning_rule_that_is_off_is_off_for_documents(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("Patientâ€™s drops &amp; more.", encoding="utf-8")
    assert read(tmp_path).passages[0].text == "Patient’s drops & more."
    off = {"mojibake": False, "html": False}
    assert read(tmp_path, cleaning=off).passages[0].text == "Patientâ€™s drops &amp; more."


BAD = {
    "a.txt": b"",
    "b.md": b"\n\n",
    "c.txt": b"text\0with NUL",
    "d.html": b"<script>only()</script>",
    "e.pdf": b"no PDF",
    "f.csv": b"question,answer\n",
    "g.json": b"{broken",
    "h.txt": b"x" * 10_000_001,
    "i.xlsx": b"no workbook",
    "j.csv": b"colour,size\nred,1\n",
}


@pytest.mark.parametrize("name", sorted(BAD))
def test_a_document_that_is_named_and_cannot_be_used_is_an_error(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(BAD[name])
    with pytest.raises(InputError) as caught:
        read(tmp_path / name)
    assert name in caught.value.message
    assert caught.value.hint


def test_documents_of_a_folder_that_cannot_be_used_are_left_out_and_told(tmp_path: Path, said: list[str]) -> None:
    for name, content in BAD.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "circle.md").symlink_to(tmp_path / "circle.md")
    (tmp_path / "x.docx").write_bytes(b"x")
    with pytest.raises(InputError, match="none of 11 documents can be used: "):
        read(tmp_path)
    (tmp_path / "good.txt").write_text("Rest.", encoding="utf-8")
    said.clear()
    documents = read(tmp_path)
    assert [one["path"] for one in documents.report["files"]] == ["good.txt"]
    assert [one["path"] for one in documents.report["skipped"]] == sorted([*BAD, "circle.md"])
    assert documents.report["others"] == {".docx": 1}
    assert len(said) == 12
    assert all(line.startswith("left out of the documents: ") for line in said[:11])
    assert said[11] == "not read as documents: 1 .docx; save as .pdf, .html or .txt what should be"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("Text.", encoding="utf-8")
    path.chmod(0)
    with pytest.raises(InputError, match=r"a\.txt cannot be read: Permission denied"):
        read(path)


def test_a_missing_reader_of_pdf_files_is_an_error_in_a_folder_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_pdf(tmp_path / "a.pdf", [["Rest."]])
    (tmp_path / "b.txt").write_text("Rest.", encoding="utf-8")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="needs the package pypdf"):
        read(tmp_path)


def test_markup_of_prompts_in_a_document_is_text(tmp_path: Path) -> None:
    text = "Take [INST] one </s> <|im_start|>system tablet [1] a day."
    (tmp_path / "a.txt").write_text(text, encoding="utf-8")
    assert [one.text for one in read(tmp_path).passages] == [text]


def section_of(text: str) -> Section:
    return Section((), text, tuple((found.start(), f"at {found[0]}") for found in re.finditer(r"\S+", text)))


def texts_of(text: str) -> list[str]:
    return [passage for passage, _ in cut(section_of(text))]


def sentences(count: int, words: int, first: int = 0) -> str:
    """Sentences that all differ."""
    return " ".join(f"Sentence{n} {'word ' * (words - 2)}ends." for n in range(first, first + count))


def test_a_short_section_is_one_passage() -> None:
    assert list(cut(section_of("Gout hurts. Rest."))) == [("Gout hurts. Rest.", "at Gout")]
    assert texts_of("") == []


def test_passages_end_with_sentences_and_hold_at_most_the_most_words() -> None:
    text = sentences(50, 10)
    found = list(cut(section_of(text)))
    assert [len(passage.split()) for passage, _ in found] == [160, 160, 180]  # the rest of 20 words joins the last
    assert " ".join(passage for passage, _ in found) == text
    assert [place for _, place in found] == ["at Sentence0", "at Sentence16", "at Sentence32"]


def test_an_end_that_is_long_enough_stays_a_passage() -> None:
    assert [len(text.split()) for text in texts_of(sentences(20, 10))] == [160, FEWEST_WORDS]


def test_a_paragraph_that_ends_late_ends_the_passage() -> None:
    text = f"{sentences(10, 10)}\n\n{sentences(10, 10, 10)}"
    assert texts_of(text) == text.split("\n\n")
    text = f"{sentences(3, 10)}\n\n{sentences(20, 10, 3)}"  # too early to end it there
    assert [len(passage.split()) for passage in texts_of(text)] == [160, 70]


@pytest.mark.parametrize(
    "text",
    [
        "word " * 1000,
        "a" * 50_000,
        f"{'b' * 5000} {'word ' * 300}{'c' * 5000}",
        "痛" * 1000,
        "痛风是一种关节炎。" * 100,
        sentences(7, 200),
    ],
    ids=["no end", "one word", "long words", "signs", "chinese", "long sentences"],
)
def test_no_passage_is_endless_and_nothing_is_lost(text: str) -> None:
    found = texts_of(text)
    assert "".join("".join(found).split()) == "".join(text.split())
    assert max(len(passage) for passage in found) <= 12 * (MOST_WORDS + FEWEST_WORDS)
    assert max(len(passage.split()) for passage in found) < MOST_WORDS + FEWEST_WORDS
    assert len(found) > 3


def test_a_list_stays_with_the_words_before_it_where_it_fits() -> None:
    text = f"{sentences(8, 10)}\n\nDo this:\n\n- wash\n- dry"
    assert texts_of(text) == [text]


def count(folder: Path, answers: list[str], texts: list[str], pairs: Sequence[tuple[str, str]] = ()) -> int:
    rows = [
        {"id": str(n), "question": f"What is {n}?", "answer": answer, "topic": "", "source": ""}
        for n, answer in enumerate(answers)
    ]
    (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (folder / "validation.jsonl").write_text("", encoding="utf-8")
    found = Documents(texts=texts, pairs=list(pairs)).count_held_out(folder, 0.8)
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
