"""Pieces of work that are divided among ranks, and kept as they are done, so that an interrupted evaluation goes on.

Each piece is whole or absent, and pieces are cut the same way in every run, so that a run in two halves, or on several
ranks, gives the very numbers of a run in one. Does not know what the pieces are.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from medqa_cli import console, distributed
from medqa_cli.errors import InputError
from medqa_cli.files import atomic_file, remove, sweep

_NAME = "progress"


class Progress:
    """Finished pieces in files of a folder, one file a rank; to be used in a ``with`` statement, by all ranks.

    Args:
        folder: where the files are; ``finish`` deletes them.
        settings: all that the pieces depend on, as JSON; pieces computed under other settings are dropped.
    """

    def __init__(self, folder: Path, settings: Any) -> None:
        self._folder = folder
        text = json.dumps(settings, sort_keys=True, ensure_ascii=False)
        self._fingerprint = hashlib.sha256(text.encode()).hexdigest()
        self._done: dict[str, Any] = {}
        self._file: IO[str] | None = None

    def __enter__(self) -> Self:
        """Read what all ranks of earlier runs have done, and open a file for more."""
        self._done = distributed.from_main(self._read_and_join)
        path = self._folder / (f"{_NAME}.jsonl" if distributed.is_main() else f"{_NAME}-{distributed.rank()}.jsonl")
        if not distributed.is_main():
            self._write(path, {})
        try:
            self._file = open(path, "a", encoding="utf-8")
        except OSError as error:
            raise InputError(f"cannot write {path}: {error.strerror}") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the file; it stays, for the next start."""
        if self._file is not None:
            self._file.close()

    @property
    def num_done(self) -> int:
        """Number of finished pieces."""
        return len(self._done)

    def run(
        self, pieces: Mapping[str, Callable[[], Any]], on_done: Callable[[str], None] = lambda name: None
    ) -> list[Any]:
        """Compute the pieces that are not done, each on one rank, and return all of them in their order.

        Args:
            pieces: by name; their values must survive JSON.
            on_done: called with the name of each piece that this rank has, as soon as it has it.
        """
        pending = [name for name in pieces if name not in self._done]
        for name in pieces:
            if name in self._done:
                on_done(name)
        own = pending[distributed.rank() :: distributed.world_size()]
        for name in own:
            self._keep(name, pieces[name]())
            on_done(name)
        if distributed.world_size() > 1:
            for theirs in distributed.all_gather({name: self._done[name] for name in own}):
                self._done.update(theirs)
        return [self._done[name] for name in pieces]

    def finish(self) -> None:
        """Delete the files: everything is in its final place."""
        if distributed.is_main():
            for path in self._folder.glob(f"{_NAME}*.jsonl"):
                sweep(path)
                if not remove(path):
                    console.warn(f"all is written, but {path} could not be deleted")

    def _keep(self, name: str, value: Any) -> None:
        assert self._file is not None
        self._file.write(json.dumps([name, value], ensure_ascii=False) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self._done[name] = value

    def _read_and_join(self) -> dict[str, Any]:
        done: dict[str, Any] = {}
        for path in sorted(self._folder.glob(f"{_NAME}*.jsonl")):
            done |= self._read(path)
        # Written anew: a line that was cut off by a kill must not stand before the next one.
        self._write(self._folder / f"{_NAME}.jsonl", done)
        return done

    def _write(self, path: Path, done: dict[str, Any]) -> None:
        lines = [json.dumps(self._fingerprint), *(json.dumps(item) for item in done.items())]
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_file(path) as file:
                file.write("".join(line + "\n" for line in lines))
        except OSError as error:
            raise InputError(f"cannot write {path}: {error.strerror}") from error

    def _read(self, path: Path) -> dict[str, Any]:
        done: dict[str, Any] = {}
        try:
            lines = path.read_text(encoding="utf-8").rstrip("\n").split("\n")
            if json.loads(lines[0]) != self._fingerprint:
                return {}
            for line in lines[1:]:
                name, value = json.loads(line)
                done[name] = value
        except (OSError, ValueError):
            # The last line was cut off: what stands before it is whole.
            return done
        return done
