"""The pipeline of ``medqa convert``: read, clean, filter, split, purge, write, audit, report.

The rows pass twice: once from the source to a spool file, while only their keys and signatures are kept; once from
there to the files of their splits.
"""

import contextlib
import gc
import hashlib
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from medqa_cli import __version__, console
from medqa_cli.cards import data_card
from medqa_cli.config.schema import DataConfig
from medqa_cli.data import dataset, filtering, languages, row_work, splitting, token_lengths, writing
from medqa_cli.data.audit import audit_written
from medqa_cli.data.canaries import as_planted, make_canaries, write_canaries
from medqa_cli.data.cleaning import reasons, rules
from medqa_cli.data.documents.finding import find_documents
from medqa_cli.data.documents.passages import Documents, read_documents
from medqa_cli.data.identifiers.model_finds import ModelSearch
from medqa_cli.data.near_duplicates import RowSketches
from medqa_cli.data.reading.shapes import Caps, ColumnNames, SourceRows
from medqa_cli.data.reading.sources import local_paths, open_sources
from medqa_cli.data.report import (
    check_counts,
    conversion_counts,
    warn_of_frequent_reasons,
    warn_of_garbled,
    warn_of_identifiers,
    warn_of_one_topic,
)
from medqa_cli.data.row_workers import row_workers
from medqa_cli.data.topics.topics import pages_tell
from medqa_cli.errors import MedqaError
from medqa_cli.files import CARD_NAME, atomic_dir, write_json
from medqa_cli.leftovers import sweep
from medqa_cli.workers import Workers

SPOOL_NAME = "spool.tmp"
SETS_NAME = "sets.tmp"


def convert(
    sources: Sequence[str],
    data: DataConfig,
    seed: int,
    render: writing.Render,
    lengths: token_lengths.TokenLengths | None,
    out_dir: Path,
    force: bool = False,
    workers: Workers | int | None = None,
    search: ModelSearch | None = None,
) -> dict[str, Any]:
    """Turn spreadsheets into a data folder; return the report, as written to ``report.json``.

    Same input, config and seed give the same bytes, but for the seconds, whatever the number of workers.

    Args:
        sources: files, folders, archives or hub ids.
        data: the section of the config.
        seed: draws the rows of ``max_rows``, the splits and the paraphrases.
        render: makes the ``text`` of a question and an answer.
        lengths: counts the tokens of the rows; None: not measured.
        out_dir: the folder to write, as a whole or not at all.
        force: replace the data folder of another source.
        workers: processes that share the work, or how many to start; None: as many as help.
        search: the model of ``data.identifiers_model``.

    Raises:
        InputError: a source, the config or the folder to write is wrong.
        MedqaError: the folder could not be written, a process died, or rows do not add up.
    """
    if (data.identifiers_model is None) != (search is None):
        raise ValueError("search has to be the model of data.identifiers_model")
    started = time.perf_counter()
    stage_seconds: dict[str, float] = {}
    console.doing("converting ...")
    with _timed(stage_seconds, "open"):
        listing = find_documents(data.documents, out_dir, local_paths(sources))
        opened = _open(sources, data, out_dir, force)
        # No passage of a table has anything before it.
        columns = replace(column_names(data), turns="reject", context=None)
        documents = read_documents(listing, data, columns) if listing.files else Documents()
    # Resolved, because a link to a folder has to stay a link.
    with _writing(out_dir), atomic_dir(out_dir.resolve()) as folder:
        inputs = _Inputs(", ".join(sources), opened, documents, data, seed, render, lengths, search)
        if search is not None:
            console.doing("counting rows ...")  # a second look at the sources, as the model takes far longer
            inputs = replace(inputs, num_rows=sum(1 for _ in open_sources(sources, column_names(data)).rows))
            console.doing("converting ...")
        report = _convert_into(folder, inputs, workers, stage_seconds)
        console.doing("writing the report ...")
        with _timed(stage_seconds, "report"):
            _write_card(folder, report, opened, Path(sources[0]).name, data, seed)
            if lengths is not None:
                lengths.draw(folder / dataset.LENGTHS_NAME)
        report |= {"seconds": round(time.perf_counter() - started, 2), "stage_seconds": stage_seconds}
        write_json(folder / dataset.REPORT_NAME, report)
    return report


def _write_card(
    folder: Path, report: dict[str, Any], opened: SourceRows, name: str, data: DataConfig, seed: int
) -> None:
    card = data_card(
        report,
        name=name,
        seed=seed,
        license=opened.license,
        medqa_version=__version__,
        settings=asdict(data),
        rule_docs={rule_name: rule.doc for rule_name, rule in rules.RULES.items()},
        shows_languages=languages.has_other_languages(report["languages"]),
    )
    (folder / CARD_NAME).write_text(card, encoding="utf-8", newline="\n")


def _open(sources: Sequence[str], data: DataConfig, out_dir: Path, force: bool) -> SourceRows:
    """Check the config and the folder to write, open the sources, and say what they are."""
    rules.enabled_rules(data.cleaning)  # a wrong name is reported before anything is read
    reasons.enabled_reasons(data.reasons)
    opened = open_sources(sources, column_names(data))
    name = ", ".join(sources)
    sweep(Path(os.path.realpath(out_dir)))
    dataset.check_replaceable(out_dir, name, local_paths(sources), _sha256(opened), force)
    console.note(f"reading {name}: {opened.description}; columns: {opened.columns.describe()}")
    for warning in opened.warnings:
        console.warn(warning)
    return opened


def column_names(data: DataConfig) -> ColumnNames:
    """Return the columns and the encoding that the config names, and its caps."""
    caps = Caps(data.max_row_bytes, data.max_expanded_bytes, data.max_reader_bytes, data.max_reader_seconds)
    names = ColumnNames(data.question_column, data.answer_column, data.topic_column, data.encoding, caps)
    return replace(names, turns=data.turns, context=data.context_column)


@dataclass(frozen=True)
class _Inputs:
    """What is converted, and how."""

    name: str
    opened: SourceRows
    documents: Documents
    data: DataConfig
    seed: int
    render: writing.Render
    lengths: token_lengths.TokenLengths | None
    search: ModelSearch | None
    num_rows: int = 0


def _convert_into(
    folder: Path, inputs: _Inputs, workers: Workers | int | None, stage_seconds: dict[str, float]
) -> dict[str, Any]:
    """Write the rows to a folder and return the report, which lacks the seconds."""
    data, seed, opened = inputs.data, inputs.seed, inputs.opened
    spool_path, sets_path = folder / SPOOL_NAME, folder / SETS_NAME
    with RowSketches(sets_path, data.near_duplicate_threshold) as sketches, contextlib.ExitStack() as stack:
        with _timed(stage_seconds, "read and clean"):
            batches, are_many = filtering.in_batches(opened.rows)
            if not isinstance(workers, Workers):
                workers = stack.enter_context(row_workers(workers, are_many))
            settings = row_work.RowSettings(data, seed, has_topic_column=opened.columns.topic is not None)
            filtered = filtering.filter_rows(
                batches, settings, spool_path, sketches, workers, inputs.search, inputs.num_rows
            )
        filtering.check_something_kept(filtered, inputs.name)
        filtering.drop_column_of_one_topic(filtered, opened)
        with _timed(stage_seconds, "split and purge"), console.status("splitting ..."):
            # Rows of one page share a topic, where topics tell nothing.
            by_page = pages_tell([key.topics for key in filtered.keys], [key.page for key in filtered.keys])
            if by_page:
                filtered.keys = [key._replace(topics=(*key.topics, key.page)) for key in filtered.keys]
            places = splitting.place_rows(filtered.keys, sketches, data, seed)
        passages = inputs.documents.passages
        indexed = workers.beside(writing.index_rows, folder, spool_path, places, filtered.by_question, passages)
        with _timed(stage_seconds, "write"), console.status("writing ..."):
            canaries = make_canaries(data.canaries, data.canary_copies, seed)
            planted = as_planted(canaries, data.identifiers, seed, inputs.search)
            written = writing.write_rows(
                folder, spool_path, filtered, places, data, seed, inputs.render, inputs.lengths, planted
            )
            if canaries:
                write_canaries(folder / dataset.CANARIES_NAME, canaries)
        with _timed(stage_seconds, "audit"):
            audit = audit_written(folder, sketches, by_page, workers)
        with _timed(stage_seconds, "index"), console.status("indexing ..."):
            indexed()
        spool_path.unlink()
        if (audit.rows, audit.paraphrases) != (written.splits, written.paraphrases + written.canary_rows):
            raise MedqaError(f"wrote {written.splits} rows but read back {audit.rows}", "check the disk")
    sets_path.unlink()
    model = None if inputs.search is None else inputs.search.as_json()
    identifiers = written.identifiers.as_json(data.identifiers, model)
    warn_of_frequent_reasons(filtered, written)
    warn_of_garbled(written)
    warn_of_identifiers(identifiers, written.splits["train"])
    warn_of_one_topic(filtered, places)
    report: dict[str, Any] = {"source": _source(inputs.name, opened, filtered.sha256)}
    report |= conversion_counts(opened.columns, filtered, places, by_page, written, data, identifiers)
    report |= {"leakage": audit.leakage, "short_answers": audit.short_answers}
    if canaries:
        report["canaries"] = {"planted": len(canaries), "copies": list(data.canary_copies), "rows": written.canary_rows}
    if passages:
        with _timed(stage_seconds, "open book"), console.status("comparing documents with held-out answers ..."):
            documents = inputs.documents
            held_out = documents.count_held_out(folder, data.near_duplicate_threshold)
            report["documents"] = documents.report | {"answers_held_out": held_out}
        if inputs.lengths is not None:
            inputs.lengths.add_passages([passage.text for passage in passages])
    report |= {"tokens": None if inputs.lengths is None else inputs.lengths.summary()}
    check_counts(report)
    return report


def _source(name: str, opened: SourceRows, sha256_of_rows: str) -> dict[str, Any]:
    """Return the entry of the source in the report; sources that are no files are known by their rows."""
    source: dict[str, Any] = {"path": name, "sha256": _sha256(opened) or sha256_of_rows}
    if len(opened.digests) > 1:
        source["files"] = [{"path": path, "sha256": digest} for path, digest in opened.digests.items()]
    return source


def _sha256(opened: SourceRows) -> str | None:
    """Return one digest for all sources, or None where one of them is not a file."""
    digests = [digest for digest in opened.digests.values() if digest is not None]
    if len(digests) < len(opened.digests):
        return None
    return digests[0] if len(digests) == 1 else hashlib.sha256("\n".join(digests).encode("ascii")).hexdigest()


@contextlib.contextmanager
def _writing(out_dir: Path) -> Iterator[None]:
    """Report errors of the disk; keep Python from searching millions of keys for cycles, which they do not form."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    except OSError as error:
        raise MedqaError(
            f"writing {out_dir} failed: {error.strerror or error}", "check the disk's free space"
        ) from error
    finally:
        if was_enabled:
            gc.enable()


@contextlib.contextmanager
def _timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    """Note the wall-clock seconds spent inside."""
    entered = time.perf_counter()
    yield
    seconds[stage] = round(time.perf_counter() - entered, 2)
