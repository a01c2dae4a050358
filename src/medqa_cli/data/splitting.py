"""Which row goes where: the draw of max_rows, the split by topic, the purge of near copies of held-out answers.

Rows that share a question or a topic stay in one split. Works on keys and sketches alone.
"""

import heapq
from collections import defaultdict
from collections.abc import Sequence
from itertools import compress

from medqa_cli import console
from medqa_cli.config.schema import DataConfig
from medqa_cli.data.dataset import SPLITS
from medqa_cli.data.minhash import NOT_FOUND
from medqa_cli.data.near_duplicates import RowSketches
from medqa_cli.data.normalize import RowKeys, rank_of
from medqa_cli.errors import InputError

SMALL_DIFFERENCE = 5  # rows
NOT_SAMPLED = "not_sampled"
NEAR_TEST = "near_duplicate_of_test"
NEAR_VALIDATION = "near_duplicate_of_validation"


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
    num_kept = sum(place in SPLITS for place in places)
    if "train" not in places:
        near = sum(place in (NEAR_TEST, NEAR_VALIDATION) for place in places)
        raise InputError(
            f"no row is left for training: {near:,} rows have an answer that is equal or nearly equal to a held-out "
            f"one, {num_kept:,} rows are held out",
            "answers that say nearly the same leave nothing to hold out: give rows with answers of their own, "
            "or hold out nothing: --set data.validation_fraction=0 --set data.test_fraction=0",
        )
    for name, share in (("validation", data.validation_fraction), ("test", data.test_fraction)):
        # Topics stay whole, and the purge takes rows.
        held_out = places.count(name)
        if share and (not held_out or abs(held_out - share * num_kept) > max(share * num_kept / 2, SMALL_DIFFERENCE)):
            console.warn(
                f"the {name} split holds {held_out:,} of {num_kept:,} rows, not {100 * share:.0f} %: rows of one topic "
                "stay together, and near copies of test answers leave validation (is data.topic_column a coarse "
                "category?)"
            )
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


def assign_splits(keys: Sequence[RowKeys], validation_fraction: float, test_fraction: float, seed: int) -> list[str]:
    """Assign each row to a split; rows with the same question or topic, also through other rows, stay together.

    So do the rows of a conversation, and those of conversations that begin with the same question.

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
    groups = _groups(keys, seed)
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
        taken: list[tuple[int, ...]] = []
        target, count = share * len(keys), 0
        # Without the groups that would lead further from the target; at least one.
        for group in groups:
            if count >= target or len(taken) == len(groups) - left:
                break
            if abs(count + len(group) - target) <= target - count:
                taken.append(group)
                count += len(group)
        for group in taken or [min(groups, key=len)]:
            for row in group:
                splits[row] = name
        groups = [group for group in groups if splits[group[0]] == "train"]
    return splits


def _groups(keys: Sequence[RowKeys], seed: int) -> list[tuple[int, ...]]:
    """Join rows that share a question or a topic (union-find over the rows), in the order that the seed draws."""
    parent = list(range(len(keys)))

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    first_with: dict[tuple[str, bytes], int] = {}
    for row, key in enumerate(keys):
        opening = [("question", key.opening)] if key.opening else []
        for shared in (("question", key.question), *opening, *(("topic", topic) for topic in key.topics)):
            other = first_with.setdefault(shared, row)
            parent[root(row)] = root(other)
    members: dict[int, list[int]] = defaultdict(list)
    for row in range(len(keys)):
        members[root(row)].append(row)
    ranked = [(rank_of(seed, "split", min(keys[row].question for row in rows)), rows) for rows in members.values()]
    return [tuple(rows) for _, rows in sorted(ranked, key=lambda group: group[0])]


def _purge(places: list[str], sketches: RowSketches, purged: tuple[str, ...], held_out: str, reason: str) -> None:
    rows = [row for row, place in enumerate(places) if place in purged]
    others = [row for row, place in enumerate(places) if place == held_out]
    near = sketches.near_rows(rows, others, sketches.of_little_meaning(others))
    for row, other in zip(rows, near, strict=True):
        if other != NOT_FOUND:
            places[row] = reason
