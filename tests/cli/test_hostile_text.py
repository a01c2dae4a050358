"""Names and texts that would rule a terminal, through the commands themselves: shown as text, kept in files."""

import ast
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

import medqa_cli
from helpers.commands import Outcome

Medqa = Callable[..., Outcome]
SOURCE = Path(medqa_cli.__file__).parent
# Sets the title of the window, fills the clipboard, clears the screen, opens a link, turns the text round.
TITLE, CLIPBOARD, CLEAR, LINK, ROUND = (
    "\x1b]0;x\x07",
    "\x1b]52;c;cm0=\x07",
    "\x9b2J",
    "\x1b]8;;http://x\x1b\\",
    "\u202e",
)


def rules(text: str) -> list[str]:
    """What of an output a terminal would obey."""
    return re.findall("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202d\u202e]", text)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_convert_shows_hostile_names_and_topics_as_text(folder: Path, medqa: Medqa) -> None:
    name = f"q{TITLE}{CLEAR}.csv"
    topics = ["gout", f"asthma{CLIPBOARD}{ROUND}", f"mumps{LINK}"]
    rows = [
        f'What is {topic} {n}?,"Answer {n} about {topic} is that it heals.",{topic}'
        for topic in topics
        for n in range(9)
    ]
    Path(name).write_text("question,answer,topic\n" + "\n".join(rows) + "\n", encoding="utf-8")
    shown = medqa("convert", name)
    assert shown.code == 0, shown.err
    assert "q\ufffd]0;x\ufffd" in shown.out + shown.err
    assert rules(shown.out + shown.err) == []
    as_json = medqa("convert", name, "--json", "--out", "again")
    assert as_json.code == 0, as_json.err
    assert rules(as_json.out + as_json.err) == []
    assert json.loads(as_json.out)["source"]["path"] == name
    # What was written is the data, not what was shown of it.
    written = [
        json.loads(line) for path in Path("again").glob("*.jsonl") for line in path.read_text().split("\n") if line
    ]
    assert {row["topic"] for row in written if "topic" in row} == set(topics)


@pytest.mark.parametrize(
    "arguments",
    [
        ["convert", f"no{TITLE}{CLEAR}{ROUND}.csv"],
        ["convert", "x.csv", "--set", f"data.{CLIPBOARD}=1"],
        ["config", "show", "-c", f"no{LINK}.yaml"],
        ["ask", "What?", "--set", f"run_dir=no{TITLE}{CLEAR}"],
        ["eval", "--fail-on", f"adapter.{CLEAR}nll > 2", "--set", f"run_dir=no{TITLE}"],
    ],
)
def test_messages_about_hostile_names_are_text(folder: Path, medqa: Medqa, arguments: list[str]) -> None:
    outcome = medqa(*arguments)
    assert outcome.code == 2
    # Replaced, or quoted as in JSON.
    assert "\ufffd" in outcome.err or "\\u00" in outcome.err
    assert rules(outcome.out + outcome.err) == []


def test_a_config_is_shown_as_text(folder: Path, medqa: Medqa) -> None:
    Path("medqa.yaml").write_text(f'run_dir: "runs/{CLEAR}x"\ndata: {{source: "a\\e]0;x\\a.csv"}}\n', encoding="utf-8")
    for options in ([], ["--json"]):
        outcome = medqa("config", "show", *options)
        assert rules(outcome.out + outcome.err) == [], outcome


def test_one_part_alone_prints() -> None:
    """Whatever goes past ``console`` would go past its replacing too."""
    found = []
    for path in sorted(SOURCE.rglob("*.py")):
        if path.parent == SOURCE / "console":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            name = ast.unparse(node.func)
            if name in ("print", "typer.echo", "typer.secho", "sys.stdout.write", "sys.stderr.write"):
                found.append(f"{path.relative_to(SOURCE)}:{node.lineno} {name}")
            # A cell that begins with = would be a formula in a spreadsheet: results are JSON Lines, never CSV.
            if name in ("csv.writer", "csv.DictWriter") or name.endswith((".to_csv", ".to_excel")):
                found.append(f"{path.relative_to(SOURCE)}:{node.lineno} {name}")
    assert found == []
