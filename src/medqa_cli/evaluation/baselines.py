"""The baselines: what trivial answerers say; and the swapped references.

The files and JSON keys of an evaluation call them floors.
"""

from __future__ import annotations

import math
import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from medqa_cli.data.dataset import QaRow
from medqa_cli.data.normalize import normalize
from medqa_cli.data.topics.question_types import OTHER, recognise
from medqa_cli.data.topics.topics import topic_names
from medqa_cli.evaluation.overlap import stemmed_words
from medqa_cli.evaluation.samples import Sample

UNIGRAM = "unigram"
# A model must beat these: trivial answerers that do not know the reference.
TRIVIAL = (UNIGRAM, "random_answer", "nearest_question", "wrong_topic")
# The references themselves, as they are and cut at a model's mean length.
CUT_REFERENCE, REFERENCE = "cut_reference", "reference"


def kind_of(question: str) -> str:
    """Return what a question asks (symptoms, treatment, ...), ``other`` where its wording does not tell."""
    form = recognise(question)
    return OTHER if form is None else form.kind


def _topic_key(row: QaRow) -> str:
    names = topic_names(row.topic)
    return names[0] if names else normalize(row.question)


def baseline_answers(train: Sequence[QaRow], rows: Sequence[QaRow], seed: int) -> dict[str, list[str]]:
    """Return what each trivial answerer says to each question.

    Args:
        train: the training rows, at least one.
        rows: the questions.
        seed: of the draws.

    Returns:
        ``random_answer``: any training answer; ``nearest_question``: the answer of the training question most like it;
        ``wrong_topic``: a training answer to the same kind of question from the same source about another topic.
    """
    generator = random.Random(seed)
    nearest = NearestQuestion([row.question for row in train])
    same_kind: dict[tuple[str, str], list[int]] = defaultdict(list)
    for place, row in enumerate(train):
        same_kind[row.source, kind_of(row.question)].append(place)
    everything = list(range(len(train)))

    def wrong_topic(row: QaRow) -> str:
        pool = same_kind.get((row.source, kind_of(row.question)), everything)
        others = [place for place in pool if _topic_key(train[place]) != _topic_key(row)]
        return train[generator.choice(others or everything)].answer

    return {
        "random_answer": [train[generator.choice(everything)].answer for _ in rows],
        "nearest_question": [train[nearest.find(row.question)].answer for row in rows],
        "wrong_topic": [wrong_topic(row) for row in rows],
    }


def cut_words(text: str, count: int) -> str:
    """Return the first ``count`` words of a text, white space between them kept."""
    end = 0
    for _ in range(count):
        start = next((place for place in range(end, len(text)) if not text[place].isspace()), len(text))
        end = next((place for place in range(start, len(text)) if text[place].isspace()), len(text))
    return text[:end].strip()


class NearestQuestion:
    """Finds the question most like another one: cosine of TF-IDF weights of stemmed words (Salton and Buckley 1988)."""

    def __init__(self, questions: Sequence[str]) -> None:
        counted = [Counter(stemmed_words(question)) for question in questions]
        held_by = Counter(word for words in counted for word in words)
        self._size = len(questions)
        self._weight = {word: 1 + math.log(self._size / count) for word, count in held_by.items()}
        postings: dict[str, list[tuple[int, float]]] = defaultdict(list)
        for place, words in enumerate(counted):
            length = math.sqrt(sum((times * self._weight[word]) ** 2 for word, times in words.items())) or 1.0
            for word, times in words.items():
                postings[word].append((place, times * self._weight[word] / length))
        self._places = {word: np.array([place for place, _ in own]) for word, own in postings.items()}
        self._values = {word: np.array([value for _, value in own]) for word, own in postings.items()}

    def find(self, question: str) -> int:
        """Return the place of the most similar question; the first of equals, of all where none is like it."""
        scores = np.zeros(self._size)
        for word, times in Counter(stemmed_words(question)).items():
            if word in self._places:
                scores[self._places[word]] += times * self._weight[word] * self._values[word]
        return int(scores.argmax())


def swapped_references(rows: Sequence[QaRow]) -> list[str | None]:
    """Give each row the reference of another row: same kind of question, same source, another topic.

    Within a group of like questions every reference is own reference once and swapped reference once. What somebody
    says to all of them alike, a template without its disease, therefore gains exactly nothing: the sum over the group
    of score(own) - score(swapped) is 0.

    Returns:
        the references in the order of the rows; None for rows of topics that fill more than half of their group.
    """
    swapped: list[str | None] = [None] * len(rows)
    groups: dict[tuple[str, str], list[int]] = defaultdict(list)
    for place, row in enumerate(rows):
        groups[row.source, kind_of(row.question)].append(place)
    for places in groups.values():
        places = _without_surplus(places, [_topic_key(rows[place]) for place in places])
        if not places:
            continue
        ordered = sorted(places, key=lambda place: (_topic_key(rows[place]), place))
        most = max(Counter(_topic_key(rows[place]) for place in ordered).values())
        for index, place in enumerate(ordered):
            # A step of the largest topic's size always leaves the own topic.
            swapped[place] = rows[ordered[(index + most) % len(ordered)]].answer
    return swapped


def _without_surplus(places: list[int], keys: list[str]) -> list[int]:
    """Leave out rows of the largest topic until it fills at most half of the group; all where only it is there."""
    topic, most = Counter(keys).most_common(1)[0]
    allowed = len(keys) - most
    if most <= allowed:
        return places
    own = [place for place, key in zip(places, keys, strict=True) if key == topic]
    dropped = set(own[allowed:])
    return [place for place in places if place not in dropped]


def length_baselines(samples: Sequence[Sample]) -> dict[str, list[Sample]]:
    """Return the references as they are, and cut at the mean length of a model's answers; none without answers."""
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
    """Return what a trivial answerer says to the question of a sample."""
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
