"""``medqa serve``: its options."""

import importlib.util
from pathlib import Path
from typing import Annotated

import typer

from medqa_cli import allocators, console
from medqa_cli.cli import app
from medqa_cli.errors import MedqaError


@app.command(
    "medqa serve  a page and OpenAI's API",
    "medqa serve --model merged --port 9000  another model and port",
    "medqa serve --feedback wrong.json  a button for wrong answers",
    "medqa serve --host 0.0.0.0  for other machines, with a key",
)
def serve(
    model: app.ModelOption = "adapter",
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port to listen on; 0: any free one.")] = 8088,
    sources: app.SourcesOption = None,
    also_model: app.AlsoModelOption = False,
    anyway: app.AnywayOption = False,
    feedback: Annotated[
        Path | None,
        app.path_option(
            "--feedback",
            "FILE",
            "Let readers report wrong or harmful answers, into this .json: for medqa review score and export.",
        ),
    ] = None,
    config: app.RunConfigOption = None,
    overrides: app.SetOption = None,
) -> None:
    """Serve the tuned model: a page, and OpenAI's API.

    Only this machine can connect unless --host says otherwise; other machines need the key in MEDQA_SERVE_KEY. Nothing
    of a question or an answer is logged.
    """
    settings = app.load_for_run(config, overrides).config
    if model == "adapter":
        app.require_adapter(settings, config)
    if sources:
        app.require_data(settings, config)
    if not all(importlib.util.find_spec(package) for package in ("starlette", "uvicorn")):
        raise MedqaError(
            "medqa serve needs the packages starlette and uvicorn", "install them: pip install 'medqa-cli[serve]'"
        )
    allocators.keep_freed_memory()
    console.doing("loading the libraries ...")
    from medqa_cli.answering.ask import AskOptions
    from medqa_cli.serving import run as worker

    worker.run(settings, model, host, port, AskOptions(sources, also_model, anyway), feedback)
