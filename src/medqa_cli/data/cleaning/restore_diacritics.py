"""The cleaning rules that put back lost characters: letters with diacritics, apostrophes, spaces between sentences.

Only where the repair is certain: a word that is also another word (``wont``, ``its``, ``ill``) stays as it is, and so
does whatever belongs to an address (``addresses``). Does not correct spelling.
"""

from __future__ import annotations

import re

# Without the lost letter none of these is a word of any language that a medical text is likely to hold.
_LETTERS = {
    "Alstrm": "Alström",
    "Behet": "Behçet",
    "Behets": "Behçet's",
    "Bjrnstad": "Björnstad",
    "Chdiak": "Chédiak",
    "Espaol": "Español",
    "Grsbeck": "Gräsbeck",
    "Klver": "Klüver",
    "Menieres": "Meniere's",
    "Mllerian": "Müllerian",
    "Mnire": "Ménière",
    "Mnires": "Ménière's",
    "Mntrier": "Ménétrier",
    "Mntriers": "Ménétrier's",
    "Schller": "Schüller",
    "Schnlein": "Schönlein",
    "Sjgren": "Sjögren",
    "Sjgrens": "Sjögren's",
    "Sjogrens": "Sjogren's",
    "Strussler": "Sträussler",
    "Waldenstrm": "Waldenström",
    "Zweymller": "Zweymüller",
    "espaol": "español",
    "Pured": "Puréed",
    "pured": "puréed",
    "FineLubinsky": "Fine-Lubinsky",
    "HurlerScheie": "Hurler-Scheie",
    "KasabachMerritt": "Kasabach-Merritt",
    "KearnsSayre": "Kearns-Sayre",
    "WaterhouseFriderichsen": "Waterhouse-Friderichsen",
    "Alzheimers": "Alzheimer's",
    "Crohns": "Crohn's",
    "Hashimotos": "Hashimoto's",
    "Parkinsons": "Parkinson's",
    "Peyronies": "Peyronie's",
    "babys": "baby's",
    "bodys": "body's",
    "childrens": "children's",
    "childs": "child's",
    "familys": "family's",
    "womans": "woman's",
    "womens": "women's",
}
# Certain only together with the words beside them, which a space or a hyphen joins.
_PHRASES = {
    "Cant syndrome": "Cantú syndrome",
    "Caf-au-lait": "Café-au-lait",
    "caf-au-lait": "café-au-lait",
    "Caf au lait": "Café au lait",
    "caf au lait": "café au lait",
    "Guillain-Barr": "Guillain-Barré",
    "Legg-Calv": "Legg-Calvé",
    "Lri-Weill": "Léri-Weill",
    "Rokitansky-Kster": "Rokitansky-Küster",
    "Roussy-Lvy": "Roussy-Lévy",
    "Senior-Lken": "Senior-Løken",
    "Stve-Wiedemann": "Stüve-Wiedemann",
    "Szary cell": "Sézary cell",
    "Szary cells": "Sézary cells",
    "Szary disease": "Sézary disease",
    "Szary syndrome": "Sézary syndrome",
    "Szary Syndrome": "Sézary Syndrome",
}
# Names that are also plurals or other names: certain only before what is named after them.
_OWNERS = re.findall(
    r"\w+",
    """Addisons Aspergers Barretts Bells Bergers Bowens Buergers Cooleys Cushings Downs Fanconis Farbers Fowlers
    Friedreichs Gehrigs Hirschsprungs Hodgkins Huntingtons Kennedys Leighs Pagets Picks Prinzmetals Rasmussens
    Raynauds Schirmers Stills Takayasus Thomsens Tourettes Wallenbergs Wegeners Whipples Wilsons Wolmans""",
)
_OWNED = (
    "anemia|angina|arteritis|ataxia|chorea|disease|encephalitis|esophagus|granulomatosis|lymphoma|palsy|phenomenon"
    "|sarcoma|syndrome|test|thyroiditis|tumor"
)
_NOT = re.findall(r"\w+", "are could did do does had has have is must need should was were would")
_CONTRACTIONS = {
    **{f"{verb}nt": f"{verb}n't" for verb in _NOT},
    **{f"{who}re": f"{who}'re" for who in ("you", "they")},
    **{f"{who}ve": f"{who}'ve" for who in ("you", "they")},
    **{f"{who}ll": f"{who}'ll" for who in ("you", "they")},
    **{f"{what}s": f"{what}'s" for what in ("that", "there", "what", "who")},
}
_REPAIRS = {
    **_LETTERS,
    **_PHRASES,
    **{name: f"{name[:-1]}'s" for name in _OWNERS},
    **_CONTRACTIONS,
    **{word.capitalize(): repair.capitalize() for word, repair in _CONTRACTIONS.items()},
    "cant": "can't",
}
del _REPAIRS["Arent"]  # a name

# "dont" is a French word too, before an article or a pronoun; a cant is a slant in dentistry.
_FRENCH = "la|le|les|un|une|des|du|il|elle|on|ils|elles|ce|cette|ces|son|sa|ses|leur|leurs|je|tu|nous|vous"
_CONDITIONS = {
    **dict.fromkeys(_OWNERS, rf"(?=\s(?i:{_OWNED})s?\b)"),
    **dict.fromkeys(("dont", "Dont"), rf"(?!\s(?:{_FRENCH})\b)"),
    "cant": r"(?<!\ba cant)(?<!the cant)(?<!of cant)(?<!al cant)(?<!ry cant)"
    r"(?!\s(?:of|is|was|in|to|and|angle|correction)\b)",
}
_NO_MORE = r"(?![\w@/]|['’](?!s\b)|\.\w)"  # the word ends here, but for a genitive
_WORD_BEFORE = re.compile(r"[\w/@.'’]")


def _lost_pattern() -> re.Pattern[str]:
    """Return the pattern for a word to repair.

    One branch for each first letter: then the search skips at once to the letters that a match can begin with.
    """
    branches: dict[str, list[str]] = {}
    for word in sorted(_REPAIRS, key=len, reverse=True):
        branches.setdefault(word[0], []).append(rf"{word[1:]}{_NO_MORE}{_CONDITIONS.get(word, '')}")
    return re.compile("|".join(f"{letter}(?:{'|'.join(rests)})" for letter, rests in branches.items()))


_LOST = _lost_pattern()
# The words that announce a repair: a text without any of them, nearly every one, is done with at once.
_SIGNS = frozenset(
    lost
    for damaged, repair in _REPAIRS.items()
    for lost, found in zip(re.split("[ -]", damaged), re.split("[ -]", repair), strict=False)
    if lost != found
)
_TO_SPACES = str.maketrans(dict.fromkeys("-.,;:!?()[]\"'’/\n\t", " "))

_GLUE = re.compile(r"[.?!](?=[A-Z])")
_GLUE_CHARACTERS = 40
_LAST_WORD = re.compile(r"[(\"']?[a-z]+(?:[-'][a-z]+)*[a-z]{2}")
_FIRST_WORD = re.compile(r"(?:A|I|[A-Z][a-z]+(?:-[a-z]+)*)[,:]?")
_DOMAINS = frozenset({"Asp", "Com", "Edu", "Gov", "Html", "Io", "Js", "Net", "Org", "Pdf", "Txt"})


def lost_letters(text: str) -> str:
    """Put back letters and apostrophes that were lost: ``doesnt``, ``Sjgren``, ``Alzheimers``.

    Args:
        text: a question or an answer.

    Returns:
        the text with the repairs that are certain; the case of the letters is kept.
    """
    return text if _SIGNS.isdisjoint(text.translate(_TO_SPACES).split()) else _LOST.sub(_repaired, text)


def _repaired(found: re.Match[str]) -> str:
    """Return the repair of a match, or itself where it is the end of a longer word."""
    follows_a_word = found.start() > 0 and _WORD_BEFORE.match(found.string, found.start() - 1)
    return found[0] if follows_a_word else _REPAIRS[found[0]]


def glued_sentences(text: str) -> str:
    """Put a space between two sentences that run together: ``the term.The next``.

    Args:
        text: a question or an answer.

    Returns:
        the text with the spaces. Addresses, abbreviations and names with a full stop stay as they are.
    """
    pieces: list[str] = []
    end = 0
    for mark in _GLUE.finditer(text):
        if _ends_a_sentence(text, mark.start()):
            pieces.append(text[end : mark.end()])
            end = mark.end()
    return " ".join([*pieces, text[end:]]) if pieces else text


def _ends_a_sentence(text: str, at: int) -> bool:
    """Tell whether the mark at this place stands between a plain word and a capitalised one."""
    before = text[max(0, at - _GLUE_CHARACTERS) : at].split()
    after = text[at + 1 : at + 1 + _GLUE_CHARACTERS].split()
    if not before or not after or len(before[-1]) == _GLUE_CHARACTERS:
        return False
    last, first = before[-1], after[0].rstrip(".")
    return bool(_LAST_WORD.fullmatch(last) and _FIRST_WORD.fullmatch(first)) and first.rstrip(",:") not in _DOMAINS
