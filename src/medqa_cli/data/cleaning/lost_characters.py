"""The cleaning rules that put back lost characters: letters with diacritics, apostrophes, spaces between sentences.

Only where the repair is certain: a word that is also another word (``wont``, ``its``, ``ill``) stays as it is, and so
does whatever belongs to a web or mail address or a DOI. The words are in ``resources/lost_letters.yaml``.
"""

import functools
import re
from collections.abc import Callable

from medqa_cli.data.languages import UNKNOWN, likeliest_language
from medqa_cli.resources import load_yaml

# "dont" is a French word too, before an article or a pronoun; a cant is a slant in dentistry.
_FRENCH = "la|le|les|un|une|des|du|il|elle|on|ils|elles|ce|cette|ces|son|sa|ses|leur|leurs|je|tu|nous|vous"
_NO_FRENCH = rf"(?!\s(?:{_FRENCH})\b)"
_CONDITIONS = {
    "dont": _NO_FRENCH,
    "Dont": _NO_FRENCH,
    "cant": r"(?<!\ba cant)(?<!the cant)(?<!of cant)(?<!al cant)(?<!ry cant)"
    r"(?!\s(?:of|is|was|in|to|and|angle|correction)\b)",
}
_NO_MORE = r"(?![\w@/]|['’](?!s\b)|\.\w)"  # the word ends here, but for a genitive
_WORD_START = r"(?<![\w/@.'’])"
_TO_SPACES = str.maketrans(dict.fromkeys("-.,;:!?()[]\"'’/\n\t", " "))

_QUOTED_CHARACTERS = 300
_QUOTATION = re.compile(r"\"[^\"]+\"|“[^”]+”|„[^“”]+[“”]|«[^»]+»|‘[^’]+’|(?<!\w)'[^']+'(?!\w)")

_GLUE = re.compile(r"[.?!](?=[A-Z])")
_GLUE_CHARACTERS = 40
_LAST_WORD = re.compile(r"[(\"']?[a-z]+(?:[-'][a-z]+)*[a-z]{2}")
_FIRST_WORD = re.compile(r"(?:A|I|[A-Z][a-z]+(?:-[a-z]+)*)[,:]?")
_DOMAINS = frozenset({"Asp", "Com", "Edu", "Gov", "Html", "Io", "Js", "Net", "Org", "Pdf", "Txt"})

_ADDRESS = re.compile(
    r"(?:(?:https?|ftp)://|\bwww\.)[^\s<>\"]+"
    r"|[\w.+-]+@[\w-]+(?:\.[\w-]+)+"
    r"|\b10\.\d{4,9}/[^\s<>\"]+"
    r"|\b(?:[a-z0-9-]+\.)+(?:(?:com|org|net|gov|edu|int|info|io)\b(?:/[^\s<>\"]*)?|[a-z]{2}/[^\s<>\"]*)",
    re.IGNORECASE,
)
_BEHIND = ".,;:!?)]'»"  # marks of the sentence around an address
_STANDS_FOR = "\ue000"  # a private character, no letter and no mark
_ANY_WORD = re.compile(r"\S+")
_ADDRESS_SIGN = re.compile(r"[/@]|\.(?=\S)")  # any address holds one
_LONGEST_SEARCHED = 256  # characters; the pattern takes quadratic time, and what is longer is no prose in any case


@functools.cache
def _repairs() -> tuple[dict[str, str], re.Pattern[str], frozenset[str]]:
    """Return the repair of each damaged word or phrase, the pattern that matches these, and words that announce one.

    The pattern has one branch for each first letter, so that most words are done with at their first one; and nearly
    every text has none of the words that announce a repair.
    """
    table = load_yaml("lost_letters")
    owners = table["owners"].split()
    contractions = {
        word + ending.replace("'", ""): word + ending
        for ending, words in table["contractions"].items()
        for word in words.split()
    }
    repairs = {
        **table["words"],
        **table["phrases"],
        **{name: f"{name[:-1]}'s" for name in owners},
        **contractions,
        **{word.capitalize(): repair.capitalize() for word, repair in contractions.items()},
        "cant": "can't",
    }
    del repairs["Arent"]  # a name
    owned = "|".join(table["owned"].split())
    conditions = _CONDITIONS | dict.fromkeys(owners, rf"(?=\s(?i:{owned})s?\b)")
    branches: dict[str, list[str]] = {}
    for word in sorted(repairs, key=len, reverse=True):
        branches.setdefault(word[0], []).append(rf"{word[1:]}{_NO_MORE}{conditions.get(word, '')}")
    signs = frozenset(
        lost
        for damaged, repair in repairs.items()
        for lost, repaired in zip(re.split("[ -]", damaged), re.split("[ -]", repair), strict=False)
        if lost != repaired
    )
    words = "|".join(f"{letter}(?:{'|'.join(rests)})" for letter, rests in branches.items())
    return repairs, re.compile(f"{_WORD_START}(?:{words})"), signs


def lost_letters(text: str) -> str:
    """Put back letters and apostrophes that were certainly lost: ``doesnt``, ``Sjgren``, ``Alzheimers``."""
    repairs, pattern, signs = _repairs()
    if signs.isdisjoint(text.translate(_TO_SPACES).split()):
        return text
    return pattern.sub(
        lambda word: word[0] if _is_quoted_from_elsewhere(text, *word.span()) else repairs[word[0]], text
    )


def _is_quoted_from_elsewhere(text: str, start: int, end: int) -> bool:
    """Tell whether a word stands alone in quotes, or in a quotation of another language."""
    for quotation in _QUOTATION.finditer(text, max(0, start - _QUOTED_CHARACTERS), end + _QUOTED_CHARACTERS):
        if quotation.start() < start and end < quotation.end():
            quoted = quotation[0][1:-1]
            return quoted.strip(" .,!?") == text[start:end] or likeliest_language(quoted) not in ("en", UNKNOWN)
    return False


def glued_sentences(text: str) -> str:
    """Put a space between two sentences that run together: ``the term.The next``.

    Addresses, abbreviations and names with a full stop stay as they are.
    """
    pieces: list[str] = []
    end = 0
    for mark in _GLUE.finditer(text):
        before = text[max(0, mark.start() - _GLUE_CHARACTERS) : mark.start()].split()
        after = text[mark.end() : mark.end() + _GLUE_CHARACTERS].split()
        if not before or not after or len(before[-1]) == _GLUE_CHARACTERS:
            continue
        # Between a plain word and a capitalized one.
        first = after[0].rstrip(".")
        if _LAST_WORD.fullmatch(before[-1]) and _FIRST_WORD.fullmatch(first) and first.rstrip(",:") not in _DOMAINS:
            pieces.append(text[end : mark.end()])
            end = mark.end()
    return " ".join([*pieces, text[end:]]) if pieces else text


def outside_addresses(change: Callable[[str], str]) -> Callable[[str], str]:
    """Return a change that leaves the addresses in a text as they are.

    Args:
        change: maps a text to the changed one. It has to keep the order of what it keeps.

    Returns:
        the same, with each address hidden from it; a text of which it would drop an address stays as it is.
    """

    def changed(text: str) -> str:
        new = change(text)
        if new == text or not _ADDRESS_SIGN.search(text):
            return new
        # Only words that may be an address are looked at: the pattern itself is slow.
        words = filter(_ADDRESS_SIGN.search, text.split())
        if not any(len(word) > _LONGEST_SEARCHED or _ADDRESS.search(word) for word in words):
            return new
        addresses: list[str] = []

        def hide(match: re.Match[str]) -> str:
            address = match[0].rstrip(_BEHIND)
            addresses.append(address)
            return _STANDS_FOR + match[0][len(address) :]

        def hide_in_word(match: re.Match[str]) -> str:
            word = match[0]
            if not _ADDRESS_SIGN.search(word):
                return word
            return hide(match) if len(word) > _LONGEST_SEARCHED else _ADDRESS.sub(hide, word)

        pieces = change(_ANY_WORD.sub(hide_in_word, text)).split(_STANDS_FOR)
        if len(pieces) != len(addresses) + 1:
            return text
        return pieces[0] + "".join(address + piece for address, piece in zip(addresses, pieces[1:], strict=True))

    return changed
