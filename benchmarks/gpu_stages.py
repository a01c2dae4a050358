"""The stages of ``gpu.py``, each a process: ``python benchmarks/gpu_stages.py STAGE OUT [--dry-run]``.

A figure is a line of JSON on standard output: ``{"figure": NAME, "value": ANYTHING}``. A stage that finds something
wrong says so in a figure and ends with exit code 1.
"""

import argparse
import functools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import train_throughput
import yaml

ROOT = Path(__file__).resolve().parents[1]
QUESTION = "How to treat glaucoma?"
# How far losses of the same steps may be apart with and without a launcher: a GPU may sum in another order.
SAME_LOSSES = 1e-4


@dataclass(frozen=True)
class Place:
    """Where a stage works; ``dry_run``: on the CPU, everything tiny."""

    out: Path
    dry_run: bool

    @property
    def shape(self) -> str:
        """The shape of the large model."""
        return "tiny" if self.dry_run else "llama2-7b"


def figure(name: str, value: Any) -> None:
    """Hand a figure on; the program above writes it down before anything else happens."""
    print(json.dumps({"figure": name, "value": value}, ensure_ascii=False), flush=True)


def medqa(*arguments: str | Path, launcher: Sequence[str] = ()) -> dict[str, Any] | None:
    """Run a command with ``--json``; return what it printed, None if that was nothing, and exit where it failed."""
    command = [sys.executable, *(launcher or ("-m", "medqa_cli")), *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        figure("failed", {"command": ["medqa", *map(str, arguments)], "exit_code": done.returncode})
        sys.exit(1)
    lines = done.stdout.strip()
    found = json.loads(lines) if lines.startswith("{") else None
    return found if isinstance(found, dict) else None


def doctor(place: Place) -> None:
    """The self-test on this machine, with its speeds."""
    arguments = ["doctor", "--json", *([] if place.dry_run else ["--full"])]
    done = subprocess.run(
        [sys.executable, "-m", "medqa_cli", *arguments], cwd=place.out, capture_output=True, text=True, check=False
    )
    if "No such command" in done.stderr:
        figure("missing", "this version has no command medqa doctor")
        return
    try:
        figure("report", json.loads(done.stdout))
    except ValueError:
        figure("failed", {"exit_code": done.returncode, "stderr": done.stderr[-2000:]})
    sys.exit(done.returncode)


def training(place: Place, *, side: str, gpu_memory: float | None = None) -> None:
    """Tokens/s and peak memory at the original run's settings: 2 x 4, 1,024 tokens, recomputed, paged AdamW."""
    steps = 3 if place.dry_run else 8
    command = [
        sys.executable, "benchmarks/train_throughput.py", "--side", side, "--shape", place.shape,
        "--optim", "paged_adamw_32bit", "--max-length", "64" if place.dry_run else "1024", "--steps", str(steps),
        "--warmup-steps", "1" if place.dry_run else "2",
    ]  # fmt: skip
    if gpu_memory is not None:
        command += ["--gpu-memory", str(gpu_memory)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        figure("failed", {"exit_code": done.returncode})
        sys.exit(1)
    for name, value in json.loads(done.stdout.splitlines()[-1]).items():
        figure(name, value)


def plan(place: Place) -> None:
    """What ``medqa train --plan`` says of the same training on cards of 16, 24 and 80 GB."""
    from medqa_cli.config.load import load
    from medqa_cli.training.plan import plan as planned

    config = large_config(place)
    medqa("convert", "-c", config)
    for size in (16.0, 24.0, 80.0):
        found = planned(load(config).config, gpu_memory_gb=size, probe=False)
        names = ("predicted_peak_memory_bytes", "available_memory_bytes", "fits", "max_tokens_per_forward")
        figure(f"{size:g} GB", {name: found[name] for name in (*names, "gradient_checkpointing", "memory_bytes")})


def large_config(place: Place) -> Path:
    """Write the original run's config for the random weights and the sample data."""
    values = yaml.safe_load((ROOT / "examples/llama2-7b-qlora.yaml").read_text(encoding="utf-8"))
    values["run_dir"] = str(place.out / "large")
    values["data"] |= {"source": str(train_throughput.SAMPLE), "dir": str(place.out / "large-data")}
    values["prompt"] = {"template": "chat"}
    values["model"] |= {"name_or_path": str(train_throughput.random_base(place.shape)), "compute_dtype": "auto"}
    values["train"] |= {"report_to": "none", "max_steps": 3}
    if place.dry_run:
        values["model"]["max_length"] = 64
    path = place.out / "large.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return path


def tests(place: Place) -> None:
    """The tests that are about a card: on one they compare it with the CPU, and without they only walk through."""
    device = "cpu" if place.dry_run else "cuda"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n0", "-p", "no:cacheprovider", "-rA", "--tb=short", "tests/gpu"],
        cwd=ROOT,
        env={**os.environ, "MEDQA_TEST_DEVICE": device},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    for line in done.stdout.splitlines():
        outcome, _, what = line.partition(" ")
        if outcome in ("PASSED", "FAILED", "ERROR", "SKIPPED"):
            figure(what.rpartition("::")[2] or what, outcome.lower())
        elif done.returncode:
            print(line)
    sys.exit(done.returncode)


class Endless:
    """An answer of so many tokens that nothing ends before."""

    went_back, num_retries = False, 0

    def __init__(self, most: int) -> None:
        self.ids: list[int] = []
        self._most = most

    @property
    def finish_reason(self) -> str | None:
        """It ends by its length."""
        return "length" if len(self.ids) >= self._most else None

    def biases(self, best: int) -> dict[int, float]:
        """None."""
        return {}

    def add(self, token_id: int) -> None:
        """Take a token."""
        self.ids.append(token_id)


def answers(place: Place) -> None:
    """Tokens/s of answers from NF4 weights with an adapter, one at a time and in batches, and whether they agree."""
    import torch

    from medqa_cli.answering.decode import decode_batch
    from medqa_cli.config.schema import GenerateConfig, LoraConfig, ModelConfig
    from medqa_cli.model.devices import peak_memory_bytes, pick_compute_dtype, pick_device
    from medqa_cli.model.load import load_base
    from medqa_cli.model.lora import add_lora
    from medqa_cli.model.resolve import find_base

    device, source = pick_device(), find_base(str(train_throughput.random_base(place.shape)))
    dtype = pick_compute_dtype("auto", device)
    model = add_lora(
        load_base(source, ModelConfig(), device, dtype, packed=False, batches=True), LoraConfig(), "", None
    )
    model.eval()
    tokens, generator = (8 if place.dry_run else 64), torch.Generator().manual_seed(0)
    lengths = torch.randint(20, 120, (32,), generator=generator).tolist()
    prompts = [torch.randint(3, 8000, (length,), generator=generator).tolist() for length in lengths]
    config = GenerateConfig(temperature=0.0, repetition_penalty=1.0, no_repeat_ngram_size=0)

    def ask(size: int, count: int) -> tuple[list[list[int]], float]:
        rows = [Endless(tokens) for _ in range(count)]
        started = time.perf_counter()
        for start in range(0, count, size):
            decode_batch(model, device, prompts[start : start + size], rows[start : start + size], config)
        return [row.ids for row in rows], count * tokens / (time.perf_counter() - started)

    ask(1, 1)  # kernels are loaded at their first use
    alone, speed = ask(1, 4)
    figure("alone, tokens_per_second", speed)
    for size in (8, 32):
        together, speed = ask(size, size)
        figure(f"batches of {size}, tokens_per_second", speed)
        same = [sum(a == b for a, b in zip(*pair, strict=True)) / tokens for pair in zip(alone, together, strict=False)]
        # Random weights have near ties; in 16 bits a batch may choose another token from one on.
        figure(f"batches of {size}, share of tokens as alone", sum(same) / len(same))
    figure("peak_memory_bytes", peak_memory_bytes(device))


def quickstart_settings(place: Place, run: str) -> list[str]:
    """Return the settings that keep the quickstart inside the folder, and short in a dry run."""
    sample = train_throughput.QUICKSTART
    settings = [f"run_dir={place.out / run}", f"data.dir={place.out / 'quickstart-data'}"]
    settings += [f"data.source={train_throughput.SAMPLE}", f"data.documents={sample / 'documents'}"]
    if place.dry_run:
        base = train_throughput.random_base(place.shape)
        settings += [
            f"model.name_or_path={base}",
            "model.max_length=256",
            "data.max_rows=60",
            "generate.max_new_tokens=8",
        ]
        settings += ["train.max_steps=2", "train.eval_steps=null", "train.logging_steps=1"]
    return ["-c", str(sample / "medqa.yaml"), *(part for setting in settings for part in ("--set", setting))]


def quickstart(place: Place) -> None:
    """What the README begins with, from the file to the merged model."""
    settings = quickstart_settings(place, "quickstart")
    started = time.perf_counter()
    for command in (["convert"], ["train", "--restart"], ["eval"], ["ask", QUESTION], ["merge"]):
        begun = time.perf_counter()
        found = medqa(*command[:1], *settings, *command[1:], *([] if command[0] == "convert" else ["--json"])) or {}
        figure(f"{command[0]}, seconds", time.perf_counter() - begun)
        if command[0] == "train":
            for name in ("tokens_per_second", "peak_memory_bytes", "predicted_peak_memory_bytes"):
                figure(f"train, {name}", found.get(name))
            figure("train, losses", losses_of(place.out / "quickstart"))
        if command[0] == "ask":
            figure("ask, answer", found.get("answer"))
    figure("seconds in all", time.perf_counter() - started)


def losses_of(run_dir: Path) -> list[float]:
    """Return the losses that a training run logged."""
    lines = map(json.loads, (run_dir / "train.jsonl").read_text(encoding="utf-8").splitlines())
    return [line["loss"] for line in lines if "loss" in line]


def accelerate(place: Place) -> None:
    """The quickstart's training once more, as one rank of ``accelerate launch``: the same losses."""
    if not (place.out / "quickstart/train.jsonl").is_file():
        figure("missing", "the stage quickstart comes first")
        sys.exit(1)
    launcher = ["-m", "accelerate.commands.launch", "--num_processes", "1", "--num_machines", "1"]
    launcher += ["--mixed_precision", "no", "--dynamo_backend", "no", *(["--cpu"] if place.dry_run else [])]
    begun = time.perf_counter()
    medqa("train", *quickstart_settings(place, "accelerate"), "--restart", launcher=[*launcher, "-m", "medqa_cli"])
    figure("seconds", time.perf_counter() - begun)
    alone, launched = losses_of(place.out / "quickstart"), losses_of(place.out / "accelerate")
    apart = max(abs(one - other) / one for one, other in zip(alone, launched, strict=True))
    figure("largest difference of losses", apart)
    if not apart <= (0.0 if place.dry_run else SAME_LOSSES):
        sys.exit(1)


def merge(place: Place) -> None:
    """Three steps by the command line on the large shape, then merged: the comparison at its end included."""
    config = large_config(place)
    if not (place.out / "large-data").is_dir():
        medqa("convert", "-c", config)
    found = medqa("train", "-c", config, "--restart", "--json") or {}
    for name in ("tokens_per_second", "peak_memory_bytes", "predicted_peak_memory_bytes"):
        figure(f"train, {name}", found.get(name))
    begun = time.perf_counter()
    merged = medqa("merge", "-c", config, "--json")
    figure("merge, seconds", time.perf_counter() - begun)
    figure("merge", merged)


STAGES: dict[str, Callable[[Place], None]] = {
    "doctor": doctor,
    "training medqa": functools.partial(training, side="medqa"),
    "training trl same type": functools.partial(training, side="trl same type"),
    "training trl defaults": functools.partial(training, side="trl defaults"),
    "training trl liger": functools.partial(training, side="trl liger"),
    "training unsloth": functools.partial(training, side="unsloth"),
    "training for 16 GB": functools.partial(training, side="medqa", gpu_memory=16.0),
    "training for 24 GB": functools.partial(training, side="medqa", gpu_memory=24.0),
    "plan": plan,
    "tests": tests,
    "answers": answers,
    "quickstart": quickstart,
    "accelerate": accelerate,
    "merge": merge,
}


def main() -> None:
    """Run one stage."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument("out", type=Path)
    parser.add_argument("--dry-run", action="store_true")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    STAGES[options.stage](Place(options.out, options.dry_run))


if __name__ == "__main__":
    main()
