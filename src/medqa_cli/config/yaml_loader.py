"""From a file or a string to a tree of YAML nodes that know their lines.

Does not know any key. Never builds Python objects from the tree, so that tags and nested aliases stay harmless.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from medqa_cli.config.keys import printable, quoted
from medqa_cli.plain_file import odd_kind

MAX_BYTES = 1_000_000

_PREFIX = "tag:yaml.org,2002:"
NULL, BOOL, INT, FLOAT, TEXT, MERGE = (_PREFIX + name for name in ("null", "bool", "int", "float", "str", "merge"))
_PLAIN_TAGS = {NULL, BOOL, INT, FLOAT, TEXT, MERGE, _PREFIX + "seq", _PREFIX + "map"}


class _Loader(yaml.SafeLoader):
    """SafeLoader with the words and numbers that a person expects.

    Differs from YAML 1.1 in: 2e-4 and 1E5 are numbers; 017, 0x1F, 1:30 and 2024-01-01 are text, not an octal number,
    a hexadecimal number, 90 and a date.
    """

    # An own table, never SafeLoader's: that one is shared with every other user of PyYAML in the process.
    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - PyYAML declares it so


_WORDS = {
    NULL: (r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    BOOL: (
        r"^(?:yes|Yes|YES|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF)$",
        list("yYnNtTfFoO"),
    ),
    INT: (r"^[-+]?(?:0|[1-9][0-9_]*)$", list("-+0123456789")),
    FLOAT: (
        r"^(?:[-+]?(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$",
        list("-+0123456789."),
    ),
    MERGE: (r"^<<$", ["<"]),
}
for _tag, (_pattern, _first) in _WORDS.items():
    _Loader.add_implicit_resolver(_tag, re.compile(_pattern), _first)


class UnreadableError(Exception):
    """The text is no single YAML document. ``place`` is "", ":LINE" or ":LINE:COLUMN"."""

    def __init__(self, message: str, place: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.place = place
        self.hint = hint


@dataclass(frozen=True)
class Item:
    """One ``key: value`` of a mapping."""

    name: str
    line: int
    value: Node
    repeated: bool


def line_of(node: Node) -> int:
    """Return the line, counted from 1, on which the node starts; behind an alias it is the anchor's line."""
    return int(node.start_mark.line) + 1


def read_text(path: Path) -> str:
    """Return the text of a configuration file.

    Raises:
        UnreadableError: it is missing, no file, too large, or not UTF-8.
    """
    if kind := odd_kind(path):
        raise UnreadableError(f"is {kind}, expected a YAML file", hint="copy its content to a file and name that")
    try:
        with open(path, "rb") as file:
            # Bounded before anything is parsed: a wrong path may be a model of many gigabytes.
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise UnreadableError(
            "there is no such file",
            hint=f"check the path of --config, or write one there: medqa config init --out {shlex.quote(str(path))}",
        ) from error
    except IsADirectoryError as error:
        raise UnreadableError(
            "is a folder, expected a YAML file", hint=f"try --config {path / 'medqa.yaml'}"
        ) from error
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise UnreadableError(f"cannot be read: {reason}", hint="check the path and its permissions") from error
    if len(data) > MAX_BYTES:
        raise UnreadableError(
            f"is larger than {MAX_BYTES:,} bytes, so it is no medqa configuration", hint="check the path of --config"
        )
    return _decode(data)


def _decode(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UnreadableError(
            f"is not UTF-8 text (byte 0x{data[error.start]:02x})", f":{line}", "save the file in the encoding UTF-8"
        ) from error


def compose(text: str) -> Node | None:
    """Return the tree of the one document in ``text``; None if there is nothing but comments.

    Raises:
        UnreadableError: it is no YAML, several documents, or nested too deeply.
    """
    try:
        return _Loader(text).get_single_node()
    except yaml.MarkedYAMLError as error:
        raise _explain(error) from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        code = error.character if isinstance(error.character, int) else ord(error.character)
        raise UnreadableError(f"holds the control character U+{code:04X}; remove it", f":{line}") from error
    except RecursionError as error:
        raise UnreadableError("is nested too deeply; the configuration has two levels") from error


def plain_tag(text: str) -> str:
    """Return the tag that ``text`` has here when it is written without quotes."""
    return _resolve(_Loader, text)


def is_text_everywhere(text: str) -> bool:
    """Return whether ``text`` without quotes is text to medqa and to readers of YAML 1.1."""
    return plain_tag(text) == TEXT and _resolve(yaml.SafeLoader, text) == TEXT


def _resolve(loader: type[yaml.SafeLoader], text: str) -> str:
    return str(loader("").resolve(ScalarNode, text, (True, False)))  # type: ignore[no-untyped-call]


def _explain(error: yaml.MarkedYAMLError) -> UnreadableError:
    mark = error.problem_mark or error.context_mark
    place = f":{mark.line + 1}:{mark.column + 1}" if mark is not None else ""
    problem = error.problem or "no reason given"
    if problem == "but found another document":
        return UnreadableError("a second document begins here (---); keep one document", place)
    advice = ""
    if "'\\t'" in problem:
        advice = "; indent with spaces, YAML allows no tabs"
    elif "undefined alias" in problem:
        advice = "; a text that starts with * needs quotes"
    elif "mapping values are not allowed" in problem:
        advice = '; check the indentation, and put a text that holds ": " in quotes'
    elif "cannot start any token" in problem:
        advice = "; put the text in quotes"
    context = f"{error.context}, " if error.context else ""
    return UnreadableError(f"not valid YAML: {context}{problem}{advice}", place)


def items(node: MappingNode, prefix: str, report: Callable[[int, str], None]) -> list[Item]:
    """Return the entries of a mapping; report keys that are no text, merge keys and repeated keys.

    Args:
        node: the mapping.
        prefix: what stands before its keys in messages, e.g. ``train.``.
        report: called with a line and a message for each problem.
    """
    found = []
    first_lines: dict[str, int] = {}
    for key, value in node.value:
        line = line_of(key)
        if key.tag == MERGE:
            report(line, f"{prefix}<< (a YAML merge key) is not supported; write the keys out")
        elif key.tag != TEXT:
            report(line, f"a key must be text, got {shown(key)} in {prefix.rstrip('.') or 'the top level'}")
        else:
            repeated = key.value in first_lines
            if repeated:
                first = first_lines[key.value]
                report(line, f"{prefix}{printable(key.value)} is set twice (first on line {first})")
            first_lines.setdefault(key.value, line)
            found.append(Item(key.value, line, value, repeated))
    return found


def foreign_tag(node: Node) -> str | None:
    """Return the node's tag as a person wrote it if it is none of plain YAML's."""
    if node.tag in _PLAIN_TAGS:
        return None
    return printable(str(node.tag).replace(_PREFIX, "!!"))


def shown(node: Node) -> str:
    """Return what a message says that it got; never walks into lists and mappings."""
    if isinstance(node, SequenceNode):
        return "a list"
    if not isinstance(node, ScalarNode):
        return "a mapping"
    if node.tag == TEXT:
        return quoted(node.value)
    if node.tag == NULL:
        return "null" if node.value else "nothing"
    if node.tag == BOOL and node.value.lower() not in ("true", "false"):
        return f"{node.value}, which YAML reads as {str(truth(node)).lower()}"
    return printable(node.value)


def truth(node: ScalarNode) -> bool:
    """Return the value of a node with the tag of a boolean."""
    return node.value.lower() in ("yes", "true", "on")


def is_null(node: Node | None) -> bool:
    """Return whether nothing, or an explicit null, stands there."""
    return node is None or (isinstance(node, ScalarNode) and node.tag == NULL)


def scalar(node: ScalarNode) -> Any:
    """Return the plain value of a scalar; the text itself where an explicit tag does not fit it."""
    if node.tag == NULL:
        return None
    if node.tag == BOOL:
        return truth(node)
    written = node.value.replace("_", "").lower()
    try:
        if node.tag == INT:
            return int(written)
        if node.tag == FLOAT:
            return float(written.replace(".inf", "inf").replace(".nan", "nan"))
    except ValueError:
        # More digits than Python converts, or something like `!!int three`.
        return node.value
    return node.value
