"""The work of ``medqa convert``: read, clean, screen, split, purge, write, audit, report.

The rows pass twice: once from the source to a spool file, while only their keys and signatures are kept; once from
there to the files of their splits. Does none of these steps by itself: the modules beside it do.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from medqa_cli import __version__, console
from medqa_cli.config.schema import DataConfig
from medqa_cli.data.audit import Audit, audit_written
from medqa_cli.data.cleaning.reasons import REASONS, enabled_reasons
from medqa_cli.data.cleaning.rules import RULES, enabled_rules
from medqa_cli.data.data_card import CardInfo, data_card
from medqa_cli.data.filtering import Screened, check_something_kept, screen_rows
from medqa_cli.data.holding_out import place_rows
from medqa_cli.data.near_duplicates import AnswerSketches
from medqa_cli.data.output_folder import CARD_NAME, LENGTHS_NAME, REJECTED_NAME, REPORT_NAME, check_replaceable
from medqa_cli.data.reading.rows import Caps, ColumnNames, SourceRows
from medqa_cli.data.reading.sources import SourceFile, local_paths, open_sources
from medqa_cli.data.splitting import SPLITS, check_fractions
from medqa_cli.data.stages import Stages
from medqa_cli.data.token_lengths import CountTokens, TokenLengths
from medqa_cli.data.topics.topic_counts import count_topics, pages_tell
from medqa_cli.data.writing import Render, Wording, Written, write_rows
from medqa_cli.errors import MedqaError
from medqa_cli.files import atomic_dir, sweep, write_json

SPOOL_NAME = "spool.tmp"
SETS_NAME = "sets.tmp"
MOST_REJECTED_IN_SILENCE = 0.2  # share of the rows that one reason may take without a warning
FEWEST_WARNED_OF = 3


@dataclass(frozen=True)
class TextTools:
    """What is made of a question and an answer besides storing them.

    ``render`` makes the ``text``; ``count_tokens`` counts the tokens of each of many texts (None: no tokenizer at hand,
    lengths are not measured); ``max_length``: longest example in tokens, for the report only; ``num_special_tokens``:
    what training adds to a ``text``.
    """

    render: Render
    count_tokens: CountTokens | None
    max_length: int
    num_special_tokens: int = 0

    def lengths(self) -> TokenLengths | None:
        """Return a new counter of token lengths, or None without a tokenizer."""
        if self.count_tokens is None:
            return None
        return TokenLengths(self.count_tokens, self.max_length, self.num_special_tokens)


@dataclass(frozen=True)
class Converted:
    """The report, as written to ``report.json``, and one sentence on the long answers (empty: not measured)."""

    report: dict[str, Any]
    advice: str


def convert(
    sources: Sequence[str], data: DataConfig, seed: int, tools: TextTools, out_dir: Path, force: bool = False
) -> Converted:
    """Turn spreadsheets into a data folder. Same input, config and seed give the same bytes, but for the seconds.

    Args:
        sources: files, folders, archives or hub ids.
        data: the section of the config.
        seed: draws the rows of ``max_rows``, the splits and the paraphrases.
        tools: rendering and token counts.
        out_dir: the folder to write, as a whole or not at all.
        force: replace the data folder of another source.

    Returns:
        the report and the advice.

    Raises:
        InputError: a source, the config or the folder to write is wrong.
        MedqaError: the folder could not be written, or rows do not add up.
    """
    stages = Stages()
    enabled_rules(data.cleaning)  # a wrong name is told before anything is read
    enabled_reasons(data.reasons)
    check_fractions(data.validation_fraction, data.test_fraction)
    with stages.stage("open"):
        opened = open_sources(sources, column_names(data))
    name = ", ".join(sources)
    sweep(Path(os.path.realpath(out_dir)))
    check_replaceable(out_dir, name, local_paths(sources), _sha256(opened.files), force)
    console.note(f"reading {name}: {opened.description}; columns: {opened.columns.describe()}")
    for warning in opened.warnings:
        console.warn(warning)
    lengths = tools.lengths()
    # Resolved, because a link to a folder has to stay a link.
    with _writing(out_dir), _without_cycle_search(), atomic_dir(out_dir.resolve()) as folder:
        sets_path = folder / SETS_NAME
        with AnswerSketches(sets_path, data.near_duplicate_threshold) as sketches:
            passed = _pass_twice(folder, name, opened, data, seed, tools.render, lengths, sketches, stages)
            with stages.stage("audit"):
                audit = _audit(folder, passed, sketches)
        sets_path.unlink()
        _warn_of_frequent_reasons(passed)
        _warn_of_garbled(passed.written)
        report = {"source": _source(name, opened.files, passed.screened)} | _counts(opened, passed, data)
        report |= {"leakage": audit.leakage, "tokens": None if lengths is None else lengths.summary()}
        check_counts(report)
        with stages.stage("report"):
            _write_card(
                folder,
                report,
                CardInfo(Path(sources[0]).name, seed, opened.licence, __version__, asdict(data), _docs()),
            )
            if lengths is not None:
                lengths.draw(folder / LENGTHS_NAME)
        report |= {"seconds": stages.total(), "stage_seconds": stages.seconds()}
        write_json(folder / REPORT_NAME, report)
    return Converted(report, "" if lengths is None else lengths.advice())


def column_names(data: DataConfig) -> ColumnNames:
    """Return the columns and the encoding that the config names, and its caps."""
    caps = Caps(data.max_row_bytes, data.max_expanded_bytes, data.max_reader_bytes, data.max_reader_seconds)
    return ColumnNames(data.question_column, data.answer_column, data.topic_column, data.encoding, caps)


def check_counts(report: dict[str, Any]) -> None:
    """Check that each row read is in a split or rejected.

    Raises:
        MedqaError: the counts do not add up.
    """
    rows, splits = report["rows"], report["splits"]
    rejected = sum(rows["rejected"].values())
    if rows["read"] != rows["kept"] + rejected or rows["kept"] != sum(splits.values()):
        raise MedqaError(
            f"rows do not add up: {rows['read']} read, {rows['kept']} kept, {rejected} rejected, splits {splits}",
            "this is a fault of medqa; nothing was written",
        )


@dataclass(frozen=True)
class _Passed:
    """What both passes leave: the keys and counts of the rows, where each went, and what was written.

    ``by_page``: rows of one page stay together, as their topics tell nothing.
    """

    screened: Screened
    places: Sequence[str]
    written: Written
    by_page: bool


def _pass_twice(
    folder: Path,
    name: str,
    opened: SourceRows,
    data: DataConfig,
    seed: int,
    render: Render,
    lengths: TokenLengths | None,
    sketches: AnswerSketches,
    stages: Stages,
) -> _Passed:
    spool_path = folder / SPOOL_NAME
    with stages.stage("read and clean"):
        screened = screen_rows(opened, data, enabled_rules(data.cleaning), spool_path, sketches)
    check_something_kept(screened, name)
    _drop_column_of_one_topic(screened, opened)
    with stages.stage("split and purge"), console.status("splitting ..."):
        by_page = pages_tell([key.topics for key in screened.keys], [key.page for key in screened.keys])
        if by_page:
            screened.keys = [replace(key, topics=(*key.topics, key.page)) for key in screened.keys]
        places = place_rows(screened.keys, sketches, data, seed)
    with stages.stage("write"), console.status("writing ..."):
        wording = Wording(render, data.paraphrases_per_question, seed)
        written = write_rows(folder, spool_path, screened, places, wording, lengths)
    spool_path.unlink()
    return _Passed(screened, places, written, by_page)


def _drop_column_of_one_topic(screened: Screened, opened: SourceRows) -> None:
    """Take topics from the questions where the topic column holds the same on all rows, and say so."""
    keys = screened.column.without_it(screened.keys)
    if keys is None or opened.columns.topic is None:
        return
    screened.keys, screened.by_question = keys, True
    console.warn(
        f"column {opened.columns.names[opened.columns.topic]!r} holds the same topic on all {len(keys):,} rows, which "
        "tells nothing: topics are taken from the questions"
    )


def _audit(folder: Path, passed: _Passed, sketches: AnswerSketches) -> Audit:
    """Audit the files by reading them again, and check that they hold what was written."""
    audit, written = audit_written(folder, sketches, passed.by_page), passed.written
    if (audit.rows, audit.paraphrases) != (written.splits, written.paraphrases):
        raise MedqaError(f"wrote {written.splits} rows but read back {audit.rows}", "check the disk")
    return audit


def _counts(opened: SourceRows, passed: _Passed, data: DataConfig) -> dict[str, Any]:
    written = passed.written
    kept = {"read": passed.screened.read, "kept": sum(written.splits.values())}
    return {
        "rows": {**kept, "rejected": dict(sorted(written.rejected.items()))},
        "splits": written.splits,
        "paraphrases": written.paraphrases,
        "topics": _topics(opened, passed),
        "encoding": {"named": data.encoding, "garbled_rows": written.garbled},
        "languages": dict(sorted(written.languages.items(), key=lambda item: (-item[1], item[0]))),
        "cleaning": {rule: written.changed[rule] for rule in enabled_rules(data.cleaning)},
    }


def _topics(opened: SourceRows, passed: _Passed) -> dict[str, Any]:
    column = None if passed.screened.by_question else opened.columns.topic
    if passed.by_page:
        column = opened.columns.source
    keys = zip(passed.screened.keys, passed.places, strict=True)
    counts = count_topics(key.page if passed.by_page else key.topics for key, place in keys if place in SPLITS)
    if counts.known and counts.doubt:
        console.warn(
            f"{counts.doubt}: whether held-out rows share their topic with train is not known; "
            "a column that names what a row is about, or the page it is from, would tell: --set data.topic_column=NAME"
        )
    name = None if column is None else opened.columns.names[column]
    return {"column": name, "pages": passed.by_page} | counts.as_json()


def _warn_of_garbled(written: Written) -> None:
    if written.garbled:
        console.warn(
            f"{written.garbled:,} kept rows hold signs that a wrong decoding leaves, or lost characters (U+FFFD); the "
            f"first: {'; '.join(written.garbled_rows)}. They were in the source: export it again as UTF-8"
        )


def _warn_of_frequent_reasons(passed: _Passed) -> None:
    """Say which reasons took so many rows that they may be wrong about this source."""
    read = passed.screened.read
    for reason, count in passed.written.rejected.most_common():
        if count < FEWEST_WARNED_OF or count <= MOST_REJECTED_IN_SILENCE * read or reason == "not_sampled":
            continue
        known = REASONS.get(reason)
        can_be_off = known is not None and not known.fixed and count > passed.screened.unreadable[reason]
        console.warn(
            f"{reason} takes {count:,} of {read:,} rows ({100 * count / read:.0f} %), the first: "
            f"{passed.written.examples[reason]}; look at {REJECTED_NAME}"
            + (f", and if these rows are good: --set 'data.reasons={{{reason}: false}}'" if can_be_off else "")
        )


def _write_card(folder: Path, report: dict[str, Any], info: CardInfo) -> None:
    (folder / CARD_NAME).write_text(data_card(report, info), encoding="utf-8", newline="\n")


def _docs() -> dict[str, str]:
    return {name: rule.doc for name, rule in RULES.items()}


@contextlib.contextmanager
def _without_cycle_search() -> Iterator[None]:
    """Keep Python from searching the rows' keys for cycles again and again: there are none, and millions of keys."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@contextlib.contextmanager
def _writing(out_dir: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise MedqaError(
            f"writing {out_dir} failed: {error.strerror or error}", "check the disk's free space"
        ) from error


def _source(name: str, files: Sequence[SourceFile], screened: Screened) -> dict[str, Any]:
    source: dict[str, Any] = {"path": name, "sha256": _sha256(files) or screened.sha256}
    if len(files) > 1:
        source["files"] = [{"path": file.path, "sha256": file.sha256} for file in files]
    return source


def _sha256(files: Sequence[SourceFile]) -> str | None:
    """Return one digest for all sources, or None where one of them is not a file."""
    digests = [file.sha256 for file in files]
    if None in digests:
        return None
    if len(digests) == 1:
        return digests[0]
    return hashlib.sha256("\n".join(filter(None, digests)).encode("ascii")).hexdigest()
