"""Accounts and pages of persons on the web: addresses of pages, handles, names of users.

Pages of the public (institutes, newspapers, groups) stay. In a text about one person more words tell that a name of an
account follows ("on TikTok as", "posted by"), and any word that is none of the language may be one there.
"""

import functools
import re
from collections.abc import Iterator

from medqa_cli.data.identifiers.finds import Span
from medqa_cli.data.identifiers.name_forms import is_medicine, is_unknown
from medqa_cli.data.identifiers.text import Text
from medqa_cli.data.identifiers.word_tables import (
    all_names,
    certain_names,
    common_words,
    first_names,
    medical_words,
)
from medqa_cli.resources import load_pattern, load_words

_PROFILE_SITES = (
    r"facebook\.com|fb\.com|instagram\.com|twitter\.com|x\.com|linkedin\.com|tiktok\.com|snapchat\.com|threads\.net"
    r"|pinterest\.com|reddit\.com|github\.com|vk\.com|t\.me|myspace\.com|tumblr\.com|patreon\.com|medium\.com|xing\.com"
    r"|quora\.com|flickr\.com|youtube\.com|soundcloud\.com|fb\.me|wa\.me|linktr\.ee|strava\.com|twitch\.tv"
    r"|gofundme\.com|caringbridge\.org|bsky\.app|mastodon\.social|onlyfans\.com|ko-fi\.com|substack\.com|wattpad\.com"
    r"|goodreads\.com|justgiving\.com|crowdfunder\.co\.uk|about\.me|telegram\.me|deviantart\.com|researchgate\.net"
    r"|doximity\.com|healthunlocked\.com|disqus\.com|gofund\.me|everydayhero\.com|etsy\.com|inspire\.com|spotify\.com"
    r"|venmo\.com|paypal\.me|cash\.app|deezer\.com|last\.fm|steamcommunity\.com|buymeacoffee\.com|zocdoc\.com|mealtrain\.com|doxy\.me|jit\.si|orcid\.org"
)
_PROFILE = re.compile(
    rf"(?<![\w.@-])(?:https?://)?(?:[a-z]{{1,3}}\.)?(?:{_PROFILE_SITES})/"
    r"(?:in/|u/|user/|users/|pub/|add/|profile/|people/|c/|f/|fundraising/|fundraiser/|visit/|athletes/|members?/|site/|m/|shop/|us/|status/|channel/)?"
    r"@?(?P<handle>[\w.%-]*[\w%-])(?:/[\w.%-]*)*"
)
_OTHER_PROFILE = re.compile(
    r"(?<![\w.@-])(?:https?://|www\.)[\w.-]+/(?:[\w.-]+/){0,2}(?:~|(?:users?|profiles?|members?|patients?|u)/)"
    r"(?P<handle>[\w.%-]*[\w%-])/?"
)
_PERSONAL_PAGE = re.compile(
    r"(?<![\w.@-])(?:https?://)?[\w-]+(?:\.[\w-]+)*\.[a-z]{2,8}/(?:[\w.-]+/){0,3}"
    r"(?:~|(?:users?|profiles?|members?|u|people|authors?|accounts?|physicians?|doctors?|therapists?|providers?)/)@?(?P<handle>[\w.%-]*[\w%-])/?"
)
_SITE_ENDS, _RARE_ENDS = (
    (".com", ".net", ".me"),
    (".tv", ".ee", ".org", ".app", ".social", ".uk", ".fm", ".si"),
)
_PROFILE_PARTS = ("/~", "/user", "/profile", "/member", "/patient", "/u/")
_OWN_SITE = re.compile(
    r"(?<![\w.@-])(?:https?://)?(?P<handle>[\w-]+)\.(?:blogspot|wordpress|tumblr|livejournal|substack|weebly|wixsite|typepad"
    r"|blogger|jimdosite|webnode|over-blog|canalblog|squarespace|neocities|github|carrd|bsky|dreamwidth|altervista|medium)\."
    r"(?:com|co\.uk|io|net|org|co|social|page|de|fr|it|es)\b(?:/[\w./-]*\w)?"
)
_SITE = re.compile(
    r"(?<![\w.@-])(?P<web>(?:https?://)?(?:www\.)?)(?P<rest>(?:[a-z0-9-]+\.)+(?P<top>[a-z]{2,8})\b(?:/[\w./~@%-]*\w)?)"
)
_HEALTH_OF = re.compile(r"(?<=[a-z]{3})health(?=\.)")
_LETTERS = re.compile(r"[a-z]{4,}")
# u/anna_lee-82; "5 u/ml" and "u/kg" are units.
_REDDIT = re.compile(
    r"(?<![\w.])/?u/(?P<handle>(?:\d{1,4}(?=[a-z]{4})|(?=[a-z_-]{0,29}(?:[\d_-]|\.[a-z])))[a-z][\w-]{2,29}(?:\.\w+)*)(?![\w/])"
)
_ACCOUNT_NAME = re.compile(
    r"(?<![\w.@/#-])(?:(?P<name>[A-Za-z\d]{2,}(?:_[A-Za-z\d]+)+|[A-Za-z]{4,}\d{2,4}|[A-Za-z]{6,}\d|\d{2}[a-z]{5,})|(?<!\w)u/(?P<user>[A-Za-z]{5,29})"
    r"|@ (?P<other>[\w.]{4,30}))(?![\w@/]|[.-]\w)"
)
# keith.smith, annabelle.rn.58, jake-ankra-12; in small letters.
_CHAINED_NAME = re.compile(r"(?<![\w@./#-])[a-z]{2,}\d{0,4}(?:([.-])[a-z\d]+)(?:\1[a-z\d]+){0,2}(?![\w@/-]|\.\w)")
# What stands alone on a line, behind a hyphen or "from:".
_ALONE = re.compile(
    r"(?:^|(?<=\n))[ \t]*(?:[-–—~*]\s?|(?:from|user)\s?:\s?)?(@?[a-z\d][\w.-]{3,30}\w)[ \t]*(?=\n|\Z|,\s(?:\d|[a-z]))"
)
_HANDLE = re.compile(r"(?<![\w.@/])@(?P<handle>(?:\d{1,4}(?=[a-z]{4}))?[a-z_][\w.-]{2,28}\w)(?![\w@])")
_WORDS, _CAMEL = re.compile(r"[^\W\d_]{3,}"), re.compile(r"[a-z][A-Z]")
_NEXT_WORD = re.compile(r"\s([^\W\d_]{3,})")
_SURNAME = re.compile(r"(?:Ma?c|Fitz|De|Di|Du|La|Le|Van|Von|El|Al)[A-Z][a-z]+")
_ENDING = re.compile(r"(?:ed|ing|ly)$")
_AMOUNT = re.compile(r"\d+(?:st|nd|rd|th|mg|mcg|ml|yo|yr|yrs|am|pm|hrs?|weeks?|days?|x)")
# Beside a post: the name of an account in the line above "Joined"; in a signature: blog http://...
_POSTER_BOX = re.compile(
    r"(?:^|(?<=\n))(?:(?:user|screen|display|nick|member)?[ -]?name|user|member|author|poster|from|by)\s?:?\s+"
    r"(@?(?=[a-z_.-]*[\d_])[a-z\d][\w.-]{2,29})[ \t]*\n\s*(?:joined|posts?|location|registered|member since|rank|status"
    r"|threads|messages|likes|karma|reputation|from|date|offline|online|age|reviews?|rating|topics?)\b"
)
_OWNERS = frozenset(("my", "our", "his", "her"))
_PAGE_WORDS = frozenset(("blog", "vlog", "diary", "journal", "channel", "homepage"))
_PAGE_OF_POSTER = re.compile(
    r"\b(?:blog|vlog|diary|journal|channel|homepage)\s?[:=–-]?\s((?:https?://|www\.)[\w.-]+\.[a-z]{2,8}/[\w./~@%-]*\w)"
)
_PAGE_REACH, _FEWEST_LETTERS, _FEWEST_OF_NAME, _FEWEST_PARTS = 90, 5, 3, 2
_SHORTEST_COMPOUND, _LONGEST_PART = 8, 12


def find_profiles(text: Text, *, is_personal: bool) -> Iterator[Span]:
    """Yield the accounts and pages of persons.

    Args:
        text: the text.
        is_personal: it is about one person.
    """
    slash, patterns = text.text.find("/"), set()
    ends = _SITE_ENDS + _RARE_ENDS if is_personal else _SITE_ENDS
    while slash >= 0:
        if text.lower.endswith(ends, 0, slash):
            patterns.add(_PROFILE)
        if text.lower.startswith(_PROFILE_PARTS, slash):
            patterns.add(_OTHER_PROFILE)
        if text.lower[slash - 1 : slash] == "u":
            patterns.add(_REDDIT)
        slash = text.text.find("/", slash + 1)
    for pattern in (_PROFILE, _OTHER_PROFILE, _REDDIT) if patterns else ():
        if pattern in patterns:
            for found in pattern.finditer(text.lower):
                if not _is_public_handle(found["handle"]):
                    yield Span(*found.span(), "profile")
    if "own_site_words" in text.tables:
        for found in _OWN_SITE.finditer(text.lower):
            if not _is_public_handle(found["handle"]) and found["handle"] != "www":
                yield Span(*found.span(), "profile")
    if "own_page_words" in text.tables and not _OWNERS.isdisjoint(text.all_words) and "." in text.text:
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
    if is_personal:
        yield from _personal_pages(text)
        yield from _personal_handles(text)


def _personal_pages(text: Text) -> Iterator[Span]:
    """Yield the pages that hold a name, those that somebody calls their own, and those that stand behind "blog"."""
    if "." not in text.text:
        return
    for found in _PAGE_OF_POSTER.finditer(text.lower) if not _PAGE_WORDS.isdisjoint(text.all_words) else ():
        yield Span(*found.span(1), "profile")
    for found in _PERSONAL_PAGE.finditer(text.lower) if "/" in text.text else ():
        if not _is_public_handle(found["handle"]):
            yield Span(*found.span(), "profile")
    for found in _SITE.finditer(text.lower):
        sure = found["web"] or found["top"] in load_words("identifiers", "sure_domains")
        # Of somebody's own: www.leehealth.example/anna
        page = _HEALTH_OF.sub("", found[0]) if found["rest"].split("/")[-1] in certain_names() else found[0]
        if _is_public_handle(page) or not (sure or found["top"] in load_words("identifiers", "domains")):
            continue
        is_told = load_pattern("identifiers", "page_before").search(text.before(found.start(), _PAGE_REACH)) is not None
        is_told = is_told or load_pattern("identifiers", "page_behind").match(text.after(found.end(), 60)) is not None
        if (sure and is_told) or any(map(_holds_name, _LETTERS.findall(found["rest"]))):
            yield Span(*found.span(), "profile")


def _personal_handles(text: Text) -> Iterator[Span]:
    """Yield names of accounts: behind words that say so, beside posts, and of forms of no other thing: mama_bear_30."""
    for found in _POSTER_BOX.finditer(text.lower) if "\n" in text.text else ():
        yield Span(*found.span(1), "profile")  # Name: colin-morgan-23
    for table in ("handle_told", "handle_of_poster", "handle_shown", "handle_beside"):
        if load_words("identifiers", f"{table}_needs").isdisjoint(text.all_words):
            continue
        for found in load_pattern("identifiers", table, re.NOFLAG).finditer(text.lower):
            start, end = found.span(found.lastindex or 0)
            if _is_handle(text.text[start:end], by_its_form=table == "handle_beside"):
                yield Span(start, end, "profile")
    for found in _ACCOUNT_NAME.finditer(text.text):
        handle = (found["name"] or found["other"] or found["user"]).lower()
        words = _LETTERS.findall(handle)
        is_one = (words or any(map(str.isdigit, handle))) and (
            "_" in handle or any(_holds_name(word) or _is_no_word(word) for word in words)
        )
        if is_one and not _is_public_handle(handle):
            yield Span(*found.span("other" if found["other"] else 0), "profile")
    yield from _by_form(text)


def _by_form(text: Text) -> Iterator[Span]:
    """Yield what is written as handles are: names joined by points or hyphens, and with more on a line of its own."""
    for found in _CHAINED_NAME.finditer(text.lower):
        is_small = text.is_shouted or text.text[found.start() : found.end()].islower()
        if is_small and _is_chain_of_names(found[0].split(found[1]), found[1]) and not _is_public_handle(found[0]):
            yield Span(*found.span(), "profile")
    for word in set(text.all_words):
        if word.isalpha() and _is_compound(word):
            for start in text.places(word):
                end = start + len(word)
                behind = _NEXT_WORD.match(text.lower, end)  # ciaobella permadi is a name
                if text.text[start:end].islower() and not (behind and behind[1] in all_names()):
                    yield Span(start, end, "profile")
    for found in _ALONE.finditer(text.lower) if "\n" in text.text else ():
        start, end = found.span(1)
        value = text.text[start:end]
        is_small = text.is_shouted or value.islower()
        if is_small and _is_handle(value, by_its_form=True) and any(map(_holds_name, _LETTERS.findall(found[1]))):
            yield Span(start, end, "profile")


def _is_chain_of_names(parts: list[str], sign: str) -> bool:
    """Tell whether one of the parts of a word is a name, or all are none of the language."""
    words = [word for part in parts for word in _WORDS.findall(part)]
    has_number = any(part[-1].isdigit() for part in parts)
    if (sign == "-" and (len(words) < _FEWEST_PARTS or not has_number)) or (
        not has_number and parts[-1] in load_words("identifiers", "sure_domains", "domains")
    ):
        return False
    if any(_holds_name(word) for word in words):
        return True
    return len(words) >= _FEWEST_PARTS and all(len(word) >= _FEWEST_LETTERS and _is_no_word(word) for word in words)


@functools.lru_cache(maxsize=10_000)
def _is_compound(word: str) -> bool:
    """Tell whether a word in small letters is made of words of the language and a long name: itstimothyhere."""
    if len(word) < _SHORTEST_COMPOUND or word in all_names() or word in medical_words() or not _is_no_word(word):
        return False
    # For each place: whether a name and whether another word are in what is before it; None: it cannot be cut so.
    ways: list[tuple[bool, bool] | None] = [(False, False), *(None,) * len(word)]
    other_parts = load_words("identifiers", "handle_parts")
    for end in range(2, len(word) + 1):
        for start in range(max(end - _LONGEST_PART, 0), end - 1):
            if (way := ways[start]) is None or ways[end] == (True, True):
                continue
            part = word[start:end]
            if len(part) >= _FEWEST_LETTERS and part in certain_names():
                ways[end] = (True, way[1])
            elif part in other_parts or (len(part) > _FEWEST_OF_NAME and part in common_words()):
                ways[end] = (way[0], True)
    return ways[-1] == (True, True)


def _is_handle(value: str, *, by_its_form: bool) -> bool:
    """Tell whether a word beside "posted by" or the like is no other word, or has a form that only handles have."""
    plain = value.lower().strip("@.-_")
    if _is_public_handle(plain) or plain in load_words("identifiers", "account_sites") | all_names():
        return False
    words = _WORDS.findall(plain)
    if not words:
        return False
    if re.search(r"[a-z]\d|\d[a-z]|_|:", plain):
        return _AMOUNT.fullmatch(plain) is None
    if _CAMEL.search(value) and not _SURNAME.fullmatch(value):
        return len(plain) >= _FEWEST_LETTERS
    if len(words) > 1 and (not by_its_form or "." in plain):
        return any(word in all_names() or _is_no_word(word) for word in words)
    return not by_its_form and len(plain) >= _FEWEST_LETTERS and (_is_no_word(plain) or _holds_name(plain))


def _is_no_word(word: str) -> bool:
    """Tell whether a word in small letters is none of the language; crohnsyholly ends as one, but on no stem of one."""
    ending = _ENDING.search(word)
    if ending is None or word in common_words():
        return is_unknown(word)
    stem = word[: ending.start()]
    stems = {stem, stem + "e", stem + "y", stem + "le", stem[:-1], stem.removesuffix("i") + "y", stem + "l"}
    return stems.isdisjoint(common_words()) and stem.removesuffix("al") not in common_words()


def _holds_name(word: str) -> bool:
    """Tell whether a word in small letters is a name of the tables, or begins or ends with a long first name."""
    if word in certain_names():
        return True
    if word in common_words() or word in medical_words() or is_medicine(word):
        return False
    parts = {word[:end] for end in range(5, len(word) - 2)} | {word[start:] for start in range(2, len(word) - 4)}
    return not first_names().isdisjoint(parts & certain_names())


def _is_public_handle(handle: str) -> bool:
    return handle in load_words("identifiers", "not_handles") or bool(
        load_pattern("identifiers", "public_handle").search(handle)
    )
