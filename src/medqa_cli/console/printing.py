"""Prints results on stdout; notes, warnings, errors and hints on stderr."""

import shutil
import sys
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from medqa_cli.console import terminal
from medqa_cli.errors import ConfigError, MedqaError
from medqa_cli.streams import encodes_all


def result(data: Any, show: Callable[[], None]) -> None:
    """Give a command's result: ``data`` as JSON under ``--json``, otherwise whatever ``show`` prints."""
    terminal.end()
    if terminal.json_enabled():
        sys.stdout.write(terminal.json_line(data, ascii_only=not encodes_all(sys.stdout)))
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
        title: the line above it; empty: none.
        rows: the cells; the first column is the label, the others are right-aligned figures.
        header: names of the columns.
        alarming: (row, column) of the cells that are shown in red.
    """
    columns = max(len(row) for row in rows)
    grid = Table(
        title=escape(terminal.printable(title)) or None,
        title_justify="left",
        show_header=bool(header),
        box=None,
        pad_edge=False,
    )
    for index in range(columns):
        label = escape(terminal.printable(header[index])) if header else ""
        grid.add_column(label, justify="left" if index == 0 else "right", overflow="fold")
    for number, row in enumerate(rows):
        cells = [escape(terminal.printable(cell)) for cell in row]
        grid.add_row(*[f"[bold red]{cell}[/]" if (number, i) in alarming else cell for i, cell in enumerate(cells)])
    with terminal.status_line.covered():
        console = terminal.stdout_console()
        console.print(grid)
        console.print()


def line(text: str = "") -> None:
    """Print one line of a result to stdout."""
    with terminal.status_line.covered():
        terminal.stdout_console().print(escape(terminal.printable(text)))


def json_lines(rows: Iterable[Any]) -> None:
    """Print one JSON object a line to stdout."""
    for row in rows:
        sys.stdout.write(terminal.json_line(row, ascii_only=not encodes_all(sys.stdout)))
    sys.stdout.flush()


def side_by_side(titles: Sequence[str], texts: Sequence[str], feet: Sequence[str]) -> None:
    """Print texts in columns of the same width, each with a title above and a line below, to stdout."""
    grid = Table(box=None, pad_edge=False, expand=True, padding=(0, 2))
    for title in titles:
        grid.add_column(escape(terminal.printable(title)), ratio=1, overflow="fold")
    for cells in (texts, [""] * len(texts), feet):
        grid.add_row(*(escape(terminal.printable(cell)) for cell in cells))
    Console(highlight=False, emoji=False).print(grid)


def note(text: str) -> None:
    """Print on stderr what is being done or what the user should know."""
    terminal.stderr_console().print(
        escape(terminal.printable(text)), style="dim" if terminal.stderr_console().is_terminal else None
    )


def warn(text: str) -> None:
    """Print on stderr what may be wrong."""
    terminal.stderr_console().print(f"[yellow]warning:[/yellow] {escape(terminal.printable(text))}")


def warn_once(text: str) -> None:
    """Warn, but only once per command with the same text."""
    if text not in terminal.state.warned_of:
        terminal.state.warned_of.add(text)
        warn(text)


def error(problem: MedqaError) -> None:
    """Print an error and its hint to stderr."""
    console = terminal.stderr_console()
    lines = problem.problems if isinstance(problem, ConfigError) else [problem.message]
    for text in lines:
        console.print(f"[red]error:[/red] {escape(terminal.printable(text))}")
    if problem.hint:
        hint(problem.hint)


def hint(text: str) -> None:
    """Print on stderr what to do next."""
    terminal.stderr_console().print(f"[cyan]hint:[/cyan] {escape(terminal.printable(text))}")


def stream(text: str) -> None:
    """Write a piece of an answer to stdout at once, without a newline."""
    terminal.end()
    sys.stdout.write(terminal.printable(text))
    sys.stdout.flush()


class AnswerStream:
    """Writes pieces of an answer to stdout as they come; on a terminal no word is broken at the edge.

    The width is read at each word, so that a resized window takes effect at once.
    """

    def __init__(self) -> None:
        self._wraps = sys.stdout.isatty()
        self._column = 0
        self._word = ""
        self._space = ""

    def write(self, piece: str) -> None:
        """Take a piece. On a terminal a word is shown when the next one begins or ``end`` is called."""
        if not self._wraps:
            stream(piece)
            return
        terminal.end()
        for character in terminal.printable(piece):
            if character.isspace():
                self._put_word()
                if character == "\n":
                    sys.stdout.write("\n")
                    self._column, self._space = 0, ""
                else:
                    self._space += " " if character == "\t" else character
            else:
                self._word += character
                if cell_len(character) > 1:
                    # Scripts of wide characters have no spaces: a line may end after any character.
                    self._put_word()
        sys.stdout.flush()

    def end(self) -> None:
        """Show the last word, and end the line."""
        self._put_word()
        self._column, self._space = 0, ""
        sys.stdout.write("\n")
        sys.stdout.flush()

    def _put_word(self) -> None:
        if not self._word:
            return
        width, size = shutil.get_terminal_size().columns, cell_len(self._word)
        if self._column and self._column + len(self._space) + size > width:
            sys.stdout.write("\n")
            self._column, self._space = 0, ""
        sys.stdout.write(self._space + self._word)
        self._column += len(self._space) + size
        self._word = self._space = ""
