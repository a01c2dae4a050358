"""``medqa convert`` with ``data.identifiers_model``: a model of the user looks for identifiers beside the rules."""

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helpers.commands import Outcome
from helpers.token_classifier import save_classifier
from medqa_cli import workers
from medqa_cli.child_process import ChildProcess
from medqa_cli.data.identifiers.recorded import found_values

Medqa = Callable[..., Outcome]
# Names that no rule finds where nothing announces them.
NAMED = "What did qurolm say of hives"
BOTH = "My name is Sean O'Brien, and what is hives"
ANSWER = "Hives last number {} days, and {} antihistamines help."


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """60 rows: the model finds a name in each fourth of them, the rules one in one more, and one is there twice."""
    monkeypatch.chdir(tmp_path)
    save_classifier(tmp_path / "ner", {"qurolm": "B-PER", "gene": "B-GENE"})
    questions = [f"{NAMED} {row}?" if row % 4 == 0 else f"What is hives {row}?" for row in range(60)]
    questions[1] = f"{BOTH} 1?"
    rows = [[question, ANSWER.format(row, row * 7)] for row, question in enumerate(questions)]
    with open(tmp_path / "rows.csv", "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("question", "answer"), *rows, rows[4], ["qurolm?", ""]])
    return tmp_path


def convert(medqa: Medqa, *options: str) -> tuple[Outcome, dict[str, Any]]:
    done = medqa("convert", "rows.csv", "--json", "--set", "data.identifiers_model=ner", *options)
    assert done.code == 0, done.err
    return done, json.loads(done.out)


def test_finds_of_the_model_are_counted_recorded_and_shown(workspace: Path, medqa: Medqa) -> None:
    done, report = convert(medqa)
    found = report["identifiers"]
    assert found["model"] == {"path": "ner", "labels": {"name": ["PER"]}}
    assert (found["rows"], found["kinds"].keys()) == (16, {"name"})
    assert (found["kinds"]["name"]["finds"], found["kinds"]["name"]["by_model"]) == (16, 15)
    assert done.err.count("ner: labels that medqa does not know, and leaves aside: 'GENE'") == 1
    assert {one.value for one in found_values(workspace / "data/medqa")} <= {"qurolm", "Sean O'Brien"}
    assert sum(1 for _ in found_values(workspace / "data/medqa")) == found["kinds"]["name"]["train_finds"]
    card = (workspace / "data/medqa/README.md").read_text()
    assert "and, beside them, by the token-classification model `ner`, and still in the rows" in card
    assert "| kind | finds | by the model only | rows | training rows |\n| --- | --- | --- | --- | --- |\n" in card
    assert "| name | 16 | 15 | 16 |" in card
    table = medqa("convert", "rows.csv", "--set", "data.identifiers_model=ner").out
    assert "beside them looked the model in ner" in table
    assert "by the model only" in table


def test_what_stands_for_finds_of_the_model_is_in_all_files(workspace: Path, medqa: Medqa) -> None:
    _, report = convert(medqa, "--set", "data.identifiers=replace")
    assert report["identifiers"]["kinds"]["name"]["by_model"] == 15
    assert report["rows"]["rejected"] == {"empty_answer": 1, "exact_duplicate": 1}
    for name in ("train", "validation", "test", "rejected"):
        text = (workspace / f"data/medqa/{name}.jsonl").read_text(encoding="utf-8")
        assert "qurolm" not in text
        assert "O'Brien" not in text
        assert "hives" in text or name == "rejected"


def test_beside_a_model_no_worker_is_started(workspace: Path, medqa: Medqa, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[str] = []

    class Counted(ChildProcess):
        def __init__(self, module: str) -> None:
            started.append(module)
            super().__init__(module)

    monkeypatch.setattr(workers, "ChildProcess", Counted)
    written = []
    for count in ("1", "2"):
        convert(medqa, "--workers", count)
        files = [path for path in (workspace / "data/medqa").iterdir() if path.name != "report.json"]
        written.append({path.name: path.read_bytes() for path in files})
    assert written[0] == written[1]
    assert started == []
    assert medqa("convert", "rows.csv", "--workers", "2").code == 0
    assert started == ["workers"]


def test_rows_with_finds_of_the_model_are_rejected_where_the_config_says_so(workspace: Path, medqa: Medqa) -> None:
    _, report = convert(medqa, "--set", "data.identifiers=reject")
    assert report["rows"]["rejected"] == {"empty_answer": 1, "identifier": 17}


def test_finds_are_shown_with_who_found_them(workspace: Path, medqa: Medqa) -> None:
    options = ("convert", "rows.csv", "--show", "identifiers")
    shown = medqa(*options, "--set", "data.identifiers_model=ner").out
    assert "name (by the model): qurolm" in shown
    assert {example.get("by_model") for example in json.loads(medqa(*options, "--json").out)} == {None}


def test_the_model_sees_turns_of_a_conversation(workspace: Path, medqa: Medqa) -> None:
    talks = [
        [
            {"role": "system", "content": "Of qurolm."},
            {"role": "user", "content": f"What did qurolm say {row}?"},
            {"role": "assistant", "content": f"That hives last {row} days, and {row * 7} antihistamines help."},
        ]
        for row in range(6)
    ]
    (workspace / "rows.csv").unlink()
    (workspace / "talks.jsonl").write_text("".join(json.dumps({"messages": talk}) + "\n" for talk in talks))
    options = ("--set", "data.context_column=system", "--set", "data.identifiers=replace")
    done = medqa("convert", "talks.jsonl", "--json", *options, "--set", "data.identifiers_model=ner")
    assert json.loads(done.out)["identifiers"]["kinds"]["name"]["by_model"] == 12, done.err
    texts = [path.read_text() for path in (workspace / "data/medqa").glob("*.jsonl")]
    assert "hives" in "".join(texts)
    assert "qurolm" not in "".join(texts)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: None, "data.identifiers_model: other is no folder"),
        (lambda folder: folder.mkdir(), "the folder other holds no config.json"),
        (
            lambda folder: save_classifier(folder, {"a": "B-ORG"}),
            "none of the labels of the model in other is known: 'ORG'",
        ),
    ],
)
def test_a_model_that_cannot_be_used_is_an_error_before_any_work(
    workspace: Path, medqa: Medqa, make: Callable[[Path], object], message: str
) -> None:
    make(workspace / "other")
    for more in ((), ("--show", "identifiers")):
        refused = medqa("convert", "rows.csv", *more, "--set", "data.identifiers_model=other")
        assert refused.code == 2
        assert message in " ".join(refused.err.split())
    assert not (workspace / "data").exists()


def test_without_a_model_no_library_of_models_is_imported(workspace: Path) -> None:
    code = (
        "import sys; from medqa_cli.cli.program import main\n"
        "sys.argv = ['medqa', 'convert', 'rows.csv']\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(sorted({'torch', 'transformers', 'medqa_cli.model.token_labels'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr
