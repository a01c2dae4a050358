"""Read the configuration from a YAML file and ``--set``, or report every problem at once.

Precedence: ``--set`` over the file over the defaults. Looks at no device, no environment variable and no network, and
does not check that the files exist that the configuration names.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medqa_cli.config.schema import KEYS, SECTIONS, Config
from medqa_cli.errors import ConfigError

if TYPE_CHECKING:
    from medqa_cli.config.yaml_loader import Document

DEFAULT_NAME = "medqa.yaml"
MAX_PROBLEMS = 100
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
    if path is None and not overrides:
        return Loaded(Config(), dict.fromkeys(KEYS, "default"), None)
    reading = _Reading()
    if path is not None:
        _read_file(path, reading)
    for override in overrides:
        _read_override(override, reading)
    config = reading.build()
    reading.check_together(config)
    if reading.problems:
        problems = [text for _, text in sorted(reading.problems, key=lambda problem: problem[0])]
        if len(problems) >= MAX_PROBLEMS:
            reading.hint = f"these are the first {MAX_PROBLEMS} problems; is it the right file?"
        raise ConfigError(problems[:MAX_PROBLEMS], reading.hint)
    sources = {key: reading.places[key].source if key in reading.places else "default" for key in KEYS}
    return Loaded(config, sources, path)


@dataclass(frozen=True)
class _Place:
    """Where a key was set: a file and a line, or an override as it was written (line None)."""

    origin: str
    line: int | None = None

    @property
    def label(self) -> str:
        return f"{self.origin}:{self.line}" if self.line else self.origin

    @property
    def source(self) -> str:
        return "--set" if self.line is None else self.label


@dataclass
class _Reading:
    """What has been read so far.

    Attributes:
        values: the values that are right, by their dotted key.
        places: where those were set.
        unsure: keys that were set, but to what cannot be told.
        problems: what is wrong, each with the line that sorts it.
        hint: what to do next.
    """

    values: dict[str, Any] = field(default_factory=dict)
    places: dict[str, _Place] = field(default_factory=dict)
    unsure: set[str] = field(default_factory=set)
    problems: list[tuple[float, str]] = field(default_factory=list)
    hint: str = _HINT

    def report(self, place: _Place, message: str) -> None:
        # Overrides come last, in their order.
        self.problems.append((float("inf") if place.line is None else place.line, f"{place.label}: {message}"))

    def take(self, document: Document, origin: str, *, is_file: bool) -> None:
        """Keep the values of a document that are right, and report what is wrong with the others."""
        from medqa_cli.config.problems import find_problems

        for problem in find_problems(document, MAX_PROBLEMS):
            self.report(_Place(origin, problem.line if is_file else None), problem.message)
            self.unsure |= problem.keys
        for key, value in _flat(document.value):
            if key in KEYS and key not in self.unsure:
                self.values[key] = value
                self.places[key] = _Place(origin, document.lines[tuple(key.split("."))] if is_file else None)

    def build(self) -> Config:
        """Return the configuration of the values that are right."""
        from medqa_cli.config.json_schema import adapter

        nested: dict[str, Any] = {}
        for key, value in self.values.items():
            section, _, name = key.rpartition(".")
            (nested.setdefault(section, {}) if section else nested)[name] = value
        return adapter().validate_json(json.dumps(nested), strict=True)

    def check_together(self, config: Config) -> None:
        """Report what is wrong between keys, at the first of them that was set."""
        from medqa_cli.config.checks import findings

        for finding in findings(config, self.unsure):
            key = next((key for key in finding.keys if key in self.places), finding.keys[0])
            self.report(self.places[key], finding.message)


def _flat(value: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, inner in value.items():
        if name in SECTIONS and isinstance(inner, dict):
            yield from ((f"{name}.{key}", each) for key, each in inner.items())
        else:
            yield name, inner


def _read_file(path: Path, reading: _Reading) -> None:
    from medqa_cli.config.yaml_loader import UnreadableError, foreign_tag, parse, read_text, shown

    file = str(path)
    try:
        document = parse(read_text(path))
    except UnreadableError as error:
        reading.report(_Place(f"{file}{error.place}", 0), error.message)
        reading.hint = error.hint or reading.hint
        return
    if document is None or (not document.value and not document.problems and not isinstance(document.value, list)):
        reading.report(_Place(file, 0), "is empty")
        reading.hint = _EMPTY_HINT
    elif isinstance(document.value, dict):
        reading.take(document, file, is_file=True)
    else:
        got = foreign_tag(document.nodes[()]) or shown(document.nodes[()])
        reading.report(
            _Place(file, document.lines[()]), f"the file must hold sections such as model: and train:, got {got}"
        )


def _read_override(override: str, reading: _Reading) -> None:
    from medqa_cli.config.problems import example_of, suggest, unknown_name
    from medqa_cli.config.yaml_loader import UnreadableError, nothing, parse, printable

    dotted, separator, text = override.partition("=")
    dotted = dotted.strip()
    place = _Place(f"--set {printable(override)}")
    owner = next((key for key in KEYS if dotted.startswith(f"{key}.")), None)
    if not separator or not dotted:
        reading.report(place, "must have the form section.key=value, e.g. train.learning_rate=1e-4")
    elif dotted in SECTIONS:
        reading.report(
            place, f"{dotted} is a section; set one of its keys, e.g. --set {dotted}.{example_of(dotted)}=VALUE"
        )
    elif owner is not None:
        reading.unsure.add(owner)
        reading.report(place, f"unknown key {printable(dotted)}; set {owner} as a whole, in YAML: --set '{owner}=...'")
    elif dotted not in KEYS:
        section, _, name = dotted.rpartition(".")
        meant = suggest(section, name)
        reading.unsure |= {meant} if meant else set()
        reading.report(place, unknown_name(printable(dotted), meant))
    else:
        path = tuple(dotted.split("."))
        try:
            document = parse(text, path)
        except UnreadableError as error:
            reading.unsure.add(dotted)
            reading.report(place, f"{dotted}: {error.message}")
            return
        if document is None and text.strip():
            reading.unsure.add(dotted)
            reading.report(place, f"{dotted}: the value is only a YAML comment; put it in quotes")
            return
        reading.take(document or nothing(path), place.origin, is_file=False)
