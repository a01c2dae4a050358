"""Signs of an emergency in a question, told by fixed rules before any model runs. English only.

It looks for a person in danger now ("my father's face is drooping"), not for a topic ("What causes a stroke?"). It
cannot see what is not written, misses other words and other languages, and gives no all-clear: no notice means
nothing. The notices name no number, since numbers differ by country.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from medqa_cli.answering.emergency_signs import KINDS, Kind

_NOW = re.compile(
    r"\b(?:right now|now|suddenly|sudden|just|hurry|emergency|at the moment|this (?:minute|morning"
    r"|evening)|tonight|today"
    r"|(?:minutes?|half an hour|an hour|hours?|seconds) ago|won't|getting worse|worse|still|please"
    r"|since (?:this|last night|an hour))\b"
)
_SOMEONE = re.compile(
    r"\b(?:i|i'm|im|i've|ive|me|my|myself|we|our|us|he|she|he's|she's|him|her|his|they're|someone here|somebody here"
    r"|(?:a|the|this|that) (?:man|woman|guy|person|lady|boy|girl|child|kid|baby|stranger|customer|neighbou?r"
    r"|colleague|passenger|student|patient)"
    r" (?:here|next|in front|beside|at|on|is|has|just|who|outside)|someone (?:is|has|just|at|on|next|in)"
    r"|somebody (?:is|has|just)"
    r"|(?:baby|newborn|infant|husband|wife|mom|mum|dad|grandma|grandpa|toddler|son|daughter|friend|roommate"
    r"|coworker|neighbou?r)"
    r" (?:is|has|just|won't|can't|cant|not|took|swallowed|collapsed|limp|suddenly|stopped|ate|drank))\b"
)
# The asker speaks of something else than a person in danger now.
_TOPIC = re.compile(
    r"^(?:what|which|how|why|who|when|where|is|are|can|could|does|do|did|should|tell me|describe|explain|give"
    r"|list|name|define"
    r"|symptoms|treatments?|causes|signs|difference|information|prevention|diagnosis|outlook)\b"
)
_EXCUSES = re.compile(
    r"\b(?:(?:years?|months?|decades?) ago|(?:last|previous) (?:year|month|summer|winter|spring|autumn|fall"
    r"|week)|in (?:19|20)\d\d"
    r"|history of|family history|as a (?:child|kid|teenager)|when (?:i|he|she) (?:was|were) (?:a |\w+$"
    r"|\w+ years|young|little|pregnant)"
    r"|recover(?:ing|ed|y)|survived|(?:died|passed away) (?:of|from)|afraid of|fear of|scared of"
    r"|worried about (?:having|getting)"
    r"|risk of|risks? for|chances? of|prevent\w*|avoid\w*|in the past|used to|once had|ever (?:has|have|had"
    r"|gets?)|in case"
    r"|for (?:a|my|his|her|our) (?:\w+ )?(?:class|essay|paper|exam|novel|project|presentation|thesis|homework"
    r"|article|course|book)"
    r"|writing (?:a|my|an)|studying|my (?:exam|textbook|lecture)|nurs\w+ (?:student|school)"
    r"|first[- ]aid (?:course|class|training)"
    r"|my (?:dog|cat|puppy|kitten|horse|rabbit|hamster|parrot)|(?:movie|film|show|novel|episode)|vaccine"
    r"|screening|support group"
    r"|donat\w+|training|insurance|could (?:i|it) (?:ever|someday)|someday|later in life)\b"
)
# No excuse counts beside these: "had a stroke last year and suddenly his face droops again".
_PRESSING = re.compile(
    r"\b(?:right now|just now|suddenly|all of a sudden|(?:minutes?|an hour|hours?) ago|won't stop|getting worse)\b"
)
_HABIT = re.compile(
    r"\b(?:sometimes|occasionally|every (?:time|month|winter|spring|summer|day|year|morning|night"
    r"|now and then)|usually|from time to time"
    r"|once in a while|whenever|for (?:years|months|weeks)|for (?:the (?:last|past) )?\w+ (?:years|months"
    r"|weeks)|always|mild|slight"
    r"|on and off|(?:doctor|cardiologist|dentist|physician|gp) (?:said|says|told|thinks|found)|was told|diagnosed)\b"
)
_NEGATION = re.compile(
    r"\b(?:no|without|denies|never (?:had|have|has)|not having|isn't having|don't have|doesn't have"
    r"|not have)(?: (?!i\b)\w+){0,2} $"
)
_PLAIN = str.maketrans({"’": "'", "‘": "'", "`": "'", "“": '"', "”": '"'})


def emergencies_in(question: str) -> list[str]:
    """Return the kinds of emergency that a question speaks of, at most one of each, e.g. ``["stroke"]``.

    Args:
        question: what the user wrote, in English.

    Returns:
        names of kinds; empty: no rule matched, which is no all-clear.
    """
    return [kind.name for kind in _found(question)]


def emergency_notices(question: str) -> list[str]:
    """Return what is to be said before anything else; empty for most questions."""
    return [kind.notice for kind in _found(question)[:2]]


def _found(question: str) -> Sequence[Kind]:
    text = " ".join(question.translate(_PLAIN).lower().split())
    if not _speaks_of_someone_now(text):
        return []
    return [kind for kind in KINDS if any(_says(sign, text) for sign in kind.signs)]


def _speaks_of_someone_now(text: str) -> bool:
    urgent = _NOW.search(text) is not None
    if _EXCUSES.search(text) is not None and _PRESSING.search(text) is None:
        return False
    if _HABIT.search(text) is not None and not urgent:
        return False
    if _SOMEONE.search(text) is not None:
        return True
    # In haste people leave the person out: "chest pain, left arm numb, help".
    return urgent or _TOPIC.match(text) is None


def _says(sign: re.Pattern[str], text: str) -> bool:
    return any(_NEGATION.search(text[: match.start()]) is None for match in sign.finditer(text))
