"""Read YAML into plain data that remembers the node and the line of each value, within fixed limits.

Reads YAML 1.2 numbers, and booleans as YAML 1.1. Never builds Python objects; collects all problems.
"""

import json
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from yaml.error import Mark
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from medqa_cli.config.schema import MAX_LIST_ITEMS
from medqa_cli.files import odd_kind

MAX_BYTES = 1_000_000
# Aliases multiply what a file holds. The configuration has two levels, and lists of mappings below them.
MAX_VALUES, MAX_DEPTH = 100_000, 4
_SHOWN_CHARACTERS = 60

KeyPath = tuple[str | int, ...]

_PREFIX = "tag:yaml.org,2002:"
NULL, BOOL, INT, FLOAT, TEXT, MERGE = (_PREFIX + name for name in ("null", "bool", "int", "float", "str", "merge"))
_PLAIN_TAGS = {NULL, BOOL, INT, FLOAT, TEXT, MERGE, _PREFIX + "seq", _PREFIX + "map"}


class _Loader(yaml.SafeLoader):
    """SafeLoader with the words and numbers that a person expects.

    Differs from YAML 1.1 in: 2e-4 and 1E5 are numbers; 017, 0x1F, 1:30 and 2024-01-01 are text, not an octal number,
    a hexadecimal number, 90 and a date.
    """

    # A table of its own: SafeLoader's is shared with every other user of PyYAML in the process.
    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - PyYAML declares it so


for _tag, _pattern, _first in (
    (NULL, r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    (BOOL, r"^(?:yes|Yes|YES|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF)$", list("yYnNtTfFoO")),
    (INT, r"^[-+]?(?:0|[1-9][0-9_]*)$", list("-+0123456789")),
    (
        FLOAT,
        r"^(?:[-+]?(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$",
        list("-+0123456789."),
    ),
    (MERGE, r"^<<$", ["<"]),
):
    _Loader.add_implicit_resolver(_tag, re.compile(_pattern), _first)


class UnreadableError(Exception):
    """The text is not a single YAML document. ``location`` is "", ":LINE" or ":LINE:COLUMN"."""

    def __init__(self, message: str, location: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.location = location
        self.hint = hint


@dataclass
class Document:
    """Plain data, and the node and line of each value.

    Attributes:
        value: dicts, lists and scalars; None for a value with a problem.
        nodes: the YAML node at each path.
        lines: the line of each path, counted from 1: that of its key, or of the item of a list.
        problems: at each path and line what is wrong with its YAML.
        size: how many values there are, those behind aliases once for each alias.
    """

    value: Any = None
    nodes: dict[KeyPath, Node] = field(default_factory=dict)
    lines: dict[KeyPath, int] = field(default_factory=dict)
    problems: dict[tuple[KeyPath, int], str] = field(default_factory=dict)
    size: int = 0

    def add(self, node: Node, path: KeyPath, line: int) -> Any:
        """Return the plain value of the node at ``path``, including all below it.

        Raises:
            UnreadableError: there are more values than in any configuration.
        """
        self.size += 1
        if self.size > MAX_VALUES:
            raise UnreadableError(f"holds more than {MAX_VALUES:,} values, so it is not a medqa configuration")
        # Of a key that is set twice the first value counts.
        self.nodes.setdefault(path, node)
        self.lines.setdefault(path, line)
        if (tag := foreign_tag(node)) is not None:
            self._report(path, line, f"{dotted(path)} has the YAML tag {tag}; remove it, only plain values are read")
        elif isinstance(node, ScalarNode):
            value = scalar(node)
            if not isinstance(value, str) or not _unwritable(value):
                return value
            self._report(path, line, f"{dotted(path)} holds a character that no file can hold, got {shown(node)}")
        elif len(path) >= MAX_DEPTH:
            return {} if isinstance(node, MappingNode) else []  # of the wrong type, whatever is in it
        elif isinstance(node, SequenceNode):
            return self._list(node, path, line)
        elif isinstance(node, MappingNode):
            return self._mapping(node, path)
        return None

    def rename(self, old: str, new: str) -> None:
        """Move a section to its right name, under what is there already."""
        moved, there = self.value.pop(old), self.value.get(new, {})
        self.value[new] = {**moved, **there} if isinstance(there, dict) else there

        def renamed(path: KeyPath) -> KeyPath:
            return (new, *path[1:]) if path[:1] == (old,) else path

        self.nodes = {renamed(path): node for path, node in self.nodes.items()} | self.nodes
        self.lines = {renamed(path): line for path, line in self.lines.items()} | self.lines
        self.problems = {(renamed(path), line): message for (path, line), message in self.problems.items()}

    def _list(self, node: SequenceNode, path: KeyPath, line: int) -> list[Any] | None:
        if len(node.value) > MAX_LIST_ITEMS:
            entries = f"{MAX_LIST_ITEMS} entries, got {len(node.value)}"
            self._report(path, line, f"{dotted(path) or 'the file'} must hold at most {entries}")
            return None
        items: list[Any] = []
        seen = set()
        for index, child in enumerate(node.value):
            at, line = (*path, index), line_of(child)
            items.append(self.add(child, at, line))
            if isinstance(child, ScalarNode):
                if (child.tag, child.value) in seen:
                    self._report(
                        at, line, f"{dotted(at)} repeats {printable(child.value)}, which the list holds already"
                    )
                seen.add((child.tag, child.value))
        return items

    def _mapping(self, node: MappingNode, path: KeyPath) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key, child in node.value:
            line, at = line_of(key), (*path, str(key.value) if isinstance(key, ScalarNode) else "")
            if key.tag == MERGE:
                problem = f"{dotted(at)} (a YAML merge key) is not supported; write the keys out"
            elif key.tag != TEXT or not isinstance(key, ScalarNode):
                problem = f"a key must be text, got {shown(key)} in {dotted(path) or 'the top level'}"
            elif _unwritable(key.value):
                problem = f"{dotted(at)} holds a character that no file can hold"
            elif key.value in values:
                problem = f"{dotted(at)} is set twice (first on line {self.lines[at]})"
                again = self.add(child, at, line)
                if isinstance(again, dict) and isinstance(values[key.value], dict):
                    values[key.value] = {**again, **values[key.value]}
            else:
                values[key.value] = self.add(child, at, line)
                continue
            self._report(at, line, problem)
        return values

    def _report(self, path: KeyPath, line: int, message: str) -> None:
        self.problems.setdefault((path, line), message)


def parse(text: str, path: KeyPath = ()) -> Document | None:
    """Return the one document in ``text``; None if it holds nothing but comments.

    Args:
        text: YAML.
        path: of the value of the whole text in the configuration.

    Raises:
        UnreadableError: it is not YAML, holds several documents or too much, or is nested too deeply.
    """
    try:
        node = _Loader(text).get_single_node()
    except yaml.MarkedYAMLError as error:
        raise _explain(error) from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        code = error.character if isinstance(error.character, int) else ord(error.character)
        raise UnreadableError(f"holds the control character U+{code:04X}; remove it", f":{line}") from error
    except RecursionError as error:
        raise UnreadableError("is nested too deeply; the configuration has two levels") from error
    return None if node is None else _document(node, path)


def nothing(path: KeyPath) -> Document:
    """Return the document of an empty ``--set KEY=``."""
    mark = Mark("--set", 0, 0, 0, None, 0)
    return _document(ScalarNode(NULL, "", mark, mark), path)


def _document(node: Node, path: KeyPath) -> Document:
    document = Document()
    document.value = document.add(node, path, line_of(node))
    for part in reversed(path):
        document.value = {part: document.value}
    return document


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
            f"is larger than {MAX_BYTES:,} bytes, so it is not a medqa configuration", hint="check the path of --config"
        )
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UnreadableError(
            f"is not UTF-8 text (byte 0x{data[error.start]:02x})", f":{line}", "save the file in the encoding UTF-8"
        ) from error


def line_of(node: Node) -> int:
    """Return the line, counted from 1, on which the node starts; behind an alias it is the anchor's line."""
    return int(node.start_mark.line) + 1


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
    location = f":{mark.line + 1}:{mark.column + 1}" if mark is not None else ""
    problem = error.problem or "no reason given"
    if problem == "but found another document":
        return UnreadableError("a second document begins here (---); keep one document", location)
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
    return UnreadableError(f"not valid YAML: {context}{problem}{advice}", location)


def foreign_tag(node: Node) -> str | None:
    """Return the node's tag as a person wrote it if it is none of plain YAML's."""
    if node.tag in _PLAIN_TAGS:
        return None
    return printable(str(node.tag).replace(_PREFIX, "!!"))


def shown(node: Node) -> str:
    """Return a value as messages show it; lists and mappings are only named."""
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


def dotted(path: KeyPath) -> str:
    """Return a path as a person writes it, e.g. ``eval.multiple_choice[0].name``."""
    parts = [f"[{part}]" if isinstance(part, int) else f".{printable(part)}" for part in path]
    return "".join(parts).removeprefix(".")


def printable(name: str) -> str:
    """Return a name from the user's file as it can be shown: short, and without control characters."""
    if len(name) > _SHOWN_CHARACTERS:
        name = name[:_SHOWN_CHARACTERS] + "…"
    return name if name.isprintable() and name and name == name.strip() else json.dumps(name, ensure_ascii=False)


def quoted(text: str) -> str:
    """Return a text value in double quotes, shortened, without control characters."""
    text = text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…"
    return json.dumps(text, ensure_ascii=not text.isprintable())


def _unwritable(text: str) -> bool:
    return any(character == "\0" or "\ud800" <= character <= "\udfff" for character in text)
