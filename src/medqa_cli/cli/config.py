"""``medqa config``: writes, checks, shows and describes the configuration."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medqa_cli import console
from medqa_cli.cli import app
from medqa_cli.config.load import DEFAULT_NAME, load
from medqa_cli.errors import InputError
from medqa_cli.files import atomic_file

if TYPE_CHECKING:
    from medqa_cli.config.dump import Preset


@app.command(
    "medqa config init  for this machine",
    "medqa config init --data questions.csv  with this data.source",
    "medqa config init --gpu-memory 24 --out a10.yaml  for another card",
    group=app.config_app,
)
def init(
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="File to write.")] = Path(DEFAULT_NAME),
    gpu_memory: Annotated[float | None, app.gpu_memory_option("For a GPU of this size, also without one here.")] = None,
    data: Annotated[
        str | None, typer.Option("--data", metavar="SOURCE", help="Table, folder or hub id to set as data.source.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it is there.")] = False,
    as_json: app.JsonOption = False,
) -> None:
    """Write a commented config that suits this machine.

    It chooses a base model and settings by the GPU's memory, and explains why.
    """
    console.use_json(as_json)
    if out.is_dir():
        raise InputError(
            f"{out} is a folder, expected a file to write", f"run: medqa config init --out {out / 'medqa.yaml'}"
        )
    # lexists: a link that leads nowhere is there, too.
    if os.path.lexists(out) and not force:
        raise InputError(
            f"{out} is there already and was left as it is",
            "replace it: --force; or write another file: --out NAME.yaml",
        )
    if data is not None:
        from medqa_cli.data.reading.sources import check_sources

        check_sources([data])
    from medqa_cli.config.dump import other_models, preset_for

    machine, memory_gb = _machine(gpu_memory)
    chosen = preset_for(memory_gb)
    others = other_models(chosen.model, memory_gb)
    with atomic_file(out) as file:
        file.write(chosen.filled_in(machine, data, others, out.stem))
    steps = _next_steps(chosen, out, gpu_memory, data)
    result = {"path": str(out), "machine": machine, "gpu_memory_gb": memory_gb, "model": chosen.model}

    def show() -> None:
        console.line(f"wrote {out} for: {machine}")
        console.line(f"model: {chosen.model}")
        for reason in chosen.reasons:
            console.line(f"  - {reason}")
        console.line(
            "other models that fit, by medqa's plan (gated: accept the license on the hub, then: hf auth login):"
        )
        for other in others:
            console.line(f"  - {other.name} ({other.terms})")
        console.line("next (--plan tells whether it fits, before anything is loaded):")
        for step in steps:
            console.line(f"  {step}")

    named = [{"name": other.name, "license": other.license, "gated": other.gated} for other in others]
    console.result({**result, "why": chosen.reasons, "others": named, "next": steps}, show)


def _machine(gpu_memory_gb: float | None) -> tuple[str, float | None]:
    """Return what the config is for, in words, and the GPU's memory in GB; None: no GPU."""
    if gpu_memory_gb is not None:
        return f"a GPU with {gpu_memory_gb:g} GB", gpu_memory_gb
    with console.status("looking at this machine ..."):
        from medqa_cli.model.devices import machine_at_hand

        machine = machine_at_hand()
    if machine.unused_gpu is not None:
        console.warn(f"the config is for the CPU: {machine.unused_gpu}. Then run this again with --force")
    return str(machine), machine.gpu_memory_gb


def _next_steps(chosen: Preset, out: Path, gpu_memory_gb: float | None, data: str | None) -> list[str]:
    """Return the commands to type next, in order."""
    named = "" if out == Path(DEFAULT_NAME) else f" -c {shlex.quote(str(out))}"
    steps = []
    if not chosen.is_ready:
        steps.append(chosen.needs)
    steps.append(f"medqa convert{'' if data is not None else ' FILE'}{named}")
    plan = f" --gpu-memory {gpu_memory_gb:g}" if gpu_memory_gb is not None else ""
    return [*steps, f"medqa train --plan{plan}{named}", f"medqa train{named}"]


@app.command("medqa config check  medqa.yaml in this folder", "medqa config check -c other.yaml", group=app.config_app)
def check(config: app.ConfigOption = None, overrides: app.SetOption = None, as_json: app.JsonOption = False) -> None:
    """Check the configuration without loading data or models."""
    console.use_json(as_json)
    loaded = load(config, overrides or ())
    origin = str(loaded.path) if loaded.path else f"no {DEFAULT_NAME} in this folder: all values are defaults"
    console.result({"valid": True, "path": str(loaded.path or "")}, lambda: console.line(f"{origin}: no problem found"))
    if app.is_fresh(config, loaded.config):
        console.hint(app.START)


@app.command(
    "medqa config show  medqa.yaml in this folder",
    "medqa config show -c runs/medqa/config.yaml  what a run was trained with",
    "medqa config show --set lora.r=16 --json  as JSON, with one value changed",
    group=app.config_app,
)
def show(config: app.ConfigOption = None, overrides: app.SetOption = None, as_json: app.JsonOption = False) -> None:
    """Print each value of the configuration and where it came from."""
    console.use_json(as_json)
    loaded = load(config, overrides or ())
    from medqa_cli.config.dump import resolved_dict, resolved_yaml

    console.result(resolved_dict(loaded), lambda: console.line(resolved_yaml(loaded).rstrip("\n")))
    if app.is_fresh(config, loaded.config):
        console.hint(app.START)


@app.command("medqa config schema > medqa.schema.json", group=app.config_app)
def schema(as_json: app.JsonOption = False) -> None:
    """Print a JSON schema of the configuration, for editors.

    With --json on one line.
    """
    console.use_json(as_json)
    import json

    from medqa_cli.config.json_schema import json_schema

    schema = json_schema()
    console.result(schema, lambda: console.line(json.dumps(schema, indent=2, ensure_ascii=False)))
