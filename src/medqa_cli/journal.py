"""Finished pieces of work, kept on the disk as they are done, so that an interrupted run goes on where it was.

A journal is a file of JSON lines: the fingerprint of the work, then ``[key, value]`` for each piece.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Self, TypeVar

from medqa_cli import console, distributed
from medqa_cli.errors import InputError
from medqa_cli.files import atomic_file, remove, sweep

T = TypeVar("T")


def fingerprint(*parts: Any) -> str:
    """Return a digest of everything that decides the results of the work."""
    return hashlib.sha256(json.dumps(parts, ensure_ascii=False, sort_keys=True, default=str).encode()).hexdigest()


def read_journal(path: Path, belongs_to: str | None = None) -> dict[Any, Any] | None:
    """Return the finished pieces, up to the first damaged line; None where the file is about other work.

    ``belongs_to``: ``fingerprint`` of the work; None: of any.

    Raises:
        OSError: it cannot be read.
    """
    try:
        # Not splitlines: JSON leaves other line ends inside a text as they are. A line without its end is cut off.
        first, *lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    except FileNotFoundError:
        return {}
    if not lines or (belongs_to is not None and first != json.dumps(belongs_to)):
        return None
    pieces = {}
    with contextlib.suppress(ValueError, TypeError):
        for line in lines[:-1]:
            key, value = json.loads(line)
            pieces[key] = value
    return pieces


class Journal:
    """One file of finished pieces, open for appending; use it in a ``with`` statement.

    Args:
        path: the file; it is written anew, without whatever a killed run left half-written.
        belongs_to: ``fingerprint`` of the work.
        pieces: those that are done.

    Raises:
        InputError: the file cannot be written.
    """

    def __init__(self, path: Path, belongs_to: str, pieces: Mapping[Any, Any]) -> None:
        self.path = path
        self.pieces = dict(pieces)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_file(path) as file:
                file.writelines([json.dumps(belongs_to) + "\n", *map(_line, pieces.items())])
            self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115 -- closed by __exit__
        except OSError as error:
            raise InputError(f"cannot write {path}: {error.strerror}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; it stays, for the next start."""
        self._file.close()

    def add(self, pieces: Mapping[Any, Any]) -> None:
        """Append finished pieces; they are on the disk when this returns."""
        self.pieces.update(pieces)
        self._file.writelines(map(_line, pieces.items()))
        self._file.flush()
        os.fsync(self._file.fileno())


class SharedJournal:
    """Finished pieces of all ranks, one file a rank in a folder; use it in a ``with`` statement on all ranks.

    Args:
        folder: where the files are; ``finish`` deletes them.
        settings: all that the pieces depend on, as JSON; pieces computed under other settings are dropped.
    """

    def __init__(self, folder: Path, settings: Any) -> None:
        self._folder = folder
        self._belongs_to = fingerprint(settings)
        self._pieces: dict[str, Any] = {}
        self._own: Journal

    def __enter__(self) -> Self:
        """Read what all ranks of earlier runs have done, and open a file for more."""
        self._pieces = distributed.from_main(self._open_main)
        if not distributed.is_main():
            self._own = Journal(self._folder / f"progress-{distributed.rank()}.jsonl", self._belongs_to, {})
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file; it stays, for the next start."""
        self._own.close()

    def _open_main(self) -> dict[str, Any]:
        pieces: dict[str, Any] = {}
        for path in sorted(self._folder.glob("progress*.jsonl")):
            with contextlib.suppress(OSError):
                pieces |= read_journal(path, self._belongs_to) or {}
        # Before the other ranks begin files of their own: those of the last run are lost then.
        self._own = Journal(self._folder / "progress.jsonl", self._belongs_to, pieces)
        return pieces

    @property
    def num_done(self) -> int:
        """Number of finished pieces."""
        return len(self._pieces)

    def run(
        self, pieces: Mapping[str, Callable[[], Any]], on_done: Callable[[str], None] = lambda name: None
    ) -> list[Any]:
        """Compute the pieces that are not done, each on one rank, and return all of them in their order.

        Args:
            pieces: by name; their values must survive JSON.
            on_done: called with the name of each piece that this rank has, as soon as it has it.
        """
        pending = [name for name in pieces if name not in self._pieces]
        for name in pieces:
            if name in self._pieces:
                on_done(name)
        own = pending[distributed.rank() :: distributed.world_size()]
        for name in own:
            self._own.add({name: (value := pieces[name]())})
            self._pieces[name] = value
            on_done(name)
        if distributed.world_size() > 1:
            for theirs in distributed.all_gather({name: self._pieces[name] for name in own}):
                self._pieces.update(theirs)
        return [self._pieces[name] for name in pieces]

    def map(
        self,
        name: str,
        compute: Callable[[Sequence[T], Callable[[int], None]], Sequence[Any]],
        items: Sequence[T],
        *,
        size: int,
        title: str,
        length: Callable[[T], int] | None = None,
    ) -> list[Any]:
        """Compute a value for each item, some items in a piece of work, with a progress bar.

        Pieces are cut the same way in every run: one in two halves, or on several ranks, gives the same values.

        Args:
            name: of the work, the same in every run.
            compute: returns the values of some items, which must survive JSON; may tell how many it has so far.
            items: what to compute values of.
            size: items in a piece.
            title: stands beside the bar.
            length: puts items of like length together; None: in their order.

        Returns:
            the values in the order of the items.
        """
        order = sorted(range(len(items)), key=lambda index: length(items[index]) if length else 0)
        parts = {
            f"{name}/{number}": order[start : start + size] for number, start in enumerate(range(0, len(order), size))
        }
        done = 0
        with console.progress(title, len(items)) as bar:

            def work(part: Sequence[int]) -> Sequence[Any]:
                return compute([items[index] for index in part], lambda count: bar.update(done + count))

            def advance(part: str) -> None:
                nonlocal done
                done += len(parts[part])
                bar.update(done)

            pieces = self.run({part: partial(work, own) for part, own in parts.items()}, advance)
        values = dict(zip(order, itertools.chain.from_iterable(pieces), strict=True))
        return [values[index] for index in range(len(items))]

    def finish(self) -> None:
        """Delete the files: everything is in its final place."""
        if distributed.is_main():
            for path in self._folder.glob("progress*.jsonl"):
                sweep(path)
                if not remove(path):
                    console.warn(f"all is written, but {path} could not be deleted")


def _line(piece: tuple[Any, Any]) -> str:
    return json.dumps(piece, ensure_ascii=False, allow_nan=False) + "\n"
