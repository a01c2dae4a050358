"""The data set that ``medqa convert`` writes: its files, whether they may be replaced, its rows, their token ids.
Also finds the splits in a folder of anybody else.
"""

import itertools
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import MISSING, dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from medqa_cli.data.reading.formats import NOTE_SUFFIX, table_suffix
from medqa_cli.errors import InputError, MedqaError
from medqa_cli.files import CARD_NAME, require_file
from medqa_cli.prompt.encoder import Example, PromptEncoder
from medqa_cli.prompt.given import NOTHING, Given, Turn
from medqa_cli.spelling import listed

SPLITS = ("train", "validation", "test")
REPORT_NAME = "report.json"
REJECTED_NAME = "rejected.jsonl"
LENGTHS_NAME = "lengths.png"
INDEX_NAME = "index.sqlite"
CANARIES_NAME = "canaries.jsonl"
IDENTIFIERS_NAME = "identifiers.jsonl"
OWN_FILES = frozenset(
    {
        REPORT_NAME,
        REJECTED_NAME,
        LENGTHS_NAME,
        CARD_NAME,
        INDEX_NAME,
        CANARIES_NAME,
        IDENTIFIERS_NAME,
        *(f"{split}.jsonl" for split in SPLITS),
    }
)
SPLIT_OF_NAME = {"train": "train", "training": "train", "test": "test", "testing": "test"} | dict.fromkeys(
    ("validation", "valid", "val", "dev", "eval", "evaluation"), "validation"
)
# What trainers write beside the data: eval_results.json, train_config.json.
NO_DATA = frozenset({"results", "metrics", "config", "state", "args", "report", "info", "log"})

_ENCODE_BATCH = 1000

T = TypeVar("T")


@dataclass(frozen=True)
class QaRow:
    """One question with its reference answer; ``paraphrase_of``: id of the row whose question it paraphrases.

    ``given``: what stands before the question in the prompt.
    """

    id: str
    question: str
    answer: str
    topic: str
    source: str
    paraphrase_of: str = ""
    given: Given = NOTHING

    @property
    def asked(self) -> str:
        """The question in full, with what stands before it: rows are compared by it."""
        return self.given.before(self.question)


_KEYS = tuple(f.name for f in fields(QaRow) if f.default is MISSING)
_GIVEN_KEYS = {"earlier_turns", "context"}


def read_split(data_dir: Path, split: str) -> list[QaRow]:
    """Read one split; see ``iterate_split``."""
    return list(iterate_split(data_dir, split))


def iterate_split(data_dir: Path, split: str) -> Iterator[QaRow]:
    """Yield the rows of one split in the order of its file; none where nothing was held out.

    Raises:
        InputError: the folder or the file is missing, or a line is damaged.
    """
    for line, location in split_lines(data_dir, split):
        yield row_of_line(line, location)


def split_lines(data_dir: Path, split: str) -> Iterator[tuple[bytes, str]]:
    """Yield the lines of one split as they stand in its file, each with its location, for ``row_of_line``.

    Raises:
        InputError: the folder or the file is missing.
    """
    if split not in SPLITS:
        raise InputError(f"no split is named '{split}'; there are {', '.join(SPLITS)}")
    path = data_dir / f"{split}.jsonl"
    require_file(path)
    try:
        with open(path, "rb") as file:
            for number, line in enumerate(file, start=1):
                yield line, f"{path}:{number}"
    except FileNotFoundError as error:
        missing = "" if not data_dir.is_dir() else f": {path.name} is missing"
        raise InputError(f"no data in {data_dir}{missing}", "run: medqa convert FILE") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}", "run: medqa convert FILE") from error


def row_of_line(line: bytes, location: str) -> QaRow:
    """Read the row in a line.

    Raises:
        InputError: the line is damaged.
    """
    try:
        return _row(json.loads(line.decode("utf-8")))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{location}: damaged line: {error}", "run medqa convert again") from error


def _row(value: Any) -> QaRow:
    if not isinstance(value, dict):
        raise ValueError("not an object")
    wrong = [key for key in _KEYS if not isinstance(value.get(key), str)]
    if wrong:
        raise ValueError(f"no text under {', '.join(wrong)}")
    paraphrase_of = value.get("paraphrase_of")
    given = NOTHING
    if _GIVEN_KEYS & value.keys():
        try:
            earlier = tuple(Turn(**turn) for turn in value.get("earlier_turns", ()))
        except TypeError as error:
            raise ValueError("earlier_turns holds no turns") from error
        given = Given(earlier, value.get("context", ""))
        if not all(isinstance(text, str) for turn in (*earlier, (given.context,)) for text in turn):
            raise ValueError("a turn or the context is no text")
    return QaRow(
        **{key: value[key] for key in _KEYS},
        paraphrase_of=paraphrase_of if isinstance(paraphrase_of, str) else "",
        given=given,
    )


@dataclass(frozen=True)
class EncodedSplit:
    """Examples that have something to learn, and what happened to the others.

    ``num_truncated_answers``: answers cut at ``max_length``, without end token; ``num_without_answer``: rows left out
    because the prompt alone fills ``max_length``; ``num_cut_conversations``: rows for whose earlier turns there is not
    room enough, and ``num_turns_left_out`` such turns.
    """

    examples: list[Example]
    num_truncated_answers: int
    num_without_answer: int
    num_cut_conversations: int = 0
    num_turns_left_out: int = 0


def encode_rows(rows: Sequence[QaRow], encoder: PromptEncoder, max_length: int) -> EncodedSplit:
    """Encode rows in order; each example carries the id of its row.

    Raises:
        MedqaError: no row has a supervised token.
    """
    encoded: list[Example] = []
    for start in range(0, len(rows), _ENCODE_BATCH):
        part = rows[start : start + _ENCODE_BATCH]
        questions, answers = [row.question for row in part], [row.answer for row in part]
        examples = encoder.encode_examples(questions, answers, max_length, [row.given for row in part])
        encoded += [replace(example, row_id=row.id) for example, row in zip(examples, part, strict=True)]
    kept = [example for example in encoded if example.num_answer_tokens]
    if rows and not kept:
        raise MedqaError(
            f"no supervised token: all {len(rows)} prompts fill model.max_length = {max_length} tokens by themselves",
            "raise model.max_length, or shorten prompt.system",
        )
    left_out = [example.turns_left_out for example in kept]
    truncated = sum(example.truncated for example in kept)
    return EncodedSplit(kept, truncated, len(encoded) - len(kept), sum(map(bool, left_out)), sum(left_out))


def evenly_spaced(items: Sequence[T], count: int | None) -> list[T]:
    """Return at most ``count`` items, spread over the whole split; always the same ones. None: all."""
    if count is None or len(items) <= count:
        return list(items)
    return [items[i * len(items) // count] for i in range(count)]


def check_replaceable(out_dir: Path, name: str, paths: Sequence[Path], sha256: str | None, force: bool) -> None:
    """Check that writing the data set destroys nothing but an earlier data set of the same source.

    Args:
        out_dir: the folder to be written.
        name: the source as the report names it.
        paths: the files and folders to be converted.
        sha256: their digest; None: not known yet.
        force: allow to replace the data set of another source, though nothing else.

    Raises:
        InputError: the folder must not be replaced.
    """
    resolved, other = out_dir.resolve(), "choose another: --out DIR"
    if Path.cwd().resolve().is_relative_to(resolved):
        raise InputError(f"{out_dir} is or holds the current folder", other)
    for path in paths:
        if path.resolve().is_relative_to(resolved):
            raise InputError(f"{path} lies in {out_dir}, which is replaced as a whole", other)
    if not resolved.exists():
        return
    if not resolved.is_dir():
        raise InputError(f"{out_dir} is a file; expected a folder to write", other)
    names = sorted(entry.name for entry in resolved.iterdir())
    if not names:
        return
    report = report_of(resolved)
    if report is None:
        raise InputError(f"{out_dir} holds files that medqa convert did not write: {listed(names)}", other)
    foreign = [name for name in names if name not in OWN_FILES]
    if foreign:
        raise InputError(f"{out_dir} also holds {listed(foreign)}, which would be lost", f"move it away, or {other}")
    earlier = report["source"]
    if not force and earlier.get("sha256") != sha256 and earlier.get("path") != name:
        raise InputError(
            f"{out_dir} was made from another source, {earlier.get('path')}",
            f"replace it with --force, or {other}",
        )


def report_of(folder: Path) -> dict[str, Any] | None:
    """Return the report of a folder that ``medqa convert`` wrote, or None for any other folder."""
    try:
        report = json.loads((folder / REPORT_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    ours = isinstance(report, dict) and isinstance(report.get("source"), dict) and "splits" in report
    return report if ours else None


def find_split_files(folder: Path) -> tuple[dict[str, list[Path]], list[Path]]:
    """Find files such as ``train.csv``, ``val-00000.parquet``, ``my_test.jsonl.gz`` and ``train/0000.parquet``.

    Args:
        folder: looked through one level deep; of a folder that ``medqa convert`` wrote only its own files count.

    Returns:
        the files by split, in the order of their names, and the tables that were taken for none.

    Raises:
        InputError: there is no training file, or no held-out one.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder", "name a folder with train, validation and test files")
    files: dict[str, list[Path]] = {name: [] for name in SPLITS}
    others: list[Path] = []
    is_own = report_of(folder) is not None
    for path in sorted(itertools.chain(folder.iterdir(), folder.glob("*/*"))):
        suffix = table_suffix(path.name)
        if not suffix or not path.is_file() or path.name in OWN_FILES - {f"{name}.jsonl" for name in SPLITS}:
            continue
        words = set(re.split(r"[-_. ]", path.name.lower()))
        if suffix == NOTE_SUFFIX and words.isdisjoint(SPLIT_OF_NAME):
            continue
        is_data = words.isdisjoint(NO_DATA) and not (is_own and path.name not in OWN_FILES)
        if path.parent != folder:
            words.add(path.parent.name.lower())
        splits = {SPLIT_OF_NAME[word] for word in words if word in SPLIT_OF_NAME}
        (files[splits.pop()] if is_data and len(splits) == 1 else others).append(path)
    if not files["train"] or not (files["validation"] or files["test"]):
        names = [path.name for path in itertools.chain(*files.values(), others)]
        raise InputError(
            f"{folder}: expected a training file and a held-out one, found {listed(names) if names else 'no tables'}",
            "name them after their splits: train.csv, validation.csv, test.csv (or .jsonl, .parquet, ...)",
        )
    return files, others
