"""Writes docs/figures.md from ``benchmarks/results.json``: every figure of the newest run of each benchmark.

    python benchmarks/figures_page.py

The page is a function of the file and of the first line of each script. ``benchmarks/run_all.py`` writes it too.
"""

import ast
import json
import re
import textwrap
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks/results.json"
PAGE = ROOT / "docs/figures.md"

_MOST_COLUMNS = 10
_WIDTH = 120
_INTRODUCTION = """\
# Figures

<!-- Written by: python benchmarks/figures_page.py, from benchmarks/results.json. `make bench` runs it. -->

The newest run of each benchmark, with its date and its machine. Compare figures of one run only: two machines, or one
machine on two days, differ by more than most of what is measured. What was tried on the way, and what did not work:
[experiments.md](experiments.md). To run them yourself: `make bench`, on a machine that does nothing else.

![The main figures as bars](images/benchmarks.png)

MiB and GiB are powers of 1024. Square brackets hold 95 % intervals.
"""


def page(entries: dict[str, Any]) -> str:
    """Return the page as Markdown; ``entries`` is what ``results.json`` holds."""
    machines = list(dict.fromkeys(_machine(entry) for entry in entries.values()))
    parts = [_INTRODUCTION, "## Machines\n", _matrix([_MACHINE, *([_letter(n), *m] for n, m in enumerate(machines))])]
    for name, entry in entries.items():
        parts += [f"## {name}\n", _wrapped(summary(name)), _wrapped(_about(entry, machines))]
        parts += _blocks("", entry.get("figures", {}))
    return "\n".join(parts)


def summary(name: str) -> str:
    """Return the first line of a benchmark's docstring."""
    source = (ROOT / f"benchmarks/{name}.py").read_text(encoding="utf-8")
    return (ast.get_docstring(ast.parse(source)) or "").split("\n")[0].replace("``", "`")


_MACHINE = ("", "processor", "its fast products", "cores", "memory", "GPU", "PyTorch", "Transformers")


def _machine(entry: dict[str, Any]) -> tuple[str, ...]:
    machine = entry["machine"]
    return (
        machine["cpu"],
        ", ".join(machine["cpu_features"]) or "none",
        str(machine["cpu_count"]),
        f"{machine['memory_bytes'] / 2**30:.0f} GiB",
        machine["gpu"] or "none",
        machine["packages"]["torch"],
        machine["packages"]["transformers"],
    )


def _letter(number: int) -> str:
    return chr(ord("A") + number)


def _about(entry: dict[str, Any], machines: list[tuple[str, ...]]) -> str:
    day = date.fromisoformat(entry["date"])
    when = f"{day.day} {day:%B %Y}, machine {_letter(machines.index(_machine(entry)))}"
    if entry["status"] == "left out":
        return f"`{entry['command']}`: not run on {when}: {entry['reason']}."
    failed = f" **It failed (exit code {entry['exit_code']}).**" if entry["status"] == "failed" else ""
    commit = (entry["machine"]["git_commit"] or "unknown")[:9]
    return f"`{entry['command']}`: {when}, {entry['seconds']:,.0f} s, commit {commit}.{failed}"


def _blocks(name: str, figures: dict[str, Any]) -> Iterator[str]:
    """Yield the tables of a group of figures: like groups are the rows of one table, all others have their own."""
    groups = {key: value for key, value in figures.items() if not _is_single(value)}
    if (table := _table(groups)) is not None:
        single, groups = {key: value for key, value in figures.items() if _is_single(value)}, {}
    else:
        small = {key for key, value in groups.items() if all(_is_single(one) for one in _members(value).values())}
        single = {key: value for key, value in figures.items() if key not in groups or key in small}
        groups = {key: value for key, value in groups.items() if key not in small}
    if name and (single or table):
        yield f"**{name}**\n"
    if single:
        yield _matrix([("figure", "value"), *_flat(single)])
    if table:
        yield table
    for key, value in groups.items():
        yield from _blocks(f"{name}, {_words(key)}" if name else _words(key), _members(value))


def _members(group: Any) -> dict[str, Any]:
    """Return a group by name; the members of a list are numbered."""
    return group if isinstance(group, dict) else {str(number): one for number, one in enumerate(group, start=1)}


def _table(groups: dict[str, Any]) -> str | None:
    """Return groups as the rows of one table; None where they have little in common."""
    rows = {key: dict(_flat(_members(value))) for key, value in groups.items()}
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    if len(rows) < 2 or len(columns) > _MOST_COLUMNS or 2 * sum(map(len, rows.values())) <= len(columns) * len(rows):
        return None
    cells = ([_words(key), *(row.get(column, "") for column in columns)] for key, row in rows.items())
    return _matrix([["", *columns], *cells])


def _is_single(value: Any) -> bool:
    """Whether a value fits into a cell: no group, or a figure with its interval."""
    if isinstance(value, list):
        return not any(isinstance(one, dict | list) for one in value)
    return not isinstance(value, dict) or _interval(value) is not None


def _interval(group: dict[str, Any]) -> tuple[Any, Any, Any] | None:
    """Return a figure and the ends of its interval; None where a group is something else."""
    middle = group.get("value", group.get("share"))
    ends = group.get("ci95", [group.get("low"), group.get("high")])
    if not isinstance(ends, list) or len(ends) != 2:
        return None
    low, high = ends
    numbers = all(isinstance(one, int | float) for one in (middle, low, high))
    return (middle, low, high) if numbers else None


def _flat(figures: dict[str, Any], name: str = "") -> Iterator[tuple[str, str]]:
    """Yield each figure with the names of its groups before its own."""
    for key, value in figures.items():
        words = f"{name}, {_words(key)}" if name else _words(key)
        if _is_single(value):
            yield words, _shown(key, value)
        else:
            yield from _flat(_members(value), words)


def _words(key: str) -> str:
    """Return a key as words; the underscore of names such as q8_0 stays."""
    return re.sub(r"_(?=[a-z])", " ", key.removesuffix("_bytes")).replace("|", "\\|")


def _shown(key: str, value: Any) -> str:
    """Return a figure as a cell: bytes as MiB or GiB, at most four digits of a fraction, an interval in brackets."""
    if isinstance(value, dict) and (interval := _interval(value)):
        middle, low, high = (_shown(key, one) for one in interval)
        of = f" ({value['hits']:,} of {value['count']:,})" if {"hits", "count"} <= set(value) else ""
        return f"{middle} [{low}, {high}]{of}"
    if isinstance(value, list):
        return ", ".join(_shown(key, one) for one in value) or "none"
    if value is None or isinstance(value, bool):
        return {None: "none", True: "yes", False: "no"}[value]
    if key.endswith("bytes") and isinstance(value, int):
        return f"{value / 2**30:.2f} GiB" if value >= 2**30 else f"{value / 2**20:,.0f} MiB"
    if isinstance(value, float):
        return f"{value:,.0f}" if 1e4 <= abs(value) < 1e15 else f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value).replace("|", "\\|")


def _matrix(rows: list[Any]) -> str:
    """Return a Markdown table, the first row its header."""
    header, *body = rows
    lines = [header, ["---"] * len(header), *body]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def _wrapped(text: str) -> str:
    return textwrap.fill(text, _WIDTH, break_long_words=False, break_on_hyphens=False) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(json.loads(RESULTS.read_text(encoding="utf-8"))), encoding="utf-8")
