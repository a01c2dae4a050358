"""The cleaning rules: each a named, idempotent function on (question, answer), applied in the order of ``RULES``.

Does not drop rows. The rules themselves, but for white space, are in ``questions``, ``answers`` and
``letters``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from medqa_cli.data.cleaning.answers import hpo_block, inline_bullets, media_leftovers, nih_tail, openers
from medqa_cli.data.cleaning.letters import glued_sentences, lost_letters
from medqa_cli.data.cleaning.questions import question_echo, question_mark_space, what_is_are
from medqa_cli.data.wording import did_you_mean, listed
from medqa_cli.errors import ConfigError

_BLANK_LINES = re.compile(r"\n{3,}")


@dataclass(frozen=True)
class Rule:
    """A cleaning rule.

    Attributes:
        apply: maps question and answer to the cleaned ones.
        doc: what it does, in one line.
        enabled: whether it is on unless the config says otherwise.
        uncovers: what it takes away may have hidden something from the rules before it.
    """

    apply: Callable[[str, str], tuple[str, str]]
    doc: str
    enabled: bool = True
    uncovers: bool = False


@dataclass(frozen=True)
class Cleaned:
    """The cleaned texts and the rules that changed either of them."""

    question: str
    answer: str
    changed: tuple[str, ...]


def one_line(text: str) -> str:
    """Return the text with each run of white space, Unicode's kinds and line breaks included, as one space."""
    return " ".join(text.split())


def tidy_paragraphs(text: str) -> str:
    """Return the text with one space between words, no space at the ends of lines, at most one blank line in a row."""
    lines = "\n".join([one_line(line) for line in text.splitlines()])
    return _BLANK_LINES.sub("\n\n", lines).strip()


def _whitespace(question: str, answer: str) -> tuple[str, str]:
    return one_line(question), tidy_paragraphs(answer)


def _to_question(change: Callable[[str], str]) -> Callable[[str, str], tuple[str, str]]:
    return lambda question, answer: (change(question), answer)


def _to_answer(change: Callable[[str], str]) -> Callable[[str, str], tuple[str, str]]:
    return lambda question, answer: (question, change(answer))


def _to_both(change: Callable[[str], str]) -> Callable[[str, str], tuple[str, str]]:
    return lambda question, answer: (change(question), change(answer))


# In order of application: list signs are told by the spaces that the next rule removes, and an echo is found by
# comparing texts that are otherwise clean.
RULES: dict[str, Rule] = {
    "inline_bullets": Rule(
        _to_answer(inline_bullets), "List signs within a line of the answer, 'text    - one    - two', become lines."
    ),
    "whitespace": Rule(_whitespace, "The question on one line; no needless spaces, tabs or blank lines in the answer."),
    "glued_sentences": Rule(_to_both(glued_sentences), "A space between sentences that run together: 'term.The'."),
    "lost_letters": Rule(
        _to_both(lost_letters), "Lost letters and apostrophes are put back where that is certain: 'doesnt', 'Sjgren'."
    ),
    "question_mark_space": Rule(_to_question(question_mark_space), "No space before '?', and '? ?' becomes '?'."),
    "what_is_are": Rule(_to_question(what_is_are), "'What is (are) X?' becomes 'What is X?'."),
    "hpo_block": Rule(
        _to_answer(hpo_block),
        "The flattened table of the Human Phenotype Ontology becomes a list; the fixed sentences around it go.",
        uncovers=True,
    ),
    "media_leftovers": Rule(
        _to_answer(media_leftovers),
        "Sentences that only point at a video, a picture or a link that is not there are removed.",
        uncovers=True,
    ),
    "nih_tail": Rule(
        _to_answer(nih_tail), "The source 'NIH: National ... Institute ...' at the end is removed.", uncovers=True
    ),
    "openers": Rule(_to_answer(openers), "'Key Points' and 'Summary :' at the start are removed.", uncovers=True),
    "question_echo": Rule(
        lambda question, answer: (question, question_echo(question, answer)),
        "A question at the start of the answer that repeats the row's question is removed.",
        uncovers=True,
    ),
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
    """Apply the enabled rules, in the order given; again when a rule has uncovered something, so that twice is once.

    Args:
        question: the raw question.
        answer: the raw answer.
        enabled: names of rules, as ``enabled_rules`` returns them.

    Returns:
        the cleaned texts and which rules changed them.
    """
    changed: set[str] = set()
    uncovered = True
    while uncovered:
        uncovered = False
        for name in enabled:
            rule, before = RULES[name], (question, answer)
            question, answer = rule.apply(question, answer)
            if (question, answer) != before:
                changed.add(name)
                uncovered = uncovered or rule.uncovers
    return Cleaned(question, answer, tuple(name for name in enabled if name in changed))
