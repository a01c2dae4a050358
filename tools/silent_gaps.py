"""Runs a command at a terminal and says when it said something, and for how long it said nothing.

    python tools/silent_gaps.py medqa train --set train.max_steps=3

Prints each text that appeared, with the seconds since Enter; then when the first one came, the longest time in which
nothing was written, and texts that stood for long without a figure that moves. A line that counts its seconds is one
text.
"""

from __future__ import annotations

import codecs
import itertools
import os
import pty
import re
import sys
import time

CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\].*?\x07")
SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
MOVES = re.compile(rf"^[{SPINNER}]\s*|\s*\d+:\d\d(:\d\d)?\s*$")
FIGURES = re.compile(r"[\W\d_▁▂▃▄▅▆▇█]+")
LONG = 2.0  # seconds
_SAME = 4  # lines of a display, at most


def record(command: list[str]) -> tuple[int, list[tuple[float, str]]]:
    """Run a command at a terminal of its own; return its exit code and each write with its time, in seconds."""
    started = time.monotonic()
    child, terminal = pty.fork()
    if child == 0:
        os.environ.setdefault("TERM", "xterm")
        os.execvp(command[0], command)
    writes: list[tuple[float, str]] = []
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    while True:
        try:
            piece = os.read(terminal, 65536)
        except OSError:  # Linux: the other end was closed
            break
        if not piece:
            break
        writes.append((time.monotonic() - started, decoder.decode(piece)))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), writes


def texts(writes: list[tuple[float, str]]) -> list[tuple[float, str]]:
    """Return the lines that appeared, each once for as long as only its figures change."""
    found: list[tuple[float, str]] = []
    words: list[str] = []
    for seconds, written in writes:
        for line in re.split(r"[\r\n]+", CONTROL.sub("", written)):
            text = MOVES.sub("", MOVES.sub("", line.strip()))
            key = FIGURES.sub(" ", text)
            recent = words[-1:] if line.strip()[:1] in SPINNER else words[-_SAME:]
            if text and key not in recent:
                found.append((seconds, text))
                words.append(key)
    return found


def main() -> int:
    """Run and report."""
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    code, writes = record(sys.argv[1:])
    times = [seconds for seconds, _ in writes]
    shown = texts(writes)
    for seconds, text in shown:
        print(f"{seconds:8.2f}  {text[:110]}")
    print(f"\nexit code {code}; first output after {times[0] if times else float('nan'):.2f} s")
    gaps = [(after - before, before) for before, after in zip([0.0, *times], times, strict=False)]
    for gap, before in sorted(gaps, reverse=True)[:5]:
        print(f"nothing was written for {gap:.2f} s from {before:.2f} s on")
    for (begun, text), (ended, _) in itertools.pairwise(shown):
        if ended - begun >= LONG:
            print(f"{ended - begun:6.1f} s: {text[:100]}")
    return code


if __name__ == "__main__":
    sys.exit(main())
