"""What a newcomer is told to do next. Looks only at what lies in the current folder."""

from __future__ import annotations

import os
from pathlib import Path

from medqa_cli.config.load import DEFAULT_NAME
from medqa_cli.config.schema import Config

INIT = "medqa config init"
CONVERT = "medqa convert FILE"
START = f"start with: {INIT} (writes {DEFAULT_NAME} for this machine), then: {CONVERT}"


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
