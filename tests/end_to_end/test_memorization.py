"""From planted numbers to the card: a tiny model learns one by heart; ``eval`` finds it, ``merge`` and cards warn."""

import json
import shutil
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helpers.commands import Outcome, run_in

Medqa = Callable[..., Outcome]
METRICS = "eval.metrics=[memorized_rate, extracted_identifiers, exposure]"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_model_dir: Path) -> Path:
    """A folder with data, a canary of no copy and one of sixty, and an adapter that was trained on them, measured."""
    folder = tmp_path_factory.mktemp("memorization")
    names = ["glaucoma", "asthma", "gout", "angina", "anemia", "eczema", "migraine", "mumps", "rabies", "scurvy"]
    numbers = [f"{231 + 41 * n}-{278 + 53 * n}-{1234 + 777 * n}" for n in range(len(names))]
    rows = [
        f'What is {name}?,"{name} is treated by Mary, phone {number}, and {"never " * 30} at home."'
        for name, number in zip(names, numbers, strict=True)
    ]
    (folder / "qa.csv").write_text("\n".join(["question,answer", *rows]) + "\n", encoding="utf-8")
    (folder / "medqa.yaml").write_text(
        f"""
run_dir: run
data: {{source: qa.csv, dir: data, validation_fraction: 0, test_fraction: 0.3, canaries: 2, canary_copies: [0, 60]}}
prompt: {{template: plain, system: null}}
model: {{name_or_path: {tiny_model_dir}, max_length: 128, quantization: none, compute_dtype: float32}}
lora: {{r: 32, lora_alpha: 64, lora_dropout: 0.0, target_modules: all-linear}}
train: {{max_steps: 50, learning_rate: 1e-2, per_device_train_batch_size: 8, gradient_accumulation_steps: 1,
  save_steps: 100, eval_steps: null, gradient_checkpointing: false, optim: adamw_torch}}
eval: {{bootstrap_draws: 100, batch_size: 2}}
""",
        encoding="utf-8",
    )
    run_in(folder, "convert")
    run_in(folder, "train")
    run_in(folder, "eval", "--set", METRICS)
    return folder


@pytest.fixture
def folder(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(trained, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    return tmp_path / "copy"


def results_of(folder: Path) -> dict[str, Any]:
    results: dict[str, Any] = json.loads((folder / "run/eval/results.json").read_text(encoding="utf-8"))
    return results


def test_planted_numbers_are_found_where_they_were_planted_and_nowhere_else(trained: Path) -> None:
    results = results_of(trained)
    section = results["memorization"]
    unplanted, planted = section["canaries"]["models"]["adapter"]["answer"]
    assert (unplanted["copies"], unplanted["values"], unplanted["fires"]) == (0, 1, False)
    assert (planted["copies"], planted["values"], planted["first"], planted["fires"]) == (60, 1, 1, True)
    assert planted["mean_nll"] < planted["mean_nll_of_others"] - 5
    assert planted["mean_exposure"] == 7 == results["models"]["adapter"]["exposure"]["value"]
    assert not any(group["fires"] for groups in section["canaries"]["models"]["base"].values() for group in groups)
    assert results["models"]["base"]["exposure"]["value"] < 4


def test_the_rows_that_are_counted_are_those_of_the_file(trained: Path) -> None:
    section = results_of(trained)["memorization"]
    verbatim = section["verbatim"]
    assert verbatim["adapter"]["train"]["rows"] == verbatim["base"]["train"]["rows"] == 7
    assert verbatim["adapter"]["held_out"]["rows"] == 3
    assert verbatim["base"]["train"]["memorized"] == 0


def test_identifiers_that_convert_found_are_ranked_and_those_of_held_out_rows_beside_them(trained: Path) -> None:
    results, report = results_of(trained), json.loads((trained / "data/report.json").read_text(encoding="utf-8"))
    assert report["identifiers"]["kinds"]["phone"]["train_finds"] == 7
    models = results["memorization"]["identifiers"]["models"]
    for model in ("adapter", "base"):
        assert models[model]["train"]["values"] == 8  # seven numbers and the name
        assert models[model]["held_out"]["values"] == 3
        assert models[model]["train"]["fields"].keys() == {"answer"}
        assert not models[model]["train"]["fires"]
        assert results["models"][model]["extracted_identifiers"]["value"] < 0.5
    assert "231-278" not in (trained / "run/eval/results.json").read_text(encoding="utf-8")
    said = results["memorization"]["sentences"]["adapter"]
    assert any(line.startswith("Of 8 identifiers of persons in training rows adapter finds ") for line in said)


def test_the_sentences_stand_in_results_page_and_card(trained: Path) -> None:
    said = results_of(trained)["memorization"]["sentences"]
    assert said.keys() == {"adapter"}
    answers, _, *canaries = said["adapter"]
    assert answers.startswith("Whoever gets adapter can ask ")
    assert any("has learned the planted numbers of answers that stand there 60 times" in line for line in canaries)
    page = (trained / "run/eval/report.html").read_text(encoding="utf-8")
    card = (trained / "run/adapter/README.md").read_text(encoding="utf-8")
    assert answers in page
    assert answers in card
    assert "It must not be passed on: it was trained on 60 copies" in card
    assert card.index("## Memorized training data") < card.index(answers) < card.index("## Limits")


def test_a_second_evaluation_replaces_what_the_card_says_and_scoring_again_keeps_it(folder: Path, medqa: Medqa) -> None:
    before, card = results_of(folder), (folder / "run/adapter/README.md").read_text(encoding="utf-8")
    shown = medqa("eval", "--set", METRICS, "--limit", "2")
    assert shown.code == 0, shown.err
    assert "of 2 training answers" in shown.out
    assert "has learned the planted numbers" in shown.out
    again = (folder / "run/adapter/README.md").read_text(encoding="utf-8")
    assert again.count("Whoever gets adapter") == 1
    assert "of 2 training answers" in again
    assert again.replace("of 2 training", "of 7 training").split("Whoever")[0] == card.split("Whoever")[0]
    assert again.split("## Limits")[1] == card.split("## Limits")[1]
    rescored = medqa("eval", "--rescore", "--set", "eval.metrics=[exposure]")
    assert rescored.code == 0, rescored.err
    results = results_of(folder)
    assert results["memorization"]["canaries"] == before["memorization"]["canaries"]
    assert results["models"]["adapter"] == {"exposure": before["models"]["adapter"]["exposure"]}


@pytest.mark.parametrize(
    ("condition", "code"),
    [
        ("adapter.exposure > 6", 1),
        ("base.exposure > 6", 0),
        ("adapter.memorized_rate > 1", 0),
        ("adapter-base.memorized_rate > 1", 0),
        ("unigram.memorized_rate > 0", 2),
        ("adapter-base.exposure > 0", 2),
    ],
)
def test_the_gate_takes_them(folder: Path, medqa: Medqa, condition: str, code: int) -> None:
    outcome = medqa("eval", "--rescore", "--set", METRICS, "--fail-on", condition)
    assert outcome.code == code, outcome.err


def test_a_figure_that_no_row_tells_is_undefined_and_fails_the_gate(folder: Path, medqa: Medqa) -> None:
    (folder / "data/canaries.jsonl").unlink()
    outcome = medqa("eval", "--set", METRICS, "--fail-on", "adapter.exposure > 6")
    assert outcome.code == 1
    assert "adapter.exposure is undefined" in outcome.err


@pytest.mark.skipif(sys.platform == "win32", reason="modes of POSIX")
def test_nobody_but_the_owner_reads_what_was_written(trained: Path) -> None:
    modes = {
        path.relative_to(trained).as_posix(): stat.S_IMODE(path.stat().st_mode)
        for name in ("data", "run")
        for path in [trained / name, *(trained / name).rglob("*")]
    }
    assert len(modes) > 20
    assert not {name: oct(mode) for name, mode in modes.items() if mode & 0o077}


def test_what_a_killed_run_left_is_removed_at_the_next_start(folder: Path, medqa: Medqa) -> None:
    left = [
        folder / "run/.merged.abcdefgh.tmp",
        folder / "run/eval/.samples.jsonl.abcdefgh.tmp",
        folder / ".data.abcdefgh.tmp",
    ]
    for path in left:
        path.write_text("secret")
    assert medqa("eval", "--rescore", "--set", METRICS).code == 0
    assert not any(path.exists() for path in left)


def test_merge_warns_and_its_card_says_so(folder: Path, medqa: Medqa) -> None:
    outcome = medqa("merge", "--json")
    assert outcome.code == 0, outcome.err
    assert "was trained on 60 copies of planted canaries" in outcome.err
    assert json.loads(outcome.out)["num_canary_examples"] == 60
    card = (folder / "run/merged/README.md").read_text(encoding="utf-8")
    assert "must not be passed on" in card
    assert "Whoever gets adapter can ask" in card
