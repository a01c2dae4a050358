"""What 4 bits cost: size, held-out loss before and after the same short training, and speed, for each kind of weights.

    python benchmarks/quantization.py [--source MEDQUAD.csv] [--config FILE] [--steps 20] [--work-dir DIR]

Converts the source once, then runs ``medqa train`` for ``none``, ``int8``, ``fp4``, ``nf4`` and ``nf4`` with double
quantization, each in a process of its own, on the same rows in the same order. All else is the config's (default: the
quickstart's). The losses are nats per answer token on the same validation questions, so that their differences count,
not their size. ``bytes`` are those of the base weights with their quantization constants.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from figures import add_json_option, write_figures

ROOT = Path(__file__).resolve().parents[1]
KINDS: dict[str, tuple[str, ...]] = {
    "none": ("model.quantization=none",),
    "int8": ("model.quantization=int8",),
    "fp4": ("model.quantization=fp4", "model.double_quantization=false"),
    "nf4": ("model.quantization=nf4", "model.double_quantization=false"),
    "nf4, double": ("model.quantization=nf4", "model.double_quantization=true"),
}
COLUMNS = ("weights", "bytes", "bits a weight", "loss of the base", "loss after", "tokens/s", "peak memory")


def medqa(options: argparse.Namespace, command: str, *arguments: str, overrides: tuple[str, ...]) -> dict[str, Any]:
    """Run a command as a user would, in the config's folder, and return its JSON."""
    line = [sys.executable, "-m", "medqa_cli", command, *arguments, "-c", str(options.config), "--json"]
    for override in overrides:
        line += ["--set", override]
    done = subprocess.run(line, cwd=options.config.parent, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(f"medqa {command} ended with exit code {done.returncode}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def measure(options: argparse.Namespace, folder: Path, kind: str) -> dict[str, Any]:
    """Plan and train one kind of weights."""
    overrides = (
        f"data.dir={folder / 'data'}",
        f"run_dir={folder / kind.replace(', ', '-')}",
        f"train.max_steps={options.steps}",
        f"train.save_steps={options.steps}",
        "train.early_stopping_patience=null",
        *KINDS[kind],
    )
    plan = medqa(options, "train", "--plan", overrides=overrides)
    trained = medqa(options, "train", overrides=overrides)
    before, _, after = trained["validation_loss"]
    frozen = plan["parameters"]["total"] - plan["parameters"]["trainable"]
    return {
        "weights": kind,
        "base_bytes": plan["memory_bytes"]["base"],
        "bits_per_weight": 8 * plan["memory_bytes"]["base"] / frozen,
        "loss_of_base": before,
        "loss_after": after,
        "tokens_per_second": trained["tokens_per_second"],
        "peak_memory_bytes": trained["peak_memory_bytes"],
        "validation_questions": trained["num_validation_examples"],
        "train_tokens": trained["num_train_tokens"],
    }


def cells(row: dict[str, Any]) -> tuple[str, ...]:
    """Return the row as it is printed."""
    return (
        row["weights"],
        f"{row['base_bytes'] / 1e6:,.1f} MB",
        f"{row['bits_per_weight']:.2f}",
        f"{row['loss_of_base']:.4f}",
        f"{row['loss_after']:.4f}",
        f"{row['tokens_per_second']:,.0f}",
        f"{row['peak_memory_bytes'] / 2**20:,.0f} MiB",
    )


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--source", type=Path, help="a CSV file with question and answer; default: the config's")
    parser.add_argument("--config", type=Path, default=ROOT / "src/medqa_cli/resources/quickstart/medqa.yaml")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--work-dir", type=Path)
    add_json_option(parser)
    options = parser.parse_args()
    options.config = options.config.resolve()
    source = [str(options.source.resolve())] if options.source else []
    with tempfile.TemporaryDirectory(dir=options.work_dir) as name:
        folder = Path(name)
        medqa(options, "convert", *source, overrides=(f"data.dir={folder / 'data'}",))
        rows = [measure(options, folder, kind) for kind in KINDS]
    if len({row["train_tokens"] for row in rows}) != 1:
        sys.exit("the runs did not see the same tokens")
    print(f"{options.steps} steps, {rows[0]['train_tokens']:,} tokens, {rows[0]['validation_questions']} questions\n")
    table = [COLUMNS, *map(cells, rows)]
    widths = [max(len(row[column]) for row in table) for column in range(len(COLUMNS))]
    for row in table:
        print("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)))
    write_figures(options.json, {"steps": options.steps, "rows": rows})


if __name__ == "__main__":
    main()
