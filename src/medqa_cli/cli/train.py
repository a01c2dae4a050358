"""``medqa train``: its options."""

import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from medqa_cli import allocators, console, distributed
from medqa_cli.cli import app
from medqa_cli.config.load import load
from medqa_cli.errors import InputError, MedqaError


class Method(StrEnum):
    """What is learned from: answers, or which of two answers is preferred."""

    SFT = "sft"
    DPO = "dpo"


@app.command(
    "medqa train  train by medqa.yaml",
    "medqa train --plan  what it takes, if it fits",
    "medqa train --plan --gpu-memory 16  the same for another card",
    "medqa train --resume  go on after a stop",
    "medqa train --set run_dir=runs/b --set lora.r=16  another run, another rank",
    "medqa train --method dpo  further, on preferences",
)
def train(
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the newest checkpoint.")] = False,
    restart: Annotated[
        bool,
        typer.Option(
            "--restart", help="Delete what this run has made so far: adapter, checkpoints, evaluation, merged."
        ),
    ] = False,
    plan: Annotated[
        bool, typer.Option("--plan", help="Train nothing; report what it would take, before loading any weight.")
    ] = False,
    gpu_memory: Annotated[
        float | None, app.gpu_memory_option("With --plan: for a GPU of this size, also without one here.")
    ] = None,
    probe: Annotated[
        bool, typer.Option("--probe", help="With --plan: load the weights and time two steps as well.")
    ] = False,
    method: Annotated[
        Method, typer.Option("--method", help="sft: on the data; dpo: the run's adapter further, on preference pairs.")
    ] = Method.SFT,
    pairs: Annotated[
        Path | None,
        app.path_option("--pairs", "FILE", "With --method dpo: the pairs; default: review/dpo.jsonl of the run."),
    ] = None,
    out: Annotated[
        Path | None,
        app.path_option("--out", "DIR", "With --method dpo: the run folder to write; default: run_dir with -dpo."),
    ] = None,
    config: app.ConfigOption = None,
    overrides: app.SetOption = None,
    as_json: app.JsonOption = False,
) -> None:
    """Train a QLoRA adapter on the converted data.

    Ctrl-C saves a checkpoint.
    """
    console.use_json(as_json)
    if method is Method.DPO:
        if resume or plan or probe or gpu_memory is not None:
            raise InputError("--method dpo takes neither --resume nor --plan", "it starts over with --restart")
        _train_on_pairs(config, overrides or [], pairs, out, restart=restart)
        return
    if pairs is not None or out is not None:
        raise InputError("--pairs and --out belong to --method dpo", "name the folder with --set run_dir=DIR")
    # First: to agree, several ranks import torch.
    allocators.keep_freed_memory()
    with distributed.raise_on_all_ranks():
        _check_options(resume, restart, plan, for_plan=probe or gpu_memory is not None)
        loaded = load(config, overrides or ())
        app.require_data(loaded.config, config)
        if not plan:
            app.require_writable(loaded.config.run)
        if distributed.is_main():
            app.clear_leftovers(loaded.config)
    console.doing("loading the libraries ...")
    if plan:
        from medqa_cli.training import plan as planner

        figures = planner.plan(loaded.config, gpu_memory_gb=gpu_memory, probe=probe)
        console.result(figures, lambda: planner.show(figures))
        if figures["fits"] and not probe and gpu_memory is None:
            console.hint("how long it takes: medqa train --plan --probe (loads the weights and takes two steps)")
        return
    from medqa_cli.config.dump import resolved_yaml
    from medqa_cli.training import outcome
    from medqa_cli.training import run as worker

    run = loaded.config.run
    try:
        summary = worker.train(loaded.config, run, resolved_yaml(loaded), resume=resume, restart=restart)
    except MedqaError as error:
        # Whoever goes on or starts over has to give the same settings again, and those of the same run.
        options = app.same_options(config, overrides)
        error.hint = re.sub(r"medqa train(?: --re(?:sume|start))?(?! -)", lambda call: call[0] + options, error.hint)
        raise
    console.result(summary, lambda: outcome.show(summary, run, loaded.config.prompt.sources))
    distributed.leave_group()


def _train_on_pairs(
    config: Path | None, overrides: list[str], pairs: Path | None, out: Path | None, *, restart: bool
) -> None:
    """Train the adapter of the run that the config names further, into another run's folder."""
    chosen = app.load_for_run(config, overrides)
    start = app.require_adapter(chosen.config, config)
    target = out or start.path.with_name(f"{start.path.name}-dpo")
    console.doing("loading the libraries ...")
    from medqa_cli.config.dump import resolved_yaml
    from medqa_cli.training import dpo as worker

    loaded = load(chosen.path, [*overrides, f"run_dir={target}"])
    summary = worker.train_on_pairs(
        loaded.config, start, pairs or start.preferences_path, resolved_yaml(loaded), restart=restart
    )
    console.result(summary, lambda: worker.show(summary, loaded.config.run))


def _check_options(resume: bool, restart: bool, plan: bool, *, for_plan: bool) -> None:
    if resume and restart:
        raise InputError("--resume and --restart exclude each other")
    if plan and (resume or restart):
        raise InputError("--plan trains nothing; it takes neither --resume nor --restart")
    if for_plan and not plan:
        raise InputError("--probe and --gpu-memory belong to --plan", "run: medqa train --plan ...")
