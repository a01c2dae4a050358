"""Where to cut a text that is too long: after a sentence, else after a word.

In doubt a position does not count as a sentence end, since the one before it serves as well.
"""

import re
from collections.abc import Callable, Iterator
from functools import cache
from itertools import pairwise

from medqa_cli.resources import load_yaml

# Greek asks with a semicolon, and parts sentences with a raised point: behind a word in its letters.
_GREEK_STOPS = ";\u037e·\u0387"
# They end a sentence wherever they stand: East Asian, Hindi and Bengali, Urdu and Arabic, Burmese, Ethiopic, Armenian,
# Khmer, Tibetan, Syriac, Meetei, Ol Chiki.
_FULL_STOPS = "。！？｡।॥۔؟။።፧፨։។៕།܀꯫᱾᱿"
# The possessive quantifiers and the look-behind keep this linear, in a line of 30,000 dots too.
_MARK = re.compile(
    rf"(?<![.!?…])[.!?…]++[\"'”’“»)\]]*+(?=\s|$)|[{_FULL_STOPS}]++[」』”’）»)\"']*+"
    rf"|(?<=[\u0370-\u03ff\u1f00-\u1fff])[\"'”’“»)\]]*+[{_GREEK_STOPS}][\"'”’“»)\]]*+(?=\s|$)"
)
LIST_ITEM = re.compile(r"\s*(?:[-*•‣–·]|\d{1,3}[.)]|[a-z][.)])\s")
_OPENING = "\"'“‘«([{"
# The next letter, at most one line break away, if the text goes on with a word.
_NEXT_LETTER = re.compile(rf"[^\S\n]*+\n?[^\S\n]*+[{re.escape(_OPENING)}]*+([^\W\d_])?")


@cache
def _abbreviations(kind: str) -> frozenset[str]:
    return frozenset(load_yaml("abbreviations")[kind].split())


# Plurals of Spanish: "EE. UU.", "RR. HH.".
_DOUBLED = re.compile(r"([A-Z])\1\. ?([A-Z])\2(?=\.)")
# Two words: "ad es.", "par ex.", "z. Zt.".
_OF_TWO_WORDS = frozenset(("ad es", "par ex", "por ej", "por ex", "p ej", "de ex", "z. zt", "a. d", "m. a"))
_TITLES = frozenset({"DR", "MR", "MRS", "PROF", "ST"})  # in a text of capitals, before a name
_VIETNAMESE_TITLES = frozenset({"BS", "TS", "ThS", "GS", "PGS", "TP"})
_AFTER_A_STOP = frozenset({"ex", "ej", "eks", "zt", "fl", "ä"})  # t.ex., p.ej., f.eks., z.Zt.
_NEXT_CHARACTERS = 4
_LONGEST_HEADING = 60  # characters; a line without a mark at its end that is no longer may be a heading
_LONGEST_WORD = 40  # a longer one before a full stop is no abbreviation


def last_cut(text: str, tokens_up_to: Callable[[int], int | None], room: int) -> int | None:
    """Return how many tokens of a text to keep so that it ends with a sentence.

    Where no sentence ends in the second half of the room, the last word that fits is the end, if it lies there.

    Args:
        text: the whole text.
        tokens_up_to: the number of tokens that hold exactly the text up to a position (white space after it aside);
            None where no token ends there.
        room: the most tokens to keep.

    Returns:
        a number of tokens, at most ``room``; None if neither a sentence nor a word ends in the second half.
    """
    for ends_of in (sentence_ends, word_ends):
        for end in reversed(ends_of(text)):
            count = tokens_up_to(end)
            if count is None or count > room:
                continue
            if 2 * count >= room:
                return count
            break
    return None


def sentence_ends(text: str) -> list[int]:
    """Return where a sentence, a line of a list or a paragraph ends, ascending.

    The positions are right after the last character of each, closing quotes included, white space not.
    """
    ends = {match.end() for match in _MARK.finditer(text) if _ends_sentence(text, match)}
    ends.update(_line_ends(text))
    ends.add(len(text.rstrip()))
    return sorted(ends - {0})


def word_ends(text: str) -> list[int]:
    """Return the positions right after each word, with the marks that follow it, ascending; a dash alone is none."""
    return [match.end() for match in re.finditer(r"\S++", text) if any(map(str.isalnum, match[0]))]


def _ends_sentence(text: str, mark: re.Match[str]) -> bool:
    if mark[0][0] in _FULL_STOPS:
        return True
    if _goes_on(text, mark.end()):
        return False
    if mark[0][0] != "." or mark[0].startswith(".."):
        return True
    before = text[max(0, mark.start() - _LONGEST_WORD) : mark.start()]
    words = before.split()
    word = words[-1].lstrip(_OPENING) if words else ""
    following = text[mark.end() :][:_NEXT_CHARACTERS].lstrip()[:1]
    return not (
        _is_abbreviation(word, following)
        or _DOUBLED.match(text, mark.start() - 2)
        or _DOUBLED.match(text, mark.start() - len("EE. UU"))
        or " ".join(words[-2:]).lower() in _OF_TWO_WORDS
        or _is_list_number(word, before, words[-2] if len(words) > 1 else "")
        or (
            word.isdecimal()
            and len(word) <= 2
            and words[-2:-1] != []
            and words[-2].lower() in _abbreviations("before_an_ordinal")
        )
    )


def _goes_on(text: str, end: int) -> bool:
    """Whether the next word begins with a small letter, on this line or the next."""
    following = _NEXT_LETTER.match(text, end)
    return following is not None and (following[1] or "").islower()


def _is_abbreviation(word: str, following: str) -> bool:
    """Whether a full stop behind a word belongs to it; ``following``: the next character that is no white space."""
    last = word.rpartition(".")[2]
    if len(last) == 1 and last.isalpha():
        return True
    if following.isdigit() or following == "§":
        if word.lower() in _abbreviations("before_a_number"):
            return True
    elif word in _TITLES or word in _VIETNAMESE_TITLES or word == "Cap":
        return True
    # In capitals it is another word: MS is a disease, CF is one.
    return not word.isupper() and (
        word.lower() in _abbreviations("anywhere") or ("." in word and last.lower() in _AFTER_A_STOP)
    )


def _is_list_number(word: str, before: str, word_before: str) -> bool:
    """Whether ``word`` is the 2 of ``Wash it. 2. Dry it.``, not the end of ``It fell to 2.`` or ``See p. 2.``."""
    if not (word.isdecimal() and len(word) <= 2):
        return False
    if word_before.endswith(".") and word_before[:-1].lower() in _abbreviations("before_a_number"):
        return False
    lead = before.rstrip()[: -len(word)]
    return not lead.strip() or "\n" in lead[len(lead.rstrip()) :] or lead.rstrip()[-1] in ".!?:;"


def _line_ends(text: str) -> Iterator[int]:
    """Ends of list lines and paragraphs; not of what may lead into the next line: a heading, words before a list."""
    break_at = -1
    for line, following in pairwise(text.split("\n")):
        break_at += len(line) + 1
        kept = line.rstrip()
        if not kept or kept.endswith(":"):
            continue
        blank_follows, item_follows = not following.strip(), LIST_ITEM.match(text, break_at) is not None
        if LIST_ITEM.match(line):
            ended = blank_follows or item_follows or not _goes_on(text, break_at)
        else:
            ended = blank_follows and not item_follows and len(kept) > _LONGEST_HEADING
        if ended:
            yield break_at - (len(line) - len(kept))
