"""How fast and how large ``medqa convert`` is, on a real file and on many times as many rows made from it.

    python benchmarks/convert.py MEDQUAD.csv [--times 50] [--work-dir DIR]

Runs the command as a user would, each time in a process of its own: once to warm up, once to measure, then on
``--times`` times the rows, and once more on the file itself: a shared machine may have become slower or faster
meanwhile, so the large run is compared with the mean of the two small ones beside it. In a copy of a row the last word
of the topic and each tenth word of the answer are replaced by words drawn from the file, so that copies are new topics
and no near copies of each other, as in a larger collection.
Prints rows per second, the time of each stage, the peak memory, and how the time grew beside the rows.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from figures import add_json_option, write_figures

REPLACED_SHARE = 0.1
MIB = 1 << 20


@dataclass(frozen=True)
class Run:
    """One conversion: wall-clock seconds of the whole process, its peak resident memory and its report."""

    seconds: float
    peak_memory_bytes: int
    report: dict[str, Any]

    def figures(self) -> dict[str, Any]:
        """Return what ``--json`` writes of it."""
        parts = {key: self.report[key] for key in ("rows", "stage_seconds", "leakage")}
        return {"seconds": self.seconds, "peak_memory_bytes": self.peak_memory_bytes, **parts}

    @property
    def rows(self) -> int:
        """Number of rows read."""
        return int(self.report["rows"]["read"])


def measure(source: Path, out_dir: Path) -> Run:
    """Convert a file with the defaults, without a tokenizer."""
    command = [sys.executable, "-m", "medqa_cli", "convert", str(source), "--out", str(out_dir), "--force", "--json"]
    with tempfile.TemporaryFile() as output:
        started = time.perf_counter()
        # The current folder may hold a medqa.yaml, which would change what is measured.
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.DEVNULL, cwd=out_dir.parent)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            sys.exit(f"medqa convert ended with exit code {process.returncode}")
        output.seek(0)
        report = json.load(output)
    return Run(seconds, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024), report)


def enlarge(source: Path, target: Path, times: int, seed: int = 0) -> None:
    """Write the rows of a file and ``times - 1`` altered copies of each."""
    csv.field_size_limit(2**31 - 1)
    with open(source, encoding="utf-8", newline="") as file:
        rows = [(row["question"], row["answer"]) for row in csv.DictReader(file)]
    words = sorted({word for _, answer in rows for word in re.findall(r"[A-Za-z]{3,}", answer)})
    draw = random.Random(seed)
    with open(target, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["question", "answer"])
        writer.writerows(rows)
        for _ in range(times - 1):
            writer.writerows((altered_question(q, words, draw), _altered(a, words, draw)) for q, a in rows)


def _altered(text: str, words: list[str], draw: random.Random) -> str:
    parts = re.split(r"(\s+)", text)  # words at the even places, white space between them
    places = range(0, len(parts), 2)
    for place in draw.sample(places, round(REPLACED_SHARE * len(places))):
        if parts[place]:
            parts[place] = words[int(draw.random() * len(words))]
    return "".join(parts)


def altered_question(text: str, words: list[str], draw: random.Random) -> str:
    """Replace the last word of a question by one of the words."""
    ending = re.search(r"[\w)]+(?=[\s?]*$)", text)
    return text if ending is None else text[: ending.start()] + draw.choice(words) + text[ending.end() :]


def show(run: Run, name: str) -> None:
    """Print the figures of one run."""
    print(f"\n{name}: {run.rows:,} rows in {run.seconds:.1f} s: {run.rows / run.seconds:,.0f} rows/s")
    print(f"  peak memory {run.peak_memory_bytes / MIB:,.0f} MiB")
    for stage, seconds in run.report["stage_seconds"].items():
        print(f"  {stage:16} {seconds:8.2f} s")
    print(
        f"  {'outside':16} {run.seconds - sum(run.report['stage_seconds'].values()):8.2f} s (start of Python, imports)"
    )
    rejected = ", ".join(f"{count:,} {reason}" for reason, count in run.report["rows"]["rejected"].items())
    print(f"  kept {run.report['rows']['kept']:,}; rejected {rejected}")
    print(f"  audit: {run.report['leakage']}")


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("source", type=Path, help="a CSV file with the columns question and answer, e.g. MedQuAD")
    parser.add_argument("--times", type=int, default=50, help="how many times as many rows; 1: only the file itself")
    parser.add_argument("--work-dir", type=Path, help="for the large file and the outputs, 8 GB at 50 times MedQuAD")
    add_json_option(parser)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.work_dir) as folder:
        source, out_dir = options.source.resolve(), Path(folder) / "out"
        measure(source, out_dir)
        small = measure(source, out_dir)
        show(small, "the file")
        figures: dict[str, Any] = {"file": small.figures()}
        if options.times > 1:
            large_source = Path(folder) / "large.csv"
            enlarge(source, large_source, options.times)
            large = measure(large_source, out_dir)
            show(large, f"{options.times} times the rows")
            again = measure(source, out_dir)
            show(again, "the file again")
            growth = 2 * large.seconds / (small.seconds + again.seconds)
            print(f"\nrows x {large.rows / small.rows:.1f}, time x {growth:.1f}")
            figures |= {"large": large.figures(), "file_again": again.figures(), "time_growth": growth}
    write_figures(options.json, figures)


if __name__ == "__main__":
    main()
