"""Benchmark questions that stand in the training data are found; those that only share a few words are not."""

from medqa_cli.data.dataset import QaRow
from medqa_cli.evaluation.multiple_choice import contaminated

TRAIN = [
    QaRow("1", "What is gout?", "Gout is a common form of arthritis that causes sudden pain in a toe.", "gout", "a"),
    QaRow("2", "How do doctors tell one kind of lung disease from another kind?", "By tests.", "lung", "a"),
]


def test_what_counts_as_seen() -> None:
    questions = [
        "WHAT IS GOUT",
        "A man has a common form of arthritis that causes sudden pain at night. What helps?",  # nine words of an answer
        "A man has a form of arthritis that causes sudden aches in the knee.",  # six words of it
        "Can doctors tell one kind of lung disease from another kind of it?",
        "What is it?",
        "common form",
        "",
    ]
    assert contaminated(questions, iter(TRAIN)) == [True, True, False, True, False, False, False]
    assert contaminated(questions, []) == [False] * 7
    assert contaminated([], TRAIN) == []
