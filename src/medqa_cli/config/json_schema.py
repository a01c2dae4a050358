"""The types of the configuration for pydantic, as a JSON schema (draft 2020-12), and in words."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from medqa_cli.config.schema import SCHEDULERS_THAT_WATCH, SECTIONS, Config

if TYPE_CHECKING:
    from pydantic import TypeAdapter

# What needs eval_steps: `problems` reports it, and editors learn it here.
_NEEDS_EVAL_STEPS: dict[str, dict[str, Any]] = {
    "early_stopping_patience": {"type": "integer"},
    "lr_scheduler_type": {"enum": list(SCHEDULERS_THAT_WATCH)},
}
_BOUNDS = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}
_IN_WORDS = {
    "integer": ["a whole number"],
    "number": ["a number"],
    "string": ["text"],
    "boolean": ["true", "false"],
    "null": ["null"],
}


@cache
def adapter() -> TypeAdapter[Config]:
    """Return pydantic's view of the dataclasses; importing pydantic takes a tenth of a second."""
    from pydantic import TypeAdapter

    return TypeAdapter(Config)


@cache
def json_schema() -> dict[str, Any]:
    """Return the schema, for editors that complete and check YAML."""
    from pydantic.json_schema import GenerateJsonSchema

    class Generator(GenerateJsonSchema):
        def field_title_should_be_set(self, schema: Any) -> bool:
            return False

    schema = adapter().json_schema(schema_generator=Generator)
    for section in SECTIONS.values():
        # A section whose keys are all commented out is null.
        schema["$defs"][section.__name__]["type"] = ["object", "null"]
    schema["$defs"]["TrainConfig"]["allOf"] = [
        {
            "if": {"type": "object", "properties": {name: test}, "required": [name]},
            "then": {"properties": {"eval_steps": {"not": {"type": "null"}}}},
        }
        for name, test in _NEEDS_EVAL_STEPS.items()
    ]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "medqa.yaml",
        "minProperties": 1,
    }


def schema_at(path: tuple[str | int, ...]) -> dict[str, Any]:
    """Return the JSON schema of the value at ``path``."""
    schema = json_schema()
    for part in path:
        if isinstance(part, int):
            schema = next(option["items"] for option in options(schema) if "items" in option)
        else:
            schema = schema["properties"][part] if "properties" in schema else schema["additionalProperties"]
        schema = _resolved(schema)
    return schema


def options(schema: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the alternatives of a JSON schema."""
    return [_resolved(option) for option in schema.get("anyOf", [schema])]


def words(schema: dict[str, Any]) -> list[str]:
    """Return the words that a value may be, over all alternatives."""
    return [str(word) for option in options(schema) for word in option.get("enum", [option.get("const")]) if word]


def bounds_of(schema: dict[str, Any]) -> str:
    """Return the range of a number, e.g. ``at least 0 and below 1``, or nothing."""
    bounds = [
        (phrase, option[name]) for option in options(schema) for name, phrase in _BOUNDS.items() if name in option
    ]
    return " and ".join(f"{phrase} {bound}" for phrase, bound in bounds)


def describe(schema: dict[str, Any]) -> str:
    """Return what a value may be in words, e.g. ``auto or a whole number``."""
    literals = words(schema)
    if len(literals) > 1 and len(options(schema)) == 1:
        return f"one of {', '.join(literals)}"
    phrases = [*literals, *(phrase for option in options(schema) for phrase in _phrases(option))]
    return " or ".join(filter(None, (", ".join(phrases[:-1]), phrases[-1])))


def _phrases(option: dict[str, Any]) -> list[str]:
    if "enum" in option or "const" in option:
        return []
    if "items" in option:
        item = _resolved(option["items"])
        return [f"a list of {'names' if item == {'type': 'string'} or 'pattern' in item else describe(item)}"]
    if "properties" in option:
        return [f"a mapping {{{', '.join(option['properties'])}}}"]
    if "additionalProperties" in option:
        return ["a mapping of names to true or false"]
    return _IN_WORDS[option.get("type", "string")]


def _resolved(schema: dict[str, Any]) -> dict[str, Any]:
    if "$ref" not in schema:
        return schema
    target: dict[str, Any] = json_schema()["$defs"][schema["$ref"].rpartition("/")[2]]
    return target
