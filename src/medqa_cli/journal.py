"""Finished pieces of work, kept on the disk as they are done, so that an interrupted run resumes where it stopped.

A journal is a file of JSON lines: the fingerprint of the work, then ``[key, value]`` for each piece.
"""

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
from medqa_cli.files import atomic_file
from medqa_cli.leftovers import remove, sweep

T = TypeVar("T")


def fingerprint(*parts: Any) -> str:
    """Return a digest of everything that the results of the work depend on."""
    return hashlib.sha256(json.dumps(parts, ensure_ascii=False, sort_keys=True, default=str).encode()).hexdigest()


def read_journal(path: Path, belongs_to: str | None = None) -> dict[Any, Any] | None:
    """Return the finished pieces, up to the first damaged line; None if the file belongs to other work.

    ``belongs_to``: ``fingerprint`` of the work; None: any.

    Raises:
        OSError: it cannot be read.
    """
    try:
        # Not splitlines: JSON keeps other line ends inside a text. A last line without its end is incomplete.
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
        path: the file; it is rewritten, without what a killed run left incomplete.
        belongs_to: ``fingerprint`` of the work.
        pieces: the finished pieces.

    Raises:
        InputError: the file cannot be written.
    """

    def __init__(self, path: Path, belongs_to: str, pieces: Mapping[Any, Any]) -> None:
        self.path = path
        self.pieces = dict(pieces)
        try:
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
        """Close the file; it stays for the next start."""
        self._file.close()

    def add(self, pieces: Mapping[Any, Any]) -> None:
        """Append finished pieces; they are on the disk when this returns."""
        self.pieces.update(pieces)
        self._file.writelines(map(_line, pieces.items()))
        self._file.flush()
        os.fsync(self._file.fileno())


class SharedJournal:
    """Finished pieces of all ranks, one file per rank in a folder; use it in a ``with`` statement on all ranks.

    Args:
        folder: where the files are; ``finish`` deletes them.
        settings: everything that the pieces depend on, as JSON. Files of other settings are renamed: a start with
            those goes on from them.

    Attributes:
        set_aside: the pieces of other settings whose files it has renamed; known once it is entered.
    """

    def __init__(self, folder: Path, settings: Any) -> None:
        self._folder = folder
        self._belongs_to = fingerprint(settings)
        self._pieces: dict[str, Any] = {}
        self.set_aside: dict[str, Any] = {}
        self._journal: Journal

    def __enter__(self) -> Self:
        """Read the pieces of all ranks of earlier runs, and open a file for more."""

        def open_main() -> tuple[dict[str, Any], dict[str, Any]]:
            pieces: dict[str, Any] = {}
            set_aside: dict[str, Any] = {}
            taken: list[Path] = []
            own = sorted(self._folder.glob(f"{_name_aside(json.dumps(self._belongs_to))}*.jsonl"))
            for path in [*own, *sorted(self._folder.glob("progress*.jsonl"))]:
                with contextlib.suppress(OSError):
                    if (found := read_journal(path, self._belongs_to)) is not None:
                        pieces |= found
                        taken.append(path)
                    elif of_others := read_journal(path):
                        _set_aside(path)
                        set_aside |= of_others
            # Before the other ranks start their files, which overwrites those of the last run.
            self._journal = Journal(self._folder / "progress.jsonl", self._belongs_to, pieces)
            for path in set(own).intersection(taken):
                remove(path)
            return pieces, set_aside

        self._pieces, self.set_aside = distributed.from_main(open_main)
        if not distributed.is_main():
            self._journal = Journal(self._folder / f"progress-{distributed.rank()}.jsonl", self._belongs_to, {})
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file; it stays for the next start."""
        self._journal.close()

    @property
    def num_done(self) -> int:
        """Number of finished pieces."""
        return len(self._pieces)

    def run(
        self, pieces: Mapping[str, Callable[[], Any]], on_done: Callable[[str], None] = lambda name: None
    ) -> list[Any]:
        """Compute the missing pieces, each on one rank, and return all of them in their order.

        Args:
            pieces: by name; their values must survive JSON.
            on_done: called with the name of each piece as soon as this rank has computed it.
        """
        pending = [name for name in pieces if name not in self._pieces]
        of_rank = pending[distributed.rank() :: distributed.world_size()]
        for name in of_rank:
            self._journal.add({name: (value := pieces[name]())})
            self._pieces[name] = value
            on_done(name)
        if distributed.world_size() > 1:
            for computed in distributed.all_gather({name: self._pieces[name] for name in of_rank}):
                self._pieces.update(computed)
        return [self._pieces[name] for name in pieces]

    def map(
        self,
        name: str,
        compute: Callable[[Sequence[T], Callable[[float], None]], Sequence[Any]],
        items: Sequence[T],
        *,
        size: int,
        title: str,
        length: Callable[[T], int] | None = None,
    ) -> list[Any]:
        """Compute a value for each item, several items in a piece of work, with a progress bar.

        The pieces are the same in every run, so an interrupted run, or one on several ranks, gives the same values.

        Args:
            name: of the work, the same in every run.
            compute: returns the values of some items, which must survive JSON; may report how many it has so far,
                with a fraction for those that are half done.
            items: what to compute values of.
            size: items in a piece.
            title: label of the bar.
            length: sorts the items so that similar lengths share a piece; None: keeps their order.

        Returns:
            the values in the order of the items.
        """
        order = sorted(range(len(items)), key=lambda index: length(items[index]) if length else 0)
        parts = {
            f"{name}/{number}": order[start : start + size] for number, start in enumerate(range(0, len(order), size))
        }
        done = sum(len(indices) for part, indices in parts.items() if part in self._pieces)
        computed = 0  # by this rank; the others are as fast
        with console.progress(title, len(items), done) as bar:

            def tell(count: float) -> None:
                bar.update(min(len(items), done + (computed + count) * distributed.world_size()))

            def work(part: Sequence[int]) -> Sequence[Any]:
                return compute([items[index] for index in part], tell)

            def advance(part: str) -> None:
                nonlocal computed
                computed += len(parts[part])
                tell(0)

            pieces = self.run({part: partial(work, indices) for part, indices in parts.items()}, advance)
        values = dict(zip(order, itertools.chain.from_iterable(pieces), strict=True))
        return [values[index] for index in range(len(items))]

    def finish(self) -> None:
        """Delete the files, once everything is in its final place."""
        if distributed.is_main():
            for path in self._folder.glob("progress*.jsonl"):
                sweep(path)
                if not remove(path):
                    console.warn(f"everything is written, but {path} could not be deleted")


def _set_aside(path: Path) -> None:
    """Rename the file of other work, which the next journal would overwrite.

    Raises:
        InputError: it cannot be renamed.
    """
    first, _, _ = path.read_text(encoding="utf-8", errors="replace").partition("\n")
    to = path.with_name(path.name.replace("progress", _name_aside(first), 1))
    try:
        path.replace(to)
    except OSError as error:
        raise InputError(f"cannot rename {path}, an interrupted run, to {to.name}: {error.strerror}") from error


def _name_aside(first_line: str) -> str:
    return f"interrupted-{fingerprint(first_line)[:12]}"


def _line(piece: tuple[Any, Any]) -> str:
    return json.dumps(piece, ensure_ascii=False, allow_nan=False) + "\n"
