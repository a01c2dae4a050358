"""``medqa eval``: its options, the evaluation, its tables and the gate."""

from typing import Annotated

import typer

from medqa_cli import allocators, console, distributed
from medqa_cli.cli import app
from medqa_cli.errors import InputError


@app.command(
    "medqa eval  adapter and base",
    "medqa eval --limit 200  on 200 of them",
    "medqa eval --model adapter,base,gguf  the GGUF file as well",
    "medqa eval --fail-on 'adapter.nll > base.nll'  a gate for CI",
    name="eval",
)
def evaluate(
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            help="Models to measure, comma-separated: adapter, base, merged, gguf, openai:URL. Default: adapter,base.",
        ),
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Ask only this many questions.")] = None,
    fail_on: Annotated[list[str] | None, app.fail_on_option("adapter.nll > base.nll")] = None,
    rescore: Annotated[
        bool, typer.Option("--rescore", help="Recompute the figures from the saved samples; loads no model.")
    ] = False,
    config: app.RunConfigOption = None,
    overrides: app.SetOption = None,
    as_json: app.JsonOption = False,
) -> None:
    """Measure the models on held-out questions, with intervals.

    Each figure comes with that of a trivial answerer.
    """
    console.use_json(as_json)
    settings = app.load_for_run(config, overrides).config
    models = None if model is None else list(dict.fromkeys(name.strip() for name in model.split(",") if name.strip()))
    if rescore and limit is not None:
        raise InputError("--rescore takes all saved samples; it takes no --limit", "leave one of the two out")
    if not rescore:
        app.require_data(settings, config)
        # A model that is loaded here takes the run's adapter for its prompt.
        if not models or any(not name.startswith("openai:") for name in models):
            app.require_adapter(settings, config)
    console.doing("loading the libraries ...")
    from medqa_cli.evaluation import gate, report, results
    from medqa_cli.evaluation import rescore as again

    options = app.config_options(config, overrides)
    conditions = gate.parse_conditions(fail_on or ())
    if distributed.is_main():
        app.clear_leftovers(settings)
    if rescore:
        # By one rank, as no other file is written by several.
        measured = distributed.from_main(lambda: again.rescore(settings, models, conditions, options))
    else:
        allocators.keep_freed_memory()
        from medqa_cli.evaluation import run as worker

        models = ["adapter", "base"] if models is None else models
        gate.require_measured(conditions, settings, models)
        measured = worker.evaluate(settings, models, limit, conditions, options)

    run = settings.run
    page = run.eval_dir / results.REPORT_NAME
    console.result(measured, lambda: report.show(measured, run.results_path, page, results.review_of(run)))
    gate.check_gate(conditions, measured)
