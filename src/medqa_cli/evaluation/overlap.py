"""How far an answer overlaps with its references: ROUGE, BLEU and chrF, as rouge-score and sacrebleu compute them.

ROUGE is from Lin 2004 (ACL W04-1013), BLEU from Papineni et al. 2002 (ACL P02-1040), chrF from Popović 2015
(ACL W15-3049); sacrebleu is described by Post 2018 (ACL W18-6319).
"""

import functools
import itertools
import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from medqa_cli.evaluation.bootstrap import FloatArray


@functools.cache
def _stemmer() -> Any:
    """Return Porter's stemmer of NLTK, the one that rouge-score uses; each word is stemmed once."""
    from nltk.stem import porter

    stemmer: Any = porter.PorterStemmer()
    stemmer.stem = functools.lru_cache(maxsize=1 << 17)(stemmer.stem)
    return stemmer


@functools.lru_cache(maxsize=1 << 14)
def stemmed_words(text: str) -> tuple[str, ...]:
    """Return the tokens of a text, as ``rouge_score.rouge_scorer.RougeScorer(use_stemmer=True)`` sees them."""
    from rouge_score import tokenize

    tokens: Any = tokenize.tokenize(text, _stemmer())
    return tuple(tokens)


def is_read_by_rouge(text: str) -> bool:
    """Tell whether rouge-score finds any token in a text: it keeps ASCII letters and digits only."""
    return re.search("[a-z0-9]", text.lower()) is not None


def rouge(answer: str, references: Sequence[str]) -> dict[str, float]:
    """Return ROUGE-1, -2 and -L, F measures from 0 to 1, each against that of the references that it is highest for."""
    return {name: max(score(answer, reference) for reference in references) for name, score in ROUGE.items()}


def rouge_l(answer: str, reference: str) -> float:
    """Return ROUGE-L against one reference."""
    words, target = stemmed_words(answer), stemmed_words(reference)
    return _f_measure(longest_common_subsequence(words, target), len(words), len(target))


def _rouge_n(answer: str, reference: str, n: int) -> float:
    ngrams, target = _ngrams(stemmed_words(answer), n), _ngrams(stemmed_words(reference), n)
    return _f_measure((ngrams & target).total(), ngrams.total(), target.total())


ROUGE: dict[str, Callable[[str, str], float]] = {
    "rouge1": functools.partial(_rouge_n, n=1),
    "rouge2": functools.partial(_rouge_n, n=2),
    "rougeL": rouge_l,
}


@functools.lru_cache(maxsize=1 << 14)
def _ngrams(words: tuple[str, ...], n: int) -> Counter[tuple[str, ...]]:
    return Counter(zip(*(words[start:] for start in range(n)), strict=False))


def _f_measure(shared: int, size: int, target_size: int) -> float:
    # Written as rouge-score computes it: 2PR / (P + R).
    if not shared:
        return 0.0
    precision, recall = shared / size, shared / target_size
    return 2 * precision * recall / (precision + recall)


def longest_common_subsequence(a: Sequence[str], b: Sequence[str]) -> int:
    """Return the length of the longest common subsequence, by whole rows of bits (Hyyrö 2004, "Bit-parallel LCS")."""
    positions: dict[str, int] = {}
    for position, word in enumerate(a):
        positions[word] = positions.get(word, 0) | 1 << position
    full = (1 << len(a)) - 1
    row = full
    for word in b:
        matches = row & positions.get(word, 0)
        row = ((row + matches) | (row - matches)) & full
    return len(a) - row.bit_count()


# BLEU and chrF are sacrebleu's: scores of a whole corpus, so an answer has counts that can be summed.


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
    streams = list(itertools.zip_longest(*references))
    # The same two halves that sacrebleu's own bootstrap is made of.
    return np.asarray(scorer._extract_corpus_statistics(answers, streams), dtype=np.float64)


def corpus_score(metric: str, counts: FloatArray) -> float:
    """Return sacrebleu's score, 0 to 100, for summed counts: float64, ``(counts,)``."""
    return float(_scorer(metric)._compute_score_from_stats(counts.tolist()).score)


@functools.cache
def _scorer(metric: str) -> Any:
    from sacrebleu.metrics import BLEU, CHRF

    # force: no advice on stderr about tokenized input.
    return CHRF() if metric == "chrf" else BLEU(force=True)


def overlap_settings(names: Sequence[str], numbers_of_references: set[int]) -> dict[str, str]:
    """Return how the overlap metrics among these names are computed: ROUGE's settings, sacrebleu's signatures.

    ``numbers_of_references``: how many references the questions have.
    """
    settings: dict[str, str] = {}
    if any(name.startswith("rouge") for name in names):
        settings["rouge"] = (
            "rouge-score 0.1.2 tokens, Porter stemmer, F measure, best of all references of the question"
        )
    for name in names:
        if name in ("bleu", "chrf"):
            scorer = _scorer.__wrapped__(name)
            scorer.num_refs = next(iter(numbers_of_references)) if len(numbers_of_references) == 1 else -1
            settings[name] = str(scorer.get_signature())
    return settings
