"""What the commands share: their registration, options, the run that they work on, and hints at what to do next.

A command is a function with options that imports its worker inside and shows its result (``command``).
"""

import errno
import os
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, ParamSpec, TypeVar

import typer

from medqa_cli import __version__, console
from medqa_cli.cli.program import ending_with_a_message
from medqa_cli.config.load import DEFAULT_NAME, Loaded, load
from medqa_cli.config.schema import Config
from medqa_cli.errors import InputError
from medqa_cli.files import RunFolder
from medqa_cli.leftovers import old_scratch_folders, sweep, sweep_folder

# In hints: what to do next.
_CONVERT = "medqa convert FILE"
START = f"start with: medqa config init (writes {DEFAULT_NAME} for this machine), then: {_CONVERT}"
_OR_GO_THERE = "; or, if you have done so, go to the folder where you did: medqa works in the current one"
_OLD_SECONDS = 24 * 3600  # of a scratch folder that no run needs any more, most likely

P = ParamSpec("P")
R = TypeVar("R")


def at_home(path: Path | None) -> Path | None:
    """Expand ``~``, which shells leave as it is in ``--out=~/x``."""
    return path.expanduser() if path is not None and str(path).startswith("~") else path


def path_option(name: str, metavar: str, text: str) -> Any:
    """Return an option that takes a path; ``text``: its help."""
    return typer.Option(name, metavar=metavar, help=text, callback=at_home)


def fail_on_option(example: str) -> Any:
    """Return the option of a gate for CI."""
    return typer.Option("--fail-on", metavar="EXPR", help=f"Exit 1 if '{example}' or the like; repeatable.")


def gpu_memory_option(text: str) -> Any:
    """Return the option that names the memory of a GPU; ``text``: its help."""
    return typer.Option("--gpu-memory", metavar="GB", min=1, help=text)


def _config_option(default: str) -> Any:
    return typer.Option("--config", "-c", help=f"YAML file; default: {default}.", callback=at_home)


ConfigOption = Annotated[Path | None, _config_option("medqa.yaml in this folder")]
RunConfigOption = Annotated[Path | None, _config_option("medqa.yaml in this folder, else the run's own")]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", help="Override one key, e.g. --set train.learning_rate=1e-4. Repeatable.", metavar="KEY=VALUE"
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout instead of tables.")]
# Of ask and serve.
ModelOption = Annotated[
    str, typer.Option("--model", help="adapter, merged, gguf, base, or a folder, GGUF file or hub id.")
]
SourcesOption = Annotated[
    int | None,
    typer.Option(
        "--sources",
        min=0,
        max=100,
        help="Passages before the question, if the model was trained with such (0: none); else reference answers "
        "beside the answer.",
    ),
]
AlsoModelOption = Annotated[
    bool, typer.Option("--also-model", help="Let the model answer too where the data has a reviewed answer.")
]
AnywayOption = Annotated[
    bool, typer.Option("--anyway", help="Let the model answer where nothing in the data is near, or asks the same.")
]
OutOption = Annotated[Path | None, typer.Option("--out", help="Folder to write.", callback=at_home)]


def examples(*calls: str, title: str = "Examples") -> str:
    """Return the end of a command's help: calls to copy, the most common one first.

    Args:
        calls: each a call, two spaces and what it does.
        title: the line above them.
    """
    parts = [call.partition("  ") for call in calls]
    width = max((len(call) for call, _, purpose in parts if purpose), default=0)
    lines = [f"  {call:{width}}  {purpose.strip()}".rstrip() for call, _, purpose in parts]
    # \b: what follows is not wrapped.
    return "\n".join(["\b", f"{title}:", *lines])


app = typer.Typer(
    help="From a spreadsheet of medical questions and answers to a tuned language model, with honest figures.",
    epilog=examples(
        "medqa quickstart  try every step on sample data",
        "medqa config init  write medqa.yaml for this machine",
        "medqa convert questions.csv  clean and split the data",
        "medqa train --plan  what the training will take",
        "medqa train  train the adapter",
        "medqa eval --limit 200  measure it on held-out questions",
        'medqa ask "How to treat glaucoma?"  ask it',
        "medqa serve  a page to ask it, and OpenAI's API",
        "medqa doctor  check that this machine computes right",
        "medqa COMMAND --help  more on a command, with examples",
        title="First steps",
    ),
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
config_app = typer.Typer(
    help="Write, check or show the configuration.",
    epilog=examples(
        "medqa config init  write a commented medqa.yaml for this machine",
        "medqa config check  list all its mistakes at once",
        "medqa config show  print each value and where it came from",
    ),
    no_args_is_help=True,
    rich_markup_mode=None,
)
review_app = typer.Typer(
    help="Let people judge answers, blind, and measure what they say.",
    epilog=examples(
        "medqa review make  write the pages on which raters judge",
        "medqa review score review-*.json  what they say, with intervals",
        "medqa review export review-*.json  pairs to train on",
    ),
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(review_app, name="review")
app.add_typer(config_app, name="config")


def command(
    *calls: str, name: str | None = None, group: typer.Typer = app
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Register a command of the program.

    Args:
        calls: examples for the end of its help, as ``examples`` takes them.
        name: None: that of the function.
        group: where it belongs.
    """

    def register(function: Callable[P, R]) -> Callable[P, R]:
        ending = ending_with_a_message(function)
        group.command(name, epilog=examples(*calls))(ending)
        return ending

    return register


def _print_version(wanted: bool) -> None:
    if wanted:
        console.line(f"medqa {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    ctx: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    if ctx.invoked_subcommand is None:
        console.note(ctx.get_help())
        if is_fresh(None, Config()):
            console.note("")
            console.hint(START)
        raise typer.Exit(InputError.exit_code)


def load_for_run(config: Path | None, overrides: list[str] | None) -> Loaded:
    """Load the config; without one, that of the run in ``run_dir``, so that its model is used as it was trained."""
    loaded = load(config, overrides or ())
    recorded = loaded.config.run.config_path
    if loaded.path is None and recorded.is_file():
        return load(recorded, overrides or ())
    return loaded


def clear_leftovers(settings: Config) -> None:
    """Remove what killed runs left beside the data and in the run's folders; name what is still there."""
    run, data_dir = settings.run, Path(settings.data.dir)
    sweep(Path(os.path.realpath(data_dir)))
    still_there = [path for folder in (run.path, run.eval_dir, run.gguf_dir) for path in sweep_folder(folder)]
    still_there += old_scratch_folders(_OLD_SECONDS)
    if still_there:
        console.warn(
            f"left by a killed run, or in use by another one: {', '.join(map(str, still_there))}; it may hold texts of "
            "the data: delete it if no medqa runs"
        )


def require_data(settings: Config, config: Path | None) -> None:
    """Fail before the slow imports if nothing has been converted yet; ``config``: the file that was named."""
    if not has_data(settings.data.dir):
        raise InputError(
            f"no data in {settings.data.dir}: nothing has been converted yet", without_data(config, settings)
        )


def require_writable(run: RunFolder) -> None:
    """Fail before the slow imports if the run's folder, or the one that it is to be made in, cannot be written."""
    place = next(folder for folder in (run.path, *run.path.absolute().parents) if os.path.lexists(folder))
    if place.is_dir() and not os.access(place, os.W_OK | os.X_OK):
        raise InputError(
            f"run_dir: cannot write {run.path}: {os.strerror(errno.EACCES)}", "name another folder: --set run_dir=DIR"
        )


def require_adapter(settings: Config, config: Path | None) -> RunFolder:
    """Return the run's folder; fail before the slow imports if nothing has been trained in it yet."""
    run = settings.run
    if not (run.adapter_dir / "adapter_config.json").is_file():
        raise InputError(
            f"no adapter in {run.adapter_dir}: nothing has been trained there yet",
            without_adapter(run, config, settings),
        )
    return run


def without_data(config: Path | None, settings: Config) -> str:
    """Return the hint for a command that finds no data; ``config``: the file that was named."""
    hint = _in_another_folder(Path(settings.data.dir), config) or before_convert(config, settings)
    return f"{hint}{_OR_GO_THERE}" if is_fresh(config, settings) else hint


def without_adapter(run: RunFolder, config: Path | None, settings: Config) -> str:
    """Return the hint for a command that finds no adapter."""
    if hint := _in_another_folder(run.adapter_dir, config):
        return hint
    if any(run.checkpoints_dir.glob("checkpoint-*")):
        return f"a training was stopped there; go on with it: medqa train --resume{same_options(config)}"
    if is_fresh(config, settings):
        return f"{START}, then: medqa train{_OR_GO_THERE}"
    first = "" if has_data(settings.data.dir) else f"{_convert(config, settings)}   and then: "
    elsewhere = "or name another run: -c FILE or --set run_dir=DIR; or ask --model base"
    return f"train one with: {first}medqa train{same_options(config)}   ({elsewhere})"


def before_convert(config: Path | None, settings: Config) -> str:
    """Return the hint for a command that misses the data."""
    return START if is_fresh(config, settings) else f"run: {_convert(config, settings)}"


def same_options(config: Path | None, overrides: list[str] | None = None) -> str:
    """Return the options that name the config, to put behind the next command."""
    options = config_options(config, overrides)
    return f" {shlex.join(options)}" if options else ""


def config_options(config: Path | None, overrides: list[str] | None = None) -> list[str]:
    """Return the options that name the config, as they were given."""
    named = [] if config is None else ["-c", str(config)]
    return named + [word for override in overrides or () for word in ("--set", override)]


def is_fresh(config: Path | None, settings: Config) -> bool:
    """Tell whether nothing has been done here yet: there is no config, named or in this folder, and no data."""
    return config is None and not os.path.lexists(DEFAULT_NAME) and not has_data(settings.data.dir)


def has_data(data_dir: str) -> bool:
    """Tell whether something has been converted into the folder."""
    return (Path(data_dir) / "train.jsonl").is_file()


def _in_another_folder(path: Path, config: Path | None) -> str:
    """Return the hint for a path that is missing here and lies beside the config that was named; empty if not there."""
    if config is None or path.is_absolute() or not (config.parent / path).exists():
        return ""
    return f"{config.parent / path} is there, but paths are those of the current folder: cd {config.parent}"


def _convert(config: Path | None, settings: Config) -> str:
    """Return the call that converts what the config names, or a FILE where it names nothing."""
    return f"{'medqa convert' if settings.data.source else _CONVERT}{same_options(config)}"
