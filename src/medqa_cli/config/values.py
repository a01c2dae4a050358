"""From one YAML node to the value of one key: types, choices, ranges, and what to say when they do not fit.

Does not know sections, files or overrides: see ``load``.
"""

from __future__ import annotations

import math
import os
import types
from collections.abc import Callable, Sequence
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, Final, Literal, TypeVar, Union, get_args, get_origin

from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from medqa_cli.config.keys import Key, closest, keys_of
from medqa_cli.config.yaml_loader import (
    TEXT,
    foreign_tag,
    is_null,
    items,
    line_of,
    plain_tag,
    scalar,
    shown,
)

Report = Callable[[int | None, str, str], None]
"""Takes a line (None: that of the key), what follows the key's name ("[1]", ".whitespace") and a message."""

INVALID: Final = object()
# Far above any model; keeps the search for repeated entries, which is quadratic, short on a wrong file.
MAX_LIST_ITEMS = 1000

_SECTION = TypeVar("_SECTION")


def members(expected: Any) -> tuple[Any, ...]:
    """Return the alternatives of a type, e.g. ``(str, NoneType)`` of ``str | None``."""
    return get_args(expected) if get_origin(expected) in (Union, types.UnionType) else (expected,)


def literals(expected: Any) -> tuple[str, ...]:
    """Return the words that a type lists, over all its alternatives."""
    return tuple(word for one in members(expected) if get_origin(one) is Literal for word in get_args(one))


def convert(node: Node, key: Key, words: Sequence[str], report: Report) -> Any:
    """Return the value of a key, or INVALID after reporting what is wrong with it.

    Args:
        node: what stands behind the key.
        key: its declaration.
        words: the names that a later check will allow, only used to word the advice.
        report: called once for each problem.
    """
    value = _read(node, key.type, words, report, "", key.may_be_blank)
    if value is INVALID:
        return INVALID
    problem = _range_problem(value, key.bounds)
    if problem is not None:
        report(None, "", problem)
        return INVALID
    return _at_home(value) if key.is_path else value


def _at_home(value: Any) -> Any:
    """Return paths with the home folder in the place of ``~``, which no shell has seen here."""
    if isinstance(value, tuple):
        return tuple(map(_at_home, value))
    # Not pathlib's: that one fails on ~NAME of nobody, and rewrites names that are no paths.
    return os.path.expanduser(value) if isinstance(value, str) else value  # noqa: PTH111


def _read(node: Node, expected: Any, words: Sequence[str], report: Report, suffix: str, may_be_blank: bool) -> Any:
    line = line_of(node) if suffix else None
    tag = foreign_tag(node)
    if tag is not None:
        report(line, suffix, f"has the YAML tag {tag}; remove it, only plain values are read")
        return INVALID
    for one in members(expected):
        if isinstance(node, SequenceNode) and get_origin(one) is tuple:
            return _read_list(node, get_args(one)[0], report, suffix)
        if isinstance(node, MappingNode) and get_origin(one) is dict:
            return _read_names(node, get_args(one)[1], report, suffix)
        if isinstance(node, MappingNode) and is_dataclass(one) and isinstance(one, type):
            return _read_section(node, one, report, suffix)
    value: Any = INVALID
    problem: str | None = f"must be {describe(expected)}, got {shown(node)}{_advice(node, expected, words)}"
    if isinstance(node, ScalarNode) and (value := _match(node, expected)) is not INVALID:
        problem = _scalar_problem(node, value, expected, may_be_blank)
    if problem is not None:
        report(line, suffix, problem)
        return INVALID
    return value


def _match(node: ScalarNode, expected: Any) -> Any:
    value = scalar(node)
    for one in members(expected):
        if (one is types.NoneType and value is None) or (one in (bool, int, str) and type(value) is one):
            return value
        if get_origin(one) is Literal and isinstance(value, str) and value in get_args(one):
            return value
        if one is float and type(value) in (int, float):
            return _as_float(value)
    return INVALID


def _as_float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _scalar_problem(node: ScalarNode, value: Any, expected: Any, may_be_blank: bool) -> str | None:
    if isinstance(value, float) and not math.isfinite(value):
        return f"must be a finite number, got {shown(node)}"
    if not isinstance(value, str) or value in literals(expected):
        return None
    nullable = types.NoneType in members(expected)
    if not value.strip() and not may_be_blank:
        return "must not be empty" + ("; write null for no value" if nullable else "")
    if any(character == "\0" or "\ud800" <= character <= "\udfff" for character in value):
        return f"holds a character that no file can hold, got {shown(node)}"
    if nullable and node.style is None and value.lower() == "none":
        return f'is the word {value}, not null; write null for no value, or "{value}" in quotes for the word'
    return None


def _read_list(node: SequenceNode, item_type: Any, report: Report, suffix: str) -> Any:
    is_section = is_dataclass(item_type)
    if not node.value and not is_section:
        report(None, suffix, "must not be an empty list")
        return INVALID
    if len(node.value) > MAX_LIST_ITEMS:
        report(None, suffix, f"must hold at most {MAX_LIST_ITEMS} entries, got {len(node.value)}")
        return INVALID
    found: list[Any] = []
    valid = True
    for index, child in enumerate(node.value):
        value = _read(child, item_type, (), report, f"{suffix}[{index}]", False)
        if value is INVALID:
            valid = False
        elif not is_section and value in found:
            report(line_of(child), f"{suffix}[{index}]", f"repeats {value}, which the list holds already")
            valid = False
        else:
            found.append(value)
    return tuple(found) if valid else INVALID


def _read_names(node: MappingNode, value_type: Any, report: Report, suffix: str) -> Any:
    found = {}
    valid = True

    def report_item(line: int, message: str) -> None:
        nonlocal valid
        valid = False
        report(line, f"{suffix}:", message)

    for item in items(node, "", report_item):
        value = _read(item.value, value_type, (), report, f"{suffix}.{item.name}", False)
        valid = valid and value is not INVALID
        found[item.name] = value
    return found if valid else INVALID


def _read_section(node: MappingNode, section: type[_SECTION], report: Report, suffix: str) -> Any:
    keys = keys_of(section)
    found = {}
    valid = True

    def report_item(line: int, message: str) -> None:
        nonlocal valid
        valid = False
        report(line, f"{suffix}:", message)

    for item in items(node, "", report_item):
        if item.name not in keys:
            near = closest(item.name, keys)
            report_item(item.line, f"has the unknown key {item.name}" + (f"; did you mean {near}?" if near else ""))
            continue
        value = _read(item.value, keys[item.name].type, (), report, f"{suffix}.{item.name}", False)
        valid = valid and value is not INVALID
        found[item.name] = _at_home(value) if keys[item.name].is_path else value
    for missing in (name for name in keys if name not in found):
        report_item(line_of(node), f"lacks the key {missing}")
    return section(**found) if valid else INVALID


def _range_problem(value: Any, bounds: dict[str, float]) -> str | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    holds = {
        "at_least": lambda bound: value >= bound,
        "above": lambda bound: value > bound,
        "at_most": lambda bound: value <= bound,
        "below": lambda bound: value < bound,
    }
    if all(holds[name](bound) for name, bound in bounds.items()):
        return None
    wanted = " and ".join(f"{name.replace('_', ' ')} {bound}" for name, bound in bounds.items())
    return f"must be {wanted}, got {value}"


def describe(expected: Any) -> str:
    """Return a type in words, e.g. ``auto or a whole number``."""
    words = literals(expected)
    if len(words) > 1 and len(members(expected)) == 1:
        return f"one of {', '.join(words)}"
    phrases = list(words)
    for one in members(expected):
        phrases.extend(_describe_one(one))
    return " or ".join(filter(None, (", ".join(phrases[:-1]), phrases[-1])))


def _describe_one(one: Any) -> list[str]:
    simple = {str: ["text"], int: ["a whole number"], float: ["a number"], types.NoneType: ["null"]}
    if one in simple:
        return simple[one]
    if one is bool:
        return ["true", "false"]
    if get_origin(one) is Literal:
        return []
    if get_origin(one) is dict:
        return ["a mapping of names to true or false"]
    if get_origin(one) is tuple:
        item = get_args(one)[0]
        return [f"a list of {'names' if item is str else describe(item)}"]
    assert is_dataclass(one)
    required = [field.name for field in fields(one) if field.default_factory is MISSING]
    return [f"a mapping {{{', '.join(required)}}}"]


def _advice(node: Node, expected: Any, words: Sequence[str]) -> str:
    """Return what to do about a value of the wrong type, with its leading "; ", or nothing."""
    alternatives = members(expected)
    known = (*literals(expected), *words)
    if isinstance(node, SequenceNode):
        return ""
    if isinstance(node, MappingNode):
        return "; put the text in quotes" if str in alternatives else ""
    assert isinstance(node, ScalarNode)
    value = scalar(node)
    if node.style in ("'", '"') and node.value:
        plain = ScalarNode(plain_tag(node.value), node.value)
        if plain.tag != TEXT and _match(plain, expected) is not INVALID:
            return "; drop the quotes"
    if "none" in known and (value is None or value is False):
        return "; write the word none"
    if str in alternatives and not is_null(node):
        return "; put it in quotes"
    if int in alternatives and isinstance(value, float) and value.is_integer():
        return f"; write {int(value)}"
    if types.NoneType in alternatives and isinstance(value, str) and value.lower() == "none":
        return "; write null for no value"
    return _advice_on_a_word(node, expected, known)


def _advice_on_a_word(node: ScalarNode, expected: Any, known: Sequence[str]) -> str:
    if node.tag != TEXT:
        return ""
    item = next((get_args(one)[0] for one in members(expected) if get_origin(one) is tuple), None)
    if item is not None and node.value in literals(item):
        return f"; write [{node.value}]"
    near = closest(node.value, known)
    if near is not None:
        return f"; did you mean {near}?"
    return f"; write [{node.value}]" if item is str else ""
