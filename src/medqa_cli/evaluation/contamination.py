"""Which benchmark questions stand in the training data: the same question, or eight words in a row of it in a row.

Case, punctuation and spacing play no part. Does not leave anything out: the items are listed and scored apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from medqa_cli.data.dataset import QaRow
from medqa_cli.data.normalize import normalize

RUN_WORDS = 8


def contaminated(questions: Sequence[str], train: Iterable[QaRow]) -> list[bool]:
    """Tell for each question whether it stands in the training data.

    Args:
        questions: of the benchmark, without their choices.
        train: the training rows; read once, nothing of them is kept.

    Returns:
        True where a training question is the same, or a training question or answer holds eight words in a row of it.
    """
    wanted: dict[str, list[int]] = {}
    for place, question in enumerate(questions):
        for text in {normalize(question), *_runs(question)}:
            wanted.setdefault(text, []).append(place)
    found = [False] * len(questions)
    for row in train:
        texts = {normalize(row.question), *_runs(row.question), *_runs(row.answer)}
        for text in texts & wanted.keys():
            for place in wanted[text]:
                found[place] = True
    return found


def _runs(text: str) -> Iterator[str]:
    words = normalize(text).split()
    return (" ".join(words[start : start + RUN_WORDS]) for start in range(len(words) - RUN_WORDS + 1))
