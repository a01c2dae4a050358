"""Overlap of an answer with its references: ROUGE-1, -2, -L per answer; BLEU and chrF as counts that can be summed.

ROUGE (Lin 2004, ACL W04-1013) is computed on rouge-score's tokens by faster arithmetic and equals rouge-score's F
measure. BLEU and chrF are sacrebleu's: they are metrics of a whole corpus, so an answer has counts, not a score.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from medqa_cli.evaluation.bootstrap import FloatArray

ROUGE = ("rouge1", "rouge2", "rougeL")
CORPUS_METRICS = ("bleu", "chrf")
ROUGE_SETTINGS = "rouge-score 0.1.2 tokens, Porter stemmer, F measure, best of all references of the question"


class _CachedStemmer:
    """Porter's stemmer of NLTK, the one that rouge-score uses; each word is stemmed once."""

    def __init__(self) -> None:
        from nltk.stem import porter

        self._stem = functools.lru_cache(maxsize=1 << 17)(porter.PorterStemmer().stem)

    def stem(self, word: str) -> str:
        """Return the stem of a word."""
        return str(self._stem(word))


_stemmer = functools.cache(_CachedStemmer)


@functools.lru_cache(maxsize=1 << 14)
def stemmed_words(text: str) -> tuple[str, ...]:
    """Return the tokens of a text, as ``rouge_score.rouge_scorer.RougeScorer(use_stemmer=True)`` sees them."""
    from rouge_score import tokenize

    tokens: Any = tokenize.tokenize(text, _stemmer())
    return tuple(tokens)


def rouge(answer: str, references: Sequence[str]) -> dict[str, float]:
    """Return ROUGE-1, -2 and -L as F measures from 0 to 1, each against the reference that it is highest for.

    Args:
        answer: the text to score; an empty one scores 0.
        references: at least one text.
    """
    words = stemmed_words(answer)
    scores = [_rouge_one(words, stemmed_words(reference)) for reference in references]
    return {name: max(score[place] for score in scores) for place, name in enumerate(ROUGE)}


def rouge_l(answer: str, reference: str) -> float:
    """Return ROUGE-L against one reference."""
    words, target = stemmed_words(answer), stemmed_words(reference)
    return _f_measure(longest_common_subsequence(words, target), len(words), len(target))


def _rouge_one(words: tuple[str, ...], target: tuple[str, ...]) -> tuple[float, float, float]:
    one, two = (
        _f_measure(_shared(words, target, n), max(0, len(words) - n + 1), max(0, len(target) - n + 1)) for n in (1, 2)
    )
    return one, two, _f_measure(longest_common_subsequence(words, target), len(words), len(target))


def _shared(words: tuple[str, ...], target: tuple[str, ...], n: int) -> int:
    return (_ngrams(words, n) & _ngrams(target, n)).total()


@functools.lru_cache(maxsize=1 << 14)
def _ngrams(words: tuple[str, ...], n: int) -> Counter[tuple[str, ...]]:
    return Counter(zip(*(words[start:] for start in range(n)), strict=False))


def _f_measure(shared: int, size: int, target_size: int) -> float:
    # Written as rouge-score computes it: 2PR / (P + R).
    if not shared:
        return 0.0
    precision, recall = shared / size, shared / target_size
    return 2 * precision * recall / (precision + recall)


def longest_common_subsequence(one: Sequence[str], other: Sequence[str]) -> int:
    """Return the length of the longest common subsequence, by whole rows of bits (Hyyrö 2004, "Bit-parallel LCS")."""
    places: dict[str, int] = {}
    for place, word in enumerate(one):
        places[word] = places.get(word, 0) | 1 << place
    full = (1 << len(one)) - 1
    row = full
    for word in other:
        matches = row & places.get(word, 0)
        row = ((row + matches) | (row - matches)) & full
    return len(one) - row.bit_count()


def corpus_counts(metric: str, answers: Sequence[str], references: Sequence[Sequence[str]]) -> FloatArray:
    """Return the counts behind a corpus figure, one row an answer; sums of rows go to ``corpus_score``.

    Args:
        metric: ``bleu`` or ``chrf``.
        answers: at least one text.
        references: per answer at least one text.

    Returns:
        float64, ``(answers, counts)``.
    """
    scorer = _scorer(metric)
    most = max(len(own) for own in references)
    streams = [[own[place] if place < len(own) else None for own in references] for place in range(most)]
    # The same two halves that sacrebleu's own bootstrap is made of.
    return np.asarray(scorer._extract_corpus_statistics(answers, streams), dtype=np.float64)


def corpus_score(metric: str, counts: FloatArray) -> float:
    """Return sacrebleu's score, 0 to 100, for summed counts: float64, ``(counts,)``."""
    return float(_scorer(metric)._compute_score_from_stats(counts.tolist()).score)


def signature(metric: str, num_references: int) -> str:
    """Return sacrebleu's signature; ``num_references`` of each question, -1: it differs."""
    scorer = type(_scorer(metric))() if metric == "chrf" else _new_bleu()
    scorer.num_refs = num_references
    return str(scorer.get_signature())


@functools.cache
def _scorer(metric: str) -> Any:
    from sacrebleu.metrics import CHRF

    return CHRF() if metric == "chrf" else _new_bleu()


def _new_bleu() -> Any:
    from sacrebleu.metrics import BLEU

    # force: no advice on stderr about tokenized input.
    return BLEU(force=True)
