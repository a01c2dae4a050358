"""Numbers and codes behind a word that says whose they are, in a text about one person: "policy no. XPW 884 20 1137".

From each number its signs are read to both sides, and the label that tells whose it is is looked for (code_labels).
"""

import re
from collections.abc import Iterator

from medqa_cli.data.identifiers.code_labels import (
    REACH,
    Label,
    is_end_of_number,
    is_label,
    label_above,
    label_before,
    label_behind,
)
from medqa_cli.data.identifiers.text import Text
from medqa_cli.data.identifiers.word_tables import common_words, months
from medqa_cli.resources import load_pattern, load_words

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
# Where a code stands right behind one of the labels that tell enough, this does.
_BESIDE_LABEL = re.compile(r"\W{0,4}(?:[^\W\d]{1,8}\W{1,3}){0,3}[^\W\d]{0,12}\W?\d")
_FEWEST_DIGITS, _FEWEST_FAR_DIGITS, _FEWEST_CERTAIN, _FEWEST_TOLD_DIGITS = 4, 5, 6, 7


def certain_codes(text: Text) -> Iterator[tuple[int, int]]:
    """Yield the places of the codes whose label stands right before them and tells enough in a text about anybody."""
    if "certain_labels" not in text.tables:
        return
    labels = load_words("identifiers", "certain_labels")
    ends = (place + len(word) for word in text.words & labels for place in text.places(word))
    if not any(_BESIDE_LABEL.match(text.lower, end) for end in ends):
        return
    for start, end, label in _with_labels(text):
        if label.word in labels and label.is_near and sum(map(str.isdigit, text.text[start:end])) >= _FEWEST_CERTAIN:
            yield start, end


def labelled_codes(text: Text) -> Iterator[tuple[int, int]]:
    """Yield the places of the codes that stand behind a word for one, in a text about one person."""
    yield from ((start, end) for start, end, _ in _with_labels(text))


def _with_labels(text: Text) -> Iterator[tuple[int, int, Label]]:
    end = 0
    for place, _ in text.numbers:
        if place < end:
            continue
        start, stop = _code_at(text, place)
        value = text.text[start:stop]
        near = text.before(start, 24)
        is_ending = is_end_of_number(near)
        if start == stop or (_NO_CODE.fullmatch(value) and not (is_ending and len(value) == _FEWEST_DIGITS)):
            continue
        if load_pattern("identifiers", "public_code").match(value) or text.before(start, 1) in _CURRENCIES:
            continue
        if load_pattern("identifiers", "unit_behind").match(text.after(stop, 24)):
            continue
        label = label_before(text.before(start, REACH)) or label_behind(text, stop) or label_above(text, start)
        if label is None and (letters := _LEADING_LETTERS.match(value)) and is_label(letters[0].lower()):
            label = Label(letters[0].lower(), True, False)  # GMC4482190
        if label is None or is_of_product(text, start, stop):
            continue
        if _fits(value, label, is_small=text.is_shouted or text.text == text.lower):
            mask = _MASK.search(text.lower, max(start - _LONGEST_MASK, 0), start)
            yield mask.start() if mask else start, stop, label
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
        before = text.before(start, REACH)
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
