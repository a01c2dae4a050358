"""What ``medqa ask`` does: one question, several models side by side, a file of questions, a conversation.

Puts the parts together and shows what they give; the answers come from ``generate``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from medqa_cli import console
from medqa_cli.answering import batch, generate, retrieval
from medqa_cli.answering.batch import require_new
from medqa_cli.answering.emergencies import emergency_notices
from medqa_cli.answering.models import Answerer, load_answerer
from medqa_cli.answering.question_files import read_questions
from medqa_cli.answering.repl import Conversation
from medqa_cli.answering.retrieval import Reference, References
from medqa_cli.config.schema import GenerateConfig, ModelConfig, PromptConfig
from medqa_cli.errors import MedqaError
from medqa_cli.files import RunFolder
from medqa_cli.model.devices import free_unused_memory

NOTHING_CLOSE = "nothing close in the data: no reference answer to check this answer against"


@dataclass(frozen=True)
class AskJob:
    """What answering needs. ``choice``: the model; ``num_sources``: reference answers to show, 0: none."""

    run: RunFolder
    data_dir: Path
    model: ModelConfig
    prompt: PromptConfig
    settings: GenerateConfig
    choice: str
    num_sources: int = 0
    question_column: str | None = None
    encoding: str | None = None

    def load(self, *, batches: bool = False) -> Answerer:
        """Load the model, for one answer or many at once; raises as ``load_answerer`` does."""
        return load_answerer(self.choice, self.run, self.model, self.prompt, batches=batches)


def ask_one(job: AskJob, question: str) -> None:
    """Answer one question: streamed to stdout, or one JSON object.

    Raises:
        InputError: the question, the model or the data are not usable.
    """
    # Before the model: what is said of an emergency must not wait for anything.
    show_emergency(question)
    library = References(job.data_dir) if job.num_sources else None
    _answer_and_show(job.load(), question, job.settings, library, job.num_sources)


def show_emergency(question: str) -> None:
    """Print what is to be said of an emergency on stdout, where the answer will stand; --json has it in its object."""
    notices = emergency_notices(question)
    if notices and not console.json_enabled():
        for notice in notices:
            console.line(notice)
        console.line()


def ask_several(job: AskJob, question: str, choices: Sequence[str]) -> None:
    """Show the answers of several models side by side.

    Raises:
        InputError: as of ``ask_one``.
    """
    show_emergency(question)
    answers = []
    for choice in choices:
        answerer = replace(job, choice=choice).load()
        answer = generate.answer_question(answerer, question, job.settings)
        answers.append(generate.as_json(answer, answerer))
        # One after the other: two models at once may not fit.
        device = answerer.device
        del answerer
        free_unused_memory(device)
    ends = [f"{each['finish_reason']}, {each['answer_tokens']} tokens, {each['seconds']} s" for each in answers]
    texts = [each["answer"] for each in answers]
    data = {"question": generate.tidy(question), "answers": answers}
    console.result(data, lambda: console.side_by_side(choices, texts, ends))
    console.note(generate.NOTICE)


def ask_file(job: AskJob, name: str, out: Path | None) -> None:
    """Answer the questions of a file.

    Raises:
        InputError: the file, the output or the model are not usable.
        MedqaError: some questions could not be answered; all others are.
        Interrupted: Ctrl-C; the answers so far are kept.
    """
    rows = read_questions(name, job.question_column, job.encoding)
    if out is not None:
        require_new(out)
    library = References(job.data_dir) if job.num_sources else None
    answerer = job.load(batches=True)
    folder = {"adapter": job.run.adapter_dir, "merged": job.run.merged_dir}.get(job.choice, Path(job.choice))
    answers = batch.answer_file(
        answerer,
        rows,
        job.settings,
        out,
        [batch.identity_of(answerer, job.choice, folder), job.num_sources],
        lambda question: retrieval.as_json(library.nearest(question, job.num_sources)) if library else [],
    )
    _show_many(answers, out)


def _show_many(answers: Sequence[dict[str, Any]], out: Path | None) -> None:
    reasons = Counter(each.get("finish_reason", "error") for each in answers)
    told = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))
    if out is None:
        console.result({"answers": answers}, lambda: console.json_lines(answers))
    else:
        summary = {"out": str(out), "questions": len(answers), "finish_reasons": dict(reasons)}
        console.result(summary, lambda: console.line(f"{out}: {len(answers)} answers ({told})"))
    urgent = sum(len(each.get("notices", ())) > 1 for each in answers)
    if urgent:
        console.warn(f"{urgent} questions may speak of an emergency: see 'notices'")
    console.note(generate.NOTICE)
    if reasons["error"]:
        raise MedqaError(
            f"{reasons['error']} of {len(answers)} questions could not be answered", "'error' in their lines says why"
        )


def converse(job: AskJob, change: Callable[[str, str], GenerateConfig]) -> None:
    """Answer questions typed at the terminal until the user has had enough.

    Args:
        job: the model to begin with and all else.
        change: returns the settings with one more key changed; raises ConfigError where that is wrong.

    Raises:
        InputError: the model is not usable.
    """
    _Session(job, change).conversation().run()


class _Session:
    """The model, the settings and the library of one conversation."""

    def __init__(self, job: AskJob, change: Callable[[str, str], GenerateConfig]) -> None:
        self._job = job
        self._change = change
        self._settings = job.settings
        self._library: References | None = None
        self._answerer = job.load()

    def conversation(self) -> Conversation:
        return Conversation(self._answer, self._show_sources, self._use_model, self._set)

    def _answer(self, question: str) -> dict[str, Any]:
        show_emergency(question)
        count = self._job.num_sources
        library = self._loaded_library() if count else None
        return _answer_and_show(self._answerer, question, self._settings, library, count)

    def _loaded_library(self) -> References:
        self._library = self._library or References(self._job.data_dir)
        return self._library

    def _show_sources(self, question: str, count: int) -> None:
        _show_references(self._loaded_library().nearest(question, count), [])

    def _use_model(self, name: str) -> str:
        if name:
            self._answerer = replace(self._job, choice=name).load()
        return f"{self._answerer.name} on {self._answerer.base} answers"

    def _set(self, key: str, value: str) -> str:
        self._settings = self._change(key, value)
        return f"generate.{key} is {getattr(self._settings, key)}"


def _answer_and_show(
    answerer: Answerer, question: str, settings: GenerateConfig, library: References | None, count: int
) -> dict[str, Any]:
    answer = _shown_answer(answerer, question, settings)
    found = library.nearest(question, count) if library else []
    unsupported = retrieval.unsupported_sentences(answer.text, found) if found else []
    data = generate.as_json(answer, answerer, retrieval.as_json(found))
    if library is not None:
        data["unsupported_sentences"] = unsupported
    console.result(data, lambda: _show_references(found, unsupported) if library is not None else None)
    _say_how_it_ended(answer, settings)
    console.note(generate.NOTICE)
    return data


def _shown_answer(answerer: Answerer, question: str, settings: GenerateConfig) -> generate.Answer:
    """Answer, and unless the result is JSON show the text as it is made."""
    if console.json_enabled():
        return generate.answer_question(answerer, question, settings)
    shown = console.AnswerStream()
    try:
        answer = generate.answer_question(answerer, question, settings, write=shown.write)
    except KeyboardInterrupt:
        # What was shown until then is an answer too.
        shown.end()
        console.note(generate.NOTICE)
        raise
    shown.end()
    return answer


def _say_how_it_ended(answer: generate.Answer, settings: GenerateConfig) -> None:
    if answer.finish_reason == "repetition":
        console.warn(f"the model began to repeat itself; the answer was cut there ({answer.answer_tokens} tokens)")
    elif answer.finish_reason == "length":
        full = answer.answer_tokens < settings.max_new_tokens
        limit = "the model's context is full" if full else "generate.max_new_tokens"
        console.warn(f"the answer was cut at {answer.answer_tokens} tokens ({limit})")


def _show_references(found: Sequence[Reference], unsupported: Sequence[str]) -> None:
    console.line()
    if not found:
        console.line(NOTHING_CLOSE)
        return
    console.line("Nearest reference answers, for you to check (the model did not see them here):")
    for number, each in enumerate(found, start=1):
        console.line(f"[{number}] {each.id}, {each.topic}, {each.source}, score {each.score}: {each.question}")
        console.line(f"    {_beginning(each.answer)}")
    for sentence in unsupported:
        console.line(f"no support found: {sentence}")


def _beginning(text: str, most: int = 300) -> str:
    text = generate.tidy(text)
    return text if len(text) <= most else f"{text[:most].rsplit(' ', 1)[0]} ..."
