"""Answers a file of questions in large batches of like length, and takes an interrupted run up again.

Does not read the questions (``question_files``) and does not choose tokens.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from medqa_cli import console
from medqa_cli.answering import generate
from medqa_cli.answering.batch_size import pick_batch_size
from medqa_cli.answering.models import Answerer
from medqa_cli.answering.partial_answers import Answers, PartialAnswers, fingerprint
from medqa_cli.answering.question_files import AskedRow
from medqa_cli.config.schema import GenerateConfig
from medqa_cli.errors import InputError, Interrupted

SourcesOf = Callable[[str], list[dict[str, Any]]]


def answer_file(
    answerer: Answerer,
    rows: Sequence[AskedRow],
    config: GenerateConfig,
    out: Path | None,
    identity: Any,
    sources_of: SourcesOf | None = None,
) -> list[dict[str, Any]]:
    """Answer all rows.

    Args:
        answerer: the model.
        rows: the questions with their other columns.
        config: decoding; ``batch_size`` questions at once.
        out: JSON Lines file to write; None: none, and an interruption loses all.
        identity: what tells this model from others; answers of another one are not taken up.
        sources_of: returns what goes into the ``sources`` of a question; None: nothing does.

    Returns:
        one object per row, in their order: the row's other columns and the keys of ``ask --json``. A question that
        cannot be answered has ``error`` instead of an answer.

    Raises:
        InputError: ``out`` is there already, or holds part of another run.
        Interrupted: Ctrl-C; what is answered is kept beside ``out``.
    """
    work = _Work(answerer, rows, config, sources_of or (lambda question: []))
    if out is None:
        return _in_order(work.answer({}, lambda answers: None))
    settings = {key: value for key, value in asdict(config).items() if key != "batch_size"}
    belongs_to = fingerprint([[row.question, row.columns] for row in rows], identity, settings)
    with PartialAnswers(out, belongs_to) as partial:
        if partial.answers:
            console.note(f"going on after {len(partial.answers)} of {len(rows)} questions")
        try:
            done = work.answer(dict(partial.answers), partial.add)
        except KeyboardInterrupt:
            kept = f"{len(partial.answers)} of {len(rows)} answers are in {partial.path}"
            raise Interrupted(f"interrupted: {kept}", "the same command goes on from there") from None
        partial.finish()
    return _in_order(done)


def _in_order(answers: Answers) -> list[dict[str, Any]]:
    return [answers[number] for number in sorted(answers)]


@dataclass(frozen=True)
class _Work:
    """The questions of one file and what answers them."""

    answerer: Answerer
    rows: Sequence[AskedRow]
    config: GenerateConfig
    sources_of: SourcesOf

    def answer(self, done: Answers, keep: Callable[[Answers], None]) -> Answers:
        """Answer what is not in ``done`` yet; ``keep`` gets each batch of answers. Returns all of them."""
        lengths, refused = self._prompt_lengths()
        new = {number: refusal for number, refusal in refused.items() if number not in done}
        done.update(new)
        keep(new)
        # Of like length: a batch is padded to its longest prompt.
        waiting = sorted((number for number in lengths if number not in done), key=lambda each: (lengths[each], each))
        own = self.answerer
        size = pick_batch_size(own.model, own.device, own.dtype, self.config, max(lengths.values(), default=1))
        with console.progress("answering", len(self.rows)) as bar:
            bar.update(len(done))
            for start in range(0, len(waiting), size):
                batch = self._answer_batch(waiting[start : start + size], bar, len(done))
                done.update(batch)
                keep(batch)
        return done

    def _answer_batch(self, numbers: Sequence[int], bar: console.ProgressHandle, ended: int) -> Answers:
        counter = itertools.count(ended + 1)
        answers = generate.answer_questions(
            self.answerer,
            [self.rows[number].question for number in numbers],
            self.config,
            on_finished=lambda _: bar.update(next(counter)),
        )
        return {
            number: _line(self.rows[number], generate.as_json(answer, self.answerer, self.sources_of(answer.question)))
            for number, answer in zip(numbers, answers, strict=True)
        }

    def _prompt_lengths(self) -> tuple[dict[int, int], Answers]:
        """Return the number of prompt tokens of each question, and what is said of those that cannot be answered."""
        prompts = self.answerer.encoder.encode_prompts([generate.tidy(row.question) for row in self.rows])
        lengths: dict[int, int] = {}
        refused: Answers = {}
        for number, (row, prompt) in enumerate(zip(self.rows, prompts, strict=True)):
            try:
                if not row.question.strip():
                    raise InputError("the question is empty")
                generate.room(self.answerer, len(prompt), self.config.max_new_tokens)
                lengths[number] = len(prompt)
            except InputError as error:
                refused[number] = _line(row, {"question": row.question, "answer": None, "error": error.message})
        return lengths, refused


def _line(row: AskedRow, answer: dict[str, Any]) -> dict[str, Any]:
    """Join a row's own columns and its answer; a column that has the name of a key of ours gets ``input_``."""
    own = {f"input_{key}" if key in answer else key: cell for key, cell in row.columns.items()}
    return {**own, **answer}


def identity_of(answerer: Answerer, choice: str, weights: Path | None) -> dict[str, Any]:
    """Return what tells a model from others: names, template, and size and time of the adapter's or merged weights."""
    found: dict[str, Any] = {"model": choice, "base": answerer.base, "dtype": str(answerer.dtype)}
    found["prompt"] = repr(answerer.encoder.contract)
    if weights is not None and weights.is_dir():
        files = sorted(path for path in weights.glob("*.safetensors") if path.is_file())
        found["weights"] = [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in files]
    return found
