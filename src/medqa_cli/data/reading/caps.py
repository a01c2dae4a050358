"""How much of a source is read before it is refused: what stands in one row, what a packed file unpacks to, and what a
library may take to read it. The config raises each.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from medqa_cli.confined import Limits
from medqa_cli.errors import InputError

LARGEST_RATIO = 100  # text packs to a fifth or a tenth, a bomb to a thousandth


@dataclass(frozen=True)
class Caps:
    """The largest row and unpacked size, and the memory (all in bytes) and time (in seconds) of a library.

    The defaults are those of the config, which is not imported here: a reader's own process has to start fast.
    """

    row_bytes: int = 4 << 20
    expanded_bytes: int = 128 << 20
    reader_bytes: int = 1 << 30
    reader_seconds: float = 30.0

    @property
    def reader_limits(self) -> Limits:
        """The limits of the process in which a library reads."""
        return Limits(
            self.reader_seconds,
            self.reader_bytes,
            "if you trust it, raise data.max_reader_bytes or data.max_reader_seconds",
        )

    def check_row(self, size: int, place: str) -> None:
        """Check that a row, or what may be one, is no longer than a row may be.

        Args:
            size: in characters, none of which takes less than a byte.
            place: file and line or row.

        Raises:
            InputError: it is.
        """
        if size > self.row_bytes:
            raise InputError(
                f"{place} holds more than {self.row_bytes:,} bytes in one row",
                "check whether it is a table of questions and answers; if it is, raise data.max_row_bytes",
            )


class Expansion:
    """What has been unpacked from one file so far.

    Args:
        path: the packed file.
        shown: its name, for the message.
        caps: the limits.
    """

    def __init__(self, path: Path, shown: str, caps: Caps) -> None:
        self._packed_size = path.stat().st_size
        self._shown = shown
        self._most = max(caps.expanded_bytes, LARGEST_RATIO * self._packed_size)
        self._total = 0

    def add(self, size: int) -> None:
        """Count bytes that were, or are to be, unpacked.

        Raises:
            InputError: there are more than there may be, and over a hundred times as many as in the packed file.
        """
        self._total += size
        if self._total > self._most:
            raise InputError(
                f"{self._shown} unpacks to more than {self._most >> 20:,} MiB from {self._packed_size:,} bytes: "
                "it looks like a bomb",
                "if you trust it, raise data.max_expanded_bytes, or unpack it yourself and name the file or folder",
            )


def capped_lines(text: TextIO, caps: Caps, shown: str) -> Iterator[str]:
    """Yield the lines of an opened file with their ends.

    Raises:
        InputError: a line is longer than a row may be.
    """
    for number in itertools.count(1):
        line = text.readline(caps.row_bytes + 1)
        if not line:
            return
        caps.check_row(len(line), f"{shown}:{number}")
        yield line
