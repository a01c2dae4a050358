"""Texts with made-up identifiers of persons in odd spellings, and texts without: for ``benchmarks/identifiers.py``."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

TEMPLATES = Path(__file__).with_name("identifier_templates.yaml")
# The languages from which names are taken: those of the rules' texts are others than those of the measured ones.
LOCALES = {
    "rules": ("en_GB", "it_IT", "pt_PT", "cs_CZ", "fi_FI"),
    "measured": (
        "en_US",
        "en_US",
        "en_US",
        "en_IE",
        "de_DE",
        "fr_FR",
        "es_MX",
        "pl_PL",
        "nl_NL",
        "sv_SE",
        "tr_TR",
        "en_IN",
        "vi_VN",
        "ro_RO",
        "hr_HR",
        "es_ES",
    ),
}
LOWERED, SHOUTED = 0.25, 0.04  # shares of the texts that are in small letters and in capitals throughout
KIND_OF_SLOT = {
    "first": "name",
    "last": "name",
    "name": "name",
    "name_last_first": "name",
    "bare": "name without a cue",
    "mrn": "record",
    "insurance": "record",
    "ssn": "record",
    "nhs": "record",
    "serial": "device",
    "mac": "device",
    "vin": "device",
    "card": "account",
    "account": "account",
    "license": "account",
    "passport": "account",
    "iban": "account",
    "zip": "address",
    "handle": "profile",
}
MONTHS = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
]
ONES = [
    "zero",
    "first",
    "second",
    "third",
    "fourth",
    "fifth",
    "sixth",
    "seventh",
    "eighth",
    "ninth",
    "tenth",
    "eleventh",
    "twelfth",
    "thirteenth",
    "fourteenth",
    "fifteenth",
    "sixteenth",
    "seventeenth",
    "eighteenth",
    "nineteenth",
    "twentieth",
]
TENS = {2: "twenty", 3: "thirty", 4: "forty", 5: "fifty", 6: "sixty", 7: "seventy", 8: "eighty", 9: "ninety"}
UNITS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
FILLERS = {
    "eponym": [
        "Parkinson's disease",
        "Crohn disease",
        "Bell's palsy",
        "Down syndrome",
        "Hashimoto thyroiditis",
        "Graves' disease",
        "Marfan syndrome",
        "Guillain-Barré syndrome",
        "Hodgkin lymphoma",
        "Raynaud phenomenon",
        "Sjögren syndrome",
        "Wilson disease",
        "Turner syndrome",
        "Addison's disease",
        "Cushing syndrome",
        "Charcot-Marie-Tooth disease",
        "Meniere's disease",
        "Tourette syndrome",
        "Barrett's esophagus",
        "Stevens-Johnson syndrome",
        "Osgood-Schlatter disease",
        "Paget's disease of bone",
        "Kawasaki disease",
    ],
    "drug": [
        "metformin",
        "Xarelto",
        "Lipitor",
        "prednisone",
        "Humira",
        "ibuprofen",
        "Zoloft",
        "levothyroxine",
        "Eliquis",
        "amoxicillin",
        "Ozempic",
        "Keppra",
        "lisinopril",
        "St. John's wort",
        "Tylenol",
    ],
    "dose": ["500 mg", "2.5 mg", "0.25 mcg", "10 mg/ml", "1,000 IU", "75 mcg", "5 ml"],
    "gene": ["BRCA1", "CFTR", "HLA-B27", "MTHFR", "APOE4", "TP53", "FGFR3", "SMN1", "JAK2 V617F"],
    "lab": [
        "HbA1c is 7.2 %",
        "CD4 count is 350",
        "LDL is 130 mg/dL",
        "TSH is 95 mIU/L",
        "heart rate was 110 at rest",
        "hemoglobin is 9.8",
        "ferritin is 12 ng/mL",
        "eGFR is 94",
    ],
    "helpline": ["1-800-273-8255", "988", "1-800-222-1222", "116 123", "0800 1111", "1-888-407-4747"],
    "institute": [
        "National Institute on Aging",
        "American Heart Association",
        "National Kidney Foundation",
        "Centers for Disease Control and Prevention",
        "Parkinson's Foundation",
        "Epilepsy Society",
    ],
    "public_phone": ["301-496-1752", "1-800-242-8721", "(404) 639-3311", "1-855-653-2273"],
    "public_url": [
        "www.nia.nih.gov",
        "https://www.heart.org",
        "www.cdc.gov/flu",
        "https://medlineplus.gov/asthma.html",
    ],
    "public_date": ["March 3, 2015", "July 2002", "10/12/2019", "2018-05-01", "1 October 2020", "November 20, 2008"],
    "public_address": [
        "31 Center Drive, Bethesda, MD 20892",
        "7272 Greenville Avenue, Dallas, TX 75231",
        "30 East 33rd Street, New York, NY 10016",
    ],
    "code": ["NCT01234567", "NCT04368728", "EudraCT 2019-003456-12", "ISRCTN83971151"],
    "number": ["1,204", "15,000", "3000", "98", "120", "4000"],
    "locus": ["17q21.31", "7q31.2", "Xq28"],
    "variant": ["c.5266dup", "p.Phe508del", "rs80357906", "c.35delG"],
    "year": ["2016", "2021", "2019"],
    "icd": ["E11.9", "I10", "M54.5", "F32.1"],
}


@dataclass(frozen=True)
class Made:
    """A text and what identifies somebody in it: start, end and kind of each."""

    text: str
    spans: tuple[tuple[int, int, str], ...]


def make(which: str, count: int, seed: int) -> list[Made]:
    """Return texts of one set of templates: ``rules`` or ``measured``, or ``without`` any identifier."""
    draw = random.Random(f"{which} {seed}")
    templates = yaml.safe_load(TEMPLATES.read_text(encoding="utf-8"))[which]
    values = None if which == "without" else Values(draw, LOCALES[which])
    return [_filled(templates[number % len(templates)], values, draw) for number in range(count)]


def _filled(template: str, values: Values | None, draw: random.Random) -> Made:
    text, spans, end = "", [], 0
    for slot in re.finditer(r"\{(\w+)\}", template):
        text += template[end : slot.start()]
        value = draw.choice(FILLERS[slot[1]]) if values is None else values.of(slot[1])
        if values is not None:
            spans.append((len(text), len(text) + len(value), KIND_OF_SLOT.get(slot[1], slot[1])))
        text, end = text + value, slot.end()
    text += template[end:]
    chance = draw.random()
    changed = text.lower() if chance < LOWERED else text.upper() if chance > 1 - SHOUTED else text
    return Made(changed if len(changed) == len(text) else text, tuple(spans))


class Values:
    """Draws identifiers."""

    def __init__(self, draw: random.Random, locales: Sequence[str]) -> None:
        from faker import Faker

        self._draw = draw
        self._fakers = []
        for locale in locales:
            fake = Faker(locale)
            fake.seed_instance(draw.getrandbits(32))
            self._fakers.append(fake)
        self._us = Faker("en_US")
        self._us.seed_instance(draw.getrandbits(32))
        self._uk = Faker("en_GB")
        self._uk.seed_instance(draw.getrandbits(32))
        self._de = Faker("de_DE")
        self._de.seed_instance(draw.getrandbits(32))

    def of(self, slot: str) -> str:
        """Return a value for a slot of a template."""
        return str(getattr(self, f"_{slot}")())

    def _one_of(self, *makers: Callable[[], Any] | str) -> Any:
        maker = self._draw.choice(makers)
        return maker if isinstance(maker, str) else maker()

    def _form(self, form: str) -> str:
        """Return a form with digits for 0 and capitals for A."""
        signs = {"0": "0123456789", "9": "123456789", "A": "ABCDEFGHJKLMNPRSTUVWXYZ"}
        return "".join(self._draw.choice(signs[c]) if c in signs else c for c in form)

    def _person(self) -> tuple[str, str]:
        fake = self._draw.choice(self._fakers)
        return fake.first_name(), fake.last_name()

    def _first(self) -> str:
        return self._person()[0]

    def _last(self) -> str:
        last = self._person()[1]
        odd = self._draw.random()
        if odd < 0.08:
            return "O'" + self._draw.choice(["Brien", "Neill", "Donnell", "Sullivan", "Leary"])
        return f"{last}-{self._person()[1]}" if odd < 0.16 and " " not in last else last

    def _name(self) -> str:
        first, last = self._first(), self._last()
        odd = self._draw.random()
        if odd < 0.12:
            return f"{first} {self._form('A')}. {last}"
        return f"{first[0]}. {last}" if odd < 0.2 else f"{first} {last}"

    def _name_last_first(self) -> str:
        return f"{self._last()}, {self._first()}"

    def _bare(self) -> str:
        return f"{self._first()} {self._last()}"

    def _date(self) -> str:
        day, month, year = self._draw.randint(1, 28), self._draw.randint(1, 12), self._draw.randint(1931, 2024)
        name = MONTHS[month - 1]
        ending = "th" if day in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(day % 10, "th")
        words = ONES[day] if day <= 20 else f"twenty-{ONES[day - 20]}"
        tens, unit = divmod(year % 100, 10)
        if tens > 1 and year < 2000:
            in_words = f"nineteen {TENS[tens]}" + (f"-{UNITS[unit - 1]}" if unit else "")
        else:
            in_words = str(year)
        return self._draw.choice(
            [
                f"{month:02}/{day:02}/{year}",
                f"{month}/{day}/{year % 100:02}",
                f"{year}-{month:02}-{day:02}",
                f"{day}.{month}.{year}",
                f"{month}-{day}-{year}",
                f"{name} {day}, {year}",
                f"{day} {name} {year}",
                f"{name[:3]} {day} {year}",
                f"{day}{ending} of {name} {year}",
                f"the {words} of {name} {in_words}",
                f"{name} {day}{ending}",
                f"{day}-{name[:3]}-{year}",
            ]
        )

    def _age(self) -> str:
        age = self._draw.randint(90, 104)
        if age < 100 and self._draw.random() < 0.2:
            return "ninety" + (f"-{UNITS[age - 91]}" if age > 90 else "")
        return str(age)

    def _phone(self) -> str:
        form = self._draw.choice(
            [
                "(NXX) NXX-XXXX",
                "NXX-NXX-XXXX",
                "NXX.NXX.XXXX",
                "NXX NXX XXXX",
                "+1 NXX NXX XXXX",
                "NXXNXXXXXX",
                "1-NXX-NXX-XXXX",
                "(NXX)NXX-XXXX",
                "07700 9XXXXX",
                "+44 7700 9XXXXX",
                "0171 NXXXXXX",
                "06 NX XX XX XX",
                "+49 30 NXXXXXX",
            ]
        )
        signs = {"N": "2345679", "X": "0123456789"}
        return "".join(self._draw.choice(signs[c]) if c in signs else c for c in form)

    _fax = _phone

    def _email(self) -> str:
        local = re.sub(r"[^a-z0-9._]", "", f"{self._us.first_name()}.{self._us.last_name()}".lower())
        host = self._draw.choice(
            ["gmail.com", "yahoo.com", "hotmail.co.uk", "gmx.de", "outlook.com", "mail.example.org"]
        )
        return self._draw.choice(
            [
                f"{local}@{host}",
                f"{local}@{host}",
                local.replace(".", "_") + self._form("00") + f"@{host}",
                f"{local[0]}{local}@{host}",
                f"{local} @ {host}",
                f"{local} (at) {host.replace('.', ' (dot) ')}",
                f"{local.replace('.', ' dot ')} at {host.replace('.', ' dot ')}",
            ]
        )

    def _user(self) -> str:
        return self._us.user_name() + self._draw.choice(["", "_", "."]) + self._form("00")

    def _handle(self) -> str:
        return self._draw.choice(["", "@"]) + self._user()

    def _profile(self) -> str:
        user = self._user()
        return self._draw.choice(
            [
                f"https://www.facebook.com/{user}",
                f"facebook.com/{user}",
                f"https://twitter.com/{user}",
                f"instagram.com/{user}/",
                f"https://www.linkedin.com/in/{user}",
                f"tiktok.com/@{user}",
                f"@{user}",
                f"https://forum.example.org/users/{user}",
            ]
        )

    def _address(self) -> str:
        us, uk, de = self._us, self._uk, self._de
        in_us = f"{us.street_address()}, {us.city()}, {us.state_abbr(include_territories=False)} {us.postcode()}"
        in_uk = f"{uk.building_number()} {uk.street_name()}, {uk.city()}, {uk.postcode()}"
        in_de = f"{de.street_name()} {de.building_number()}, {de.postcode()} {de.city_name()}"
        return self._draw.choice([in_us, in_us, in_us, in_uk, in_de]).replace("\n", ", ")

    def _zip(self) -> str:
        return self._draw.choice(
            [self._us.zipcode(), self._uk.postcode(), self._us.zipcode() + "-" + self._form("0000")]
        )

    def _mrn(self) -> str:
        return self._form(
            self._draw.choice(["9000000", "00900000", "A9000000", "900-00-00", "AA-900000", "90 000 000"])
        )

    def _insurance(self) -> str:
        return self._form(self._draw.choice(["AAA900000000", "AA-9000000", "W9000 00000", "9000000000", "A9000-00-00"]))

    def _ssn(self) -> str:
        ssn = self._us.ssn()
        return self._draw.choice([ssn, ssn.replace("-", " "), ssn.replace("-", "")])

    def _nhs(self) -> str:
        while True:
            digits = [self._draw.randint(0, 9) for _ in range(9)]
            check = 11 - sum(d * w for d, w in zip(digits, range(10, 1, -1), strict=True)) % 11
            if check != 10:
                number = "".join(map(str, [*digits, check % 11]))
                return self._draw.choice([number, f"{number[:3]} {number[3:6]} {number[6:]}"])

    def _serial(self) -> str:
        return self._form(self._draw.choice(["AA900000", "900000A", "AA-9000-000", "9000000000", "A00-90000"]))

    def _mac(self) -> str:
        return self._us.mac_address().upper() if self._draw.random() < 0.5 else self._us.mac_address()

    def _vin(self) -> str:
        return self._form("9AAAA90A0AA000000")

    def _card(self) -> str:
        card = self._us.credit_card_number()
        return " ".join(re.findall(r".{1,4}", card)) if self._draw.random() < 0.5 and len(card) == 16 else card

    def _account(self) -> str:
        return self._form(self._draw.choice(["900000000", "9000-0000-00", "90000000", "00-900000"]))

    def _license(self) -> str:
        return self._form(self._draw.choice(["A9000000", "900000000", "A900-0000-0000", "AA900000A"]))

    def _passport(self) -> str:
        return self._form(self._draw.choice(["A90000000", "900000000", "AA9000000"]))

    def _iban(self) -> str:
        iban = self._draw.choice([self._de, self._uk]).iban()
        return " ".join(re.findall(r".{1,4}", iban)) if self._draw.random() < 0.5 else iban

    def _ip(self) -> str:
        return self._us.ipv6() if self._draw.random() < 0.25 else self._us.ipv4_public()
