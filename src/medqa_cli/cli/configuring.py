"""``medqa config``: shows, checks and describes the configuration."""

from __future__ import annotations

from medqa_cli import console
from medqa_cli.cli.app import config_app
from medqa_cli.cli.options import (
    ConfigOption,
    JsonOption,
    SetOption,
)
from medqa_cli.config import load


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
