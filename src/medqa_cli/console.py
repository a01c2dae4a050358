"""Output for people: results on stdout; notes, progress, warnings and errors on stderr. Only this module uses rich.

With ``--json`` one JSON object on stdout replaces the tables. Text from data or from a model passes through
``printable`` before it reaches a terminal; files keep it unchanged.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import shutil
import sys
import time
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, TextIO

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from medqa_cli.errors import ConfigError, MedqaError
from medqa_cli.streams import encodes_all

if TYPE_CHECKING:
    from rich.live import Live

_SECONDS_BETWEEN_LINES = 30  # of progress where there is no terminal
_SECONDS_BEFORE_CLOCK = 2
_OVERRIDES = "\u202d\u202e"
# JSON escapes the control characters below the space by itself.
_UNESCAPED_BY_JSON = re.compile(f"[\x7f-\x9f{_OVERRIDES}\ud800-\udfff]")


@dataclass
class _State:
    """Settings and history of the output of this process."""

    json: bool = False
    unmuted: tuple[TextIO, TextIO] | None = None  # stdout and stderr from before ``mute``
    live: list[Console] = field(default_factory=list)  # of the displays that are drawn now
    doing: str = ""  # what the command does, while none of ``statuses`` says more
    statuses: list[str] = field(default_factory=list)
    warned_of: set[str] = field(default_factory=set)
    told: float = math.inf  # when a line of progress was last printed, or the command began; no command: never


_state = _State()


def printable(text: str) -> str:
    """Replace by U+FFFD invisible characters that change how the rest is shown.

    These are terminal control characters (except newlines and tabs), overrides of the direction of writing, which make
    "05" look like "50", and lone surrogates, which stdout cannot encode.
    """

    def is_shown(character: str) -> bool:
        is_control = unicodedata.category(character) in ("Cc", "Cs") and character not in "\n\t"
        return not is_control and character not in _OVERRIDES

    return "".join(character if is_shown(character) else "\ufffd" for character in text)


def json_line(data: Any, *, ascii_only: bool = False) -> str:
    """Return one line of JSON that is safe on a terminal: what ``printable`` replaces is written as an escape.

    A reader of the JSON gets the text unchanged. ``ascii_only``: escape everything that is not ASCII.

    Raises:
        ValueError: a number is not finite.
    """
    text = json.dumps(data, ensure_ascii=ascii_only, allow_nan=False)
    return _UNESCAPED_BY_JSON.sub(lambda match: f"\\u{ord(match[0]):04x}", text) + "\n"


def mute() -> None:
    """Print nothing from here on, including libraries and Python warnings: another process prints for this one.

    An uncaught exception is still shown, on the original stderr.
    """
    if _state.unmuted:
        return
    _state.unmuted = sys.stdout, sys.stderr
    sys.stdout = sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 -- it stays open to the end

    def show_despite_mute(kind: type[BaseException], value: BaseException, traceback: TracebackType | None) -> None:
        unmute()
        sys.__excepthook__(kind, value, traceback)
        sys.stderr.flush()
        # Threads that still wait for other processes (Gloo's) would abort a Python that is shutting down.
        os._exit(1)

    sys.excepthook = show_despite_mute


def unmute() -> None:
    """End ``mute``: what follows concerns this process alone."""
    if _state.unmuted:
        (sys.stdout, sys.stderr), _state.unmuted = _state.unmuted, None


def use_json(enabled: bool) -> None:
    """Choose between tables and one JSON object on stdout for the rest of the process."""
    _state.json = enabled


def json_enabled() -> bool:
    """Tell whether stdout carries JSON."""
    return _state.json


def begin() -> None:
    """Begin a command: earlier warnings are forgotten, and progress is first told half a minute from now."""
    _state.warned_of.clear()
    _state.told = time.monotonic()


def end() -> None:
    """End a command, or wait for the user: nothing is being done any more."""
    _state.doing, _state.told = "", math.inf
    _state.statuses.clear()
    _status_line.draw()


def _stdout_console() -> Console:
    """Return the console of stdout; without wrapping, so that a pipe gets whole lines."""
    # emoji=False: a text of the user may hold ":pill:".
    return Console(highlight=False, soft_wrap=True, emoji=False)


def _stderr_console() -> Console:
    """Return the console of stderr, or of the live display that is on it now."""
    # During a live display all output must go through the console of the display, which moves out of the way.
    if _state.live:
        return _state.live[-1]
    if _status_line.console is not None and _status_line.console.file is sys.stderr:
        return _status_line.console
    return Console(stderr=True, highlight=False, soft_wrap=True, emoji=False)


def width() -> int:
    """Return the number of columns of stdout's window; without a window 80, or ``COLUMNS``."""
    return _stdout_console().width


def result(data: Any, show: Callable[[], None]) -> None:
    """Give a command's result: ``data`` as JSON under ``--json``, otherwise whatever ``show`` prints."""
    end()
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
        title: the line above it; empty: none.
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
    with _status_line.covered():
        console = _stdout_console()
        console.print(grid)
        console.print()


def line(text: str = "") -> None:
    """Print one line of a result to stdout."""
    with _status_line.covered():
        _stdout_console().print(escape(printable(text)))


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
    """Print on stderr what is being done or what the user should know."""
    _stderr_console().print(escape(printable(text)), style="dim" if _stderr_console().is_terminal else None)


def warn(text: str) -> None:
    """Print on stderr what may be wrong."""
    _stderr_console().print(f"[yellow]warning:[/yellow] {escape(printable(text))}")


def warn_once(text: str) -> None:
    """Warn, but only once per command with the same text."""
    if text not in _state.warned_of:
        _state.warned_of.add(text)
        warn(text)


def error(problem: MedqaError) -> None:
    """Print an error and its hint to stderr."""
    console = _stderr_console()
    lines = problem.problems if isinstance(problem, ConfigError) else [problem.message]
    for text in lines:
        console.print(f"[red]error:[/red] {escape(printable(text))}")
    if problem.hint:
        hint(problem.hint)


def hint(text: str) -> None:
    """Print on stderr what to do next."""
    _stderr_console().print(f"[cyan]hint:[/cyan] {escape(printable(text))}")


def stream(text: str) -> None:
    """Write a piece of an answer to stdout at once, without a newline."""
    end()
    sys.stdout.write(printable(text))
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
        end()
        for character in printable(piece):
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


class ProgressHandle:
    """One bar of a live display, or lines when stderr is no terminal."""

    def __init__(self, update: Callable[[int, str], None]) -> None:
        self._update = update

    def update(self, completed: int, status: str = "") -> None:
        """Move the bar to ``completed`` and show ``status`` next to it."""
        self._update(completed, status)


@contextlib.contextmanager
def progress(description: str, total: int) -> Iterator[ProgressHandle]:
    """Show progress on stderr: a live bar on a terminal, elsewhere a line every half minute."""
    if not is_live():
        yield ProgressHandle(_now_and_then(description, total))
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

    columns = (
        SpinnerColumn("dots" if _draws(_stderr_console(), "⠋") else "line"),  # the first piece may take minutes
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[status]}"),
        TimeRemainingColumn(compact=True),
    )
    with _status_line.covered(), Progress(*columns, console=_stderr_console(), transient=True) as bar:
        task = bar.add_task(escape(printable(description)), total=total, status="")

        def update(completed: int, status: str) -> None:
            bar.update(task, completed=completed, status=escape(printable(status)))

        yield ProgressHandle(update)


def _now_and_then(description: str, total: int) -> Callable[[int, str], None]:
    def update(completed: int, status: str) -> None:
        if time.monotonic() - _state.told >= _SECONDS_BETWEEN_LINES and completed < total:
            _state.told = time.monotonic()
            note(f"{description}: {completed:,} of {total:,}{f' {status}' if status else ''}")

    update(0, "")  # work of a single piece has no update on its way
    return update


def doing(text: str) -> None:
    """Say what the command does from here on, until ``end`` or its result; a line on a terminal shows it."""
    _state.doing = text
    _status_line.draw()


@contextlib.contextmanager
def status(text: str) -> Iterator[Callable[[str], None]]:
    """Show what is being done while the block runs, on a terminal only; yields a function that replaces the text."""
    if not is_live():
        yield lambda text: None
        return
    _state.statuses.append(text)
    _status_line.draw()

    def replace(text: str) -> None:
        _state.statuses[-1:] = [text]

    try:
        yield replace
    finally:
        del _state.statuses[-1:]
        _status_line.draw()


class _StatusLine:
    """The line on a terminal that says what is being done and for how long, while nothing else is drawn there.

    ``console``: bound to the terminal, since some work is done while stderr leads elsewhere.
    """

    def __init__(self) -> None:
        self.console: Console | None = None
        self._live: Live | None = None
        self._is_covered = False
        self._said, self._since = "", 0.0

    def draw(self) -> None:
        """Draw the line, or take it away where nothing is being done or another display has its place."""
        if not self._text() or self._is_covered:
            if self._live is not None:
                self._live.stop()
                self._live = None
            if not self._text():
                self.console = None
            return
        if self.console is None and is_live():
            self.console = Console(file=sys.stderr, highlight=False, soft_wrap=True, emoji=False)
        if self.console is not None and self._live is None:
            from rich.live import Live

            self._live = Live(self, console=self.console, transient=True, redirect_stdout=False, redirect_stderr=False)
            self._live.start(refresh=True)
        elif self._live is not None:
            self._live.refresh()

    @contextlib.contextmanager
    def covered(self) -> Iterator[None]:
        """Let another display have the place."""
        before, self._is_covered = self._is_covered, True
        self.draw()
        try:
            yield
        finally:
            self._is_covered = before
            self.draw()

    def _text(self) -> str:
        return (_state.statuses or [_state.doing])[-1]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw the line; rich calls this, four times a second."""
        now, text = time.monotonic(), printable(self._text())
        if text != self._said:
            self._said, self._since = text, now
        frames = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏" if _draws(console, "⠋") else "-\\|/"
        seconds = now - self._since
        line = Text(no_wrap=True, overflow="ellipsis")
        line.append(frames[int(now * 4) % len(frames)], "green").append(f" {text}")
        yield line.append(f" {clock(seconds)}" if seconds >= _SECONDS_BEFORE_CLOCK else "")


_status_line = _StatusLine()


def is_live() -> bool:
    """Tell whether stderr is a terminal that can redraw lines, so that a live display is drawn."""
    console = _stderr_console()
    return console.is_terminal and not console.is_dumb_terminal


class RunDisplay:
    """The display of a long run: its progress on a line with a bar, and figures below, as the window's width allows.

    Behind the figures stands the text of ``status`` while one is shown.
    """

    def __init__(self, description: str, total: int) -> None:
        self._description = description
        self._total = total
        self._completed = 0
        self._figures: tuple[str, ...] = ()
        self._started = time.monotonic()

    def update(self, completed: int, figures: Sequence[str]) -> None:
        """Show ``completed`` of the total, and these short texts; each is kept on one line."""
        self._completed = completed
        self._figures = tuple(printable(figure) for figure in figures)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw the lines for the current width; rich calls this."""
        elapsed = clock(time.monotonic() - self._started)
        share = self._completed / max(1, self._total)
        head = f"{self._description} {self._completed}/{self._total}  {share:.0%}  {elapsed}"
        # No bar if the window leaves no room for it.
        bar_width = min(40, options.max_width - cell_len(head) - 2)
        filled = round(share * bar_width)
        full, empty = ("━", "─") if _draws(console, "━─") else ("#", "-")
        bar = f"  {full * filled}{empty * (bar_width - filled)}" if bar_width >= 8 else ""
        yield Text(head, no_wrap=True, overflow="ellipsis") + Text(bar, style="cyan")
        rows: list[str] = []
        for figure in (*self._figures, *map(printable, _state.statuses[-1:])):
            if rows and cell_len(rows[-1]) + 3 + cell_len(figure) <= options.max_width:
                rows[-1] += f"   {figure}"
            else:
                rows.append(figure)
        for row in rows:
            yield Text(row, no_wrap=True, overflow="ellipsis")


@contextlib.contextmanager
def run_display(description: str, total: int) -> Iterator[RunDisplay]:
    """Show a run on stderr: redrawn in place on a terminal, nothing by itself elsewhere."""
    shown = RunDisplay(description, total)
    if not is_live():
        yield shown
        return
    from rich.live import Live

    console = Console(stderr=True, highlight=False, soft_wrap=True, emoji=False)
    live = Live(shown, console=console, transient=True, refresh_per_second=2, vertical_overflow="crop")
    with _status_line.covered(), live:
        _state.live.append(console)
        try:
            yield shown
        finally:
            _state.live.pop()


def clock(seconds: float) -> str:
    """Return a duration as people read it: 0:42, 12:05, 3:07:00."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def sparkline(values: Sequence[float]) -> str:
    """Return a curve on one line, one block per value; empty if the terminal cannot draw it."""
    blocks = "▁▂▃▄▅▆▇█"
    if not values or not _draws(_stderr_console(), blocks):
        return ""
    low, high = min(values), max(values)
    step = (high - low) / (len(blocks) - 1) or 1.0
    return "".join(blocks[round((value - low) / step)] for value in values)


def _draws(console: Console, characters: str) -> bool:
    try:
        characters.encode(console.encoding)
    except UnicodeEncodeError:
        return False
    return True
