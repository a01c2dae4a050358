"""Assigns rows to train, validation and test so that rows which belong together stay in one split.

Does not see texts, only keys; does not measure leaks: ``audit`` does.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from medqa_cli.data.normalize import RowKeys, rank_of
from medqa_cli.errors import ConfigError, InputError

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class _Group:
    """Rows that must stay together, and where the group stands in the order drawn by the seed."""

    rank: bytes
    rows: tuple[int, ...]


def check_fractions(validation_fraction: float, test_fraction: float) -> None:
    """Check that the held-out shares leave something to train on.

    Raises:
        ConfigError: they do not.
    """
    if validation_fraction + test_fraction >= 1:
        raise ConfigError(
            [
                f"data.validation_fraction ({validation_fraction}) and data.test_fraction ({test_fraction}) "
                "add up to 1 or more: no row would be left for training"
            ],
            "lower one of them",
        )


def assign_splits(keys: Sequence[RowKeys], validation_fraction: float, test_fraction: float, seed: int) -> list[str]:
    """Assign each row to a split; rows with the same question or topic, also through other rows, stay together.

    Args:
        keys: the keys of the rows.
        validation_fraction: share of the rows for validation.
        test_fraction: share of the rows for test.
        seed: draws the order in which groups are taken; the order of the rows plays no part.

    Returns:
        for each row ``train``, ``validation`` or ``test``.

    Raises:
        InputError: there are fewer groups than splits.
    """
    groups = sorted(_groups(keys, seed), key=lambda group: group.rank)
    wanted = {
        name: share for name, share in (("test", test_fraction), ("validation", validation_fraction)) if share > 0
    }
    if len(groups) <= len(wanted):
        raise InputError(
            f"the rows to split ({len(keys):,}) form {len(groups)} group(s) that share no question or topic; "
            f"{', '.join(('train', *wanted))} need at least {len(wanted) + 1}",
            "give more rows, or hold out less: --set data.validation_fraction=0 --set data.test_fraction=0",
        )
    splits = ["train"] * len(keys)
    for left, (name, share) in zip(range(len(wanted), 0, -1), wanted.items(), strict=True):
        taken = _take(groups, share * len(keys), len(groups) - left)
        for group in taken:
            for row in group.rows:
                splits[row] = name
        chosen = set(taken)
        groups = [group for group in groups if group not in chosen]
    return splits


def _take(groups: Sequence[_Group], target: float, most_groups: int) -> list[_Group]:
    """Take groups in their order, leaving out those that would lead further from the target; at least one."""
    taken: list[_Group] = []
    count = 0
    for group in groups:
        if count >= target or len(taken) == most_groups:
            break
        if abs(count + len(group.rows) - target) <= target - count:
            taken.append(group)
            count += len(group.rows)
    return taken or [min(groups, key=lambda group: len(group.rows))]


def _groups(keys: Sequence[RowKeys], seed: int) -> list[_Group]:
    """Join rows that share a question or a topic (union-find over the rows)."""
    parent = list(range(len(keys)))

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    first_with: dict[tuple[str, bytes], int] = {}
    for row, key in enumerate(keys):
        for shared in (("question", key.question), *(("topic", topic) for topic in key.topics)):
            other = first_with.setdefault(shared, row)
            parent[root(row)] = root(other)
    members: dict[int, list[int]] = defaultdict(list)
    for row in range(len(keys)):
        members[root(row)].append(row)
    return [
        _Group(rank_of(seed, "split", min(keys[row].question for row in rows)), tuple(rows))
        for rows in members.values()
    ]
