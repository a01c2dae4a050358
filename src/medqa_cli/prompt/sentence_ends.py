"""Where to cut a text that is too long: after a sentence, else after a word.

In doubt a position does not count as a sentence end, since the one before it serves as well.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import pairwise

# They end a sentence wherever they stand: East Asian, Hindi and Bengali, Urdu and Arabic, Burmese, Ethiopic, Armenian,
# Khmer, Tibetan, Syriac, Meetei, Ol Chiki.
_FULL_STOPS = "。！？｡।॥۔؟။።፧፨։។៕།܀꯫᱾᱿"
# The possessive quantifiers and the look-behind keep this linear, in a line of 30,000 dots too.
_MARK = re.compile(rf"(?<![.!?…])[.!?…]++[\"'”’“»)\]]*+(?=\s|$)|[{_FULL_STOPS}]++[」』”’）»)\"']*+")
_LIST_ITEM = re.compile(r"\s*(?:[-*•‣–·]|\d{1,3}[.)]|[a-z][.)])\s")
_OPENING = "\"'“‘«([{"
# The next letter, at most one line break away, if the text goes on with a word.
_NEXT_LETTER = re.compile(rf"[^\S\n]*+\n?[^\S\n]*+[{re.escape(_OPENING)}]*+([^\W\d_])?")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Titles and such, after which a sentence goes on even with a capital or a number, in the languages of Europe and some
# more. Single letters (J., e.g., U.S., z. B., p. ex.) are told by their form, all others by a small letter
# that follows.
_ABBREVIATIONS = _words("""
    dr drs mr mrs ms prof rev st mt vs approx ca cf al fig figs ref refs no nos vol vols pp ed eds sp spp var dept est
    resp incl esp viz jr sr tab inj syp syr susp
    bzw ggf evtl inkl exkl vgl sog bspw zzgl abzgl insb insbes einschl entspr gem allg tägl wöchentl mtl jährl lt nr hr
    fr frl dipl univ str bd hrsg tbl kps gtt rp
    mme mmes mlle mlles mgr env éd chap ex
    sra srta dra dña ud uds núm pág págs aprox ej tel máx mín av
    profa sig sigg dott dottssa avv pag pagg
    bijv bv dhr mevr mw ir ing blz evt drs
    bl jfr sid tabl eks jf hhv stk vedr tlf ift pga dvs mfl m.fl
    np tj tzn tzw m.in mgr inż św wg ww godz rys zob por ul hab
    např tzv čl odst mudr resp popř příp cca obr
    alin dna dvs örn bkz sn yrd doç uzm md esim ns ks vrt puh milj pl kb ún ld vö
    drg yth jl tgl
    г.р т.е т.д ул им проф акад рис табл см
    """)
# Before a number only: "Abs. 3", "art. 46", "NO. 1"; elsewhere they are words, or abbreviations of their own.
_BEFORE_A_NUMBER = _words("""
    abs art ust kap pkt par cap sec ch eq no nr nos num fig tab vol str s sid p pág pag bl z poz ok kl pt ziff anm lf
    lfg bd kol wiersz § čl odst alin lit n núm ref st stk rys obr ábra sz szt gl ст п рис табл с
    """)
# Two words: "ad es.", "par ex.", "z. Zt.".
_OF_TWO_WORDS = frozenset(("ad es", "par ex", "por ej", "por ex", "p ej", "de ex", "z. zt", "a. d", "m. a"))
_TITLES = frozenset({"DR", "MR", "MRS", "PROF", "ST"})  # in a text of capitals, before a name
_VIETNAMESE_TITLES = frozenset({"BS", "TS", "ThS", "GS", "PGS", "TP"})
# "am 3. Mai", "der 2. Weltkrieg": a number behind one of these words is the third or the second.
_BEFORE_AN_ORDINAL = _words(
    "am der die das dem den des im vom zum beim bis ab seit ein eine einem einen einer eines jeder jede jedes"
)
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
    """Return where a sentence, a line of a list or a paragraph ends.

    Args:
        text: any text.

    Returns:
        positions right after the last character of each (closing quotes included, white space not), ascending.
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
        or " ".join(words[-2:]).lower() in _OF_TWO_WORDS
        or _is_list_number(word, before)
        or (word.isdecimal() and len(word) <= 2 and words[-2:-1] != [] and words[-2].lower() in _BEFORE_AN_ORDINAL)
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
        if word.lower() in _BEFORE_A_NUMBER:
            return True
    elif word in _TITLES or word in _VIETNAMESE_TITLES or word == "Cap":
        return True
    # In capitals it is another word: MS is a disease, CF is one.
    return not word.isupper() and (word.lower() in _ABBREVIATIONS or ("." in word and last.lower() in _AFTER_A_STOP))


def _is_list_number(word: str, before: str) -> bool:
    """Whether ``word`` is the 2 of ``Wash it. 2. Dry it.``, and not the end of ``It fell to 2.``."""
    if not (word.isdecimal() and len(word) <= 2):
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
        blank_follows, item_follows = not following.strip(), _LIST_ITEM.match(text, break_at) is not None
        if _LIST_ITEM.match(line):
            ended = blank_follows or item_follows or not _goes_on(text, break_at)
        else:
            ended = blank_follows and not item_follows and len(kept) > _LONGEST_HEADING
        if ended:
            yield break_at - (len(line) - len(kept))
