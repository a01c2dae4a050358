"""The form of a name of a person, and which words are one: not a disease's, an institute's or a discoverer's."""

import functools
import re

from medqa_cli.data.identifiers.text import Text
from medqa_cli.data.identifiers.word_tables import all_names, common_words
from medqa_cli.resources import load_pattern, load_words, load_yaml

LARGE = "".join(chr(c) for c in (*range(0x41, 0x250), *range(0x370, 0x530), *range(0x1E00, 0x1F00)) if chr(c).isupper())


def with_capitals(pattern: str) -> re.Pattern[str]:
    """Compile a pattern in which ``A-ZÀ-Þ`` stands for the capitals of all alphabets."""
    return re.compile(pattern.replace("A-ZÀ-Þ", LARGE))


_APOSTROPHE = "['’ʼ`]"
_LETTERS = r"[^\W\d_]"
# Taken as a whole or not at all: no part of a word is tried.
CAPITAL = (
    rf"[{LARGE}](?:{_LETTERS}++|(?={_APOSTROPHE}))(?:{_APOSTROPHE}{_LETTERS}++)*+"
    rf"(?:[-‐‑]{_LETTERS}++(?:{_APOSTROPHE}{_LETTERS}++)?+)*+"
)
_INITIAL = rf"(?:[{LARGE}]\.\s?-?)*[{LARGE}]\.(?![{LARGE}])|[{LARGE}](?![\w'’])"
PARTICLE = (
    r"(?:van|von|vom|zu|der|den|de|del|della|dela|di|da|do|dos|das|du|la|le|lo|el|al|bin|bint|ibn|ben|abu|ter|ten|af"
    r"|st\.?|y|e)"
)
GAP = r"[ \xa0]{1,2}"
PART = rf"(?:{_INITIAL}|{CAPITAL})"
NAME = rf"{PART}(?:{GAP}(?:(?i:{PARTICLE}){GAP}){{0,2}}{PART}){{0,3}}"
SMALL = r"[^\W\d_]+(?:['’-][^\W\d_]+)*"
_SMALL_NAME = rf"(?:[^\W\d_]\.\s?){{0,2}}{SMALL}(?:{GAP}(?:[^\W\d_]\.|{SMALL})){{0,3}}"

NAME_HERE = re.compile(NAME)
SMALL_NAME_HERE = re.compile(_SMALL_NAME)
BEHIND_SIGNATURE = r"(?:\sx+|,\s(?:mum|mom|mother|dad|father|age|from|\d)[^.,!?\n]{0,20})?[\s.!]*\Z"
"""What may stand behind the name under a message: an "x", or "mum of 3"."""
REVERSED_REST = re.compile(rf",\s({CAPITAL})(?:\s[{LARGE}]\b\.?)?")
"""What follows a surname: ", Jane B."."""
POSSESSIVE = re.compile(r"['’]s?$")
NO_NAME_ENDING = re.compile(r"(?:ed|ing|ly|tion|ness|ment|ology|itis|emia|ine)$")
_LONG, _FAMOUS_REACH = 7, 20
_OF_MEDICINE = re.compile(
    r"(?:mab|nib|pril|sartan|olol|cillin|mycin|azole|statin|vir|zepam|pine|tine|prazole|formin|gliptin|parin|xaban|oid"
    r"|osis|oma|pathy|algia|ectomy|scopy|plasty|gram|graphy|uria|trophy|solone|sone|caine|triptan|lukast|thiazide|semide"
    r"|tide|opia|plegia|itides|oses|edema|rrhea|rrhoea|genic|ase|cyte|penia|philia|emic|otic|etic)s?$"
)
ODD_SURNAME = re.compile(r"(?:o|d|n)['’]\w{3,}|mc[a-z]{3,}|mac[a-z]{4,}|fitz\w{3,}")
LAST_WORD = re.compile(r"([^\W_]+)[\s'’.,:;!?=()\"“–—-]*$")
"""The last word of a text, and the marks behind it."""
_NEXT_WORD = re.compile(r"\s([^\W\d_]+)")
_WHOLE_WORD = re.compile(r"[^\s\xa0]+")
_SMALL_WORD = re.compile(rf"(?P<initial>[^\W\d_]\.)|{SMALL}")
_ENDS_WITH_INITIAL = re.compile(rf"(?:^|[\s.]){_INITIAL}$")
_IS_PARTICLE = re.compile(PARTICLE)
_PLAIN_WORD = re.compile(SMALL)


def is_common(word: str) -> bool:
    """Tell whether a word in small letters is of the language or of medicine, and no name of the tables."""
    if word in common_words():
        return True
    if word in all_names():
        return False
    return (
        NO_NAME_ENDING.search(word) is not None
        or is_medicine(word)
        or word.removesuffix("s") in common_words()
        or word.split("'")[0].split("’")[0] in common_words()
    )


def is_medicine(word: str) -> bool:
    """Tell whether a word in small letters ends as drugs and diseases do."""
    return len(word) > _LONG and _OF_MEDICINE.search(word) is not None and word not in all_names()


def is_unknown(word: str) -> bool:
    """Tell whether a word in small letters may be a name of no table: it is no word of the language or of medicine."""
    return len(word) > 2 and word not in load_words("identifiers", "eponyms", "ambiguous") and not is_common(word)


def trimmed(text: Text, start: int, end: int) -> tuple[int, int]:
    """Cut a run of capitalized words at the first that is no name, and the possessive at its end."""
    words = list(_WHOLE_WORD.finditer(text.text[start:end]))
    kept_end = 0
    for number, word in enumerate(words):
        plain = POSSESSIVE.sub("", word[0]).lower()
        is_initial = len(plain.strip(".")) == 1 and (word[0].endswith(".") or 0 < number < len(words) - 1)
        # JL Rosales
        is_initial |= len(plain) == 2 and word[0].isupper() and number < len(words) - 1 and not text.is_shouted
        if not is_initial and plain.strip(".") in load_words("identifiers", "no_names", "common"):
            break
        if _IS_PARTICLE.fullmatch(plain) and number and word[0] == word[0].lower():
            continue
        kept_end = word.start() + len(POSSESSIVE.sub("", word[0]))
        if kept_end < word.end():
            break
    # A full stop that ends a sentence is no part, that of an initial is.
    value = text.text[start : start + kept_end]
    if value.endswith(".") and not _ENDS_WITH_INITIAL.search(value):
        kept_end -= 1
    return start, start + kept_end


def small_name_end(lower: str, start: int, end: int, sure: bool) -> int:
    """Return where a name in small letters ends; its start: there is none.

    A word of no table counts as the first one behind a sure cue, and behind a name of the tables.
    """
    taken, names, has_initial = start, 0, False
    common = load_words("identifiers", "common", "no_names", "small_common")
    particles = load_words("identifiers", "particles")
    for word in _SMALL_WORD.finditer(lower[start:end]):
        if word["initial"]:
            has_initial = sure
            continue
        plain = POSSESSIVE.sub("", word[0])
        # van der berg; k. j. moon, written kj
        is_part = plain in particles and plain not in all_names() and (sure or names)
        is_part |= names == 0 and len(plain) == 2 and sure and _NEXT_WORD.match(lower, start + word.end()) is not None
        if is_part and len(plain) > 1 and plain not in common:
            continue
        if plain in common or len(plain) < 2:
            break
        if plain not in all_names() and not ODD_SURNAME.fullmatch(plain):
            if (not sure and not names) or (not has_initial and any(map(is_common, plain.split("-")))):
                break
            behind = _NEXT_WORD.match(lower, start + word.end())
            if names and not (len(plain) > 2 and (behind is None or is_common(behind[1]) or behind[1] in particles)):
                break
        elif names and plain in load_words("identifiers", "ambiguous"):
            behind = _NEXT_WORD.match(lower, start + word.end())
            if behind is not None and not is_common(behind[1]):
                break
        names += 1
        taken = start + word.start() + len(plain)
        if len(plain) < len(word[0]):
            break
    return taken


def may_be_name(text: Text, start: int, end: int, is_sure: bool) -> bool:
    """Tell whether a name is a person's, and not a disease's, an institute's or a discoverer's."""
    value = text.lower[start:end]
    words = _PLAIN_WORD.findall(value)
    if not words or (all(len(word) < 2 for word in words) and not is_sure):
        return False
    if load_words("not_names", "peoples").issuperset(words):
        return False
    if len(words) == 1 and _is_other_word(text, start, end, words[0]):
        return False
    if load_pattern("identifiers", "eponym_follows").match(text.after(end, 60)):
        return False
    if load_pattern("identifiers", "discoverer").search(text.before(start, 70) + " # " + text.after(end, 70)):
        return False
    if not is_sure:
        if not load_words("identifiers", "eponyms").isdisjoint(words):
            return False
        if (
            text.text[start:end].isupper()
            and not text.is_shouted
            and not (len(words) > 1 and (all_names().issuperset(words) or not all(map(is_common, words))))
        ):
            return False  # NASH, HAE
    if load_pattern("identifiers", "institute_before").search(text.before(start, 30)):
        return False
    famous = _famous().finditer(text.lower, max(start - _FAMOUS_REACH, 0), end + _FAMOUS_REACH)
    return not any(found.start() < end and start < found.end() for found in famous)


def _is_other_word(text: Text, start: int, end: int, word: str) -> bool:
    """Tell whether a name of one word is a verb of another language or a medicine: mia madre ha; took Camila."""
    if word in load_words("identifiers", "small_verbs"):
        return text.is_shouted or text.text[start] == text.lower[start]
    no_names = load_words("identifiers", "no_name_words", "medicines_like_names")
    return (word in no_names or word in load_words("not_names", "products")) and (
        load_pattern("identifiers", "medicine_behind").match(text.lower, end) is not None
        or load_pattern("identifiers", "medicine_before").search(text.before(start, 24)) is not None
    )


@functools.cache
def _famous() -> re.Pattern[str]:
    """Return the pattern of what is written like names and is none: Dr Pepper, Robert Koch."""
    return re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, load_yaml('identifiers')['famous']))})")


def no_signature() -> frozenset[str]:
    """Return the words that end a letter and are no name."""
    return load_words("identifiers", "common", "no_names", "eponyms", "small_common")
