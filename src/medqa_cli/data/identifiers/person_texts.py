"""Whether a text is about one person, told by its words: what looks like an identifier there most likely is one."""

from __future__ import annotations

import functools

from medqa_cli.data.identifiers.text import Text
from medqa_cli.data.identifiers.word_tables import weights
from medqa_cli.resources import load_words

LEAST = 1.0
"""The least score of a text about one person."""


def telling_words() -> frozenset[str]:
    """Return the words that may tell; of which way, the weights say."""
    return load_words("identifiers", "telling_words")


def is_about_one_person(text: Text) -> bool:
    """Tell whether a text is about one person."""
    table = weights("text")
    return table[""] + sum(map(table.__getitem__, _weighed().intersection(text.all_words))) > LEAST


@functools.cache
def _weighed() -> frozenset[str]:
    return frozenset(weights("text")) - {""}
