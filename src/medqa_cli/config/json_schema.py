"""The JSON Schema (draft 2020-12) of the configuration, for editors that complete and check YAML.

Does not validate anything itself: ``load`` does, and knows more than a schema can say.
"""

from __future__ import annotations

import re
import types
from dataclasses import is_dataclass
from typing import Any, Literal, get_args, get_origin

from medqa_cli.config.checks import CHOICES, TEMPLATE_SUFFIXES
from medqa_cli.config.keys import Key, keys_of
from medqa_cli.config.schema import SECTIONS, Config
from medqa_cli.config.values import MAX_LIST_ITEMS, members

_BOUNDS = {"at_least": "minimum", "above": "exclusiveMinimum", "at_most": "maximum", "below": "exclusiveMaximum"}


def json_schema() -> dict[str, Any]:
    """Return the schema, generated from the dataclasses."""
    properties: dict[str, Any] = {}
    for name, key in keys_of(Config).items():
        properties[name] = _section(key.type, f"{name}.") if name in SECTIONS else _property(key)
    properties["train"]["allOf"] = [_needs_eval_steps(name, test) for name, test in _WATCHERS.items()]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "medqa.yaml",
        "description": _first_sentence(Config),
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
        "minProperties": 1,
    }


_WATCHERS: dict[str, dict[str, Any]] = {
    "early_stopping_patience": {"type": "integer"},
    "lr_scheduler_type": {"enum": ["reduce_lr_on_plateau", "greedy"]},
}


def _needs_eval_steps(name: str, test: dict[str, Any]) -> dict[str, Any]:
    return {
        "if": {"type": "object", "properties": {name: test}, "required": [name]},
        "then": {"properties": {"eval_steps": {"type": "integer"}}, "required": ["eval_steps"]},
    }


def _section(section: type, prefix: str) -> dict[str, Any]:
    return {
        # A section whose keys are all commented out is null.
        "type": ["object", "null"],
        "description": _first_sentence(section),
        "properties": {name: _property(key) for name, key in keys_of(section, prefix).items()},
        "additionalProperties": False,
    }


def _property(key: Key) -> dict[str, Any]:
    return {"description": key.doc, "default": _plain(key.default), **_shape(key)}


def _shape(key: Key) -> dict[str, Any]:
    if key.dotted == "train.max_steps":
        return {**_alternatives(key), "not": {"const": 0}}
    if key.dotted == "prompt.template":
        endings = "|".join(re.escape(suffix) for suffix in TEMPLATE_SUFFIXES)
        return {"anyOf": [{"enum": list(CHOICES[key.dotted])}, {"type": "string", "pattern": rf"[/\\]|.({endings})$"}]}
    if key.dotted in CHOICES:
        return {"enum": list(CHOICES[key.dotted])}
    return _alternatives(key)


def _alternatives(key: Key) -> dict[str, Any]:
    bounds = {_BOUNDS[name]: bound for name, bound in key.bounds.items()}
    shapes = [_one(one, bounds, key.may_be_blank) for one in members(key.type)]
    return shapes[0] if len(shapes) == 1 else {"anyOf": shapes}


def _one(one: Any, bounds: dict[str, float], may_be_blank: bool = False) -> dict[str, Any]:
    if one is types.NoneType:
        return {"type": "null"}
    if one is bool:
        return {"type": "boolean"}
    if one in (int, float):
        return {"type": "integer" if one is int else "number", **bounds}
    if one is str:
        return {"type": "string"} if may_be_blank else {"type": "string", "pattern": r"\S"}
    if get_origin(one) is Literal:
        return {"enum": list(get_args(one))}
    if get_origin(one) is dict:
        return {"type": "object", "additionalProperties": _one(get_args(one)[1], {})}
    if is_dataclass(one) and isinstance(one, type):
        keys = keys_of(one)
        shapes = {name: {"description": key.doc, **_shape(key)} for name, key in keys.items()}
        return {"type": "object", "properties": shapes, "required": list(keys), "additionalProperties": False}
    if get_origin(one) is tuple:
        item = get_args(one)[0]
        plain = {} if is_dataclass(item) else {"minItems": 1, "uniqueItems": True}
        return {"type": "array", "items": _one(item, {}), "maxItems": MAX_LIST_ITEMS, **plain}
    raise TypeError(f"no schema for {one}")


def _plain(default: Any) -> Any:
    return list(default) if isinstance(default, tuple) else default


def _first_sentence(section: type) -> str:
    return (section.__doc__ or "").strip().splitlines()[0]
