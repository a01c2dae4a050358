"""What to do next, in the hints of the commands: by what is already there, and with the options that were given."""

import os
import shlex
from pathlib import Path

from medqa_cli.config.load import DEFAULT_NAME
from medqa_cli.config.schema import Config
from medqa_cli.files import RunFolder

_CONVERT = "medqa convert FILE"
START = f"start with: medqa config init (writes {DEFAULT_NAME} for this machine), then: {_CONVERT}"
_OR_GO_THERE = "; or, if you have done so, go to the folder where you did: medqa works in the current one"


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
