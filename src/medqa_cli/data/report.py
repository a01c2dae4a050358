"""Shows the results of ``medqa convert`` so that a person reads them in ten seconds. Does not compute anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from medqa_cli import console
from medqa_cli.data.audit import HELD_OUT, KINDS, Audit
from medqa_cli.data.cleaning.reasons import REASONS
from medqa_cli.data.languages import UNKNOWN, has_other_languages
from medqa_cli.data.output_folder import LENGTHS_NAME, REJECTED_NAME
from medqa_cli.data.rule_examples import RuleExample
from medqa_cli.data.splitting import SPLITS

_SHARED = ("question", "answer", "near copy", "topic")  # the headings of ``audit.KINDS``


def show(report: dict[str, Any], advice: str, out_dir: Path) -> None:
    """Print the report of a conversion to stdout.

    Args:
        report: what ``convert.convert`` returned.
        advice: its sentence on the long answers; empty: none.
        out_dir: the folder that was written.
    """
    rows = report["rows"]
    lines = [["read", f"{rows['read']:,}", ""], ["kept", *_counted(rows["kept"], rows["read"])]]
    lines += [[f"rejected: {name}", *_counted(count, rows["read"])] for name, count in _by_count(rows["rejected"])]
    cleaned = [(name, count) for name, count in _by_count(report["cleaning"]) if count]
    lines += [[f"kept, changed by: {name}", *_counted(count, rows["kept"])] for name, count in cleaned]
    console.table(f"{report['source']['path']} ({report['seconds']:.1f} s)", lines, header=("rows", "", "share"))
    show_splits(report["splits"], report["leakage"])
    topics = report["topics"]
    named = f"column '{topics['column']}'" if topics["column"] else None
    origin = named or ("the names of the files" if topics["pages"] else "the questions")
    pages = "; rows from one page were kept together, as their topics tell nothing" if topics["pages"] else ""
    _show_topics(topics, rows["kept"], f", from {origin}{pages}")
    if has_other_languages(report["languages"]):
        console.line("languages: " + languages(report["languages"]))
    if report["paraphrases"]:
        console.line(f"paraphrases: {report['paraphrases']:,} more training questions, not counted above")
    if report["tokens"] is not None:
        answer = report["tokens"]["answer"]
        console.line("tokens of an answer: " + ", ".join(f"{name} {count:,}" for name, count in answer.items()))
        console.line(advice)
    files = "README.md, report.json" + (f", {LENGTHS_NAME}" if report["tokens"] else "")
    rejected = f"; the rejected rows: {REJECTED_NAME}" if rows["rejected"] else ""
    console.line(f"written to {out_dir} ({files}{rejected})")


def show_audit(audit: Audit, folder: Path) -> None:
    """Print the audit of a folder to stdout."""
    console.line(f"audit of {folder}")
    show_splits(audit.rows, audit.leakage)
    _show_topics(audit.topics.as_json(), audit.topics.rows, "")
    for example in audit.examples:
        console.line(f"  {example['leak']}: {example['row']} and {example['also']}")


def _show_topics(topics: dict[str, Any], rows: int, origin: str) -> None:
    doubt = f"; shared ones are not known, as {topics['doubt']}" if topics["doubt"] else ""
    console.line(f"topics: {topics['distinct']:,}, known for {topics['known']:,} of {rows:,} rows{origin}{doubt}")


def show_splits(splits: dict[str, int], leakage: dict[str, dict[str, int | None]]) -> None:
    """Print the splits, and what the held-out ones share with those that they are held out from."""
    whole = sum(splits.values())
    lines, alarming = [], set()
    for number, name in enumerate(SPLITS):
        line = [name, *_counted(splits[name], whole)]
        for kind in KINDS if name in HELD_OUT and splits[name] else ():
            count = leakage[name][kind]
            if count:
                alarming.add((number, len(line)))
            line.append("unknown" if count is None else f"{count:,}")
        lines.append(line)
    title = "held-out rows whose question, answer (or a near copy of it) or topic stands in another split"
    console.table(title, lines, header=("split", "rows", "share", *_SHARED), alarming=alarming)


def show_rule(rule: str, examples: list[RuleExample]) -> None:
    """Print what a cleaning rule does to some rows, before and after, or which answers a reason leaves out."""
    is_reason = rule in REASONS
    if not examples:
        console.line(f"{rule} {'takes' if is_reason else 'changes'} no row of this source")
    for example in examples:
        console.line(f"{example.file or 'row'} {example.row}, {example.field}")
        console.line(f"  {'left out' if is_reason else 'before'}: {example.before}")
        if not is_reason:
            console.line(f"  after:  {example.after}")


def languages(counts: dict[str, int]) -> str:
    """Return ``12,000 en, 3 fr, 2 not told``."""
    return ", ".join(f"{count:,} {'not told' if name == UNKNOWN else name}" for name, count in _by_count(counts))


def _by_count(counts: dict[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def _counted(count: int, whole: int) -> list[str]:
    return [f"{count:,}", f"{100 * count / whole:.1f} %" if whole else ""]
