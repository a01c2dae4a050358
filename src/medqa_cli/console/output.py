"""Results on stdout; notes, warnings, errors and hints on stderr."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from medqa_cli.console.streams import encodes_all, json_enabled, stderr_console, stdout_console
from medqa_cli.errors import ConfigError, MedqaError
from medqa_cli.terminal_text import json_line, printable

_warned_of: set[str] = set()


def result(data: Any, show: Callable[[], None]) -> None:
    """Give a command's result: ``data`` as JSON under ``--json``, otherwise whatever ``show`` prints."""
    if json_enabled():
        sys.stdout.write(json_line(data, ascii_only=not encodes_all(sys.stdout)))
        sys.stdout.flush()
    else:
        show()


def table(
    title: str,
    rows: Sequence[Sequence[str]],
    header: Sequence[str] = (),
    alarming: Collection[tuple[int, int]] = (),
) -> None:
    """Print a table to stdout.

    Args:
        title: stands above it; empty: none.
        rows: the cells; the first column is the label, the others are right-aligned figures.
        header: names of the columns.
        alarming: (row, column) of the cells that are shown in red.
    """
    columns = max(len(row) for row in rows)
    grid = Table(
        title=escape(printable(title)) or None, title_justify="left", show_header=bool(header), box=None, pad_edge=False
    )
    for index in range(columns):
        label = escape(printable(header[index])) if header else ""
        grid.add_column(label, justify="left" if index == 0 else "right", overflow="fold")
    for number, row in enumerate(rows):
        cells = [escape(printable(cell)) for cell in row]
        grid.add_row(*[f"[bold red]{cell}[/]" if (number, i) in alarming else cell for i, cell in enumerate(cells)])
    console = stdout_console()
    console.print(grid)
    console.print()


def line(text: str = "") -> None:
    """Print one line of a result to stdout."""
    stdout_console().print(escape(printable(text)))


def json_lines(rows: Iterable[Any]) -> None:
    """Print one JSON object a line to stdout."""
    for row in rows:
        sys.stdout.write(json_line(row, ascii_only=not encodes_all(sys.stdout)))
    sys.stdout.flush()


def side_by_side(titles: Sequence[str], texts: Sequence[str], feet: Sequence[str]) -> None:
    """Print texts in columns of the same width, each with a title above and a line below, to stdout."""
    grid = Table(box=None, pad_edge=False, expand=True, padding=(0, 2))
    for title in titles:
        grid.add_column(escape(printable(title)), ratio=1, overflow="fold")
    for cells in (texts, [""] * len(texts), feet):
        grid.add_row(*(escape(printable(cell)) for cell in cells))
    Console(highlight=False, emoji=False).print(grid)


def note(text: str) -> None:
    """Say on stderr what is being done or what the user should know."""
    stderr_console().print(escape(printable(text)), style="dim" if stderr_console().is_terminal else None)


def warn(text: str) -> None:
    """Say on stderr what may be wrong."""
    stderr_console().print(f"[yellow]warning:[/yellow] {escape(printable(text))}")


def warn_once(text: str) -> None:
    """Warn, but not again of the same in the same command."""
    if text not in _warned_of:
        _warned_of.add(text)
        warn(text)


def begin() -> None:
    """Begin a command: what was warned of before is forgotten."""
    _warned_of.clear()


def error(problem: MedqaError) -> None:
    """Print an error and its hint to stderr."""
    console = stderr_console()
    lines = problem.problems if isinstance(problem, ConfigError) else [problem.message]
    for text in lines:
        console.print(f"[red]error:[/red] {escape(printable(text))}")
    if problem.hint:
        hint(problem.hint)


def hint(text: str) -> None:
    """Say on stderr what to do next."""
    stderr_console().print(f"[cyan]hint:[/cyan] {escape(printable(text))}")
