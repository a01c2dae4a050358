"""The page docs/configuration.md: every key once, written from the dataclasses of ``sections``.

``python tools/configuration_page.py`` writes it anew; a test holds the page equal to this.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import is_dataclass
from typing import Any, get_args, get_origin

from medqa_cli.config.checks import CHOICES, TEMPLATE_SUFFIXES
from medqa_cli.config.dump import written
from medqa_cli.config.keys import KEYS, Key, keys_of
from medqa_cli.config.schema import SECTIONS, Config
from medqa_cli.config.values import describe, literals, members

COMMANDS = ("convert", "train", "merge", "ask", "eval")

_MOST_WORDS_IN_A_CELL = 7
_WIDTH = 120
_INTRODUCTION = """\
# The configuration

<!-- Written by: python tools/configuration_page.py
     Change the texts in src/medqa_cli/config/schema.py, not here. -->

One YAML file, `medqa.yaml` in the current folder or the file of `-c FILE`, with a section for each part of the work.
Only `model.name_or_path` has to be set, and what to convert: `data.source`, or `medqa convert FILE`.

    medqa config init     # write a commented medqa.yaml for this machine
    medqa config check    # say all mistakes at once, each with its line
    medqa config show     # print each value, and where it came from
    medqa config schema   # print a JSON schema, for completion in editors

- `--set section.key=value` overrides the file for one call and can be repeated; the value is YAML.
- Without a `medqa.yaml` and without `-c`, `medqa merge`, `ask` and `eval` take the configuration that the run in
  `run_dir` was trained with.
- Paths are relative to the current folder. Names are those of Transformers and PEFT.
- The defaults are the settings of the original Llama-2-7B run on one GPU with 16 GB. For a small model see
  [the examples](../examples).
- "Used by" names the commands that act on a key. An adapter keeps the prompt that it was trained with, and
  `medqa merge` takes the quantization of the training.
"""
_TOP = """\
## At the top

Keys that belong to no section.
"""


def page() -> str:
    """Return the whole page as Markdown."""
    parts = [_INTRODUCTION, _TOP]
    parts.append(_table([key for dotted, key in KEYS.items() if "." not in dotted], ""))
    for name, top in keys_of(Config).items():
        if name in SECTIONS:
            prefix = f"{name}."
            keys = [key for dotted, key in KEYS.items() if dotted.startswith(prefix)]
            parts += [f"## {name}\n\n{_introduced(top.type)}\n", _table(keys, prefix)]
            parts += [_wrapped(text) for key in keys for text in _below(key)]
    return "\n".join(parts)


def _introduced(section: type) -> str:
    return (section.__doc__ or "").strip().split("\n\n")[0].replace("``", "`")


def _table(keys: Sequence[Key], prefix: str) -> str:
    rows = [("key", "values", "default", "used by", "what it does"), ("---",) * 5]
    rows += [_row(key, prefix) for key in keys]
    return "".join("| " + " | ".join(cells) + " |\n" for cells in rows)


def _row(key: Key, prefix: str) -> tuple[str, str, str, str, str]:
    nullable = type(None) in members(key.type)
    commands = "all" if key.commands == COMMANDS else ", ".join(key.commands)
    name = key.dotted.removeprefix(prefix)
    return f"`{name}`", _values(key), f"`{written(key.default, nullable)}`", commands, _escaped(key.doc)


def _values(key: Key) -> str:
    """Return what may stand there, in words."""
    bounds = " and ".join(f"{name.replace('_', ' ')} {bound}" for name, bound in key.bounds.items())
    return _escaped(_kinds(key).replace("number", f"number ({bounds})") if bounds else _kinds(key))


def _kinds(key: Key) -> str:
    if key.dotted == "prompt.template":
        return f"{', '.join(CHOICES[key.dotted])}, or a path ({', '.join(TEMPLATE_SUFFIXES)})"
    if key.dotted in CHOICES:
        return "a name, see below" if _is_long(CHOICES[key.dotted]) else f"one of {', '.join(CHOICES[key.dotted])}"
    if _is_long(_names_in_list(key)):
        return f"{', '.join(literals(key.type))}, or a list of names, see below"
    return describe(key.type)


def _below(key: Key) -> Iterator[str]:
    """Yield what has no room in the table: long lists of names, and the keys of the entries of a list."""
    names = _names_in_list(key) or CHOICES.get(key.dotted, ())
    if _is_long(names):
        yield f"`{key.dotted}` takes: {', '.join(f'`{name}`' for name in names)}."
    entry = _entry(key)
    if is_dataclass(entry) and isinstance(entry, type):
        told = "; ".join(f"`{name}`: {inner.doc.rstrip('.')}" for name, inner in keys_of(entry).items())
        yield f"An entry of `{key.dotted}` has the keys {told}."


def _names_in_list(key: Key) -> tuple[str, ...]:
    return literals(_entry(key))


def _entry(key: Key) -> Any:
    """Return the type of a list's entries; None where the key takes no list."""
    return next((get_args(one)[0] for one in members(key.type) if get_origin(one) is tuple), None)


def _is_long(names: Sequence[str]) -> bool:
    return len(names) > _MOST_WORDS_IN_A_CELL


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def _wrapped(text: str) -> str:
    return textwrap.fill(text, _WIDTH, break_long_words=False, break_on_hyphens=False) + "\n"
