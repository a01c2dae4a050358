"""``medqa convert`` as a user types it: several sources, the audit of a folder, what a rule does, exit codes."""

import csv
import json
import random
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from helpers.commands import Outcome
from helpers.spreadsheets import Cell, write_xlsx
from medqa_cli.data.retrieval import PassageIndex

Medqa = Callable[..., Outcome]

WORDS = [f"word{number}" for number in range(300)]


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_csv(path: Path, rows: Sequence[Sequence[str]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("question", "answer"), *rows])
    return path


def some_rows(name: str, count: int = 40) -> list[list[str]]:
    draw = random.Random(name)
    return [
        [f"What is (are) {name}{number} ?", f"{name}{number} doesnt last. " + " ".join(draw.choices(WORDS, k=30))]
        for number in range(count)
    ]


def test_several_sources_by_hand_and_by_the_config(workspace: Path, medqa: Medqa) -> None:
    write_csv(workspace / "one.csv", some_rows("gout"))
    write_csv(workspace / "two.csv", [*some_rows("flu"), ["empty", ""]])
    given = medqa("convert", "one.csv", "two.csv", "--json")
    assert given.code == 0, given.err
    report = json.loads(given.out)
    assert report["rows"] == {"read": 81, "kept": 80, "rejected": {"empty_answer": 1}}
    assert [file["path"] for file in report["source"]["files"]] == ["one.csv", "two.csv"]
    rejected = json.loads((workspace / "data/medqa/rejected.jsonl").read_text())
    assert (rejected["file"], rejected["row"], rejected["line"]) == ("two.csv", 41, 42)
    sources = {json.loads(line)["source"] for line in (workspace / "data/medqa/train.jsonl").open()}
    assert sources == {"one.csv", "two.csv"}
    (workspace / "medqa.yaml").write_text("data: {source: [one.csv, two.csv]}\n")
    again = json.loads(medqa("convert", "--json").out)
    for timed in ("seconds", "stage_seconds"):
        del report[timed], again[timed]
    assert again == report


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_documents_are_indexed_and_the_held_out_answers_in_them_counted(workspace: Path, medqa: Medqa) -> None:
    write_csv(workspace / "one.csv", some_rows("gout"))
    assert medqa("convert", "one.csv", "--out", "closed").code == 0
    test, validation, train = (
        [json.loads(line)["answer"] for line in (workspace / f"closed/{split}.jsonl").open()]
        for split in ("test", "validation", "train")
    )
    assert (len(test), len(validation)) == (4, 2)
    leaflets = workspace / "leaflets"
    leaflets.mkdir()
    text = f"# All on gout\n\n{test[0].upper()} And then: {train[0]}\n\n## More\n\n{test[2]} {validation[1]}\n"
    (leaflets / "gout.md").write_text(text, encoding="utf-8")
    write_csv(leaflets / "table.csv", [["Another question?", test[3]], ["And?", "Yes."]])
    (leaflets / "notes.docx").write_bytes(b"")
    (leaflets / "empty.txt").write_bytes(b"")
    found = medqa("convert", "one.csv", "--set", "data.documents=leaflets")
    assert found.code == 0, found.err
    assert "documents: 2 files, 1 left out, 4 passages in index.sqlite" in found.out
    assert (
        "they hold the answers of 1 of 2 validation rows and 3 of 4 test rows: with them, an eval is one with an"
        in (found.out)
    )
    assert "left out of the documents: leaflets/empty.txt holds no text" in found.err
    assert "not read as documents: 1 .docx" in found.err
    folder = workspace / "data/medqa"
    documents = json.loads((folder / "report.json").read_text())["documents"]
    assert [(file["path"], file["title"], file["passages"]) for file in documents.pop("files")] == [
        ("gout.md", "All on gout", 2), ("table.csv", "table", 2)
    ]  # fmt: skip
    assert documents == {
        "passages": 4,
        "skipped": [{"path": "empty.txt", "reason": "leaflets/empty.txt holds no text"}],
        "others": {".docx": 1},
        "answers_held_out": {"validation": 1, "test": 3},
    }
    assert "They hold the answers of 1 of 2 validation rows and 3 of 4 test rows:" in (folder / "README.md").read_text()

    index = PassageIndex.of_folder(folder)
    (passage,) = index.search("all more", 1, lambda passage: passage.kind == "document" and "More" in passage.title)
    assert (passage.title, passage.source, passage.place) == ("All on gout: More", "gout.md", "line 7")
    assert passage.text.startswith(test[2])
    closed, opened = contents(workspace / "closed"), contents(folder)
    assert {name for name in closed if closed[name] != opened[name]} == {"README.md", "report.json", "index.sqlite"}

    again = medqa("convert", "one.csv", "--set", f"data.documents={leaflets}", "--out", "again")
    assert again.code == 0, again.err
    assert {name for name, content in contents(workspace / "again").items() if content != opened[name]} == {
        "report.json"
    }


def test_without_held_out_answers_in_the_documents_the_report_says_so(workspace: Path, medqa: Medqa) -> None:
    write_csv(workspace / "one.csv", some_rows("gout"))
    (workspace / "a.txt").write_text("Drink water.", encoding="utf-8")
    found = medqa("convert", "one.csv", "--set", "data.documents=a.txt")
    assert found.code == 0, found.err
    assert "documents: 1 files, 1 passages in index.sqlite\n  they hold no answer of a held-out row" in found.out


@pytest.mark.parametrize(
    ("documents", "message"),
    [("absent", "data.documents: absent does not exist"), (".", "data.documents: . holds the data folder data/medqa")],
)
def test_documents_that_cannot_be_are_an_error_before_anything_is_read(
    workspace: Path, medqa: Medqa, documents: str, message: str
) -> None:
    write_csv(workspace / "one.csv", some_rows("gout"))
    found = medqa("convert", "one.csv", "--set", f"data.documents={documents}")
    assert found.code == 2
    assert message in found.err
    assert "reading one.csv" not in found.err
    assert not (workspace / "data").exists()


def test_the_audit_of_a_clean_folder(workspace: Path, medqa: Medqa) -> None:
    write_csv(workspace / "one.csv", some_rows("gout"))
    assert medqa("convert", "one.csv").code == 0
    found = medqa("convert", "--audit", "data/medqa")
    assert found.code == 0, found.err
    assert "stands in another split" in found.out
    assert "error" not in found.err


def test_the_audit_of_a_leaking_folder(workspace: Path, medqa: Medqa) -> None:
    rows = some_rows("gout", 20)
    write_csv(workspace / "split/train.csv", rows)
    write_csv(workspace / "split/test.csv", [*rows[:3], *some_rows("flu", 5)])
    found = medqa("convert", "--audit", "split")
    assert found.code == 1
    assert found.err.count("error: ") == 1
    assert "split leaks: 3 test rows by question, 3 test rows by answer, 3 test rows by near duplicate" in found.err
    assert "test.csv:2 and train.csv:2" in found.out
    assert "word" not in found.out + found.err  # places, no texts
    as_json = medqa("convert", "--audit", "split", "--json")
    assert as_json.code == 1
    counts = json.loads(as_json.out)
    assert counts["rows"] == {"train": 20, "validation": 0, "test": 8}
    assert counts["leakage"]["test"] == {"question": 3, "answer": 3, "near_duplicate_answer": 3, "topic": 3}
    assert not (workspace / "data").exists()


@pytest.mark.parametrize("more", [["one.csv"], ["--show", "whitespace"]])
def test_the_audit_takes_nothing_else(workspace: Path, medqa: Medqa, more: list[str]) -> None:
    outcome = medqa("convert", "--audit", "split", *more)
    assert (outcome.code, outcome.out) == (2, "")
    assert "it takes no SOURCE and no --show" in outcome.err


def test_what_a_rule_does(workspace: Path, medqa: Medqa) -> None:
    write_csv(workspace / "one.csv", some_rows("gout"))
    shown = medqa("convert", "one.csv", "--show", "lost_letters")
    assert shown.code == 0, shown.err
    assert shown.out.count("before: ") == shown.out.count("after: ") == 10
    assert "doesn't last" in shown.out
    examples = json.loads(medqa("convert", "one.csv", "--show", "what_is_are", "--json").out)
    assert len(examples) == 10
    first = examples[0]
    number = first["row"] - 1
    assert (first["field"], first["before"]) == ("question", f"What is (are) gout{number}?")
    assert first["after"] == f"What is gout{number}?"
    assert [example["row"] for example in examples] == sorted(example["row"] for example in examples)
    assert "changes no row" in medqa("convert", "one.csv", "--show", "hpo_block").out
    assert not (workspace / "data").exists()


def test_a_rule_that_is_none(workspace: Path, medqa: Medqa) -> None:
    write_csv(workspace / "one.csv", some_rows("gout"))
    outcome = medqa("convert", "one.csv", "--show", "whitespce")
    assert (outcome.code, outcome.out) == (2, "")
    assert "did you mean 'whitespace'?" in outcome.err
    assert "'question_echo'" in outcome.err


def test_an_archive_as_kaggle_gives_it(workspace: Path, medqa: Medqa) -> None:
    write_csv(workspace / "medquad.csv", some_rows("gout"))
    with zipfile.ZipFile(workspace / "archive.zip", "w") as archive:
        archive.write("medquad.csv")
    assert medqa("convert", "archive.zip").code == 0
    assert medqa("convert", "medquad.csv", "--out", "plain").code == 0
    rows = [(workspace / folder / "test.jsonl").read_text() for folder in ("data/medqa", "plain")]
    assert rows[0] == rows[1] != ""


def test_a_terminated_conversion_leaves_no_texts(workspace: Path) -> None:
    write_csv(workspace / "one.csv", some_rows("gout", 4000))
    command = [sys.executable, "-m", "medqa_cli", "convert", "one.csv"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 240
    while not list(workspace.glob("data/.medqa.*.tmp/spool.tmp")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.terminate()
    out, err = process.communicate(timeout=240)
    assert (process.returncode, out) == (130, "")
    assert "Traceback" not in err
    assert "interrupted" in err
    assert list((workspace / "data").iterdir()) == []


def test_what_is_known_less_of_rows_that_are_not_in_english_is_said(workspace: Path, medqa: Medqa) -> None:
    illnesses = ("Gicht", "Asthma", "Migräne", "Arthrose", "Epilepsie", "Depression", "Borreliose", "Scharlach")
    rows: list[list[Cell]] = [["Unsere Fragen", None], ["Frage", "Antwort"], [None, None]]
    for illness in illnesses:
        rows.append([f"Wie wird {illness} behandelt?", f"Bei {illness} hilft die Ärztin, die das Mittel auswählt."])
        rows.append([f"Woran erkenne ich {illness}?", f"Die Zeichen von {illness} sind je nach Person verschieden."])
    rows[3][1] = f"{rows[3][1]} Herr Uwe Müller weiß mehr."
    write_xlsx(workspace / "fragen.xlsx", {"Deckblatt": [["Stand: Mai"]], "Fragen": rows})
    outcome = medqa(
        "convert", "fragen.xlsx", "--set", "data.validation_fraction=0.2", "--set", "data.test_fraction=0.2"
    )
    assert outcome.code == 0, outcome.err
    assert "(16 rows are not in English, whose questions alone tell a topic)" in outcome.err
    assert "more is overlooked in the 16 rows that are in other languages" in outcome.out
    shown = medqa("convert", "fragen.xlsx", "--show", "identifiers").out
    assert "row 1 (line 4), answer, name: Uwe Müller" in shown
