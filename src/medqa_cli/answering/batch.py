"""Answer the questions of a file in batches of like length, and resume after an interruption."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from medqa_cli import console
from medqa_cli.answering import engines, generate, open_book
from medqa_cli.answering.open_book import Lookup
from medqa_cli.answering.question_files import AskedRow
from medqa_cli.config.schema import GenerateConfig
from medqa_cli.data.retrieval import Passage
from medqa_cli.errors import InputError, Interrupted
from medqa_cli.files import write_json_lines
from medqa_cli.journal import Journal, fingerprint, read_journal
from medqa_cli.leftovers import remove, sweep

_KEYS = {*generate.KEYS, "error"}

Answers = dict[int, dict[str, Any]]  # by the number of the question
LookUp = Callable[[str], tuple[Lookup, bool]]
"""Returns what the data says to a question, and whether that settles it, so that no model answers."""


def is_interrupted(out: Path) -> bool:
    """Tell whether answers of an interrupted run stand beside ``out``."""
    return _partial_path(out).exists()


def answers_of_the_data(rows: Sequence[AskedRow], look_up: LookUp) -> list[dict[str, Any]] | None:
    """Return the lines of ``answer_file`` where the data settles each row; None: some row needs the model."""
    answers = []
    for row in rows:
        try:
            _, answer = _asked_of_the_data(row, look_up)
        except InputError as error:
            answer = _refused(row, error)
        if answer is None:
            return None
        answers.append(answer)
    return answers


def answer_file(
    answerer: engines.Answerer,
    rows: Sequence[AskedRow],
    config: GenerateConfig,
    out: Path | None,
    identity: Any,
    look_up: LookUp = lambda question: (Lookup(), False),
    beside: Callable[[str], list[Passage]] = lambda question: [],
) -> list[dict[str, Any]]:
    """Answer all rows.

    Args:
        answerer: the model.
        rows: the questions with their other columns.
        config: decoding; ``batch_size`` questions at once.
        out: JSON Lines file to write; None: none, and an interruption loses all.
        identity: tells this model from others; answers of another one are not resumed.
        look_up: asks the data before the model.
        beside: returns passages to show that the model does not see.

    Returns:
        one object per row, in their order: the row's other columns and the keys of ``ask --json``. A question that
        cannot be answered has ``error`` instead of an answer.

    Raises:
        InputError: ``out`` exists, or its partial file belongs to another run.
        Interrupted: Ctrl-C; the finished answers are kept next to ``out``.
    """
    if out is None:
        answers: Answers = {}
        _answer_missing(answerer, rows, config, look_up, beside, answers, answers.update)
        return [answers[number] for number in sorted(answers)]
    settings = {key: value for key, value in asdict(config).items() if key != "batch_size"}
    belongs_to = fingerprint([[row.question, row.columns, row.context] for row in rows], identity, settings)
    with PartialAnswers(out, belongs_to) as partial:
        if partial.pieces:
            console.note(f"resuming after {len(partial.pieces)} of {len(rows)} questions")
        try:
            _answer_missing(answerer, rows, config, look_up, beside, partial.pieces, partial.add)
        except KeyboardInterrupt:
            kept = f"{len(partial.pieces)} of {len(rows)} answers are in {partial.path}"
            raise Interrupted(f"interrupted: {kept}", "give the same command again to resume") from None
        return partial.finish()


def _answer_missing(
    answerer: engines.Answerer,
    rows: Sequence[AskedRow],
    config: GenerateConfig,
    look_up: LookUp,
    beside: Callable[[str], list[Passage]],
    done: Mapping[int, dict[str, Any]],
    keep: Callable[[Answers], None],
) -> None:
    """Answer the rows that are not in ``done``; ``keep`` adds each batch of answers to it."""
    lookups, lengths, settled = _look_up_rows(answerer, rows, config, look_up)
    keep({number: answer for number, answer in settled.items() if number not in done})
    # Sorted by length: a batch is padded to its longest prompt.
    waiting = sorted((number for number in lengths if number not in done), key=lambda number: (lengths[number], number))
    size = engines.rows_at_once(answerer, config, max(lengths.values(), default=1))
    with console.progress("answering", len(rows), len(done)) as bar:
        for start in range(0, len(waiting), size):
            numbers = waiting[start : start + size]
            counter = itertools.count(len(done) + 1)
            answers = generate.answer_questions(
                answerer,
                [rows[number].question for number in numbers],
                config,
                passages=[lookups[number].passages for number in numbers],
                given=[rows[number].given for number in numbers],
                on_finished=lambda _, counter=counter: bar.update(next(counter)),  # type: ignore[misc]
            )
            objects = [
                generate.as_json(answer, answerer, lookups[number], beside(answer.question))
                for number, answer in zip(numbers, answers, strict=True)
            ]
            keep({number: _line(rows[number], one) for number, one in zip(numbers, objects, strict=True)})


def _look_up_rows(
    answerer: engines.Answerer, rows: Sequence[AskedRow], config: GenerateConfig, look_up: LookUp
) -> tuple[dict[int, Lookup], dict[int, int], Answers]:
    """Ask the data before the model.

    Returns:
        what the data says to each question, the length of each prompt that the model has to answer, and the rows that
        need no model: those that the data settles, and those that cannot be asked.
    """
    lookups: dict[int, Lookup] = {}
    lengths: dict[int, int] = {}
    settled: Answers = {}
    for number, row in enumerate(rows):
        try:
            lookups[number], answer = _asked_of_the_data(row, look_up)
            if answer is not None:
                settled[number] = answer
                continue
            passages, question = lookups[number].passages, generate.tidy(row.question)
            (prompt,) = generate.encode_asked(answerer.encoder, [question], [passages], [row.given])
            generate.max_answer_tokens(answerer, len(prompt), config.max_new_tokens, len(passages))
            lengths[number] = len(prompt)
        except InputError as error:
            settled[number] = _refused(row, error)
    return lookups, lengths, settled


def _asked_of_the_data(row: AskedRow, look_up: LookUp) -> tuple[Lookup, dict[str, Any] | None]:
    """Return what the data says to a row's question, and the row's line if that settles it.

    Raises:
        InputError: the question is empty.
    """
    question = generate.tidy(row.question)
    if not question:
        raise InputError("the question is empty")
    lookup, is_settled = look_up(generate.tidy(row.given.before(question)))
    return lookup, _line(row, open_book.as_json(question, lookup, row.given)) if is_settled else None


def _refused(row: AskedRow, error: InputError) -> dict[str, Any]:
    """Return the line of a row that cannot be asked."""
    return _line(row, {"question": row.question, "answer": None, "error": error.message})


def _line(row: AskedRow, answer: dict[str, Any]) -> dict[str, Any]:
    """Join a row's columns and its answer; a column named like a key of any answer gets the prefix ``input_``."""
    columns = {f"input_{key}" if key in _KEYS else key: cell for key, cell in row.columns.items()}
    return {**columns, **answer}


class PartialAnswers(Journal):
    """The journal ``OUT.partial`` of a run that writes ``out``.

    Args:
        out: the output file; it must not exist yet.
        belongs_to: ``fingerprint`` of the run.

    Raises:
        InputError: the output exists, or the partial file belongs to another run or cannot be written.
    """

    def __init__(self, out: Path, belongs_to: str) -> None:
        require_new(out)
        self._out, path = out, _partial_path(out)
        try:
            answers = read_journal(path, belongs_to)
        except OSError as error:
            raise InputError(f"{path} cannot be read: {error.strerror}") from error
        if answers is None:
            raise InputError(
                f"{path} holds answers to other questions, of another model, from other data or with other settings",
                "delete it, or name another file with --out",
            )
        super().__init__(path, belongs_to, answers)

    def finish(self) -> list[dict[str, Any]]:
        """Write all answers in the order of their questions, delete the partial file and return the answers."""
        answers = [self.pieces[number] for number in sorted(self.pieces)]
        write_json_lines(self._out, answers)
        self.close()
        if not remove(self.path):
            console.warn(f"{self._out} is written, but {self.path} could not be deleted")
        return answers


def require_new(out: Path) -> None:
    """Refuse an existing output file; remove the partial file of the run that finished it.

    Raises:
        InputError: it exists, or is a folder.
    """
    if out.is_dir():
        raise InputError(f"--out {out} is a folder", "name a file in it")
    sweep(out)
    if not out.exists():
        return
    path = _partial_path(out)
    sweep(path)
    # A kill came between the two last steps if the finished file holds all answers of the partial one.
    with contextlib.suppress(OSError, ValueError):
        partial = read_journal(path)
        finished = [json.loads(line) for line in out.read_text(encoding="utf-8").split("\n")[:-1]]
        if partial is not None and [partial[number] for number in sorted(partial)] == finished:
            remove(path)
    raise InputError(f"{out} is already there", "delete it, or name another file with --out")


def _partial_path(out: Path) -> Path:
    return out.parent / f"{out.name}.partial"  # not with_name: the name of "." is empty


def identity_of(answerer: engines.Answerer, choice: str, weights: Path) -> dict[str, Any]:
    """Return what identifies a model: names, template, and size and time of its weight files."""
    identity: dict[str, Any] = {"model": choice, **engines.identity(answerer)}
    identity["prompt"] = repr(answerer.encoder.contract)
    if weights.is_dir():
        files = sorted(path for path in weights.glob("*.safetensors") if path.is_file())
        identity["weights"] = [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in files]
    return identity
