"""Signs of an emergency in a question, detected by fixed rules before any model runs. English only.

The rules look for a person in danger now ("my father's face is drooping"), not for a topic ("What causes a stroke?").
They miss other words and other languages, so the absence of a notice means nothing. The notices name no phone number,
since numbers differ by country. The patterns are in ``resources/emergencies.yaml``.
"""

import functools
import re
from dataclasses import dataclass

from medqa_cli.data.languages import UNKNOWN, language_of, likeliest_language
from medqa_cli.prompt.given import NOTHING, Given
from medqa_cli.resources import compiled, load_yaml

_compiled = functools.partial(compiled, "emergencies")
# Behind a notice that ends with what to do in an emergency.
ONLY_ENGLISH = " Signs of an emergency are looked for in English questions only, not in this one."
PERHAPS_NOT_ENGLISH = " Signs of an emergency are looked for in English questions only."
_PLAIN = str.maketrans({"’": "'", "‘": "'", "`": "'", "“": '"', "”": '"'})


@dataclass(frozen=True)
class EmergencyKind:
    """One kind of emergency: its name, its notice, and the patterns of its signs."""

    name: str
    notice: str
    signs: tuple[re.Pattern[str], ...]


@functools.cache
def kinds() -> tuple[EmergencyKind, ...]:
    """Return all kinds of emergency that the rules know."""
    table = load_yaml("emergencies")
    return tuple(
        EmergencyKind(kind["name"], f"{table['call']} {kind['advice']}", tuple(map(_compiled, kind["signs"])))
        for kind in table["kinds"]
    )


@functools.cache
def _rule(name: str) -> re.Pattern[str]:
    return _compiled(load_yaml("emergencies")["rules"][name])


def kinds_in(question: str) -> list[EmergencyKind]:
    """Return the kinds of emergency in a question; an empty list only means that no rule matched."""
    text = " ".join(question.translate(_PLAIN).lower().split())
    if not _is_about_someone_now(text):
        return []
    negation = _rule("negation")
    return [
        kind
        for kind in kinds()
        if any(negation.search(text[: match.start()]) is None for sign in kind.signs for match in sign.finditer(text))
    ]


def emergency_notices(question: str, given: Given = NOTHING) -> list[str]:
    """Return the notices to show before anything else; none for most questions.

    The signs may stand in the question, in its context, or only in all of the conversation together.
    """
    texts = dict.fromkeys((question, given.context, given.before(question)))
    found = dict.fromkeys(kind for text in texts for kind in kinds_in(text))
    return [kind.notice for kind in found][:2]


def with_language_note(notice: str, question: str) -> str:
    """Return the notice of an answer, which says so where the question is, or may be, of a language not looked at."""
    if language_of(question) == "en":
        return notice
    return notice + (PERHAPS_NOT_ENGLISH if likeliest_language(question) in ("en", UNKNOWN) else ONLY_ENGLISH)


def _is_about_someone_now(text: str) -> bool:
    is_urgent = _rule("now").search(text) is not None
    if _rule("excuses").search(text) is not None and _rule("pressing").search(text) is None:
        return False
    if _rule("habit").search(text) is not None and not is_urgent:
        return False
    if _rule("someone").search(text) is not None:
        return True
    # People in a hurry do not name the person: "chest pain, left arm numb, help".
    return is_urgent or _rule("topic").match(text) is None
