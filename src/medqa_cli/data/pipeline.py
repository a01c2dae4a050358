"""The work of ``medqa convert``: read, clean, screen, split, render, write, report.

The rows pass twice: once from the source to a spool file, while only their keys are kept; once from there to the
files of their splits. Does not parse formats, clean or split by itself: the modules beside it do.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import compress
from pathlib import Path
from typing import Any, TextIO

from medqa_cli import console
from medqa_cli.config.sections import DataConfig
from medqa_cli.data.cleaning import clean, enabled_rules, one_line
from medqa_cli.data.dedup import RowKeys, Screen, draw, unique_id
from medqa_cli.data.leakage import count_leaks
from medqa_cli.data.lengths import CountTokens, TokenLengths
from medqa_cli.data.output_folder import REPORT_NAME, check_replaceable
from medqa_cli.data.rows import RawRow, SourceRows, UnreadRow
from medqa_cli.data.sources import read_rows
from medqa_cli.data.splitting import SPLITS, assign_splits, check_fractions
from medqa_cli.data.wording import counted
from medqa_cli.errors import InputError, MedqaError
from medqa_cli.run_folder import atomic_dir, sha256_of_file, write_json

SPOOL_NAME = "spool.tmp"
NOT_SAMPLED = "not_sampled"  # beside the splits: what becomes of a row that is not drawn

Render = Callable[[str, str], str]


@dataclass
class _Screened:
    """What is known of the rows after the first pass: the keys of those let through, and the counts."""

    keys: list[RowKeys] = field(default_factory=list)
    read: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    first_rejected: str = ""


def convert(
    source: Path,
    data: DataConfig,
    seed: int,
    render: Render,
    count_tokens: CountTokens | None,
    max_length: int,
    out_dir: Path,
    force: bool = False,
) -> dict[str, Any]:
    """Turn a spreadsheet into a data folder. Same input, config and seed give the same bytes, but for ``seconds``.

    Args:
        source: the spreadsheet.
        data: the section of the config.
        seed: draws the rows of ``max_rows`` and the splits.
        render: makes the ``text`` of a question and an answer.
        count_tokens: counts the tokens of each of many texts; None: ``tokens`` of the report is null.
        max_length: longest example in tokens, for the report only.
        out_dir: the folder to write, as a whole or not at all.
        force: replace the data folder of another source.

    Returns:
        the report, as written to ``report.json``.

    Raises:
        InputError: the source, the config or the folder to write is wrong.
        MedqaError: the folder could not be written, or rows do not add up.
    """
    started = time.perf_counter()
    rules = enabled_rules(data.cleaning)
    check_fractions(data.validation_fraction, data.test_fraction)
    opened = read_rows(source, data.question_column, data.answer_column, data.topic_column)
    sha256 = sha256_of_file(source)
    check_replaceable(out_dir, source, sha256, force)
    console.note(f"reading {source}: {opened.description}; columns: {opened.columns.describe()}")
    report: dict[str, Any] = {"source": {"path": str(source), "sha256": sha256}}
    lengths = None if count_tokens is None else TokenLengths(count_tokens, max_length)
    # Resolved, because a link to a folder has to stay a link.
    with _writing(out_dir), atomic_dir(out_dir.resolve()) as folder:
        screened = _screen(opened, data, rules, folder / SPOOL_NAME)
        _check_something_kept(screened, source)
        splits = _assign(screened, data, seed)
        report |= _write_rows(folder, screened, splits, rules, render, lengths)
        (folder / SPOOL_NAME).unlink()
        report["leakage"] = count_leaks(screened.keys, splits, opened.columns.topic is not None)
        report["tokens"] = None if lengths is None else lengths.summary()
        report["seconds"] = round(time.perf_counter() - started, 2)
        check_counts(report)
        write_json(folder / REPORT_NAME, report)
    return report


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


@contextlib.contextmanager
def _writing(out_dir: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise MedqaError(
            f"writing {out_dir} failed: {error.strerror or error}", "check the disk's free space"
        ) from error


def _screen(opened: SourceRows, data: DataConfig, rules: Sequence[str], spool_path: Path) -> _Screened:
    """First pass: clean and judge each row, spool all of them, keep the keys of those let through."""
    screened = _Screened()
    screen = Screen(data.max_copies_of_an_answer)
    with _create(spool_path) as spool:
        for row in opened.rows:
            screened.read += 1
            entry = _judged(row, screen, rules, screened.keys)
            if reason := entry.get("reason"):
                screened.rejected[reason] += 1
                screened.first_rejected = screened.first_rejected or f"row {row.row}: {reason}"
            _write_line(spool, entry)
    return screened


def _judged(row: RawRow | UnreadRow, screen: Screen, rules: Sequence[str], keys: list[RowKeys]) -> dict[str, Any]:
    """Return what is spooled of a row: it as rejected (with a ``reason``), or its raw and its cleaned texts."""
    if isinstance(row, UnreadRow):
        return _rejected(row, row.reason)
    cleaned = clean(row.question, row.answer, rules)
    topic = one_line(row.topic)
    judgement = screen.judge(cleaned.question, cleaned.answer, topic, row.source)
    if isinstance(judgement, str):
        return _rejected(row, judgement)
    keys.append(judgement)
    return {
        "not_drawn": _rejected(row, NOT_SAMPLED),
        "changed": cleaned.changed,
        "kept": {"question": cleaned.question, "answer": cleaned.answer, "topic": topic, "source": row.source},
    }


def _rejected(row: RawRow | UnreadRow, reason: str) -> dict[str, Any]:
    """Return a line of ``rejected.jsonl``."""
    entry: dict[str, Any] = {"row": row.row, "reason": reason, "question": row.question, "answer": row.answer}
    if row.line is not None:
        entry["line"] = row.line
    if isinstance(row, UnreadRow) and row.text:
        entry["text"] = row.text
    return entry


def _check_something_kept(screened: _Screened, source: Path) -> None:
    if not screened.keys:
        raise InputError(
            f"{source}: none of its {screened.read:,} rows can be used: {counted(screened.rejected)} "
            f"(the first: {screened.first_rejected})",
            "check the file, or whether data.question_column and data.answer_column name the right columns",
        )


def _assign(screened: _Screened, data: DataConfig, seed: int) -> list[str]:
    """Return the split of each row let through, or ``not_sampled``."""
    drawn = draw([key.pair for key in screened.keys], data.max_rows, seed)
    keys = list(compress(screened.keys, drawn))
    assigned = iter(assign_splits(keys, data.validation_fraction, data.test_fraction, seed))
    return [next(assigned) if is_drawn else NOT_SAMPLED for is_drawn in drawn]


def _write_rows(
    folder: Path,
    screened: _Screened,
    splits: Sequence[str],
    rules: Sequence[str],
    render: Render,
    lengths: TokenLengths | None,
) -> dict[str, Any]:
    """Second pass: write each spooled row to its split or to the rejected ones; return the counts of the report."""
    written = dict.fromkeys(SPLITS, 0)
    rejected: Counter[str] = Counter()
    changed = dict.fromkeys(rules, 0)
    taken: Counter[str] = Counter()
    let_through = zip(screened.keys, splits, strict=True)
    with contextlib.ExitStack() as stack:
        files = {name: stack.enter_context(_create(folder / f"{name}.jsonl")) for name in (*SPLITS, "rejected")}
        for entry in _spooled(folder / SPOOL_NAME):
            key, split = next(let_through) if "kept" in entry else (None, "")
            if key is None or split == NOT_SAMPLED:
                entry = entry.get("not_drawn", entry)
                rejected[entry["reason"]] += 1
                _write_line(files["rejected"], entry)
                continue
            kept = entry["kept"]
            text = render(kept["question"], kept["answer"])
            _write_line(files[split], {"id": unique_id(key.pair, taken), **kept, "text": text})
            written[split] += 1
            for rule in entry["changed"]:
                changed[rule] += 1
            if lengths is not None:
                lengths.add(kept["answer"], text)
    rows = {"read": screened.read, "kept": sum(written.values()), "rejected": dict(sorted(rejected.items()))}
    return {"rows": rows, "splits": written, "cleaning": changed}


def _create(path: Path) -> TextIO:
    # A lone surrogate of a rejected row is written as \udXXX, which JSON reads back.
    return open(path, "w", encoding="utf-8", errors="backslashreplace", newline="\n")


def _write_line(file: TextIO, entry: dict[str, Any]) -> None:
    file.write(json.dumps(entry, ensure_ascii=False) + "\n")


def _spooled(path: Path) -> Iterator[dict[str, Any]]:
    with open(path, encoding="utf-8", newline="\n") as file:
        for line in file:
            yield json.loads(line)
