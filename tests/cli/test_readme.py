"""What the README and the pages of docs/ say: commands and what they print are real, links and files are there."""

import itertools
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer
import yaml
from typer.core import TyperGroup

from helpers.paths import ROOT, SAMPLE
from medqa_cli import __version__
from medqa_cli.cli.program import load_commands
from medqa_cli.config.load import load
from medqa_cli.config.schema import KEYS, SECTIONS

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
# Blocks of output begin with the command that printed them.
COMMAND = re.compile(r"^    \$ (medqa .*)$", re.MULTILINE)
SECONDS = re.compile(r"\(\d+\.\d s\)")


def printed_blocks() -> list[tuple[str, str]]:
    text = (ROOT / "docs/quickstart.md").read_text(encoding="utf-8")
    blocks = []
    for match in COMMAND.finditer(text):
        lines = []
        for line in text[match.end() + 1 :].split("\n"):
            if line and not line.startswith("    "):
                break
            lines.append(line[4:])
        blocks.append((match.group(1), "\n".join(lines).strip()))
    return blocks


def normal(text: str) -> str:
    """Seconds differ from machine to machine, and Markdown has no spaces at the ends of lines."""
    return "\n".join(line.rstrip() for line in SECONDS.sub("(N s)", text).strip().splitlines())


def test_the_page_of_the_quickstart_shows_output() -> None:
    assert [command.split()[1] for command, _ in printed_blocks()] == ["convert", "train"]


@pytest.mark.parametrize(("command", "printed"), printed_blocks(), ids=lambda text: text.split("\n")[0][:30])
def test_a_block_of_output_is_what_the_command_prints(command: str, printed: str, tmp_path: Path) -> None:
    folder = shutil.copytree(SAMPLE, tmp_path / "quickstart")
    words = [sys.executable, "-m", "medqa_cli", *shlex.split(command)[1:]]
    done = subprocess.run(words, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert normal(done.stdout) == normal(printed)


def anchors(page: Path) -> set[str]:
    """The names by which GitHub links to the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    targets = [*re.findall(r"\]\(([^)]+)\)", text), *re.findall(r'<img src="([^"]+)"', text)]
    for target in targets:
        path, _, anchor = target.partition("#")
        if "://" not in target:
            linked = page.parent / path if path else page
            assert linked.exists(), target
            assert not anchor or anchor in anchors(linked), target


PROGRAM = typer.main.get_command(load_commands())
LONGEST_LINE = 120
# What a page says now; experiments are of their day.
TODAYS = [page for page in PAGES if page.parent.name != "experiments"]


def typed_commands(text: str) -> list[list[str]]:
    """The words behind ``medqa`` of each command in a block of code, or in a span that has more than its name."""
    fenced = "\n".join(re.findall(r"^```\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
    lines = re.findall(r"^    (?:\$ )?(medqa .*)$", text, re.MULTILINE) + re.findall("^medqa .*", fenced, re.MULTILINE)
    lines = [line for line in lines if "->" not in line]  # the list of commands in docs/README.md
    lines += [span.replace("\n", " ") for span in re.findall(r"`(medqa [a-z]+ [^`]+)`", text)]
    calls = []
    for line in lines:
        words = shlex.split(line, comments=True)
        while words:
            end = next((place for place, word in enumerate(words) if word in ("&&", "|", ">")), len(words))
            if words[0] == "medqa":
                calls.append(words[1:end])
            words = words[end + 1 :]
    return calls


@pytest.mark.parametrize("page", TODAYS, ids=lambda page: page.name)
def test_commands_and_settings_that_are_named_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for words in typed_commands(text):
        command, number = PROGRAM, 0
        while isinstance(command, TyperGroup) and number < len(words) and words[number] in command.commands:
            command, number = command.commands[words[number]], number + 1
        assert number, words
        options = {option for parameter in command.params for option in parameter.opts} | {"--help", "--version"}
        assert {word for word in words[number:] if word.startswith("-") and len(word) > 1} <= options, words
        settings = [value for option, value in itertools.pairwise(words) if option == "--set"]
        if settings != ["lora.lora_aplha=16"]:  # shown for its message
            load(None, settings)
    sections = "|".join(SECTIONS)
    named = re.findall(rf"`((?:{sections})\.[a-z_0-9]+)(?=[`:= ])", text)
    assert [key for key in named if key not in KEYS and not key.endswith((".json", ".jsonl"))] == []


@pytest.mark.parametrize("name", ["review.md", "review_figures.md"])
def test_an_evaluation_before_a_review_writes_answers_whatever_the_config_measures(name: str) -> None:
    """``medqa config init`` writes ``metrics: [nll, bits_per_byte]`` for a CPU, and a review is of answers."""
    calls = typed_commands((ROOT / "docs" / name).read_text(encoding="utf-8"))
    before = [one for one, other in itertools.pairwise(calls) if one[0] == "eval" and other[:2] == ["review", "make"]]
    assert before
    assert all("eval.metrics=all" in words for words in before)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_prose_is_wrapped(page: Path) -> None:
    prose = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    lines = [line for line in prose.split("\n") if not line.startswith(("|", "    ", "<td"))]
    assert [line for line in lines if len(line) > LONGEST_LINE] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_scripts_tests_and_examples_that_are_named_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    named = set(re.findall(r"`(?:python )?((?:benchmarks|tests|examples|tools)/[\w/.-]+\.(?:py|yaml|csv|jsonl))", text))
    missing = sorted(name for name in named if not (ROOT / name).exists())
    assert not missing


@pytest.mark.parametrize("page", TODAYS, ids=lambda page: page.name)
def test_tests_that_are_named_by_the_end_of_their_path_exist(page: Path) -> None:
    named = set(re.findall(r"`([\w/]*\btest_\w+\.py)`", page.read_text(encoding="utf-8")))
    there = {path.relative_to(ROOT).as_posix() for path in (ROOT / "tests").rglob("test_*.py")}
    assert [name for name in named if not any(f"/{path}".endswith(f"/{name}") for path in there)] == []


def test_the_citation_is_of_this_version() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert cited["version"] == __version__
    assert {"cff-version", "message", "title", "authors"} <= cited.keys()


@pytest.mark.parametrize("picture", sorted((ROOT / "docs").rglob("*.svg")), ids=lambda picture: picture.name)
def test_a_picture_fetches_nothing(picture: Path) -> None:
    text = picture.read_text(encoding="utf-8")
    assert "<text" in text
    assert not re.findall(r"@import|@font-face|(?:url\(|href=|src=)[\"']?\w+:[^\"')]*", text)
