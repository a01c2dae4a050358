"""Multiple choice in the public formats of PubMedQA, MedMCQA and MedQA, asked and scored as lm-evaluation-harness does.

The prompts are those of lm-evaluation-harness 0.4.13 (tasks pubmedqa, medmcqa, medqa_4options), without examples before
the question and without a chat template, as it asks by default. The choice with the largest summed log-likelihood of
" choice" counts. Tokens are cut as the harness cuts them (``lm_eval/api/model.py``, ``_encode_pair``): the continuation
is what the whole text has beyond the tokens of the prompt alone. Where all continuations are single tokens one forward
serves them all.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medqa_cli.data.dataset import QaRow
from medqa_cli.data.normalize import normalize
from medqa_cli.errors import InputError, MedqaError
from medqa_cli.files import read_json, require_file
from medqa_cli.journal import SharedJournal
from medqa_cli.model.kernels.packing import answer_token_losses, group_by_size, packed_batch
from medqa_cli.model.load import LoadedModel

RUN_WORDS = 8
_ITEMS_PER_PIECE = 16
_TOKENS_PER_FORWARD = 4096
_DELIMITER = " "
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


@dataclass(frozen=True)
class _Row:
    """One sequence to read and what is asked of it: ``targets`` are (position whose next token, token, choice)."""

    input_ids: list[int]
    targets: list[tuple[int, int, int]]


def score_choices(
    loaded: LoadedModel, tokenizer: Any, set_name: str, items: Sequence[ChoiceItem], journal: SharedJournal
) -> list[list[float]]:
    """Return the log-likelihood in nats of each choice of each item; finished pieces are taken as they are.

    Args:
        loaded: a packed model.
        tokenizer: its tokenizer; special tokens are added as it does by itself.
        set_name: name of the file in the report.
        items: the questions.
        journal: where finished pieces are kept.

    Raises:
        MedqaError: a likelihood is not a finite number.
    """
    return journal.map(
        f"choices/{set_name}/{loaded.name}",
        lambda part, _: _log_likelihoods(loaded, tokenizer, part),
        items,
        size=_ITEMS_PER_PIECE,
        title=f"{set_name}: scoring {loaded.name}",
    )


def _log_likelihoods(loaded: LoadedModel, tokenizer: Any, items: Sequence[ChoiceItem]) -> list[list[float]]:
    context = int(getattr(loaded.model.config, "max_position_embeddings", None) or 1 << 30)
    rows = [(place, row) for place, item in enumerate(items) for row in _rows_of(item, tokenizer, context)]
    sums = [[0.0] * len(item.choices) for item in items]
    for group in group_by_size(rows, lambda entry: (len(entry[1].input_ids),), (_TOKENS_PER_FORWARD,)):
        _add_scores(loaded, group, sums)
    if not np.isfinite(np.concatenate([np.asarray(own) for own in sums])).all():
        raise MedqaError(
            f"{loaded.name}: the likelihoods of choices are not finite in {loaded.dtype}",
            "set model.compute_dtype to float32 (or bfloat16), then give the same command again",
        )
    return sums


def _rows_of(item: ChoiceItem, tokenizer: Any, context: int) -> list[_Row]:
    """Return the sequences that an item needs: one where all choices are single tokens, else one a choice."""
    pairs = [_encode_pair(item.prompt, _DELIMITER + choice, tokenizer, context) for choice in item.choices]
    if all(len(continuation) == 1 and prompt == pairs[0][0] for prompt, continuation in pairs):
        prompt = pairs[0][0]
        return [_Row(prompt, [(len(prompt) - 1, own[0], choice) for choice, (_, own) in enumerate(pairs)])]
    return [
        _Row(
            prompt + own[:-1],
            [(len(prompt) - 1 + offset, token_id, choice) for offset, token_id in enumerate(own)],
        )
        for choice, (prompt, own) in enumerate(pairs)
    ]


def _without_end(tokenizer: Any, text: str) -> list[int]:
    """Encode a text as the tokenizer does by itself, but for an end token that some put behind every text."""
    ids = list(tokenizer(text)["input_ids"])
    ends = len(ids) - len(tokenizer(text, add_special_tokens=False)["input_ids"]) > (
        ids[:1] == [tokenizer.bos_token_id]
    )
    return ids[:-1] if ends and ids[-1:] == [tokenizer.eos_token_id] else ids


def _encode_pair(prompt: str, continuation: str, tokenizer: Any, context: int) -> tuple[list[int], list[int]]:
    whole, own_prompt = (_without_end(tokenizer, text) for text in (prompt + continuation, prompt))
    own = whole[len(own_prompt) :]
    # The last token is only a target, so one more than the context fits; what is too long loses its beginning.
    kept = whole[-(context + 1) :]
    return kept[: len(kept) - len(own)], own


def _add_scores(loaded: LoadedModel, group: Sequence[tuple[int, _Row]], sums: list[list[float]]) -> None:
    starts = np.cumsum([0, *(len(row.input_ids) for _, row in group)])
    asked = [
        (int(start) + position, token_id, place, choice)
        for start, (place, row) in zip(starts, group, strict=False)
        for position, token_id, choice in row.targets
    ]

    positions, targets, places, _ = (np.array(column, np.int64) for column in zip(*asked, strict=True))
    input_ids = np.array([i for _, row in group for i in row.input_ids], np.int64)
    lengths = tuple(len(row.input_ids) for _, row in group)
    batch = packed_batch(input_ids, lengths, positions, targets, places, loaded.device)
    with (
        torch.no_grad(),
        torch.autocast(loaded.device.type, loaded.dtype, enabled=loaded.dtype != torch.float32),
    ):
        losses = answer_token_losses(loaded.model, batch)
    for (_, _, place, choice), loss in zip(asked, losses.tolist(), strict=True):
        sums[place][choice] -= loss


def predictions(log_likelihoods: Sequence[Sequence[float]]) -> list[int]:
    """Return the likeliest choice of each item, the first of equals, as the harness takes it."""
    return [int(np.argmax(own)) for own in log_likelihoods]


def contaminated(questions: Sequence[str], train: Iterable[QaRow]) -> list[bool]:
    """Tell for each question whether it stands in the training data; case, punctuation and spacing play no part.

    Args:
        questions: of the benchmark, without their choices.
        train: the training rows; read once, nothing of them is kept.

    Returns:
        True where a training question is the same, or a training question or answer holds eight words in a row of it.
    """
    wanted: dict[str, list[int]] = {}
    for place, question in enumerate(questions):
        for text in {normalize(question), *_runs(question)}:
            wanted.setdefault(text, []).append(place)
    found = [False] * len(questions)
    for row in train:
        texts = {normalize(row.question), *_runs(row.question), *_runs(row.answer)}
        for text in texts & wanted.keys():
            for place in wanted[text]:
                found[place] = True
    return found


def _runs(text: str) -> Iterator[str]:
    words = normalize(text).split()
    return (" ".join(words[start : start + RUN_WORDS]) for start in range(len(words) - RUN_WORDS + 1))
