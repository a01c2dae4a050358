"""Runs the benchmarks one after the other, and writes their figures with a description of the machine.

    python benchmarks/run_all.py [--medquad FILE] [--pubmedqa FILE] [--only NAME ...] [--list]

Each runs in a process of its own; what it prints is shown. ``benchmarks/results.json`` gets one entry for each: its
figures, how long it took, when and on what machine. Entries of benchmarks that did not run this time stay. One that
lacks something (a file, a package, an earlier run) is left out with the reason. Exits with 1 where one failed.
``benchmarks/picture.py`` draws the file, ``benchmarks/figures_page.py`` writes docs/figures.md from it. Run it while
nothing else runs: most of the figures are times.
"""

import argparse
import importlib.util
import json
import shlex
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import figures_page
import picture
from figures import write_figures

from medqa_cli.environment import describe_environment
from medqa_cli.model.devices import machine_at_hand

ROOT = Path(__file__).resolve().parents[1]
QUICKSTART = ROOT / "src/medqa_cli/resources/quickstart"
SAMPLE = QUICKSTART / "consumer_health_qa.csv"
RESULTS = ROOT / "benchmarks/results.json"
PICTURE = ROOT / "docs/images/benchmarks.png"


@dataclass(frozen=True)
class Benchmark:
    """A script with its arguments; ``missing``: what it lacks here, so that it cannot run."""

    name: str
    arguments: tuple[str | Path, ...] = ()
    missing: str | None = None

    def command(self, json_path: Path) -> list[str]:
        """Return the command line that runs it."""
        return [
            sys.executable,
            str(ROOT / f"benchmarks/{self.name}.py"),
            *map(str, self.arguments),
            "--json",
            str(json_path),
        ]

    def shown(self) -> str:
        """Return the command as one would type it, without this machine's folders."""
        words = (argument.name if isinstance(argument, Path) else argument for argument in self.arguments)
        return shlex.join(["python", f"benchmarks/{self.name}.py", *words])


def suite(options: argparse.Namespace, data_dir: Path) -> list[Benchmark]:
    """Return the benchmarks in the order in which they run: short ones first."""
    source: Path = options.medquad or SAMPLE
    no_medquad = None if options.medquad else "needs MedQuAD as a CSV file: --medquad FILE"
    no_pubmedqa = None if options.pubmedqa else "needs PubMedQA's ori_pqal.json: --pubmedqa FILE"
    merged_dir = ROOT / "quickstart/runs/medqa/merged"
    tuned = ROOT / "examples/medquad-smollm2.yaml"
    no_tuned = None if (ROOT / "runs/medquad-smollm2/adapter").is_dir() else f"needs a training run of {tuned.name}"
    no_merged = None if merged_dir.is_dir() else "needs the merged model of: make quickstart"
    no_llama_cpp = None if find_spec("xllamacpp") else "needs the extra fast: pip install 'medqa-cli[fast]'"
    return [
        Benchmark("convert", (source, "--times", str(options.times))),
        Benchmark("leakage", (source, "--seeds", "3")),
        Benchmark("identifiers", ("--corpus", source), absent("faker")),
        Benchmark("retrieval", (source, "--times", str(options.times)), no_medquad),
        Benchmark("ask"),
        Benchmark("ask_llamacpp", (), no_llama_cpp),
        Benchmark("serve", ("--seconds", "20")),
        Benchmark("eval", (data_dir, "--questions", "64")),
        Benchmark("merge"),
        Benchmark("gguf_export", (merged_dir, data_dir), no_merged),
        Benchmark("quantization", ("--steps", "10")),
        Benchmark("train_throughput", ("--source", source, *training_sides()), absent("trl")),
        Benchmark("harness_parity", (options.pubmedqa or "",), no_pubmedqa or absent("lm_eval")),
        Benchmark("paraphrases", (source,), no_medquad),
        Benchmark("decoding", (tuned,), no_tuned),
        Benchmark("review_intervals", ("--draws", "200")),
        Benchmark("kqa_figures", missing="needs K-QA's NLI_medical_annotator.csv: start it by itself"),
        Benchmark("memorization", missing="trains for a long time: start it by itself"),
        Benchmark("gpu", missing="needs a GPU for 14 minutes: start it by itself"),
    ]


def training_sides() -> tuple[str, ...]:
    """Return which sides of the training benchmark end within minutes here.

    TRL's default number type is bfloat16; a step of eight rows takes many minutes on a CPU that has no such products.
    """
    if machine_at_hand().gpu_name is not None or {"avx512_bf16", "amx_bf16"} & set(cpu_line("flags").split()):
        return ()
    return ("--sides", "trl same type,trl fastest,medqa")


def absent(package: str) -> str | None:
    """Return what is missing where a package is not installed."""
    return None if importlib.util.find_spec(package) else f"needs the package {package}"


def machine() -> dict[str, Any]:
    """Describe the machine and the versions, without anything that names its owner."""
    found, environment, flags = machine_at_hand(), describe_environment(), cpu_line("flags").split()
    del environment["command"]  # holds this machine's folders
    return {
        "cpu": cpu_line("model name") or environment["machine"],
        "cpu_features": [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in flags],
        "memory_bytes": found.ram_bytes,
        "gpu": found.gpu_name,
        **environment,
    }


def cpu_line(key: str) -> str:
    """Return a line of /proc/cpuinfo, empty where there is none."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.is_file() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(key)), "")


def run(benchmark: Benchmark, folder: Path) -> dict[str, Any]:
    """Run one and return its entry without the machine."""
    entry: dict[str, Any] = {"command": benchmark.shown(), "date": datetime.now(UTC).date().isoformat()}
    if benchmark.missing:
        print(f"\n== {benchmark.name}: left out: {benchmark.missing}", flush=True)
        return {**entry, "status": "left out", "reason": benchmark.missing}
    print(f"\n== {benchmark.shown()}", flush=True)
    json_path = folder / f"{benchmark.name}.json"
    started = time.perf_counter()
    exit_code = subprocess.run(benchmark.command(json_path), check=False).returncode
    entry["seconds"] = round(time.perf_counter() - started, 1)
    # A script may measure, find that a check failed (losses that differ), and say so by its exit code.
    if json_path.is_file():
        entry["figures"] = json.loads(json_path.read_text(encoding="utf-8"))
    return {**entry, "status": "failed" if exit_code else "done", "exit_code": exit_code}


def merged(earlier: dict[str, Any], name: str, entry: dict[str, Any]) -> dict[str, Any]:
    """Return all entries with this one; a benchmark that was left out does not take an earlier figure's place."""
    if entry["status"] == "left out" and name in earlier:
        return earlier
    return {**earlier, name: entry}


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--medquad", type=Path, help="MedQuAD with the columns question and answer; default: the sample"
    )
    parser.add_argument("--pubmedqa", type=Path, help="PubMedQA's ori_pqal.json")
    parser.add_argument("--times", type=int, default=1, help="convert: how many times as many rows as well")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="run these")
    parser.add_argument("--list", action="store_true", help="say what would run, and stop")
    options = parser.parse_args()
    for path in (options.medquad, options.pubmedqa):
        if path is not None and not path.is_file():
            parser.error(f"{path} does not exist")
    return options


def main() -> int:
    """Run, write, draw."""
    options = parse()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        benchmarks = suite(options, folder / "data")
        unknown = {*(options.only or ())} - {benchmark.name for benchmark in benchmarks}
        if unknown:
            sys.exit(
                f"no such benchmark: {', '.join(sorted(unknown))}; there are {', '.join(b.name for b in benchmarks)}"
            )
        chosen = [benchmark for benchmark in benchmarks if benchmark.name in (options.only or benchmark.name)]
        if options.list:
            for benchmark in chosen:
                print(f"{benchmark.shown()}{f'   (left out: {benchmark.missing})' if benchmark.missing else ''}")
            return 0
        convert = [sys.executable, "-m", "medqa_cli", "convert", "--set"]
        subprocess.run([*convert, f"data.dir={folder / 'data'}"], cwd=QUICKSTART, check=True, stdout=subprocess.DEVNULL)
        entries = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else {}
        failed = []
        for benchmark in chosen:
            entry = {**run(benchmark, folder), "machine": machine()}
            entries = merged(entries, benchmark.name, entry)
            write_figures(RESULTS, entries)
            if entry["status"] == "failed":
                failed.append(benchmark.name)
    picture.draw(entries, PICTURE)
    figures_page.PAGE.write_text(figures_page.page(entries), encoding="utf-8")
    for what, path in (("figures", RESULTS), ("page", figures_page.PAGE), ("picture", PICTURE)):
        print(f"{what}: {path.relative_to(ROOT)}")
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
