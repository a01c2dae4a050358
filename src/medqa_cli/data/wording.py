"""Small pieces of the messages of this package. Does not raise anything."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

MOST_NAMES = 20
LONGEST_NAME = 40


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``; did you mean 'X'?`` for the known name most like ``name``, or nothing."""
    by_folded = {other.strip().casefold(): other for other in known}
    close = difflib.get_close_matches(name.strip().casefold(), by_folded, n=1)
    return f"; did you mean '{by_folded[close[0]]}'?" if close else ""


def listed(names: Sequence[str]) -> str:
    """Return the names quoted and separated by commas, long names and long lists cut."""
    shown = [f"'{name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 3] + '...'}'" for name in names]
    more = len(names) - MOST_NAMES
    return ", ".join(shown[:MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


def counted(reasons: dict[str, int]) -> str:
    """Return ``48 exact_duplicate, 5 empty_answer``, the most frequent first."""
    ordered = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{count:,} {reason}" for reason, count in ordered)
