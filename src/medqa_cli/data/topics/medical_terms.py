"""Which phrases name an illness or complaint, which a treatment or test, and which only how two things relate.

The words are in ``resources/medical_terms.yaml``, names of one thing in ``resources/synonyms.txt``.
"""

import functools
import re
import unicodedata
from importlib.resources import files

from medqa_cli.data.normalize import normalize
from medqa_cli.resources import load_pattern, load_words, load_yaml

_MEDICINES = "# medicines under two names"  # the section of synonyms.txt that holds no illnesses
_POSSESSIVE = re.compile(r"(?<=\w)['’]s\b|(?<=s)['’](?=\s|$)")
_ACCENTS = re.compile("[\u0300-\u036f]")  # of European letters; marks of other scripts are letters
_NOT_PLURAL = ("ss", "us", "is")
_SHORTEST_PLURAL = 4

_MOST_WORDS_OF_AN_ILLNESS = 6


@functools.cache
def _ending(*tables: str) -> re.Pattern[str]:
    """Match the last words of a phrase, of those that some tables list."""
    alternatives = [words for table in tables for words in load_yaml("medical_terms")[table]]
    return re.compile(rf"\b(?:{'|'.join(alternatives)})\Z", re.IGNORECASE)


@functools.cache
def _synonyms(*, of_medicines: bool) -> frozenset[str]:
    sections = (names for section, names in synonyms() if (section == _MEDICINES) == of_medicines)
    return frozenset(comparable_name(name) for names in sections for name in names)


def is_relation(word: str) -> bool:
    """Tell whether a word says how two things relate ("role", "risk", "treatment") and names none of them."""
    return word.lower() in load_words("medical_terms", "relations")


def names_illness(topic: str) -> bool:
    """Tell whether a topic without prepositions ends like the name of an illness, whoever has it."""
    return load_pattern("medical_terms", "name_of_illness").fullmatch(topic) is not None


def is_illness(topic: str) -> bool:
    """Tell whether a topic is surely the name of one illness, such that an adult can say "I have" it."""
    return (
        len(topic.split()) <= _MOST_WORDS_OF_AN_ILLNESS
        and names_illness(topic)
        and load_pattern("medical_terms", "not_of_an_adult").search(topic) is None
    )


def is_illness_or_complaint(phrase: str) -> bool:
    """Tell whether a phrase without prepositions names an illness, an injury or a complaint."""
    words = phrase.lower().split()
    if not words or words[-1] in load_words("medical_terms", "relations", "no_illnesses"):
        return False
    return (
        names_illness(phrase)
        or _ending("complaints", "illnesses").search(phrase) is not None
        or comparable_name(phrase) in _synonyms(of_medicines=False)
    )


def is_complaint(phrase: str) -> bool:
    """Tell whether a phrase names what one feels or sees, which many illnesses bring with them."""
    return _ending("complaints").search(phrase) is not None


def is_means(phrase: str) -> bool:
    """Tell whether a phrase without prepositions names a treatment, or a test."""
    return _ending("means").search(phrase) is not None or comparable_name(phrase) in _synonyms(of_medicines=True)


@functools.cache
def synonyms() -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Return each line of ``synonyms.txt``: its section, and the names of one thing."""
    lines, section = [], ""
    for line in files("medqa_cli.resources").joinpath("synonyms.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            section = line
        elif line:
            lines.append((section, tuple(line.split(" = "))))
    return tuple(lines)


def comparable_name(name: str) -> str:
    """Return a name folded, without accents, possessives and plurals: "Sjögren's Syndromes" is "sjogren syndrome"."""
    plain = _ACCENTS.sub("", unicodedata.normalize("NFKD", _POSSESSIVE.sub("", name)))
    return " ".join(_singular(word) for word in normalize(plain).split())


def _singular(word: str) -> str:
    """Return a word without a plural ending; it need not be a word, but one and many give the same."""
    if len(word) < _SHORTEST_PLURAL or not word.endswith("s") or word.endswith(_NOT_PLURAL):
        return word
    if word.endswith("ies"):
        return f"{word[:-3]}y"
    return word[:-2] if word.endswith(("sses", "xes", "ches", "shes")) else word[:-1]
