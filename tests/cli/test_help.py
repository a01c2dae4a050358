"""What a newcomer sees: help that fits a terminal, the next step in an empty folder, completion in the shell."""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers.commands import Outcome, fails
from medqa_cli import __version__
from medqa_cli.config.json_schema import json_schema

Medqa = Callable[..., Outcome]

COMMANDS = ["quickstart", "convert", "train", "merge", "ask", "serve", "eval", "doctor", "review", "config"]
CONFIG_COMMANDS = ["init", "check", "show", "schema"]
REVIEW_COMMANDS = ["make", "score", "export"]
GROUPS = {"config": CONFIG_COMMANDS, "review": REVIEW_COMMANDS}
ALL = [[], *([name] for name in COMMANDS), *([group, name] for group, names in GROUPS.items() for name in names)]
INIT, CONVERT = "medqa config init", "medqa convert FILE"


@pytest.fixture(autouse=True)
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder and a terminal of 80 columns."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    return tmp_path


def listed(text: str) -> list[tuple[str, str]]:
    """Return the commands in a help text and their sentences."""
    block = text.partition("\nCommands:\n")[2].partition("\n\n")[0]
    return [(line.split()[0], line.strip().partition("  ")[2].strip()) for line in block.splitlines()]


def example_calls(text: str) -> list[list[str]]:
    block = re.split(r"\n  (?:Examples|First steps):\n", text)[1]
    lines = [line for line in block.splitlines() if line.strip()]
    # What a call does stands two spaces or more behind it.
    return [shlex.split(re.split(r"(?<=\S) {2,}", line.strip())[0]) for line in lines]


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_help_fits_80_columns(medqa: Medqa, words: list[str]) -> None:
    outcome = medqa(*words, "--help")
    assert outcome.code == 0
    assert [line for line in outcome.out.splitlines() if len(line) > 80] == []


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_help_has_examples_that_the_program_takes(medqa: Medqa, words: list[str]) -> None:
    told = medqa(*words, "--help").out
    calls = example_calls(told)
    assert calls
    for call in calls:
        assert call[: 1 + len(words)] == ["medqa", *words]
        for word in call if words else ():
            assert not word.startswith("-") or re.search(rf"(?<!\S){re.escape(word)}\b", told.split("Examples:")[0]), (
                word
            )


@pytest.mark.parametrize(("words", "names"), [([], COMMANDS), *(([group], names) for group, names in GROUPS.items())])
def test_commands_are_listed_in_the_order_of_use_with_a_whole_sentence(
    medqa: Medqa, words: list[str], names: list[str]
) -> None:
    found = listed(medqa(*words, "--help").out)
    assert [name for name, _ in found] == names
    for name, told in found:
        assert re.fullmatch(r"[A-Z].{15,}[^.]\.", told), f"{name}: {told}"


def test_version_and_schema(medqa: Medqa) -> None:
    told = medqa("--version")
    assert (told.code, told.out, told.err) == (0, f"medqa {__version__}\n", "")
    shown = medqa("config", "schema")
    assert (shown.code, shown.err) == (0, "")
    assert json.loads(shown.out) == json.loads(medqa("config", "schema", "--json").out) == json_schema()


# The first minute, in an empty folder


def test_no_command_shows_the_help_and_how_to_start(medqa: Medqa) -> None:
    outcome = medqa()
    assert (outcome.code, outcome.out) == (2, "")
    assert "Commands:" in outcome.err
    last = outcome.err.splitlines()[-1]
    assert last.startswith("hint: ")
    assert INIT in last
    assert CONVERT in last


def test_no_command_where_there_is_a_config(empty: Path, medqa: Medqa) -> None:
    (empty / "medqa.yaml").write_text("seed: 1\n")
    outcome = medqa()
    assert outcome.code == 2
    assert "Commands:" in outcome.err
    assert "hint: " not in outcome.err


@pytest.mark.parametrize("words", [["convert"], ["train"], ["train", "--plan"], ["merge"], ["ask", "Why?"], ["eval"]])
def test_any_command_says_how_to_start(medqa: Medqa, words: list[str]) -> None:
    fails(medqa(*words), 2, "hint: start with: " + INIT, CONVERT)


@pytest.mark.parametrize("words", [["config", "check"], ["config", "show"], ["config", "show", "--json"]])
def test_looking_at_no_config_says_how_to_start(medqa: Medqa, words: list[str]) -> None:
    outcome = medqa(*words)
    assert outcome.code == 0
    assert outcome.err.startswith("hint: ")
    assert INIT in outcome.err
    if "--json" in words:
        json.loads(outcome.out)


@pytest.mark.parametrize("words", [["train"], ["merge"], ["ask", "Why?"], ["eval"]])
def test_with_a_config_the_data_comes_next(empty: Path, medqa: Medqa, words: list[str]) -> None:
    (empty / "medqa.yaml").write_text("seed: 1\n")
    outcome = medqa(*words)
    fails(outcome, 2, CONVERT)
    assert INIT not in outcome.err


def test_with_data_the_training_comes_next(empty: Path, medqa: Medqa) -> None:
    (empty / "data" / "medqa").mkdir(parents=True)
    (empty / "data" / "medqa" / "train.jsonl").write_text("{}\n")
    for words in (["merge"], ["ask", "Why?"], ["eval"]):
        outcome = medqa(*words)
        fails(outcome, 2, "train one with: medqa train ")
        assert "convert" not in outcome.err


def test_a_model_that_is_not_named_leads_to_a_config(medqa: Medqa) -> None:
    fails(medqa("ask", "Why?", "--model", "base"), 2, "model.name_or_path is not set", INIT)


def test_a_config_that_is_not_there_or_empty_leads_to_one(empty: Path, medqa: Medqa) -> None:
    fails(medqa("config", "check", "-c", "none.yaml"), 2, "no such file", INIT)
    (empty / "medqa.yaml").touch()
    fails(medqa("config", "check"), 2, "is empty", f"{INIT} --force")


# Completion


def completed(line: str, folder: Path) -> list[str]:
    """Return what bash would offer behind ``line``, as the script of ``medqa --install-completion`` asks for it."""
    words = line.split(" ")
    done = subprocess.run(
        [sys.executable, "-c", "import sys; from medqa_cli.cli.program import main; sys.argv = ['medqa']; main()"],
        cwd=folder,
        env={**os.environ, "_MEDQA_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("medqa ", COMMANDS),
        ("medqa c", ["convert", "config"]),
        ("medqa config ", CONFIG_COMMANDS),
        ("medqa train --re", ["--resume", "--restart"]),
        ("medqa merge --base-weights ", ["nf4", "original", "auto"]),
    ],
)
def test_completion_offers_what_can_follow(empty: Path, line: str, offered: list[str]) -> None:
    assert completed(line, empty) == offered


def test_the_completion_script_asks_as_the_test_does(medqa: Medqa, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")
    outcome = medqa("--show-completion", "bash")
    assert outcome.code == 0, outcome.err
    assert "_MEDQA_COMPLETE=complete_bash" in outcome.out
    assert outcome.out.rstrip().endswith(" medqa")
