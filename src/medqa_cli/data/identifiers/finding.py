"""All rules on one row: which parts of its question and answer identify a person."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from medqa_cli.data.identifiers.addresses import find_addresses
from medqa_cli.data.identifiers.contacts import SPELLED_AT, find_contacts
from medqa_cli.data.identifiers.dates import find_dates
from medqa_cli.data.identifiers.finds import Find, Span
from medqa_cli.data.identifiers.home_addresses import address_behind
from medqa_cli.data.identifiers.name_scores import find_scored_names
from medqa_cli.data.identifiers.names import find_names, repeated
from medqa_cli.data.identifiers.numbers import find_numbers
from medqa_cli.data.identifiers.person_texts import is_about_one_person
from medqa_cli.data.identifiers.personal_numbers import find_personal_numbers
from medqa_cli.data.identifiers.text import Text
from medqa_cli.data.identifiers.typing_errors import mended

# Where two finds overlap the earlier kind stays; of one kind the longer one.
_ORDER = ("email", "profile", "ip", "account", "record", "device", "fax", "phone", "date", "address", "age", "name")
_NUMBER_BEHIND = re.compile(r"\s?\(\s?([A-Za-z]{0,3}-?\d[\d -]{3,14}[A-Za-z]?)\s?\)")
# Anna Lee, 92, a farmer; Anna Lee (92).
_AGE_BEHIND = re.compile(r"(?:,\s|\s\()(9\d|1[01]\d|ninety(?:[ -][a-z]{3,5})?)(?=[,)])", re.IGNORECASE)
_PHONE_BEHIND = re.compile(
    r"(?: \([a-z -]{2,15}\))?,? \(?(?:tel|phone|mobile|cell|ph)?[.:]? ?(\(?[+0-9](?:[ ./()-]{0,2}\d){6,13})(?![\w/-])"
)
_FEWEST_DIGITS = 5
# Of these a text about nobody that has no digits has one, or five colons or hyphens, if anything is in it.
_SIGNS = ("@", "/", "\n", " (", "::", *SPELLED_AT)
_TELLING = frozenset(
    (
        "mail_words",
        "profile_words",
        "own_site_words",
        "old_age_words",
        "subject_words",
        "degree_words",
        "bare_names",
        "certain_names",
    )
)
_FEWEST_SIGNS = 5
_RANK = {kind: rank for rank, kind in enumerate(_ORDER)}


def find_in_row(question: str, answer: str) -> tuple[Find, ...]:
    """Return what identifies a person in a row, in the order of the texts; no two of a field overlap.

    A name that is found in one of the texts is found wherever else it stands in the row.
    """
    return find_in_texts({"question": question, "answer": answer})


def find_in_texts(named: Mapping[str, str]) -> tuple[Find, ...]:
    """Return what identifies a person in texts that belong together, by their names; as of ``find_in_row``."""
    whole = {field: mended(Text(text)) for field, text in named.items()}
    texts = {field: each.text for field, each in whole.items()}
    is_personal = any(map(is_about_one_person, texts.values()))
    spans = {field: _found(text, is_personal=is_personal) for field, text in texts.items()}
    is_of_person = any(spans.values())
    for field, text in texts.items():
        dates = list(find_dates(text, is_of_person=is_of_person, is_personal=is_personal))
        if dates:
            spans[field] = _apart([*spans[field], *dates])
    if not any(spans.values()):
        return ()
    names = frozenset(
        texts[field].text[start:end] for field, found in spans.items() for start, end, kind in found if kind == "name"
    )
    if names:
        for field, text in texts.items():
            people = [span for span in spans[field] if span.kind == "name"]
            behind = [find(text, span) for span in people for find in _BEHIND_NAMES]
            spans[field] = _apart([*spans[field], *repeated(text, names), *(span for span in behind if span)])
    return tuple(Find(field, *whole[field].written(span)) for field, found in spans.items() for span in found)


def _number_behind(text: Text, name: Span) -> Span | None:
    """Return the record number in brackets behind a name: Anna Lee (A-118273)."""
    found = _NUMBER_BEHIND.match(text.text, name.end)
    if found is None or sum(map(str.isdigit, found[1])) < _FEWEST_DIGITS:
        return None
    return Span(*found.span(1), "record")


def _age_behind(text: Text, name: Span) -> Span | None:
    """Return the age over 89 behind a name."""
    found = _AGE_BEHIND.match(text.text, name.end)
    return None if found is None else Span(*found.span(1), "age")


def _phone_behind(text: Text, name: Span) -> Span | None:
    """Return the phone number behind a name: (Anna Lee, 0151 234567)."""
    found = _PHONE_BEHIND.match(text.text, name.end)
    return None if found is None else Span(*found.span(1), "phone")


# What may stand behind a name and is one of the same person.
_BEHIND_NAMES = (_number_behind, _age_behind, _phone_behind, address_behind)


def _is_clear(text: Text) -> bool:
    """Tell whether a text about nobody lacks all that any rule but that of dates asks for, as most questions do."""
    return (
        not text.numbers
        and _TELLING.isdisjoint(text.tables)
        and not any(map(text.text.__contains__, _SIGNS))
        and max(text.text.count(":"), text.text.count("-")) < _FEWEST_SIGNS
    )


def _found(text: Text, *, is_personal: bool) -> list[Span]:
    if not is_personal and _is_clear(text):
        return []
    spans = [*find_contacts(text, is_personal=is_personal), *find_numbers(text)]
    spans += [*find_addresses(text, is_personal=is_personal), *find_names(text, is_personal=is_personal)]
    if is_personal:
        others = [span for span in find_personal_numbers(text) if not _touches(span, _not_within(span, spans))]
        spans = [*spans, *others, *find_scored_names(text)]
    return _apart(spans) if spans else spans


def _not_within(span: Span, others: Iterable[Span]) -> list[Span]:
    """Return the other spans but those of its kind that a span covers."""
    return [o for o in others if o.kind != span.kind or o.start < span.start or o.end > span.end]


def _touches(span: Span, others: Iterable[Span]) -> bool:
    return any(span.start < other.end and other.start < span.end for other in others)


def _apart(spans: Iterable[Span]) -> list[Span]:
    """Return the spans that stay where some overlap, in the order of the text."""
    kept: list[Span] = []
    for span in sorted(set(spans), key=lambda span: (_RANK[span.kind], span.start - span.end, span.start)):
        if not _touches(span, kept):
            kept.append(span)
    return sorted(kept)
