"""What is wrong with a configuration, in words: what was found, what was expected, which key or value was meant.

``find_problems`` translates pydantic's errors; ``check_together`` checks what the type of a single key cannot.
"""

import codecs
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from encodings import aliases
from pathlib import PurePath
from types import UnionType
from typing import Any, Union, get_origin

from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from medqa_cli.config.json_schema import adapter, bounds_of, describe, options, schema_at, words
from medqa_cli.config.schema import (
    KEYS,
    SCHEDULERS_THAT_WATCH,
    SECTIONS,
    TEMPLATE_SUFFIXES,
    TEMPLATES,
    UNSUPPORTED,
    Config,
    is_nullable,
)
from medqa_cli.config.yaml_loader import TEXT, Document, KeyPath, dotted, plain_tag, quoted, scalar, shown
from medqa_cli.resources import load_yaml
from medqa_cli.spelling import closest, did_you_mean, similarity, suggestion

_OUT_OF_RANGE = {"greater_than_equal", "greater_than", "less_than_equal", "less_than"}
_KINDS: dict[type, set[str]] = {bool: {"boolean"}, int: {"integer", "number"}, float: {"number"}}

# Codecs of Python that are made for pieces of source code and names of hosts.
_NO_FILES = ("idna", "punycode", "unicode_escape", "raw_unicode_escape", "undefined")

_WORD_NONE = '{0} is the word {1}, not null; write null for no value, or "{1}" in quotes for the word'


@dataclass(frozen=True)
class Problem:
    """What is wrong at ``path``; ``meant``: the key that was probably meant, of a name that is unknown."""

    path: KeyPath
    line: int
    message: str
    meant: str | None = None

    @property
    def keys(self) -> set[str]:
        """The keys whose value is not known because of it."""
        key = str(self.path[0]) if self.path[0] in KEYS else dotted(self.path[:2])
        return {name for name in KEYS if name in (key, self.meant) or name.startswith(f"{key}.")}


def find_problems(document: Document, limit: int) -> Iterator[Problem]:
    """Yield what is wrong in a document by the types of the configuration, at most ``limit`` problems of each kind.

    Moves the keys of a misspelled section to the right one, and drops sections that are null.
    """
    # All keys of a section may be commented out: then YAML sees nothing behind its name.
    document.value = {
        name: value for name, value in document.value.items() if value is not None or name not in SECTIONS
    }
    unknown = [name for name, value in document.value.items() if isinstance(value, dict) and name not in SECTIONS]
    for name in unknown[:limit]:
        meant = suggest("", name, is_mapping=True)
        if meant in SECTIONS:
            # One report for the section; its keys are checked as if it were spelled right.
            yield Problem((name,), document.lines[name,], unknown_name(dotted((name,)), meant, "section"))
            document.rename(name, meant)
    errors = _type_errors(document)
    for (path, line), message in list(document.problems.items())[:limit]:
        # Problems inside a value of the wrong type add nothing.
        if not any(path[:length] in errors for length in range(1, len(path))):
            yield Problem(path, line, message)
    lines = {path: document.lines.get(path) or document.lines[path[:-1]] for path in errors}
    for path in sorted(errors, key=lines.__getitem__)[:limit]:
        if (path, lines[path]) in document.problems:
            continue
        if errors[path][0]["type"] == "unexpected_keyword_argument":
            yield _unknown_key(path, lines[path], document.nodes[path])
        else:
            node = document.nodes.get(path) or document.nodes[path[:-1]]
            yield Problem(path, lines[path], _wrong_value(path, node, errors[path]))
    for key in filter(is_nullable, KEYS):
        path = tuple(key.split("."))
        word = document.nodes.get(path)
        if not isinstance(word, ScalarNode) or word.style is not None or word.tag != TEXT or path in errors:
            continue
        # Probably null was meant, and a word was written that is text to YAML.
        if word.value.lower() == "none":
            yield Problem(path, document.lines[path], _WORD_NONE.format(key, word.value))


def _type_errors(document: Document) -> dict[KeyPath, list[dict[str, Any]]]:
    """Return pydantic's errors by the path of the value, those of all alternatives of a union together."""
    from pydantic import ValidationError

    by_path: dict[KeyPath, list[dict[str, Any]]] = defaultdict(list)
    try:
        # As JSON, since only there a strict pydantic takes mappings for dataclasses.
        adapter().validate_json(json.dumps(document.value), strict=True)
    except ValidationError as errors:
        for error in errors.errors(include_url=False, include_input=False):
            by_path[_path_of(error, document.value)].append(dict(error))
    # An entry of a list is wrong, rather than that there is a list.
    above = {path[:length] for path in by_path for length in range(len(path))}
    return {path: errors for path, errors in by_path.items() if path not in above}


def _path_of(error: Any, value: Any) -> KeyPath:
    """Return the path of an error, without the names of a union's alternatives that pydantic puts between."""
    path: KeyPath = ()
    for part in error["loc"]:
        key = KEYS.get(dotted(path))
        is_union = key is not None and get_origin(key.type) in (Union, UnionType)
        holds = isinstance(value, list) if isinstance(part, int) else isinstance(value, dict) and not is_union
        if holds and (isinstance(part, int) or part in value):
            path, value = (*path, part), value[part]
    return (*path, error["loc"][-1]) if error["type"] == "missing" else path


def _unknown_key(path: KeyPath, line: int, node: Node) -> Problem:
    section, name = dotted(path[:-1]), str(path[-1])
    if name in KEYS and "." in name:
        section, _, last = name.partition(".")
        return Problem(path, line, f"unknown key {name}; write {last} on a line of its own below {section}:", name)
    is_mapping = isinstance(node, MappingNode)
    if not section and "." in name:
        section, _, name = name.rpartition(".")
    if len(path) > 2:
        meant = closest(name, schema_at(path[:-1])["properties"])
    else:
        meant = suggest(section, name, is_mapping=is_mapping)
    kind = "section" if is_mapping and len(path) == 1 and meant not in KEYS else "key"
    return Problem(path, line, unknown_name(dotted(path), meant, kind), meant)


def unknown_name(name: str, meant: str | None, kind: str = "key") -> str:
    """Return the message for a name that does not exist."""
    return f"unknown {kind} {name}{suggestion(meant)}"


def suggest(section: str, name: str, *, is_mapping: bool = False) -> str | None:
    """Return the dotted key (or the section) that somebody probably meant, or None.

    Args:
        section: the section as it was written, "" at the top level.
        name: the key as it was written.
        is_mapping: the key's value is a mapping, so that a section is likelier than a key.
    """
    known_as: dict[str, str] = load_yaml("known_as")
    known = known_as.get(f"{section}.{name}") or known_as.get(name)
    if known is not None:
        return known

    def rank(candidate: str) -> float:
        own_section, _, own_name = candidate.rpartition(".")
        alike = similarity(name, own_name)
        # The right name elsewhere beats a misspelled name here; at equal spelling the key here wins.
        if own_section != section:
            penalty = 0.02 if section and own_section and similarity(section, own_section) else 0.04
            alike -= penalty if alike == 1 else 2 * penalty
        if is_mapping and candidate not in SECTIONS:
            alike -= 0.2
        return alike - (0.01 if candidate in SECTIONS and not is_mapping else 0)

    best = max((*SECTIONS, *KEYS), key=rank)
    return best if similarity(name, best.rpartition(".")[2]) else None


def _wrong_value(path: KeyPath, node: Node, errors: Sequence[dict[str, Any]]) -> str:
    """Return the message for a value that does not fit its key, with the key's name.

    Args:
        path: of the value.
        node: of the value.
        errors: those of pydantic on it, one for each alternative of its type.
    """
    kinds = {error["type"] for error in errors}
    key = dotted(path)
    if path[0] in SECTIONS and len(path) == 1:
        return f"{key} is a section: it must hold keys such as {example_of(key)}:, got {shown(node)}"
    if isinstance(node, ScalarNode) and (reason := UNSUPPORTED.get(key, {}).get(node.value)):
        return f"{key} {node.value} {reason}; choose another"
    if "missing" in kinds:
        return f"{dotted(path[:-1])} lacks the key {path[-1]}"
    if "finite_number" in kinds:
        return f"{key} must be a finite number, got {shown(node)}"
    if "string_pattern_mismatch" in kinds:
        return f"{key} must not be empty" + ("; write null for no value" if key in KEYS and is_nullable(key) else "")
    if "too_short" in kinds:
        return f"{key} must not be an empty list"
    schema = schema_at(path)
    if _OUT_OF_RANGE & kinds:
        return f"{key} must be {' or '.join([*words(schema), bounds_of(schema)])}, got {shown(node)}"
    return f"{key} must be {describe(schema)}, got {shown(node)}{_advice(node, schema)}"


def example_of(section: str) -> str:
    """Return the first key of a section."""
    return next(key.partition(".")[2] for key in KEYS if key.startswith(f"{section}."))


def _advice(node: Node, schema: dict[str, Any]) -> str:
    """Return what to do about a value of the wrong type, with its leading "; ", or nothing."""
    kinds = {option.get("type", "string") for option in options(schema)}
    takes_text = any(option == {"type": "string"} or "pattern" in option for option in options(schema))
    if isinstance(node, SequenceNode):
        return ""
    if isinstance(node, MappingNode):
        return "; put the text in quotes" if takes_text else ""
    assert isinstance(node, ScalarNode)
    value = scalar(node)
    if node.style in ("'", '"') and node.value:
        plain = scalar(ScalarNode(plain_tag(node.value), node.value))
        if _KINDS.get(type(plain), set()) & kinds:
            return "; drop the quotes"
    if "none" in words(schema) and (value is None or value is False):
        return "; write the word none"
    if takes_text and value is not None:
        return "; put it in quotes"
    if "integer" in kinds and isinstance(value, float) and value.is_integer():
        return f"; write {int(value)}"
    if "null" in kinds and isinstance(value, str) and value.lower() == "none":
        return "; write null for no value"
    if node.tag != TEXT:
        return ""
    items: dict[str, Any] = next((option["items"] for option in options(schema) if "items" in option), {})
    if node.value in words(items):
        return f"; write [{node.value}]"
    return did_you_mean(node.value, words(schema)) or (f"; write [{node.value}]" if "pattern" in items else "")


def check_together(config: Config) -> Iterator[tuple[tuple[str, ...], str]]:
    """Check the keys of a whole configuration that must fit together.

    Yields:
        The keys that a problem depends on, the one to name first; and the problem.
    """
    validation, test = config.data.validation_fraction, config.data.test_fraction
    # Decimal fractions such as 0.7 and 0.3 must not pass by a rounding error.
    if validation + test >= 1 - 1e-9:
        yield (
            ("data.validation_fraction", "data.test_fraction"),
            f"data.validation_fraction and data.test_fraction must be below 1 together, got {validation} and {test}; "
            "nothing would be left to train on",
        )
    if config.prompt.sources and config.data.turns in ("last", "all"):
        yield (
            ("data.turns", "prompt.sources"),
            f"data.turns {config.data.turns} and prompt.sources {config.prompt.sources} do not go together: no "
            "sources are searched for what follows on earlier turns; set prompt.sources to 0, or data.turns to first",
        )
    if config.prompt.sources and config.data.context_column is not None:
        yield (
            ("data.context_column", "prompt.sources"),
            f"data.context_column and prompt.sources {config.prompt.sources} do not go together: both stand before the "
            "question; set prompt.sources to 0, or data.context_column to null",
        )
    train = config.train
    if train.eval_steps is None and train.early_stopping_patience is not None:
        yield (
            ("train.early_stopping_patience", "train.eval_steps"),
            "train.early_stopping_patience needs train.eval_steps; set how often to evaluate on the validation split",
        )
    if train.eval_steps is None and train.lr_scheduler_type in SCHEDULERS_THAT_WATCH:
        yield (
            ("train.lr_scheduler_type", "train.eval_steps"),
            f"train.lr_scheduler_type {train.lr_scheduler_type} needs train.eval_steps; it follows the validation loss",
        )


def check_names(config: Config) -> Iterator[tuple[tuple[str, ...], str]]:
    """Check the names of an encoding and of a template, or of the file that holds one.

    Yields:
        The key, by itself; and the problem.
    """
    encoding = config.data.encoding
    if encoding is not None and not _is_text_codec(encoding):
        known = filter(_is_text_codec, sorted({*aliases.aliases, *aliases.aliases.values()}))
        yield (
            ("data.encoding",),
            f"data.encoding must be an encoding that Python knows, e.g. utf-8, cp1251, gb18030 or shift_jis, got "
            f"{quoted(encoding)}{did_you_mean(encoding, known)}",
        )
    template = config.prompt.template
    is_path = "/" in template or "\\" in template or PurePath(template).suffix in TEMPLATE_SUFFIXES
    if template not in TEMPLATES and not is_path:
        yield (
            ("prompt.template",),
            f"prompt.template must be one of {', '.join(TEMPLATES)} or the path of a Jinja file "
            f"({', '.join(TEMPLATE_SUFFIXES)}), got {quoted(template)}{did_you_mean(template, TEMPLATES)}",
        )


def _is_text_codec(name: str) -> bool:
    try:
        b"a".decode(name)
        return codecs.lookup(name).name not in _NO_FILES
    except (LookupError, UnicodeError, ValueError):
        return False
