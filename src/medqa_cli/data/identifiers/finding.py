"""All rules on one row: which parts of its question and answer identify a person.

The rules look at a text whose typing errors in words before names are mended, and what they find is told by its places
in the text as it was written. Where a text is about one person, more rules look at it: what looks like an identifier
there most likely is one.
"""

from __future__ import annotations

import bisect
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

from medqa_cli.data.identifiers.addresses import find_addresses
from medqa_cli.data.identifiers.ages import find_ages, find_personal_ages, in_words
from medqa_cli.data.identifiers.contacts import SPELLED_AT, find_contacts
from medqa_cli.data.identifiers.dates import find_dates
from medqa_cli.data.identifiers.finds import Find, Span
from medqa_cli.data.identifiers.home_addresses import address_behind
from medqa_cli.data.identifiers.name_fields import find_names_in_fields
from medqa_cli.data.identifiers.name_scores import find_scored_names
from medqa_cli.data.identifiers.names import find_names, repeated
from medqa_cli.data.identifiers.numbers import find_numbers
from medqa_cli.data.identifiers.personal_numbers import find_certain_numbers, find_personal_numbers
from medqa_cli.data.identifiers.text import Text, like
from medqa_cli.data.identifiers.word_sorts import near_names
from medqa_cli.data.identifiers.word_tables import all_names, glue_words, mistyped_words, weights
from medqa_cli.data.identifiers.written_dates import may_have_dates
from medqa_cli.data.languages import UNKNOWN, likeliest_language
from medqa_cli.resources import load_words

if TYPE_CHECKING:
    from medqa_cli.data.identifiers.model_finds import ModelSearch

LEAST, LEAST_ALONE, LEAST_OF_OTHER = 100, -100, -300
"""In hundredths: the least score of a text about one person, whatever the others of its row are; where the least of
these is no page about many; and that least.
"""
_WORD = re.compile(r"[^\W\d_]{4,}")
_LONGEST, _LONGEST_MAIL = 4_000, 30
# Where two finds overlap the earlier kind stays; of one kind the longer one.
_ORDER = ("email", "profile", "ip", "account", "record", "device", "fax", "phone", "date", "address", "age", "name")
_NUMBER_BEHIND = re.compile(r"\s?\(\s?([A-Za-z]{0,3}-?\d[\d -]{3,14}[A-Za-z]?)\s?\)")
# Anna Lee, 92, a farmer; Anna Lee (92); Anna Lee 92F.
_BEFORE_AGE = re.compile(r"(?:,\s?|\s\(?|\s[mf],?\s)(?=[a-z\d])")
_AGE_BEHIND = re.compile(r"(?:9\d|1[01]\d)(?=[,).;]|\s?(?:[mf]|yo|y/o|yrs?|years?)\b|\s?\Z)")
_PHONE_BEHIND = re.compile(
    r"(?: \([a-z -]{2,15}\))?,? \(?(?:tel|phone|mobile|cell|ph)?[.:]? ?(\(?[+0-9](?:[ ./()-]{0,2}\d){6,13})(?![\w/-])"
)
_FEWEST_DIGITS = 5
# Of these signs and tables of words a text about nobody that has no digits has one, or five colons or hyphens, if
# anything but a name or a date is in it; and of these one with a name.
_SIGNS, _FEWEST_SIGNS = ("@", "/", "::", *SPELLED_AT), 5
_TELLING = frozenset(("mail_words", "profile_words", "own_site_words", "own_page_words", "old_age_words"))
_TELLING_NAMES = frozenset(("bare_names", "certain_names", "degree_words", "in_brackets_words"))
_FIRST_WORD = re.compile(r"([^\W\d_]+(?:'[^\W\d_]+)?),?\s+(?=\S)")
_NOT_OF_NAME, _HUSBAND = frozenset(("title", "hi")), re.compile(r"\bmeine? \Z")
_NUMBERS = frozenset(("account", "record", "device", "fax", "phone"))
_RANK = {kind: rank for rank, kind in enumerate(_ORDER)}


def find_in_row(question: str, answer: str, search: ModelSearch | None = None) -> tuple[Find, ...]:
    """Return what identifies a person in a row, in the order of the texts; no two of a field overlap.

    A name that is found in one of the texts is found wherever else it stands in the row. ``search``: a model that
    looks beside the rules; None: there is none.
    """
    texts = {"question": question, "answer": answer}
    return find_in_texts(texts) if search is None else search.find(texts)


def find_in_texts(named: Mapping[str, str]) -> tuple[Find, ...]:
    """Return what identifies a person in texts that belong together, by their names; as of ``find_in_row``."""
    whole = {field: mended(Text(text)) for field, text in named.items()}
    texts = {field: each.text for field, each in whole.items()}
    is_personal = is_about_one_person(*texts.values())
    if is_personal:
        language = likeliest_language("\n".join(text.text for text in texts.values()))
        spans = {field: _found_of_person(text, language) for field, text in texts.items()}
    else:
        spans = {field: _found_of_nobody(text) for field, text in texts.items()}
    is_of_person = any(spans.values())
    for field, text in texts.items():
        if not (is_personal or may_have_dates(text)):
            continue
        if dates := [*find_dates(text, is_of_person=is_of_person, is_personal=is_personal)]:
            # Flat 2/19, Elm Road is no day, 2023-05-12 14:30 no number of a phone.
            homes = [span for span in spans[field] if span.kind == "address"]
            dates = [date for date in dates if not any(date.is_part_of(home) for home in homes)]
            others = [span for span in spans[field] if not any(span.is_part_of(date) for date in dates)]
            spans[field] = _apart([*(_before_date(text, span, dates) for span in others), *dates])
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
    before = _BEFORE_AGE.match(text.lower, name.end)
    if before is None:
        return None
    found = _AGE_BEHIND.match(text.lower, before.end()) or in_words().match(text.lower, before.end())
    return None if found is None else Span(*found.span(), "age")


def _phone_behind(text: Text, name: Span) -> Span | None:
    """Return the phone number behind a name: (Anna Lee, 0151 234567)."""
    found = _PHONE_BEHIND.match(text.text, name.end)
    return None if found is None else Span(*found.span(1), "phone")


# What may stand behind a name and is one of the same person.
_BEHIND_NAMES = (_number_behind, _age_behind, _phone_behind, address_behind)


def _may_hold_more(text: Text) -> bool:
    """Tell whether a text about nobody may hold anything but names and dates; most have no digits, and hold nothing."""
    return (
        bool(text.numbers)
        or not _TELLING.isdisjoint(text.tables)
        or any(map(text.text.__contains__, _SIGNS))
        or max(text.text.count(":"), text.text.count("-")) >= _FEWEST_SIGNS
    )


def _may_hold_names(text: Text) -> bool:
    return bool(text.numbers) or not _TELLING_NAMES.isdisjoint(text.tables) or "here" in text.words


def _found_of_nobody(text: Text) -> list[Span]:
    spans: list[Span] = []
    if _may_hold_more(text):
        spans = [*find_contacts(text), *find_numbers(text), *find_ages(text), *find_addresses(text)]
        spans += find_certain_numbers(text)
    if _may_hold_names(text):
        spans += find_names(text, is_personal=False)
    return _apart(spans) if spans else spans


def _found_of_person(text: Text, language: str) -> list[Span]:
    spans = [*find_contacts(text, is_personal=True), *find_numbers(text), *find_ages(text)]
    spans += [*find_addresses(text, is_personal=True), *find_names(text, is_personal=True)]
    homes = [span for span in spans if span.kind == "address"]
    spans = [span for span in spans if not any(span.is_part_of(home) for home in homes)]
    more = [*find_personal_ages(text), *find_personal_numbers(text)]
    others = [span for span in more if not any(span.touches(other) and _stands(other, span) for other in spans)]
    numbers = [span for span in others if span.kind in _NUMBERS]
    spans = [span for span in spans if not any(_is_of_number(span, number) for number in numbers)]
    spans = [*spans, *others, *find_scored_names(text, language), *find_names_in_fields(text)]
    return _apart(_without_title(text, span) if span.kind == "name" else span for span in spans)


def _without_title(text: Text, name: Span) -> Span:
    """Return the place of a name without the words of greetings and titles at its beginning: Hilsen Norman."""
    while (word := _FIRST_WORD.match(text.lower, name.start, name.end)) and (
        near_names().get(word[1]) in _NOT_OF_NAME
        or (near_names().get(word[1]) == "bye" and word[1] not in all_names())
        or (word[1] in ("mann", "frau") and _HUSBAND.search(text.before(name.start, 6)))
    ):
        name = name._replace(start=word.end())
    return name


def _stands(other: Span, span: Span) -> bool:
    """Tell whether a span must give way to another one where they touch.

    It need not where it covers one of its kind, or a shorter one of a later kind, nor where both are numbers and
    it covers more: then they are one number, of which each rule saw a part.
    """
    if span.kind in _NUMBERS and _is_of_number(other, span):
        return False
    if span.start <= other.start and other.end <= span.end:
        is_earlier = _RANK[other.kind] < _RANK[span.kind] and not _are_numbers(other, span)
        return other.kind != span.kind and (is_earlier or other[:2] == span[:2])
    return (other.start <= span.start and span.end <= other.end) or not _are_numbers(other, span)


def _is_of_number(other: Span, number: Span) -> bool:
    """Tell whether what was taken for a profile is the beginning of a number, or for an address its end.

    Such are the letters and the digits at the end of YYZ948 27 0329 before a line that begins with a word.
    """
    if other.kind == "profile":
        return other.is_part_of(number)
    return other.kind == "address" and number.start < other.start < number.end < other.end


def _are_numbers(*spans: Span) -> bool:
    return _NUMBERS.issuperset(span.kind for span in spans)


def _before_date(text: Text, span: Span, dates: Iterable[Span]) -> Span:
    """Return a number without the words that belong to the date behind it: H-0747 el 10 de marzo."""
    for date in dates if span.kind in _NUMBERS else ():
        if span.start < date.start < span.end and not any(map(str.isdigit, text.text[date.start : span.end])):
            span = span._replace(end=span.start + len(text.text[span.start : date.start].rstrip()))
    return span


def _apart(spans: Iterable[Span]) -> list[Span]:
    """Return the spans that stay where some overlap, in the order of the text; numbers grow by those they overlap."""
    kept: list[Span] = []
    for span in sorted(set(spans), key=lambda span: (_RANK[span.kind], span.start - span.end, span.start)):
        place = bisect.bisect_left(kept, span)
        first = place - 1 if place and kept[place - 1].end > span.start else place
        last = bisect.bisect_left(kept, (span.end,), first)  # those kept lie apart, in the order of the text
        if first == last:
            kept.insert(first, span)
        elif last - first == 1 and _are_numbers(span, kept[first]):
            met = kept[first]
            kept[first] = Span(min(span.start, met.start), max(span.end, met.end), met.kind)
    return kept


class Mended(NamedTuple):
    """A text without typing errors, and for each change its start and end there and in the text as it was written."""

    text: Text
    changes: tuple[tuple[int, int, int, int], ...]

    def written(self, span: Span) -> Span:
        """Return where a part of the mended text stands in the text as it was written."""
        return span._replace(start=self._place(span.start, is_end=False), end=self._place(span.end, is_end=True))

    def _place(self, place: int, *, is_end: bool) -> int:
        shift = 0
        for start, end, written_start, written_end in self.changes:
            if place < start or (is_end and place <= start):
                break
            if place < end:
                return written_end if is_end else written_start
            shift = written_end - end
        return place + shift


def _glued(text: Text) -> Iterator[int]:
    """Yield where a space is missing between a mark and a name: dr.Lee."""
    lower = text.lower
    for word in text.words & glue_words():
        for mark in ".,!:":
            place = lower.find(word + mark)
            while place >= 0:
                end = place + len(word) + 1
                is_word = place == 0 or not (lower[place - 1].isalnum() or lower[place - 1] in "@/.-")
                if is_word and lower[end : end + 2].isalpha() and "@" not in lower[end : end + _LONGEST_MAIL]:
                    yield end
                place = lower.find(word + mark, end)


def mended(text: Text) -> Mended:
    """Return a text without typing errors in words that stand before names; the text itself where it has none."""
    has_errors = "mistyped_words" in text.tables
    edits = []
    if "glue_words" in text.tables and len(text.text) <= _LONGEST:
        edits += [(place, place, " ") for place in _glued(text)]
    if has_errors:
        for found in _WORD.finditer(text.lower):
            if right := mistyped_words().get(found[0]):
                edits.append((found.start(), found.end(), like(right, text.text[found.start() : found.end()])))
    if not edits:
        return Mended(text, ())
    pieces, changes, taken, length = [], [], 0, 0
    for start, end, right in sorted(edits):
        pieces += [text.text[taken:start], right]
        length += start - taken
        changes.append((length, length + len(right), start, end))
        length, taken = length + len(right), end
    return Mended(Text("".join(pieces) + text.text[taken:]), tuple(changes))


def telling_words() -> frozenset[str]:
    """Return the words that may tell; of which way, the weights say."""
    return load_words("identifiers", "telling_words")


def is_about_one_person(*texts: Text) -> bool:
    """Tell whether a text of a row is about one person; none is that is empty, or foreign without a telling word."""
    table = weights("text")
    scores = []
    for text in texts:
        is_own = not table.keys().isdisjoint(text.words) or "telling_foreign_words" in text.tables
        if is_own or (text.all_words and likeliest_language(text.text) in ("en", UNKNOWN)):
            scores.append(table[""] + sum(map(table.get, text.words, itertools.repeat(0))))
    if not scores:
        return False
    return max(scores) > LEAST or (max(scores) > LEAST_ALONE and min(scores) > LEAST_OF_OTHER)
