"""Shows the report of ``medqa convert`` so that a person reads it in ten seconds. Does not compute anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from medqa_cli import console
from medqa_cli.data.splitting import SPLITS


def show(report: dict[str, Any], out_dir: Path) -> None:
    """Print the report as a table to stdout.

    Args:
        report: what ``pipeline.convert`` returned.
        out_dir: the folder that was written.
    """
    rows = report["rows"]
    lines = [["read", f"{rows['read']:,}", ""], ["kept", *_counted(rows["kept"], rows["read"])]]
    for reason, count in sorted(rows["rejected"].items(), key=lambda item: (-item[1], item[0])):
        lines.append([f"rejected: {reason}", *_counted(count, rows["read"])])
    for split in SPLITS:
        lines.append([f"split: {split}", *_counted(report["splits"][split], rows["kept"])])
    for rule, count in report["cleaning"].items():
        lines.append([f"changed by: {rule}", *_counted(count, rows["kept"])])
    lines += _leak_lines(report)
    console.table(f"{report['source']['path']} ({report['seconds']:.1f} s)", lines, header=("rows", "", "share"))
    if report["tokens"] is not None:
        answer = report["tokens"]["answer"]
        console.line("tokens of an answer: " + ", ".join(f"{name} {count:,}" for name, count in answer.items()))
        console.line(f"longer than model.max_length: {report['tokens']['longer_than_max_length']:,} rows")
    rejected = sum(rows["rejected"].values())
    console.line(f"written to {out_dir}" + (f"; the rejected rows: {out_dir / 'rejected.jsonl'}" if rejected else ""))


def _leak_lines(report: dict[str, Any]) -> list[list[str]]:
    lines = []
    for split in ("test", "validation"):
        held_out = report["splits"][split]
        for what, count in report["leakage"][split].items():
            if held_out and count is not None:
                lines.append([f"{split} rows whose {what} is also in train", *_counted(count, held_out)])
    return lines


def _counted(count: int, whole: int) -> list[str]:
    return [f"{count:,}", f"{100 * count / whole:.1f} %" if whole else ""]
