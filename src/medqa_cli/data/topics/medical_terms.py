"""Which phrases name an illness or complaint, which a treatment or test, and which only how two things relate.

The words are in ``resources/medical_terms.yaml``, names of one thing in ``resources/synonyms.txt``.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from dataclasses import dataclass
from importlib.resources import files

from medqa_cli.data.normalize import normalize
from medqa_cli.resources import load_yaml

_MEDICINES = "# medicines under two names"  # the section of synonyms.txt that holds no illnesses
_POSSESSIVE = re.compile(r"(?<=\w)['’]s\b|(?<=s)['’](?=\s|$)")
_ACCENTS = re.compile("[\u0300-\u036f]")  # of European letters; marks of other scripts are letters
_NOT_PLURAL = ("ss", "us", "is")
_SHORTEST_PLURAL = 4

# What "I have ..." and "... is a kind of illness" can be said of: names in the singular that take no article.
_MOST_WORDS_OF_AN_ILLNESS = 6
_NAME_OF_ILLNESS = re.compile(
    r"[^,:;/]*?(?:\b(?:disease|syndrome|disorder|cancer|diabetes|dystrophy|dysplasia|deficiency|anemia|asthma|gout|"
    r"dementia|epilepsy|ataxia|dystonia|palsy|osteoporosis|depression|psoriasis|eczema|obesity|migraine|lupus|porphyria|"
    r"apnea|influenza|flu|malaria|rabies|measles|mumps|shingles|chickenpox|acne|vitiligo|autism|schizophrenia|"
    r"hypertension|hypotension|fibrosis|fibrillation|heart failure|kidney failure|blood pressure|pneumonia)"
    r"|[a-z]{3,}(?:itis|osis|asis|emia|pathy|oma|penia|uria|algia|plegia|rrhea|myelia|trophy|chromia|lepsy|philia))"
    r"(?: type)?(?: (?:\d{1,2}[A-Za-z]?|[IVX]{1,4}|[A-E]))?(?: \([^()]*\))?",
    re.IGNORECASE,
)
# Not said by an adult of himself or his mother, or not of one illness.
_NOT_OF_AN_ADULT = re.compile(
    r"\b(?:child(?:hood|ren)?|infan\w*|newborns?|neonatal|fetal|juvenile|pediatric|perinatal|maternal|pregnan\w*|"
    r"gestational|lethal|fatal|death|adolescen\w*|(?:fe)?males?|m[ae]n|wom[ae]n|prostat\w*|testicular|penile|adults?|"
    r"X.linked|and|or|with|in|for|to|like)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class _Terms:
    """What the two files list; the patterns match the last words of a phrase."""

    relations: frozenset[str]
    no_illnesses: frozenset[str]
    complaint: re.Pattern[str]
    illness_or_complaint: re.Pattern[str]
    means: re.Pattern[str]
    illness_synonyms: frozenset[str]
    medicine_synonyms: frozenset[str]


@functools.cache
def _terms() -> _Terms:
    table = load_yaml("medical_terms")

    def last_words(*alternatives: str) -> re.Pattern[str]:
        return re.compile(rf"\b(?:{'|'.join(alternatives)})\Z", re.IGNORECASE)

    illnesses, medicines = set[str](), set[str]()
    for section, names in synonyms():
        (medicines if section == _MEDICINES else illnesses).update(map(compared, names))
    return _Terms(
        frozenset(table["relations"].split()),
        frozenset(table["no_illnesses"].split()),
        last_words(*table["complaints"]),
        last_words(*table["complaints"], *table["illnesses"]),
        last_words(*table["means"]),
        frozenset(illnesses),
        frozenset(medicines),
    )


def is_relation(word: str) -> bool:
    """Tell whether a word says how two things relate ("role", "risk", "treatment") and names none of them."""
    return word.lower() in _terms().relations


def names_illness(topic: str) -> bool:
    """Tell whether a topic without prepositions ends like the name of an illness, whoever has it."""
    return _NAME_OF_ILLNESS.fullmatch(topic) is not None


def is_illness(topic: str) -> bool:
    """Tell whether a topic is surely the name of one illness, such that an adult can say "I have" it."""
    return (
        len(topic.split()) <= _MOST_WORDS_OF_AN_ILLNESS
        and names_illness(topic)
        and _NOT_OF_AN_ADULT.search(topic) is None
    )


def is_illness_or_complaint(phrase: str) -> bool:
    """Tell whether a phrase without prepositions names an illness, an injury or a complaint."""
    words, terms = phrase.lower().split(), _terms()
    if not words or words[-1] in terms.relations or words[-1] in terms.no_illnesses:
        return False
    return (
        names_illness(phrase)
        or terms.illness_or_complaint.search(phrase) is not None
        or compared(phrase) in terms.illness_synonyms
    )


def is_complaint(phrase: str) -> bool:
    """Tell whether a phrase names what one feels or sees, which many illnesses bring with them."""
    return _terms().complaint.search(phrase) is not None


def is_means(phrase: str) -> bool:
    """Tell whether a phrase without prepositions names a treatment, or a test."""
    return _terms().means.search(phrase) is not None or compared(phrase) in _terms().medicine_synonyms


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


def compared(name: str) -> str:
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
