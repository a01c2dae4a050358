"""The work of ``medqa ask``: one question, several models side by side, a file of questions, a conversation."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medqa_cli import console
from medqa_cli.answering import engines, generate, open_book
from medqa_cli.answering.emergencies import emergency_notices, with_language_note
from medqa_cli.answering.open_book import Lookup, OpenBook
from medqa_cli.config.schema import Config, GenerateConfig
from medqa_cli.data.retrieval import Passage, PassageIndex
from medqa_cli.errors import MedqaError
from medqa_cli.files import write_json_lines
from medqa_cli.prompt.given import Given
from medqa_cli.prompt.text import PromptText

if TYPE_CHECKING:
    from medqa_cli.answering.batch import LookUp
    from medqa_cli.answering.question_files import AskedRow

NOTHING_CLOSE = "nothing close in the training rows or documents: no reference answer to check this answer against"
REFERENCES = "Nearest reference answers, for you to check (the model did not see them here):"
NEAREST = "Nearest passages of the data, for you to check:"
_LONGEST_REFERENCE = 300  # characters of a reference answer that are shown


@dataclass(frozen=True)
class AskOptions:
    """What is shown beside an answer, and whether a model answers where the data settles a question.

    ``sources``: for a model with sources in its prompt how many, for another one how many reference answers are shown;
    None: as it was trained, and none shown. ``also_model``: the model answers too where a row asks the same;
    ``anyway``: it answers where nothing is near, or nothing near asks the same. ``context``: what stands before each
    question, for a model that learned contexts.
    """

    sources: int | None = None
    also_model: bool = False
    anyway: bool = False
    context: str = ""

    @property
    def given(self) -> Given:
        """What stands before a question."""
        return Given(context=self.context)

    def is_settled(self, lookup: Lookup) -> bool:
        """Tell whether no model is to answer."""
        if lookup.reviewed is not None:
            return not self.also_model
        return lookup.ending is not None and not self.anyway


def ask_one(config: Config, choice: str, question: str, options: AskOptions) -> None:
    """Answer one question, streamed to stdout, or as one JSON object.

    The model is not loaded where the data settles the question.

    Raises:
        InputError: the question, the model or the data are not usable.
    """
    # Before the model loads: a notice of an emergency must not wait.
    show_emergency(question, options.given)
    book = OpenBook.of(config, choice, options.sources)
    load = functools.partial(engines.load_answerer, config, choice)
    _answer_and_show(load, question, options.given, config.generate, book, options)


def show_emergency(question: str, given: Given) -> None:
    """Print the notices of an emergency on stdout before the answer; --json puts them into its object."""
    notices = emergency_notices(question, given)
    if notices and not console.json_enabled():
        for notice in notices:
            console.line(notice)
        console.line()


def ask_several(config: Config, choices: Sequence[str], question: str, options: AskOptions) -> None:
    """Show the answers of several models side by side, each with the sources that it was trained with, or with none.

    Raises:
        InputError: as of ``ask_one``.
    """
    show_emergency(question, options.given)
    question = generate.tidy(question)
    answers = []
    listed: Sequence[Passage] = ()
    for choice in choices:
        book, answerer = OpenBook.of(config, choice, options.sources), engines.load_answerer(config, choice)
        console.doing(f"{choice} answers ...")
        passages = book.passages(question, answerer.encoder)
        asked, given = generate.asked_of(answerer.encoder.contract.text, question, options.given)
        answer = generate.answer_question(answerer, asked, config.generate, passages=passages, given=given)
        answers.append(generate.as_json(answer, answerer, Lookup(passages=passages)))
        listed = max(listed, passages, key=len)
        # One after the other: two models at once may not fit.
        engines.release(answerer)
    ends = [f"{answer['finish_reason']}, {answer['answer_tokens']} tokens, {answer['seconds']} s" for answer in answers]
    texts = [answer["answer"] for answer in answers]
    data = {"question": question, "answers": answers}

    def show() -> None:
        console.side_by_side(choices, texts, ends)
        _list_sources(listed)

    console.result(data, show)
    console.note(with_language_note(generate.NOTICE, question))


def ask_file(config: Config, choice: str, name: str, out: Path | None, options: AskOptions) -> None:
    """Answer the questions of a file; ``out``: the JSON Lines to write, None: stdout.

    The model is not loaded where the data settles every question.

    Raises:
        InputError: the file, the output or the model are not usable.
        MedqaError: some questions could not be answered; all others are.
        Interrupted: Ctrl-C; the answers so far are kept.
    """
    # With it all readers of tables; a single question waits for none of them.
    from medqa_cli.answering import batch, question_files

    data = config.data
    rows = question_files.read_questions(name, data.question_column, data.encoding, data.context_column)
    rows = [replace(row, context=row.context or options.context) for row in rows]
    if out is not None:
        batch.require_new(out)
    book = OpenBook.of(config, choice, options.sources)

    @functools.cache
    def look_up(question: str) -> tuple[Lookup, bool]:
        lookup = book.look_up(question)
        return lookup, options.is_settled(lookup)

    # Answers that were interrupted had a model, whose identity tells whether they go on.
    interrupted = out is not None and batch.is_interrupted(out)
    answers = None if interrupted else batch.answers_of_the_data(rows, look_up)
    if answers is None:
        answers = _answers_of_model(config, choice, rows, out, options, book, look_up)
    elif out is not None:
        write_json_lines(out, answers)
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


def _answers_of_model(
    config: Config,
    choice: str,
    rows: Sequence[AskedRow],
    out: Path | None,
    options: AskOptions,
    book: OpenBook,
    look_up: LookUp,
) -> list[dict[str, Any]]:
    """Load the model and answer the rows of a file, as ``batch.answer_file`` does."""
    from medqa_cli.answering import batch

    answerer = engines.load_answerer(config, choice, batches=True, num_questions=len(rows))
    for row in rows:
        generate.asked_of(answerer.encoder.contract.text, row.question, Given(context=row.context))
    console.doing("answering ...")
    weights = config.run.folder_of(choice)

    def with_passages(question: str) -> tuple[Lookup, bool]:
        lookup, settled = look_up(question)
        return (lookup if settled else replace(lookup, passages=book.passages(question, answerer.encoder))), settled

    identity = [batch.identity_of(answerer, choice, weights), asdict(options), book.identity()]
    return batch.answer_file(answerer, rows, config.generate, out, identity, with_passages, book.shown_beside)


def converse(config: Config, choice: str, options: AskOptions, change: Callable[[str, str], GenerateConfig]) -> None:
    """Answer questions typed at the terminal until the user leaves.

    Args:
        config: the run, its data, and how answers are generated at first.
        choice: the model at first.
        options: what is shown beside each answer.
        change: returns the settings with one more key changed; raises ConfigError where that is wrong.

    Raises:
        InputError: the model is not usable.
    """
    from medqa_cli.answering.repl import Conversation

    settings = config.generate
    answerer, book = engines.load_answerer(config, choice), OpenBook.of(config, choice, options.sources)

    def answer(question: str, given: Given) -> dict[str, Any]:
        asked, given = generate.asked_of(prompt(), question, given)
        show_emergency(asked, given)
        return _answer_and_show(lambda: answerer, asked, given, settings, book, options)

    def prompt() -> PromptText:
        return answerer.encoder.contract.text

    def show_sources(question: str, count: int) -> None:
        index = book.index or PassageIndex.of_folder(Path(config.data.dir))
        _show_references(index.nearest(question, count), [], REFERENCES if book.count == 0 else NEAREST)

    def use_model(name: str) -> str:
        nonlocal answerer, book
        if name:
            answerer, book = engines.load_answerer(config, name), OpenBook.of(config, name, options.sources)
        return f"{answerer.name} on {answerer.source.name} answers"

    def set_key(key: str, value: str) -> str:
        nonlocal settings
        settings = change(key, value)
        return f"generate.{key} is {getattr(settings, key)}"

    follows = prompt().earlier is not None
    Conversation(answer, prompt, show_sources, use_model, set_key, options.context, follows=follows).run()


def _answer_and_show(
    load: Callable[[], engines.Answerer],
    question: str,
    given: Given,
    settings: GenerateConfig,
    book: OpenBook,
    options: AskOptions,
) -> dict[str, Any]:
    """Show what the data says, an answer, how it ended, and its sources; return it as JSON.

    The answer is streamed unless the result is JSON. The model is loaded only if it is to answer.
    """
    question = generate.tidy(question)
    if not question:
        raise generate.EMPTY
    # A question that follows on others asks what none of the data asks in its words.
    lookup = book.look_up(generate.tidy(given.before(question)))
    if options.is_settled(lookup):
        settled = open_book.as_json(question, lookup, given)
        console.result(settled, lambda: _show_settled(lookup, question))
        return settled
    if lookup.reviewed is not None and not console.json_enabled():
        _show_settled(lookup, question)
    answerer = load()
    question, given = generate.asked_of(answerer.encoder.contract.text, question, given)
    kept = answerer.encoder.fitted(question, given)
    if left_out := len(given.earlier) - len(kept.earlier):
        console.note(f"{left_out} of {len(given.earlier)} earlier turns are left out: the prompt has no room for them")
    console.doing("answering ...")
    passages = book.passages(question, answerer.encoder)
    ask = functools.partial(generate.answer_question, answerer, question, settings, passages=passages, given=kept)
    answer = ask() if console.json_enabled() else _streamed(ask, question)
    beside = book.shown_beside(question)
    data = generate.as_json(answer, answerer, replace(lookup, passages=passages), beside)
    console.result(data, lambda: _show_sources(passages, beside, book, data))
    if answer.finish_reason == "repetition":
        console.warn(f"the model began to repeat itself; the answer was cut there ({answer.answer_tokens} tokens)")
    elif answer.finish_reason == "length":
        is_full = answer.answer_tokens < settings.max_new_tokens
        limit = "the model's context is full" if is_full else "generate.max_new_tokens"
        console.warn(f"the answer was cut at {answer.answer_tokens} tokens ({limit})")
    console.note(data["notices"][-1])
    return data


def _streamed(ask: Callable[..., generate.Answer], question: str) -> generate.Answer:
    """Let the model answer, and show its words as they come."""
    stream = console.AnswerStream()
    try:
        answer = ask(write=stream.write)
    except KeyboardInterrupt:
        # The part that was shown is an answer too.
        stream.end()
        console.note(with_language_note(generate.NOTICE, question))
        raise
    stream.end()
    return answer


def _show_settled(lookup: Lookup, question: str) -> None:
    """Show the answer of the row that asks the same, or that the data holds none."""
    if lookup.reviewed is None:
        assert lookup.ending is not None
        console.line(with_language_note(lookup.ending[1], question))
        console.note("--anyway lets the model answer")
        return
    row = lookup.reviewed
    console.line(f"Reviewed answer, word for word: {row.title}")
    console.line()
    console.line(row.text)
    console.line()
    console.line(f"From the data: {row.id}, {', '.join(filter(None, (row.topic, row.source)))}")
    console.note(with_language_note(open_book.REVIEWED_NOTICE, question))


def _show_sources(
    passages: Sequence[Passage], beside: Sequence[Passage], book: OpenBook, data: Mapping[str, Any]
) -> None:
    for line in open_book.citation_lines(data["unsupported_citations"], len(passages)):
        console.line(line)
    if passages:
        _list_sources(passages, data["cited"])
        for sentence in data["unsupported_sentences"]:
            console.line(f"no support found: {sentence}")
    elif book.num_beside:
        _show_references(beside, data["unsupported_sentences"])


def _list_sources(passages: Sequence[Passage], cited: Sequence[str] | None = None) -> None:
    """Show which passages stood in the prompt, as ``open_book.source_lines`` has them."""
    if passages:
        console.line()
        console.line("Sources:")
    for line in open_book.source_lines(passages, cited):
        console.line(line)


def _show_references(nearest: Sequence[Passage], unsupported: Sequence[str], title: str = REFERENCES) -> None:
    console.line()
    if not nearest:
        console.line(NOTHING_CLOSE)
        return
    console.line(title)
    for number, row in enumerate(nearest, start=1):
        console.line(f"[{number}] {row.id}, {row.place or row.topic}, {row.source}, score {row.score}: {row.title}")
        text = generate.tidy(row.text)
        cut = text if len(text) <= _LONGEST_REFERENCE else f"{text[:_LONGEST_REFERENCE].rsplit(' ', 1)[0]} ..."
        console.line(f"    {cut}")
    for sentence in unsupported:
        console.line(f"no support found: {sentence}")
