"""Texts for ``benchmarks/identifiers.py --texts`` with one of ``HANDS``: by hands new to the rules.

The values are Faker's or drawn here, in the forms of many countries; each text has a country, a spelling of its own
(small letters, capitals, typing mistakes, missing spaces), and each value may have an odd one. A file of templates may
have ``locales`` and ``kinds`` of its own, and put a template under its country.
"""

from __future__ import annotations

import calendar
import datetime
import random
import re
import string
import unicodedata
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from identifier_texts import Made

HANDS = ("independent", "third", "fourth", "fifth", "sixth", "seventh")
HALVES = ("both", "even", "odd")
LOCALES = {"en_US": 9, "en_GB": 3, "en_IN": 2, "en_AU": 2, "en_CA": 1, "en_IE": 1, "de_DE": 1, "fr_FR": 1, "es_MX": 1}
LOCALES |= {"pl_PL": 1, "nl_NL": 1, "sv_SE": 1, "tr_TR": 1, "pt_BR": 1, "ja_JP": 1, "zh_CN": 1}
STYLES = {"plain": 60, "lower": 14, "upper": 4, "typos": 15, "spaces": 7}
MONTHS = tuple(calendar.month_name)[1:]
UNITS = ["", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
# The kind of each slot; the others are of kind "name".
KINDS = {"bare": "name without a cue", "bare_first": "name without a cue"}
KINDS |= dict.fromkeys(("date", "date_short", "month_year", "dob", "dob_de"), "date")
KINDS |= dict.fromkeys(("address", "street", "postcode"), "address")
KINDS |= dict.fromkeys(("handle", "handle_bare", "profile_url", "blog"), "profile")
KINDS |= dict.fromkeys(("mrn", "ssn", "nhs", "policy", "medicare", "nino", "aadhaar", "kvnr", "pesel"), "record")
KINDS |= dict.fromkeys(("claim", "rx"), "record") | dict.fromkeys(("serial", "mac", "vin", "plate", "imei"), "device")
KINDS |= dict.fromkeys(("bank", "card", "iban", "licence", "passport", "dea"), "account")
KINDS |= {kind: kind for kind in ("age", "phone", "fax", "email", "ip")}


@cache
def parts_of_file(hand: str) -> dict[str, Any]:
    """Return the file of templates of one of ``HANDS``."""
    path = Path(__file__).with_name(f"identifier_templates_{hand}.yaml")
    return {"locales": LOCALES, "kinds": {}} | yaml.safe_load(path.read_text(encoding="utf-8"))


def make(hand: str, with_identifiers: bool, count: int, seed: int, half: str = "both") -> list[Made]:
    """Return texts with identifiers or without; text number n is made from template n modulo their number.

    Of ``count`` texts those of templates at ``even`` or ``odd`` places are kept; they are the same ones as in ``both``.
    """
    parts = parts_of_file(hand)
    chosen, locales = parts["with" if with_identifiers else "without"], parts["locales"]
    draw = random.Random(f"{hand} {with_identifiers} {seed}")
    texts = []
    for number in range(count):
        locale, template = draw.choices(tuple(locales), tuple(locales.values()))[0], chosen[number % len(chosen)]
        if isinstance(template, dict):
            ((locale, template),) = template.items()
        values = None
        if with_identifiers:
            values = _Values(_faker(locale), locale, parts, draw)
            values.fake.seed_instance(draw.randrange(2**32))
        made = _filled(template, parts, values, draw)
        if half in ("both", HALVES[1 + number % len(chosen) % 2]):
            texts.append(made)
    return texts


@cache
def _faker(locale: str) -> Any:
    from faker import Faker

    fake = Faker(locale)
    if locale == "it_IT":
        # Faker makes the list of a set, whose order is another one in each process.
        towns = fake.provider("faker.providers.address")
        towns.cities = sorted(towns.cities)
    return fake


def _filled(template: str, parts: dict[str, Any], values: _Values | None, draw: random.Random) -> Made:
    style, kinds = draw.choices(tuple(STYLES), tuple(STYLES.values()))[0], KINDS | parts["kinds"]
    text, spans = "", []
    for part in re.split(r"(\{\w+\})", template):
        if not part.startswith("{"):
            text += _styled(part, style, draw)
            continue
        slot = part[1:-1]
        value = values.of(slot) if values else str(draw.choice(parts["fillers"][slot]))
        value = value.lower() if style == "lower" else value.upper() if style == "upper" else value
        if values:
            spans.append((len(text), len(text) + len(value), kinds.get(slot, "name")))
        text += value
    return Made(text, tuple(spans))


def _styled(part: str, style: str, draw: random.Random) -> str:
    if style == "lower":
        return part.lower()
    if style == "upper":
        return part.upper()
    if style == "spaces":
        return re.sub(r"(?<=[a-z])([.,:]) ", lambda m: draw.choice((m[1], m[1] + "  ", " " + m[1] + " ", m[0])), part)
    if style == "typos":
        return re.sub(r"(?<![\w@/.])[A-Za-z]{5,}(?![\w@/])", lambda m: _mistyped(m[0], draw), part)
    return part


def _mistyped(word: str, draw: random.Random) -> str:
    if draw.random() > 0.12:
        return word
    place = draw.randrange(1, len(word) - 1)
    swapped = word[:place] + word[place + 1] + word[place] + word[place + 2 :]
    return draw.choice((word[:place] + word[place + 1 :], word[:place] + word[place] + word[place:], swapped))


def _words(number: int) -> str:
    return "ninety" if number == 90 else f"ninety-{UNITS[number - 90]}"


def _ascii(name: str) -> str:
    """Return a name without accents."""
    plain = name.translate(str.maketrans({"ł": "l", "Ł": "L", "ı": "i", "ß": "ss", "ø": "o", "’": "'"}))
    return unicodedata.normalize("NFKD", plain).encode("ascii", "ignore").decode()


class _Values:
    """The made-up identifiers of one text: a method or a form of the file for each slot."""

    def __init__(self, fake: Any, locale: str, parts: dict[str, Any], draw: random.Random) -> None:
        self.fake, self.locale, self.parts, self.draw = fake, locale, parts, draw
        self.romanized = locale in ("ja_JP", "zh_CN")

    def of(self, slot: str) -> str:
        """Return a value for a slot."""
        value = getattr(self, slot, None)
        return str(value() if value else self._form("forms", slot))

    def _form(self, part: str, key: str) -> str:
        """Return a form of the file, with digits for ``#``, capitals for ``?``, and hexadecimal digits for ``^``."""
        signs = {"#": string.digits, "?": "ABCDEFGHJKLMNPRSTUVWXYZ", "^": "0123456789abcdef"}
        form = str(self.draw.choice(self.parts[part][key]))
        return "".join(self.draw.choice(signs[sign]) if sign in signs else sign for sign in form)

    def _spelled(self, name: str) -> str:
        chance = self.draw.random()
        if chance < 0.14:
            return name.lower()
        if chance < 0.20:
            return name.upper()
        return _ascii(name) if chance < 0.30 else name

    def _given(self) -> str:
        if self.romanized:
            return str(self.fake.romanized_name().split()[0])
        return str(self.fake.first_name())

    def _family(self) -> str:
        if self.draw.random() < 0.08:
            return self._form("forms", "family")
        if self.romanized:
            return str(self.fake.romanized_name().split()[-1])
        last = str(self.fake.last_name())
        return f"{last}-{self.fake.last_name()}" if self.draw.random() < 0.06 else last

    def first(self) -> str:
        """Return a given name."""
        return self._spelled(self._given())

    def last(self) -> str:
        """Return a family name."""
        return self._spelled(self._family())

    def name(self) -> str:
        """Return a full name, some with initials."""
        given, family, middle = self._given(), self._family(), self.draw.choice(string.ascii_uppercase)
        initials = (f"{given[0]}. {family}", f"{given} {middle}. {family}", f"{given[0]}{middle} {family}")
        return self._spelled(self.draw.choice((f"{given} {family}",) * 7 + initials))

    def last_first(self) -> str:
        """Return ``Lee, Anna``."""
        return self._spelled(f"{self._family()}, {self._given()}")

    bare, bare_first = name, first

    def _written(self, day: datetime.date) -> str:
        ending = "th" if 10 < day.day < 20 else {1: "st", 2: "nd", 3: "rd"}.get(day.day % 10, "th")
        numeric = "{d:%m/%d/%Y}" if self.locale == "en_US" else "{d:%d/%m/%Y}"
        form = self.draw.choice((numeric, numeric, *self.parts["dates"]))
        return str(form.format(d=day, month=MONTHS[day.month - 1], mon=MONTHS[day.month - 1][:3], ending=ending))

    def date(self) -> str:
        """Return a day of the last years."""
        return self._written(datetime.date(2025, 6, 30) - datetime.timedelta(days=self.draw.randrange(3000)))

    def dob(self) -> str:
        """Return a day of birth."""
        return self._written(datetime.date(2010, 1, 1) - datetime.timedelta(days=self.draw.randrange(30000)))

    def dob_de(self) -> str:
        """Return a day of birth as a German writes it."""
        return f"{datetime.date(2010, 1, 1) - datetime.timedelta(days=self.draw.randrange(30000)):%d.%m.%Y}"

    def date_short(self) -> str:
        """Return a day without its year."""
        month, number = self.draw.choice(MONTHS), self.draw.randrange(4, 21)
        forms = (f"{month} {number}th", f"{number} {month}", f"the {number}th of {month}", f"{month[:3]} {number}")
        return self.draw.choice(forms)

    def month_year(self) -> str:
        """Return a month with its year."""
        month, year = self.draw.choice(MONTHS), self.draw.randrange(2009, 2026)
        return self.draw.choice((f"{month} {year}", f"{month[:3]} {year}", f"{month}, {year}", f"{month} of {year}"))

    def age(self) -> str:
        """Return an age over 89."""
        number = self.draw.randrange(90, 105)
        return _words(number) if number < 100 and self.draw.random() < 0.3 else str(number)

    def phone(self) -> str:
        """Return a number as Faker or a person of the country writes it."""
        if self.locale == "zh_CN" or self.draw.random() < 0.5:
            return self._form("phones", self.locale if self.locale in self.parts["phones"] else "en_US")
        return str(self.fake.phone_number())

    fax = phone

    def _filled(self, part: str) -> str:
        """Return a form of the file with a given and a family name in small letters, without signs and accents."""
        given, family = (
            "".join(sign for sign in _ascii(name).lower() if sign.isalpha()) for name in (self._given(), self._family())
        )
        form = self.draw.choice(self.parts[part])
        return str(form.format(first=given, last=family, two=self.draw.randrange(10, 100)))

    def handle_bare(self) -> str:
        """Return the name of an account."""
        return self._filled("handles")

    def handle(self) -> str:
        """Return the name of an account with the sign of its site."""
        return self.draw.choice(("@", "u/")) + self._filled("handles")

    def profile_url(self) -> str:
        """Return the page of a person on a social site."""
        return str(self.draw.choice(self.parts["sites"])) + self._filled("handles")

    def blog(self) -> str:
        """Return the address of a person's own pages."""
        return self._filled("blogs")

    def email(self) -> str:
        """Return an address, some spelled out."""
        user, host = self._filled("handles"), self._form("forms", "host")
        user += "+med" if self.draw.random() < 0.05 else ""
        spelled = f"{user.replace('.', ' dot ')} at {host.replace('.', ' dot ')}"
        odd = (f"{user}@{host}".upper(), spelled, f"{user} [at] {host.replace('.', ' [dot] ')}", f"{user}(at){host}")
        return self.draw.choice((f"{user}@{host}",) * 7 + (*odd, f"{user} @ {host}"))

    def street(self) -> str:
        """Return a street with its number."""
        line = self._form("forms", "street") if self.romanized else str(self.fake.street_address())
        return self._spelled(line.replace("\n", ", "))

    def postcode(self) -> str:
        """Return a postcode."""
        return self._form("forms", "zip") if self.romanized else str(self.fake.postcode())

    def address(self) -> str:
        """Return a street with a town, most with a postcode, as the country orders them."""
        street, town, code = self.street(), "Fresno" if self.romanized else str(self.fake.city()), self.postcode()
        if self.locale in ("en_US", "en_AU", "en_CA"):
            state = self.fake.province_abbr() if self.locale == "en_CA" else self.fake.state_abbr()
            forms = (f"{street}, {town}, {state} {code}", f"{street}, {town} {state} {code}", f"{street}, {town}")
        elif self.locale in ("en_GB", "en_IE", "en_IN"):
            forms = (f"{street}, {town} {code}", f"{street}, {town}, {code}", f"{street}, {town}")
        else:
            forms = (f"{street}, {code} {town}", f"{street}, {code} {town}", f"{street}, {town}")
        return self.draw.choice(forms)

    def _grouped(self, number: str, sign: str) -> str:
        return re.sub(r"(.{4})(?=.)", rf"\1{sign}", number)

    def iban(self) -> str:
        """Return an IBAN, half of them in groups of four."""
        number = str(self.fake.iban())
        return self.draw.choice((number, self._grouped(number, " ")))

    def card(self) -> str:
        """Return a number of a card, two thirds of them in groups of four."""
        number = str(self.fake.credit_card_number())
        return self.draw.choice((number, self._grouped(number, " "), self._grouped(number, "-")))

    def ip(self) -> str:
        """Return an address of either version."""
        return str(self.fake.ipv4() if self.draw.random() < 0.7 else self.fake.ipv6())
