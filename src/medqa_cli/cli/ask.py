"""``medqa ask``: its options, and where a question comes from."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from medqa_cli import allocators, console
from medqa_cli.cli import app
from medqa_cli.config.schema import GenerateConfig
from medqa_cli.errors import InputError


@app.command(
    'medqa ask "How to treat glaucoma?"  one question',
    "medqa ask  a conversation",
    "medqa ask --file questions.txt --out answers.jsonl  many questions",
    'medqa ask --compare base,adapter "What is gout?"  side by side',
    'medqa ask --sources 3 "What is gout?"  with reference answers',
)
def ask(
    question: Annotated[
        str | None, typer.Argument(help="The question; default: standard input, or a conversation.")
    ] = None,
    model: app.ModelOption = "adapter",
    compare: Annotated[
        str | None, typer.Option("--compare", metavar="A,B", help="Show the answers of several models side by side.")
    ] = None,
    file: Annotated[
        str | None,
        typer.Option("--file", metavar="FILE", help="Answer a file: lines of text, .jsonl, .csv; -: standard input."),
    ] = None,
    out: Annotated[Path | None, app.path_option("--out", "FILE", "With --file: the JSON Lines to write.")] = None,
    context: Annotated[
        str | None,
        typer.Option(
            "--context",
            metavar="TEXT",
            help="What belongs to the question (a case, notes), for a model that learned contexts.",
        ),
    ] = None,
    sources: app.SourcesOption = None,
    also_model: app.AlsoModelOption = False,
    anyway: app.AnywayOption = False,
    config: app.RunConfigOption = None,
    overrides: app.SetOption = None,
    as_json: app.JsonOption = False,
) -> None:
    """Answer questions with the tuned model, or with its base.

    The answer streams to stdout. It is not medical advice.
    """
    console.use_json(as_json)
    if out is not None and file is None:
        raise InputError("--out belongs to --file", "run: medqa ask --file QUESTIONS --out answers.jsonl")
    if file is not None and (question is not None or compare is not None):
        raise InputError("--file takes neither a question nor --compare")
    if compare is not None and sources:
        raise InputError("--compare shows no sources", "ask one model: medqa ask --sources 3")
    if compare is not None and not all(name.strip() for name in compare.split(",")):
        raise InputError(f"--compare {compare!r} has an empty name", "run: medqa ask --compare base,adapter")
    settings = app.load_for_run(config, overrides).config
    at_terminal = sys.stdin.isatty() and sys.stdout.isatty() and not as_json
    is_conversation = at_terminal and question is None and file is None and compare is None
    asked = "" if is_conversation or file is not None else _question(question)
    choices = [name.strip() for name in compare.split(",")] if compare else [model]
    if "adapter" in choices:
        app.require_adapter(settings, config)
    if sources:
        app.require_data(settings, config)
    if file is not None:
        allocators.keep_freed_memory()
    console.doing("loading the libraries ...")
    from medqa_cli.answering import ask as worker

    options = worker.AskOptions(sources, also_model, anyway, _as_text(context or ""))
    if file is not None:
        worker.ask_file(settings, model, file, out, options)
    elif compare:
        worker.ask_several(settings, choices, asked, options)
    elif is_conversation:
        worker.converse(settings, model, options, _changing(config, overrides))
    else:
        worker.ask_one(settings, model, asked, options)


def _changing(config: Path | None, overrides: list[str] | None) -> Callable[[str, str], GenerateConfig]:
    """Return a function that sets one more key of the section generate and returns the section."""
    changes = list(overrides or ())

    def change(key: str, value: str) -> GenerateConfig:
        changed = app.load_for_run(config, [*changes, f"generate.{key}={value}"]).config.generate
        changes.append(f"generate.{key}={value}")
        return changed

    return change


def _question(question: str | None) -> str:
    if question is None:
        if sys.stdin.isatty():
            raise InputError("no question", 'ask like this: medqa ask "How to treat glaucoma?"')
        question = sys.stdin.buffer.read().decode("utf-8", errors="replace")
    question = _as_text(question)
    if not question.strip():
        raise InputError("the question is empty", 'ask like this: medqa ask "How to treat glaucoma?"')
    return question


def _as_text(typed: str) -> str:
    """Return what was typed without lone surrogates.

    A terminal in another encoding passes bytes that Python keeps as such, and no tokenizer takes them.
    """
    return typed.encode("utf-8", errors="surrogateescape").decode("utf-8", errors="replace")
