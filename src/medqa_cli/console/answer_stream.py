"""Writes an answer to stdout while it is made."""

from __future__ import annotations

import shutil
import sys

from rich.cells import cell_len

from medqa_cli.terminal_text import printable


def stream(text: str) -> None:
    """Write a piece of an answer to stdout at once, without a newline."""
    sys.stdout.write(printable(text))
    sys.stdout.flush()


class AnswerStream:
    """Writes pieces of an answer to stdout as they come; on a terminal no word is broken at its edge.

    The width is asked for at each word, so that a resized window counts at once.
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
        for character in printable(piece):
            if character.isspace():
                self._put_word()
                self._put_space(character)
            else:
                self._word += character
                if cell_len(character) > 1:
                    # Scripts of wide characters have no spaces: a line may end after each.
                    self._put_word()
        sys.stdout.flush()

    def end(self) -> None:
        """Show what waits, and end the line."""
        self._put_word()
        self._column, self._space = 0, ""
        sys.stdout.write("\n")
        sys.stdout.flush()

    def _put_space(self, character: str) -> None:
        if character == "\n":
            sys.stdout.write("\n")
            self._column, self._space = 0, ""
        else:
            self._space += " " if character == "\t" else character

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
