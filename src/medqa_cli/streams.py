"""Make stdin, stdout and stderr usable in any state: closed, without a reader, at a terminal that is gone."""

import codecs
import contextlib
import io
import os
import stat
import sys
from collections.abc import Iterator
from typing import Any, TextIO, cast


def prepare_streams() -> None:
    """Make stdin, stdout and stderr usable in any state: closed, without a reader, in a limited encoding.

    A closed stream becomes the null device, also as a file descriptor: otherwise the next file would get its number,
    and everything that a library prints. Characters that an encoding lacks are written as escapes.
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


class SurvivingStream:
    """stderr whose reader may go away: later output is discarded, and the work goes on."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write; without a reader, discard."""
        with self._without_reader():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush; without a reader, discard."""
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


def encodes_all(stream: TextIO) -> bool:
    """Tell whether a stream can show every character."""
    return codecs.lookup(stream.encoding or "utf-8").name.startswith("utf")


def leave_terminal() -> None:
    """Discard further output to a terminal that is gone, where each write would fail."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):
        # A terminal that hung up no longer reports to be one; files and pipes are not character devices.
        with contextlib.suppress(OSError):
            if stat.S_ISCHR(os.fstat(descriptor).st_mode):
                os.dup2(nowhere, descriptor)
    os.close(nowhere)
