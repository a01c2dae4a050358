"""Names in messages: lists of them, and the one that a misspelled one probably means."""

import difflib
from collections.abc import Iterable, Mapping, Sequence

# Every word with one letter left out or two swapped finds its key; a lower one finds keys that say something else.
CUTOFF = 0.65
MOST_NAMES = 20
LONGEST_NAME = 40


def similarity(word: str, name: str) -> float:
    """Return how alike two names are, from 0 to 1, in the sense of ``difflib``; below the cutoff 0."""
    matcher = difflib.SequenceMatcher(None, _folded(word), _folded(name))
    # From the cheapest upper bound to the value itself.
    if matcher.real_quick_ratio() < CUTOFF or matcher.quick_ratio() < CUTOFF:
        return 0.0
    ratio = matcher.ratio()
    return ratio if ratio >= CUTOFF else 0.0


def closest(word: str, names: Iterable[str]) -> str | None:
    """Return the name that ``word`` probably means, or None if none is near."""
    best = max(names, key=lambda name: similarity(word, name), default=None)
    return best if best is not None and similarity(word, best) else None


def did_you_mean(word: str, names: Iterable[str]) -> str:
    """Return ``; did you mean 'NAME'?`` for the name that ``word`` probably means, or nothing."""
    return suggestion(closest(word, names))


def suggestion(name: str | None) -> str:
    """Return the end of a message that suggests a name; nothing for None."""
    return f"; did you mean '{name}'?" if name else ""


def listed(names: Sequence[str]) -> str:
    """Return the names quoted and separated by commas, long names and long lists cut."""
    shown = [f"'{name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 3] + '...'}'" for name in names]
    more = len(names) - MOST_NAMES
    return ", ".join(shown[:MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


def counted(counts: Mapping[str, int]) -> str:
    """Return ``48 exact_duplicate, 5 empty_answer``, the most frequent first."""
    return ", ".join(f"{count:,} {reason}" for reason, count in by_count(counts))


def by_count(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    """Return names with their counts, the most frequent first."""
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def with_noun(count: int, noun: str) -> str:
    """Return a number with its noun: ``1 topic``, ``2,000 topics``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def distinct_ends(paths: Sequence[Sequence[str]]) -> list[str]:
    """Return the shortest ends of paths that differ, so that no name holds more of a machine's folders than it must.

    Args:
        paths: the parts of each path, no two of which are equal.
    """
    ends = (["/".join(parts[-length:]) for parts in paths] for length in range(1, 1 + max(map(len, paths))))
    return next(names for names in ends if len(set(names)) == len(names))


def _folded(name: str) -> str:
    return name.strip().casefold().replace("-", "_")
