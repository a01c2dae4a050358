"""How fast and how large ``medqa convert`` is, on a real file and on many times as many rows made from it.

    python benchmarks/convert.py MEDQUAD.csv [--times 50] [--workers 1 2] [--work-dir DIR]

Runs the command as a user would, each time in a process of its own: once to warm up, then with each of the numbers of
workers, likewise on ``--times`` times the rows, and once more on the file itself: a shared machine may have become
slower or faster meanwhile, so the large run is compared with the mean of the two small ones beside it. In a copy of a
row the last word of the topic and each tenth word of the answer are replaced by words drawn from the file, so that
copies are new topics and no near copies of each other, as in a larger collection.
Prints rows per second, the time of each stage, the processor's time, the peak memory, a digest of all outputs, and how
the time grew beside the rows. Exits with 1 where outputs differ between numbers of workers.
"""

import argparse
import csv
import hashlib
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from figures import add_json_option, write_figures

REPLACED_SHARE = 0.1
MIB = 1 << 20


@dataclass(frozen=True)
class Run:
    """One conversion.

    Attributes:
        seconds: wall-clock time of the whole command.
        cpu_seconds: processor time of it and of its workers.
        peak_memory_bytes: resident, of the largest of its processes.
        report: ``report.json``.
        digests: SHA-256 of each file that it wrote, that of the report without seconds.
    """

    seconds: float
    cpu_seconds: float
    peak_memory_bytes: int
    report: dict[str, Any]
    digests: dict[str, str]

    def figures(self) -> dict[str, Any]:
        """Return what ``--json`` writes of it."""
        parts = {key: self.report[key] for key in ("rows", "stage_seconds", "leakage")}
        times = {"seconds": self.seconds, "cpu_seconds": self.cpu_seconds}
        return {**times, "peak_memory_bytes": self.peak_memory_bytes, **parts}

    @property
    def digest(self) -> str:
        """One digest of all files."""
        return hashlib.sha256(json.dumps(self.digests, sort_keys=True).encode()).hexdigest()

    @property
    def rows(self) -> int:
        """Number of rows read."""
        return int(self.report["rows"]["read"])


def measure(source: Path, out_dir: Path, workers: int) -> Run:
    """Convert a file with the defaults, without a tokenizer."""
    command = [sys.executable, "-m", "medqa_cli", "convert", str(source), "--out", str(out_dir), "--force", "--json"]
    command += ["--workers", str(workers)]
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
    # That of the children it has waited for is in it.
    cpu_seconds = usage.ru_utime + usage.ru_stime
    peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return Run(seconds, cpu_seconds, peak, report, digests_of(out_dir))


def digests_of(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file of a data folder; of the report without what was measured."""
    digests = {}
    for path in sorted(folder.iterdir()):
        content = path.read_bytes()
        if path.name == "report.json":
            report = json.loads(content)
            content = json.dumps({key: value for key, value in report.items() if "seconds" not in key}).encode()
        digests[path.name] = hashlib.sha256(content).hexdigest()
    return digests


def measure_each(name: str, source: Path, out_dir: Path, counts: Sequence[int]) -> list[Run]:
    """Convert a file with each number of workers, and print the figures beside those of the first."""
    runs: list[Run] = []
    for count in counts:
        run = measure(source, out_dir, count)
        show(run, f"{name}, workers {count}")
        runs.append(run)
        if len(runs) > 1:
            print(f"  {run.seconds / runs[0].seconds:.2f} of the time with workers {counts[0]}")
            differing = [
                key for key in {**run.digests, **runs[0].digests} if run.digests.get(key) != runs[0].digests.get(key)
            ]
            if differing:
                sys.exit(f"other outputs than with workers {counts[0]}: {', '.join(differing)}")
    return runs


def named_figures(name: str, runs: Sequence[Run], counts: Sequence[int]) -> dict[str, Any]:
    """Return what ``--json`` writes of the runs on one file."""
    others = {f"{name}_workers_{count}": run.figures() for run, count in zip(runs[1:], counts[1:], strict=True)}
    return {name: runs[0].figures(), **others}


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
    print(f"  peak memory {run.peak_memory_bytes / MIB:,.0f} MiB; processor {run.cpu_seconds:.1f} s")
    for stage, seconds in run.report["stage_seconds"].items():
        print(f"  {stage:16} {seconds:8.2f} s")
    print(
        f"  {'outside':16} {run.seconds - sum(run.report['stage_seconds'].values()):8.2f} s (start of Python, imports)"
    )
    rejected = ", ".join(f"{count:,} {reason}" for reason, count in run.report["rows"]["rejected"].items())
    print(f"  kept {run.report['rows']['kept']:,}; rejected {rejected}")
    print(f"  audit: {run.report['leakage']}")
    print(f"  outputs: {run.digest}")


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("source", type=Path, help="a CSV file with the columns question and answer, e.g. MedQuAD")
    parser.add_argument("--times", type=int, default=50, help="how many times as many rows; 1: only the file itself")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2], help="the numbers of workers to measure")
    parser.add_argument("--work-dir", type=Path, help="for the large file and the outputs, 10 GB at 50 times MedQuAD")
    add_json_option(parser)
    options = parser.parse_args()
    counts: list[int] = options.workers
    with tempfile.TemporaryDirectory(dir=options.work_dir) as folder:
        source, out_dir = options.source.resolve(), Path(folder) / "out"
        measure(source, out_dir, counts[0])
        small = measure_each("the file", source, out_dir, counts)
        figures = named_figures("file", small, counts)
        if options.times > 1:
            large_source = Path(folder) / "large.csv"
            enlarge(source, large_source, options.times)
            large = measure_each(f"{options.times} times the rows", large_source, out_dir, counts)
            again = measure(source, out_dir, counts[0])
            show(again, f"the file again, workers {counts[0]}")
            growth = 2 * large[0].seconds / (small[0].seconds + again.seconds)
            print(f"\nrows x {large[0].rows / small[0].rows:.1f}, time x {growth:.1f}")
            figures |= named_figures("large", large, counts)
            figures |= {"file_again": again.figures(), "time_growth": growth}
    write_figures(options.json, figures)


if __name__ == "__main__":
    main()
