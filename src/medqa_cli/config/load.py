"""Read the configuration from a YAML file and ``--set``, or report every problem at once.

Precedence: ``--set`` over the file over the defaults. Files that the configuration names need not exist yet.
"""

from __future__ import annotations

import json
import math
import os
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medqa_cli.config.schema import KEYS, SECTIONS, Config
from medqa_cli.errors import ConfigError
from medqa_cli.spelling import suggestion

if TYPE_CHECKING:
    from medqa_cli.config.yaml_loader import Document

DEFAULT_NAME = "medqa.yaml"
MAX_PROBLEMS = 100
# In the place of a line: problems of overrides are sorted behind those of the file.
_OVERRIDE = math.inf
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
        reading.read_file(path)
    for override in overrides:
        reading.read_override(override)
    config = reading.build()
    if reading.problems:
        problems = [text for _, text in sorted(reading.problems, key=lambda problem: problem[0])]
        if len(problems) >= MAX_PROBLEMS:
            reading.hint = f"these are the first {MAX_PROBLEMS} problems; is it the right file?"
        raise ConfigError(problems[:MAX_PROBLEMS], reading.hint)
    sources = dict.fromkeys(KEYS, "default")
    for key, (origin, line) in reading.origins.items():
        sources[key] = "--set" if line == _OVERRIDE else f"{origin}:{line}"
    return Loaded(config, sources, path)


@dataclass
class _Reading:
    """What has been read so far.

    Attributes:
        values: the valid values, by their dotted key.
        origins: where those were set: the file and the line, or the override as it was written and ``_OVERRIDE``.
        unsure: keys that were set, but whose value is unknown.
        problems: what is wrong, each with the line that sorts it.
        hint: what to do next.
    """

    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[str, tuple[str, float]] = field(default_factory=dict)
    unsure: set[str] = field(default_factory=set)
    problems: list[tuple[float, str]] = field(default_factory=list)
    hint: str = _HINT

    def report(self, origin: str, line: float, message: str) -> None:
        """Keep a problem; ``line`` 0: it concerns the whole file."""
        location = origin if line in (0, _OVERRIDE) else f"{origin}:{line}"
        self.problems.append((line, f"{location}: {message}"))

    def read_file(self, path: Path) -> None:
        """Read a YAML file."""
        from medqa_cli.config.yaml_loader import UnreadableError, foreign_tag, parse, read_text, shown

        file = str(path)
        try:
            document = parse(read_text(path))
        except UnreadableError as error:
            self.report(f"{file}{error.location}", 0, error.message)
            self.hint = error.hint or self.hint
            return
        if document is None or (not document.value and not document.problems and not isinstance(document.value, list)):
            self.report(file, 0, "is empty")
            self.hint = _EMPTY_HINT
        elif isinstance(document.value, dict):
            self._take(document, file, is_file=True)
        else:
            got = foreign_tag(document.nodes[()]) or shown(document.nodes[()])
            self.report(file, document.lines[()], f"the file must hold sections such as model: and train:, got {got}")

    def read_override(self, override: str) -> None:
        """Read ``section.key=value``."""
        from medqa_cli.config.problems import example_of, suggest, unknown_name
        from medqa_cli.config.yaml_loader import UnreadableError, nothing, parse, printable

        dotted, separator, text = override.partition("=")
        dotted = dotted.strip()
        origin = f"--set {printable(override)}"
        whole = next((key for key in KEYS if dotted.startswith(f"{key}.")), None)
        problem, key = "", dotted
        if not separator or not dotted:
            problem = "must have the form section.key=value, e.g. train.learning_rate=1e-4"
            if not separator and "=" in (plain := unicodedata.normalize("NFKC", override)):  # a full-width one
                problem += suggestion(printable(plain))
        elif dotted in SECTIONS:
            problem = f"{dotted} is a section; set one of its keys, e.g. --set {dotted}.{example_of(dotted)}=VALUE"
        elif whole is not None:
            problem, key = (
                f"unknown key {printable(dotted)}; set {whole} as a whole, in YAML: --set '{whole}=...'",
                whole,
            )
        elif dotted not in KEYS:
            section, _, name = dotted.rpartition(".")
            meant = suggest(section, name)
            problem, key = unknown_name(printable(dotted), meant), meant or ""
        else:
            try:
                document = parse(text, tuple(dotted.split(".")))
            except UnreadableError as error:
                problem = f"{dotted}: {error.message}"
            else:
                if document is not None or not text.strip():
                    self._take(document or nothing(tuple(dotted.split("."))), origin, is_file=False)
                    return
                problem = f"{dotted}: the value is only a YAML comment; put it in quotes"
        self.unsure |= {key} & KEYS.keys()
        self.report(origin, _OVERRIDE, problem)

    def _take(self, document: Document, origin: str, *, is_file: bool) -> None:
        """Keep the valid values of a document, and report what is wrong with the others."""
        from medqa_cli.config.problems import find_problems

        for problem in find_problems(document, MAX_PROBLEMS):
            self.report(origin, problem.line if is_file else _OVERRIDE, problem.message)
            self.unsure |= problem.keys
        for key in KEYS:
            section, _, name = key.rpartition(".")
            holder = document.value.get(section) if section else document.value
            if isinstance(holder, dict) and name in holder and key not in self.unsure:
                self.values[key] = holder[name]
                self.origins[key] = origin, document.lines[tuple(key.split("."))] if is_file else _OVERRIDE

    def build(self) -> Config:
        """Return the configuration of the valid values; report keys that do not fit together."""
        from medqa_cli.config.json_schema import adapter
        from medqa_cli.config.problems import check_names, check_together

        nested: dict[str, Any] = {}
        for key, value in self.values.items():
            section, _, name = key.rpartition(".")
            (nested.setdefault(section, {}) if section else nested)[name] = value
        config = adapter().validate_json(json.dumps(nested), strict=True)
        for keys, message in (*check_together(config), *check_names(config)):
            if not self.unsure.intersection(keys):
                self.report(*self.origins[next(key for key in keys if key in self.origins)], message)
        return config
