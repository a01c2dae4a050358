"""Asks a recognised question in other words, as people do, for the training split only.

Does not decide which rows get paraphrases; the wordings themselves stand in ``paraphrase_bank``.
"""

from __future__ import annotations

import re

from medqa_cli.data.normalize import key_of, normalize, rank_of
from medqa_cli.data.topics.paraphrase_bank import BANK
from medqa_cli.data.topics.question_types import QuestionForm, recognise
from medqa_cli.data.topics.topic_casing import in_running_text, is_illness, is_title
from medqa_cli.data.topics.topic_phrases import thing_of


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
    if form is None or form.kind not in BANK or is_title(form.topic) or thing_of(form.topic) != form.topic:
        return []
    asked = normalize(question)
    templates = sorted(suitable(form), key=lambda template: rank_of(seed, "paraphrase", key_of(asked, template)))
    by_fold = {normalize(text): text for text in (fill(template, form.topic) for template in templates)}
    by_fold.pop(asked, None)
    return list(by_fold.values())[:count]


def suitable(form: QuestionForm) -> tuple[str, ...]:
    """Return the wordings of the bank that suit the question's kind and topic."""
    wordings = BANK[form.kind]
    return wordings.general + wordings.illness if is_illness(form.topic) else wordings.general


def describe_bank() -> dict[str, int]:
    """Return how many wordings there are for each kind of question, those for illnesses included."""
    return {kind: len(wordings.general) + len(wordings.illness) for kind, wordings in BANK.items()}


def fill(template: str, topic: str) -> str:
    """Put the topic into a wording: as it is written for ``{topic}``, as in running text for ``{lower}``."""
    before, placeholder, after = re.split(r"(\{(?:topic|lower)\})", template, maxsplit=1)
    return before + (topic if placeholder == "{topic}" else in_running_text(topic)) + after
