"""ROUGE, BLEU and chrF: equal to rouge-score and sacrebleu on texts of every kind, right on a hand-computed case."""

import random

import numpy as np
import pytest
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics import BLEU, CHRF

from medqa_cli.evaluation.overlap import (
    corpus_counts,
    corpus_score,
    is_read_by_rouge,
    longest_common_subsequence,
    overlap_settings,
    rouge,
    rouge_l,
)

NAMES = ("rouge1", "rouge2", "rougeL")
WORDS = [
    "the",
    "patients'",
    "Glaucoma",
    "damages",
    "optic",
    "nerves;",
    "treatment:",
    "eye-drops",
    "(2.5",
    "%)",
    "running",
]
WORDS += ["laser-surgery", "Sjögren", "ß", "中文"]


def text(generator: random.Random, longest: int = 60) -> str:
    separators = [" ", " ", " ", ". ", "\n", ", "]
    return "".join(generator.choice(WORDS) + generator.choice(separators) for _ in range(generator.randint(0, longest)))


def test_rouge_equals_figures_by_hand() -> None:
    # Of 4 words 3 stand in the reference of 6, in order; of 3 pairs 1 ("optic nerve") among its 5.
    scores = rouge("damaged optic nerve eyes", ["Glaucoma damages the optic nerve slowly"])
    assert scores["rouge1"] == pytest.approx(2 * (3 / 4) * (3 / 6) / (3 / 4 + 3 / 6))
    assert scores["rouge2"] == pytest.approx(2 * (1 / 3) * (1 / 5) / (1 / 3 + 1 / 5))
    assert scores["rougeL"] == pytest.approx(0.6)


def test_rouge_is_that_of_rouge_score() -> None:
    generator, scorer = random.Random(1), RougeScorer(list(NAMES), use_stemmer=True)
    best = 0.0
    for _ in range(150):
        answer, references = text(generator), [text(generator) for _ in range(generator.randint(1, 3))]
        expected = scorer.score_multi(references, answer)
        found = rouge(answer, references)
        assert found == pytest.approx({name: expected[name].fmeasure for name in NAMES}, abs=1e-12)
        assert rouge_l(answer, references[0]) == pytest.approx(scorer.score(references[0], answer)["rougeL"].fmeasure)
        best = max(best, found["rougeL"])
    assert best > 0.3


def test_the_subsequence_of_long_texts() -> None:
    """The bits of a row cross the words of the machine."""
    generator = random.Random(2)
    for _ in range(5):
        one, other = ([generator.choice("abcde") for _ in range(size)] for size in (300, 150))
        table = np.zeros((301, 151), dtype=int)
        for i, a in enumerate(one, start=1):
            for j, b in enumerate(other, start=1):
                table[i, j] = table[i - 1, j - 1] + 1 if a == b else max(table[i - 1, j], table[i, j - 1])
        assert longest_common_subsequence(one, other) == table[-1, -1] > 100


@pytest.mark.parametrize(("metric", "scorer"), [("bleu", BLEU(force=True)), ("chrf", CHRF())])
def test_corpus_scores_and_signatures_are_those_of_sacrebleu(metric: str, scorer: BLEU | CHRF) -> None:
    generator = random.Random(3)
    answers = [text(generator, 30) for _ in range(40)]
    references = [[text(generator, 30) for _ in range(1 + place % 3)] for place in range(40)]
    streams = [[own[k] if k < len(own) else None for own in references] for k in range(3)]
    counts = corpus_counts(metric, answers, references)
    expected = scorer.corpus_score(answers, streams).score
    assert corpus_score(metric, counts.sum(axis=0)) == pytest.approx(expected)
    assert expected > 1
    assert overlap_settings([metric], {1, 2}) == {metric: str(scorer.get_signature())}
    # A part of the answers: what the bootstrap does.
    part = scorer.corpus_score(answers[:7], [stream[:7] for stream in streams]).score
    assert corpus_score(metric, counts[:7].sum(axis=0)) == pytest.approx(part)


def test_nothing_said_scores_nothing() -> None:
    assert rouge("", ["Glaucoma damages nerves"]) == {"rouge1": 0, "rouge2": 0, "rougeL": 0}
    for metric in ("bleu", "chrf"):
        counts = corpus_counts(metric, ["", "..."], [["Glaucoma damages nerves"], ["Gout hurts"]])
        assert corpus_score(metric, counts.sum(axis=0)) == 0


@pytest.mark.parametrize("text", ["Gout hurts.", "5", "Боль", "痛み", "ß é", "İ", "?!"])
def test_is_read_by_rouge_is_whether_a_text_equals_itself(text: str) -> None:
    assert is_read_by_rouge(text) == (rouge(text, [text])["rouge1"] == 1)
