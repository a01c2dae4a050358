"""Keeps the answers of an unfinished run beside the output file, so that it can be taken up again.

One JSON object a line: first what the answers belong to, then each answer with the number of its question, in the
order in which they were made. Does not answer.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from medqa_cli import console
from medqa_cli.errors import InputError
from medqa_cli.files import atomic_file, remove, sweep

Answers = dict[int, dict[str, Any]]


def fingerprint(*parts: Any) -> str:
    """Return a digest of everything that decides the answers: questions, model, settings."""
    return hashlib.sha256(json.dumps(parts, ensure_ascii=False, sort_keys=True, default=str).encode()).hexdigest()


def require_new(out: Path) -> None:
    """Refuse an output file that is there; remove the partial file of the run that finished it.

    Raises:
        InputError: it is.
    """
    sweep(out)
    if out.exists():
        _remove_finished(out)
        raise InputError(f"{out} is already there", "delete it, or name another file with --out")


class PartialAnswers:
    """The file ``OUT.partial``; a context manager that keeps it open for appending.

    Args:
        out: the output file; it must not be there yet.
        belongs_to: ``fingerprint`` of the run.

    Raises:
        InputError: the output is there, or the partial file belongs to another run or cannot be written.
    """

    def __init__(self, out: Path, belongs_to: str) -> None:
        require_new(out)
        self._out = out
        self.path = _partial_path(out)
        self.answers = _read(self.path, belongs_to)
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            # Whatever a killed run left half-written at the end goes.
            with atomic_file(self.path) as file:
                _write_lines(file, [{"belongs_to": belongs_to}, *_lines_of(self.answers)])
            self._file = open(self.path, "a", encoding="utf-8")  # noqa: SIM115 -- closed by __exit__
        except OSError as error:
            raise InputError(f"cannot write {self.path}: {error.strerror}") from error

    def __enter__(self) -> PartialAnswers:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._file.close()

    def add(self, answers: Answers) -> None:
        """Append answers; they are on the disk when this returns."""
        self.answers.update(answers)
        _write_lines(self._file, _lines_of(answers))
        self._file.flush()
        os.fsync(self._file.fileno())

    def finish(self) -> None:
        """Write all answers in the order of their questions to the output file, and delete the partial one."""
        with atomic_file(self._out) as file:
            _write_lines(file, [self.answers[number] for number in sorted(self.answers)])
        self._file.close()
        if not remove(self.path):
            console.warn(f"{self._out} is written, but {self.path} could not be deleted")


def _partial_path(out: Path) -> Path:
    return out.with_name(f"{out.name}.partial")


def _remove_finished(out: Path) -> None:
    """Remove a partial file all of whose answers stand in the finished one: a kill came between the two steps."""
    path = _partial_path(out)
    sweep(path)
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError, AttributeError):
        _, *partial = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]
        answers = {value["number"]: value["answer"] for value in partial}
        finished = [json.loads(line) for line in out.read_text(encoding="utf-8").split("\n")[:-1]]
        if [answers[number] for number in sorted(answers)] == finished:
            remove(path)


def _lines_of(answers: Answers) -> list[dict[str, Any]]:
    return [{"number": number, "answer": answer} for number, answer in answers.items()]


def _write_lines(file: IO[str], values: Iterable[Any]) -> None:
    file.writelines(json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n" for value in values)


def _read(path: Path, belongs_to: str) -> Answers:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    values = []
    # Not splitlines: JSON leaves other line ends inside a text as they are. What has no line end is cut off.
    for line in lines[:-1]:
        try:
            values.append(json.loads(line))
        except ValueError:
            break
    if not values or values[0] != {"belongs_to": belongs_to}:
        raise InputError(
            f"{path} holds answers to other questions, of another model or with other settings",
            "delete it, or name another file with --out",
        )
    return {value["number"]: value["answer"] for value in values[1:]}
