"""Writes the table of dependencies in docs/licences.md from the metadata of the installed packages.

    python tools/licences.py

What is not installed keeps the line that it had. Does not look at dependencies of dependencies.
"""

import importlib.metadata
import re
import tomllib
from collections.abc import Mapping, Sequence
from email.message import Message
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/licences.md"
START, END = "<!-- written by tools/licences.py -->", "<!-- end -->"
# What packages call their license, in the names of SPDX. "BSD License" alone does not say which one it is.
_SPDX = {
    "apache": "Apache-2.0",
    "apache 2.0": "Apache-2.0",
    "apache 2.0 license": "Apache-2.0",
    "apache license, version 2.0": "Apache-2.0",
    "apache software license": "Apache-2.0",
    "bsd license": "BSD",
    "mit license": "MIT",
    "psfl": "PSF-2.0",
    "python software foundation license": "PSF-2.0",
}
_LONGEST_NAME = 60  # characters; some packages put the whole text into the field


def requirements(pyproject: Mapping[str, object]) -> dict[str, list[str]]:
    """Return the names of the direct dependencies: by ``run`` and the names of the extras, each under its first use."""
    project = pyproject["project"]
    assert isinstance(project, dict)
    found = {"run": project["dependencies"], **project["optional-dependencies"]}
    uses: dict[str, list[str]] = {}
    for use, lines in found.items():
        seen = {name for names in uses.values() for name in names}
        uses[use] = [name for name in map(_name_of, lines) if name not in seen]
    return uses


def _name_of(requirement: str) -> str:
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert found is not None, requirement
    return found[0]


def license_of(metadata: Message) -> str:
    """Return the license that a package states: its SPDX expression, its field, or its classifier.

    Raises:
        ValueError: it states none.
    """
    if expression := metadata["License-Expression"]:
        return str(expression)
    stated = str(metadata["License"] or "").strip()
    classified = [
        own.rpartition(" :: ")[2] for own in metadata.get_all("Classifier") or [] if own.startswith("License")
    ]
    for name in [stated, *classified]:
        if name and "\n" not in name and len(name) <= _LONGEST_NAME:
            return _SPDX.get(name.lower(), name)
    raise ValueError(f"{metadata['Name']} states no license")


def table(uses: Mapping[str, Sequence[str]], before: Mapping[str, str]) -> str:
    """Return the table.

    Args:
        uses: names of the packages by what they are used for.
        before: by name, the line that a package had; taken where it is not installed.

    Raises:
        ValueError: a package states no license, or is not installed and had no line.
    """
    lines = ["| package | used for | license, as it states it | read in version |", "|---|---|---|---|"]
    for use, names in uses.items():
        for name in names:
            try:
                metadata = importlib.metadata.metadata(name)
            except importlib.metadata.PackageNotFoundError:
                if name not in before:
                    raise ValueError(f"{name} is not installed") from None
                lines.append(before[name])
                continue
            version = metadata["Version"].partition("+")[0]
            lines.append(f"| {name} | {use} | {license_of(metadata)} | {version} |")
    return "\n".join(lines)


def lines_by_name(page: str) -> dict[str, str]:
    """Return the lines of the table of dependencies by the names of the packages."""
    written = page[page.index(START) : page.index(END)]
    return {line.split("|")[1].strip(): line for line in written.splitlines() if line.startswith("| ")}


def main() -> None:
    """Write the table again."""
    page = PAGE.read_text(encoding="utf-8")
    uses = requirements(tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8")))
    fresh = table(uses, lines_by_name(page))
    before, after = page[: page.index(START)], page[page.index(END) :]
    PAGE.write_text(f"{before}{START}\n{fresh}\n{after}", encoding="utf-8")
    print(f"wrote {PAGE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
