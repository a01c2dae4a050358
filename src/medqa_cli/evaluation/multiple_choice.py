"""Multiple-choice files in the public formats of PubMedQA, MedMCQA and MedQA, with lm-evaluation-harness's prompts.

The prompts are those of lm-evaluation-harness 0.4.13 (tasks pubmedqa, medmcqa, medqa_4options), without examples before
the question and without a chat template, as it asks by default. Does not score: ``choice_scoring`` does.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medqa_cli.errors import InputError
from medqa_cli.files import read_json, require_file

_LETTERS = ("A", "B", "C", "D")
_DECISIONS = ("yes", "no", "maybe")
_TEST_IDS = "test_ground_truth.json"
_FORMATS = "PubMedQA (ori_pqal.json), MedMCQA (question, opa to opd, cop) or MedQA (question, options, answer_idx)"


@dataclass(frozen=True)
class ChoiceItem:
    """One question: what the model reads, what it may go on with (without the space before), which one is right.

    ``question``: the question alone.
    """

    id: str
    question: str
    prompt: str
    choices: tuple[str, ...]
    gold: int


def read_choice_file(path: Path) -> list[ChoiceItem]:
    """Read a multiple-choice file; its format is told by its keys.

    Of PubMedQA's labelled file only the test items are taken where ``test_ground_truth.json`` stands beside it.

    Raises:
        InputError: the file is missing or in none of the formats, or an item is damaged.
    """
    require_file(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise InputError(f"eval.multiple_choice: {path} is missing", f"expected {_FORMATS}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"eval.multiple_choice: {path} cannot be read: {error}") from error
    records = _records(text, path)
    first = next(iter(records.values()), None)
    for keys, read in _READERS:
        if isinstance(first, dict) and keys <= first.keys():
            return read(records, path)
    raise InputError(f"eval.multiple_choice: {path} is in no known format", f"expected {_FORMATS}")


def _records(text: str, path: Path) -> dict[str, Any]:
    """Return the items by id: of a JSON object or list, or of JSON lines, whose id is their number."""
    try:
        whole = json.loads(text)
    except ValueError:
        whole = None
    if isinstance(whole, dict) and whole and all(isinstance(item, dict) for item in whole.values()):
        return whole
    if isinstance(whole, list):
        return {str(number): item for number, item in enumerate(whole, start=1)}
    records = {}
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                records[str(number)] = json.loads(line)
            except ValueError as error:
                raise InputError(f"eval.multiple_choice: {path}:{number} is no JSON: {error}") from error
    return records


def _pubmedqa(records: Mapping[str, Any], path: Path) -> list[ChoiceItem]:
    beside = path.with_name(_TEST_IDS)
    wanted = set(records)
    if beside.is_file():
        decisions = read_json(beside)
        if not isinstance(decisions, dict):
            raise InputError(f"eval.multiple_choice: {beside} is no object with an id as each key", "restore the file")
        wanted = set(decisions)
        if missing := wanted - set(records):
            raise InputError(f"eval.multiple_choice: {beside} names {len(missing)} items that {path} does not hold")

    def item(name: str, record: Mapping[str, Any]) -> ChoiceItem:
        abstract = "\n".join(record["CONTEXTS"])
        prompt = f"Abstract: {abstract}\nQuestion: {record['QUESTION']}\nAnswer:"
        return ChoiceItem(name, record["QUESTION"], prompt, _DECISIONS, _DECISIONS.index(record["final_decision"]))

    return _items({name: record for name, record in records.items() if name in wanted}, path, item)


def _medmcqa(records: Mapping[str, Any], path: Path) -> list[ChoiceItem]:
    first = _first_option(records, path)

    def item(name: str, record: Mapping[str, Any]) -> ChoiceItem:
        options = [record[key] for key in ("opa", "opb", "opc", "opd")]
        listed = "".join(f"{letter}. {option}\n" for letter, option in zip(_LETTERS, options, strict=True))
        prompt = f"Question: {record['question']}\nChoices:\n{listed}Answer:"
        return ChoiceItem(
            str(record.get("id", name)), record["question"], prompt, _LETTERS, _in_range(int(record["cop"]) - first)
        )

    return _items(records, path, item)


def _first_option(records: Mapping[str, Any], path: Path) -> int:
    """Return the number of the first option: MedMCQA's own files count from 1, those of the hub from 0."""
    numbers = {record.get("cop") for record in records.values() if isinstance(record, dict)}
    if (0 in numbers) == (4 in numbers):
        raise InputError(
            f"eval.multiple_choice: {path}: cop counts neither clearly from 0 to 3 nor from 1 to 4",
            "MedMCQA's own dev.json counts from 1; the test file has no answers",
        )
    return 1 if 4 in numbers else 0


def _medqa(records: Mapping[str, Any], path: Path) -> list[ChoiceItem]:
    def item(name: str, record: Mapping[str, Any]) -> ChoiceItem:
        options = record["options"]
        listed = "".join(f"{letter}. {options[letter]}\n" for letter in _LETTERS)
        if len(options) != len(_LETTERS):
            raise ValueError(f"{len(options)} options; the four-option file has 4")
        prompt = f"Question: {record['question']}\n{listed}Answer:"
        return ChoiceItem(name, record["question"], prompt, _LETTERS, _LETTERS.index(record["answer_idx"]))

    return _items(records, path, item)


def _medqa_hub(records: Mapping[str, Any], path: Path) -> list[ChoiceItem]:
    def item(name: str, record: Mapping[str, Any]) -> ChoiceItem:
        listed = "".join(f"{letter}. {record[f'ending{place}']}\n" for place, letter in enumerate(_LETTERS))
        prompt = f"Question: {record['sent1']}\n{listed}Answer:"
        return ChoiceItem(
            str(record.get("id", name)), record["sent1"], prompt, _LETTERS, _in_range(int(record["label"]))
        )

    return _items(records, path, item)


def _in_range(gold: int) -> int:
    if not 0 <= gold < len(_LETTERS):
        raise ValueError("the right answer is none of the four")
    return gold


def _items(
    records: Mapping[str, Any], path: Path, make: Callable[[str, Mapping[str, Any]], ChoiceItem]
) -> list[ChoiceItem]:
    items = []
    for name, record in records.items():
        try:
            items.append(make(name, record))
        except (KeyError, TypeError, ValueError) as error:
            what = f"no {error}" if isinstance(error, KeyError) else str(error)
            raise InputError(f"eval.multiple_choice: {path}: item {name} is damaged: {what}") from error
    return items


_READERS: Sequence[tuple[set[str], Callable[[Mapping[str, Any], Path], list[ChoiceItem]]]] = (
    ({"QUESTION", "CONTEXTS", "final_decision"}, _pubmedqa),
    ({"question", "opa", "opb", "opc", "opd", "cop"}, _medmcqa),
    ({"question", "options", "answer_idx"}, _medqa),
    ({"sent1", "ending0", "ending3", "label"}, _medqa_hub),
)
