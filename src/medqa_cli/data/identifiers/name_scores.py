"""Names of persons in a text that is about one person, by what the words beside them are.

Each word that may be a name gets a score: the sum of the weights of its features, which ``tools/name_weights.py`` has
learned from made-up texts. In other texts the rules of ``names.py`` are alone.
"""

from collections.abc import Iterator

from medqa_cli.data.identifiers.finds import Span
from medqa_cli.data.identifiers.name_features import (
    Token,
    candidates,
    cue_before,
    features,
    shape_of,
    start_of,
    tokens,
)
from medqa_cli.data.identifiers.name_forms import may_be_name
from medqa_cli.data.identifiers.text import Text
from medqa_cli.data.identifiers.word_sorts import UNKNOWN_SORTS, sort_of
from medqa_cli.data.identifiers.word_tables import weights
from medqa_cli.data.languages import UNKNOWN
from medqa_cli.resources import load_words

_LONG, _MOST_BEFORE = 5, 4
LEAST, LEAST_OF_NONE, LEAST_BESIDE, MOST_UNKNOWN = 40, 80, -400, 0.4


def find_scored_names(text: Text, language: str) -> Iterator[Span]:
    """Yield the names of persons in a text that is about one person.

    The weights are those of English. In another language words behind a cue and those with a capital letter within a
    sentence are looked at, and in German, which writes nouns so, of these only those that are names.
    """
    words, table = tokens(text), weights("name")
    scores = {
        place: table[""] + sum(table.get(feature, 0) for feature in features(text, words, place))
        for place in candidates(text, words)
    }
    unknown = {place for place in scores if sort_of(words[place].plain) in UNKNOWN_SORTS}
    if len(unknown) > MOST_UNKNOWN * len(words) and len(words) >= _LONG:  # another language
        scores = {place: score for place, score in scores.items() if place not in unknown}
    if language not in ("en", UNKNOWN):
        rare = (
            unknown | {place for place in scores if sort_of(words[place].plain) == "more last"}
            if language == "de"
            else ()
        )
        scores = {
            place: score
            for place, score in scores.items()
            if (shape_of(text, words[place]) == "Large" and place not in rare) or cue_before(text, words, place)
        }
    taken = {place for place, score in scores.items() if score > (LEAST_OF_NONE if place in unknown else LEAST)}
    # The other name of somebody needs less.
    for place, score in scores.items():
        for step in (-1, 1) if score > LEAST_BESIDE else ():
            other = _other_name(words, place, step)
            if (
                other in taken
                and text.text[words[place].start].isupper() == text.text[words[other].start].isupper()
                and _are_one(text, words, *sorted((place, other)))
            ):
                taken.add(place)
    yield from joined(text, words, sorted(taken))


def _other_name(words: list[Token], place: int, step: int) -> int:
    """Return the place of the next word in a direction that is no initial and no particle."""
    particles, other = load_words("identifiers", "particles"), place + step
    while 0 <= other < len(words) and abs(other - place) < _MOST_BEFORE:
        if len(words[other].plain) > 1 and words[other].plain not in particles:
            break
        other += step
    return other


def joined(text: Text, words: list[Token], taken: list[int]) -> Iterator[Span]:
    """Yield names from the words of them: those side by side are one, with initials and particles between."""
    start = end = -1
    last = -9
    for place in taken:
        token = words[place]
        if start >= 0 and _are_one(text, words, last, place):
            end, last = _end_of(text, token), place
            continue
        if start >= 0:
            yield from _whole(text, start, end)
        start, end, last = start_of(text, words, place), _end_of(text, token), place
    if start >= 0:
        yield from _whole(text, start, end)


def _whole(text: Text, start: int, end: int) -> Iterator[Span]:
    if may_be_name(text, start, end, is_sure=True):
        yield Span(start, end, "name")


def _end_of(text: Text, token: Token) -> int:
    return token.start + len(token.plain)


def _are_one(text: Text, words: list[Token], last: int, place: int) -> bool:
    """Tell whether two words are of one name: side by side, or with initials and particles between."""
    if words[last].end - words[last].start > len(words[last].plain):
        return False
    particles = load_words("identifiers", "particles")
    for between in range(last + 1, place + 1):
        gap = text.text[words[between - 1].end : words[between].start]
        is_initial = len(words[between - 1].plain) == 1
        if gap.strip(" \xa0") not in (("", ".") if is_initial else ("",)) or "\n" in gap:
            return False
        plain = words[between].plain
        if between < place and not (plain in particles or _is_initial(text, words[between], words[last])):
            return False
    return True


def _is_initial(text: Text, token: Token, name: Token) -> bool:
    """Tell whether a letter is written as the name before it, and so no word of a language: Picard à Nantes."""
    is_dotted = text.text[token.start + 1 : token.start + 2] == "."
    is_alike = text.text[token.start].isupper() == text.text[name.start].isupper()
    return len(token.plain) == 1 and (is_dotted or (is_alike and token.plain.isascii()))
