"""What the type of one key cannot say: keys that must fit together, encodings, and paths of prompt templates."""

from __future__ import annotations

import codecs
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from encodings import aliases
from pathlib import PurePath

from medqa_cli.config.schema import TEMPLATE_SUFFIXES, TEMPLATES, Config
from medqa_cli.config.yaml_loader import quoted
from medqa_cli.spelling import closest

_SCHEDULERS_THAT_WATCH = ("reduce_lr_on_plateau", "greedy")
# Codecs of Python that are made for pieces of source code and names of hosts.
_NO_FILES = ("idna", "punycode", "unicode_escape", "raw_unicode_escape", "undefined")

_ENCODINGS = sorted({*aliases.aliases, *aliases.aliases.values()})


@dataclass(frozen=True)
class Finding:
    """A problem between keys; ``keys`` are all that it depends on, the one to name first."""

    keys: tuple[str, ...]
    message: str


def findings(config: Config, unsure: Collection[str] = ()) -> list[Finding]:
    """Return the problems of a whole configuration.

    Args:
        config: the values; defaults stand in for what could not be read.
        unsure: keys whose value could not be read, so that nothing can be said about them.
    """
    found = (finding for rule in (_fractions, _needs_eval_steps, _encoding, _template) for finding in rule(config))
    return [finding for finding in found if not set(finding.keys) & set(unsure)]


def _fractions(config: Config) -> Iterator[Finding]:
    validation, test = config.data.validation_fraction, config.data.test_fraction
    # Decimal fractions such as 0.7 and 0.3 must not pass by a rounding error.
    if validation + test >= 1 - 1e-9:
        yield Finding(
            ("data.validation_fraction", "data.test_fraction"),
            f"data.validation_fraction and data.test_fraction must be below 1 together, got {validation} and {test}; "
            "nothing would be left to train on",
        )


def _needs_eval_steps(config: Config) -> Iterator[Finding]:
    train = config.train
    if train.eval_steps is None and train.early_stopping_patience is not None:
        yield Finding(
            ("train.early_stopping_patience", "train.eval_steps"),
            "train.early_stopping_patience needs train.eval_steps; set how often to evaluate on the validation split",
        )
    if train.eval_steps is None and train.lr_scheduler_type in _SCHEDULERS_THAT_WATCH:
        yield Finding(
            ("train.lr_scheduler_type", "train.eval_steps"),
            f"train.lr_scheduler_type {train.lr_scheduler_type} needs train.eval_steps; it follows the validation loss",
        )


def _encoding(config: Config) -> Iterator[Finding]:
    name = config.data.encoding
    if name is not None and not _is_text_codec(name):
        yield Finding(
            ("data.encoding",),
            f"data.encoding must be an encoding that Python knows, e.g. utf-8, cp1251, gb18030 or shift_jis, got "
            f"{_meant(name, tuple(filter(_is_text_codec, _ENCODINGS)))}",
        )


def _is_text_codec(name: str) -> bool:
    try:
        b"a".decode(name)
        return codecs.lookup(name).name not in _NO_FILES
    except (LookupError, UnicodeError, ValueError):
        return False


def _template(config: Config) -> Iterator[Finding]:
    template = config.prompt.template
    is_path = "/" in template or "\\" in template or PurePath(template).suffix in TEMPLATE_SUFFIXES
    if template not in TEMPLATES and not is_path:
        yield Finding(
            ("prompt.template",),
            f"prompt.template must be one of {', '.join(TEMPLATES)} or the path of a Jinja file "
            f"({', '.join(TEMPLATE_SUFFIXES)}), got {_meant(template, TEMPLATES)}",
        )


def _meant(value: str, choices: tuple[str, ...]) -> str:
    near = closest(value, choices)
    return quoted(value) + (f"; did you mean {near}?" if near else "")
