"""Answer a file of questions in large batches of like length; an interrupted run goes on where it was."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from medqa_cli import console
from medqa_cli.answering import generate
from medqa_cli.answering.decode import pick_batch_size
from medqa_cli.answering.question_files import AskedRow
from medqa_cli.config.schema import GenerateConfig
from medqa_cli.errors import InputError, Interrupted
from medqa_cli.files import atomic_file, remove, sweep
from medqa_cli.journal import Journal, fingerprint, read_journal
from medqa_cli.model.load import LoadedModel

Answers = dict[int, dict[str, Any]]  # by the number of the question
SourcesOf = Callable[[str], list[dict[str, Any]]]


def answer_file(
    answerer: LoadedModel,
    rows: Sequence[AskedRow],
    config: GenerateConfig,
    out: Path | None,
    identity: Any,
    sources_of: SourcesOf = lambda question: [],
) -> list[dict[str, Any]]:
    """Answer all rows.

    Args:
        answerer: the model.
        rows: the questions with their other columns.
        config: decoding; ``batch_size`` questions at once.
        out: JSON Lines file to write; None: none, and an interruption loses all.
        identity: what tells this model from others; answers of another one are not taken up.
        sources_of: returns what goes into the ``sources`` of a question.

    Returns:
        one object per row, in their order: the row's other columns and the keys of ``ask --json``. A question that
        cannot be answered has ``error`` instead of an answer.

    Raises:
        InputError: ``out`` is there already, or holds part of another run.
        Interrupted: Ctrl-C; what is answered is kept beside ``out``.
    """
    if out is None:
        answers: Answers = {}
        _answer_missing(answerer, rows, config, sources_of, answers, answers.update)
        return [answers[number] for number in sorted(answers)]
    settings = {key: value for key, value in asdict(config).items() if key != "batch_size"}
    belongs_to = fingerprint([[row.question, row.columns] for row in rows], identity, settings)
    with PartialAnswers(out, belongs_to) as partial:
        if partial.pieces:
            console.note(f"going on after {len(partial.pieces)} of {len(rows)} questions")
        try:
            _answer_missing(answerer, rows, config, sources_of, partial.pieces, partial.add)
        except KeyboardInterrupt:
            kept = f"{len(partial.pieces)} of {len(rows)} answers are in {partial.path}"
            raise Interrupted(f"interrupted: {kept}", "the same command goes on from there") from None
        return partial.finish()


def _answer_missing(
    answerer: LoadedModel,
    rows: Sequence[AskedRow],
    config: GenerateConfig,
    sources_of: SourcesOf,
    done: Mapping[int, dict[str, Any]],
    keep: Callable[[Answers], None],
) -> None:
    """Answer the rows that are not in ``done``; ``keep`` adds each batch of answers to it."""
    prompts = answerer.encoder.encode_prompts([generate.tidy(row.question) for row in rows])
    lengths: dict[int, int] = {}
    refused: Answers = {}
    for number, (row, prompt) in enumerate(zip(rows, prompts, strict=True)):
        try:
            if not row.question.strip():
                raise InputError("the question is empty")
            generate.max_answer_tokens(answerer, len(prompt), config.max_new_tokens)
            lengths[number] = len(prompt)
        except InputError as error:
            refused[number] = _line(row, {"question": row.question, "answer": None, "error": error.message})
    keep({number: refusal for number, refusal in refused.items() if number not in done})
    # Of like length: a batch is padded to its longest prompt.
    waiting = sorted((number for number in lengths if number not in done), key=lambda number: (lengths[number], number))
    size = pick_batch_size(answerer.model, answerer.device, answerer.dtype, config, max(lengths.values(), default=1))
    with console.progress("answering", len(rows)) as bar:
        bar.update(len(done))
        for start in range(0, len(waiting), size):
            numbers = waiting[start : start + size]
            counter = itertools.count(len(done) + 1)
            answers = generate.answer_questions(
                answerer,
                [rows[number].question for number in numbers],
                config,
                on_finished=lambda _, counter=counter: bar.update(next(counter)),  # type: ignore[misc]
            )
            as_json = [generate.as_json(answer, answerer, sources_of(answer.question)) for answer in answers]
            keep({number: _line(rows[number], answer) for number, answer in zip(numbers, as_json, strict=True)})


def _line(row: AskedRow, answer: dict[str, Any]) -> dict[str, Any]:
    """Join a row's own columns and its answer; a column that has the name of a key of ours gets ``input_``."""
    columns = {f"input_{key}" if key in answer else key: cell for key, cell in row.columns.items()}
    return {**columns, **answer}


class PartialAnswers(Journal):
    """The journal ``OUT.partial`` of a run that is to write ``out``.

    Args:
        out: the output file; it must not be there yet.
        belongs_to: ``fingerprint`` of the run.

    Raises:
        InputError: the output is there, or the partial file belongs to another run or cannot be written.
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
                f"{path} holds answers to other questions, of another model or with other settings",
                "delete it, or name another file with --out",
            )
        super().__init__(path, belongs_to, answers)

    def finish(self) -> list[dict[str, Any]]:
        """Write all answers in the order of their questions, delete the partial file; return the answers."""
        answers = [self.pieces[number] for number in sorted(self.pieces)]
        with atomic_file(self._out) as file:
            file.writelines(json.dumps(answer, ensure_ascii=False, allow_nan=False) + "\n" for answer in answers)
        self.close()
        if not remove(self.path):
            console.warn(f"{self._out} is written, but {self.path} could not be deleted")
        return answers


def require_new(out: Path) -> None:
    """Refuse an output file that is there; remove the partial file of the run that finished it.

    Raises:
        InputError: it is.
    """
    sweep(out)
    if not out.exists():
        return
    path = _partial_path(out)
    sweep(path)
    # All of its answers stand in the finished file: a kill came between the two steps.
    with contextlib.suppress(OSError, ValueError):
        partial = read_journal(path)
        finished = [json.loads(line) for line in out.read_text(encoding="utf-8").split("\n")[:-1]]
        if partial is not None and [partial[number] for number in sorted(partial)] == finished:
            remove(path)
    raise InputError(f"{out} is already there", "delete it, or name another file with --out")


def _partial_path(out: Path) -> Path:
    return out.with_name(f"{out.name}.partial")


def identity_of(answerer: LoadedModel, choice: str, weights: Path) -> dict[str, Any]:
    """Return what tells a model from others: names, template, and size and time of the files of its weights."""
    identity: dict[str, Any] = {"model": choice, "base": answerer.source.name, "dtype": str(answerer.dtype)}
    identity["prompt"] = repr(answerer.encoder.contract)
    if weights.is_dir():
        files = sorted(path for path in weights.glob("*.safetensors") if path.is_file())
        identity["weights"] = [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in files]
    return identity
