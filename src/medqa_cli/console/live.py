"""What is redrawn in place on a terminal's stderr, and is not there elsewhere: progress bars, a run's figures."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.markup import escape
from rich.text import Text

from medqa_cli.console.streams import live_consoles, stderr_console
from medqa_cli.terminal_text import printable


class ProgressHandle:
    """One bar of a live display, or lines when stderr is no terminal."""

    def __init__(self, update: Callable[[int, str], None]) -> None:
        self._update = update

    def update(self, completed: int, status: str = "") -> None:
        """Move the bar to ``completed`` and show ``status`` beside it."""
        self._update(completed, status)


@contextlib.contextmanager
def progress(description: str, total: int) -> Iterator[ProgressHandle]:
    """Show progress on stderr: a live bar on a terminal, nothing by itself elsewhere."""
    console = stderr_console()
    if not console.is_terminal:
        yield ProgressHandle(lambda completed, status: None)
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[status]}"),
        TimeRemainingColumn(compact=True),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(escape(printable(description)), total=total, status="")

        def update(completed: int, status: str) -> None:
            bar.update(task, completed=completed, status=escape(printable(status)))

        yield ProgressHandle(update)


@contextlib.contextmanager
def status(text: str) -> Iterator[Callable[[str], None]]:
    """Show what is being done, on a terminal only and gone afterwards; yields a function that replaces the text."""
    console = stderr_console()
    if not console.is_terminal:
        yield lambda text: None
        return
    with console.status(escape(printable(text))) as shown:
        yield lambda text: shown.update(escape(printable(text)))


def is_live() -> bool:
    """Tell whether stderr is a terminal that can redraw lines, so that a live display is drawn."""
    console = stderr_console()
    return console.is_terminal and not console.is_dumb_terminal


class RunDisplay:
    """What a long run shows: how far it is on a line with a bar, and figures below it, as wide as the window allows."""

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
        """Draw the lines for the width at hand; rich calls this."""
        elapsed = clock(time.monotonic() - self._started)
        share = self._completed / max(1, self._total)
        head = f"{self._description} {self._completed}/{self._total}  {share:.0%}  {elapsed}"
        # On a window that leaves the bar no room there is none.
        bar_width = min(40, options.max_width - cell_len(head) - 2)
        filled = round(share * bar_width)
        full, empty = ("━", "─") if _draws(console, "━─") else ("#", "-")
        bar = f"  {full * filled}{empty * (bar_width - filled)}" if bar_width >= 8 else ""
        yield Text(head, no_wrap=True, overflow="ellipsis") + Text(bar, style="cyan")
        for row in _rows_of(self._figures, options.max_width):
            yield Text(row, no_wrap=True, overflow="ellipsis")


def _rows_of(figures: Sequence[str], width: int) -> list[str]:
    """Lay short texts out on as few lines as the width allows, in their order."""
    rows: list[str] = []
    for figure in figures:
        if rows and cell_len(rows[-1]) + 3 + cell_len(figure) <= width:
            rows[-1] += f"   {figure}"
        else:
            rows.append(figure)
    return rows


@contextlib.contextmanager
def run_display(description: str, total: int) -> Iterator[RunDisplay]:
    """Show a run on stderr: redrawn in place on a terminal, nothing by itself elsewhere."""
    shown = RunDisplay(description, total)
    if not is_live():
        yield shown
        return
    from rich.live import Live

    console = stderr_console()
    with Live(shown, console=console, transient=True, refresh_per_second=2, vertical_overflow="crop"):
        live_consoles.append(console)
        try:
            yield shown
        finally:
            live_consoles.pop()


def clock(seconds: float) -> str:
    """Return a duration as people read it: 0:42, 12:05, 3:07:00."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def sparkline(values: Sequence[float]) -> str:
    """Return a curve of one line, a block per value; empty where the terminal cannot draw it."""
    blocks = "▁▂▃▄▅▆▇█"
    if not values or not _draws(stderr_console(), blocks):
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
