"""Displays that are drawn on stderr while work goes on: what is being done, a bar, the figures of a long run."""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.markup import escape
from rich.text import Text

from medqa_cli.console.printing import note
from medqa_cli.console.terminal import clock, draws, is_live, printable, state, status_line, stderr_console

_SECONDS_BETWEEN_LINES = 30  # of progress where there is no terminal


class ProgressHandle:
    """One bar of a live display, or lines when stderr is no terminal."""

    def __init__(self, update: Callable[[float, str], None]) -> None:
        self._update = update

    def update(self, completed: float, status: str = "") -> None:
        """Move the bar to ``completed``, shown without its fraction, and show ``status`` next to it."""
        self._update(completed, status)


@contextlib.contextmanager
def progress(description: str, total: int, done: int = 0) -> Iterator[ProgressHandle]:
    """Show progress and the time left on stderr: a live bar on a terminal, elsewhere a line every half minute.

    ``done``: how much is done already, which tells nothing of the speed.
    """
    left = _time_left(total, done)
    if not is_live():
        yield ProgressHandle(_now_and_then(description, total, done, left))
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn

    columns = (
        SpinnerColumn("dots" if draws(stderr_console(), "⠋") else "line"),  # the first piece may take minutes
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[status]}"),
        TextColumn("{task.fields[left]}"),
    )
    with status_line.covered(), Progress(*columns, console=stderr_console(), transient=True) as bar:
        task = bar.add_task(escape(printable(description)), total=total, completed=done, status="", left="")

        def update(completed: float, status: str) -> None:
            bar.update(task, completed=completed, status=escape(printable(status)), left=left(completed))

        yield ProgressHandle(update)


def _now_and_then(
    description: str, total: int, done: int, left: Callable[[float], str]
) -> Callable[[float, str], None]:
    def update(completed: float, status: str) -> None:
        if time.monotonic() - state.told >= _SECONDS_BETWEEN_LINES and completed < total:
            state.told = time.monotonic()
            counted = " ".join(filter(None, (f"{int(completed):,} of {total:,}", status)))
            note(f"{description}: {', '.join(filter(None, (counted, left(completed))))}")

    update(done, "")  # work of a single piece has no update on its way
    return update


def _time_left(total: int, done: int) -> Callable[[float], str]:
    """Return what says how long the rest takes at the speed since now; it says nothing in the first second."""
    started = time.monotonic()

    def left(completed: float) -> str:
        seconds = time.monotonic() - started
        if completed <= done or seconds < 1:
            return ""
        return f"{clock((total - completed) * seconds / (completed - done))} left"

    return left


def doing(text: str) -> None:
    """Say what the command does from here on, until ``end`` or its result; a line on a terminal shows it."""
    state.doing = text
    status_line.draw()


@contextlib.contextmanager
def status(text: str) -> Iterator[Callable[[str], None]]:
    """Show what is being done while the block runs, on a terminal only; yields a function that replaces the text."""
    if not is_live():
        yield lambda text: None
        return
    state.statuses.append(text)
    status_line.draw()

    def replace(text: str) -> None:
        state.statuses[-1:] = [text]

    try:
        yield replace
    finally:
        del state.statuses[-1:]
        status_line.draw()


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
        full, empty = ("━", "─") if draws(console, "━─") else ("#", "-")
        bar = f"  {full * filled}{empty * (bar_width - filled)}" if bar_width >= 8 else ""
        yield Text(head, no_wrap=True, overflow="ellipsis") + Text(bar, style="cyan")
        rows: list[str] = []
        for figure in (*self._figures, *map(printable, state.statuses[-1:])):
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
    with status_line.covered(), live:
        state.live.append(console)
        try:
            yield shown
        finally:
            state.live.pop()


def sparkline(values: Sequence[float]) -> str:
    """Return a curve on one line, one block per value; empty if the terminal cannot draw it."""
    blocks = "▁▂▃▄▅▆▇█"
    if not values or not draws(stderr_console(), blocks):
        return ""
    low, high = min(values), max(values)
    step = (high - low) / (len(blocks) - 1) or 1.0
    return "".join(blocks[round((value - low) / step)] for value in values)
