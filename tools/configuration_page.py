"""Write docs/configuration.md from the declarations in src/medqa_cli/config/schema.py; a test holds the page equal.

python tools/configuration_page.py
"""

import dataclasses
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from medqa_cli.config.dump import written
from medqa_cli.config.json_schema import bounds_of, describe, options, schema_at, words
from medqa_cli.config.schema import KEYS, SECTIONS, TEMPLATE_SUFFIXES, TEMPLATES, Config, is_nullable

PAGE = Path(__file__).resolve().parents[1] / "docs/configuration.md"
COMMANDS = ("convert", "train", "merge", "ask", "eval", "review", "serve")

_MOST_WORDS_IN_A_CELL = 7
_WIDTH = 120
_INTRODUCTION = """\
# The configuration

<!-- Written by: python tools/configuration_page.py
     Change the texts in src/medqa_cli/config/schema.py, not here. -->

One YAML file, `medqa.yaml` in the current folder or the file of `-c FILE`, with a section for each part of the work.
Only `model.name_or_path` has to be set, and what to convert: `data.source`, or `medqa convert FILE`.

    medqa config init     # write a commented medqa.yaml for this machine
    medqa config check    # list all problems at once, each with its line
    medqa config show     # print each value, and where it came from
    medqa config schema   # print a JSON schema, for completion in editors

- `--set section.key=value` overrides the file for one call and can be repeated; the value is YAML.
- Without a `medqa.yaml` and without `-c`, `medqa merge`, `ask`, `eval`, `review` and `serve` take the configuration of
  the run in `run_dir`.
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
    parts = [_INTRODUCTION, _TOP, _table([key for key in KEYS if "." not in key])]
    for section, type_ in SECTIONS.items():
        keys = [key for key in KEYS if key.startswith(f"{section}.")]
        introduction = (type_.__doc__ or "").strip().split("\n\n")[0].replace("``", "`")
        parts += [f"## {section}\n\n{introduction}\n", _table(keys)]
        parts += [_wrapped(text) for key in keys for text in _below(key)]
    return "\n".join(parts)


def commands_of(dotted: str) -> tuple[str, ...]:
    """Return the commands that use a key: those of its section if it names none."""
    named: tuple[str, ...] = KEYS[dotted].metadata["commands"]
    tops = {top.name: top for top in dataclasses.fields(Config)}
    return named or tops[dotted.partition(".")[0]].metadata["commands"]


def _table(keys: Sequence[str]) -> str:
    rows = [("key", "values", "default", "used by", "what it does"), ("---",) * 5, *map(_row, keys)]
    return "".join("| " + " | ".join(cells) + " |\n" for cells in rows)


def _row(dotted: str) -> tuple[str, str, str, str, str]:
    value: Any = Config()
    for name in dotted.split("."):
        value = getattr(value, name)
    commands = commands_of(dotted)
    return (
        f"`{dotted.rpartition('.')[2]}`",
        _escaped(_values(dotted)),
        f"`{written(value, is_nullable(dotted))}`",
        "all" if commands == COMMANDS else ", ".join(commands),
        _escaped(KEYS[dotted].metadata["description"]),
    )


def _values(dotted: str) -> str:
    """Return what may stand there, in words."""
    if dotted == "prompt.template":
        return f"{', '.join(TEMPLATES)}, or a path ({', '.join(TEMPLATE_SUFFIXES)})"
    schema = schema_at(tuple(dotted.split(".")))
    if _is_long(_names_in_list(schema)):
        return f"{', '.join(words(schema))}, or a list of names, see below"
    if _is_long(words(schema)):
        return "a name, see below"
    kinds, bounds = describe(schema), bounds_of(schema)
    return kinds.replace("number", f"number ({bounds})") if bounds else kinds


def _below(dotted: str) -> Iterator[str]:
    """Yield what has no room in the table: long lists of names, and the keys of the entries of a list."""
    schema = schema_at(tuple(dotted.split(".")))
    names = _names_in_list(schema) or words(schema)
    if _is_long(names):
        yield f"`{dotted}` takes: {', '.join(f'`{name}`' for name in names)}."
    if "items" in schema and "properties" in (entry := schema_at((*dotted.split("."), 0))):
        texts = [f"`{name}`: {inner['description'].rstrip('.')}" for name, inner in entry["properties"].items()]
        yield f"An entry of `{dotted}` has the keys {'; '.join(texts)}."


def _names_in_list(schema: dict[str, Any]) -> list[str]:
    return next((words(option["items"]) for option in options(schema) if "items" in option), [])


def _is_long(names: Sequence[str]) -> bool:
    return len(names) > _MOST_WORDS_IN_A_CELL


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def _wrapped(text: str) -> str:
    return textwrap.fill(text, _WIDTH, break_long_words=False, break_on_hyphens=False) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print("wrote docs/configuration.md")
