"""Numbers and codes behind a word that says whose they are, in a text about one person: "policy no. XPW 884 20 1137".

From each number its signs are read to both sides. Then the words before it are read backwards: determiners and the like
are passed over, and the first other word tells whether a code of somebody stands there. Behind "is", ":" and the like
it may be farther away.
"""

import functools
import re
from collections.abc import Iterator
from typing import NamedTuple

from medqa_cli.data.identifiers.text import Text
from medqa_cli.data.identifiers.word_tables import all_names, common_words, months, typing_errors
from medqa_cli.resources import load_pattern, load_words

_USER_NAME = re.compile(r"\b(?:(?:user|screen)[ -]name|log[ -](?:in|on))\b")
# The words behind a code: 448219 is my badge number, tlm749q (that's my HR number).
_LABEL_BEHIND = re.compile(
    r"[\"'”’)\]]?,?\s?[(\[–—-]?\s?(?:(?:(?:that['’]?s|that is|this is|it['’]?s|which is|is|was|being|as)\s)(?:the|an?)"
    r"|(?:(?:that['’]?s|that is|this is|it['’]?s|which is|is|was|being|as)\s)?(?:my|his|her|our|their|your))\s"
    r"((?:[^\W\d_]+[ /'’-]){0,2}[^\W\d_]+)"
)
_LEADER = re.compile(r"\.{2,}|_{2,}|…+")
_TOKEN = re.compile(r"[^\W\d_]+(?:[/&'’-][^\W\d_]+)*|\d+|[^\w\s]|\n")
# My number. It's 448219; my number's 448219.
_SAID_AGAIN = re.compile(r"(?:[.;,!]\s(?:it['’]?s|it is|that['’]?s|that is|this is)|(?<=\w)['’]s)\s(?=[\"“'(]?\Z)")
_NUMBER_SIGN = re.compile(r"\bn\s?[.º°]+\s?[º°]?|\br\.\s?č\.?")
_LAST_FOUR = re.compile(r"\b(?:last|final) (?:four|4|six|6)(?: digits)?\b|[x*•]{3,}[ -]?\Z")
_ENDING = re.compile(r"\b(?:ends|ending) (?:in|with)\b")
_STOPS = frozenset(".!?;\n")
_PREPOSITIONS = frozenset(("at", "for", "and", "to", "by"))
_REACH = 70
_MOST_LINKS, _MOST_WORDS, _SHORTEST_MISTYPED = 7, 6, 6
# The signs of a code to the left of a digit: the letters of XEA912044381, the part before a colon in 20:C2277000.
_LEFT = re.compile(r"(?:[^\W_]|(?<=[^\W_])[-/.:])*\Z")
_LABEL_WITHIN = re.compile(r"([^\W\d_]+)[.:]|([^\W\d_]{5,})[-/]")
# Letters in front of a code, with a space: NX 901122.
_LETTERS_BEFORE = re.compile(r"(?<![\w@&/.-])((?:[A-Za-z]/)?[A-Za-z]{1,5})[ ]\Z|(\(\d\d\))\Z")
_LEADING_LETTERS = re.compile(r"[A-Za-z]{3,}(?=\d{4})")
_LETTERS_WITHIN = re.compile(r" ([A-Za-z]{1,4}) (?=\d)")
_GROUP = r"(?!\d{1,3} ?(?:y|yo|y/o|yrs?|years?|[fm]|mg|mcg|ml|kg|cm|mm|bpm|units?|times|days?|weeks?|months?|hours?)\b)"
_CODE = re.compile(
    r"[^\W_]+(?:[-/:][^\W_]+|\.(?=[A-Z]{0,2}\d)[^\W_]+)*(?:\(\d\))?"
    rf"(?:(?: [-–/] | ){_GROUP}(?:\d{{2,}}[A-Za-z]?|[A-Z]{{1,4}}\d[A-Z\d]*|[a-z]{{1,3}}\d[a-z\d]*"
    r"|\d(?!ML|MG|KG|CM|MM|PM|AM|HR|WK|YO|st|nd|rd|th|am|pm|hr|wk|yo)(?:[A-Z]{2,3}|[a-z]{2})(?![\w'’])"
    r"|[A-Z]{1,4} \d{2,}|[b-hj-z] \d{3,})(?:[-/.](?=\d)\w+)*)*"
    r"(?:[ -]\d(?: ?/ ?\d)?(?![\w%]|[.,:]\d| ?[a-z/-]))?"
)
# Letters behind the last digits: 4608995 X, 5584 486 674 VG.
_REST = re.compile(
    r"[ -](?:[B-HJ-Z][A-Z]?|A(?! [a-z])|A(?= (?:and|but|or|is|was|on|in|for|with|from|at)\b))(?![\w'’-])"
)
_SMALL_REST = re.compile(r"[ -](?!is\b|my\b)([b-hj-z][a-z]?)(?![\w'’-])")
# A day behind a code: C4D1 21 September.
_LAST_GROUP, _MONTH = re.compile(r" \d{1,2}\Z"), re.compile(r" ([^\W\d_]{3,})")
_BEHIND_NUMBER = re.compile(r"\b(?:number|no|nr|id|serial|sn|is|label|sticker)\b[ .:#]{0,3}\Z")
_MASK = re.compile(r"(?:(?<![^\W_])[x*•]{2,5}[ -]?){1,4}\Z")
_LONGEST_MASK = 16
_CURRENCIES = frozenset("$€£₹")
_OF_PRODUCT, _MARK = re.compile(r"\bref(?:erence)?\W{0,3}\Z"), re.compile(r"\bREF \Z")
_BESIDE_SERIAL = re.compile(r"\W{0,3}(?:and )?(?:s/?n|serial|lot|udi)\b")
# Years, blood pressures, ranges, dates, versions, variants of genes, times, decimals, helplines.
_NO_CODE = re.compile(
    r"(?:19|20)\d\d(?:[-/](?:19|20)?\d\d)?|\d{1,3}/\d{1,3}(?: \d{2,3}/\d{2,3})*|[1-9]\d{0,2}-\d{1,3}"
    r"|\d+\.\d+-\d+\.\d+|\d{1,2}[./]\d{1,2}[./](?:19|20)?\d\d|(?:19|20)\d\d([./-])\d\d\1\d\d"
    r"|v?\d{1,2}(?:\.\d{1,2}){2,}(?:-\w+)?|(?:\w+ )?[cgmnpr]\.\S+|\d{1,2}:\d\d(?::\d\d)?|\d+[.,]\d{1,2}"
    r"|116(?:000|006|016|117|123)"
)
_DATE = re.compile(r"(?:0?[1-9]|[12]\d|3[01])-(?:0?[1-9]|[12]\d|3[01])-(?:(?:19|20)?\d\d)")
# LOINC and CPT: 2345-7, 99213-25.
_CODE_OF_TEST = re.compile(r"\d{3,5}-\d{1,2}|\d{5}")
# Seven signs of letters and digits in one piece, with few digits: EXD71UW, M4X8K2.
_MIXED = re.compile(r"(?=[^\W_]*[A-Za-z])(?=[^\W_]*\d)[A-Za-z\d]{5,10}(?:-[A-Za-z\d]{1,6})?")
_AMOUNT = re.compile(r"\d+([A-Za-z]+)|([A-Za-z]+)\d|((?i:covid|omega|vitamin|type|grade|stage))\d+")
_LONGEST_UNIT = 3
_LONGEST = 60
_FEWEST_DIGITS, _FEWEST_FAR_DIGITS, _FEWEST_TOLD_DIGITS = 4, 5, 7


class Label(NamedTuple):
    """The word that tells what a number is of, whether it stands right before it, and whether "is" or ":" does."""

    word: str
    is_near: bool
    is_told: bool


def _is_end_of_number(before: str) -> bool:
    """Tell whether the last digits of a number follow: "ending in", "last four"."""
    return (_LAST_FOUR.search(before) or _ENDING.search(before)) is not None


def _label_behind(text: Text, end: int) -> Label | None:
    """Return the label that is said behind a code: 448219 is my badge number."""
    found = _LABEL_BEHIND.match(text.lower, end, end + _REACH)
    words = re.split("[ /'’-]", found[1]) if found else ()
    return next((Label(word, True, False) for word in words if is_label(word)), None)


@functools.cache
def _rewordings() -> tuple[tuple[tuple[str, ...], re.Pattern[str], str], ...]:
    """Return what is put into plainer words before a label is looked for: signs without which none is there first."""
    return (
        (("it", "that", "this", "'s", "’s"), _SAID_AGAIN, " is "),
        ((" is", " was", " sa", " reads", " shows", " has"), load_pattern("identifiers", "place_of_label"), " "),
        (("under", " as "), load_pattern("identifiers", "filed_under"), " reference:"),
        (("name", "log"), _USER_NAME, "username"),
        (("..", "__", "…"), _LEADER, ":"),
        (("º", "°", "n.", "n .", "r.č", "r. č"), _NUMBER_SIGN, " nr "),
        (("last", "final", "xx", "**", "••"), _LAST_FOUR, " ending "),
        (("end",), _ENDING, " "),
    )


@functools.lru_cache(maxsize=10_000)
def is_label(word: str) -> bool:
    """Tell whether a word in small letters says that a number of somebody follows."""
    labels = load_words("identifiers", "far_labels", "near_labels")
    parts = re.split("[/-]", word)
    if word in labels or (len(parts) > 1 and any(len(part) > 2 and part in labels for part in parts)):
        return True
    endings = tuple(load_words("identifiers", "label_endings"))
    return (len(word) > 5 and word.endswith(endings)) or word in _mistyped_labels()


@functools.cache
def _mistyped_labels() -> frozenset[str]:
    """Return likely typing errors in longer labels."""
    long = (word for word in load_words("identifiers", "far_labels", "near_labels") if len(word) >= _SHORTEST_MISTYPED)
    return frozenset().union(*map(typing_errors, long)) - common_words() - all_names()


def label_before(before: str) -> Label | None:
    """Return the word that tells what follows, or None where none does.

    Args:
        before: what stands before a number, in small letters.
    """
    for signs, pattern, plain in _rewordings():
        if any(map(before.__contains__, signs)):
            before = pattern.sub(plain, before)
    links, words, is_told, is_line, behind = 0, 0, False, False, ""
    weak: Label | None = None
    for token in reversed(_TOKEN.findall(before)):
        if token in load_words("identifiers", "label_copulas"):
            is_told = True
        elif not words and is_label(token):
            is_other = load_pattern("identifiers", "number_of_other").search(before)
            if is_other or (is_line and not is_told):
                return weak
            if not is_told or token not in load_words("identifiers", "weak_labels"):
                return Label(token, True, is_told)
            weak, words = Label(token, True, is_told), words + 1  # the number on my letter is
        elif is_told and token in load_words("identifiers", "far_labels") and behind != "of":
            return Label(token, False, is_told)
        elif not words and (token in load_words("identifiers", "label_links") or (token in ".\n" and not links)):
            links += 1
            is_line = is_line or token == "\n"
        elif is_told and (
            token in _PREPOSITIONS or not (token in _STOPS or token in load_words("identifiers", "other_labels"))
        ):
            words += 1
        else:
            return weak
        if links > _MOST_LINKS or words > _MOST_WORDS:
            return weak
        behind = token
    return weak


def labelled_codes(text: Text) -> Iterator[tuple[int, int]]:
    """Yield the places of the codes that stand behind a word for one, in a text about one person."""
    end = 0
    for place, _ in text.numbers:
        if place < end:
            continue
        start, stop = _code_at(text, place)
        value = text.text[start:stop]
        is_ending = _is_end_of_number(text.before(start, 24))
        if start == stop or (_NO_CODE.fullmatch(value) and not (is_ending and len(value) == _FEWEST_DIGITS)):
            continue
        if load_pattern("identifiers", "public_code").match(value) or text.before(start, 1) in _CURRENCIES:
            continue
        if load_pattern("identifiers", "unit_behind").match(text.after(stop, 24)):
            continue
        label = label_before(text.before(start, _REACH)) or _label_behind(text, stop)
        if label is None and (letters := _LEADING_LETTERS.match(value)) and is_label(letters[0].lower()):
            label = Label(letters[0].lower(), True, False)  # GMC4482190
        if label is None or is_of_product(text, start, stop):
            continue
        if _fits(value, label, is_small=text.is_shouted or text.text == text.lower):
            mask = _MASK.search(text.lower, max(start - _LONGEST_MASK, 0), start)
            yield mask.start() if mask else start, stop
            end = stop


def is_of_product(text: Text, start: int, end: int) -> bool:
    """Tell whether a code is the maker's reference: REF 00-8757; ref 00-8757, S/N 448219."""
    if not _OF_PRODUCT.search(text.before(start, 14)):
        return False
    is_mark = _MARK.search(text.text, max(start - 6, 0), start) is not None and not text.is_shouted
    is_mark = is_mark or load_pattern("identifiers", "product_named").search(text.before(start, 32)) is not None
    return is_mark or _BESIDE_SERIAL.match(text.after(end, 20)) is not None


def _code_at(text: Text, place: int) -> tuple[int, int]:
    """Return the start and end of what may be a code and whose first digits are at a place."""
    left = _LEFT.search(text.text, max(place - 24, 0), place)
    start = left.start() if left else place
    for part in _LABEL_WITHIN.finditer(text.text, start, place):
        if is_label((part[1] or part[2]).lower()):
            start = part.end()
    letters = _LETTERS_BEFORE.search(text.text, max(start - 8, 0), start)
    if letters and (letters[2] or _may_lead(text, letters.start(), letters[1])):
        start = letters.start()
    letters_end = letters.end() if letters and start == letters.start() else start
    found = _CODE.match(text.text, letters_end, letters_end + _LONGEST)
    if found is None:
        return place, place
    end = found.end()
    for part in _LETTERS_WITHIN.finditer(text.text, found.start(), end):
        words = common_words() if text.is_shouted or not part[1].isupper() else load_words("identifiers", "short_words")
        if part[1].lower() in words or (len(part[1]) > 2 and is_label(part[1].lower())):
            end = part.start()
            break
    last = _LAST_GROUP.search(text.text, found.start(), end)
    if last and (month := _MONTH.match(text.lower, end)) and month[1] in months():
        end = last.start()
    end = found.start() + len(text.text[found.start() : end].rstrip(" .-/:"))
    digits = sum(map(str.isdigit, text.text[start:end]))
    if digits >= _FEWEST_DIGITS:
        end = with_letters(text, end)
    return start, end


def with_letters(text: Text, end: int) -> int:
    """Return where the letters end that stand behind the digits of a code, or the end of these: 4608995 X."""
    rest = None if text.is_shouted else _REST.match(text.text, end)
    if rest is None and (small := _SMALL_REST.match(text.text, end)):
        rest = None if small[1] in common_words() | load_words("identifiers", "short_words") else small
    return rest.end() if rest else end


def _may_lead(text: Text, start: int, letters: str) -> bool:
    """Tell whether letters before a space and digits may be part of a code: NX 901122, and not "of 901122"."""
    word, is_large = letters.lower(), letters.isupper() and not text.is_shouted
    if is_label(word):
        # The number is PID 987780; serial: SN 21-440981.
        before = text.before(start, _REACH)
        if word in load_words("identifiers", "second_labels") and label_before(before) is not None:
            return is_large or text.is_shouted or text.text == text.lower
        return is_large and _BEHIND_NUMBER.search(before) is not None
    if word in load_words("identifiers", "label_links", "label_copulas", "other_labels"):
        return False
    if is_large:
        return word != "i"
    return word not in common_words() and word not in months() and (text.is_shouted or text.text == text.lower)


def _fits(value: str, label: Label, *, is_small: bool) -> bool:
    """Tell whether a value is long enough to be a code behind a label, and no date, amount or code of a test."""
    is_weak = label.word in load_words("identifiers", "weak_labels")
    if is_weak and (_DATE.fullmatch(value) or (label.is_told and value.isdigit() and len(value) < _FEWEST_TOLD_DIGITS)):
        return False
    if label.word in ("code", "codes") and _CODE_OF_TEST.fullmatch(value):
        return False
    digits, letters = sum(map(str.isdigit, value)), sum(map(str.isalpha, value))
    if not label.is_near:
        return digits >= _FEWEST_FAR_DIGITS or (digits >= 3 and letters >= 2)
    if digits >= _FEWEST_DIGITS or (digits >= 3 and letters >= 2):
        return True
    amount = _AMOUNT.fullmatch(value)
    unit = (amount[1] or amount[2] or amount[3]).lower() if amount else ""
    if (
        is_weak
        or _MIXED.fullmatch(value) is None
        or (amount and (len(unit) <= _LONGEST_UNIT or unit in common_words()))
    ):
        return False
    return is_small or value.upper() == value or label.word in load_words("identifiers", "user_labels")
