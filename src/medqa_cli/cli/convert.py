"""``medqa convert``: convert a source, audit a folder, or show what a cleaning rule does."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medqa_cli import console
from medqa_cli.cli import app
from medqa_cli.config.load import load
from medqa_cli.config.schema import Config
from medqa_cli.data.reading.formats import FORMATS_IN_WORDS
from medqa_cli.errors import InputError, MedqaError
from medqa_cli.prompt.given import Given

if TYPE_CHECKING:
    from medqa_cli.data.identifiers.model_finds import ModelSearch
    from medqa_cli.data.token_lengths import TokenLengths
    from medqa_cli.data.writing import Render

EXAMPLES_SHOWN = 10


@app.command(
    "medqa convert questions.csv  one table",
    "medqa convert  the table of data.source",
    "medqa convert jan.csv feb.xlsx  several at once",
    "medqa convert questions.csv --show hpo_block  what a rule changes",
    "medqa convert questions.csv --show identifiers  what looks like patient data",
    "medqa convert --audit some/folder  what the splits there share",
)
def convert(
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SOURCE]...",
            help=f"File ({FORMATS_IN_WORDS}), folder or archive of such or of MedQuAD XML, hub id.",
        ),
    ] = None,
    out: app.OutOption = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the data folder of another source.")] = False,
    audit: Annotated[
        Path | None, typer.Option("--audit", metavar="DIR", help="Convert nothing; count what DIR's splits share.")
    ] = None,
    show: Annotated[
        str | None,
        typer.Option(
            "--show", metavar="RULE", help="Convert nothing; show what a rule or reason does, or 'identifiers'."
        ),
    ] = None,
    canaries: Annotated[
        int | None,
        typer.Option(
            "--canaries",
            metavar="N",
            help="Plant N rows with made-up numbers, for eval's test of memorization; data.canary_copies: how often.",
            min=0,
            max=500,
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers",
            metavar="N",
            help="Processes that share the work; the files are the same for any number. Default: all cores, up to "
            "8; 1 for a small source.",
            min=1,
            max=64,
        ),
    ] = None,
    config: app.ConfigOption = None,
    overrides: app.SetOption = None,
    as_json: app.JsonOption = False,
) -> None:
    """Turn a spreadsheet of questions and answers into a data set.

    Cleans the rows, splits them by topic, and reports what became of each.
    """
    console.use_json(as_json)
    settings = load(config, overrides or ()).config
    if audit is not None:
        if sources or show:
            raise InputError("--audit looks at a folder that is already split; it takes no SOURCE and no --show")
        _audit(audit, settings)
        return
    named = settings.data.source
    chosen = sources or ([named] if isinstance(named, str) else list(named or ()))
    if not chosen:
        raise InputError(
            "no source: neither an argument nor data.source names a file", app.before_convert(config, settings)
        )
    app.clear_leftovers(settings)
    if show is not None:
        _show_rule(show, chosen, settings)
    else:
        if canaries is not None:
            settings = replace(settings, data=replace(settings.data, canaries=canaries))
        _convert(chosen, out or Path(settings.data.dir), settings, force, workers)


def _convert(sources: Sequence[str], out_dir: Path, config: Config, force: bool, workers: int | None) -> None:
    """Convert and show the report.

    Raises:
        InputError: a source, the config or the folder to write is wrong.
        MedqaError: the written splits leak, or could not be written.
    """
    from medqa_cli.data.documents.finding import find_documents
    from medqa_cli.data.reading.sources import check_sources, local_paths
    from medqa_cli.data.row_workers import early_row_workers

    # Before numpy, and the tokenizer, which takes seconds to load.
    check_sources(sources)
    find_documents(config.data.documents, out_dir, local_paths(sources))
    console.doing("loading the libraries ...")
    search = _model_search(config)
    if search is not None:
        workers = 1  # the model is in this process, and others would idle
    early = early_row_workers(local_paths(sources), workers)
    with early or contextlib.nullcontext():
        from medqa_cli.data import report
        from medqa_cli.data.convert import convert

        render, lengths = _renderer_and_lengths(config)
        processes = early or workers
        converted = convert(sources, config.data, config.seed, render, lengths, out_dir, force, processes, search)
    console.result(converted, lambda: report.show(converted, lengths.advice() if lengths else "", out_dir))
    _check_no_leak(converted["leakage"], out_dir)


def _model_search(config: Config) -> ModelSearch | None:
    """Load the model that looks for identifiers beside the rules; None: the config names none.

    Raises:
        InputError: it is not there, cannot be used, or has no label of an identifier.
    """
    path = config.data.identifiers_model
    if path is None:
        return None
    from medqa_cli.data.identifiers.model_finds import ModelSearch
    from medqa_cli.model.token_labels import load_token_labeler

    return ModelSearch(load_token_labeler(path, "data.identifiers_model"), path)


def _renderer_and_lengths(config: Config) -> tuple[Render, TokenLengths | None]:
    """Return the renderer of the ``text`` column, and the counter of tokens; None: no model is configured."""
    if config.model.name_or_path is None:
        from medqa_cli.prompt.template import make_prompt_text

        console.note("model.name_or_path is not set: token lengths are not measured")
        text = make_prompt_text(config.prompt)

        def render_alone(question: str, answer: str, given: Given) -> str:
            if given.earlier:
                raise InputError(
                    "model.name_or_path is not set: what stands between the turns of a conversation is the model's",
                    "name the model: --set model.name_or_path=... (or learn first turns only: --set data.turns=first)",
                )
            return text.render(question, answer, given)

        return render_alone, None
    from medqa_cli.data.token_lengths import TokenLengths
    from medqa_cli.model.load import load_config, load_tokenizer, num_embeddings
    from medqa_cli.model.resolve import find_base
    from medqa_cli.prompt.contract import make_contract, room_for_earlier
    from medqa_cli.prompt.encoder import PromptEncoder

    base = find_base(config.model.name_or_path, config.model.revision)
    tokenizer = load_tokenizer(base.location, base.revision)
    rows = num_embeddings(load_config(base.location, base.revision))
    has_earlier = config.data.turns in ("last", "all")
    contract = make_contract(
        config.prompt,
        tokenizer,
        room_for_earlier(config.model.max_length) if has_earlier else 0,
        context=config.data.context_column is not None,
    )
    encoder = PromptEncoder(contract, tokenizer, rows)
    lengths = TokenLengths(
        encoder.count_tokens,
        config.model.max_length,
        encoder.num_special_tokens,
        config.prompt.sources,
        config.prompt.source_tokens,
    )

    def render(question: str, answer: str, given: Given) -> str:
        kept = encoder.fitted(question, given) if given else given
        lengths.rows_cut += kept is not given and kept != given
        lengths.turns_left_out += len(given.earlier) - len(kept.earlier)
        return contract.text.render(question, answer, kept)

    return render, lengths


def _audit(folder: Path, config: Config) -> None:
    """Count what the splits of a folder share, and show it.

    Raises:
        InputError: the folder holds no splits that can be read.
        MedqaError: held-out rows are not held out.
    """
    console.doing("loading the libraries ...")
    from medqa_cli.data import report
    from medqa_cli.data.audit import audit_folder
    from medqa_cli.data.convert import column_names

    audited = audit_folder(folder, config.data.near_duplicate_threshold, column_names(config.data))
    console.result(audited.as_json(), lambda: report.show_audit(audited, folder))
    _check_no_leak(audited.leakage, folder)


def _show_rule(rule: str, sources: Sequence[str], config: Config) -> None:
    """Show some rows before and after a cleaning rule, or that a reason leaves out, or what identifies persons.

    Raises:
        InputError: a source is wrong.
        ConfigError: there is no such rule or reason.
    """
    console.doing("loading the libraries ...")
    from medqa_cli.data import report
    from medqa_cli.data.convert import column_names
    from medqa_cli.data.examples import IDENTIFIERS, identifier_examples, rule_examples
    from medqa_cli.data.reading.sources import open_sources

    search = _model_search(config) if rule == IDENTIFIERS else None
    opened = open_sources(sources, column_names(config.data))
    console.doing("reading and cleaning ...")
    if rule == IDENTIFIERS:
        found = identifier_examples(opened, config.data.cleaning, EXAMPLES_SHOWN, config.seed, search)
        console.result([example.as_json() for example in found], lambda: report.show_identifiers(found))
        return
    shown = rule_examples(opened, rule, config.data.cleaning, EXAMPLES_SHOWN, config.seed)
    console.result([asdict(example) for example in shown], lambda: report.show_rule(rule, shown))


def _check_no_leak(leakage: dict[str, dict[str, int | None]], folder: Path) -> None:
    """End with exit code 1 where held-out rows are not held out."""
    leaks = [
        f"{count:,} {split} rows by {kind.replace('_', ' ')}"
        for split, counts in leakage.items()
        for kind, count in counts.items()
        if count
    ]
    if leaks:
        raise MedqaError(
            f"{folder} leaks: {', '.join(leaks)} are in another split too",
            "metrics on such rows mean little; split all rows again: medqa convert FILE",
        )
