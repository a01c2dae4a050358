"""Which row goes where: the draw of max_rows, the split by topic, the purge of near copies of held-out answers.

Rows that share a question or a topic stay in one split. Works on keys and sketches alone.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress

from medqa_cli import console
from medqa_cli.config.schema import DataConfig
from medqa_cli.data.data_folder import SPLITS
from medqa_cli.data.near_duplicates import NOT_FOUND, RowSketches
from medqa_cli.data.normalize import RowKeys, rank_of
from medqa_cli.errors import ConfigError, InputError

SMALL_DIFFERENCE = 5  # rows
NOT_SAMPLED = "not_sampled"
NEAR_TEST = "near_duplicate_of_test"
NEAR_VALIDATION = "near_duplicate_of_validation"


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


def place_rows(keys: Sequence[RowKeys], sketches: RowSketches, data: DataConfig, seed: int) -> list[str]:
    """Assign each row that passed the filters to a split, or reject it.

    Args:
        keys: the keys of the rows.
        sketches: the rows, with the same numbers.
        data: the section of the config.
        seed: draws the rows of ``max_rows`` and the splits.

    Returns:
        for each row a split, or the reason why it is rejected: ``not_sampled``, ``near_duplicate_of_test``,
        ``near_duplicate_of_validation``.

    Raises:
        InputError: there are too few rows to split, or none is left for training.
    """
    drawn = draw([key.pair for key in keys], data.max_rows, seed)
    assigned = iter(assign_splits(list(compress(keys, drawn)), data.validation_fraction, data.test_fraction, seed))
    places = [next(assigned) if is_drawn else NOT_SAMPLED for is_drawn in drawn]
    # The test split first: a validation row that goes for its sake holds nothing back from train.
    _purge(places, sketches, ("validation", "train"), "test", NEAR_TEST)
    _purge(places, sketches, ("train",), "validation", NEAR_VALIDATION)
    _check_splits_left(places)
    for name, share in (("validation", data.validation_fraction), ("test", data.test_fraction)):
        _warn_of_odd_size(name, share, places)
    return places


def draw(keys: Sequence[bytes], max_rows: int | None, seed: int) -> list[bool]:
    """Draw at most ``max_rows`` rows by the seed; which ones does not depend on their order.

    Returns:
        for each row whether it is drawn.
    """
    if max_rows is None or len(keys) <= max_rows:
        return [True] * len(keys)
    drawn = set(heapq.nsmallest(max_rows, range(len(keys)), key=lambda index: rank_of(seed, "draw", keys[index])))
    return [index in drawn for index in range(len(keys))]


@dataclass(frozen=True)
class _Group:
    """Rows that must stay together, and the rank of the group in the order drawn by the seed."""

    rank: bytes
    rows: tuple[int, ...]


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


def _purge(places: list[str], sketches: RowSketches, purged: tuple[str, ...], held_out: str, reason: str) -> None:
    rows = [row for row, place in enumerate(places) if place in purged]
    others = [row for row, place in enumerate(places) if place == held_out]
    near = sketches.near(rows, others, sketches.of_little_meaning(others))
    for row, other in zip(rows, near, strict=True):
        if other != NOT_FOUND:
            places[row] = reason


def _check_splits_left(places: Sequence[str]) -> None:
    if "train" in places:
        return
    near = sum(place in (NEAR_TEST, NEAR_VALIDATION) for place in places)
    raise InputError(
        f"no row is left for training: {near:,} rows have an answer that is equal or nearly equal to a held-out one, "
        f"{sum(place in SPLITS for place in places):,} rows are held out",
        "answers that say nearly the same leave nothing to hold out: give rows with answers of their own, "
        "or hold out nothing: --set data.validation_fraction=0 --set data.test_fraction=0",
    )


def _warn_of_odd_size(name: str, wanted: float, places: Sequence[str]) -> None:
    """Warn where a split is empty or far from its fraction: topics stay whole, and the purge takes rows."""
    kept = sum(place in SPLITS for place in places)
    held_out = places.count(name)
    if wanted and (not held_out or abs(held_out - wanted * kept) > max(wanted * kept / 2, SMALL_DIFFERENCE)):
        console.warn(
            f"the {name} split holds {held_out:,} of {kept:,} rows, not {100 * wanted:.0f} %: rows of one topic stay "
            "together, and near copies of test answers leave validation (is data.topic_column a coarse category?)"
        )
