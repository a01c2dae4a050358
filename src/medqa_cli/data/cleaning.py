"""The cleaning rules: each a named, idempotent function on (question, answer), applied in the order of ``RULES``.

Does not drop rows: a rule may empty a text, and ``dedup.Screen`` then rejects the row.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from medqa_cli.data.wording import did_you_mean, listed
from medqa_cli.errors import ConfigError

_LINE_BREAK = re.compile("\r\n|[\r\x0b\x0c\x85\u2028\u2029]")
_SPACES = re.compile(r"[^\S\n]+")  # all of Unicode's white space, the non-breaking kinds included
_SPACES_AROUND_BREAK = re.compile(r" ?\n ?")
_BLANK_LINES = re.compile(r"\n{3,}")


@dataclass(frozen=True)
class Rule:
    """A cleaning rule, what it does in one line, and whether it is on unless the config says otherwise."""

    apply: Callable[[str, str], tuple[str, str]]
    doc: str
    enabled: bool = True


@dataclass(frozen=True)
class Cleaned:
    """The cleaned texts and the rules that changed either of them."""

    question: str
    answer: str
    changed: tuple[str, ...]


def one_line(text: str) -> str:
    """Return the text with each run of white space, line breaks included, as one space."""
    return " ".join(text.split())


def tidy_paragraphs(text: str) -> str:
    """Return the text with one space between words, no space at the ends of lines, at most one blank line in a row."""
    text = _SPACES.sub(" ", _LINE_BREAK.sub("\n", text))
    return _BLANK_LINES.sub("\n\n", _SPACES_AROUND_BREAK.sub("\n", text)).strip()


def _whitespace(question: str, answer: str) -> tuple[str, str]:
    return one_line(question), tidy_paragraphs(answer)


RULES: dict[str, Rule] = {
    "whitespace": Rule(_whitespace, "The question on one line; no needless spaces, tabs or blank lines in the answer."),
}


def enabled_rules(cleaning: Mapping[str, bool]) -> tuple[str, ...]:
    """Return the names of the rules to apply, in their order.

    Args:
        cleaning: the section ``data.cleaning``: rules switched on or off by name.

    Returns:
        the names, in the order of ``RULES``.

    Raises:
        ConfigError: names that are no rules, all of them.
    """
    unknown = [name for name in cleaning if name not in RULES]
    if unknown:
        raise ConfigError(
            [f"data.cleaning.{name}: no such cleaning rule{did_you_mean(name, RULES)}" for name in unknown],
            f"the rules are {listed(list(RULES))}",
        )
    return tuple(name for name, rule in RULES.items() if cleaning.get(name, rule.enabled))


def clean(question: str, answer: str, enabled: Sequence[str]) -> Cleaned:
    """Apply the enabled rules, in the order given.

    Args:
        question: the raw question.
        answer: the raw answer.
        enabled: names of rules, as ``enabled_rules`` returns them.

    Returns:
        the cleaned texts and which rules changed them.
    """
    changed = []
    for name in enabled:
        before = (question, answer)
        question, answer = RULES[name].apply(question, answer)
        if (question, answer) != before:
            changed.append(name)
    return Cleaned(question, answer, tuple(changed))
