"""Words as ROUGE counts them: lower case, letters a to z and digits, stemmed by Porter's rules.

The tokens are those of rouge-score with its stemmer on. Does not score anything.
"""

from __future__ import annotations

import functools
from typing import Any

# Words that carry no topic ("disease of the nerve"): without them a short name is not covered by any answer at all.
_FUNCTION_WORDS = (
    "a an and are as at be by can do does for from have how in into is it its of on or that the their they this to "
    "was what when where which who why with you your"
)


class _CachedStemmer:
    """Porter's stemmer of NLTK, the one that rouge-score uses; each word is stemmed once."""

    def __init__(self) -> None:
        from nltk.stem import porter

        self._stem = functools.lru_cache(maxsize=1 << 17)(porter.PorterStemmer().stem)

    def stem(self, word: str) -> str:
        """Return the stem of a word."""
        return str(self._stem(word))


@functools.cache
def _stemmer() -> _CachedStemmer:
    return _CachedStemmer()


@functools.lru_cache(maxsize=1 << 14)
def stemmed_words(text: str) -> tuple[str, ...]:
    """Return the tokens of a text, as ``rouge_score.rouge_scorer.RougeScorer(use_stemmer=True)`` sees them."""
    from rouge_score import tokenize

    tokens: Any = tokenize.tokenize(text, _stemmer())
    return tuple(tokens)


def topic_words(topic: str) -> frozenset[str]:
    """Return the stemmed words of a topic without articles and prepositions; all of them if there are no others."""
    own = frozenset(stemmed_words(topic))
    return own - _stemmed_function_words() or own


@functools.cache
def _stemmed_function_words() -> frozenset[str]:
    return frozenset(stemmed_words(_FUNCTION_WORDS))
