"""The work of ``medqa ask``: one question, several models side by side, a file of questions, a conversation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from medqa_cli import console
from medqa_cli.answering import batch, generate
from medqa_cli.answering.emergencies import emergency_notices
from medqa_cli.answering.repl import Conversation
from medqa_cli.config.schema import Config, GenerateConfig
from medqa_cli.data import retrieval
from medqa_cli.data.retrieval import Passage, PassageIndex
from medqa_cli.errors import MedqaError
from medqa_cli.files import RunFolder
from medqa_cli.model.devices import free_unused_memory
from medqa_cli.model.load import LoadedModel, load_model

NOTHING_CLOSE = "nothing close in the data: no reference answer to check this answer against"
_LONGEST_REFERENCE = 300  # characters of a reference answer that are shown


def _load(config: Config, choice: str, *, batches: bool = False) -> LoadedModel:
    return load_model(choice, RunFolder(Path(config.run_dir)), config.model, config.prompt, batches=batches)


def ask_one(config: Config, choice: str, question: str, num_sources: int) -> None:
    """Answer one question: streamed to stdout, or one JSON object.

    Args:
        config: the run, its data, and how answers are generated.
        choice: the model.
        question: plain text.
        num_sources: reference answers to show; 0: none.

    Raises:
        InputError: the question, the model or the data are not usable.
    """
    # Before the model loads: a notice of an emergency must not wait.
    show_emergency(question)
    library = PassageIndex.of_folder(Path(config.data.dir)) if num_sources else None
    _answer_and_show(_load(config, choice), question, config.generate, library, num_sources)


def show_emergency(question: str) -> None:
    """Print the notices of an emergency on stdout before the answer; --json puts them into its object."""
    notices = emergency_notices(question)
    if notices and not console.json_enabled():
        for notice in notices:
            console.line(notice)
        console.line()


def ask_several(config: Config, choices: Sequence[str], question: str) -> None:
    """Show the answers of several models side by side.

    Raises:
        InputError: as of ``ask_one``.
    """
    show_emergency(question)
    answers = []
    for choice in choices:
        answerer = _load(config, choice)
        answer = generate.answer_question(answerer, question, config.generate)
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


def ask_file(config: Config, choice: str, name: str, out: Path | None, num_sources: int) -> None:
    """Answer the questions of a file; ``out``: the JSON Lines to write, None: stdout.

    Raises:
        InputError: the file, the output or the model are not usable.
        MedqaError: some questions could not be answered; all others are.
        Interrupted: Ctrl-C; the answers so far are kept.
    """
    rows = batch.read_questions(name, config.data.question_column, config.data.encoding)
    if out is not None:
        batch.require_new(out)
    library = PassageIndex.of_folder(Path(config.data.dir)) if num_sources else None
    answerer = _load(config, choice, batches=True)
    run = RunFolder(Path(config.run_dir))
    weights = {"adapter": run.adapter_dir, "merged": run.merged_dir}.get(choice, Path(choice))
    answers = batch.answer_file(
        answerer,
        rows,
        config.generate,
        out,
        [batch.identity_of(answerer, choice, weights), num_sources],
        lambda question: [each.as_json() for each in library.nearest(question, num_sources)] if library else [],
    )
    reasons = Counter(answer.get("finish_reason", "error") for answer in answers)
    listed = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))
    if out is None:
        console.result({"answers": answers}, lambda: console.json_lines(answers))
    else:
        summary = {"out": str(out), "questions": len(answers), "finish_reasons": dict(reasons)}
        console.result(summary, lambda: console.line(f"{out}: {len(answers)} answers ({listed})"))
    urgent = sum(len(answer.get("notices", ())) > 1 for answer in answers)
    if urgent:
        console.warn(f"{urgent} questions may speak of an emergency: see 'notices'")
    console.note(generate.NOTICE)
    if reasons["error"]:
        raise MedqaError(
            f"{reasons['error']} of {len(answers)} questions could not be answered", "'error' in their lines says why"
        )


def converse(config: Config, choice: str, num_sources: int, change: Callable[[str, str], GenerateConfig]) -> None:
    """Answer questions typed at the terminal until the user leaves.

    Args:
        config: the run, its data, and how answers are generated at first.
        choice: the model at first.
        num_sources: reference answers to show with each answer; 0: none.
        change: returns the settings with one more key changed; raises ConfigError where that is wrong.

    Raises:
        InputError: the model is not usable.
    """
    settings = config.generate
    answerer = _load(config, choice)
    library: PassageIndex | None = None

    def references() -> PassageIndex:
        nonlocal library
        library = library or PassageIndex.of_folder(Path(config.data.dir))
        return library

    def answer(question: str) -> dict[str, Any]:
        show_emergency(question)
        return _answer_and_show(answerer, question, settings, references() if num_sources else None, num_sources)

    def show_sources(question: str, count: int) -> None:
        _show_references(references().nearest(question, count), [])

    def use_model(name: str) -> str:
        nonlocal answerer
        if name:
            answerer = _load(config, name)
        return f"{answerer.name} on {answerer.source.name} answers"

    def set_key(key: str, value: str) -> str:
        nonlocal settings
        settings = change(key, value)
        return f"generate.{key} is {getattr(settings, key)}"

    Conversation(answer, show_sources, use_model, set_key).run()


def _answer_and_show(
    answerer: LoadedModel, question: str, settings: GenerateConfig, library: PassageIndex | None, count: int
) -> dict[str, Any]:
    """Show an answer, streamed unless the result is JSON, how it ended, and its references; return it as JSON."""
    if console.json_enabled():
        answer = generate.answer_question(answerer, question, settings)
    else:
        stream = console.AnswerStream()
        try:
            answer = generate.answer_question(answerer, question, settings, write=stream.write)
        except KeyboardInterrupt:
            # The part that was shown is an answer too.
            stream.end()
            console.note(generate.NOTICE)
            raise
        stream.end()
    nearest = library.nearest(question, count) if library else []
    unsupported = retrieval.unsupported_sentences(answer.text, nearest) if nearest else []
    data = generate.as_json(answer, answerer, [passage.as_json() for passage in nearest])
    if library is not None:
        data["unsupported_sentences"] = unsupported
    console.result(data, lambda: _show_references(nearest, unsupported) if library is not None else None)
    if answer.finish_reason == "repetition":
        console.warn(f"the model began to repeat itself; the answer was cut there ({answer.answer_tokens} tokens)")
    elif answer.finish_reason == "length":
        is_full = answer.answer_tokens < settings.max_new_tokens
        limit = "the model's context is full" if is_full else "generate.max_new_tokens"
        console.warn(f"the answer was cut at {answer.answer_tokens} tokens ({limit})")
    console.note(generate.NOTICE)
    return data


def _show_references(nearest: Sequence[Passage], unsupported: Sequence[str]) -> None:
    console.line()
    if not nearest:
        console.line(NOTHING_CLOSE)
        return
    console.line("Nearest reference answers, for you to check (the model did not see them here):")
    for number, row in enumerate(nearest, start=1):
        console.line(f"[{number}] {row.id}, {row.place or row.topic}, {row.source}, score {row.score}: {row.title}")
        text = generate.tidy(row.text)
        cut = text if len(text) <= _LONGEST_REFERENCE else f"{text[:_LONGEST_REFERENCE].rsplit(' ', 1)[0]} ..."
        console.line(f"    {cut}")
    for sentence in unsupported:
        console.line(f"no support found: {sentence}")
