"""How probable a text is, by its letters, words and signs: a text that was decoded wrongly hardly ever makes sense.

Each script has its judge.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection
from functools import lru_cache, partial

from medqa_cli.data.languages import latin_languages, likeliest_language
from medqa_cli.resources import load_yaml

# Signs that a Western text holds beside letters.
_SIGNS = frozenset("‘’‚“”„…–—•·°±×÷µ²³¹¼½¾®©™€£¥§¶†‡‰«»‹›¡¿ªº\xa0\xad¢¬¦¨´¸≤≥≠≈∞√∑−′″←→↑↓№✓")
_WITHIN_A_WORD = frozenset("’‘-–—·\xad´ªºµ")  # between two letters
# Signs that are out of place, as those are that a sign of another page was taken for: "m≤" is m², "¢ tablet" ½ tablet.
_OUT_OF_PLACE = re.compile(
    r"(?<=[^\W\d_])[„‚«½¼¾]"
    r"|(?<=\S)[≤≥≠≈](?!\s?[\d<>=−-])"  # a number follows, or spaces stand on both sides
    r"|(?<=\w)[∞√∑]|[∞√∑](?=[^\W\d_])"
    r"|(?<=[^\W\d_])[²³¹](?=[²³¹]+[^\W\d_])|(?<=[^\W\d_][²³¹])[²³¹](?=[^\W\d_])"
    r"|(?<!\w)´|\xad(?![^\W\d_])|(?<!\d)¢|«(?![^«]{1,400}»)"
    r"|(?<=\d\s)[¡¿]|[¡¿](?![^\W\d_]{2}|\s?[\"'(“‘«A-Z])|¡C\b"
    r"|(?<!\d)(?<!\d\s)[£€¥](?!\s?\d)"
)
_FORMULA = re.compile(r"(?<=[A-Z])[²³](?=[A-Z]\b)")  # H²O
# An apostrophe within a word in which English writes none: a letter of another page.
_NO_CONTRACTION = re.compile(r"[^\W\d_]{3}[’‘´](?!(?:s|t|d|m|re|ve|ll|em|er|all)\b)[^\W\d_]", re.IGNORECASE)
UNIT = re.compile(r"µ(?:[glmMLsVUA]|mol|kat|mho|Ci|Gy|Sv)?(?:/.*)?|°[CF]|[a-z]{0,3}[²³]|[½¼¾•]|[–—]")
"""A word of signs and units as medical texts in any language write them."""
_ONE_LETTER_WORDS = frozenset("àáèéêíòóôúåæøöőý")
NAMES_LETTERS = frozenset("àáâãäåæçèéêëìíîïñòóôõöøùúûüýÿßœšž")  # of names and terms in a text of any language
_FOREIGN = frozenset("éüöäñç")  # of names in a text of a language that has its own
_LETTER = r"[^\W\d_µªº²³¹¼½¾⅐-⅟⁰-₟①-⓿]"  # Python takes superscripts and fractions for letters of words
_HIGH_WORD = re.compile(rf"(?<!{_LETTER}){_LETTER}*(?![a-zA-Z]){_LETTER}{_LETTER}*")
_RUNS = re.compile(r"[^\x00-\x7f]+")
_LEAD_OF_COMMON = 0.3  # share of the common letters less that of the rare ones, in a text of the language
_ENOUGH_HAN = 8
_MOST_HIGH = 0.6
_FEW = 6  # letters that say nothing by their number
_SHORT_U = re.compile("(?<![аеёиоуыэюяі])ў", re.IGNORECASE)  # a letter that stands behind vowels only
_SOUTHERN, _NOT_SOUTHERN = re.compile("[ђѓљњћќџѕј]", re.IGNORECASE), re.compile("[йьыъэюящё]", re.IGNORECASE)
_SOUTHERN_WEIGHT = 4
_GREEK_IN_TERMS = re.compile(r"(?<![^\W_])[α-ωΔ](?=-[^\W\d_]{2})|(?<=[A-Z]-)[α-ω](?!\w)")
_THAI_RUN = 6  # characters in a row, at the least
_NOT_ASCII = re.compile(r"[^\x00-\x7f]")
_CHUNK = 600
_MOST_CHUNKS = 40
_WITHOUT_LETTERS = frozenset({"en", "id"})  # languages without letters beyond a to z


def latin_score(text: str, language: str = "") -> float:
    """Judge a reading in Latin letters, by the alphabets of the languages that its words are of.

    Returns the share (0 to 1) of the letters and signs beyond ASCII that make sense. ``language``: where it is known.
    """
    text = unicodedata.normalize("NFC", text)
    languages = {language} if language in latin_languages() and language != "en" else languages_in(text)
    letters = letters_of_languages(languages)
    return _LatinLetters(text).share(letters | _FOREIGN if letters else NAMES_LETTERS)


def latin_share(text: str, alphabet: Collection[str]) -> float:
    """Judge a reading as ``latin_score`` does, by the letters beyond ASCII that are given."""
    return _LatinLetters(unicodedata.normalize("NFC", text)).share(alphabet)


def best_latin_share(text: str) -> float:
    """Judge a reading as ``latin_score`` does, by the alphabet of the one language that fits it best."""
    letters = _LatinLetters(unicodedata.normalize("NFC", text))
    return max(letters.share(alphabet) for alphabet, _ in latin_languages().values())


def is_of_several_languages(text: str) -> bool:
    """Tell whether most of the words with letters beyond ASCII have letters that no single language has together."""
    words = [match[0] for match in _HIGH_WORD.finditer(text)]
    return 2 * sum(best_latin_share(word) < 1 for word in words) > len(words)


class _LatinLetters:
    """What stands beyond ASCII in a text in Latin letters: the letters of well-formed words, and the signs."""

    def __init__(self, text: str) -> None:
        self._good, self._bad = _signs(text, lambda sign: False)
        self._letters: Counter[str] = Counter()
        letters = all_high = 0
        for match in _HIGH_WORD.finditer(text):
            word = match[0]
            high = [letter for letter in word if letter > "\x7f"]
            if len(word) > 1:  # "è", "à"
                letters, all_high = letters + len(word), all_high + len(high)
            if _has_case_of_a_word(word) and (len(word) > 1 or _may_stand_alone(text, match.start())):
                self._letters.update("ı" if letter == "İ" else letter.lower() for letter in high)
            else:
                self._bad += len(high)
        # In no language that is written in Latin letters are most letters of such words beyond ASCII.
        self._factor = 1.0 if all_high <= _MOST_HIGH * letters or all_high < _FEW else 0.5

    def share(self, alphabet: Collection[str]) -> float:
        known = sum(count for letter, count in self._letters.items() if letter in alphabet)
        return self._factor * (self._good + known) / max(1, self._good + self._bad + self._letters.total())


def _may_stand_alone(text: str, at: int) -> bool:
    """Tell whether a letter by itself is a word; beside a digit, or one hyphen, it is a sign that was read wrongly."""
    beside = text[max(0, at - 1) : at] + text[at + 1 : at + 2]
    is_word = (
        text[at].lower() in _ONE_LETTER_WORDS
        or text[at] > "\u1dff"
        or (beside != "" and not beside.strip("\"'“”‘’()«»"))
    )
    return is_word and beside.count("-") != 1 and not any(map(str.isdigit, beside))  # "vis-à-vis", not "á-blockers"


def letters_of_languages(languages: Collection[str]) -> frozenset[str]:
    """Return the letters beyond ASCII of some languages; none of those that have none."""
    return frozenset("".join(latin_languages()[name].letters for name in languages))


def _signs(text: str, belongs: Callable[[str], bool]) -> tuple[int, int]:
    """Count the signs beyond ASCII that are no letters: those that a text may hold where they stand, and the others.

    Args:
        text: the reading.
        belongs: tells signs of its script, which are not counted.
    """
    good = bad = 0
    for match in _NOT_ASCII.finditer(text):
        sign = match[0]
        if (sign.isalpha() and sign not in _SIGNS) or belongs(sign):
            continue
        at = match.start()
        if unicodedata.combining(sign):
            bad += not text[at - 1 : at].isalpha() and not unicodedata.combining(text[at - 1 : at] or " ")
            continue
        if is_in_place(text, at):
            good += 1
        else:
            bad += 1
    return good, bad


def is_in_place(text: str, at: int) -> bool:
    """Tell whether a sign beyond ASCII that is no letter may stand where it does in a text."""
    sign = text[at]
    is_within = text[at - 1 : at].isalpha() and text[at + 1 : at + 2].isalpha() and not _FORMULA.match(text, at)
    if sign not in _SIGNS or (is_within and sign not in _WITHIN_A_WORD):
        return False
    return _OUT_OF_PLACE.match(text, at) is None


def is_ordinary(word: str) -> bool:
    """Tell whether what a word holds beyond ASCII is nothing but signs where English writes them: ``m²``, ``don’t``."""
    beyond = [match.start() for match in _NOT_ASCII.finditer(word)]
    return not any(word[at].isalpha() and word[at] not in _SIGNS for at in beyond) and (
        all(is_in_place(word, at) for at in beyond) and _NO_CONTRACTION.search(word) is None
    )


@lru_cache(maxsize=4)
def languages_in(text: str) -> frozenset[str]:
    """Return the languages written in Latin letters that a tenth of a text or more is in.

    The words of ASCII letters tell the language first, since they are the same in all readings.
    """
    chunks = [text[start : start + _CHUNK] for start in range(0, min(len(text), _CHUNK * _MOST_CHUNKS), _CHUNK)]
    languages: set[str] = set()
    for texts in ([" ".join(re.findall(r"\b[a-zA-Z]+\b", chunk)) for chunk in chunks], chunks):
        counts = Counter(map(likeliest_language, texts))
        languages = {name for name, count in counts.items() if name in latin_languages() and 10 * count >= len(chunks)}
        if not languages <= _WITHOUT_LETTERS or "en" in languages:
            break
    return frozenset(languages)


def _has_case_of_a_word(word: str) -> bool:
    return word.islower() or word.isupper() or word[1:].islower() or not word[1:] or word.upper() == word.lower()


def _in_script(text: str, script: str) -> float:
    """Judge a reading in a script of its own: words of that script only, and its commonest and its rarest letters.

    Args:
        text: the reading.
        script: one of ``scripts`` in ``resources/encodings.yaml``.
    """
    table = load_yaml("encodings")["scripts"][script]
    first, last = table["first"], table["last"]
    good, bad = _signs(text, lambda sign: first <= ord(sign) <= last)
    letters: Counter[str] = Counter()
    capitals = words = 0
    for match in _HIGH_WORD.finditer(text):
        word = match[0]
        high = [letter for letter in word if letter > "\x7f"]
        if (
            len(high) == len(word)
            and _has_case_of_a_word(word)
            and all(first <= ord(letter) <= last for letter in high)
        ):
            good += len(high)
            letters.update(word.lower())
            capitals += sum(map(str.isupper, word))
            words += 1
        else:
            bad += len(high)
    bad += len(_SHORT_U.findall(text))
    if letters.total() <= 2 * words:  # single letters among words of another script
        return 0.0
    lead = sum(letters[letter] for letter in table["common"]) - sum(letters[letter] for letter in table["rare"])
    factor = 0.8 if 2 * capitals > letters.total() else 1.0  # capitals all over come from a wrong reading
    return factor * good / (good + bad) * max(0.0, min(1.0, lead / letters.total() / _LEAD_OF_COMMON))


def _cyrillic(text: str) -> float:
    """Judge a reading in Cyrillic: letters of Serbian and Macedonian stand in no text with those of its neighbors."""
    score = _in_script(text, "Cyrillic")
    southern, others = len(_SOUTHERN.findall(text)), len(_NOT_SOUTHERN.findall(text))
    return score * max(0.0, 1 - _SOUTHERN_WEIGHT * southern / (southern + others)) if others > southern else score


def _greek(text: str) -> float:
    """Judge a reading in Greek, or one with Greek letters as terms have them: ``α-synuclein``, ``TNF-α``."""
    beyond = _NOT_ASCII.findall(text)
    terms = len(_GREEK_IN_TERMS.findall(text))
    if terms and terms + sum(sign in _SIGNS for sign in beyond) == len(beyond):
        return 1.0
    return _in_script(text, "Greek")


def _thai(text: str) -> float:
    """Judge a reading in Thai, which sets no spaces between words."""
    runs = _RUNS.findall(text)
    factor = 1.0 if sum(map(len, runs)) >= _THAI_RUN * len(runs) else 0.5
    return factor * _in_script(text, "Thai")


def _chinese(text: str, codec: str, last_row: int) -> float:
    """Judge a reading in Chinese: by the rows of the standard that hold the signs of daily use.

    Args:
        text: the reading.
        codec: the standard.
        last_row: its last row of such signs; what lies within the rows of Korean syllables alone is Korean.
    """
    signs = _signs_in_runs(text)
    han = [sign for sign in signs if "\u3400" <= sign <= "\u9fff"]
    kana = sum("\u3040" <= sign <= "\u30ff" for sign in signs)
    if not han or 10 * kana > len(han):
        return 0.0
    rows = [_row(sign, codec) for sign in han]
    if codec == "gb2312" and len(han) >= _ENOUGH_HAN and sum(0xB0 <= row <= 0xC8 for row in rows) > 0.95 * len(han):
        return 0.0
    # Traditional signs are in no row of GB 2312, but may well be written in GB 18030.
    daily = sum(
        0 < row <= last_row or (row == 0 and _row(sign, "big5") in range(0xA4, 0xC7))
        for sign, row in zip(han, rows, strict=True)
    )
    others = sum(not _is_east_asian_mark(sign) for sign in signs if not "\u3400" <= sign <= "\u9fff")
    return daily / len(han) * (1 - others / len(signs))


def _row(sign: str, codec: str) -> int:
    """Return the first byte of a sign, or 0 where the standard lacks it."""
    try:
        data = sign.encode(codec)
    except UnicodeEncodeError:
        return 0
    return data[0] if len(data) == 2 else 0  # euc_kr puts together from parts what it lacks


def _signs_in_runs(text: str) -> list[str]:
    """Return the signs beyond ASCII, or none where most of them stand alone among ASCII letters, as in the West."""
    runs = _RUNS.findall(text)
    signs = "".join(runs)
    return list(signs) if sum(len(run) for run in runs if len(run) > 1) > 0.7 * len(signs) else []


def _is_east_asian_mark(sign: str) -> bool:
    return "\u2010" <= sign <= "\u303f" or "\uff00" <= sign <= "\uff65" or sign in _SIGNS


def _japanese(text: str) -> float:
    signs = _signs_in_runs(text)
    kana = sum("\u3040" <= sign <= "\u30ff" for sign in signs)
    han = sum("\u3400" <= sign <= "\u9fff" for sign in signs)
    if 5 * kana < kana + han or not kana:
        return 0.0
    return (kana + han + sum(map(_is_east_asian_mark, signs))) / len(signs)


def _korean(text: str) -> float:
    signs = _signs_in_runs(text)
    # The 2,350 syllables of daily use; others come from bytes that are no Korean.
    daily = sum("\uac00" <= sign <= "\ud7a3" and _row(sign, "euc_kr") > 0 for sign in signs)
    return (daily + sum(map(_is_east_asian_mark, signs))) / len(signs) if daily else 0.0


JUDGES: dict[str, Callable[[str], float]] = {
    "Latin": latin_score,
    "Cyrillic": _cyrillic,
    "Greek": _greek,
    "Hebrew": partial(_in_script, script="Hebrew"),
    "Arabic": partial(_in_script, script="Arabic"),
    "Thai": _thai,
    "simplified Chinese": partial(_chinese, codec="gb2312", last_row=0xD7),
    "traditional Chinese": partial(_chinese, codec="big5", last_row=0xC6),
    "Japanese": _japanese,
    "Korean": _korean,
}
"""Each judges a text in its script: the share (0 to 1) of what is beyond ASCII that makes sense."""


def probability(text: str) -> float:
    """Judge a text in any of the scripts of ``JUDGES``: the share (0 to 1) of what is beyond ASCII that makes sense."""
    return max(judge(text) for judge in JUDGES.values())
