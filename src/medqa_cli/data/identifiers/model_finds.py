"""What a token-classification model of the user finds in a row, beside the rules.

The model says where something may stand. Whether it counts is told as by the rules: no eponym or word of medicine is a
name, no town an address, no helpline a person's number. A row that needs no model never comes here.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from medqa_cli import console
from medqa_cli.data.identifiers.ages import in_words
from medqa_cli.data.identifiers.contacts import FREE_OF_CHARGE, is_ip, is_of_public
from medqa_cli.data.identifiers.dates import find_dates
from medqa_cli.data.identifiers.finding import find_in_texts, is_about_one_person
from medqa_cli.data.identifiers.finds import KINDS, Find, Span
from medqa_cli.data.identifiers.name_forms import POSSESSIVE, is_common, may_be_name
from medqa_cli.data.identifiers.names import repeated
from medqa_cli.data.identifiers.personal_numbers import is_own
from medqa_cli.data.identifiers.text import Text
from medqa_cli.data.identifiers.word_tables import certain_names, medical_words
from medqa_cli.errors import InputError
from medqa_cli.resources import load_pattern, load_words
from medqa_cli.spelling import listed

Parts = Sequence[tuple[int, int, str]]
_PLACE = "place"  # of model_labels.yaml
_SIGN = re.compile(r"[^A-Z0-9]")
_EDGES = " \t\n\r\xa0,;:!?\"'’“”<>|*"
_WORD = re.compile(r"[^\W\d_]+")
_DIGIT = re.compile(r"\d")
_FULL_STOP = re.compile(r"(?<![\s.][^\W\d_])(?<!\A[^\W\d_])\.$")
_LONG_WORD = re.compile(r"[a-z]{4,}")
_AGE = re.compile(r"(?<!\d)(?:9\d|1[01]\d|12[0-5])(?!\d)")
_FEWEST_DIGITS = 5  # of a phone number
# What is put for these changes all digits, so that they may cover finds of other kinds; names only the first one, since
# the others keep words of streets, and letters with accents.
_CHANGED_AS_A_WHOLE = ("email", "address", "record", "device", "account")
_OF_DIGITS = frozenset(("phone", "fax", "record", "device", "account", "ip", "age"))
_JOINED = ("name", "address")


class Labeler(Protocol):
    """A model that labels parts of texts."""

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels that it knows, without prefixes and without that of all else."""

    def label(self, texts: Sequence[str], tell: Callable[[float], None] = ...) -> Sequence[Parts]:
        """Return start, end and label of parts of each text; ``tell`` is told which share of the work is done."""


class _Joined(NamedTuple):
    span: Span
    by_model: bool


class ModelSearch:
    """Finds what rules and a model find together.

    Args:
        labeler: the model.
        path: its folder, as the config names it.

    Raises:
        InputError: none of the model's labels is one of an identifier.
    """

    def __init__(self, labeler: Labeler, path: str) -> None:
        self.path = path
        self.labels: dict[str, list[str]] = {}
        self._labeler = labeler
        self._known: dict[str, Parts] = {}
        self._kinds: dict[str, str] = {}
        for label in labeler.labels:
            kind = next((kind for kind in (*KINDS, _PLACE) if _plain(label) in load_words("model_labels", kind)), None)
            if kind is not None:
                self._kinds[label] = kind
                self.labels.setdefault("address" if kind == _PLACE else kind, []).append(label)
        if not self._kinds:
            raise InputError(
                f"data.identifiers_model: none of the labels of the model in {path} is known: "
                f"{listed(labeler.labels) or 'it has none'}",
                f"take a model with labels such as PER, PATIENT, DATE or PHONE; for others rename them in id2label of "
                f"{path}/config.json, where they mean the same; docs/patient_data.md lists them",
            )
        left = load_words("model_labels", "left")
        unknown = [label for label in labeler.labels if label not in self._kinds and _plain(label) not in left]
        if unknown:
            console.note(f"{path}: labels that medqa does not know, and leaves aside: {listed(unknown)}")

    def as_json(self) -> dict[str, Any]:
        """Return the part of ``report.json`` that says which model it is, and which of its labels count as what."""
        return {"path": self.path, "labels": self.labels}

    def prepare(self, texts: Sequence[str], tell: Callable[[float], None]) -> None:
        """Let the model read texts together, which is faster than one by one; what it found before is forgotten."""
        distinct = list(dict.fromkeys(texts))
        self._known = dict(zip(distinct, self._labeler.label(distinct, tell), strict=True))

    def find(self, named: Mapping[str, str]) -> tuple[Find, ...]:
        """Return what identifies a person in texts that belong together, by their names; as of ``find_in_texts``.

        Finds that overlap and are of one kind are one, over both. Of two kinds that of the rules stays, and the model's
        is cut at it; but a longer find of the model is whole where what is put for it changes the other as well.
        """
        by_rules = find_in_texts(named)
        known = self._known
        if not all(map(known.__contains__, named.values())):  # the model has not read them all before
            known = dict(zip(named.values(), self._labeler.label(list(named.values())), strict=True))
        parts = {field: known[text] for field, text in named.items()}
        if not any(parts.values()):
            return by_rules
        texts = {field: Text(text) for field, text in named.items()}
        spans = {field: list(self._spans(text, parts[field])) for field, text in texts.items()}
        is_of_person = bool(by_rules) or any(spans.values()) or is_about_one_person(*texts.values())
        found: dict[str, list[_Joined]] = {}
        for field, text in texts.items():
            own = [Span(find.start, find.end, find.kind) for find in by_rules if find.field == field]
            # The dates that the model sees, and that the rules would take in a text about one person.
            seen = [(start, end) for start, end, label in parts[field] if self._kinds.get(label) == "date"]
            dates = find_dates(text, is_of_person=True, is_personal=True) if seen and is_of_person else ()
            both = (date for date in dates if any(date.start < end and start < date.end for start, end in seen))
            found[field] = _joined(text.text, own, [*spans[field], *both])
        names = frozenset(
            named[field][each.span.start : each.span.end]
            for field, joined in found.items()
            for each in joined
            if each.span.kind == "name" and each.by_model
        )
        for field, text in texts.items() if names else ():
            joined = found[field]
            again = (span for span in repeated(text, names) if not any(span.touches(each.span) for each in joined))
            found[field] = sorted([*joined, *(_Joined(span, by_model=True) for span in again)])
        return tuple(
            Find(field, *each.span, by_model=each.by_model) for field, joined in found.items() for each in joined
        )

    def _spans(self, text: Text, parts: Parts) -> Iterator[Span]:
        """Yield the parts that count, but for dates; of one kind side by side they are one: a first and a last name."""
        last: tuple[int, int, str, str] | None = None
        for start, end, label in sorted(parts):
            kind = self._kinds.get(label, "")
            if last and kind in _JOINED and last[3] == kind and last[2] != label and text.text[last[1] : start] == " ":
                last = (last[0], end, label, kind)
                continue
            if last:
                yield from _counted(text, last[0], last[1], last[3])
            last = (start, end, label, kind)
        if last:
            yield from _counted(text, last[0], last[1], last[3])


def _plain(label: str) -> str:
    return _SIGN.sub("", label.upper())


def _counted(text: Text, start: int, end: int, kind: str) -> Iterator[Span]:
    """Yield what of a part counts as an identifier of a kind."""
    start, end = _trimmed(text.text, start, end)
    value = text.lower[start:end]
    digits = re.sub(r"\D", "", value)
    if kind == "name":
        possessive = POSSESSIVE.search(value)
        end -= len(possessive[0]) if possessive else 0
        if _is_name(text, start, end):
            yield Span(start, end, kind)
    elif kind == "age":
        found = _AGE.search(text.lower, start, end) or in_words().search(text.lower, start, end)
        if found:
            yield Span(*found.span(), kind)
    elif kind in ("phone", "fax"):
        is_free = kind == "phone" and FREE_OF_CHARGE.fullmatch(digits)
        if len(digits) >= _FEWEST_DIGITS and not is_free and not is_of_public(text, start, end, is_personal=False):
            yield Span(start, end, kind)
    elif kind == "email":
        if not load_pattern("identifiers", "public_mail").search(value) and re.search(r"@|\bat\b|\(at\)", value):
            yield Span(start, end, kind)
    elif kind == "profile":
        is_public = load_pattern("identifiers", "public_handle").search(value)
        if not is_public and not certain_names().isdisjoint(_LONG_WORD.findall(value)):
            yield Span(start, end, kind)
    elif kind in ("address", _PLACE):
        if (digits or (kind == "address" and _WORD.search(value))) and not is_of_public(
            text, start, end, is_personal=False
        ):
            yield Span(start, end, "address")
    elif kind in ("record", "device", "account"):
        is_long = len(digits) >= 4 or (len(digits) >= 3 and len(_WORD.findall(value)) > 0)
        if is_long and is_own(text, start, end):
            yield Span(start, end, kind)
    elif kind == "ip" and is_ip(value):
        yield Span(start, end, kind)


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    """Return a part without marks around it; brackets stay where both are in it, and a full stop behind an initial."""
    while start < end:
        value = text[start:end]
        opened, closed = (sum(map(value.count, signs)) for signs in ("([", ")]"))
        if value[0] in _EDGES or (value[0] in "([" and opened > closed):
            start += 1
        elif value[-1] in _EDGES or (value[-1] in ")]" and closed > opened) or _FULL_STOP.search(value):
            end -= 1
        else:
            break
    return start, end


def _is_name(text: Text, start: int, end: int) -> bool:
    """Tell whether a name is a person's: no eponym, and not only words of the language, of medicine, or of places."""
    words = _WORD.findall(text.lower[start:end])
    if not any(len(word) > 1 for word in words):
        return False
    if all(is_common(word) or word in medical_words() for word in words):
        return False
    return may_be_name(text, start, end, is_sure=not certain_names().isdisjoint(words))


def _joined(text: str, own: Sequence[Span], others: Sequence[Span]) -> list[_Joined]:
    """Join finds of the rules with those of a model, as of ``ModelSearch.find``; in the order of the text."""
    found = [_Joined(span, by_model=False) for span in own]
    for span in sorted(others):
        touched = [each for each in found if span.touches(each.span)]
        # Finds of other kinds that are part of a longer one that is changed as a whole.
        covered = [
            each
            for each in touched
            if span.kind in _CHANGED_AS_A_WHOLE
            and span.kind != each.span.kind
            and (each.span.kind != "name" or span.kind == "email")
            and span.start <= each.span.start
            and each.span.end <= span.end
            and _signs(text, each.span) != _signs(text, span)
        ]
        staying = [each.span for each in touched if each not in covered and each.span.kind != span.kind]
        for piece in _outside(text, span, staying):
            same = [each for each in found if each.span.kind == span.kind and piece.touches(each.span)]
            whole = Span(
                min([piece.start, *(each.span.start for each in same)]),
                max([piece.end, *(each.span.end for each in same)]),
                span.kind,
            )
            is_left_over = (
                piece[:2] != span[:2] and span.kind in _OF_DIGITS and not _DIGIT.search(text[slice(*piece[:2])])
            )
            if (
                is_left_over
                or not _signs(text, piece)
                or any(_signs(text, each.span) == _signs(text, whole) for each in same)
            ):
                continue
            gone = {*same, *(each for each in covered if whole.touches(each.span))}
            found = [each for each in found if each not in gone]
            found.append(_Joined(whole, by_model=True))
    return sorted(found)


def _signs(text: str, span: Span) -> str:
    """Return the letters and digits of a part."""
    return "".join(filter(str.isalnum, text[span.start : span.end]))


def _outside(text: str, span: Span, others: Sequence[Span]) -> Iterator[Span]:
    """Yield what of a part is outside of others, without marks around it."""
    start = span.start
    for other in (*sorted(others), Span(span.end, span.end, "")):
        if start < other.start:
            first, end = _trimmed(text, start, other.start)
            if first < end:
                yield Span(first, end, span.kind)
        start = max(start, other.end)
