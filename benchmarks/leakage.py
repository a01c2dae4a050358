"""How much of a test split stands in training: a random split of the rows, as the usual trainers make it, and medqa's.

    python benchmarks/leakage.py MEDQUAD.csv [--seeds 5]

The peer is ``datasets.Dataset.train_test_split(test_size=0.1)``, which most fine-tuning recipes call or do the
same as. Both splits are counted by ``medqa convert --audit``'s code, which a test holds equal to comparing all pairs.
Prints the share of test rows whose question, answer, near copy of an answer or topic also stands in train.
"""

import argparse
import statistics
import tempfile
from pathlib import Path

import datasets
from figures import add_json_option, write_figures

from medqa_cli import console
from medqa_cli.config.schema import DataConfig
from medqa_cli.data.audit import LEAK_KINDS, Audit, audit_folder
from medqa_cli.data.convert import column_names, convert

TEST_SHARE = 0.1


def random_split(source: Path, folder: Path, seed: int) -> Audit:
    """Split as the peer does, and audit."""
    rows = datasets.Dataset.from_csv(str(source), cache_dir=str(folder / "cache"))
    rows = rows.filter(lambda row: bool(row["answer"]))
    (folder / "split").mkdir()
    for name, part in rows.train_test_split(test_size=TEST_SHARE, seed=seed).items():
        part.to_csv(folder / "split" / f"{name}.csv")
    return audit_folder(folder / "split", DataConfig().near_duplicate_threshold, column_names(DataConfig()))


def own_split(source: Path, folder: Path, seed: int) -> Audit:
    """Convert with the defaults, without a validation split, and audit."""
    data = DataConfig(test_fraction=TEST_SHARE, validation_fraction=0)
    convert([str(source)], data, seed, lambda question, answer, given: "", None, folder / "own")
    return audit_folder(folder / "own", data.near_duplicate_threshold, column_names(data))


def show(name: str, audits: list[Audit]) -> dict[str, float]:
    """Print the mean share of each kind of leak, and its standard deviation over the seeds; return the means."""
    means = {}
    print(f"{name}: {audits[0].rows['train']:,} rows to train on, {audits[0].rows['test']:,} to test")
    for kind in LEAK_KINDS:
        shares = [100 * (audit.leakage["test"][kind] or 0) / audit.rows["test"] for audit in audits]
        means[kind] = statistics.mean(shares) / 100
        print(f"  {kind:24} {100 * means[kind]:5.1f} % (sd {statistics.pstdev(shares):.1f})")
    return means


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("source", type=Path, help="a CSV file with the columns question and answer, e.g. MedQuAD")
    parser.add_argument("--seeds", type=int, default=5)
    add_json_option(parser)
    options = parser.parse_args()
    datasets.disable_progress_bars()
    found: dict[str, list[Audit]] = {"random split of the rows": [], "medqa convert": []}
    for seed in range(options.seeds):
        for name, split in zip(found, (random_split, own_split), strict=True):
            with tempfile.TemporaryDirectory() as folder, console.status(f"{name}, seed {seed} ..."):
                found[name].append(split(options.source, Path(folder), seed))
    write_figures(options.json, {name: show(name, audits) for name, audits in found.items()})


if __name__ == "__main__":
    main()
