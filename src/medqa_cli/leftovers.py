"""Temporary files and folders that a killed run left beside what it was writing: the next run removes them.

They may hold somebody's questions and answers. A living run holds a lock on each of its own, so that another run leaves
it alone; Windows has no such lock, there only files are removed, since those in use cannot be.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

OLD = ".old"
_RANDOM = r"[a-z0-9_]{8}"  # of tempfile


def sweep(path: Path) -> None:
    """Remove what killed runs left of writing ``path``; put back an old folder that one had moved out of the way.

    Never raises: what cannot be removed stays.
    """
    left = re.compile(rf"\.{re.escape(path.name)}\.{_RANDOM}\.(tmp|old)")
    with contextlib.suppress(OSError):
        for entry in sorted(path.parent.iterdir()):
            found = left.fullmatch(entry.name)
            if found is None:
                continue
            with held(entry) as is_ours:
                if not is_ours:
                    continue
                if found[1] == "old" and not os.path.lexists(path):
                    entry.rename(path)
                else:
                    remove(entry)


@contextlib.contextmanager
def held(path: Path) -> Iterator[bool]:
    """Hold a file or folder; tells whether it is ours: not if another run holds it, or nothing here can be held."""
    if sys.platform == "win32":
        yield not path.is_dir()
        return
    import fcntl

    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        yield False
        return
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_ours = True
        except OSError:
            is_ours = False
        # Whoever held it may have removed or renamed it meanwhile.
        yield is_ours and _is_still_there(handle, path)
    finally:
        os.close(handle)


def _is_still_there(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.lstat())
    except OSError:
        return False


def remove(path: Path) -> bool:
    """Remove a file or folder; tell whether it is gone."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
    return not os.path.lexists(path)
