"""Which files of a folder hold which split, by the names that the usual tools give them. Does not open them."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from pathlib import Path

from medqa_cli.data.output_folder import OWN_FILES, report_of
from medqa_cli.data.splitting import SPLITS
from medqa_cli.data.wording import listed
from medqa_cli.errors import InputError

SPLIT_OF_NAME = {"train": "train", "training": "train", "test": "test", "testing": "test"} | dict.fromkeys(
    ("validation", "valid", "val", "dev", "eval", "evaluation"), "validation"
)
# What trainers write beside the data: eval_results.json, train_config.json.
NO_DATA = frozenset({"results", "metrics", "config", "state", "args", "report", "info", "log"})

_TABLE = re.compile(r"(.+?)\.(?:csv|tsv|json|jsonl|ndjson|parquet|xlsx)(?:\.gz)?", re.IGNORECASE)


@dataclass(frozen=True)
class SplitFiles:
    """The files of each split, in the order of their names, and the tables that were taken for none."""

    files: dict[str, list[Path]]
    others: list[Path]


def find_split_files(folder: Path) -> SplitFiles:
    """Find files such as ``train.csv``, ``val-00000.parquet``, ``my_test.jsonl.gz`` and ``train/0000.parquet``.

    Args:
        folder: looked through one level deep; of a folder that ``medqa convert`` wrote only its own files count.

    Returns:
        the files by split.

    Raises:
        InputError: there is no training file, or no held-out one.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder", "name a folder with train, validation and test files")
    found = SplitFiles({name: [] for name in SPLITS}, [])
    is_own = report_of(folder) is not None
    for path in sorted(itertools.chain(folder.iterdir(), folder.glob("*/*"))):
        named = _TABLE.fullmatch(path.name)
        if named is None or not path.is_file() or path.name in OWN_FILES - {f"{name}.jsonl" for name in SPLITS}:
            continue
        split = None if is_own and path.name not in OWN_FILES else _split_of(named[1], path.parent, folder)
        (found.others if split is None else found.files[split]).append(path)
    _check_found(folder, found)
    return found


def _split_of(stem: str, parent: Path, folder: Path) -> str | None:
    words = [word.lower() for word in re.split(r"[-_. ]", stem)]
    if NO_DATA & set(words):
        return None
    if parent != folder:
        words.append(parent.name.lower())
    splits = {SPLIT_OF_NAME[word] for word in words if word in SPLIT_OF_NAME}
    return splits.pop() if len(splits) == 1 else None


def _check_found(folder: Path, found: SplitFiles) -> None:
    if found.files["train"] and (found.files["validation"] or found.files["test"]):
        return
    names = [path.name for path in itertools.chain(*found.files.values(), found.others)]
    raise InputError(
        f"{folder}: expected a training file and a held-out one, found {listed(names) if names else 'no tables'}",
        "name them after their splits: train.csv, validation.csv, test.csv (or .jsonl, .parquet, ...)",
    )
