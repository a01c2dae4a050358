"""The baselines: answerers that know nothing of the reference, or repeat it. Result files call them floors."""

from __future__ import annotations

import math
import random
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from medqa_cli.data.dataset import QaRow
from medqa_cli.data.retrieval import Passage, PassageIndex
from medqa_cli.evaluation.arms import BM25_PASSAGE, FIRST_PASSAGE
from medqa_cli.evaluation.samples import Sample, question_kind, topic_keys
from medqa_cli.prompt.encoder import IGNORE_INDEX, Example

if TYPE_CHECKING:  # it imports torch, which --rescore does without
    from medqa_cli.model.kernels.packing import AnswerScore

UNIGRAM = "unigram"
# A model must beat these: they do not know the reference.
TRIVIAL = (UNIGRAM, "random_answer", "nearest_question", "wrong_topic", FIRST_PASSAGE, BM25_PASSAGE)
# The references themselves, cut at a model's mean length and whole.
CUT_REFERENCE, REFERENCE = "cut_reference", "reference"


def unigram_scores(
    train_examples: Sequence[Example], examples: Sequence[Example], vocabulary_size: int
) -> list[AnswerScore]:
    """Score answers by token frequencies alone: the baseline that any language model must beat.

    Frequencies of the training answers' tokens, end tokens included; unseen tokens share the mass that Witten-Bell
    smoothing leaves them: types / (tokens + types) (Witten and Bell 1991, IEEE Trans. Inf. Theory 37:1085).
    """
    from medqa_cli.model.kernels.packing import AnswerScore

    counts = Counter(label for example in train_examples for label in example.labels if label != IGNORE_INDEX)
    seen_and_types = counts.total() + len(counts)
    uniform = len(counts) / seen_and_types / vocabulary_size
    scores = []
    for example in examples:
        labels = [label for label in example.labels if label != IGNORE_INDEX]
        nll = -sum(math.log(counts[label] / seen_and_types + uniform) for label in labels)
        scores.append(AnswerScore(nll, len(labels)))
    return scores


def baseline_answers(train: Sequence[QaRow], rows: Sequence[QaRow], seed: int) -> dict[str, list[str]]:
    """Return what each trivial answerer says to each question.

    Args:
        train: the training rows, at least one.
        rows: the questions.
        seed: of the draws.

    Returns:
        ``random_answer``: any training answer; ``nearest_question``: the answer of the training question with the
        highest BM25, of the first row where no word is shared; ``wrong_topic``: a training answer to the same kind of
        question from the same source about another topic.
    """
    generator = random.Random(seed)
    index = PassageIndex(Passage(str(n), "row", row.asked, "", "", "") for n, row in enumerate(train))
    topics = topic_keys([*train, *rows])
    same_kind: dict[tuple[str, str], list[tuple[str, QaRow]]] = defaultdict(list)
    for topic, row in zip(topics, train, strict=False):
        same_kind[row.source, question_kind(row.question)].append((topic, row))

    def nearest(row: QaRow) -> QaRow:
        nearest = index.search(row.asked, 1)
        return train[int(nearest[0].id) if nearest else 0]

    def wrong_topic(row: QaRow, topic: str) -> QaRow:
        pool = same_kind.get((row.source, question_kind(row.question))) or list(zip(topics, train, strict=False))
        return generator.choice([other for about, other in pool if about != topic] or train)

    return {
        "random_answer": [generator.choice(train).answer for _ in rows],
        "nearest_question": [nearest(row).answer for row in rows],
        "wrong_topic": [wrong_topic(row, topic).answer for row, topic in zip(rows, topics[len(train) :], strict=True)],
    }


def cut_words(text: str, count: int) -> str:
    """Return the first ``count`` words of a text, white space between them kept."""
    words = list(re.finditer(r"\S+", text))[:count]
    return text[words[0].start() : words[-1].end()] if words else ""


def length_baselines(samples: Sequence[Sample]) -> dict[str, list[Sample]]:
    """Return the references, whole and cut at the mean length of a model's answers; nothing without answers."""
    if any(sample.answer is None for sample in samples):
        return {}
    mean = round(sum(len((sample.answer or "").split()) for sample in samples) / len(samples))
    return {
        CUT_REFERENCE: [
            baseline_sample(sample, CUT_REFERENCE, cut_words(sample.references[0], mean)) for sample in samples
        ],
        REFERENCE: [baseline_sample(sample, REFERENCE, sample.references[0]) for sample in samples],
    }


def baseline_sample(sample: Sample, name: str, answer: str) -> Sample:
    """Return the sample of a baseline that gives this answer to the question of another sample."""
    return replace(
        sample,
        model=name,
        answer=answer,
        finish_reason=None,
        generated_tokens=None,
        nll_sum=None,
        answer_tokens=None,
        answer_bytes=None,
        truncated=False,
    )
