"""Small pieces of the messages of this package."""

from __future__ import annotations

from collections.abc import Sequence

MOST_NAMES = 20
LONGEST_NAME = 40


def listed(names: Sequence[str]) -> str:
    """Return the names quoted and separated by commas, long names and long lists cut."""
    shown = [f"'{name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 3] + '...'}'" for name in names]
    more = len(names) - MOST_NAMES
    return ", ".join(shown[:MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


def counted(reasons: dict[str, int]) -> str:
    """Return ``48 exact_duplicate, 5 empty_answer``, the most frequent first."""
    ordered = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{count:,} {reason}" for reason, count in ordered)
