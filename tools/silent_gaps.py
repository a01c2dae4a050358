"""Runs a command at a terminal and says when it said something, and for how long it said nothing.

    python tools/silent_gaps.py medqa train --set train.max_steps=3

Prints each text that appeared, with the seconds since Enter; then when the first one came, the longest time in which
nothing was written, and texts that stood for long without a figure that moves. A line that counts its seconds is one
text. In brackets: seconds of processor time of the command and its processes, which other programs on the machine do
not lengthen.
"""

from __future__ import annotations

import codecs
import contextlib
import itertools
import os
import pty
import re
import sys
import time
from pathlib import Path
from typing import NamedTuple

CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\].*?\x07")
SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
MOVES = re.compile(rf"^[{SPINNER}]\s*|\s*\d+:\d\d(:\d\d)?\s*$")
FIGURES = re.compile(r"[\W\d_▁▂▃▄▅▆▇█]+")
LONG = 2.0  # seconds
_SAME = 4  # lines of a display, at most


class Moment(NamedTuple):
    """Since Enter, in seconds."""

    clock: float
    processor: float

    def __sub__(self, earlier: Moment) -> Moment:
        return Moment(self.clock - earlier.clock, self.processor - earlier.processor)

    def __str__(self) -> str:
        return f"{self.clock:.2f} s ({self.processor:.2f})"


START = Moment(0.0, 0.0)


def processor_seconds(session: int) -> float:
    """Return what the processes of a session have used, and those of their children that have ended."""
    ticks = 0
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            fields = entry.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            if int(fields[3]) == session:
                ticks += sum(int(field) for field in fields[11:15])
    return ticks / os.sysconf("SC_CLK_TCK")


def record(command: list[str]) -> tuple[int, list[tuple[Moment, str]]]:
    """Run a command at a terminal of its own; return its exit code and each write with its moment."""
    started = time.monotonic()
    child, terminal = pty.fork()
    if child == 0:
        os.environ.setdefault("TERM", "xterm")
        os.execvp(command[0], command)
    writes: list[tuple[Moment, str]] = []
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    while True:
        try:
            piece = os.read(terminal, 65536)
        except OSError:  # Linux: the other end was closed
            break
        if not piece:
            break
        writes.append((Moment(time.monotonic() - started, processor_seconds(child)), decoder.decode(piece)))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), writes


def texts(writes: list[tuple[Moment, str]]) -> list[tuple[Moment, str]]:
    """Return the lines that appeared, each once for as long as only its figures change."""
    found: list[tuple[Moment, str]] = []
    words: list[str] = []
    for moment, written in writes:
        for line in re.split(r"[\r\n]+", CONTROL.sub("", written)):
            text = MOVES.sub("", MOVES.sub("", line.strip()))
            key = FIGURES.sub(" ", text)
            recent = words[-1:] if line.strip()[:1] in SPINNER else words[-_SAME:]
            if text and key not in recent:
                found.append((moment, text))
                words.append(key)
    return found


def main() -> int:
    """Run and report."""
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    code, writes = record(sys.argv[1:])
    moments = [moment for moment, _ in writes]
    shown = texts(writes)
    for moment, text in shown:
        print(f"{moment.clock:8.2f} ({moment.processor:6.2f})  {text[:110]}")
    print(f"\nexit code {code}; first output after {moments[0] if moments else 'never'}")
    gaps = [(after - before, before) for before, after in itertools.pairwise([START, *moments])]
    for gap, before in sorted(gaps, reverse=True, key=lambda pair: pair[0].processor)[:5]:
        print(f"nothing was written for {gap} from {before} on")
    for (begun, text), (ended, _) in itertools.pairwise(shown):
        if (ended - begun).processor >= LONG:
            print(f"{ended - begun}: {text[:100]}")
    return code


if __name__ == "__main__":
    sys.exit(main())
