"""An open book from the spreadsheet to the report: convert, train, ask and eval with sources, on a tiny model."""

import contextlib
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers.commands import Outcome, run_in
from medqa_cli.answering import batch
from medqa_cli.environment import INDEX_SHA256
from medqa_cli.evaluation.arms import ARMS

Medqa = Callable[..., Outcome]

NAMES = ("glaucoma", "asthma", "gout", "angina", "anemia", "eczema", "migraine", "mumps", "rabies", "scurvy")
ROWS = [
    (question.format(name), f"{name.capitalize()} {answer} of the nerve number {index}.")
    for index, name in enumerate(NAMES)
    for question, answer in (
        ("What is {}?", "is a disease"),
        ("What are the treatments for {}?", "is treated by rest"),
        ("What causes {}?", "is caused by a fault"),
    )
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_model_dir: Path) -> Path:
    folder = tmp_path_factory.mktemp("open-book")
    lines = ["question,answer", *(f'"{question}","{answer}"' for question, answer in ROWS)]
    (folder / "qa.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "medqa.yaml").write_text(
        f"""
run_dir: run
data: {{source: qa.csv, dir: data, validation_fraction: 0.1, test_fraction: 0.3}}
prompt: {{template: chat, sources: 2, source_tokens: 40}}
model: {{name_or_path: {tiny_model_dir}, max_length: 384, quantization: none, compute_dtype: float32}}
lora: {{r: 4, lora_alpha: 16, target_modules: all-linear}}
train: {{max_steps: 2, save_steps: 1, gradient_checkpointing: false, optim: adamw_torch}}
generate: {{max_new_tokens: 12, batch_size: 4}}
eval: {{bootstrap_draws: 200}}
""",
        encoding="utf-8",
    )
    run_in(folder, "convert")
    run_in(folder, "train")
    return folder


@pytest.fixture
def folder(trained: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(trained)
    return trained


def test_the_adapter_records_its_sources(folder: Path) -> None:
    contract = json.loads((folder / "run/adapter/prompt.json").read_text(encoding="utf-8"))
    assert (contract["format_version"], contract["text"]["sources"], contract["text"]["source_tokens"]) == (2, 2, 40)
    bound = json.loads((folder / "run/environment.json").read_text(encoding="utf-8"))["trained_with"]
    assert bound["sources.gold"] == 0.8
    assert len(bound[INDEX_SHA256]) == 64


def test_eval_reports_each_arm_beside_the_closed_book_and_the_copies(folder: Path, medqa: Medqa) -> None:
    outcome = medqa("eval", "--model", "adapter", "--limit", "6", "--fail-on", "adapter_open_book.rougeL > 1", "--json")
    assert outcome.code == 0, outcome.err
    results = json.loads(outcome.out)
    assert list(results["models"]) == ["adapter", "adapter_greedy", *(f"adapter{arm}" for arm in ARMS)]
    assert {"first_passage", "gold_passage"} <= results["floors"].keys()
    # In an open book the gold passage is the answer itself.
    assert results["floors"]["gold_passage"]["rougeL"]["value"] == 1
    assert "adapter_open_book-adapter" in results["differences"]
    assert {"rougeL", "topic_coverage"} <= results["against_copy"]["adapter_open_book"].keys()
    assert results["settings"]["open_book"] is True
    assert results["models"]["adapter_open_book"].keys() >= {"citation_recall", "decline_rate"}
    assert results["models"]["adapter"].keys().isdisjoint({"citation_recall", "decline_rate"})
    assert results.pop("gate") == [{"condition": "adapter_open_book.rougeL > 1", "failed": False}]
    again = medqa("eval", "--rescore")
    assert "adapter_open_book less the copy of the first passage: ROUGE-L " in again.out
    assert json.loads((folder / "run/eval/results.json").read_text(encoding="utf-8")) == results
    page = (folder / "run/eval/report.html").read_text(encoding="utf-8")
    ways = page[page.index('<section id="sources">') :].partition("</section>")[0]
    assert all(f">adapter: {way}</th>" in ways for way in ("closed book", "open book", "absent", "wrong topic"))
    assert "With sources: " in page[: page.index("</dl>")]


def test_ask_puts_the_sources_of_the_contract_into_the_prompt(folder: Path, medqa: Medqa) -> None:
    asked = ("ask", "--anyway", "--also-model", "--json", "Which rest treats the nerve in asthma?")
    opened, closed = json.loads(medqa(*asked).out), json.loads(medqa(*asked, "--sources", "0").out)
    assert len(opened["sources"]) == 2
    assert opened["prompt_tokens"] > closed["prompt_tokens"] + 20


def test_models_side_by_side_have_their_sources_listed_or_none(folder: Path, medqa: Medqa) -> None:
    asked = ("ask", "--compare", "base,adapter", "Which rest treats the nerve in asthma?")
    shown, without = medqa(*asked), medqa(*asked, "--sources", "0")
    assert "\nSources:\n[1] " in shown.out
    assert "Sources:" not in without.out
    for more, count in (((), 2), (("--sources", "0"), 0)):
        answers = json.loads(medqa(*asked, *more, "--json").out)["answers"]
        assert [len(answer["sources"]) for answer in answers] == [count, count]


def test_answers_of_a_file_are_not_resumed_from_other_data(
    folder: Path, medqa: Medqa, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    out = tmp_path / "answers.jsonl"
    (tmp_path / "q.jsonl").write_text('{"question": "asthma \\ud800 rest"}\n{"question": "gout"}\n', encoding="utf-8")
    asked = ("ask", "--anyway", "--also-model", "--file", str(tmp_path / "q.jsonl"), "--out", str(out))
    with monkeypatch.context() as patched:
        patched.setattr(batch.PartialAnswers, "finish", stop)
        assert medqa(*asked).code == 130
    kept = (folder / "data/index.sqlite").read_bytes()
    try:
        with contextlib.closing(sqlite3.connect(folder / "data/index.sqlite")) as database:
            database.execute("UPDATE passages SET text = 'Another leaflet.' WHERE number = 1")
            database.commit()
        changed = medqa(*asked)
        assert changed.code == 2
        assert "other questions, of another model, from other data or with other settings" in changed.err
    finally:
        (folder / "data/index.sqlite").write_bytes(kept)
    assert medqa(*asked).code == 0
    lines = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    # Half of a surrogate pair is no character: it becomes U+FFFD.
    assert [line["question"] for line in lines] == ["asthma \ufffd rest", "gout"]
    assert all("unsupported_sentences" in line for line in lines)


def test_rows_that_their_sources_leave_no_room_for_are_told_of(folder: Path, medqa: Medqa) -> None:
    outcome = medqa("train", "--plan", "--set", "run_dir=another", "--set", "model.max_length=64")
    assert outcome.code == 0, outcome.err
    assert "rows left out: their prompt alone fills model.max_length = 64 (with 2 sources)" in outcome.err


def test_resuming_with_other_sources_is_refused(folder: Path, medqa: Medqa) -> None:
    outcome = medqa("train", "--resume", "--set", "sources.gold=0.5", "--set", "train.max_steps=3")
    assert outcome.code == 2
    assert "sources.gold was 0.8, is 0.5" in outcome.err
