"""The cleaning rules: each a named, idempotent function on (question, answer), applied in the order of ``RULES``.

The rules themselves, but for white space, are in the modules beside this one.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from medqa_cli.data.cleaning import lost_characters, markup, mojibake, questions, web_boilerplate
from medqa_cli.data.languages import UNKNOWN, likeliest_language, told_language
from medqa_cli.data.speakers import prompt_marks
from medqa_cli.errors import ConfigError
from medqa_cli.resources import load_yaml
from medqa_cli.spelling import did_you_mean, listed

_BLANK_LINES = re.compile(r"\n{3,}")
_SPACES = re.compile(r"\s+")
_UNBROKEN = "\xa0\u202f"  # the spaces at which no line breaks
_FRENCH_MARKS = "?!:;»"
_UNTIDY = ("  ", " \n", "\n ", "\n\n\n", "\t", "\r", "\v", "\f", "\x1c", "\x1d", "\x1e", "\x1f")  # of ASCII


@dataclass(frozen=True)
class Rule:
    """A cleaning rule: ``apply`` maps question and answer to the cleaned ones; the rest as in the file.

    ``languages`` are named as ``languages.likeliest_language`` does; ``enabled`` is what holds unless the config says
    otherwise.
    """

    apply: Callable[[str, str], tuple[str, str]]
    doc: str
    enabled: bool = True
    rerun_after: bool = False
    languages: Sequence[str] | None = None
    if_unknown: bool = True

    def applied(self, question: str, answer: str) -> tuple[str, str]:
        """Return what it makes of the texts; one in a language that it is not for stays as it is."""
        new_question, new_answer = self.apply(question, answer)
        if new_question != question and not self._is_for(question, answer):
            new_question = question
        if new_answer != answer and not self._is_for(answer, question):
            new_answer = answer
        return new_question, new_answer

    def _is_for(self, text: str, beside: str) -> bool:
        if self.languages is None:
            return True
        language = told_language(text, beside, likeliest_language)
        return self.if_unknown if language == UNKNOWN else language in self.languages


class Cleaned(NamedTuple):
    """The cleaned texts and the rules that changed either of them."""

    question: str
    answer: str
    changed: tuple[str, ...]


def one_line(text: str) -> str:
    """Return the text with each run of white space, Unicode's kinds and line breaks included, as one space.

    A space that does not break stays where French typography has one: before ``?``, ``!``, ``:``, ``;`` and in ``« »``.
    """
    if "\xa0" in text or "\u202f" in text:
        return _SPACES.sub(_one_space, text.strip())
    return " ".join(text.split())


def _one_space(run: re.Match[str]) -> str:
    before, after = run.string[run.start() - 1], run.string[run.end()]
    if before == "«" or after in _FRENCH_MARKS:
        return next((space for space in run[0] if space in _UNBROKEN), " ")
    return " "


def tidy_paragraphs(text: str) -> str:
    """Return the text with one space between words, no space at the ends of lines, at most one blank line in a row."""
    if text.isascii() and not any(map(text.__contains__, _UNTIDY)) and text == text.strip():
        return text
    lines = "\n".join([one_line(line) for line in text.splitlines()])
    return _BLANK_LINES.sub("\n\n", lines).strip()


def _to_question(change: Callable[[str], str]) -> Callable[[str, str], tuple[str, str]]:
    return lambda question, answer: (change(question), answer)


def _to_answer(change: Callable[[str], str]) -> Callable[[str, str], tuple[str, str]]:
    return lambda question, answer: (question, change(answer))


def _to_both(change: Callable[[str], str]) -> Callable[[str, str], tuple[str, str]]:
    return lambda question, answer: (change(question), change(answer))


_APPLY: dict[str, Callable[[str, str], tuple[str, str]]] = {
    "mojibake": _to_both(mojibake.mojibake),
    "embedded_pictures": _to_both(markup.embedded_pictures),
    "html": _to_both(markup.markup),
    "written_breaks": _to_both(markup.written_breaks),
    "prompt_marks": prompt_marks,
    "inline_bullets": _to_answer(web_boilerplate.inline_bullets),
    "whitespace": lambda question, answer: (one_line(question), tidy_paragraphs(answer)),
    "glued_sentences": _to_both(lost_characters.outside_addresses(lost_characters.glued_sentences)),
    "lost_letters": _to_both(lost_characters.outside_addresses(lost_characters.lost_letters)),
    "question_mark_space": _to_question(lost_characters.outside_addresses(questions.question_mark_space)),
    "what_is_are": _to_question(questions.what_is_are),
    "hpo_block": _to_answer(web_boilerplate.hpo_block),
    "media_leftovers": _to_answer(web_boilerplate.media_leftovers),
    "nih_tail": _to_answer(web_boilerplate.nih_tail),
    "openers": _to_answer(web_boilerplate.openers),
    "question_echo": lambda question, answer: (question, questions.question_echo(question, answer)),
}
RULES: dict[str, Rule] = {name: Rule(_APPLY[name], **fields) for name, fields in load_yaml("cleaning_rules").items()}


def enabled_rules(cleaning: Mapping[str, bool]) -> tuple[str, ...]:
    """Return the names of the rules to apply, in their order.

    Args:
        cleaning: the section ``data.cleaning``: rules switched on or off by name.

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
    """Apply the enabled rules in their order; all again when one has uncovered something, so that twice is once."""
    changed: set[str] = set()
    is_rerun = True
    while is_rerun:
        is_rerun = False
        for name in enabled:
            cleaned = RULES[name].applied(question, answer)
            if cleaned != (question, answer):
                question, answer = cleaned
                changed.add(name)
                is_rerun |= RULES[name].rerun_after
    return Cleaned(question, answer, tuple(name for name in enabled if name in changed))
