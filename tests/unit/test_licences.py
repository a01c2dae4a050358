"""docs/licences.md names every direct dependency, and what it says is read from metadata as packages really have it."""

import tomllib
from email.message import Message
from types import ModuleType
from typing import Any

import pytest

from helpers.paths import ROOT
from helpers.scripts import load_script


@pytest.fixture(scope="module")
def licenses() -> ModuleType:
    return load_script(ROOT / "tools/licences.py")


def test_every_direct_dependency_is_listed_with_a_license(licenses: ModuleType) -> None:
    pyproject: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    uses = licenses.requirements(pyproject)
    assert {"torch", "typer", "sacrebleu"} <= set(uses["run"])
    listed = licenses.lines_by_name(licenses.PAGE.read_text(encoding="utf-8"))
    wanted = {name: use for use, names in uses.items() for name in names}
    assert {name for name in listed if name != "package"} == set(wanted), "run python tools/licences.py"
    for name, use in wanted.items():
        _, _, used_for, license, version, _ = (cell.strip() for cell in listed[name].split("|"))
        assert used_for == use
        assert license
        assert version[0].isdigit()


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ([("License-Expression", "MIT"), ("License", "whatever")], "MIT"),
        ([("License", "Apache 2.0 License")], "Apache-2.0"),
        (
            [("License", "The whole text\nof a license"), ("Classifier", "License :: OSI Approved :: MIT License")],
            "MIT",
        ),
        ([("License", "x" * 200), ("Classifier", "License :: OSI Approved :: BSD License")], "BSD"),
        ([("Classifier", "Topic :: Text"), ("Classifier", "License :: A New One")], "A New One"),
    ],
)
def test_a_license_is_found_where_packages_put_it(
    licenses: ModuleType, fields: list[tuple[str, str]], expected: str
) -> None:
    metadata = Message()
    for name, value in fields:
        metadata[name] = value
    assert licenses.license_of(metadata) == expected


def test_a_package_that_states_none_is_not_passed_over(licenses: ModuleType) -> None:
    with pytest.raises(ValueError, match="no license"):
        licenses.license_of(Message())
    with pytest.raises(ValueError, match="not installed"):
        licenses.table({"run": ["no-such-package-here"]}, {})
    kept = licenses.table({"run": ["no-such-package-here"]}, {"no-such-package-here": "| as it was |"})
    assert kept.splitlines()[-1] == "| as it was |"
