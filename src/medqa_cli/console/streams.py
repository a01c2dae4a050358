"""Which of stdout and stderr is written to, in which form, and when neither is."""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import stat
import sys
from collections.abc import Iterator
from types import TracebackType
from typing import Any, TextIO, cast

from rich.console import Console

_state = {"json": False}
_silenced: dict[str, TextIO] = {}

# Of the live displays that are drawn now; ``live`` adds and takes away.
live_consoles: list[Console] = []


class SurvivingStream:
    """stderr whose reader may go away: what is said then goes nowhere, and the work goes on."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write, or from now on nowhere."""
        with self._without_reader():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush, or from now on nowhere."""
        with self._without_reader():
            self._stream.flush()

    @contextlib.contextmanager
    def _without_reader(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)


def prepare_streams() -> None:
    """Make stdin, stdout and stderr usable whatever they are: closed, without a reader, in an encoding of few letters.

    A closed one becomes the null device, also as a file descriptor: the next file would get its number, and with it
    what a library prints. What an encoding lacks is written as an escape rather than lost.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number, which is this one
    # They stay open to the end.
    if sys.stdin is None:
        sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and not encodes_all(stream):
            stream.reconfigure(errors="backslashreplace")
    if sys.stderr is sys.__stderr__:
        sys.stderr = cast("TextIO", SurvivingStream(cast("TextIO", sys.stderr)))


def encodes_all(stream: TextIO) -> bool:
    """Tell whether a stream can show every character."""
    return codecs.lookup(stream.encoding or "utf-8").name.startswith("utf")


def use_json(enabled: bool) -> None:
    """Choose between tables and one JSON object on stdout for the rest of the process."""
    _state["json"] = enabled


def json_enabled() -> bool:
    """Tell whether stdout carries JSON."""
    return _state["json"]


def silence() -> None:
    """Say nothing from here on, libraries and Python warnings included: another process speaks for this one.

    An exception that nobody catches is shown all the same, on the stderr of before.
    """
    if _silenced:
        return
    _silenced.update(stdout=sys.stdout, stderr=sys.stderr)
    sys.stdout = sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 -- it stays open to the end
    sys.excepthook = _show_despite_silence


def speak() -> None:
    """End ``silence``: what follows concerns this process alone."""
    if _silenced:
        sys.stdout, sys.stderr = _silenced.pop("stdout"), _silenced.pop("stderr")


def leave_terminal() -> None:
    """Send what is still printed nowhere where it went to a terminal that is gone: each write there would fail."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):
        # A terminal that hung up no longer says that it is one; files and pipes are no character devices.
        with contextlib.suppress(OSError):
            if stat.S_ISCHR(os.fstat(descriptor).st_mode):
                os.dup2(nowhere, descriptor)
    os.close(nowhere)


def _show_despite_silence(kind: type[BaseException], value: BaseException, traceback: TracebackType | None) -> None:
    speak()
    sys.__excepthook__(kind, value, traceback)
    sys.stderr.flush()
    # Threads that still wait for other processes (Gloo's) would abort a Python that is shutting down.
    os._exit(1)


def stdout_console() -> Console:
    """Return the console of stdout; without wrapping, so that a pipe gets whole lines."""
    # emoji=False: a text of the user may hold ":pill:".
    return Console(highlight=False, soft_wrap=True, emoji=False)


def stderr_console() -> Console:
    """Return the console of stderr, or of the live display that is on it now."""
    # What is printed beside a live display goes through the display's own console, which moves it out of the way.
    if live_consoles:
        return live_consoles[-1]
    return Console(stderr=True, highlight=False, soft_wrap=True, emoji=False)


def width() -> int:
    """Return how many columns stdout's window has; 80, or ``COLUMNS``, where it is none."""
    return stdout_console().width
