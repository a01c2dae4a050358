"""Finds the thing that a phrase in a topic's place is about: "role of steroids in bacterial meningitis" is meningitis.

A phrase is about the first illness or complaint that it names, else, where a treatment or test is asked about, about
what that is for ("place of surgery in Dupuytren"), else about what a head that names a relation relates to ("role of
vitamin D in bone health"). Names stay whole ("Loss of Taste", "hemiplegia of childhood"); what names no thing ("well
controlled") is none.
"""

import functools
import itertools
import re

from medqa_cli.data.topics.medical_terms import is_complaint, is_illness_or_complaint, is_means, is_relation
from medqa_cli.data.topics.question_types import is_capitalized, is_pointing
from medqa_cli.resources import load_pattern, load_words

# What patterns stand for, and which words they are made of, is in the file.
_pattern = functools.partial(load_pattern, "topic_phrases", flags=re.NOFLAG)
_in_any_case = functools.partial(load_pattern, "topic_phrases")
# Before what a treatment or test is for, and before what only tells when something happens.
_FOR, _WHEN = frozenset({"in", "for", "against", "after"}), frozenset({"after", "during", "following", "before"})
_VERSUS = frozenset({"versus", "vs", "vs."})
_MOST_WORDS_AIMED_AT = 4
_ABBREVIATION = re.compile(r"[A-Z][A-Z0-9-]+\s")
LONGEST_PLAIN_QUESTION = 150  # characters
_MOST_WORDS_OF_A_PHRASE = 10
_NEGATED = re.compile(r"(?:no|not|without)\b", re.IGNORECASE)


@functools.lru_cache(maxsize=1 << 16)
def thing_of(phrase: str) -> str:
    """Return the thing that a phrase is about.

    Args:
        phrase: the topic as ``question_types.recognize`` found it, without a leading article.

    Returns:
        the phrase itself where it is a name, a piece of it where that is, or an empty text where it names nothing.
    """
    if is_capitalized(phrase):
        return phrase
    # "Crohn disease in adults" is cut, "Problems with Smell" is a title.
    if not phrase[:1].islower() and not _ABBREVIATION.match(phrase):
        return _pattern("circumstance").sub("", phrase)
    thing = _related(_without_lead(phrase))
    return "" if _names_nothing(thing) else thing


def without_circumstance(question: str) -> str:
    """Return a question without its last words where they only say whose or when: "... in children under five"."""
    return _pattern("circumstance").sub("", question.rstrip(" ?!."))


def only_thing_in(question: str) -> str:
    """Return the one thing that a question of no known form is about, or an empty text.

    "When should antibiotics be started in bacterial meningitis?" is about meningitis, the one illness behind a
    preposition, "Is surgery needed in Dupuytren?" about what the treatment is for; a question of two illnesses, or a
    long story, is about none.
    """
    if not _in_any_case("asks").match(question):
        return ""
    (_, asking), *pieces = _pieces(question.rstrip(" ?!."))
    things = {_pattern("manner").sub("", illness) for _, piece in pieces if (illness := _illness_in(piece))}
    things = {thing for thing in things if not _names_nothing(thing)}
    if any(preposition in _VERSUS and _illness_in(piece) for preposition, piece in pieces):
        return ""
    if things or len(pieces) != 1 or not any(is_means(word) for word in asking.split()):
        return things.pop() if len(things) == 1 else ""
    return _aimed_at(*pieces[0])


def bare_thing(phrase: str) -> str:
    """Return what a phrase used as a question is about: "the role of beta blockers in heart failure"."""
    phrase = _without_lead(phrase.strip(" ?!."))
    if (
        len(phrase.split()) > _MOST_WORDS_OF_A_PHRASE
        or _in_any_case("asks").match(phrase)
        or _in_any_case("sentence").search(phrase)
    ):
        return ""
    pieces = _pieces(phrase)
    if len(pieces) > 1 and _relates(pieces):
        thing, head = thing_of(phrase), pieces[0][1]
        return "" if thing == head and not is_relation(head.rpartition(" ")[2]) else thing
    illnesses = [illness for _, piece in pieces if (illness := _illness_in(piece))]
    related = thing_of(phrase)
    return related if related in illnesses and (len(illnesses) == 1 or related == pieces[0][1] != phrase) else ""


def without_manner(name: str) -> str:
    """Return the normalized name of an illness without words for certainty or germ: "viral gastroenteritis".

    One that would be left without a name ("viral infection") or that the words make another illness of ("severe
    combined immunodeficiency") stays whole.
    """
    shorter = _pattern("germ").sub("", name)
    return (
        shorter
        if shorter != name
        and shorter not in load_words("topic_phrases", "any_illness")
        and is_illness_or_complaint(shorter)
        else name
    )


def _pieces(phrase: str) -> list[tuple[str, str]]:
    """Split a phrase at its prepositions; each piece comes with the one before it (the first with none)."""
    first, *rest = _pattern("preposition").split(phrase)
    behind = [(rest[i], _without_lead(rest[i + 1].strip()).strip(",;:")) for i in range(0, len(rest), 2)]
    return [("", first), *behind]


def _relates(pieces: list[tuple[str, str]]) -> bool:
    """Tell whether a phrase begins with a relation, a treatment for something, or compares two."""
    return (
        is_relation(pieces[0][1].rpartition(" ")[2])
        or any(preposition in _VERSUS for preposition, _ in pieces)
        or any(is_means(before) and preposition in _FOR for (_, before), (preposition, _) in itertools.pairwise(pieces))
    )


def _related(phrase: str) -> str:
    """Return what a phrase is about: see the module's docstring for the order in which it is looked for."""
    pieces = _pieces(phrase)
    if not pieces[0][1] or not _relates(pieces):
        return _pattern("circumstance").sub("", _first_complaint(phrase, pieces))
    # The first illness; of two that are compared none.
    illnesses = [(preposition, illness) for preposition, piece in pieces if (illness := _illness_in(piece))]
    if illnesses:
        are_compared = len(illnesses) > 1 and illnesses[1][0] in _VERSUS
        return "" if are_compared else _pattern("manner").sub("", illnesses[0][1])
    # What a treatment or test is for.
    for (_, before), (preposition, piece) in itertools.pairwise(pieces):
        if is_means(before) and (aim := _aimed_at(preposition, piece)):
            return aim
    if any(preposition in _VERSUS for preposition, _ in pieces):
        return ""
    # The head, unless it names a relation: then what that relates to, or what this is about in its turn.
    shorter = _pattern("circumstance").sub("", phrase)
    (_, head), *rest = _pieces(shorter)
    if not rest or not is_relation(head.rpartition(" ")[2]):
        return head
    after = _without_lead(_pattern("preposition").split(shorter, maxsplit=1)[2].strip())
    thing = _related(after)
    return thing if thing != after else rest[0][1]


def _first_complaint(phrase: str, pieces: list[tuple[str, str]]) -> str:
    """Return "hair loss" of "hair loss after chemotherapy": one illness, and when or with which other it comes."""
    (_, head), *rest = pieces
    if not rest:
        return phrase
    preposition, piece = rest[0]
    if preposition in _WHEN:
        return head if is_illness_or_complaint(head) else _illness_in(piece) or head
    both = is_illness_or_complaint(head) and is_illness_or_complaint(piece)
    return head if (both and preposition == "in") or (preposition == "with" and is_complaint(head)) else phrase


def _illness_in(piece: str) -> str:
    """Return the illness at the end of a piece or before a relation ("stroke risk"), or an empty text."""
    piece = _in_any_case("no_part").sub("", piece)
    if _NEGATED.match(piece):
        return ""
    if is_illness_or_complaint(piece):
        return piece
    name, _, last = piece.rpartition(" ")
    return name if is_relation(last) and is_illness_or_complaint(name) else ""


def _aimed_at(preposition: str, piece: str) -> str:
    """Return what a treatment or test is for, by the words behind it; empty where they do not say."""
    names = (
        preposition in _FOR
        and len(piece.split()) <= _MOST_WORDS_AIMED_AT
        and not _in_any_case("setting").fullmatch(piece)
        and not is_means(piece)
        and not _names_nothing(piece)
    )
    return piece if names else ""


def _without_lead(phrase: str) -> str:
    while match := _pattern("lead").match(phrase):
        if match.end() == len(phrase):
            break
        phrase = phrase[match.end() :]
    return phrase


def _names_nothing(phrase: str) -> bool:
    words = phrase.split()
    if not words:
        return True
    return (
        is_pointing(phrase)
        or _pattern("no_noun").fullmatch(words[-1]) is not None
        or _pattern("adverb").match(phrase) is not None
        or not {"that", "which", "who"}.isdisjoint(words)
        or is_relation(_pattern("order").sub("", phrase, count=1))
    )
