"""``medqa review score`` from files to results, table, report and gate."""

import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helpers.commands import Outcome, fails
from helpers.reviews import given_back, make, measured_run
from medqa_cli.config.schema import Config
from medqa_cli.errors import InputError
from medqa_cli.evaluation.rescore import rescore, show_review
from medqa_cli.files import RunFolder, locked
from medqa_cli.review.judgments import Key
from medqa_cli.review.score import score_review

Medqa = Callable[..., Outcome]


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """A measured run of 30 questions."""
    return measured_run(tmp_path)


def prefers(key: Key, rater: str, models: tuple[str, ...]) -> dict[str, Any]:
    """What a rater gives back who likes models in this order, and finds all answers of the last one harmful."""
    given = given_back(key, rater)
    for pair, said in zip(key.pairs_of(rater), given["pairs"], strict=True):
        said["better"] = "x" if models.index(pair.x) < models.index(pair.y) else "y"
        for side in ("x", "y"):
            said[side]["could_harm"] = getattr(pair, side) == models[-1]
    return given


def judged(config: Config, tmp_path: Path, order: tuple[str, ...], **options: Any) -> list[Path]:
    """Make a review, let both raters like models in this order, return their files."""
    key, _ = make(config, num_questions=24, num_shared=6, **options)
    files = []
    for rater in key.raters:
        files.append(tmp_path / f"review-{rater}.json")
        files[-1].write_text(json.dumps(prefers(key, rater, order)))
    return files


def test_a_preferred_model_is_better_in_all_that_is_written(config: Config, tmp_path: Path) -> None:
    results = score_review(config, judged(config, tmp_path, ("reference", "adapter", "base")))
    assert results["problems"] == []
    found = results["differences"]["adapter-base"]
    assert found["win_rate"]["value"] == 1
    assert found["win_rate"]["better"] is True
    assert found["could_harm"]["value"] == -1
    assert results["models"]["base"]["could_harm"]["value"] == 1
    control = results["control"]
    assert (control["value"], control["lost"]) == (1, 0)
    assert control["won"] == sum(
        found["win_rate"]["won"] for pair, found in results["differences"].items() if pair.startswith("reference-")
    )
    assert results["agreement"]["win_rate"]["raw"]["value"] == 1
    run = RunFolder(Path(config.run_dir))
    assert json.loads(run.review_results_path.read_text()) == results
    assert stat.S_IMODE(run.review_results_path.stat().st_mode) == 0o600


@pytest.mark.parametrize("won", [True, False])
def test_the_control_says_whether_raters_prefer_the_references(config: Config, tmp_path: Path, won: bool) -> None:
    order = ("reference", "adapter") if won else ("adapter", "reference")
    results = score_review(config, judged(config, tmp_path, order, models=("adapter", "reference")))
    assert results["control"]["better"] is won
    said = "tell good answers from others" if won else "the references are poor"
    assert [said in sentence for sentence in results["summary"] if sentence.startswith("control:")] == [True]


def test_automatic_figures_are_compared_on_pairs_of_models_only(config: Config, tmp_path: Path) -> None:
    results = score_review(config, judged(config, tmp_path, ("reference", "base", "adapter")))
    found = results["automatic"]["length_ratio"]
    decided = results["differences"]["adapter-base"]["win_rate"]
    assert found["pairs"] == decided["won"] + decided["lost"]
    # The base says "It is a disease of people.", longer by two words.
    assert found["value"] == 1
    # No likelihoods were measured.
    assert "nll" not in results["automatic"]


def test_answers_that_were_made_anew_are_not_compared_and_the_report_says_so(config: Config, tmp_path: Path) -> None:
    files = judged(config, tmp_path, ("reference", "adapter", "base"))
    run = RunFolder(Path(config.run_dir))
    rescore(config, None)
    score_review(config, files)
    report = run.eval_dir / "report.html"
    assert 'id="review"' in report.read_text()
    assert "made anew" not in report.read_text()
    samples = run.eval_dir / "samples.jsonl"
    samples.write_text(samples.read_text().replace("Rest and fluids help.", "Rest helps."))
    rescore(config, None)
    assert "made anew" in report.read_text()
    assert score_review(config, files)["automatic"] == {}


def test_the_report_is_unchanged_where_nobody_judged(config: Config) -> None:
    rescore(config, None)
    page = RunFolder(Path(config.run_dir)).eval_dir / "report.html"
    before = page.read_text()
    assert 'id="review"' not in before
    show_review(RunFolder(Path(config.run_dir)))
    assert page.read_text() == before


def test_no_report_is_written_beside_an_evaluation_that_runs(config: Config, tmp_path: Path) -> None:
    files = judged(config, tmp_path, ("reference", "adapter", "base"))
    run = RunFolder(Path(config.run_dir))
    with locked(run.eval_dir, "medqa eval"), pytest.raises(InputError, match="another medqa eval is running"):
        score_review(config, files)
    assert not run.review_results_path.exists()
    score_review(config, files)
    assert run.review_results_path.exists()


def test_the_command_prints_tables_and_the_gate_fails_on_harm(config: Config, tmp_path: Path, medqa: Medqa) -> None:
    files = list(map(str, judged(config, tmp_path, ("reference", "adapter", "base"))))
    options = ["--set", f"run_dir={config.run_dir}"]
    outcome = medqa("review", "score", *files, *options, "--fail-on", "adapter.could_harm > 0.05")
    assert outcome.code == 0
    assert "reference - adapter" in outcome.out
    assert "adapter against base: preferred in 100 %" in outcome.out.replace("\n", " ")
    failed = medqa("review", "score", *files, *options, "--fail-on", "base.could_harm > 0.05")
    assert failed.code == 1
    assert "base.could_harm is 1" in failed.err
    fails(medqa("review", "score", *files, *options, "--fail-on", "base.could_harn > 0.05"), 2, "could_harm")


def test_no_usable_file_is_an_error_that_names_each(config: Config, tmp_path: Path, medqa: Medqa) -> None:
    make(config)
    (tmp_path / "torn.json").write_text('{"format_version": 1')
    outcome = medqa("review", "score", str(tmp_path / "torn.json"), "--set", f"run_dir={config.run_dir}")
    assert outcome.code == 2
    assert "torn.json" in outcome.err
    assert not RunFolder(Path(config.run_dir)).review_results_path.exists()


def test_few_topics_are_told_and_no_number_of_questions_is_made_up(config: Config, tmp_path: Path) -> None:
    key, _ = make(config, num_questions=2, num_shared=0, raters=("anna",), models=("adapter", "base"))
    path = tmp_path / "review-anna.json"
    path.write_text(json.dumps(prefers(key, "anna", ("adapter", "base"))))
    results = score_review(config, [path])
    assert results["differences"]["adapter-base"]["win_rate"]["better"] is None
    assert any("of 2 questions" in sentence and "too few topics" in sentence for sentence in results["summary"])


def test_a_rater_who_always_takes_the_left_answer_is_named(config: Config, tmp_path: Path) -> None:
    key, _ = make(config, num_questions=24, num_shared=6)
    path = tmp_path / "review-anna.json"
    path.write_text(json.dumps(given_back(key, "anna")))
    results = score_review(config, [path])
    assert results["raters"]["anna"]["x_share"]["biased"]
    assert any("anna took the left (X) answer in 15 of 15" in sentence for sentence in results["summary"])
    assert any("one rater" in sentence for sentence in results["summary"])
