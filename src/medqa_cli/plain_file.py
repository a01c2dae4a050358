"""Whether a path names what can be read as a file: a pipe may never end, nor a device."""

from __future__ import annotations

import stat
from pathlib import Path

from medqa_cli.errors import InputError


def odd_kind(path: Path) -> str:
    """Return what stands there in words where it is neither a file nor a folder, else nothing."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return ""  # opening it tells why
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
        return ""
    kinds = {stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
    return kinds.get(stat.S_IFMT(mode), "a device")


def require_file(path: Path) -> None:
    """Refuse what is no file and would be read as one; what is missing is left to its reader.

    Raises:
        InputError: it is a pipe, a socket or a device.
    """
    if kind := odd_kind(path):
        raise InputError(f"{path} is {kind}; expected a file", "copy its content to a file and name that")
