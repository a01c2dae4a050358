"""Asks a recognized question in other words, as people do: the wordings of ``resources/paraphrases.yaml``.

Within a sentence the ordinary words of a topic are small; a word that might be a name keeps its capital.
"""

import re

from medqa_cli.data.normalize import key_of, normalize, rank_of
from medqa_cli.data.topics import medical_terms, question_types, topic_phrases
from medqa_cli.resources import load_pattern, load_words, load_yaml

_CAPITALIZED = re.compile(r"(?<![\w'’.])[A-Z][a-z]{2,}(?![\w'’.])")


def paraphrase(question: str, count: int, seed: int) -> list[str]:
    """Ask a question in other words.

    Args:
        question: raw or cleaned.
        count: how many wordings at most.
        seed: together with the question draws the wordings; the same on every platform.

    Returns:
        distinct wordings, none equal to the question when case and punctuation are left aside; fewer than ``count``
        where the bank holds fewer, none where the question's form or topic does not allow any.
    """
    form = question_types.recognize(question)
    if form is None or is_title(form.topic) or topic_phrases.thing_of(form.topic) != form.topic:
        return []
    asked = normalize(question)
    templates = sorted(suitable(form), key=lambda template: rank_of(seed, "paraphrase", key_of(asked, template)))
    by_normalized = {normalize(text): text for text in (fill(template, form.topic) for template in templates)}
    by_normalized.pop(asked, None)
    return list(by_normalized.values())[:count]


def suitable(question: question_types.QuestionType) -> list[str]:
    """Return the wordings that suit a question's kind and topic; none where its kind has none."""
    wordings = load_yaml("paraphrases").get(question.kind, {"general": [], "illness": []})
    return [*wordings["general"], *(wordings["illness"] if medical_terms.is_illness(question.topic) else ())]


def fill(template: str, topic: str) -> str:
    """Put the topic into a wording: as it is written for ``{topic}``, as in running text for ``{lower}``."""
    before, placeholder, after = re.split(r"(\{(?:topic|lower)\})", template, maxsplit=1)
    return before + (topic if placeholder == "{topic}" else in_running_text(topic)) + after


def is_title(topic: str) -> bool:
    """Tell whether a topic is the title of a page ("What I need to know about Gas") rather than the name of a thing."""
    return load_pattern("topic_words", "titles", re.NOFLAG).match(topic) is not None


def in_running_text(topic: str) -> str:
    """Return the topic in lower case, but for names and abbreviations: "Parkinson's Disease", "Parkinson's disease".

    A word that might be a name keeps its capital, and where the last one might be, all do: "Myasthenia Gravis" is not
    made "myasthenia Gravis".
    """
    capitalized = _CAPITALIZED.findall(topic)
    if not capitalized or not _is_ordinary(capitalized[-1]):
        return topic
    return _CAPITALIZED.sub(lambda match: match[0].lower() if _is_ordinary(match[0]) else match[0], topic)


def _is_ordinary(word: str) -> bool:
    is_medical = load_pattern("topic_words", "medical_endings", re.NOFLAG).fullmatch(word) is not None
    return word in load_words("topic_words", "ordinary") or (
        is_medical and word not in load_words("topic_words", "names")
    )
