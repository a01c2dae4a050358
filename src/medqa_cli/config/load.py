"""Read the configuration: one YAML file and the ``--set`` overrides, or every problem at once.

Precedence: ``--set`` over the file over the defaults. Has no side effects: looks at no device, no environment variable
and no network, and does not check that the files exist that the configuration names.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from yaml.error import Mark
from yaml.nodes import MappingNode, Node, ScalarNode

from medqa_cli.config.checks import CHOICES, findings
from medqa_cli.config.keys import KEYS, keys_of, printable, suggest
from medqa_cli.config.schema import SECTIONS, Config
from medqa_cli.config.values import INVALID, convert
from medqa_cli.config.yaml_loader import (
    NULL,
    Item,
    UnreadableError,
    compose,
    foreign_tag,
    is_null,
    items,
    line_of,
    read_text,
    shown,
)
from medqa_cli.errors import ConfigError

DEFAULT_NAME = "medqa.yaml"
MAX_PROBLEMS = 100
_NOWHERE = Mark("--set", 0, 0, 0, None, 0)
_HINT = "`medqa config schema` lists every key with its type, range and default"
_EMPTY_HINT = (
    "write one for this machine: medqa config init --force; or by hand, at least a line model: and below it"
    "   name_or_path: HUB_ID_OR_FOLDER"
)


@dataclass(frozen=True)
class Loaded:
    """A configuration and where each value came from.

    Attributes:
        config: the values.
        sources: for each dotted key ``default``, ``FILE:LINE`` or ``--set``.
        path: the file that was read; None if there was none.
    """

    config: Config
    sources: Mapping[str, str]
    path: Path | None


def load(path: Path | None, overrides: Sequence[str] = ()) -> Loaded:
    """Read a configuration.

    Args:
        path: the YAML file; None: ``medqa.yaml`` in the current folder if there is one, else only defaults.
        overrides: ``section.key=value``, the value in YAML; the last one for a key wins.

    Raises:
        ConfigError: the file cannot be read, or any key or value is wrong; it lists all problems by line.
    """
    if path is None and os.path.lexists(DEFAULT_NAME):
        path = Path(DEFAULT_NAME)
    reading = _Reading()
    try:
        if path is not None:
            _read_file(path, reading)
        for override in overrides:
            _read_override(override, reading)
        config = _build(reading.values)
        _check_together(config, reading)
    except _TooManyProblems:
        reading.hint = f"these are the first {MAX_PROBLEMS} problems; is it the right file?"
    if reading.problems:
        raise ConfigError([problem.text for problem in sorted(reading.problems, key=_by_place)], reading.hint)
    sources = {dotted: reading.places[dotted].source if dotted in reading.places else "default" for dotted in KEYS}
    return Loaded(config, sources, path)


@dataclass(frozen=True)
class _Place:
    """Where a key was set: a file and a line, or an override as it was written (line None)."""

    origin: str
    line: int | None = None

    @property
    def label(self) -> str:
        return self.origin if self.line is None else f"{self.origin}:{self.line}"

    @property
    def source(self) -> str:
        return "--set" if self.line is None else self.label


@dataclass(frozen=True)
class _Problem:
    place: _Place
    text: str


class _TooManyProblems(Exception):
    """Stops the work on a file that is nothing but problems, such as a large file of another program."""


@dataclass
class _Reading:
    """What has been read so far."""

    values: dict[str, Any] = field(default_factory=dict)
    places: dict[str, _Place] = field(default_factory=dict)
    unsure: set[str] = field(default_factory=set)
    problems: list[_Problem] = field(default_factory=list)
    hint: str = _HINT

    def report(self, place: _Place, message: str) -> None:
        self.problems.append(_Problem(place, f"{place.label}: {message}"))
        if len(self.problems) >= MAX_PROBLEMS:
            raise _TooManyProblems

    def report_unknown(self, place: _Place, section: str, name: str, value: Node | None) -> None:
        is_mapping = isinstance(value, MappingNode)
        meant = suggest(section, name, is_mapping=is_mapping)
        if meant is not None:
            # Whoever misspelt a key did set it: a check that takes its default for real would mislead.
            self.unsure.add(meant)
        kind = "section" if is_mapping and not section and meant not in KEYS else "key"
        dotted = f"{section}.{name}" if section else name
        self.report(place, f"unknown {kind} {printable(dotted)}" + (f"; did you mean {meant}?" if meant else ""))

    def take(self, dotted: str, node: Node, place: _Place) -> None:
        def report(line: int | None, suffix: str, message: str) -> None:
            inner = place if line is None or place.line is None else _Place(place.origin, line)
            self.report(inner, f"{printable(dotted + suffix)} {message}")

        value = convert(node, KEYS[dotted], CHOICES.get(dotted, ()), report)
        if value is INVALID:
            self.unsure.add(dotted)
        else:
            self.values[dotted], self.places[dotted] = value, place


def _by_place(problem: _Problem) -> tuple[bool, int]:
    return (problem.place.line is None, problem.place.line or 0)


def _read_file(path: Path, reading: _Reading) -> None:
    file = str(path)
    try:
        root = compose(read_text(path))
    except UnreadableError as error:
        reading.problems.append(_Problem(_Place(file, 0), f"{file}{error.place}: {error.message}"))
        reading.hint = error.hint or reading.hint
        return
    if root is None or is_null(root) or (isinstance(root, MappingNode) and not root.value):
        reading.problems.append(_Problem(_Place(file, 0), f"{file}: is empty"))
        reading.hint = _EMPTY_HINT
    elif not isinstance(root, MappingNode) or foreign_tag(root) is not None:
        got = foreign_tag(root) or shown(root)
        reading.report(_Place(file, line_of(root)), f"the file must hold sections such as model: and train:, got {got}")
    else:
        for item in items(root, "", lambda line, message: reading.report(_Place(file, line), message)):
            _read_top(item, file, reading)


def _read_top(item: Item, file: str, reading: _Reading) -> None:
    place = _Place(file, item.line)
    if item.name in SECTIONS:
        _read_section(item.name, item, file, reading)
    elif item.name in KEYS and "." not in item.name:
        if not item.repeated:
            reading.take(item.name, item.value, place)
    elif item.name in KEYS:
        section, _, name = item.name.partition(".")
        reading.unsure.add(item.name)
        reading.report(place, f"unknown key {item.name}; write {name} on a line of its own below {section}:")
    else:
        reading.report_unknown(place, "", item.name, item.value)
        meant = suggest("", item.name, is_mapping=True)
        if isinstance(item.value, MappingNode) and meant in SECTIONS:
            # One report for the section; its keys are still checked as if it were spelt rightly.
            _read_section(meant, item, file, reading)


def _read_section(section: str, item: Item, file: str, reading: _Reading) -> None:
    # All keys of a section may be commented out: then YAML sees nothing behind its name.
    if is_null(item.value):
        return
    if not isinstance(item.value, MappingNode) or foreign_tag(item.value) is not None:
        got = foreign_tag(item.value) or shown(item.value)
        reading.report(
            _Place(file, item.line), f"{section} is a section: it must hold keys such as {_example(section)}, got {got}"
        )
        reading.unsure.update(dotted for dotted in KEYS if dotted.startswith(f"{section}."))
        return
    for inner in items(item.value, f"{section}.", lambda line, message: reading.report(_Place(file, line), message)):
        dotted = f"{section}.{inner.name}"
        if inner.repeated:
            continue
        if dotted in KEYS:
            reading.take(dotted, inner.value, _Place(file, inner.line))
        else:
            reading.report_unknown(_Place(file, inner.line), section, inner.name, inner.value)


def _example(section: str) -> str:
    return next(dotted.partition(".")[2] for dotted in KEYS if dotted.startswith(f"{section}.")) + ":"


def _read_override(override: str, reading: _Reading) -> None:
    dotted, separator, text = override.partition("=")
    dotted = dotted.strip()
    place = _Place(f"--set {printable(override)}")
    if not separator or not dotted:
        reading.report(place, "must have the form section.key=value, e.g. train.learning_rate=1e-4")
    elif dotted in KEYS:
        _take_override(dotted, text, place, reading)
    elif dotted in SECTIONS:
        reading.report(
            place, f"{dotted} is a section; set one of its keys, e.g. --set {dotted}.{_example(dotted)[:-1]}=VALUE"
        )
    else:
        _report_unknown_override(dotted, place, reading)


def _report_unknown_override(dotted: str, place: _Place, reading: _Reading) -> None:
    owner = next((key for key in KEYS if dotted.startswith(f"{key}.")), None)
    if owner is None:
        section, _, name = dotted.rpartition(".")
        reading.report_unknown(place, section, name, None)
    else:
        reading.unsure.add(owner)
        reading.report(place, f"unknown key {printable(dotted)}; set {owner} as a whole, in YAML: --set '{owner}=...'")


def _take_override(dotted: str, text: str, place: _Place, reading: _Reading) -> None:
    try:
        node = compose(text)
    except UnreadableError as error:
        reading.unsure.add(dotted)
        reading.report(place, f"{dotted}: {error.message}")
        return
    if node is None and text.strip():
        reading.unsure.add(dotted)
        reading.report(place, f"{dotted}: the value is only a YAML comment; put it in quotes")
        return
    reading.take(dotted, node or ScalarNode(NULL, "", _NOWHERE, _NOWHERE), place)


def _build(values: Mapping[str, Any]) -> Config:
    tops = keys_of(Config)
    made: dict[str, Any] = {}
    for name, top in tops.items():
        if name in SECTIONS:
            prefix = f"{name}."
            made[name] = top.type(
                **{key[len(prefix) :]: value for key, value in values.items() if key.startswith(prefix)}
            )
        elif name in values:
            made[name] = values[name]
    return Config(**made)


def _check_together(config: Config, reading: _Reading) -> None:
    for finding in findings(config, reading.unsure):
        dotted = next((key for key in finding.keys if key in reading.places), finding.keys[0])
        reading.report(reading.places[dotted], finding.message)
