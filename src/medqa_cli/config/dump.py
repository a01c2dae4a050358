"""Write a configuration as YAML, with the source of each value, and as plain values."""

from __future__ import annotations

import re
from dataclasses import asdict, is_dataclass
from typing import Any

import yaml

from medqa_cli.config.load import Loaded
from medqa_cli.config.schema import KEYS, is_nullable
from medqa_cli.config.yaml_loader import is_text_everywhere

# A longer value pushes its own comment to the right, not everybody's.
_COMMENT_COLUMN_LIMIT = 60
_PLAIN_TEXT = re.compile(r"[A-Za-z_./][A-Za-z0-9_./-]*")


def resolved_yaml(loaded: Loaded) -> str:
    """Return the configuration as YAML that loads to the same values, with the source of each in a comment."""
    rows: list[tuple[str, str]] = []
    values = _plain(loaded.config)
    current = ""
    for dotted in KEYS:
        section, _, name = dotted.rpartition(".")
        if section != current:
            rows += [("", ""), (f"{section}:", "")]
            current = section
        value = values[section][name] if section else values[name]
        # A comment ends at the end of its line, and the name of a file may hold anything.
        source = "".join(character if character.isprintable() else "?" for character in loaded.sources[dotted])
        rows.append((f"{'  ' if section else ''}{name}: {written(value, is_nullable(dotted))}", source))
    column = max(len(text) for text, source in rows if source and len(text) <= _COMMENT_COLUMN_LIMIT)
    lines = [f"{text:{column}}  # {source}" if source else text for text, source in rows]
    return "\n".join(lines) + "\n"


def resolved_dict(loaded: Loaded) -> dict[str, Any]:
    """Return ``{"config": nested values, "sources": {dotted key: source}}`` with nothing but what JSON knows."""
    return {"config": _plain(loaded.config), "sources": dict(loaded.sources)}


def _plain(value: Any) -> Any:
    """Return a value in what JSON knows."""
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value))
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value


def written(value: Any, nullable: bool = False) -> str:
    """Return a value as YAML on one line, as every YAML reader takes it; ``nullable``: its key takes null as well."""
    if isinstance(value, str) and nullable and value.lower() == "none":
        return f'"{value}"'
    dumped = yaml.dump(
        _plain(value), Dumper=_Dumper, default_flow_style=True, width=float("inf"), allow_unicode=True, sort_keys=False
    )
    return str(dumped).removesuffix("...\n").rstrip("\n")


class _Dumper(yaml.SafeDumper):
    """SafeDumper that quotes every text that any YAML reader takes for something else."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_str(self, data: str) -> yaml.ScalarNode:
        plain = _PLAIN_TEXT.fullmatch(data) and is_text_everywhere(data)
        return self.represent_scalar("tag:yaml.org,2002:str", data, style=None if plain else '"')


_Dumper.add_representer(str, _Dumper.represent_str)
