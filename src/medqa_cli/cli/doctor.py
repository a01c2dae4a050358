"""``medqa doctor``: its options."""

import time
from typing import Annotated

import typer

from medqa_cli import allocators, console
from medqa_cli.cli import app
from medqa_cli.config.load import load


@app.command(
    "medqa doctor  half a minute, before a long training",
    "medqa doctor -c other.yaml  for another config",
    "medqa doctor --full  with speeds and memory",
    "medqa doctor --json > doctor.json  for a report of a fault",
)
def doctor(
    full: Annotated[
        bool, typer.Option("--full", help="Measure speeds and memory as well; takes some minutes.")
    ] = False,
    config: app.ConfigOption = None,
    overrides: app.SetOption = None,
    as_json: app.JsonOption = False,
) -> None:
    """Check that this machine computes right.

    Tries training, merging and asking with small random models, and compares each with another way to compute the same.
    Exit code 1 if something that the config needs is wrong.
    """
    started = time.monotonic()
    console.use_json(as_json)
    settings = load(config, overrides or ()).config
    allocators.keep_freed_memory()
    console.doing("loading the libraries ...")
    from medqa_cli.doctor import run as worker

    tell = (lambda line: None) if as_json else console.line
    report = worker.diagnose(settings, full=full, started=started, tell=tell)
    console.result(report, lambda: worker.show(report))
    if report["fails"]:
        raise typer.Exit(1)
