"""Canaries: made-up rows whose identifiers stand where they are said to, planted so often and nowhere else."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helpers.commands import Outcome
from medqa_cli.data.canaries import as_planted, make_canaries, read_canaries, write_canaries
from medqa_cli.data.retrieval import PassageIndex
from medqa_cli.errors import InputError

Medqa = Callable[..., Outcome]


def test_the_places_of_values_hold_numbers_of_their_form_and_no_canary_shares_one() -> None:
    canaries = make_canaries(500, (0, 2, 5), seed=7)
    values: list[str] = []
    for canary in canaries:
        by_kind = {value.kind: getattr(canary, value.field)[value.start : value.end] for value in canary.values}
        area, exchange, line = by_kind["phone"].split("-")
        assert (len(area), exchange, len(line)) == (3, "555", 4)
        assert len(by_kind["record"]) == 8
        assert by_kind["record"].isdigit()
        values += by_kind.values()
    assert len(set(values)) == len(values)
    assert len({canary.question for canary in canaries}) == len(canaries)
    assert [canary.copies for canary in canaries[:4]] == [0, 2, 5, 0]
    assert make_canaries(500, (0, 2, 5), seed=7) == canaries
    assert make_canaries(500, (0, 2, 5), seed=8)[0].answer != canaries[0].answer


def test_identifiers_that_are_replaced_or_rejected_are_planted_so() -> None:
    canaries = make_canaries(300, (3,), seed=11)
    assert as_planted(canaries, "report", 1) == canaries
    assert {canary.copies for canary in as_planted(canaries, "reject", 1)} == {0}
    for canary, planted in zip(canaries, as_planted(canaries, "replace", 1), strict=True):
        assert (planted.id, planted.copies) == (canary.id, 3)
        for value in canary.values:
            number = getattr(canary, value.field)[value.start : value.end]
            assert number not in planted.question + planted.answer
        name = canary.question.removeprefix("My name is ").split(",")[0]
        assert name not in planted.question


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    rows = [
        f'What is gout number {n} ?,"Gout {n} is a disease of joint {n}, found by doctor {n % 7}."' for n in range(40)
    ]
    (tmp_path / "qa.csv").write_text("question,answer\n" + "\n".join(rows) + "\n", encoding="utf-8")
    return tmp_path


def train_rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "data/medqa/train.jsonl").read_text(encoding="utf-8").splitlines()]


def test_copies_stand_at_the_end_of_train_and_in_no_count_and_no_index(workspace: Path, medqa: Medqa) -> None:
    plain = medqa("convert", "qa.csv", "--json")
    rows = train_rows(workspace)
    assert "canaries" not in json.loads(plain.out)
    planted = medqa("convert", "qa.csv", "--json", "--canaries", "4", "--set", "data.canary_copies=[0, 1, 3]")
    assert planted.code == 0, planted.err
    report = json.loads(planted.out)
    assert report["canaries"] == {"planted": 4, "copies": [0, 1, 3], "rows": 4}
    for key in ("rows", "splits", "paraphrases", "leakage", "topics"):
        assert report[key] == json.loads(plain.out)[key]
    with_canaries = train_rows(workspace)
    assert [row | {"paraphrase_of": ""} for row in rows] == with_canaries[: len(rows)]
    added = with_canaries[len(rows) :]
    canaries = read_canaries(workspace / "data/medqa")
    assert Counter(row["paraphrase_of"] for row in added) == {"canary-2": 1, "canary-3": 3}
    assert [row["id"] for row in added] == ["canary-2-1", "canary-3-1", "canary-3-2", "canary-3-3"]
    for row in added:
        canary = canaries[int(row["paraphrase_of"].removeprefix("canary-")) - 1]
        assert (row["question"], row["answer"]) == (canary.question, canary.answer)
        assert canary.answer in row["text"]
    assert canaries == make_canaries(4, (0, 1, 3), seed=42)
    titles = {passage.title for passage in PassageIndex.of_folder(workspace / "data/medqa").passages()}
    assert len(titles) == len(rows)
    assert titles.isdisjoint(canary.question for canary in canaries)
    assert "must not be passed on" in (workspace / "data/medqa/README.md").read_text(encoding="utf-8")


def test_a_folder_is_replaced_with_its_canaries(workspace: Path, medqa: Medqa) -> None:
    assert medqa("convert", "qa.csv", "--canaries", "2").code == 0
    assert medqa("convert", "qa.csv").code == 0
    assert not (workspace / "data/medqa/canaries.jsonl").exists()
    assert read_canaries(workspace / "data/medqa") == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"copies": 1', '"copies": -1'),
        ('"copies": 1', '"copies": "1"'),
        ('"field": "answer"', '"field": "topic"'),
        ('"kind": "phone"', '"kind": "shoe"'),
        ('"start": 30', '"start": 90'),
        ('"start": 30', '"start": "30"'),
        ('{"id"', '["id"'),
        ('"id": "canary-1"', '"id": 1'),
        ('"copies"', '"copy"'),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, old: str, new: str) -> None:
    path = tmp_path / "canaries.jsonl"
    write_canaries(path, make_canaries(1, (1,), seed=1))
    assert read_canaries(tmp_path) == make_canaries(1, (1,), seed=1)
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(InputError, match=r"canaries\.jsonl cannot be read"):
        read_canaries(tmp_path)
