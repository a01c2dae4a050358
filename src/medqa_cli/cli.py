"""The command line: options, the config, one worker imported inside each command body, its result shown.

Nothing heavy is imported at the top, so that ``medqa --help`` answers at once.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, ParamSpec, TypeVar

import typer

from medqa_cli import __version__, allocator, console, ranks
from medqa_cli.config import Config, Loaded, load
from medqa_cli.errors import InputError, Interrupted, MedqaError
from medqa_cli.run_folder import RunFolder

if TYPE_CHECKING:
    from medqa_cli.answering.asking import AskJob
    from medqa_cli.config.sections import GenerateConfig
    from medqa_cli.training.preparation import TrainJob

app = typer.Typer(
    help="From a spreadsheet of medical questions and answers to a tuned language model, with honest figures.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
config_app = typer.Typer(help="Show, check or describe the configuration.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(config_app, name="config")

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="YAML file; default: medqa.yaml in this folder.", show_default=False),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", help="Override one key, e.g. --set train.learning_rate=1e-4. Repeatable.", metavar="KEY=VALUE"
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout instead of tables.")]
OutOption = Annotated[Path | None, typer.Option("--out", help="Folder to write.", show_default=False)]

P = ParamSpec("P")
R = TypeVar("R")


def main() -> None:
    """Run the program. Errors that a user can act on become a message and an exit code; others are bugs and show."""
    _quiet_libraries()
    if not ranks.is_main():
        console.silence()
    try:
        with _ended_like_ctrl_c():
            app()
    except KeyboardInterrupt:  # while a command was still being imported
        sys.exit(Interrupted.exit_code)
    except MedqaError as error:
        if not ranks.has_joined() and not isinstance(error, Interrupted):
            console.speak()  # rank 0 does not know of it
        if os.environ.get("MEDQA_DEBUG") == "1":
            raise
        console.error(error)
        if isinstance(error, ranks.LostRankError):
            # Gloo's threads, still waiting for the lost rank, abort a Python that is shutting down.
            sys.stderr.flush()
            os._exit(error.exit_code)
        ranks.part()
        sys.exit(error.exit_code)
    except BrokenPipeError:
        # The reader of our output went away (medqa ask ... | head): nothing is wrong, nothing more can be written.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


@contextlib.contextmanager
def _ended_like_ctrl_c() -> Iterator[None]:
    """Let SIGTERM end a command as Ctrl-C does: nothing half-written stays, least of all someone's texts."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _quiet_libraries() -> None:
    """Silence what libraries say while they are imported, before any of them is.

    bitsandbytes announces that an optional kernel package is absent (nothing is lost by that), others deprecations.
    """
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    logging.getLogger("accelerate").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"(transformers|peft|bitsandbytes|torch|accelerate)(\.|$)")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")


def _interruptible(command: Callable[P, R]) -> Callable[P, R]:
    """Turn Ctrl-C into exit code 130 and a sentence; Typer would print ``Aborted.`` and exit with 1."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except KeyboardInterrupt:
            raise Interrupted("interrupted") from None

    return run


def _print_version(wanted: bool) -> None:
    if wanted:
        console.line(f"medqa {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command()
@_interruptible
def convert(
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SOURCE]...",
            help="CSV, TSV, Excel, JSON, JSONL or Parquet file, folder or archive of these or of MedQuAD XML, hub id.",
            show_default=False,
        ),
    ] = None,
    out: OutOption = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the data folder of another source.")] = False,
    audit: Annotated[
        Path | None,
        typer.Option(
            "--audit", metavar="DIR", help="Convert nothing; count what DIR's splits share.", show_default=False
        ),
    ] = None,
    show: Annotated[
        str | None,
        typer.Option(
            "--show", metavar="RULE", help="Convert nothing; show rows before and after a rule.", show_default=False
        ),
    ] = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Turn a spreadsheet of questions and answers into a clean, split data set.

    Example: medqa convert questions.csv
    """
    console.use_json(as_json)
    settings = load(config, overrides or ()).config
    from medqa_cli import conversion

    if audit is not None:
        if sources or show:
            raise InputError("--audit looks at a folder that is already split; it takes no SOURCE and no --show")
        conversion.audit(audit, settings.data)
        return
    named = settings.data.source
    chosen = sources or ([named] if isinstance(named, str) else list(named or ()))
    if not chosen:
        raise InputError("no source: neither an argument nor data.source names a file", "run: medqa convert FILE")
    if show is not None:
        conversion.show_rule(show, chosen, settings.data, settings.seed)
        return
    job = conversion.ConvertJob(
        sources=chosen,
        out_dir=out or Path(settings.data.dir),
        data=settings.data,
        prompt=settings.prompt,
        model=settings.model,
        seed=settings.seed,
        force=force,
    )
    conversion.convert(job)


@app.command()
@_interruptible
def train(
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the newest checkpoint.")] = False,
    restart: Annotated[bool, typer.Option("--restart", help="Delete the earlier training of this run first.")] = False,
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

    Example: medqa train -c medqa.yaml

    Before that: medqa train --plan --gpu-memory 16
    """
    console.use_json(as_json)
    # First: to agree, several ranks import torch.
    allocator.keep_freed_memory()
    with ranks.agreed():
        if resume and restart:
            raise InputError("--resume and --restart exclude each other")
        if plan and (resume or restart):
            raise InputError("--plan trains nothing; it takes neither --resume nor --restart")
        if not plan and (probe or gpu_memory is not None):
            raise InputError("--probe and --gpu-memory belong to --plan", "run: medqa train --plan ...")
        loaded = load(config, overrides or ())
        _require_data(loaded.config)
    if plan:
        _plan(loaded, gpu_memory, probe)
        return
    _train(loaded, resume=resume, restart=restart)
    ranks.part()


def _plan(loaded: Loaded, gpu_memory_gb: float | None, probe: bool) -> None:
    from medqa_cli.training import plan as planning
    from medqa_cli.training import plan_report

    found = planning.plan(_train_job(loaded), gpu_memory_gb=gpu_memory_gb, probe=probe)
    console.result(found, lambda: plan_report.show(found))


def _train(loaded: Loaded, *, resume: bool, restart: bool) -> None:
    from medqa_cli.training import report
    from medqa_cli.training import run as training

    job = _train_job(loaded)
    summary = training.train(job, resume=resume, restart=restart)
    console.result(summary, lambda: report.show(summary, job.run))


def _train_job(loaded: Loaded) -> TrainJob:
    from medqa_cli.config.show import resolved_yaml
    from medqa_cli.training.preparation import TrainJob

    settings = loaded.config
    return TrainJob(
        run=_run_folder(settings),
        data_dir=Path(settings.data.dir),
        prompt=settings.prompt,
        model=settings.model,
        lora=settings.lora,
        train=settings.train,
        seed=settings.seed,
        resolved_config=resolved_yaml(loaded),
    )


@app.command()
@_interruptible
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
    config: ConfigOption = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Merge the adapter into its base, one plain Transformers folder, and compare it with base + adapter.

    With --gguf also files for llama.cpp and Ollama.

    Example: medqa merge --gguf q8_0 f16
    """
    console.use_json(as_json)
    settings = _load_for_run(config, overrides).config
    run = _run_folder(settings)
    _require_adapter(run)
    from medqa_cli.merging import gguf_export, report
    from medqa_cli.merging.parts import MergeJob
    from medqa_cli.merging.run import merge as merge_adapter

    types = gguf_export.parse_types(gguf, more_types)
    if types:
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
    files = gguf_export.export_run(run, job.out_dir, types, settings.generate) if types else []

    def show() -> None:
        report.show(summary, job.out_dir)
        if types:
            gguf_export.show(files, run)

    console.result({**summary, "gguf": files} if types else summary, show)


@app.command()
@_interruptible
def ask(
    question: Annotated[
        str | None,
        typer.Argument(help="The question; default: standard input, or a conversation.", show_default=False),
    ] = None,
    model: Annotated[
        str, typer.Option("--model", help="adapter, merged, base, or a folder, GGUF file or hub id.")
    ] = "adapter",
    compare: Annotated[
        str | None,
        typer.Option("--compare", metavar="A,B", help="Show the answers of several models side by side."),
    ] = None,
    file: Annotated[
        str | None,
        typer.Option("--file", metavar="FILE", help="Answer a file: lines of text, .jsonl, .csv; -: standard input."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="With --file: the JSON Lines to write.")
    ] = None,
    sources: Annotated[
        int, typer.Option("--sources", min=0, max=100, help="Show so many reference answers of the data.")
    ] = 0,
    config: ConfigOption = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Answer a question with the tuned model; the answer streams to stdout.

    Example: medqa ask "How to treat glaucoma?"

    Many questions: medqa ask --file questions.txt --out answers.jsonl
    """
    console.use_json(as_json)
    _check_ask_options(question, compare, file, out, sources)
    settings = _load_for_run(config, overrides).config
    talks = question is None and file is None and not as_json and sys.stdin.isatty() and sys.stdout.isatty()
    asked = _question(question) if file is None and not talks else ""
    run = _run_folder(settings)
    choices = [name.strip() for name in (compare or model).split(",")] if compare else [model]
    if "adapter" in choices:
        _require_adapter(run)
    if sources:
        _require_data(settings)
    if file is not None:
        allocator.keep_freed_memory()
    with console.status("starting ..."):
        from medqa_cli.answering import asking
    job = asking.AskJob(
        run=run,
        data_dir=Path(settings.data.dir),
        model=settings.model,
        prompt=settings.prompt,
        settings=settings.generate,
        choice=model,
        num_sources=sources,
        question_column=settings.data.question_column,
    )
    if file is not None:
        asking.ask_file(job, file, out)
    elif compare:
        asking.ask_several(job, asked, choices)
    elif talks:
        _converse(job, config, overrides)
    else:
        asking.ask_one(job, asked)


def _converse(job: AskJob, config: Path | None, overrides: list[str] | None) -> None:
    from medqa_cli.answering import asking

    changes = list(overrides or ())

    def change(key: str, value: str) -> GenerateConfig:
        changed = _load_for_run(config, [*changes, f"generate.{key}={value}"]).config.generate
        changes.append(f"generate.{key}={value}")
        return changed

    asking.converse(job, change)


def _check_ask_options(
    question: str | None, compare: str | None, file: str | None, out: Path | None, sources: int
) -> None:
    if out is not None and file is None:
        raise InputError("--out belongs to --file", "run: medqa ask --file QUESTIONS --out answers.jsonl")
    if file is not None and (question is not None or compare is not None):
        raise InputError("--file takes neither a question nor --compare")
    if compare is not None and sources:
        raise InputError("--compare shows no sources", "ask one model: medqa ask --sources 3")
    if compare is not None and not all(name.strip() for name in compare.split(",")):
        raise InputError(f"--compare {compare!r} has an empty name", "run: medqa ask --compare base,adapter")


@app.command("eval")
@_interruptible
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
    config: ConfigOption = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure adapter and base on held-out questions, with intervals and floors.

    Example: medqa eval --limit 200 --fail-on 'adapter.nll > base.nll'
    """
    console.use_json(as_json)
    settings = _load_for_run(config, overrides).config
    run = _run_folder(settings)
    from medqa_cli.evaluation import command, gate

    options = command.EvalOptions(command.model_names(model), limit, gate.parse_conditions(fail_on or ()), rescore)
    if not rescore:
        _require_data(settings)
        if command.needs_adapter(options.models):
            _require_adapter(run)
        allocator.keep_freed_memory()
    data_dir = Path(settings.data.dir)
    command.run_eval(
        run, data_dir, settings.model, settings.eval, settings.generate, settings.prompt, settings.seed, options
    )


@config_app.command("show")
def config_show(config: ConfigOption = None, overrides: SetOption = None, as_json: JsonOption = False) -> None:
    """Print the resolved configuration and where each value came from."""
    console.use_json(as_json)
    loaded = load(config, overrides or ())
    from medqa_cli.config.show import resolved_dict, resolved_yaml

    console.result(resolved_dict(loaded), lambda: console.line(resolved_yaml(loaded).rstrip("\n")))


@config_app.command("schema")
def config_schema(as_json: JsonOption = False) -> None:
    """Print a JSON schema of the configuration, for the completion in editors; --json: on one line."""
    console.use_json(as_json)
    import json

    from medqa_cli.config.schema import json_schema

    schema = json_schema()
    console.result(schema, lambda: console.line(json.dumps(schema, indent=2, ensure_ascii=False)))


@config_app.command("check")
def config_check(config: ConfigOption = None, overrides: SetOption = None, as_json: JsonOption = False) -> None:
    """Check the configuration without loading data or models."""
    console.use_json(as_json)
    loaded = load(config, overrides or ())
    place = str(loaded.path) if loaded.path else "no medqa.yaml in this folder: all values are defaults"
    console.result({"valid": True, "path": str(loaded.path or "")}, lambda: console.line(f"{place}: no problem found"))


def _load_for_run(config: Path | None, overrides: list[str] | None) -> Loaded:
    """Load the config; without one, that of the run in ``run_dir``, so that its model is used as it was trained."""
    loaded = load(config, overrides or ())
    recorded = _run_folder(loaded.config).config_path
    if loaded.path is None and recorded.is_file():
        return load(recorded, overrides or ())
    return loaded


def _run_folder(settings: Config) -> RunFolder:
    return RunFolder(Path(settings.run_dir))


def _require_data(settings: Config) -> None:
    """Fail before the slow imports when nothing has been converted yet."""
    if not (Path(settings.data.dir) / "train.jsonl").is_file():
        raise InputError(f"no data in {settings.data.dir}: nothing has been converted yet", "run: medqa convert FILE")


def _require_adapter(run: RunFolder) -> None:
    """Fail before the slow imports when nothing has been trained yet."""
    if not (run.adapter_dir / "adapter_config.json").is_file():
        raise InputError(
            f"no adapter in {run.adapter_dir}: nothing has been trained there yet",
            "train one with: medqa train   (or name another run: -c FILE or --set run_dir=DIR; or ask --model base)",
        )


def _question(given: str | None) -> str:
    if given is None:
        if sys.stdin.isatty():
            raise InputError("no question", 'ask like this: medqa ask "How to treat glaucoma?"')
        given = sys.stdin.buffer.read().decode("utf-8", errors="replace")
    # A terminal in another encoding passes bytes that Python keeps as lone surrogates: no tokenizer takes those.
    given = given.encode("utf-8", errors="surrogateescape").decode("utf-8", errors="replace")
    if not given.strip():
        raise InputError("the question is empty", 'ask like this: medqa ask "How to treat glaucoma?"')
    return given
