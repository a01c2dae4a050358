"""The tables on a terminal: whole cells at every width, in as many tables as that takes."""

import re
from pathlib import Path
from typing import Any

import pytest

from medqa_cli import console
from medqa_cli.config.schema import Config, EvalConfig
from medqa_cli.errors import InputError
from medqa_cli.evaluation.report import show
from medqa_cli.evaluation.rescore import rescore
from medqa_cli.evaluation.results import REPORT_NAME, SAMPLES_NAME
from medqa_cli.evaluation.samples import Sample, write_samples
from medqa_cli.files import RunFolder

OVERLAP = ("rouge1", "rouge2", "rougeL", "chrf", "bleu")


def figure(value: float, half: float, **more: Any) -> dict[str, Any]:
    return {"value": value, "ci95": [value - half, value + half], **more}


def results() -> dict[str, Any]:
    def own(scale: float) -> dict[str, Any]:
        scores = {name: figure(0.25 * scale * (100 if name in ("chrf", "bleu") else 1), 0.01) for name in OVERLAP}
        return {**scores, "nll": figure(2.0 * scale, 0.1)}

    difference = {name: figure(0.125, 0.5, better=None, detectable=0.1) for name in (*OVERLAP, "nll")}
    difference["rouge1"] = figure(-0.125, 0.05, better=False, detectable=0.1)
    return {
        "split": "test",
        "questions": 20,
        "topics": 10,
        "models": {"adapter": own(1.0), "base": own(1.1)},
        "floors": {"nearest_question": {name: figure(0.5, 0.01) for name in OVERLAP}},
        "differences": {"adapter-base": difference},
        "floors_not_beaten": {"adapter": {"nearest_question": {"rouge1": False, "rougeL": None}}, "base": {}},
        "multiple_choice": {},
        "settings": {
            "answer_tokens": 900, "clusters": 10, "bootstrap_draws": 2000, "num_truncated_answers": 0, "max_length": 9
        },
    }  # fmt: skip


@pytest.mark.parametrize(("width", "num_tables"), [("70", 4), ("80", 3), ("120", 2), ("200", 1)])
def test_no_cell_is_broken(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: str, num_tables: int
) -> None:
    monkeypatch.setenv("COLUMNS", width)
    console.use_json(False)
    show(results(), Path("results.json"), Path("report.html"))
    text = capsys.readouterr().out
    tables = re.findall(r"^Overlap with the references.*\n((?:.+\n)+)", text, flags=re.MULTILINE)
    assert len(tables) == num_tables
    assert all(len(line) <= int(width) for table in tables for line in table.splitlines())
    titles = [title for table in tables for title in table.splitlines()[0].split()]
    assert titles == ["ROUGE-1", "ROUGE-2", "ROUGE-L", "chrF", "BLEU"]
    cells = re.findall(r"[+-]?\d+\.\d+ \[[+-]?\d+\.\d+, [+-]?\d+\.\d+\]", "".join(tables))
    assert len(cells) == 4 * 5
    assert "25.0 [25.0, 25.0]" in cells
    assert "-0.125 [-0.175, -0.075]" in cells
    assert text.count("no difference shown") == 5
    assert text.count("worse") == 2
    assert all(table.count("baseline: nearest_question") == 1 for table in tables)
    # It has no likelihood: no empty row for it.
    assert text.count("baseline: nearest_question") == num_tables
    assert "adapter is not shown to be better than the baseline nearest_question in ROUGE-1 (worse), ROUGE-L" in text


def test_cut_answers_and_items_seen_in_training_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    own = results()
    own["settings"]["num_truncated_answers"] = 3
    scores = {"models": {"base": {"accuracy": figure(0.5, 0.1)}}, "floors": {}, "differences": {}}
    rest = {**scores, "models": {"base": {"accuracy": figure(0.25, 0.1)}}, "items": 5}
    own["multiple_choice"] = {
        "quiz": {**scores, "items": 7, "contaminated": {"ids": ["b", "d"], "unseen": rest}},
        "seen": {**scores, "items": 1, "contaminated": {"ids": ["x"]}},
    }
    console.use_json(False)
    show(own, Path("results.json"), Path("report.html"))
    text = capsys.readouterr().out
    assert "2 items of quiz are in the training data; without them:" in text
    assert "quiz: the other 5 items; higher is better" in text
    assert "0.250 [0.150, 0.350]" in text
    assert "1 items of seen are in the training data; without them:" in text
    assert "seen: the other" not in text
    assert "3 reference answers were cut at model.max_length = 9" in text


def test_rescore_without_results_shows_cut_answers_with_no_known_limit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """``results.json``, which holds the limit, may be gone; the samples are enough."""
    run = RunFolder(tmp_path)
    sample = Sample(
        "1", "gout", "base", "What is gout?", ("Gout hurts.",), nll_sum=2.0, answer_tokens=2, truncated=True
    )
    write_samples(run.eval_dir / SAMPLES_NAME, [sample])
    config = Config(run_dir=str(tmp_path), eval=EvalConfig(bootstrap_draws=100, metrics=("nll",)))
    show(rescore(config, None), run.results_path, run.eval_dir / REPORT_NAME)
    assert "1 reference answers were cut at model.max_length\n" in capsys.readouterr().out


def test_rescore_by_metrics_that_the_samples_lack_keeps_the_results(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    write_samples(
        run.eval_dir / SAMPLES_NAME, [Sample("1", "gout", "base", "What is gout?", ("It hurts.",), nll_sum=2.0)]
    )
    run.results_path.write_text("{}", encoding="utf-8")
    config = Config(run_dir=str(tmp_path), eval=EvalConfig(bootstrap_draws=100, metrics=("rougeL",)))
    with pytest.raises(InputError, match=r"holds nothing that eval\.metrics measure"):
        rescore(config, None)
    assert run.results_path.read_text(encoding="utf-8") == "{}"


@pytest.mark.parametrize("sources", [0, 3])
def test_losses_without_sources_are_told_where_the_model_was_trained_with_them(
    capsys: pytest.CaptureFixture[str], sources: int
) -> None:
    measured = results()
    measured["settings"]["sources"] = sources
    show(measured, Path("results.json"), Path("report.html"))
    assert ("losses are of questions without sources" in capsys.readouterr().out) == bool(sources)
