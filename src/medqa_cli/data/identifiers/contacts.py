"""How a person is reached: e-mail addresses, web profiles, phone and fax numbers, IP addresses.

Addresses and numbers of the public (helplines, institutes, clearing houses) stay.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator

from medqa_cli.data.identifiers.finds import Span
from medqa_cli.data.identifiers.name_forms import is_unknown
from medqa_cli.data.identifiers.text import Text
from medqa_cli.data.identifiers.word_tables import certain_names, first_names
from medqa_cli.resources import load_pattern, load_words

_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_EMAIL = re.compile(
    rf"(?<![\w.+%-])(?P<local>[^\W_](?:[\w.+%'-]{{0,62}}[\w+-])?)\s?@\s?(?P<domain>(?:{_LABEL}\.){{1,4}}[a-z]{{2,24}}"
    rf"|{_LABEL}\s?\.\s?(?:com|org|net|edu|de|fr|es|it|co\.uk))"
    r"(?![\w-])"
)
# anna.lee (at) mail (dot) com, anna lee at gmail dot com
_SPELLED_EMAIL = re.compile(
    r"(?<![\w.+-])(?P<local>[\w+-]+(?:\s?(?:\.|\(dot\)|\[dot\]|\bdot\b)\s?[\w+-]+){0,3})\s?(?:\(at\)|\[at\]|\{at\}|\bat\b)\s?"
    rf"(?P<domain>{_LABEL}(?:(?:\s?(?:\(dot\)|\[dot\]|\{{dot\}}|\bdot\b)\s?|\.){_LABEL}){{0,2}}"
    r"(?:\s?(?:\(dot\)|\[dot\]|\{dot\}|\bdot\b)\s?|\.)[a-z]{2,10})\b"
)
SPELLED_AT = ("(at)", "[at]", "{at}")
_PROFILE_SITES = (
    r"facebook\.com|fb\.com|instagram\.com|twitter\.com|x\.com|linkedin\.com|tiktok\.com|snapchat\.com|threads\.net"
    r"|pinterest\.com|reddit\.com|github\.com|vk\.com|t\.me|myspace\.com|tumblr\.com|patreon\.com|medium\.com|xing\.com"
    r"|quora\.com|flickr\.com|youtube\.com|soundcloud\.com|fb\.me|wa\.me|linktr\.ee|strava\.com"
)
_PROFILE = re.compile(
    rf"(?<![\w.@-])(?:https?://)?(?:[a-z]{{1,3}}\.)?(?:{_PROFILE_SITES})/(?:in/|u/|user/|users/|pub/|add/|profile/|people/|c/)?"
    r"@?(?P<handle>[\w.%-]*[\w%-])(?:/[\w.%-]*)*"
)
_OTHER_PROFILE = re.compile(
    r"(?<![\w.@-])(?:https?://|www\.)[\w.-]+/(?:[\w.-]+/){0,2}(?:~|(?:users?|profiles?|members?|patients?|u)/)"
    r"(?P<handle>[\w.%-]*[\w%-])/?"
)
_PROFILE_PARTS = ("/~", "/user", "/profile", "/member", "/patient", "/u/")
_OWN_SITE = re.compile(
    r"(?<![\w.@-])(?:https?://)?(?P<handle>[\w-]+)\.(?:blogspot|wordpress|tumblr|livejournal|substack|weebly|wixsite|typepad)\.com\b(?:/[\w./-]*\w)?"
)
_SITE = re.compile(
    r"(?<![\w.@-])(?:https?://)?(?:www\.)?(?P<rest>(?:[a-z0-9-]+\.)+(?:com|net|org|me|info|co|io|de|fr|es|it|uk|ca|au|in|nl|pl|se|eu|blog)\b(?:/[\w./~@%-]*\w)?)"
)
_LETTERS = re.compile(r"[a-z]{4,}")
_NOT_HANDLES = frozenset(
    [
        "watch",
        "pages",
        "groups",
        "events",
        "hashtag",
        "search",
        "share",
        "sharer",
        "intent",
        "home",
        "login",
        "company",
        "school",
        "r",
        "wiki",
        "playlist",
        "channel",
        "explore",
        "p",
        "reel",
        "status",
        "embed",
        "posts",
        "article",
        "topic",
        "questions",
    ]
)
# u/anna_lee-82; "5 u/ml" and "u/kg" are units.
_REDDIT = re.compile(
    r"(?<![\w.])/?u/(?P<handle>(?=[a-z_-]{0,29}(?:[\d_-]|\.[a-z]{2}))[a-z][\w-]{2,29}(?:\.\w+)?)(?![\w/])"
)
_ACCOUNT_NAME = re.compile(
    r"(?<![\w.@/#-])(?:(?P<name>[A-Za-z\d]{2,}(?:_[A-Za-z\d]+)+|[A-Za-z]{4,}\d{2,4}|[A-Za-z]{6,}\d)|u/(?P<user>[a-z]{6,29})"
    r"|@ (?P<other>[\w.]{4,30}))(?![\w@/]|[.-]\w)"
)
_HANDLE = re.compile(r"(?<![\w.@/])@(?P<handle>[a-z_][\w.-]{2,28}\w)(?![\w@])")

# Each begins with a sign of few kinds, so that a search passes quickly over all else; what must not stand before it is
# looked at behind its first sign.
_NANP = re.compile(
    r"(?:[2-9](?<![\w.+-].)\d\d|1(?<![\w.+-].)[\s.-]{0,3}(?:\(\s?[2-9]\d\d\s?\)|[2-9]\d\d)|\+(?<![\w+].)\s?1[\s.-]{0,3}(?:\(\s?[2-9]\d\d\s?\)"
    r"|[2-9]\d\d)|\((?<![\w+-].)\s?[2-9]\d\d\s?\))[\s./·–-]{0,3}[2-9]\d\d[\s.·–-]{1,3}\d{4}"
    r"(?:\s?(?:x|ext\.?|extension)\s?\d{1,6})?(?![\w-]|\.\d)"
)
_INTERNATIONAL = re.compile(
    r"[+0](?<![\w+].)(?:(?<=0)0|(?<=\+)\s?)[1-9]\d{0,2}(?:[\s./()–-]{0,2}\d){6,13}"
    r"(?:\s?(?:x|ext\.?)\s?\d{1,6})?(?![\w-])"
)
_WITH_ZERO = re.compile(r"[(0](?<![\w.,+/-].)(?:(?<=\()0)?[1-9]\d{0,4}\)?(?:[\s/–-]{1,3}\d{2,8}){1,5}(?![\w-]|[.,]\d)")
# 01.99.00.22.97, 076/306.59.98, (06)52/954-1820
_WITH_POINTS = re.compile(r"[(0](?<![\w.,+/-].)(?:(?<=\()0)?\d{1,4}\)?(?:[\s./-]{0,2}\d{2,4}){2,4}(?![\w-]|[.,]\d)")
_ANY_NUMBER = re.compile(
    r"[+(\d](?<![\w.,+/-].)(?:\s?\d|(?<=\d))(?:(?:[ .()–-]{0,2}|/)\d){6,14}"
    r"(?:\s?(?:[xX]|ext\.?)\s?\d{1,6})?(?![\w-]|[.,]\d)"
)
_LOCAL = re.compile(r"\d(?<![\w.,+/-].)\d\d[\s.–-]\d{4}(?![\w-]|[.,]\d)")
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
_MARKED = re.compile(r"[./]|\([^)]*\Z")
_FREE_OF_CHARGE = re.compile(
    r"(?:1|001|0)?8(?:00|33|44|55|66|77|88)\d{7}|1[38]00\d{6}|0?800\d{4,8}|0?300\d{7}|116\d{3}"
)
_CUE_REACH, _FAX_REACH, _PUBLIC_REACH, _LONG_NUMBER, _MOST_GROUPS = 45, 22, 110, 9, 6

_IPV4 = re.compile(r"\d(?<![\w.].)\d{0,2}(?:\.\d{1,3}){3}(?![\w]|\.\d)")
_IPV6 = re.compile(r"(?<![\w:.])(?:[0-9a-f]{0,4}:){2,7}[0-9a-f]{0,4}(?!\w|:[\w:])")


def find_contacts(text: Text, *, is_personal: bool = False) -> Iterator[Span]:
    """Yield the e-mail addresses, profiles, phone and fax numbers and IP addresses of persons.

    Args:
        text: the text.
        is_personal: it is about one person, and so is any number as long as that of a phone.
    """
    if "@" in text.text or _has_spelled_at(text) or ("at_words" in text.tables and "mail_words" in text.tables):
        yield from _emails(text)
    yield from _profiles(text)
    if is_personal and "." in text.text:
        for found in _SITE.finditer(text.lower):
            if not _is_public_handle(found[0]) and any(map(_holds_name, _LETTERS.findall(found["rest"]))):
                yield Span(*found.span(), "profile")
    if is_personal:
        yield from _personal_handles(text)
    if text.has_long_number:
        yield from _phones(text, is_personal=is_personal)
        yield from _ips(text)
    elif "::" in text.text or text.text.count(":") >= 7:
        yield from _ips(text)


def _has_spelled_at(text: Text) -> bool:
    return any(map(text.lower.__contains__, SPELLED_AT))


def _emails(text: Text) -> Iterator[Span]:
    patterns = [_EMAIL] if "@" in text.text else []
    if "at_words" in text.tables or _has_spelled_at(text):
        patterns.append(_SPELLED_EMAIL)
    for pattern in patterns:
        for found in pattern.finditer(text.lower):
            domain = re.sub(r"\s", "", found["domain"])
            local = found["local"]
            if pattern is _SPELLED_EMAIL and not _is_mail_domain(found[0], domain):
                continue
            if load_pattern("identifiers", "public_mail").search(f"{local}@{domain}"):
                continue
            yield Span(*found.span(), "email")


def _is_mail_domain(value: str, domain: str) -> bool:
    """Tell whether a domain whose "at" was written as a word is one: "at health.com" alone is too little."""
    spelled = "dot" in domain or "(" in domain or "[" in domain or any(map(value.__contains__, SPELLED_AT))
    return spelled or domain.split(".")[0] in load_words("identifiers", "mail_words")


def _profiles(text: Text) -> Iterator[Span]:
    if "/" in text.text:
        sites = ".com/" in text.lower or ".net/" in text.lower or ".me/" in text.lower
        others = any(map(text.lower.__contains__, _PROFILE_PARTS))
        reddit = "u/" in text.lower
        for pattern in (*(_PROFILE,) * sites, *(_OTHER_PROFILE,) * others, *(_REDDIT,) * reddit):
            for found in pattern.finditer(text.lower):
                if not _is_public_handle(found["handle"]):
                    yield Span(*found.span(), "profile")
    if "own_site_words" in text.tables:
        for found in _OWN_SITE.finditer(text.lower):
            if not _is_public_handle(found["handle"]) and found["handle"] != "www":
                yield Span(*found.span(), "profile")
    if "own_page_words" in text.tables and "." in text.text:
        for found in load_pattern("identifiers", "own_pages").finditer(text.lower):
            if not _is_public_handle(found[1]):
                yield Span(*found.span(1), "profile")
    if "@" in text.text:
        for found in _HANDLE.finditer(text.lower):
            if not _is_public_handle(found["handle"]):
                yield Span(*found.span(), "profile")
    if "profile_words" in text.tables:
        for found in load_pattern("identifiers", "handle").finditer(text.lower):
            if re.search(r"[\d_.]", found[1]) or "@" in found[0] or ":" in found[0]:
                yield Span(*found.span(1), "profile")


def _personal_handles(text: Text) -> Iterator[Span]:
    """Yield what only names of accounts look like: mama_bear_30, dana86, u/drgriffin, and @ with a space."""
    for found in _ACCOUNT_NAME.finditer(text.text):
        handle = (found["name"] or found["other"] or found["user"]).lower()
        words = _LETTERS.findall(handle)
        is_one = "_" in handle or found["user"] or any(_holds_name(word) or is_unknown(word) for word in words)
        if words and is_one and not _is_public_handle(handle):
            yield Span(*found.span("other" if found["other"] else 0), "profile")


def _holds_name(word: str) -> bool:
    """Tell whether a word in small letters is a name of the tables, or a long first name and more."""
    return word in certain_names() or any(
        word[:end] in certain_names() & first_names() for end in range(5, len(word) - 2)
    )


def _is_public_handle(handle: str) -> bool:
    return handle in _NOT_HANDLES or bool(load_pattern("identifiers", "public_handle").search(handle))


def _phones(text: Text, *, is_personal: bool) -> Iterator[Span]:
    for pattern, before, is_certain in _PHONES:
        if not is_certain and "phone_words" not in text.tables and not is_personal:
            continue
        for found in text.matches(pattern, *before):
            is_long = is_personal and (pattern is _WITH_POINTS or _is_long(found[0]))
            kind = _phone_kind(text, found, is_certain or is_long, pattern)
            if kind:
                start = found.start() + (found[0][0] == "(" and found[0].count("(") > found[0].count(")"))
                yield Span(start, found.end(), kind)


def _is_long(value: str) -> bool:
    """Tell whether a number is as long as that of a phone, in few groups, and none with decimals."""
    groups = _DIGITS.findall(value)
    return sum(map(len, groups)) >= _LONG_NUMBER and len(groups) <= _MOST_GROUPS and not _MARKED.search(value)


def _phone_kind(text: Text, found: re.Match[str], is_certain: bool, pattern: re.Pattern[str]) -> str:
    """Return "phone" or "fax", or nothing for what is another number or belongs to the public."""
    digits = re.sub(r"\D", "", re.split(r"[xX]|ext", found[0])[0])
    before = text.before(found.start(), _CUE_REACH)
    if pattern in (_WITH_ZERO, _WITH_POINTS) and not 9 <= len(digits) <= 12:
        return ""
    if _is_date(found[0]) or (not is_certain and not load_pattern("identifiers", "phone_cue").search(before)):
        return ""
    fax = load_pattern("identifiers", "fax_cue").search(text.before(found.start(), _FAX_REACH))
    if _FREE_OF_CHARGE.fullmatch(digits) and not fax:
        return ""
    around = text.before(found.start(), _PUBLIC_REACH) + " # " + text.after(found.end(), 40)
    if load_pattern("identifiers", "public_body").search(around):
        own = load_pattern("identifiers", "own_number").search(text.before(found.start(), _CUE_REACH))
        if not own:
            return ""
    if load_pattern("identifiers", "other_number").search(text.before(found.start(), 18)):
        return ""
    return "fax" if fax else "phone"


def _is_date(number: str) -> bool:
    """Tell whether a number with its separators is a date or two, or years."""
    return bool(
        re.fullmatch(
            r"\(?(?:\d{1,2}([./-])\d{1,2}\1(?:19|20)\d\d|(?:19|20)\d\d[-/.]\d\d[-/.]\d\d|(?:19|20)\d\d\s?[-–/]\s?(?:19|20)\d\d)\)?",
            number.strip(),
        )
    )


def _ips(text: Text) -> Iterator[Span]:
    if text.text.count(".") >= 3:
        for found in text.matches(_IPV4, 0):
            if all(int(part) <= 255 for part in found[0].split(".")) and not load_pattern(
                "identifiers", "version"
            ).search(text.before(found.start(), 14)):
                yield Span(*found.span(), "ip")
    if text.text.count(":") >= 2:
        for found in _IPV6.finditer(text.lower):
            if len(found[0]) >= 6 and re.search(r"[a-f]|::", found[0]) and _is_ipv6(found[0]):
                yield Span(*found.span(), "ip")


def _is_ipv6(value: str) -> bool:
    try:
        ipaddress.IPv6Address(value)
    except ValueError:
        return False
    return True
