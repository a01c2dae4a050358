"""``medqa train`` and ``medqa merge``: their options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from medqa_cli import console, distributed, hub, malloc
from medqa_cli.cli.app import app, ending_with_a_message, examples
from medqa_cli.cli.options import (
    ConfigOption,
    JsonOption,
    OutOption,
    RunConfigOption,
    SetOption,
    load_for_run,
    require_adapter,
    require_data,
    run_folder,
)
from medqa_cli.config.load import Loaded, load
from medqa_cli.errors import InputError


@app.command(
    epilog=examples(
        "medqa train  train by medqa.yaml",
        "medqa train --plan  what it takes, if it fits",
        "medqa train --plan --gpu-memory 16  the same for another card",
        "medqa train --resume  go on after a stop",
        "medqa train --set run_dir=runs/b --set lora.r=16  another run, another rank",
    )
)
@ending_with_a_message
def train(
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the newest checkpoint.")] = False,
    restart: Annotated[
        bool,
        typer.Option(
            "--restart", help="Delete all that this run made before: adapter, checkpoints, evaluation, merged."
        ),
    ] = False,
    plan: Annotated[
        bool, typer.Option("--plan", help="Train nothing; say what it would take, before any weight is loaded.")
    ] = False,
    gpu_memory: Annotated[
        float | None,
        typer.Option(
            "--gpu-memory", metavar="GB", min=1, help="With --plan: for a GPU of this size, also without one here."
        ),
    ] = None,
    probe: Annotated[
        bool, typer.Option("--probe", help="With --plan: load the weights and time two steps as well.")
    ] = False,
    config: ConfigOption = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train a QLoRA adapter on the converted data.

    Ctrl-C saves a checkpoint.
    """
    console.use_json(as_json)
    # First: to agree, several ranks import torch.
    malloc.keep_freed_memory()
    with distributed.raise_on_all_ranks():
        if resume and restart:
            raise InputError("--resume and --restart exclude each other")
        if plan and (resume or restart):
            raise InputError("--plan trains nothing; it takes neither --resume nor --restart")
        if not plan and (probe or gpu_memory is not None):
            raise InputError("--probe and --gpu-memory belong to --plan", "run: medqa train --plan ...")
        loaded = load(config, overrides or ())
        require_data(loaded.config, config)
    if plan:
        _plan(loaded, gpu_memory, probe)
        return
    _train(loaded, resume=resume, restart=restart)
    distributed.leave_group()


def _plan(loaded: Loaded, gpu_memory_gb: float | None, probe: bool) -> None:
    from medqa_cli.training import plan as planning

    plan = planning.plan(loaded.config, gpu_memory_gb=gpu_memory_gb, probe=probe)
    console.result(plan, lambda: planning.show(plan))


def _train(loaded: Loaded, *, resume: bool, restart: bool) -> None:
    from medqa_cli.config.dump import resolved_yaml
    from medqa_cli.training import outcome
    from medqa_cli.training import run as training

    run = run_folder(loaded.config)
    summary = training.train(loaded.config, run, resolved_yaml(loaded), resume=resume, restart=restart)
    console.result(summary, lambda: outcome.show(summary, run))


@app.command(
    epilog=examples(
        "medqa merge  a Transformers folder in run_dir/merged",
        "medqa merge --gguf q8_0 f16  also files for llama.cpp and Ollama",
        "medqa merge --base-weights original  onto the unquantized base",
    )
)
@ending_with_a_message
def merge(
    more_types: Annotated[list[str] | None, typer.Argument(metavar="TYPE", hidden=True)] = None,
    gguf: Annotated[
        list[str] | None,
        typer.Option(
            "--gguf", metavar="TYPE...", help="Write GGUF files as well: f16, q8_0, q4_0.", show_default=False
        ),
    ] = None,
    base_weights: Annotated[
        Literal["nf4", "original", "auto"],
        typer.Option(
            "--base-weights",
            help="Onto the base as 4-bit training saw it, the unquantized one, or what answers better.",
        ),
    ] = "auto",
    dtype: Annotated[
        Literal["auto", "bfloat16", "float16", "float32"],
        typer.Option("--dtype", help="Type of the written weights; auto: the base's, or a finer one of the same size."),
    ] = "auto",
    out: OutOption = None,
    config: RunConfigOption = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Merge adapter and base into one model that other tools load.

    The result is compared with base + adapter; where it is not good enough the exit code is 1.
    """
    console.use_json(as_json)
    settings = load_for_run(config, overrides).config
    run = require_adapter(settings, config)
    from medqa_cli.gguf import export as gguf_export
    from medqa_cli.merging import report
    from medqa_cli.merging.parts import MergeJob
    from medqa_cli.merging.run import merge as merge_adapter
    from medqa_cli.merging.small_changes import small_changes_warning

    types = gguf_export.parse_types(gguf, more_types)
    if types:
        hub.name_repository(settings.model.name_or_path)
        gguf_export.require_exportable(run.adapter_dir)
    job = MergeJob(
        run=run,
        out_dir=out or run.merged_dir,
        data_dir=Path(settings.data.dir),
        model=settings.model,
        prompt=settings.prompt,
        base_weights=base_weights,
        dtype=dtype,
    )
    summary = merge_adapter(job)
    if warning := small_changes_warning(summary.get("changes_below_half_a_step"), types):
        console.warn(warning)
    files = gguf_export.export_run(run, job.out_dir, types, settings.generate) if types else []

    def show() -> None:
        report.show(summary, job.out_dir)
        if types:
            gguf_export.show(files, run)

    console.result({**summary, "gguf": files} if types else summary, show)
