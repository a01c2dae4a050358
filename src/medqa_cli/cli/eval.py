"""``medqa eval``: its options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medqa_cli import console, malloc
from medqa_cli.cli.app import app, ending_with_a_message, examples
from medqa_cli.cli.options import (
    JsonOption,
    RunConfigOption,
    SetOption,
    load_for_run,
    require_adapter,
    require_data,
    run_folder,
)


@app.command(
    "eval",
    epilog=examples(
        "medqa eval  adapter and base",
        "medqa eval --limit 200  on 200 of them",
        "medqa eval --model adapter,base,merged  the merged model as well",
        "medqa eval --fail-on 'adapter.nll > base.nll'  a gate for CI",
    ),
)
@ending_with_a_message
def evaluate(
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            help="Models to measure, comma-separated: adapter, base, merged, openai:URL. Default: adapter,base.",
            show_default=False,
        ),
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Ask only this many questions.")] = None,
    fail_on: Annotated[
        list[str] | None,
        typer.Option("--fail-on", metavar="EXPR", help="Exit 1 if 'adapter.nll > base.nll' or the like; repeatable."),
    ] = None,
    rescore: Annotated[
        bool, typer.Option("--rescore", help="Compute the figures anew from the saved samples; no model is loaded.")
    ] = False,
    config: RunConfigOption = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure the models on held-out questions, with intervals.

    Beside each figure stands what a trivial answerer gets.
    """
    console.use_json(as_json)
    settings = load_for_run(config, overrides).config
    run = run_folder(settings)
    from medqa_cli.evaluation import command, gate

    options = command.EvalOptions(command.model_names(model), limit, gate.parse_conditions(fail_on or ()), rescore)
    if not rescore:
        require_data(settings, config)
        if command.needs_adapter(options.models):
            require_adapter(settings, config)
        malloc.keep_freed_memory()
    data_dir = Path(settings.data.dir)
    command.run_eval(
        run, data_dir, settings.model, settings.eval, settings.generate, settings.prompt, settings.seed, options
    )
