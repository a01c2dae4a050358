"""The terminal that all output shares: its consoles, what is drawn on it now, and which characters it may be sent."""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import sys
import time
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, TextIO

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

if TYPE_CHECKING:
    from rich.live import Live

_SECONDS_BEFORE_CLOCK = 2
_OVERRIDES = "\u202d\u202e"
# JSON escapes the control characters below the space by itself.
_UNESCAPED_BY_JSON = re.compile(f"[\x7f-\x9f{_OVERRIDES}\ud800-\udfff]")


@dataclass
class State:
    """Settings and history of the output of this process."""

    json: bool = False
    unmuted: tuple[TextIO, TextIO] | None = None  # stdout and stderr from before ``mute``
    live: list[Console] = field(default_factory=list)  # of the displays that are drawn now
    doing: str = ""  # what the command does, while none of ``statuses`` says more
    statuses: list[str] = field(default_factory=list)
    warned_of: set[str] = field(default_factory=set)
    told: float = math.inf  # when a line of progress was last printed, or the command began; no command: never


state = State()


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
    if state.unmuted:
        return
    state.unmuted = sys.stdout, sys.stderr
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
    if state.unmuted:
        (sys.stdout, sys.stderr), state.unmuted = state.unmuted, None


def use_json(enabled: bool) -> None:
    """Choose between tables and one JSON object on stdout for the rest of the process."""
    state.json = enabled


def json_enabled() -> bool:
    """Tell whether stdout carries JSON."""
    return state.json


def begin() -> None:
    """Begin a command: earlier warnings are forgotten, and progress is first told half a minute from now."""
    state.warned_of.clear()
    state.told = time.monotonic()


def end() -> None:
    """End a command, or wait for the user: nothing is being done any more."""
    state.doing, state.told = "", math.inf
    state.statuses.clear()
    status_line.draw()


def stdout_console() -> Console:
    """Return the console of stdout; without wrapping, so that a pipe gets whole lines."""
    # emoji=False: a text of the user may hold ":pill:".
    return Console(highlight=False, soft_wrap=True, emoji=False)


def stderr_console() -> Console:
    """Return the console of stderr, or of the live display that is on it now."""
    # During a live display all output must go through the console of the display, which moves out of the way.
    if state.live:
        return state.live[-1]
    if status_line.console is not None and status_line.console.file is sys.stderr:
        return status_line.console
    return Console(stderr=True, highlight=False, soft_wrap=True, emoji=False)


def width() -> int:
    """Return the number of columns of stdout's window; without a window 80, or ``COLUMNS``."""
    return stdout_console().width


def is_live() -> bool:
    """Tell whether stderr is a terminal that can redraw lines, so that a live display is drawn."""
    console = stderr_console()
    return console.is_terminal and not console.is_dumb_terminal


def clock(seconds: float) -> str:
    """Return a duration as people read it: 0:42, 12:05, 3:07:00."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def draws(console: Console, characters: str) -> bool:
    """Tell whether the terminal's encoding has these characters."""
    try:
        characters.encode(console.encoding)
    except UnicodeEncodeError:
        return False
    return True


class StatusLine:
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
        return (state.statuses or [state.doing])[-1]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw the line; rich calls this, four times a second."""
        now, text = time.monotonic(), printable(self._text())
        if text != self._said:
            self._said, self._since = text, now
        frames = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏" if draws(console, "⠋") else "-\\|/"
        seconds = now - self._since
        line = Text(no_wrap=True, overflow="ellipsis")
        line.append(frames[int(now * 4) % len(frames)], "green").append(f" {text}")
        yield line.append(f" {clock(seconds)}" if seconds >= _SECONDS_BEFORE_CLOCK else "")


status_line = StatusLine()
