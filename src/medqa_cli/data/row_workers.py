"""The processes that share convert's work on rows: how many, and when they start.

Apart from ``row_work``, which imports numpy: the processes start while this one still loads its libraries.
"""

from collections.abc import Sequence
from pathlib import Path

from medqa_cli.environment import usable_cores
from medqa_cli.workers import Workers

# More do not help: convert itself has to read the rows and to take what the others make of them.
MOST_WORKERS = 8
# Of a table, of which convert can be sure before it has read any of it that sharing saves time.
MANY_BYTES = 4 << 20
_WORK = "medqa_cli.data.row_work"
_ON_LOST_WORKER = "where memory ran out, close what else uses it, or start fewer processes: --workers 1"


def row_workers(count: int | None, are_many: bool = True) -> Workers:
    """Start the processes beside this one; to be ended by a ``with`` statement.

    Args:
        count: how many, this one included; None: one for each core, up to ``MOST_WORKERS``, or this one alone where the
            rows are not many.
        are_many: there are so many rows that sharing saves time.
    """
    if count is None:
        count = min(len(usable_cores()), MOST_WORKERS) if are_many else 1
    return Workers(count, _ON_LOST_WORKER, _WORK)


def early_row_workers(paths: Sequence[Path], count: int | None) -> Workers | None:
    """Start the processes before the sources are opened, where they will be needed; None: that shows later.

    They load what they need while this process does.
    """
    if count is None and sum(path.stat().st_size for path in paths if path.is_file()) < MANY_BYTES:
        return None
    return row_workers(count)
