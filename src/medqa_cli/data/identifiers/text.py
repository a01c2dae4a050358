"""A text with what all rules need of it, each computed once."""

import re
from collections.abc import Iterator

from medqa_cli.data.identifiers.word_tables import asked_words, cue_tables_of_words, known_words, tables_of_words
from medqa_cli.data.normalize import normalized_words

_DIGITS, _DIGITS_OF_SHAPE = re.compile(r"\d+"), re.compile(rb"00*")  # a search for 0+ would look at each place
_LETTERS = re.compile(r"[^\W\d_]+")
_WORD = re.compile(r"[^\W_]+")
_LONGEST_GAP, _LONG = 3, 5
_SHOUTED_SHARE = 0.7
_SENTENCE_ENDS = re.compile(r"(?<![SDM][tr])(?<!Mrs)[.!?](?=\s+[^\Wa-z])|\n")
# Of ASCII: a capital, a digit, what stands before a word, what stands before a sentence, anything else.
_SHAPES = bytes(
    ord(shape)
    for c in map(chr, range(256))
    for shape in (
        "A"
        if c.isupper()
        else "0"
        if c.isdigit()
        else " "
        if c in ' (["'
        else "."
        if c in ".!?" or c.isspace()
        else "a"
    )
)


class Text:
    """A text, and what rules ask of it again and again.

    Attributes:
        text: the text.
        lower: the text in small letters, each at the place of the large one.
        all_words: its words, in small letters, each as often as it is there.
        words: those of its words that a table holds or that tell what it is about, in small letters.
        tables: the names of the tables that hold any of its words; those of cues are in ``cue_tables``.
        shape: of an ASCII text: ``A`` for each capital, ``0`` for a digit, a space for a space, a quotation mark or an
            opening bracket, a full stop for other white space and for the end of a sentence, ``a`` for all else. Of
            any other text it is empty.
        numbers: the runs of digits: start and end of each.
        is_shouted: whether it is in capitals throughout, so that they tell nothing.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        lower = text.lower()
        self.lower = lower if len(lower) == len(text) else "".join(c.lower()[:1] for c in text)
        if text.isascii():
            self.shape = text.encode("ascii").translate(_SHAPES)
            # It is normalized to just its words, and the rest of convert needs it so, too.
            words = normalized_words(text)
            self.numbers = [found.span() for found in _DIGITS_OF_SHAPE.finditer(self.shape)]
        else:
            self.shape = b""
            words = _WORD.findall(self.lower)
            self.numbers = [found.span() for found in _DIGITS.finditer(text)]
        self.all_words = words
        self.words = known_words().intersection(words)
        asked = map(tables_of_words().__getitem__, asked_words().intersection(self.words))
        self.tables: frozenset[str] = frozenset().union(*asked)
        self.is_shouted = False
        if text[:60] == text[:60].upper():
            letters = [c for c in text[:400] if c.isalpha()]
            self.is_shouted = len(letters) > 12 and sum(map(str.isupper, letters)) > _SHOUTED_SHARE * len(letters)
        self._chains: tuple[int, bool, bool] | None = None
        self._small_words: frozenset[str] | None = None
        self._cue_tables: frozenset[str] | None = None

    @property
    def small_words(self) -> frozenset[str]:
        """The words that are written in small letters somewhere."""
        if self._small_words is None:
            self._small_words = frozenset(word for word in _LETTERS.findall(self.text) if word.islower())
        return self._small_words

    @property
    def cue_tables(self) -> frozenset[str]:
        """The names of the tables of cues that hold any of its words."""
        if self._cue_tables is None:
            tables = cue_tables_of_words()
            self._cue_tables = frozenset().union(*(tables[word] for word in self.words if word in tables))
        return self._cue_tables

    @property
    def has_long_number(self) -> bool:
        """Whether five digits stand close together somewhere."""
        return self._chained()[0] >= _LONG

    @property
    def may_have_dates(self) -> bool:
        """Whether three numbers stand together as in 3/4/1985."""
        return self._chained()[1]

    @property
    def has_fractions(self) -> bool:
        """Whether two numbers stand together as in 3/1985."""
        return self._chained()[2]

    @property
    def has_code(self) -> bool:
        """Whether a capital stands right behind a digit somewhere, as in codes."""
        return any("A" <= self.text[end : end + 1] <= "Z" for _, end in self.numbers)

    def _chained(self) -> tuple[int, bool, bool]:
        """Return the most digits that stand close together, whether three numbers may be a date, two have a slash."""
        if self._chains is None:
            most, total, triple, slash = 0, 0, False, False
            before, joined = -9, 0
            for start, end in self.numbers:
                gap = self.text[before:start] if start - before <= _LONGEST_GAP else None
                if gap is not None and not any(c.isalnum() or c == "\n" for c in gap):
                    total += end - start
                    sign = gap.strip()
                    joined = joined + 1 if sign and sign in "/.-–" else 0
                    triple, slash = triple or joined >= 2, slash or sign == "/"
                else:
                    total, joined = end - start, 0
                most, before = max(most, total), end
            self._chains = most, triple, slash
        return self._chains

    def matches(self, pattern: re.Pattern[str], *before: int, small: bool = False) -> Iterator[re.Match[str]]:
        """Yield the matches of a pattern, as ``finditer`` would, in a fraction of its time.

        Args:
            pattern: what begins so many characters before a run of digits and nowhere else.
            before: the numbers of characters.
            small: match the text in small letters.
        """
        text, end = self.lower if small else self.text, 0
        if len(before) == 1:
            places = [start - before[0] for start, _ in self.numbers]
        else:
            places = sorted({start - back for start, _ in self.numbers for back in before})
        for place in places:
            if place >= end and (found := pattern.match(text, place)):
                yield found
                end = found.end()

    def places(self, word: str) -> Iterator[int]:
        """Yield where a word in small letters begins, however it is written in the text."""
        place = self.lower.find(word)
        while place >= 0:
            end = place + len(word)
            if not (self.lower[place - 1 : place].isalnum() or self.lower[end : end + 1].isalnum()):
                yield place
            place = self.lower.find(word, end)

    def before(self, place: int, count: int) -> str:
        """Return the characters before a place, in small letters."""
        return self.lower[max(place - count, 0) : place]

    def after(self, place: int, count: int) -> str:
        """Return the characters from a place on, in small letters."""
        return self.lower[place : place + count]

    def sentence(self, start: int, end: int) -> str:
        """Return the sentence or the line around a part, in small letters."""
        ends = [found.end() for found in _SENTENCE_ENDS.finditer(self.text, max(start - 300, 0), start)]
        first = ends[-1] if ends else max(start - 300, 0)
        after = _SENTENCE_ENDS.search(self.text, end, end + 300)
        return self.lower[first : after.start() if after else end + 300]


def like(word: str, model: str) -> str:
    """Return a word in the letters of another: all large, the first large, or all small."""
    if len(model) > 1 and model.isupper():
        return word.upper()
    return word[:1].upper() + word[1:] if model[:1].isupper() else word.lower()
