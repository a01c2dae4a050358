"""How ``sections`` declares a key: its default, one sentence on it, its range, the commands that act on it.

Does not check anything: ``values`` and ``checks`` do.
"""

from __future__ import annotations

from dataclasses import MISSING, field
from typing import Any


def setting(
    default: Any = MISSING,
    doc: str = "",
    *,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
    commands: str = "",
    is_path: bool = False,
) -> Any:
    """Declare one key, or (in ``Config``) a section.

    Args:
        default: the value when neither the file nor ``--set`` gives one; a callable is a factory.
        doc: one sentence with the unit and what special values mean.
        at_least: inclusive lower bound of a number.
        above: exclusive lower bound.
        at_most: inclusive upper bound.
        below: exclusive upper bound.
        commands: the commands that act on it, in the order of their use; empty: those of its section.
        is_path: it names a file or folder, in which ``~`` is the home folder.
    """
    metadata = {
        "doc": doc,
        "at_least": at_least,
        "above": above,
        "at_most": at_most,
        "below": below,
        "commands": tuple(commands.split()),
        "is_path": is_path,
    }
    if callable(default):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)
