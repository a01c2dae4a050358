"""docs/configuration.md is what the dataclasses say, and they say something on every key."""

import re

import pytest

from helpers.paths import ROOT
from helpers.scripts import load_script
from medqa_cli.cli.program import load_commands
from medqa_cli.config.schema import KEYS

TOOL = load_script(ROOT / "tools/configuration_page.py")
COMMANDS, page, commands_of = TOOL.COMMANDS, TOOL.page, TOOL.commands_of


def test_the_page_is_what_the_generator_prints() -> None:
    if TOOL.PAGE.read_text(encoding="utf-8") != page():
        pytest.fail(
            "docs/configuration.md is not up to date; write it again:\n    python tools/configuration_page.py",
            pytrace=False,
        )


def test_every_key_has_one_row_with_five_cells() -> None:
    """An unescaped | in a sentence or a type would split a cell."""
    found = []
    section = ""
    for line in page().splitlines():
        if line.startswith("## "):
            section = line.removeprefix("## ") + "."
        if line.startswith("| `"):
            cells = re.split(r"(?<!\\)\|", line)[1:-1]
            assert len(cells) == 5, line
            assert all(cell.strip() for cell in cells), line
            found.append(section.replace("At the top.", "") + cells[0].strip(" `"))
    assert found == list(KEYS)


@pytest.mark.parametrize("key", KEYS)
def test_every_key_is_described(key: str) -> None:
    description = KEYS[key].metadata["description"]
    assert len(description.split()) >= 4
    assert description.endswith(".")
    # In the order of use, none twice, none that does not exist.
    assert commands_of(key)
    assert list(commands_of(key)) == [name for name in COMMANDS if name in commands_of(key)]


def test_the_commands_are_those_of_the_program() -> None:
    program = load_commands()
    names = [command.name or command.callback.__name__ for command in program.registered_commands if command.callback]
    # ``config`` acts on no key; ``doctor`` and ``quickstart`` do with them what the others do.
    names += [group.name for group in program.registered_groups if group.name not in (None, "config")]
    assert sorted(names) == sorted([*COMMANDS, "doctor", "quickstart"])


def test_long_lists_of_names_stand_below_their_table() -> None:
    assert "`train.optim` takes: `adamw_torch`, " in page()
    assert "`eval.metrics` takes: `nll`, " in page()
    assert "An entry of `eval.multiple_choice` has the keys `name`: " in page()
