"""Ages over 89: behind and before words that say so; in a text about one person fewer of them are needed."""

import functools
import re
from collections.abc import Iterator

from medqa_cli.data.identifiers.finds import Span
from medqa_cli.data.identifiers.text import Text
from medqa_cli.resources import compiled, load_pattern, load_yaml

_AGE = re.compile(
    r"(?:9(?<![\w.,/–-].)\d|1(?<![\w.,/–-].)(?:[01]\d|2[0-5]))"
    r"(?!(?!y[ro/]|[FMfm]\b|(?:th|st|nd|rd) birthday)[\w%]|[.,/]\d|\s?[-–]\s?\d)"
)
# Also 94/F, and behind any sign: the words around tell.
_OLD = re.compile(
    r"(?:9\d|1[01]\d)(?![\d%:°]|['’]?s\b|/(?!\s?[fm]\b)|[.,]\d|\s?[-–]\s?\d|[a-z]{2,3}\b(?<!yo)(?<!yr)(?<!yrs)(?<!th)(?<!st)(?<!nd)(?<!rd)"
    r"|(?:th|st|nd|rd)\b(?= (?:percentile|centile|day|visit|session|time|floor|street|st\b|ave|anniversary|edition)))"
)
_ORDINAL_ENDINGS = ("th", "st", "nd", "rd")
_NO_NUMBER_BEFORE = ".,/-–$£€+#@_:"
_GLUED_BEFORE = re.compile(r"(?:\b[fm]\s?/\s?|\baged?[:=-]?)\Z")
# A lady of 94.
_OF_PERSON = re.compile(
    r"\b(?:age|lady|gentleman|man|woman|widow(?:er)?|person|patient|farmer|veteran|teacher|nun|priest|mother|father"
    r"|(?:great-?)?grand\w+|aunt|uncle|nurse|soul|pensioner|resident|bachelor|spinster|lad|dame|dear) of \Z"
)
# Lee, Anna / 94 / side room
_FIELD_BEFORE, _FIELD_BEHIND = re.compile(r"[^\W\d_]{2,}\s[/|]\s\Z"), re.compile(r"\s[/|]\s[^\W\d_]")
_OLDEST_ALONE = "110"
_REACH, _BEHIND = 48, 40


@functools.cache
def in_words() -> re.Pattern[str]:
    """Return the pattern of an age over 89 in words, of any language of the table, in small letters."""
    languages = load_yaml("identifiers")["old_in_words"]
    return compiled("identifiers", rf"(?<![^\W_])(?:{'|'.join(languages.values())})(?![^\W_])")


def find_ages(text: Text) -> Iterator[Span]:
    """Yield the ages over 89 that words beside them call so."""
    for start, end in _written(text, _AGE, text.text):
        before, after = text.before(start, _BEHIND), text.after(end, _BEHIND)
        if load_pattern("identifiers", "age_of_many").search(before):
            continue
        if (
            load_pattern("identifiers", "age_after").match(after)
            and not load_pattern("identifiers", "ages_of_many").match(after)
        ) or (
            load_pattern("identifiers", "age_before").search(before)
            and not load_pattern("identifiers", "not_years").match(after)
        ):
            yield _span(text, start, end)


def find_personal_ages(text: Text) -> Iterator[Span]:
    """Yield the ages over 89 in a text about one person."""
    for start, end in _written(text, _OLD, text.lower):
        if _is_age(text, start, end):
            yield _span(text, start, end)


def _written(text: Text, digits: re.Pattern[str], where: str) -> Iterator[tuple[int, int]]:
    """Yield the numbers that may be ages: in digits, and in words."""
    for start, end in text.numbers:
        if 2 <= end - start <= 3 and where[start] in "91" and (found := digits.match(where, start)):
            yield found.span()
    if "old_age_words" in text.tables:
        for found in in_words().finditer(text.lower):
            yield found.span()


def _span(text: Text, start: int, end: int) -> Span:
    """Return the place of an age, with the ending of "90th"."""
    return Span(start, end + 2 if text.lower[end : end + 2] in _ORDINAL_ENDINGS else end, "age")


def _is_age(text: Text, start: int, end: int) -> bool:
    """Tell whether a number may be an age: words of ages are beside it, and none of measuring before it."""
    before, after = text.before(start, _REACH), text.after(end, _BEHIND)
    sign = text.lower[start - 1 : start]
    if sign and (sign.isalnum() or sign in _NO_NUMBER_BEFORE) and not _GLUED_BEFORE.search(before):
        return False
    if after[:2] in _ORDINAL_ENDINGS and not load_pattern("identifiers", "old_behind").match(after):
        return bool(
            load_pattern("identifiers", "birthday_before").search(before)
            and load_pattern("identifiers", "birthday_behind").match(after)
        )
    is_old = load_pattern("identifiers", "old_behind").match(after) is not None
    if load_pattern("identifiers", "measured_before").search(before) and not _OF_PERSON.search(before):
        return False
    if _FIELD_BEFORE.search(before) and _FIELD_BEHIND.match(after):
        return True
    if load_pattern("identifiers", "old_surely_before").search(before):
        return load_pattern("identifiers", "amount_behind").match(after) is None
    if load_pattern("identifiers", "age_of_many").search(before[-18:]) and not _OF_PERSON.search(before):
        return False
    if load_pattern("identifiers", "ages_of_many").match(after) or load_pattern("identifiers", "not_years").match(
        after
    ):
        return is_old
    if is_old or load_pattern("identifiers", "old_before").search(before):
        return True
    # Anna, 94, fell; (94); F 94
    return bool(
        (end - start != len("118") or text.text[start:end] <= _OLDEST_ALONE)
        and load_pattern("identifiers", "old_weakly_before").search(before)
        and load_pattern("identifiers", "old_weakly_behind").match(after)
    )
