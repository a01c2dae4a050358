"""What a merge is made from, so that the same merge is not made twice; and whether a finished one is still whole.

Adapter files are told by their content, the base's by name, size and time of change: hashing a base of many gigabytes
takes longer than merging it. Does not merge.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medqa_cli import console
from medqa_cli.errors import InputError
from medqa_cli.files import read_json, sha256_of_file
from medqa_cli.model.resolve import ModelRef
from medqa_cli.model.weights import WeightFiles

MERGE_FILE_NAME = "merge.json"
# Raise it when the same inputs give another folder.
_FORMAT_VERSION = 1


def describe_inputs(
    adapter_dir: Path, source: ModelRef, base: WeightFiles, options: Mapping[str, Any], validation_path: Path
) -> dict[str, Any]:
    """Return what decides about the merged folder, as JSON gives it back.

    Args:
        adapter_dir: the adapter.
        source: the base as it is named.
        base: its weight files.
        options: what was asked for, and how the base was quantized in training.
        validation_path: the split that merged models are compared on; may be missing.
    """
    files = [*base.paths, base.folder / "config.json"]
    return {
        "format_version": _FORMAT_VERSION,
        "adapter": {
            path.name: sha256_of_file(path)
            for path in sorted(adapter_dir.iterdir())
            # PEFT's own README holds no more than the config.
            if path.is_file() and path.name != "README.md"
        },
        "base": {
            "name": source.name,
            "revision": source.revision,
            # [size in bytes, time of change in nanoseconds]
            "files": {path.name: [path.stat().st_size, path.stat().st_mtime_ns] for path in files},
        },
        "options": dict(options),
        "validation_sha256": sha256_of_file(validation_path) if validation_path.is_file() else None,
    }


def finished_merge(out_dir: Path, inputs: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the ``merge.json`` of a folder that was made from these inputs and is whole; None if it must be made.

    Raises:
        InputError: the folder holds something that ``medqa merge`` did not write.
    """
    path = out_dir / MERGE_FILE_NAME
    if not path.is_file():
        if out_dir.exists() and not (out_dir.is_dir() and not any(out_dir.iterdir())):
            raise InputError(f"{out_dir} exists and was not made by medqa merge", "choose another folder: --out DIR")
        return None
    try:
        before = read_json(path)
    except InputError:
        console.note(f"{path} is damaged: merging again")
        return None
    if not isinstance(before, dict) or before.get("inputs") != inputs:
        console.note(f"{out_dir} holds an earlier merge, of other inputs: it is replaced")
        return None
    sizes = before.get("files")
    damaged = [
        name for name, size in (sizes if isinstance(sizes, dict) else {}).items() if _size(out_dir / name) != size
    ]
    if damaged or not sizes:
        console.note(f"{out_dir} is not whole ({', '.join(damaged[:3]) or 'no list of files'}): merging again")
        return None
    return before


def file_sizes(folder: Path) -> dict[str, int]:
    """Return the size in bytes of each file in a folder but ``merge.json``."""
    return {
        path.name: path.stat().st_size
        for path in sorted(folder.iterdir())
        if path.is_file() and path.name != MERGE_FILE_NAME
    }


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else -1
