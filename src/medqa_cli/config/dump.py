"""The resolved configuration as YAML and as plain values (and, from ``schema``, the JSON Schema).

Does not print and does not write files.
"""

from __future__ import annotations

import re
import types
from dataclasses import asdict, is_dataclass
from typing import Any

import yaml

from medqa_cli.config.json_schema import json_schema
from medqa_cli.config.keys import KEYS, keys_of
from medqa_cli.config.load import Loaded
from medqa_cli.config.schema import SECTIONS, Config
from medqa_cli.config.values import members
from medqa_cli.config.yaml_loader import is_text_everywhere

__all__ = ["json_schema", "resolved_dict", "resolved_yaml", "written"]

# A longer value pushes its own comment to the right, not everybody's.
_COMMENT_COLUMN_LIMIT = 60
_PLAIN_TEXT = re.compile(r"[A-Za-z_./][A-Za-z0-9_./-]*")


def resolved_yaml(loaded: Loaded) -> str:
    """Return the configuration as YAML that loads to the same values, with the source of each in a comment."""
    rows: list[tuple[str, str]] = []
    for name in keys_of(Config):
        value = getattr(loaded.config, name)
        if name in SECTIONS:
            rows += [("", ""), (f"{name}:", "")]
            rows += [_row(f"{name}.{key}", getattr(value, key), loaded, "  ") for key in keys_of(type(value))]
        else:
            rows.append(_row(name, value, loaded, ""))
    column = max(len(text) for text, source in rows if source and len(text) <= _COMMENT_COLUMN_LIMIT)
    lines = [f"{text:{column}}  # {source}" if source else text for text, source in rows]
    return "\n".join(lines) + "\n"


def resolved_dict(loaded: Loaded) -> dict[str, Any]:
    """Return ``{"config": nested values, "sources": {dotted key: source}}`` with nothing but what JSON knows."""
    return {"config": _plain(asdict(loaded.config)), "sources": dict(loaded.sources)}


def _row(dotted: str, value: Any, loaded: Loaded, indent: str) -> tuple[str, str]:
    key = KEYS[dotted]
    # A comment ends at the end of its line, and the name of a file may hold anything.
    source = "".join(character if character.isprintable() else "?" for character in loaded.sources[dotted])
    return f"{indent}{dotted.rpartition('.')[2]}: {written(value, types.NoneType in members(key.type))}", source


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value


def written(value: Any, nullable: bool = False) -> str:
    """Return a value as YAML on one line, as every YAML reader takes it; ``nullable``: its key takes null as well."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        # YAML 1.1 readers take 1e-05 for text, 1.0e-05 for a number.
        mantissa, exponent, power = repr(value).partition("e")
        return mantissa + (".0" if exponent and "." not in mantissa else "") + exponent + power
    if isinstance(value, str):
        return _written_text(value, nullable)
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_written_text(name)}: {written(inner)}" for name, inner in value.items()) + "}"
    if isinstance(value, tuple):
        return "[" + ", ".join(written(inner) for inner in value) + "]"
    return str(value)


def _written_text(text: str, nullable: bool = False) -> str:
    if _PLAIN_TEXT.fullmatch(text) and is_text_everywhere(text) and not (nullable and text.lower() == "none"):
        return text
    dumped: str = yaml.safe_dump(text, default_style='"', width=float("inf"), allow_unicode=True)
    return dumped.rstrip("\n")
