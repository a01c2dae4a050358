"""JSON text to values, numbers as they are written; a list item by item, however long it is."""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any, TextIO

BLOCK = 1 << 20  # characters
_SPACE = re.compile(r"[ \t\r\n]*")
_DECODER = json.JSONDecoder(parse_int=str, parse_float=str)  # 1.50 is the text "1.50"


def parse_json(text: str) -> Any:
    """Return the value of a JSON text, numbers as they are written; raises what ``json.loads`` raises."""
    return json.loads(text, parse_int=str, parse_float=str)


def stream_list(text: TextIO, check_size: Callable[[int, int], None] = lambda size, line: None) -> Iterator[Any]:
    """Yield the items of a list.

    Args:
        text: the opened file, which begins with ``[`` after white space.
        check_size: called with a number of characters that may all be of one item, and the line where they begin; may
            raise.

    Yields:
        the items, numbers in them as they are written.

    Raises:
        ValueError: the file is no JSON from some place on, which the message names.
        RecursionError: an item is nested too deeply.
    """
    window = _Window(text, check_size)
    window.take("[")
    if window.peek() != "]":
        yield window.item()
        while window.peek() == ",":
            window.take(",")
            yield window.item()
    window.take("]")
    if window.peek():
        raise window.error("Extra data")


class _Window:
    """The part of the file that is being parsed."""

    def __init__(self, text: TextIO, check_size: Callable[[int, int], None]) -> None:
        self._text = text
        self._check_size = check_size
        self._buffer = ""
        self._position = 0
        self._line = 1  # of the buffer's first character
        self._ended = False

    def peek(self) -> str:
        """Return the next character that is no white space, or nothing at the end."""
        while True:
            match = _SPACE.match(self._buffer, self._position)
            self._position = match.end() if match else self._position
            if self._position < len(self._buffer) or self._ended:
                return self._buffer[self._position : self._position + 1]
            self._read_on()

    def take(self, expected: str) -> None:
        """Pass over the next character, which has to be ``expected``."""
        if self.peek() != expected:
            raise self.error(f"Expecting '{expected}'")
        self._position += 1

    def item(self) -> Any:
        """Return the next value."""
        self.peek()
        while True:
            try:
                value, end = _DECODER.raw_decode(self._buffer, self._position)
            except json.JSONDecodeError as error:
                if self._ended:
                    self._position = error.pos
                    raise self.error(error.msg) from error
            else:
                # Of a number, the buffer may hold the first digits only: 1 or even 1. of 1.5.
                if self._ended or (end < len(self._buffer) and self._buffer[end] in ",] \t\r\n"):
                    self._position = end
                    return value
            self._read_on()

    def error(self, message: str) -> ValueError:
        """Return an error that names the line."""
        line = self._line + self._buffer.count("\n", 0, self._position)
        return ValueError(f"{message} (line {line})")

    def _read_on(self) -> None:
        """Drop what was parsed, and double the rest: a long item is then parsed again only a few times."""
        self._line += self._buffer.count("\n", 0, self._position)
        rest = self._buffer[self._position :]
        self._check_size(len(rest), self._line)
        block = self._text.read(max(BLOCK, len(rest)))
        self._buffer, self._position, self._ended = rest + block, 0, not block
