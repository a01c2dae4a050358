"""Counts what held-out rows share with the training rows, on the final splits.

Does not remove anything, and does not look for near duplicates: their count is null.
"""

from __future__ import annotations

from collections.abc import Sequence

from medqa_cli.data.dedup import RowKeys


def count_leaks(keys: Sequence[RowKeys], splits: Sequence[str], has_topics: bool) -> dict[str, dict[str, int | None]]:
    """Count the held-out rows whose question, answer or topic also stands in train.

    Args:
        keys: the keys of the rows.
        splits: the split of each row.
        has_topics: whether the source has a topic column; without one the topic's count is null, not zero.

    Returns:
        for ``test`` and ``validation`` the four counts of the report.
    """
    train = [key for key, split in zip(keys, splits, strict=True) if split == "train"]
    questions = {key.question for key in train}
    answers = {key.answer for key in train}
    topics = {key.topic for key in train if key.topic is not None}
    leaks: dict[str, dict[str, int | None]] = {}
    for name in ("test", "validation"):
        held_out = [key for key, split in zip(keys, splits, strict=True) if split == name]
        leaks[name] = {
            "question": sum(key.question in questions for key in held_out),
            "answer": sum(key.answer in answers for key in held_out),
            "near_duplicate_answer": None,
            "topic": sum(key.topic in topics for key in held_out) if has_topics else None,
        }
    return leaks
