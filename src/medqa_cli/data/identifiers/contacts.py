"""How a person is reached: e-mail addresses, web profiles, phone and fax numbers, IP addresses.

Addresses and numbers of the public (helplines, institutes, clearing houses) stay.
"""

import ipaddress
import re
from collections.abc import Iterator

from medqa_cli.data.identifiers.finds import Span
from medqa_cli.data.identifiers.labelled_codes import is_of_product
from medqa_cli.data.identifiers.profiles import find_profiles
from medqa_cli.data.identifiers.text import Text
from medqa_cli.resources import load_pattern, load_words

_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_EMAIL = re.compile(
    rf"(?<![\w.+%-])(?P<local>[^\W_](?:[\w.+%'-]{{0,62}}[\w+-])?)\s?@\s?(?P<domain>(?:{_LABEL}\.){{1,4}}[a-z]{{2,24}}"
    rf"|{_LABEL}\s?\.\s?(?:com|org|net|edu|de|fr|es|it|co\.uk))"
    r"(?![\w-])"
)
# anna.lee (at) mail (dot) com, anna underscore lee at gmail dot com
_DOT = r"(?:\s?(?:[(\[{<](?:dot|punkt|\.)[)\]}>]|\b(?:dot|punkt|punto|ponto|point)\b)\s?|\.)"
_JOINT = rf"(?:{_DOT}|\s(?:underscore|dash|hyphen|minus)\s)"
_SPELLED_EMAIL = re.compile(
    rf"(?<![\w.+-])(?P<local>[\w+-]+(?:{_JOINT}[\w+-]+){{0,3}})\s?"
    r"(?:[(\[{<]\s?(?:at|a|@)\s?[)\]}>]|\b(?:at|arroba|chiocciola|arobase)\b)\s?"
    rf"(?P<domain>{_LABEL}(?:{_DOT}{_LABEL}){{0,2}}{_DOT}[a-z]{{2,10}})\b"
)
_SPELLED_DOT = re.compile(r"dot|[(\[]|punkt|p[uo]nto")
SPELLED_AT = ("(at)", "[at]", "{at}")
# Each begins with a sign of few kinds, so that a search passes quickly over all else; what must not stand before it is
# looked at behind its first sign.
_NANP = re.compile(
    r"(?:[2-9](?<![\w.+-].)\d\d|1(?<![\w.+-].)[\s.-]{0,3}(?:\(\s?[2-9]\d\d\s?\)|[2-9]\d\d)|\+(?<![\w+].)\s?1[\s.-]{0,3}(?:\(\s?[2-9]\d\d\s?\)"
    r"|[2-9]\d\d)|\((?<![\w+-].)\s?[2-9]\d\d\s?\))[\s./·–-]{0,3}[2-9]\d\d[\s.·–-]{1,3}\d{4}"
    r"(?:\s?(?i:x|ext\.?|extension)\s?\d{1,6})?(?![\w-]|\.\d)"
)
_INTERNATIONAL = re.compile(
    r"[+0](?<![\w+].)(?:(?<=0)0|(?<=\+)\s?)[1-9]\d{0,2}(?:[\s./()–-]{0,2}\d){6,13}"
    r"(?:\s?(?i:x|ext\.?)\s?\d{1,6})?(?![\w-])"
)
_WITH_ZERO = re.compile(r"[(0](?<![\w.,+/-].)(?:(?<=\()0)?[1-9]\d{0,4}\)?(?:[\s/–-]{1,3}\d{2,8}){1,5}(?![\w-]|[.,]\d)")
# 01.99.00.22.97, 076/306.59.98, (06)52/954-1820
_WITH_POINTS = re.compile(r"[(0](?<![\w.,+/-].)(?:(?<=\()0)?\d{1,4}\)?(?:[\s./-]{0,2}\d{2,4}){2,4}(?![\w-]|[.,]\d)")
_ANY_NUMBER = re.compile(
    r"[+(\d](?<![\w.,+/-].)(?:\s?\d|(?<=\d))(?:(?:[ .()–-]{0,2}|/)\d){6,14}"
    r"(?:\s?(?i:x|ext\.?)\s?\d{1,6})?(?![\w-]|[.,]\d)"
)
_LOCAL = re.compile(r"\d(?<![\w.,+/-].)\d\d[\s.–-]\d{4}(?![\w-]|[.,]\d)")
_CLEAR_LOCAL = re.compile(r"[2-9]\d\d[.–-]\d{4}|[2-9]\d\d \d\d \d{3}")
# Each with how many characters before the first digits it may begin, and whether it needs no words before it.
_PHONES = (
    (_NANP, (0, 1, 2), True),
    (_INTERNATIONAL, (0, 1, 2), True),
    (_WITH_ZERO, (0, 1), True),
    (_WITH_POINTS, (0, 1), False),
    (_ANY_NUMBER, (0, 1, 2), False),
    (_LOCAL, (0,), False),
)
_DIGITS = re.compile(r"\d+")
_DATE_OR_YEARS = re.compile(
    r"\(?(?:\d{1,2}([./-])\d{1,2}\1(?:19|20)\d\d|(?:19|20)\d\d[-/.]\d\d[-/.]\d\d|(?:19|20)\d\d\s?[-–/]\s?(?:19|20)\d\d)\)?"
)
_MARKED = re.compile(r"\.|/(?!\d{3}-\d{4}\Z)|\([^)]*\Z")
FREE_OF_CHARGE = re.compile(
    r"(?:1|001|0)?8(?:00|33|44|55|66|77|88)\d{7}|1[38]00\d{6,7}|0?800\d{4,8}|0?300\d{7}|0345\d{7}|900\d{6}"
    r"|116\d{3}"
)
_FIVE_FIRST = re.compile(r"\d{5}\D")
_SENTENCE_END = re.compile(r"(?<!\bdr)(?<!\bmr)(?<!\bst)(?<!\bno)(?<!mrs)(?<!tel)(?<!ext)(?<!\bph)(?<!fax)[.!?]\s|\n")
_CUE_REACH, _FAX_REACH, _PUBLIC_REACH, _LONG_NUMBER, _MOST_GROUPS, _FEWEST_READINGS = 45, 30, 110, 9, 6, 4

_SAID, _ONLY_SAID = re.compile(r"[^\W_]+"), frozenset(("oh", "double", "triple", "treble"))
_FEWEST_SAID, _CERTAINLY_SAID, _FEWEST_IN_WORDS = 7, 9, 3

_IPV4 = re.compile(r"\d(?<![\w.].)\d{0,2}(?:\.\d{1,3}){3}(?![\w]|\.\d)")
_IPV6 = re.compile(r"(?<![\w:.])(?:[0-9a-f]{0,4}:){2,7}[0-9a-f]{0,4}(?!\w|:[\w:])")


def find_contacts(text: Text, *, is_personal: bool = False) -> Iterator[Span]:
    """Yield the e-mail addresses, profiles, phone and fax numbers and IP addresses of persons.

    Args:
        text: the text.
        is_personal: it is about one person, and so is any number as long as that of a phone.
    """
    yield from _emails(text)
    yield from find_profiles(text, is_personal=is_personal)
    if is_personal:
        yield from _said_phones(text)
    if text.has_long_number:
        yield from _phones(text, is_personal=is_personal)
        yield from _ips(text)
    elif "::" in text.text or text.text.count(":") >= 7:
        yield from _ips(text)


def _emails(text: Text) -> Iterator[Span]:
    patterns = [_EMAIL] if "@" in text.text else []
    is_spelled = "@)" in text.text
    if "at_words" in text.tables and not is_spelled:
        is_spelled = any(map(text.lower.__contains__, SPELLED_AT)) or (
            "mail_words" in text.tables
            and load_pattern("identifiers", "at_mail", re.NOFLAG).search(text.lower) is not None
        )
    if is_spelled:
        patterns.append(_SPELLED_EMAIL)
    for pattern in patterns:
        place = 0
        while found := pattern.search(text.lower, place):
            domain = re.sub(r"\s", "", found["domain"])
            is_domain = (
                pattern is _EMAIL
                or _SPELLED_DOT.search(domain)
                or any(map(found[0].__contains__, (*SPELLED_AT, "@)")))
                or domain.split(".")[0] in load_words("identifiers", "mail_words")
            )
            if not is_domain:  # "at health.com" alone; at anna.lee (at) mail (dot) com
                place = found.start("domain")
                continue
            place = found.end()
            if not load_pattern("identifiers", "public_mail").search(f"{found['local']}@{domain}"):
                yield Span(*found.span(), "email")


def _phones(text: Text, *, is_personal: bool) -> Iterator[Span]:
    for pattern, before, is_certain in _PHONES:
        if not is_certain and "phone_words" not in text.tables and not is_personal:
            continue
        for found in text.matches(pattern, *before):
            is_local = _CLEAR_LOCAL.fullmatch(found[0]) and not re.search(r"[\d)]", text.before(found.start(), 2))
            is_long = is_personal and (pattern is _WITH_POINTS or is_local or _is_long(found[0]))
            kind = _phone_kind(text, found, is_certain or is_long, pattern, is_personal)
            if kind:
                start = found.start() + (found[0][0] == "(" and found[0].count("(") > found[0].count(")"))
                yield Span(start, found.end(), kind)


def _said_phones(text: Text) -> Iterator[Span]:
    """Yield the phone numbers whose digits are written as words: five five five, oh one one nine."""
    words = load_words("identifiers", "digits_in_words")
    if sum(map(words.__contains__, text.all_words)) < _FEWEST_IN_WORDS:
        return
    for found in load_pattern("identifiers", "said_digits", re.NOFLAG).finditer(text.lower):
        said = _SAID.findall(found[0])
        is_count = all(said[place] != said[place + 1] for place in range(len(said) - 1)) and "one two three" in found[0]
        count = sum(len(each) if each.isdigit() else 1 for each in said)
        in_words = sum(not each.isdigit() for each in said)
        if count < _FEWEST_SAID or in_words < _FEWEST_IN_WORDS or is_count:
            continue
        is_certain = count >= _CERTAINLY_SAID or not _ONLY_SAID.isdisjoint(said)
        if is_certain or load_pattern("identifiers", "said_phone").search(text.before(found.start(), 60)):
            yield Span(*found.span(), "phone")


def _is_long(value: str) -> bool:
    """Tell whether a number is as long as that of a phone, in few groups, and none with decimals or of readings."""
    value = value if ")" in value else value.lstrip("(")
    groups = _DIGITS.findall(value)
    if sum(map(len, groups)) < _LONG_NUMBER or len(groups) > _MOST_GROUPS or _MARKED.search(value):
        return False
    return value[0] in "+(0" or {*map(len, groups)} != {3} or len(groups) < _FEWEST_READINGS


def _phone_kind(text: Text, found: re.Match[str], is_certain: bool, pattern: re.Pattern[str], is_personal: bool) -> str:
    """Return "phone" or "fax", or nothing for what is another number or belongs to the public."""
    digits = re.sub(r"\D", "", re.split("x|ext", found[0].lower())[0])
    before = text.before(found.start(), _CUE_REACH)
    if pattern in (_WITH_ZERO, _WITH_POINTS) and not 9 <= len(digits) <= 12:
        return ""
    if _DATE_OR_YEARS.fullmatch(found[0].strip()):
        return ""
    if not is_certain and not load_pattern("identifiers", "phone_cue").search(before):
        return ""
    fax = load_pattern("identifiers", "fax_cue").search(text.before(found.start(), _FAX_REACH))
    is_free = FREE_OF_CHARGE.fullmatch(digits) and not _FIVE_FIRST.match(found[0])
    if (is_free or found[0].startswith(("0808 ", "0508 "))) and not (
        fax or load_pattern("identifiers", "own_phone").search(before)
    ):
        return ""
    if is_of_public(text, *found.span(), is_personal=is_personal):
        return ""
    if load_pattern("identifiers", "other_number").search(text.before(found.start(), 18)) or is_of_product(
        text, *found.span()
    ):
        return ""
    if pattern is _ANY_NUMBER and load_pattern("identifiers", "unit_behind").match(text.after(found.end(), 24)):
        return ""
    return "fax" if fax else "phone"


def is_of_public(text: Text, start: int, end: int, *, is_personal: bool) -> bool:
    """Tell whether a number is that of an institute, a helpline or the like, by the words around it.

    In a text about one person only those of its sentence tell.
    """
    before, after = text.before(start, _PUBLIC_REACH), text.after(end, 40)
    if is_personal:
        before = _SENTENCE_END.split(before)[-1]
        after = _SENTENCE_END.split(after, 1)[0]
    if not load_pattern("identifiers", "public_body").search(f"{before} # {after}"):
        return False
    return load_pattern("identifiers", "own_number").search(text.before(start, _PUBLIC_REACH)) is None


def _ips(text: Text) -> Iterator[Span]:
    if text.text.count(".") >= 3:
        for found in text.matches(_IPV4, 0):
            if all(int(part) <= 255 for part in found[0].split(".")) and not load_pattern(
                "identifiers", "version"
            ).search(text.before(found.start(), 14)):
                yield Span(*found.span(), "ip")
    if text.text.count(":") >= 2:
        for found in _IPV6.finditer(text.lower):
            if len(found[0]) >= 6 and re.search(r"[a-f]|::", found[0]) and is_ip(found[0]):
                yield Span(*found.span(), "ip")


def is_ip(value: str) -> bool:
    """Tell whether a text is an IP address of version 4 or 6."""
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return False
    return True
