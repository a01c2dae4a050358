"""What the commands share: options, the config of a run, checks before slow imports, and their hints."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from medqa_cli.config.load import DEFAULT_NAME, Loaded, load
from medqa_cli.config.schema import Config
from medqa_cli.errors import InputError
from medqa_cli.files import RunFolder

INIT = "medqa config init"
CONVERT = "medqa convert FILE"
START = f"start with: {INIT} (writes {DEFAULT_NAME} for this machine), then: {CONVERT}"


def at_home(path: Path | None) -> Path | None:
    """Return a path with the home folder in the place of ``~``, which shells leave in ``--out=~/x``."""
    return path.expanduser() if path is not None and str(path).startswith("~") else path


ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config", "-c", help="YAML file; default: medqa.yaml in this folder.", show_default=False, callback=at_home
    ),
]
RunConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        help="YAML file; default: medqa.yaml in this folder, else the run's own.",
        show_default=False,
        callback=at_home,
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", help="Override one key, e.g. --set train.learning_rate=1e-4. Repeatable.", metavar="KEY=VALUE"
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout instead of tables.")]
OutOption = Annotated[Path | None, typer.Option("--out", help="Folder to write.", show_default=False, callback=at_home)]


def load_for_run(config: Path | None, overrides: list[str] | None) -> Loaded:
    """Load the config; without one, that of the run in ``run_dir``, so that its model is used as it was trained."""
    loaded = load(config, overrides or ())
    recorded = run_folder(loaded.config).config_path
    if loaded.path is None and recorded.is_file():
        return load(recorded, overrides or ())
    return loaded


def run_folder(settings: Config) -> RunFolder:
    """Return the folder of the run that the config names."""
    return RunFolder(Path(settings.run_dir))


def require_data(settings: Config, config: Path | None) -> None:
    """Fail before the slow imports when nothing has been converted yet; ``config`` is the file that was named."""
    if not has_data(settings.data.dir):
        raise InputError(
            f"no data in {settings.data.dir}: nothing has been converted yet",
            before_convert(config, settings),
        )


def require_adapter(settings: Config, config: Path | None) -> RunFolder:
    """Return the run's folder; fail before the slow imports when nothing has been trained in it yet."""
    run = run_folder(settings)
    if not (run.adapter_dir / "adapter_config.json").is_file():
        raise InputError(
            f"no adapter in {run.adapter_dir}: nothing has been trained there yet",
            before_train(config, settings),
        )
    return run


def has_data(data_dir: str) -> bool:
    """Tell whether something has been converted into the folder."""
    return (Path(data_dir) / "train.jsonl").is_file()


def is_fresh(config: Path | None, settings: Config) -> bool:
    """Tell whether nothing has been done here yet: no config is named or lies here, and there is no data."""
    return config is None and not os.path.lexists(DEFAULT_NAME) and not has_data(settings.data.dir)


def before_convert(config: Path | None, settings: Config) -> str:
    """Return the hint for a command that misses the data."""
    return START if is_fresh(config, settings) else f"run: {CONVERT}"


def before_train(config: Path | None, settings: Config) -> str:
    """Return the hint for a command that misses the adapter."""
    if is_fresh(config, settings):
        return f"{START}, then: medqa train"
    elsewhere = "or name another run: -c FILE or --set run_dir=DIR; or ask --model base"
    first = "" if has_data(settings.data.dir) else f"{CONVERT}   and then: "
    return f"train one with: {first}medqa train   ({elsewhere})"
