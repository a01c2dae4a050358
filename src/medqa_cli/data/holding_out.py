"""Which row goes where: the draw of max_rows, the split by topic, and the purge of what is too like a held-out answer.

Does not see texts, only keys and sketches.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress

from medqa_cli import console
from medqa_cli.config.schema import DataConfig
from medqa_cli.data.near_duplicates import AnswerSketches
from medqa_cli.data.near_search import NOT_FOUND
from medqa_cli.data.normalize import RowKeys, draw
from medqa_cli.data.splitting import SPLITS, assign_splits
from medqa_cli.errors import InputError

SMALL_DIFFERENCE = 5  # rows
NOT_SAMPLED = "not_sampled"
NEAR_TEST = "near_duplicate_of_test"
NEAR_VALIDATION = "near_duplicate_of_validation"


def place_rows(keys: Sequence[RowKeys], sketches: AnswerSketches, data: DataConfig, seed: int) -> list[str]:
    """Decide about each row that the first pass let through.

    Args:
        keys: the keys of the rows.
        sketches: their answers, with the same numbers.
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


def _purge(places: list[str], sketches: AnswerSketches, purged: tuple[str, ...], held_out: str, reason: str) -> None:
    rows = [row for row, place in enumerate(places) if place in purged]
    others = [row for row, place in enumerate(places) if place == held_out]
    for row, other in zip(rows, sketches.near(rows, others), strict=True):
        if other != NOT_FOUND:
            places[row] = reason


def _check_splits_left(places: Sequence[str]) -> None:
    if "train" in places:
        return
    near = sum(place in (NEAR_TEST, NEAR_VALIDATION) for place in places)
    raise InputError(
        f"no row is left for training: {near:,} rows have an answer that is equal or nearly equal to a held-out one, "
        f"{sum(place in SPLITS for place in places):,} rows are held out",
        "answers that repeat (yes, no) leave nothing to hold out: give rows with answers of their own, "
        "or hold out nothing: --set data.validation_fraction=0 --set data.test_fraction=0",
    )


def _warn_of_odd_size(name: str, wanted: float, places: Sequence[str]) -> None:
    """Say where a split is empty or far from its share: large topics cannot be divided, and the purge takes rows."""
    kept = sum(place in SPLITS for place in places)
    held_out = places.count(name)
    if wanted and (not held_out or abs(held_out - wanted * kept) > max(wanted * kept / 2, SMALL_DIFFERENCE)):
        console.warn(
            f"the {name} split holds {held_out:,} of {kept:,} rows, not {100 * wanted:.0f} %: rows of one topic stay "
            "together, and near copies of test answers leave validation (is data.topic_column a coarse category?)"
        )
