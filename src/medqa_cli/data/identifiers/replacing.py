"""Stand-ins for what identifies a person: of the same kind and form, the same one for the same value within a row.

Dates of a row move by the same number of days, so that the time between them stays. E-mail addresses and IP addresses
come from the ranges that are kept for examples (RFC 2606, 5737, 3849), North American phone numbers from 555-01xx.
"""

import functools
import hashlib
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta

from medqa_cli.data.identifiers.finds import Find
from medqa_cli.data.identifiers.text import Text, like
from medqa_cli.data.identifiers.word_tables import certain_names, first_names, surnames
from medqa_cli.data.identifiers.written_dates import ROMAN, WrittenDate, dates_in, day_number, month_number, ordinals
from medqa_cli.resources import load_words, load_yaml

_NEAREST_DAYS, _FARTHEST_DAYS = 30, 400
_WHOLE_YEAR = range(364, 368)  # would leave a date without a year where it is
_YEAR_OF_NONE = 2000  # of a date without a year: a leap year
_WORD = re.compile(r"[^\W\d_]+")
_NANP_DIGITS = 10
_APOSTROPHES = tuple("'’ʼ`")
_STREET_ENDING = re.compile(r".+?(?=stra(?:ß|ss)e$|str$|weg$|platz$|gasse$|allee$|straat$|laan$|gracht$|gatan$)")


@dataclass(frozen=True)
class Replaced:
    """The texts of a row with stand-ins, and what was put for what."""

    question: str
    answer: str
    values: dict[str, str] = field(default_factory=dict)

    def applied(self, text: str) -> str:
        """Return another text of the row, such as its topic, with the same stand-ins."""
        for value in sorted(self.values, key=len, reverse=True):
            stand_in = self.values[value].replace("\\", r"\\")
            text = re.sub(rf"(?<!\w){re.escape(value)}(?!\w)", stand_in, text)
        return text


def replace_finds(question: str, answer: str, finds: Sequence[Find], seed: int) -> Replaced:
    """Put stand-ins for the finds of a row.

    Args:
        question: the text that was looked through.
        answer: likewise.
        finds: what was found.
        seed: draws the stand-ins, with the texts.
    """
    texts, values = replace_in_texts({"question": question, "answer": answer}, finds, seed)
    return Replaced(texts["question"], texts["answer"], values)


def replace_in_texts(
    named: Mapping[str, str], finds: Sequence[Find], seed: int
) -> tuple[dict[str, str], dict[str, str]]:
    """Put stand-ins for the finds of texts that belong together; a value has the same one in all of them.

    Args:
        named: the texts that were looked through, by name.
        finds: what was found.
        seed: draws the stand-ins, with the texts.

    Returns:
        the texts with stand-ins, and what was put for what.
    """
    whole = "\0".join((str(seed), *named.values()))
    digest = hashlib.blake2b(whole.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    stand_ins = StandIns(random.Random(int.from_bytes(digest, "big")))
    texts = dict(named)
    for name, text in named.items():
        for find in sorted((find for find in finds if find.field == name), key=lambda find: -find.start):
            value = text[find.start : find.end]
            texts[name] = texts[name][: find.start] + stand_ins.of(value, find.kind) + texts[name][find.end :]
    return texts, stand_ins.values


def same_form(value: str, kind: str, draw: random.Random) -> str:
    """Return another value of the form of one, drawn anew: as many digits, as many words, the same signs."""
    return StandIns(draw).of(value, kind)


class StandIns:
    """The stand-ins of one row.

    Args:
        draw: draws them.
    """

    def __init__(self, draw: random.Random) -> None:
        self.values: dict[str, str] = {}
        self._draw = draw
        self._words: dict[str, str] = {}
        days = [days for days in range(_NEAREST_DAYS, _FARTHEST_DAYS + 1) if days not in _WHOLE_YEAR]
        self._days = draw.choice((-1, 1)) * draw.choice(days)

    def of(self, value: str, kind: str) -> str:
        """Return the stand-in of a value; the same again for the same value."""
        if value not in self.values:
            for _ in range(100):
                made = self._made(value, kind)
                if made != value:
                    break
            self.values[value] = made
        return self.values[value]

    def _made(self, value: str, kind: str) -> str:
        if kind == "name":
            return self._name(value)
        if kind == "date":
            return self._date(value)
        if kind == "age":
            return self._age(value)
        if kind in ("phone", "fax"):
            return self._phone(value)
        if kind == "email":
            return self._email(value)
        if kind == "profile":
            return self._profile(value)
        if kind == "address":
            return self._address(value)
        if kind == "ip":
            if ":" in value:
                return "2001:db8::" + ":".join(f"{self._draw.randint(1, 0xFFFF):x}" for _ in range(2))
            return f"{self._draw.choice(('192.0.2', '198.51.100', '203.0.113'))}.{self._draw.randint(1, 254)}"
        return self._signs(value)

    def _signs(self, value: str) -> str:
        """Return a value with other digits for digits and letters for letters; the first digit stays above 0."""
        return "".join(self._sign(sign, value[:place]) for place, sign in enumerate(value))

    def _sign(self, sign: str, before: str) -> str:
        if sign.isdecimal():
            return self._draw.choice("123456789" if sign != "0" and not any(map(str.isdigit, before)) else "0123456789")
        if sign.isascii() and sign.isalpha():
            letter = self._draw.choice("ABCDEFGHJKLMNPRSTUVWXYZ")
            return letter if sign.isupper() else letter.lower()
        return sign

    def _name(self, value: str) -> str:
        """Return a name word by word: particles and titles stay, an initial becomes that of the word's stand-in."""
        words = _WORD.findall(value)
        last = words[-1] if words else ""

        def other(match: re.Match[str]) -> str:
            word = match[0]
            if len(word) > 1 and word.lower() in load_words("identifiers", "particles"):
                return word
            if len(word) == 1:
                if value[match.end() : match.end() + 1] in _APOSTROPHES:
                    return word
                return self._draw.choice("ABCDEFGHJKLMNPRST") if word.isupper() else word
            if word.lower() not in self._words:
                is_last = word == last and len(words) > 1
                self._words[word.lower()] = self._draw.choice(_stand_in_surnames() if is_last else _stand_in_names())
            return like(self._words[word.lower()], word)

        return _WORD.sub(other, value)

    def _age(self, value: str) -> str:
        digits = re.match(r"\d+", value)
        if digits:
            age = self._draw.randint(90, 99) if len(digits[0]) == 2 else self._draw.randint(100, 110)
            return f"{age}{_ordinal_ending(age) if digits.end() < len(value) else ''}"
        words = self._draw.choice(load_yaml("identifiers")["ages_in_words"])
        if not value.lower().startswith(("nin", "a", "one")):  # of another language
            return str(self._draw.randint(90, 99))
        return str(like(words, value))

    def _phone(self, value: str) -> str:
        digits = [c for c in value if c.isdecimal()]
        if not digits:
            return self._signs(value)
        if len(digits) in (_NANP_DIGITS, _NANP_DIGITS + 1) and (len(digits) == _NANP_DIGITS or digits[0] == "1"):
            made = f"{self._draw.randint(201, 989)}55501{self._draw.randint(0, 99):02}"
            made = "1" * (len(digits) > _NANP_DIGITS) + made
        else:
            # The code of the country, or the zero before that of a town, stays.
            kept = 2 if value.lstrip("( ").startswith("+") else 1 if digits[0] == "0" else 0
            made = "".join(digits[:kept]) + "".join(self._draw.choice("123456789") for _ in digits[kept:])
        rest = iter(made)
        return "".join(next(rest) if c.isdecimal() else c for c in value)

    def _email(self, value: str) -> str:
        at = re.search(r"\s?(?:@|\(at\)|\[at\]|\{at\}|\bat\b)\s?", value, re.IGNORECASE)
        if at is None:
            return self._signs(value)
        domain = value[at.end() :]
        dot = re.search(r"\s?(?:\(dot\)|\[dot\]|\{dot\}|\bdot\b|\.)\s?", domain, re.IGNORECASE)
        spelled = dot[0] if dot else "."
        return f"{self._handle(value[: at.start()])}{at[0]}example{spelled}com"

    def _handle(self, value: str) -> str:
        """Return another name of an account, with digits for digits and names for words."""
        words = _WORD.sub(lambda word: like(self._draw.choice(_stand_in_names()), word[0].lower()), value)
        return re.sub(r"\d", lambda _: self._draw.choice("0123456789"), words)

    def _profile(self, value: str) -> str:
        parts = re.split(r"(?<=[/@~])", value)
        if len(parts) == 1:
            site = re.fullmatch(r"([\w-]+)(\.(?:blogspot|wordpress|tumblr|livejournal)\.com)", value, re.IGNORECASE)
            return self._handle(site[1]) + site[2] if site else self._handle(value)
        kept = parts[:-1] if parts[-1] else parts[:-2]
        return "".join(kept) + self._handle("".join(parts[len(kept) :]))

    def _address(self, value: str) -> str:
        kept = load_words("identifiers", "address_words_kept")

        def other(match: re.Match[str]) -> str:
            word = match[0]
            is_code = (match.end() < len(value) and value[match.end()].isdigit()) or value[
                match.start() - 1 : match.start()
            ].isdigit()
            if is_code and match.start():
                return "".join(self._sign(c, "x") for c in word)
            if word.lower() in kept or len(word) == 1:
                return word
            if word.lower() not in self._words:
                self._words[word.lower()] = self._draw.choice(load_yaml("identifiers")["street_stand_ins"])
            stem = _STREET_ENDING.match(word)
            return like(self._words[word.lower()], word) + (word[stem.end() :] if stem else "")

        digits = iter("".join(self._draw.choice("123456789") for _ in value))
        return re.sub(r"\d", lambda _: next(digits), _WORD.sub(other, value))

    def _date(self, value: str) -> str:
        """Return the date moved by the days of the row, each part written as before."""
        written = max(dates_in(Text(value), in_any_form=True), key=lambda date: date.end - date.start, default=None)
        if written is None:
            return self._signs(value)
        moved = _date_of(value, written, written.day, self._days)
        numbers = re.findall(r"\d+", value[written.start : written.end])
        pads = any(number.startswith("0") for number in numbers) or (len(numbers) == 3 and len(numbers[0]) == 4)
        parts = [(written.month, _month_like(moved, value[slice(*written.month)], pads))]
        for place in (written.day, *written.others):
            if place:
                day = _date_of(value, written, place, self._days).day
                parts.append((place, _day_like(day, value[slice(*place)], pads)))
        if written.year:
            parts.append((written.year, _year_like(moved.year, value[slice(*written.year)])))
        for (start, end), text in sorted(parts, reverse=True):
            value = value[:start] + text + value[end:]
        return value


@functools.cache
def _stand_in_names() -> list[str]:
    return sorted(
        name for name in certain_names() & first_names() if 3 < len(name) < 9 and name.isascii() and name.isalpha()
    )


@functools.cache
def _stand_in_surnames() -> list[str]:
    return sorted(name for name in certain_names() & surnames() if 3 < len(name) < 10 and name.isascii())


def _date_of(value: str, written: WrittenDate, place: tuple[int, int] | None, days: int) -> date:
    """Return the day at a place of a date moved by some days; where it has none the middle of its month."""
    month = month_number(value[slice(*written.month)])
    day = day_number(value[slice(*place)]) if place else 15
    year = _year_of(value[slice(*written.year)]) if written.year else _YEAR_OF_NONE
    try:
        return date(year, month, day) + timedelta(days=days)
    except ValueError:  # February 30
        return date(year, month, 28) + timedelta(days=days)


def _year_of(text: str) -> int:
    digits = re.sub(r"\D", "", text)
    if len(digits) == 4:
        return int(digits)
    if digits:
        return 1900 + int(digits) + (100 if int(digits) < 30 else 0)
    return next((year for year in range(1900, 2030) if text.lower() in _years_in_words(year)), _YEAR_OF_NONE)


@functools.cache
def _years_in_words(year: int) -> tuple[str, ...]:
    """Return the ways in which a year is written in words: nineteen eighty-seven, two thousand and five."""
    ones = load_yaml("identifiers")["numbers_in_words"]
    tens = dict(zip(range(20, 100, 10), load_yaml("identifiers")["tens_in_words"], strict=True))

    def two(number: int) -> list[str]:
        if number < 20:
            return [ones[number]]
        if number % 10 == 0:
            return [tens[number]]
        return [f"{tens[number // 10 * 10]}{sign}{ones[number % 10]}" for sign in "- "]

    century, rest = divmod(year, 100)
    head = {19: "nineteen", 20: "twenty"}[century]
    ways = [
        f"{head} {word}" for word in (["hundred"] if rest == 0 else [f"oh {ones[rest]}"] if rest < 10 else two(rest))
    ]
    if century == 20:
        ways += (
            ["two thousand"] if rest == 0 else [f"two thousand{a}{word}" for word in two(rest) for a in (" ", " and ")]
        )
    return tuple(ways)


def _month_like(moved: date, model: str, pads: bool) -> str:
    if model.isdigit():
        return f"{moved.month:02}" if pads else str(moved.month)
    if model.lower() in ROMAN:
        return like(ROMAN[moved.month - 1], model)
    for language in load_yaml("identifiers")["months"].values():
        names = [row.split() for row in language]
        for row in names:
            if model.lower() in row:
                place = min(row.index(model.lower()), len(names[moved.month - 1]) - 1)
                return like(names[moved.month - 1][place], model)
    return str(moved.month)


def _day_like(day: int, model: str, pads: bool) -> str:
    digits = re.match(r"\d+", model)
    if digits:
        ending = model[digits.end() :]
        if ending.lower() in ("st", "nd", "rd", "th"):
            new = _ordinal_ending(day)
            ending = like(new, ending) if ending.isupper() else new
        return (f"{day:02}" if pads else str(day)) + ending
    for words in load_yaml("identifiers")["days_in_words"].values():
        if model.lower() in words.split():
            return like(words.split()[day - 1], model)
    if model.lower() not in ordinals():
        return str(day)
    sign = " " if " " in model else "-"
    name = next(
        name for name, number in ordinals().items() if number == day and (sign in name or day <= 20 or day == 30)
    )
    return like(name, model)


def _ordinal_ending(number: int) -> str:
    return "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")


def _year_like(year: int, model: str) -> str:
    digits = re.sub(r"\D", "", model)
    if len(digits) == 4:
        return str(year)
    if digits:
        return model.replace(digits, f"{year % 100:02}")
    ways = _years_in_words(min(max(year, 1900), 2099))
    return like(ways[0], model)
