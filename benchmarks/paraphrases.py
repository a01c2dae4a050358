"""Does training on paraphrases help on questions asked in other words? One small training run with them, one without.

    python benchmarks/paraphrases.py MEDQUAD.csv [--steps 80] [--questions 200] [--work-dir DIR]

Both runs see the same number of examples. Each adapter is scored on the same held-out answers twice: after the
questions as the file asks them, and after the same questions in words that neither the file nor the paraphrases use
(``off_template_questions``). Prints the differences in nats per answer token with 95 % intervals over topics.
"""

import argparse
import dataclasses
import json
import shutil
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

import numpy as np
from figures import add_json_option, write_figures
from off_template_questions import write_split

from medqa_cli.evaluation.bootstrap import ClusterBootstrap, Estimate, ratio_of_sums

CONFIG = Path(__file__).parents[1] / "examples" / "medquad-smollm2.yaml"
DRAWS = 2000
WAYS = ("as in the file", "in other words")


def medqa(*arguments: object) -> None:
    """Run one command; stop where it fails."""
    done = subprocess.run([sys.executable, "-m", "medqa_cli", *map(str, arguments)], stdout=subprocess.DEVNULL)
    if done.returncode:
        sys.exit(f"medqa {arguments[0]} ended with exit code {done.returncode}")


def train(source: Path, folder: Path, paraphrases: int, options: argparse.Namespace) -> tuple[Path, Path]:
    """Convert and train; return the folders of the run and of its data."""
    run_dir, data_dir = folder / f"run-{paraphrases}", folder / f"data-{paraphrases}"
    keys = [f"run_dir={run_dir}", f"data.dir={data_dir}", f"model.max_length={options.max_length}"]
    keys += [f"data.paraphrases_per_question={paraphrases}", f"train.max_steps={options.steps}"]
    settings = ["-c", CONFIG, *(word for key in keys for word in ("--set", key))]
    medqa("convert", source, *settings)
    medqa("train", *settings)
    return run_dir, data_dir


def losses(run_dir: Path, test_dir: Path, options: argparse.Namespace) -> dict[str, tuple[str, float, int]]:
    """Score one adapter on one wording; return topic, summed loss and number of tokens by row id."""
    settings = ["-c", run_dir / "config.yaml", "--set", f"data.dir={test_dir}", "--set", "eval.metrics=[nll]"]
    medqa("eval", *settings, "--model", "adapter", "--limit", options.questions)
    lines = (run_dir / "eval" / "samples.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    return {
        row["id"]: (row["topic"], row["nll_sum"], row["answer_tokens"]) for row in rows if row["model"] == "adapter"
    }


def difference(
    first: dict[str, tuple[str, float, int]], second: dict[str, tuple[str, float, int]]
) -> tuple[Estimate, float, float]:
    """Return first minus second in nats per token, and both."""
    if first.keys() != second.keys():
        sys.exit("the two models were not scored on the same rows")
    bootstrap = ClusterBootstrap([topic for topic, _, _ in first.values()], DRAWS, seed=42)
    columns = [
        [list(column) for column in list(zip(*(scores[key] for key in first), strict=True))[1:]]
        for scores in (first, second)
    ]
    one, other = (bootstrap.figure(np.stack(column, axis=1), ratio_of_sums) for column in columns)
    return (one - other).estimate(), one.value, other.value


def main() -> None:
    """Run the experiment."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("source", type=Path, help="a CSV file with the columns question and answer, e.g. MedQuAD")
    parser.add_argument("--steps", type=int, default=80)
    parser.add_argument("--questions", type=int, default=200)
    parser.add_argument("--paraphrases", type=int, default=2)
    parser.add_argument("--max-length", type=int, default=256)
    parser.add_argument("--work-dir", type=Path)
    add_json_option(parser)
    options = parser.parse_args()
    found: dict[int, dict[str, dict[str, tuple[str, float, int]]]] = defaultdict(dict)
    with tempfile.TemporaryDirectory(dir=options.work_dir) as name:
        folder = Path(name)
        for count in (0, options.paraphrases):
            run_dir, data_dir = train(options.source, folder, count, options)
            for way, test_dir in zip(WAYS, both_wordings(data_dir), strict=True):
                found[count][way] = losses(run_dir, test_dir, options)
    figures = {}
    for way in WAYS:
        change, with_them, without = difference(found[options.paraphrases][way], found[0][way])
        print(
            f"questions {way}: {with_them:.4f} with paraphrases, {without:.4f} without; "
            f"difference {change.value:+.4f} [{change.low:+.4f}, {change.high:+.4f}] nats per answer token"
        )
        figures[f"questions {way}"] = {"with": with_them, "without": without, "difference": dataclasses.asdict(change)}
    for count in found:
        change, other, same = difference(found[count][WAYS[1]], found[count][WAYS[0]])
        print(
            f"{count} paraphrases: other words cost {change.value:+.4f} [{change.low:+.4f}, {change.high:+.4f}] "
            f"({same:.4f} -> {other:.4f})"
        )
        figures[f"{count} paraphrases"] = {"same": same, "other": other, "difference": dataclasses.asdict(change)}
    write_figures(options.json, figures)


def both_wordings(data_dir: Path) -> tuple[Path, Path]:
    """Write the held-out rows that can be asked in other words, as they stand and in other words."""
    same, other = data_dir.with_name(f"{data_dir.name}-same"), data_dir.with_name(f"{data_dir.name}-other")
    write_split(data_dir, other, seed=42)
    same.mkdir()
    ids = {json.loads(line)["id"] for line in (other / "test.jsonl").read_text(encoding="utf-8").splitlines()}
    lines = (data_dir / "test.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (same / "test.jsonl").write_text("".join(line for line in lines if json.loads(line)["id"] in ids), encoding="utf-8")
    for folder in (same, other):
        shutil.copy(data_dir / "train.jsonl", folder)
    return same, other


if __name__ == "__main__":
    main()
