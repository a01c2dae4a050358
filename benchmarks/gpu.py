"""Everything that only a GPU can show, in one command: what is right first, then speed and memory beside others.

    python benchmarks/gpu.py                   # the card at hand, 14 minutes at most; the same again goes on
    python benchmarks/gpu.py --dry-run         # walks all of it on the CPU with a tiny model: no figure of it counts
    python benchmarks/gpu.py --show            # what has been seen so far
    python benchmarks/gpu.py --wheels DIR      # in a fresh environment: first installs what is missing from there

Nothing is downloaded. Each stage is a process of its own (``gpu_stages.py``) with a limit of time; its figures go to
OUT/figures.jsonl one by one as they come, so that nothing is lost where time or machine runs out. A stage that is done
on this card at this commit is not run again; those that were never tried come before those that failed.
Figures of others to hold these against (other settings, not measured here):
QLoRA of Llama-3.1-8B on one RTX 4090: 2,413 tokens/s in 7.4 GiB (torchtune); LoRA on one H100: 12,473 tokens/s (NeMo).
"""

import argparse
import importlib.util
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
STAGES_SCRIPT = Path(__file__).with_name("gpu_stages.py")
# What a fresh environment may lack, and the name of its module where it is another.
NEEDED = ("accelerate", "bitsandbytes", "datasets", "peft", "psutil", "rich", "safetensors", "transformers", "typer")
ANCHORS = {
    "QLoRA of Llama-3.1-8B, one RTX 4090 (torchtune)": {"tokens_per_second": 2413, "peak_memory_gib": 7.4},
    "LoRA, one H100 (NeMo)": {"tokens_per_second": 12_473},
}
LEFT_OUT, DONE, FAILED, NO_TIME = "left out", "done", "failed", "no time"


@dataclass(frozen=True)
class Stage:
    """A part of the work.

    ``seconds``: what it may take; ``least``: with less than this left it is not begun; ``missing``: why it cannot run.
    """

    name: str
    seconds: float
    least: float
    missing: str | None = None


def stages(*, dry_run: bool) -> list[Stage]:
    """Return all parts, the most telling first: they fit into 14 minutes together, as far as that can be guessed."""
    no_trl = None if importlib.util.find_spec("trl") else "TRL is not installed"
    no_liger = no_trl or (None if importlib.util.find_spec("liger_kernel") else "Liger is not installed")
    no_unsloth = no_trl or (None if importlib.util.find_spec("unsloth") else "Unsloth is not installed")
    if dry_run:
        no_liger, no_unsloth = no_liger or "Liger needs a GPU", no_unsloth or "Unsloth needs a GPU"
    return [
        Stage("doctor", 100, 40),
        Stage("training medqa", 150, 60),  # writes the random weights first
        Stage("training trl same type", 100, 45, no_trl),
        Stage("plan", 60, 20),
        Stage("training for 16 GB", 80, 40),
        Stage("tests", 120, 40),
        Stage("answers", 100, 40),
        Stage("quickstart", 150, 60),
        Stage("accelerate", 80, 40),
        Stage("training for 24 GB", 80, 40),
        Stage("training trl defaults", 100, 45, no_trl),
        Stage("training trl liger", 100, 45, no_liger),
        Stage("training unsloth", 120, 60, no_unsloth),
        Stage("merge", 120, 60),
    ]


class Results:
    """The file of figures: a JSON object a line, written and flushed at once.

    Every line has ``key`` (commit, device, dry run), ``time`` and ``stage``; then either ``figure`` and ``value``, or
    ``status`` and ``seconds`` at a stage's end.
    """

    def __init__(self, path: Path, key: dict[str, Any]) -> None:
        self._path, self._key = path, key
        path.parent.mkdir(parents=True, exist_ok=True)

    def add(self, stage: str, **what: Any) -> None:
        """Append a line; it is on the disk when this returns."""
        line = {"time": datetime.now(UTC).isoformat(timespec="seconds"), "key": self._key, "stage": stage, **what}
        with open(self._path, "a", encoding="utf-8") as file:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def lines(self) -> Iterator[dict[str, Any]]:
        """Yield the lines of this key; one that was cut off in the middle is left out."""
        if not self._path.is_file():
            return
        for text in self._path.read_text(encoding="utf-8").splitlines():
            try:
                line = json.loads(text)
            except ValueError:
                continue
            if line.get("key") == self._key:
                yield line

    def ended(self) -> dict[str, str]:
        """Return how each stage ended the last time that it was tried."""
        return {line["stage"]: line["status"] for line in self.lines() if "status" in line}


def order_of(all_stages: Sequence[Stage], ended: dict[str, str], only: Sequence[str] | None) -> list[Stage]:
    """Return what is to be run: not what is done; what was never tried before what failed."""
    if only:
        return [stage for stage in all_stages if stage.name in only]
    wanted = [stage for stage in all_stages if ended.get(stage.name) not in (DONE, LEFT_OUT)]
    return sorted(wanted, key=lambda stage: ended.get(stage.name) == FAILED)


def run_stage(stage: Stage, command: Sequence[str], limit: float, on_line: Callable[[str], None]) -> tuple[str, float]:
    """Run a stage in a process group of its own; return how it ended, and its seconds.

    Args:
        stage: which.
        command: its program.
        limit: seconds after which the whole group is ended.
        on_line: gets each line of its standard output when it is there.
    """
    started = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True, cwd=ROOT) as process:
        assert process.stdout is not None
        is_late, rest, piece = False, b"", b" "
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while piece:
                left = limit - (time.monotonic() - started)
                if left <= 0 and not is_late:
                    is_late = True
                    os.killpg(process.pid, signal.SIGKILL)
                if selector.select(max(0.05, min(left, 1.0))):
                    piece = os.read(process.stdout.fileno(), 1 << 16)
                    *whole, rest = (rest + piece).split(b"\n")
                    for line in whole:
                        on_line(line.decode("utf-8", "replace"))
    if rest:
        on_line(rest.decode("utf-8", "replace"))
    status = DONE if process.returncode == 0 and not is_late else FAILED
    return status, time.monotonic() - started


def relay(results: Results, stage: str, text: str) -> None:
    """Record a line of a stage's output where it is a figure, and print it otherwise."""
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict) or "figure" not in found:
        print(f"   {text}", flush=True)
        return
    results.add(stage, **found)
    print(f"   {found['figure']}: {shown(found['value'])}", flush=True)


def shown(value: Any) -> str:
    """Return a figure for people."""
    text = json.dumps(value, ensure_ascii=False) if not isinstance(value, float) else f"{value:,.4g}"
    return text if len(text) <= 200 else f"{text[:200]} ..."


def missing_packages() -> list[str]:
    """Return what a fresh environment lacks."""
    return [name for name in NEEDED if importlib.util.find_spec(name) is None]


def install(wheels: Path, folder: Path, packages: Sequence[str]) -> None:
    """Install packages from a folder of wheels, beside the environment, and let all stages see them."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--find-links", str(wheels)]
    subprocess.run([*command, "--target", str(folder), *packages], check=True)
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()


def key_of(*, dry_run: bool) -> dict[str, Any]:
    """Return what figures belong to: another commit's or another card's are not taken for this one's."""
    import torch

    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.strip()
    device = torch.cuda.get_device_name() if torch.cuda.is_available() and not dry_run else "CPU"
    return {"commit": commit or "unknown", "device": device, "dry_run": dry_run}


def show(results: Results) -> None:
    """Print what has been seen, and the figures of others."""
    for line in results.lines():
        what = f"{line['figure']}: {shown(line['value'])}" if "figure" in line else f"-- {line['status']}"
        print(f"{line['stage']:24} {what}")
    print(f"others: {json.dumps(ANCHORS)}")


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--dry-run", action="store_true", help="on the CPU, with a tiny model: no figure counts")
    parser.add_argument("--out", type=Path, default=ROOT / "runs/gpu", help="folder for figures.jsonl and all runs")
    parser.add_argument("--minutes", type=float, default=14.0, help="in all, the installation included")
    parser.add_argument("--only", nargs="+", metavar="STAGE", help="run these, also those that are done")
    parser.add_argument("--wheels", type=Path, help="install what is missing from this folder first")
    parser.add_argument("--show", action="store_true", help="print the figures so far, and stop")
    parser.add_argument("--list", action="store_true", help="print the stages, and stop")
    return parser.parse_args()


def main() -> int:
    """Run what is left; return 1 where a stage failed, 2 where time ran out, 3 without a GPU."""
    started, options = time.monotonic(), parse()
    if options.dry_run:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    out = options.out / "dry" if options.dry_run else options.out
    if options.wheels and (packages := missing_packages()):
        install(options.wheels.resolve(), (out / "packages").resolve(), packages)
    paths = [str(ROOT / "src"), str((out / "packages").resolve()), os.environ.get("PYTHONPATH", "")]
    os.environ.update(HF_HUB_OFFLINE="1", PYTHONPATH=os.pathsep.join(path for path in paths if path))
    if packages := missing_packages():
        sys.exit(f"missing: {', '.join(packages)}; install them, or name a folder of wheels: --wheels DIR")
    key = key_of(dry_run=options.dry_run)
    if key["device"] == "CPU" and not (options.dry_run or options.show or options.list):
        print("there is no GPU here that PyTorch can use; walk through it on the CPU with --dry-run", file=sys.stderr)
        return 3
    results, all_stages = Results(out / "figures.jsonl", key), stages(dry_run=options.dry_run)
    unknown = {*(options.only or ())} - {stage.name for stage in all_stages}
    if unknown:
        sys.exit(f"no such stage: {', '.join(sorted(unknown))}; there are {', '.join(s.name for s in all_stages)}")
    if options.list or options.show:
        ended = results.ended()
        for stage in all_stages if options.list else ():
            print(f"{stage.name:24} {ended.get(stage.name, stage.missing or 'not yet run')}")
        if options.show:
            show(results)
        return 0
    left: Callable[[], float] = lambda: options.minutes * 60 - (time.monotonic() - started)  # noqa: E731
    for stage in order_of(all_stages, results.ended(), options.only):
        if stage.missing:
            results.add(stage.name, status=LEFT_OUT, reason=stage.missing, seconds=0)
        elif left() < (1 if options.dry_run else stage.least):
            results.add(stage.name, status=NO_TIME, seconds=0)
        else:
            print(f"== {stage.name}", flush=True)
            command = [sys.executable, str(STAGES_SCRIPT), stage.name, str(out.resolve())]
            command += ["--dry-run"] if options.dry_run else []
            limit = left() if options.dry_run else min(left(), stage.seconds)
            status, seconds = run_stage(stage, command, limit, lambda text, name=stage.name: relay(results, name, text))
            results.add(stage.name, status=status, seconds=round(seconds, 1))
            print(f"   {status} after {seconds:.1f} s", flush=True)
    ended = results.ended()
    for stage in all_stages:
        print(f"{stage.name:24} {ended.get(stage.name)}")
    print(f"figures: {out / 'figures.jsonl'}")
    return 1 if FAILED in ended.values() else 2 if NO_TIME in ended.values() else 0


if __name__ == "__main__":
    sys.exit(main())
