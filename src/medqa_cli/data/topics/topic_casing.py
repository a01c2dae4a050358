"""How a topic stands in a sentence: which of its words are small in running text, and whether it is a title.

Careful: a word that might be a name keeps its capital. The words are in ``resources/topic_words.yaml``.
"""

from __future__ import annotations

import functools
import re

from medqa_cli.resources import load_yaml

# Titles of pages, not names: "What I need to know about Gas", "Parasites - Loiasis". No sentence reads well with them.
_TITLE = re.compile(
    r"(?:What|How|Am|I (?:Can|Need)|Your|My|Prevent|Monitor|Facing|Understanding|Causes|Diagnosis|Overview|"
    r"Treatment|\d+ Steps)\b|.*(?:: | - |--|\b(?:Guide|Resource List)\b)"
)

_CAPITALISED_OR_SHORT = re.compile(r"[^a-z]|[a-z]{1,3}\b")
_CAPITALISED = re.compile(r"(?<![\w'’.])[A-Z][a-z]{2,}(?![\w'’.])")
# Endings that mark a word of medicine; names of people and places that share one are listed in the file.
_MEDICAL_ENDING = re.compile(
    r"[A-Z][a-z]{2,}(?:itis|osis|oses|asis|oma|omas|emia|emias|pathy|pathies|algia|plegia|trophy|plasia|genesis|uria|"
    r"penia|philia|rrhea|ectomy|ology|scopy|therapy|cephaly|dactyly|ectasia|tion|sion|ency|ility|ness|"
    r"ment|sclerosis)"
    r"|[A-Z][a-z]{3,}(?:al|ic|ive|ous|oid|ular|ary|ism)"
)


def in_running_text(topic: str) -> str:
    """Return the topic as it stands in running text: ordinary words small, names and abbreviations as they are.

    Args:
        topic: for example ``Parkinson's Disease``.

    Returns:
        for example ``Parkinson's disease``; a word that might be a name keeps its capital, and where the last one
        might be, all do: "Myasthenia Gravis" is not made "myasthenia Gravis".
    """
    capitalised = _CAPITALISED.findall(topic)
    if not capitalised or not _is_ordinary(capitalised[-1]):
        return topic
    return _CAPITALISED.sub(lambda match: match[0].lower() if _is_ordinary(match[0]) else match[0], topic)


def is_capitalised(topic: str) -> bool:
    """Tell whether all words but short ones begin large, as in names of illnesses and titles of pages."""
    return topic[:1].isupper() and all(_CAPITALISED_OR_SHORT.match(word) for word in topic.split())


def is_title(topic: str) -> bool:
    """Tell whether a topic is the title of a page ("What I need to know about Gas") rather than the name of a thing."""
    return _TITLE.match(topic) is not None


def _is_ordinary(word: str) -> bool:
    return word in _words("ordinary") or (_MEDICAL_ENDING.fullmatch(word) is not None and word not in _words("names"))


@functools.cache
def _words(table: str) -> frozenset[str]:
    return frozenset(load_yaml("topic_words")[table].split())
