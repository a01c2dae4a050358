"""Multiple choice in the public formats of PubMedQA, MedMCQA and MedQA, asked and scored as lm-evaluation-harness does.

The prompts are those of lm-evaluation-harness 0.4.13 (tasks pubmedqa, medmcqa, medqa_4options), zero-shot and without
a chat template, which is its default. The choice with the largest summed log-likelihood of " choice" counts. Tokens are
cut as the harness cuts them (``lm_eval/api/model.py``, ``_encode_pair``): the continuation is what the whole text has
beyond the tokens of the prompt alone. If all continuations are single tokens, one forward pass scores them all.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medqa_cli.config.schema import MultipleChoiceSet
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
    """One question: the prompt, its continuations (without the space before them), and the index of the right one.

    ``question``: the question alone.
    """

    id: str
    question: str
    prompt: str
    choices: tuple[str, ...]
    gold: int


def read_choice_files(sets: Sequence[MultipleChoiceSet]) -> dict[str, list[ChoiceItem]]:
    """Read the files of ``eval.multiple_choice``; return their items by name.

    Raises:
        InputError: two sets have the same name, or a file as of ``read_choice_file``.
    """
    items: dict[str, list[ChoiceItem]] = {}
    for choice_set in sets:
        if choice_set.name in items:
            raise InputError(f"eval.multiple_choice names two files {choice_set.name}", "give each its own name")
        items[choice_set.name] = read_choice_file(Path(choice_set.path))
    return items


def read_choice_file(path: Path) -> list[ChoiceItem]:
    """Read a multiple-choice file; its keys tell its format.

    If ``test_ground_truth.json`` is next to PubMedQA's labeled file, only the test items are read.

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
    """Return the items by id; those of a JSON list or of JSON lines have their number as id."""
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
    ids_path = path.with_name(_TEST_IDS)
    wanted = set(records)
    if ids_path.is_file():
        decisions = read_json(ids_path)
        if not isinstance(decisions, dict) or not decisions:
            raise InputError(
                f"eval.multiple_choice: {ids_path} is not an object with an id as each key", "restore the file"
            )
        wanted = set(decisions)
        if missing := wanted - set(records):
            raise InputError(f"eval.multiple_choice: {ids_path} names {len(missing)} items that {path} does not hold")

    def item(name: str, record: Mapping[str, Any]) -> ChoiceItem:
        if not isinstance(record["CONTEXTS"], list):
            raise TypeError("CONTEXTS is not a list of texts")
        abstract = "\n".join(record["CONTEXTS"])
        prompt = f"Abstract: {abstract}\nQuestion: {record['QUESTION']}\nAnswer:"
        return ChoiceItem(name, record["QUESTION"], prompt, _DECISIONS, _DECISIONS.index(record["final_decision"]))

    return _items({name: record for name, record in records.items() if name in wanted}, path, item)


def _medmcqa(records: Mapping[str, Any], path: Path) -> list[ChoiceItem]:
    # The number of the first option: MedMCQA's own files count from 1, those of the hub from 0.
    numbers = [record.get("cop") for record in records.values() if isinstance(record, dict)]
    if (0 in numbers) == (4 in numbers):
        raise InputError(
            f"eval.multiple_choice: {path}: cop counts neither clearly from 0 to 3 nor from 1 to 4",
            "MedMCQA's own dev.json counts from 1; the test file has no answers",
        )
    first = 1 if 4 in numbers else 0

    def item(name: str, record: Mapping[str, Any]) -> ChoiceItem:
        options = [record[key] for key in ("opa", "opb", "opc", "opd")]
        id_of_item = str(record.get("id", name))
        return _lettered(id_of_item, record["question"], options, int(record["cop"]) - first, before="Choices:\n")

    return _items(records, path, item)


def _medqa(records: Mapping[str, Any], path: Path) -> list[ChoiceItem]:
    def item(name: str, record: Mapping[str, Any]) -> ChoiceItem:
        options = [record["options"][letter] for letter in _LETTERS]
        if len(record["options"]) != len(options):
            raise ValueError(f"{len(record['options'])} options; the four-option file has 4")
        return _lettered(name, record["question"], options, _LETTERS.index(record["answer_idx"]))

    return _items(records, path, item)


def _medqa_hub(records: Mapping[str, Any], path: Path) -> list[ChoiceItem]:
    def item(name: str, record: Mapping[str, Any]) -> ChoiceItem:
        options = [record[f"ending{number}"] for number in range(len(_LETTERS))]
        return _lettered(str(record.get("id", name)), record["sent1"], options, int(record["label"]))

    return _items(records, path, item)


def _lettered(name: str, question: Any, options: Sequence[Any], gold: int, before: str = "") -> ChoiceItem:
    """Return a question with four options; ``before``: what stands before them."""
    if not 0 <= gold < len(_LETTERS):
        raise ValueError("the right answer is none of the four")
    listed = "".join(f"{letter}. {option}\n" for letter, option in zip(_LETTERS, options, strict=True))
    return ChoiceItem(name, question, f"Question: {question}\n{before}{listed}Answer:", _LETTERS, gold)


def _items(
    records: Mapping[str, Any], path: Path, make: Callable[[str, Mapping[str, Any]], ChoiceItem]
) -> list[ChoiceItem]:
    items = []
    for name, record in records.items():
        try:
            item = make(name, record)
            if not isinstance(item.question, str):
                raise TypeError("the question is not text")
            items.append(item)
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


# One sequence to read, and its targets: (position, the token that follows it, number of the choice).
_Row = tuple[list[int], list[tuple[int, int, int]]]


def score_choices(
    loaded: LoadedModel, tokenizer: Any, set_name: str, items: Sequence[ChoiceItem], journal: SharedJournal
) -> list[list[float]]:
    """Return the log-likelihood in nats of each choice of each item; finished pieces are taken from the journal.

    Args:
        loaded: a packed model.
        tokenizer: its tokenizer, which adds special tokens as usual.
        set_name: name of the file in the report.
        items: the questions.
        journal: where finished pieces are kept.

    Raises:
        MedqaError: a likelihood is not finite, or a choice has no token of its own.
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
    rows = [(number, row) for number, item in enumerate(items) for row in _rows_of(item, tokenizer, context)]
    sums = [[0.0] * len(item.choices) for item in items]
    for group in group_by_size(rows, lambda entry: (len(entry[1][0]),), (_TOKENS_PER_FORWARD,)):
        lengths = tuple(len(input_ids) for _, (input_ids, _) in group)
        starts = np.cumsum([0, *lengths])
        asked = [
            (int(start) + position, token_id, number, choice)
            for start, (number, (_, row_targets)) in zip(starts, group, strict=False)
            for position, token_id, choice in row_targets
        ]
        positions, targets, numbers, _ = (np.array(column, np.int64) for column in zip(*asked, strict=True))
        input_ids = np.array([token_id for _, (ids, _) in group for token_id in ids], np.int64)
        batch = packed_batch(input_ids, lengths, positions, targets, numbers, loaded.device)
        is_shorter = loaded.dtype != torch.float32
        with torch.no_grad(), torch.autocast(loaded.device.type, loaded.dtype, enabled=is_shorter):
            losses = answer_token_losses(loaded.model, batch)
        for (_, _, number, choice), loss in zip(asked, losses.tolist(), strict=True):
            sums[number][choice] -= loss
    if not np.isfinite(np.concatenate([np.asarray(of_item) for of_item in sums])).all():
        raise MedqaError(
            f"{loaded.name}: the likelihoods of choices are not finite in {loaded.dtype}",
            "set model.compute_dtype to float32 (or bfloat16), then give the same command again",
        )
    return sums


def _rows_of(item: ChoiceItem, tokenizer: Any, context: int) -> list[_Row]:
    """Return the sequences that an item needs: one if all choices are single tokens, else one for each choice."""
    pairs = [_encode_pair(item.prompt, _DELIMITER + choice, tokenizer, context) for choice in item.choices]
    if all(len(continuation) == 1 and prompt == pairs[0][0] for prompt, continuation in pairs):
        prompt = pairs[0][0]
        return [(prompt, [(len(prompt) - 1, ids[0], choice) for choice, (_, ids) in enumerate(pairs)])]
    return [
        (prompt + ids[:-1], [(len(prompt) - 1 + offset, token_id, choice) for offset, token_id in enumerate(ids)])
        for choice, (prompt, ids) in enumerate(pairs)
    ]


def _encode_pair(prompt: str, continuation: str, tokenizer: Any, context: int) -> tuple[list[int], list[int]]:
    def encode(text: str) -> list[int]:
        ids: list[int] = list(tokenizer(text)["input_ids"])
        num_special = len(ids) - len(tokenizer(text, add_special_tokens=False)["input_ids"])
        # Without the end token that some add to every text.
        ends = num_special > (ids[:1] == [tokenizer.bos_token_id]) and ids[-1:] == [tokenizer.eos_token_id]
        return ids[:-1] if ends else ids

    whole, prompt_ids = encode(prompt + continuation), encode(prompt)
    ids = whole[len(prompt_ids) :]
    if not ids:
        raise MedqaError(
            f"the tokenizer joins the choice {continuation!r} with the end of the prompt: it has no token to score",
            "leave this file out of eval.multiple_choice for this model",
        )
    # The last token is only a target, so one more than the context fits; a text that is too long loses its beginning.
    kept = whole[-(context + 1) :]
    return kept[: len(kept) - len(ids)], ids


def predictions(log_likelihoods: Sequence[Sequence[float]]) -> list[int]:
    """Return the likeliest choice of each item, the first of equals, as the harness takes it."""
    return [int(np.argmax(of_item)) for of_item in log_likelihoods]


def contaminated(questions: Sequence[str], train: Iterable[QaRow]) -> list[bool]:
    """Tell for each question whether the training data hold it; case, punctuation and spacing are ignored.

    Args:
        questions: of the benchmark, without their choices.
        train: the training rows; read once and not kept.

    Returns:
        True where a training question is the same, or a training question or answer shares eight consecutive words.
    """
    wanted: dict[str, list[int]] = {}
    for number, question in enumerate(questions):
        for text in {normalize(question), *_runs(question)}:
            wanted.setdefault(text, []).append(number)
    seen: set[int] = set()
    for row in train:
        texts = {normalize(row.question), *_runs(row.question), *_runs(row.answer)}
        for text in texts & wanted.keys():
            seen.update(wanted[text])
    return [number in seen for number in range(len(questions))]


def _runs(text: str) -> Iterator[str]:
    words = normalize(text).split()
    return (" ".join(words[start : start + RUN_WORDS]) for start in range(len(words) - RUN_WORDS + 1))
