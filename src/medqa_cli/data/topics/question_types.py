"""Tells from the wording of a question what is asked (its kind) and about what (its topic).

Knows MedQuAD's fixed forms and the common ways in which people ask the same (``resources/question_types.yaml``). Gives
nothing rather than a topic that is none: rows are kept together in a split by it.
"""

import functools
import re
from dataclasses import dataclass

from medqa_cli.resources import load_pattern, load_yaml

LONGEST_QUESTION = 400  # characters; MedQuAD's longest has 191, and a longer text is a story, not a form
OTHER = "other"  # the topic is certain, but what is asked is none of MedQuAD's kinds


@dataclass(frozen=True)
class QuestionType:
    """What a question asks (``kind``, named as MedQuAD does, or ``other``) and about what (``topic``, as written)."""

    kind: str
    topic: str


_CAPITALIZED_OR_SHORT = re.compile(r"[^a-z]|[a-z]{1,3}\b")
_ARTICLE = re.compile(r"(?:an?|[Tt]he|THE) ")

_PLEASE = re.compile(
    r"\A(?:please,? |(?:can|could) you (?:please )?(?=tell|give|list|name|explain))|,? please\Z", re.IGNORECASE
)

# "how can these diseases be treated for Marine Toxins": a question without a name, and the name that it is about.
_NAMED_LAST = re.compile(
    r"(?:how|what|which|who|when|where|why|is|are|can|do|does)\b[^A-Z]* for ([A-Z]\w+(?: [A-Z]\w+)*)"
)
# "Am I at Risk for Type 2 Diabetes? Taking Steps to Lower Your Risk": a name of a page that asks.
_ASKING_TITLE = re.compile(r".*\w\? [A-Z].*")


def recognize(question: str) -> QuestionType | None:
    """Recognize a question's kind and topic by its wording.

    Args:
        question: raw ("What is (are) Flu ?") or cleaned ("What is Flu?"); case and spacing play no part.

    Returns:
        the kind and the topic, a piece of the question without a leading article; None where the wording is none of
        the known forms, or the text in the topic's place names nothing ("it", "the best way to lose weight").
    """
    text = " ".join(question.split()).strip("\"'“”").rstrip(" ?!.")
    text = _PLEASE.sub("", text)
    if not text or len(text) > LONGEST_QUESTION:
        return None
    form, has_matched = None, False
    for kind, pattern in _patterns().items():
        if kind == "information" and has_matched:
            break  # "the symptoms of it" is not a topic either
        if match := pattern.fullmatch(text):
            has_matched = True
            if topic := _topic(match[match.lastindex or 0]):
                form = QuestionType(kind, topic)
                break
    named = _NAMED_LAST.fullmatch(text)
    return form if named is None or (form and form.topic == named[1]) else QuestionType(OTHER, named[1])


@functools.cache
def _patterns() -> dict[str, re.Pattern[str]]:
    """Return one pattern for each kind; the one group that takes part in a match holds the topic."""
    table = load_yaml("question_types")
    pieces = {
        f"{name} " if name in table["with_own_space"] else name: pattern for name, pattern in table["pieces"].items()
    }
    patterns = {}
    for kind, forms in table["forms"].items():
        joined = "|".join(f"(?:{form})" for form in forms)
        for name, pattern in pieces.items():
            joined = joined.replace(name, pattern)
        patterns[kind] = re.compile(joined, re.IGNORECASE)
    return patterns


def _topic(text: str) -> str | None:
    """Return what the text names, without a leading article; None if it names nothing."""
    article = _ARTICLE.match(text)
    topic = (text[article.end() :] if article else text).strip(" ?\"'“”,:")
    if not any(character.isalpha() for character in topic):
        return None
    if _ASKING_TITLE.fullmatch(topic) and is_capitalized(topic):
        return topic
    clause = load_pattern("question_types", "clause", re.NOFLAG)
    return None if is_pointing(topic) or clause.match(text) or clause.match(topic) else topic


def is_pointing(topic: str) -> bool:
    """Tell whether a topic names nothing by itself: "it", "these diseases", "treatment"."""
    return load_pattern("question_types", "pointing").fullmatch(topic) is not None


def is_capitalized(topic: str) -> bool:
    """Tell whether all words but short ones begin large, as in names of illnesses and titles of pages."""
    return topic[:1].isupper() and all(_CAPITALIZED_OR_SHORT.match(word) for word in topic.split())
