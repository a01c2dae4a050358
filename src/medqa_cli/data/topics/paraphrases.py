"""Asks a recognised question in other words, as people do: the wordings of ``resources/paraphrases.yaml``."""

from __future__ import annotations

import re

from medqa_cli.data.normalize import key_of, normalize, rank_of
from medqa_cli.data.topics.medical_terms import is_illness
from medqa_cli.data.topics.question_types import QuestionType, recognise
from medqa_cli.data.topics.topic_casing import in_running_text, is_title
from medqa_cli.data.topics.topic_phrases import thing_of
from medqa_cli.resources import load_yaml


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
    form = recognise(question)
    if form is None or is_title(form.topic) or thing_of(form.topic) != form.topic:
        return []
    asked = normalize(question)
    templates = sorted(suitable(form), key=lambda template: rank_of(seed, "paraphrase", key_of(asked, template)))
    by_normalized = {normalize(text): text for text in (fill(template, form.topic) for template in templates)}
    by_normalized.pop(asked, None)
    return list(by_normalized.values())[:count]


def suitable(question: QuestionType) -> list[str]:
    """Return the wordings that suit a question's kind and topic; none where its kind has none."""
    wordings = load_yaml("paraphrases").get(question.kind, {"general": [], "illness": []})
    return [*wordings["general"], *(wordings["illness"] if is_illness(question.topic) else ())]


def fill(template: str, topic: str) -> str:
    """Put the topic into a wording: as it is written for ``{topic}``, as in running text for ``{lower}``."""
    before, placeholder, after = re.split(r"(\{(?:topic|lower)\})", template, maxsplit=1)
    return before + (topic if placeholder == "{topic}" else in_running_text(topic)) + after
