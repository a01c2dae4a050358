"""``medqa merge``: its options."""

from typing import Annotated, Literal

import typer

from medqa_cli import console, hub
from medqa_cli.cli import app
from medqa_cli.config.schema import ComputeDtype


@app.command(
    "medqa merge  a Transformers folder in run_dir/merged",
    "medqa merge --gguf q8_0 f16  also files for llama.cpp and Ollama",
    "medqa merge --base-weights original  into the unquantized base",
)
def merge(
    # An option takes one value: the second word of ``--gguf f16 q8_0`` arrives here.
    more_types: Annotated[list[str] | None, typer.Argument(metavar="TYPE", hidden=True)] = None,
    gguf: Annotated[
        list[str] | None,
        typer.Option("--gguf", metavar="TYPE...", help="Write GGUF files as well: f16, q8_0, q4_0."),
    ] = None,
    base_weights: Annotated[
        Literal["nf4", "original", "auto"],
        typer.Option(
            "--base-weights",
            help="Base to merge into: as training saw it, unquantized, or auto: the first unless the second is better.",
        ),
    ] = "auto",
    dtype: Annotated[
        ComputeDtype,
        typer.Option("--dtype", help="Type of the written weights; auto: the base's, or a finer one of the same size."),
    ] = "auto",
    out: app.OutOption = None,
    config: app.RunConfigOption = None,
    overrides: app.SetOption = None,
    as_json: app.JsonOption = False,
) -> None:
    """Merge adapter and base into one model that other tools load.

    The result is compared with base + adapter; if it is not good enough the exit code is 1.
    """
    console.use_json(as_json)
    settings = app.load_for_run(config, overrides).config
    run = app.require_adapter(settings, config)
    app.clear_leftovers(settings)
    console.doing("loading the libraries ...")
    from medqa_cli.gguf import export
    from medqa_cli.merging import gguf_cost, report
    from medqa_cli.merging import run as worker

    types = export.parse_types(gguf, more_types)
    if types:
        hub.name_repository(settings.model.name_or_path)
        export.require_exportable(run.adapter_dir)
    out_dir = out or run.merged_dir
    console.doing("reading base and adapter ...")
    summary = worker.merge(settings, run, out_dir, base_weights, dtype)
    if warning := report.small_changes_warning(summary.get("changes_below_half_a_step"), types):
        console.warn(warning)
    files = export.export_run(run, out_dir, types, settings.generate) if types else []
    if files:
        gguf_cost.measure(settings, run, out_dir, files)

    def show() -> None:
        report.show(summary, out_dir)
        if types:
            export.show(files, run)
            gguf_cost.show(files)

    console.result({**summary, "gguf": files} if types else summary, show)
