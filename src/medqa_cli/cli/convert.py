"""``medqa convert``: its options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medqa_cli import console
from medqa_cli.cli import first_steps
from medqa_cli.cli.app import app, ending_with_a_message, examples
from medqa_cli.cli.options import (
    ConfigOption,
    JsonOption,
    OutOption,
    SetOption,
)
from medqa_cli.config.load import load
from medqa_cli.errors import InputError


@app.command(
    epilog=examples(
        "medqa convert questions.csv  one table",
        "medqa convert  the table of data.source",
        "medqa convert jan.csv feb.xlsx  several at once",
        "medqa convert questions.csv --show hpo_block  what a rule changes",
        "medqa convert --audit some/folder  what the splits there share",
    )
)
@ending_with_a_message
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
            "--show", metavar="RULE", help="Convert nothing; show what a rule or reason does.", show_default=False
        ),
    ] = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Turn a spreadsheet of questions and answers into a data set.

    Cleans the rows, splits them by topic, and says what became of each.
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
        raise InputError(
            "no source: neither an argument nor data.source names a file", first_steps.before_convert(config, settings)
        )
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
