"""The recorded finds: what the file holds, who may read it, and that a changed text is noticed."""

import json
from pathlib import Path
from typing import Any

import pytest

from medqa_cli.config.schema import DataConfig
from medqa_cli.data.convert import convert
from medqa_cli.data.dataset import IDENTIFIERS_NAME, read_split
from medqa_cli.data.identifiers.recorded import found_values, hash_of, read_recorded, salt_of
from medqa_cli.errors import InputError

ROWS = [
    "My name is Sean O'Brien and my back hurts since 03/14/2019. What helps?,Hello Sean. Rest and walking help.",
    "What is asthma?,Asthma narrows the airways.",
    "Can you call me at (617) 555-0142 about gout?,Gout is a painful disease of the joints.",
]


def converted(folder: Path, rows: list[str], **data: Any) -> dict[str, Any]:
    source = folder / "rows.csv"
    source.write_text("\n".join(["question,answer", *rows]), encoding="utf-8")
    settings = DataConfig(**{"validation_fraction": 0, "test_fraction": 0, **data})
    return convert(
        [str(source)], settings, 1, lambda question, answer, _: question + answer, None, folder / "out", force=True
    )


def test_the_finds_of_training_rows_are_recorded_without_their_values(tmp_path: Path) -> None:
    converted(tmp_path, ROWS)
    path = tmp_path / "out" / IDENTIFIERS_NAME
    assert path.stat().st_mode & 0o777 == 0o600
    text = path.read_text(encoding="utf-8")
    assert not any(value in text for value in ("Sean", "O'Brien", "2019", "555"))
    found = [(value.find.field, value.find.kind, value.value) for value in found_values(tmp_path / "out")]
    assert found == [
        ("question", "name", "Sean O'Brien"),
        ("question", "date", "03/14/2019"),
        ("answer", "name", "Sean"),
        ("question", "phone", "(617) 555-0142"),
    ]
    rows = {row.id: row for row in read_split(tmp_path / "out", "train")}
    salt, finds = read_recorded(tmp_path / "out")
    assert len(salt) == 32
    for find in finds:
        assert find.hash == hash_of(getattr(rows[find.id], find.field)[find.start : find.end], salt)


def test_the_same_conversion_gives_the_same_file_and_another_source_another_salt(tmp_path: Path) -> None:
    path = tmp_path / "out" / IDENTIFIERS_NAME
    converted(tmp_path, ROWS)
    first = path.read_bytes()
    converted(tmp_path, ROWS)
    assert path.read_bytes() == first
    converted(tmp_path, ROWS[:1])
    assert json.loads(path.read_text().splitlines()[0])["salt"] != json.loads(first.splitlines()[0])["salt"]
    assert salt_of("a", "b") != salt_of("ab", "")


def test_no_file_where_nothing_is_found_or_rows_are_rejected(tmp_path: Path) -> None:
    report = converted(tmp_path, ROWS[1:2])
    assert report["identifiers"]["kinds"] == {}
    assert not (tmp_path / "out" / IDENTIFIERS_NAME).exists()
    assert read_recorded(tmp_path / "out") == ("", [])
    assert list(found_values(tmp_path / "out")) == []
    report = converted(tmp_path, ROWS, identifiers="reject")
    assert report["rows"]["rejected"] == {"identifier": 2}
    assert not (tmp_path / "out" / IDENTIFIERS_NAME).exists()
    lines = [json.loads(line) for line in (tmp_path / "out/rejected.jsonl").read_text().splitlines()]
    assert [(line["reason"], line["detail"]) for line in lines] == [
        ("identifier", "date, name"),
        ("identifier", "phone"),
    ]


def test_counts_are_of_finds_and_of_rows_by_kind(tmp_path: Path) -> None:
    found = converted(tmp_path, ROWS)["identifiers"]
    assert (found["setting"], found["rows"], found["train_rows"]) == ("report", 2, 2)
    assert found["kinds"]["name"] == {"finds": 2, "rows": 1, "train_finds": 2, "train_rows": 1}
    assert set(found["kinds"]) == {"name", "date", "phone"}
    rejected = converted(tmp_path, ROWS, identifiers="reject")["identifiers"]
    assert (rejected["rows"], rejected["train_rows"]) == (2, 0)
    assert rejected["kinds"]["name"]["finds"] == 2


def test_a_row_that_was_changed_since_is_an_error(tmp_path: Path) -> None:
    converted(tmp_path, ROWS)
    train = tmp_path / "out/train.jsonl"
    text = train.read_text(encoding="utf-8")
    train.write_text(text.replace("(617) 555-0142", "(617) 555-0143"), encoding="utf-8")
    with pytest.raises(InputError, match="no longer what was looked through"):
        list(found_values(tmp_path / "out"))
    train.write_text("".join(text.splitlines(keepends=True)[1:]), encoding="utf-8")
    with pytest.raises(InputError, match="names 1 rows that train"):
        list(found_values(tmp_path / "out"))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]\n",
        '{"format": 2, "salt": "00"}\n',
        '{"format": 1, "salt": "xy"}\n',
        '{"format": 1, "salt": "00"}\n{"id": "a"}\n',
        '{"format": 1, "salt": "00"}\n'
        '{"id": "a", "field": "text", "start": 0, "end": 1, "kind": "name", "hash": "0"}\n',
        '{"format": 1, "salt": "00"}\n'
        '{"id": "a", "field": "answer", "start": 3, "end": 1, "kind": "name", "hash": "0"}\n',
    ],
)
def test_a_damaged_file_is_one_message(tmp_path: Path, text: str) -> None:
    (tmp_path / IDENTIFIERS_NAME).write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=IDENTIFIERS_NAME):
        read_recorded(tmp_path)
