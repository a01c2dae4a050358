"""What killed runs leave: temporary files and folders, which the next run removes, and scratch folders, which it names.

A running process holds a lock on its temporary files, so that others leave them alone. Windows has no such lock: there
only files are removed, since open ones cannot be.
"""

import contextlib
import os
import re
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

_RANDOM = r"[a-z0-9_]{8}"  # of tempfile


def sweep(path: Path) -> None:
    """Remove what killed runs left while writing ``path``; restore an old folder that one had moved out of the way.

    Never raises: what cannot be removed stays.
    """
    left = re.compile(rf"\.{re.escape(path.name)}\.{_RANDOM}\.(tmp|old)")
    with contextlib.suppress(OSError):
        for entry in sorted(path.parent.iterdir()):
            match = left.fullmatch(entry.name)
            if match is None:
                continue
            with held(entry) as is_ours:
                if not is_ours:
                    continue
                if match[1] == "old" and not os.path.lexists(path):
                    entry.rename(path)
                else:
                    remove(entry)


def sweep_folder(folder: Path) -> list[Path]:
    """Remove what killed runs left in a folder of medqa's own, whatever they were writing; see ``sweep``.

    Returns:
        temporary files and folders that are still there: another run holds them, or they cannot be removed.
    """
    left = re.compile(rf"\.(?P<name>.+)\.{_RANDOM}\.(tmp|old)")

    def found() -> list[re.Match[str]]:
        with contextlib.suppress(OSError):
            return [match for entry in sorted(folder.iterdir()) if (match := left.fullmatch(entry.name))]
        return []

    for match in found():
        sweep(folder / match["name"])
    return [folder / match[0] for match in found()]


def old_scratch_folders(age_seconds: float) -> list[Path]:
    """Return this user's scratch folders in the system's temporary folder that are older than this.

    A killed run leaves them, with texts in them; nothing tells whether a long run still needs one.
    """
    now, mine = time.time(), getattr(os, "getuid", lambda: None)()
    old = []
    with contextlib.suppress(OSError):
        for path in sorted(Path(tempfile.gettempdir()).glob("medqa-*")):
            with contextlib.suppress(OSError):
                status = path.lstat()
                if (
                    stat.S_ISDIR(status.st_mode)
                    and now - status.st_mtime > age_seconds
                    and mine in (None, status.st_uid)
                ):
                    old.append(path)
    return old


@contextlib.contextmanager
def held(path: Path) -> Iterator[bool]:
    """Lock a file or folder; yields whether it is ours: not if another run holds it, or if it cannot be locked."""
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
            # The run that held it may have removed or renamed it in the meantime.
            is_ours = os.path.samestat(os.fstat(handle), path.lstat())
        except OSError:
            is_ours = False
        yield is_ours
    finally:
        os.close(handle)


def remove(path: Path) -> bool:
    """Remove a file or folder; tell whether it is gone."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
    return not os.path.lexists(path)
