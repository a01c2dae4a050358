"""The folder that ``medqa convert`` writes: the names of its files, its report, and whether it may be replaced."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medqa_cli.data.wording import listed
from medqa_cli.errors import InputError

SPLITS = ("train", "validation", "test")
REPORT_NAME = "report.json"
REJECTED_NAME = "rejected.jsonl"
LENGTHS_NAME = "lengths.png"
CARD_NAME = "README.md"
OWN_FILES = frozenset({REPORT_NAME, REJECTED_NAME, LENGTHS_NAME, CARD_NAME, *(f"{split}.jsonl" for split in SPLITS)})


def check_replaceable(out_dir: Path, name: str, paths: Sequence[Path], sha256: str | None, force: bool) -> None:
    """Check that writing the data set destroys nothing but an earlier data set of the same source.

    Args:
        out_dir: the folder to be written.
        name: the source as the report names it.
        paths: the files and folders to be converted.
        sha256: their digest; None: not known yet.
        force: allow to replace the data set of another source, though nothing else.

    Raises:
        InputError: the folder must not be replaced.
    """
    resolved = out_dir.resolve()
    if Path.cwd().resolve().is_relative_to(resolved):
        raise InputError(f"{out_dir} is or holds the current folder", "choose another: --out DIR")
    for path in paths:
        if path.resolve().is_relative_to(resolved):
            raise InputError(f"{path} lies in {out_dir}, which is replaced as a whole", "choose another: --out DIR")
    if not resolved.exists():
        return
    if not resolved.is_dir():
        raise InputError(f"{out_dir} is a file; expected a folder to write", "choose another: --out DIR")
    found = sorted(entry.name for entry in resolved.iterdir())
    if not found:
        return
    report = report_of(resolved)
    if report is None:
        raise InputError(
            f"{out_dir} holds files that medqa convert did not write: {listed(found)}", "choose another: --out DIR"
        )
    foreign = [name for name in found if name not in OWN_FILES]
    if foreign:
        raise InputError(
            f"{out_dir} also holds {listed(foreign)}, which would be lost", "move it away, or choose another: --out DIR"
        )
    earlier = report["source"]
    if not force and earlier.get("sha256") != sha256 and earlier.get("path") != name:
        raise InputError(
            f"{out_dir} was made from another source, {earlier.get('path')}",
            "replace it with --force, or choose another: --out DIR",
        )


def report_of(folder: Path) -> dict[str, Any] | None:
    """Return the report of a folder that ``medqa convert`` wrote, or None for any other folder."""
    try:
        report = json.loads((folder / REPORT_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    ours = isinstance(report, dict) and isinstance(report.get("source"), dict) and "splits" in report
    return report if ours else None
