"""A hub id as a source: which strings are one, which splits are read, and what is said where it cannot be read."""

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import huggingface_hub
import pytest
from datasets.exceptions import DatasetNotFoundError

from medqa_cli.data.reading.hub import HubId, open_hub, parse_hub_id
from medqa_cli.data.reading.shapes import Caps, ColumnNames, UnreadRow
from medqa_cli.data.reading.sources import check_sources, local_paths, looks_like_hub_id, open_sources
from medqa_cli.errors import InputError

Record = dict[str, Any]


class FakeHub:
    """Stands for the hub: what it was asked, and the splits that it gives or the error that it raises."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str | None, str | None]] = []
        self.splits: dict[str, list[Record]] = {}
        self.error: Exception | None = None

    def load_dataset(self, path: str, name: str | None = None, revision: str | None = None, **options: Any) -> Any:
        assert options == {"streaming": True}
        self.asked.append((path, name, revision))
        if self.error is not None:
            raise self.error
        return datasets.IterableDatasetDict(
            {
                name: datasets.IterableDataset.from_generator(self._rows, gen_kwargs={"split": name})
                for name in self.splits
            }
        )

    def _rows(self, split: str) -> Iterator[Record]:
        yield from self.splits[split]

    def dataset_info(self, repo_id: str, **_: Any) -> Any:
        return SimpleNamespace(sha="c0ffee", card_data={"license": "cc-by-4.0"})


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeHub:
    fake = FakeHub()
    monkeypatch.setattr(datasets, "load_dataset", fake.load_dataset)
    monkeypatch.setattr(huggingface_hub, "dataset_info", fake.dataset_info)
    monkeypatch.chdir(tmp_path)
    return fake


def rows_of(source: str, **columns: Any) -> list[tuple[str, int, str, str]]:
    return [
        (row.file, row.row, row.question, row.answer) for row in open_sources([source], ColumnNames(**columns)).rows
    ]


def record(number: int) -> Record:
    return {"Question": f"q{number}", "Answer": f"a{number}", "qtype": "causes"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("owner/name", HubId("owner/name")),
        ("owner/na.me-2@v1.0", HubId("owner/na.me-2", revision="v1.0")),
        ("owner/name@refs/pr/1:en/test", HubId("owner/name", "refs/pr/1", "en", "test")),
        ("owner/name:test", HubId("owner/name", split="test")),
        ("owner/name:en/", HubId("owner/name", config="en")),
        ("name", None),
        ("a/b/c", None),
        ("./owner/name", None),
        ("../name", None),
        ("https://huggingface.co/datasets/owner/name", None),
        ("C:\\data\\name", None),
        ("owner/na me", None),
    ],
)
def test_the_form_of_an_id(text: str, expected: HubId | None) -> None:
    assert parse_hub_id(text) == expected


@pytest.mark.parametrize("path", ["data/questions.csv", "data/questions", "elsewhere/q.tar.gz", "elsewhere/q.xml"])
def test_a_path_that_is_missing_is_no_id(hub: FakeHub, tmp_path: Path, path: str) -> None:
    (tmp_path / "data").mkdir()
    assert not looks_like_hub_id(path)
    with pytest.raises(InputError, match=f"{path} does not exist"):
        check_sources([path])
    assert hub.asked == []


def test_a_folder_of_that_name_is_read_and_not_the_hub(hub: FakeHub, tmp_path: Path) -> None:
    (tmp_path / "owner/name").mkdir(parents=True)
    (tmp_path / "owner/name/qa.csv").write_text("question,answer\nq1,a1\n")
    assert rows_of("owner/name") == [("qa.csv", 1, "q1", "a1")]
    assert hub.asked == []


def test_all_splits_in_their_order(hub: FakeHub) -> None:
    hub.splits = {"extra": [record(4)], "test": [record(3)], "train": [record(1), record(2)]}
    check_sources(["owner/name"])
    assert hub.asked == []  # nothing is asked before the source is opened
    opened = open_sources(["owner/name"], ColumnNames())
    rows = list(opened.rows)
    assert [(row.file, row.row, row.question) for row in rows] == [
        ("train", 1, "q1"),
        ("train", 2, "q2"),
        ("test", 1, "q3"),
        ("extra", 1, "q4"),
    ]
    assert not any(isinstance(row, UnreadRow) for row in rows)
    assert opened.columns.describe() == "question 'Question', answer 'Answer', kind 'qtype'"
    assert opened.description.startswith("hub data set, split 'train'; ")
    assert opened.license == "cc-by-4.0"
    assert opened.digests == {"owner/name (commit c0ffee)": None}
    assert hub.asked == [("owner/name", None, "c0ffee")]
    assert local_paths(["owner/name"]) == []


def test_a_row_of_a_hub_data_set_longer_than_the_limit_is_refused(hub: FakeHub) -> None:
    hub.splits = {"train": [record(1), record(2) | {"Answer": "a" * 200}]}
    rows = open_sources(["owner/name"], ColumnNames(caps=Caps(row_bytes=100))).rows
    assert next(rows).question == "q1"
    with pytest.raises(InputError, match=r"^owner/name:train, row 2 holds more than 100 bytes in one row"):
        next(rows)


def test_a_named_split_and_configuration(hub: FakeHub) -> None:
    hub.splits = {"train": [record(1)], "test": [record(2)]}
    assert rows_of("owner/name@v1:en/test") == [("test", 1, "q2", "a2")]
    assert hub.asked == [("owner/name", "en", "c0ffee")]
    with pytest.raises(InputError, match=r"no split 'tset'; it has 'train', 'test'; did you mean 'test'\?"):
        rows_of("owner/name:tset")


def test_two_data_sets_are_told_apart_by_their_ids(hub: FakeHub) -> None:
    hub.splits = {"train": [record(1)]}
    opened = open_sources(["owner/one", "owner/two:train"], ColumnNames())
    assert [row.file for row in opened.rows] == ["owner/one/train", "owner/two:train/train"]
    with pytest.raises(InputError, match="owner/one is named twice as a source"):
        open_sources(["owner/one", "owner/one"], ColumnNames())


def test_what_is_no_id_is_not_asked_for(hub: FakeHub) -> None:
    with pytest.raises(InputError, match=r"'owner/na me' is not a data set id") as caught:
        open_hub("owner/na me", "", ColumnNames())
    assert caught.value.hint == "expected owner/name, owner/name@revision or owner/name:split"
    assert hub.asked == []


@pytest.mark.parametrize("error", [MemoryError(), OSError(errno.ENOMEM, "Cannot allocate memory")])
def test_too_little_memory_is_no_fault_of_the_hub(error: Exception, hub: FakeHub) -> None:
    hub.error = error
    with pytest.raises(type(error)):
        rows_of("owner/name")


def test_columns_and_messages_are_found_as_everywhere(hub: FakeHub) -> None:
    turns = [{"role": "user", "content": "q1"}, {"role": "assistant", "content": "a1"}]
    hub.splits = {"train": [{"messages": turns}]}
    assert rows_of("owner/name") == [("train", 1, "q1", "a1")]
    hub.splits = {"train": [{"title": "q1", "body": "a1"}]}
    assert rows_of("owner/name", question="title", answer="body") == [("train", 1, "q1", "a1")]
    with pytest.raises(InputError, match="owner/name:train: no question column found"):
        rows_of("owner/name")


def test_without_the_card_the_name_stands_alone(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("offline")

    monkeypatch.setattr(huggingface_hub, "dataset_info", refuse)
    hub.splits = {"train": [record(1)]}
    opened = open_sources(["owner/name@v1"], ColumnNames())
    assert (opened.license, opened.digests) == (None, {"owner/name@v1": None})
    assert hub.asked == [("owner/name", None, "v1")]


@pytest.mark.parametrize(
    ("error", "said", "hint"),
    [
        (
            DatasetNotFoundError("Dataset 'owner/name' is a gated dataset on the Hub."),
            "is a gated dataset",
            "hf auth login",
        ),
        (ConnectionError("Couldn't reach 'owner/name'"), "the hub cannot be reached", "hf download owner/name"),
        (RuntimeError("Dataset scripts are no longer supported, but found x.py"), "scripts", "does not run"),
        (ValueError("Config name is missing.\nPlease pick one among: ['en']"), "among: ['en']", "owner/name:CONFIG/"),
        (KeyError("anything"), "cannot be read from the hub", "hf download owner/name"),
    ],
)
def test_what_the_library_raises_is_told_with_a_way_out(hub: FakeHub, error: Exception, said: str, hint: str) -> None:
    hub.error = error
    with pytest.raises(InputError) as caught:
        rows_of("owner/name")
    assert said in caught.value.message
    assert hint in caught.value.hint
    assert "owner/name" in caught.value.message


def test_an_error_in_the_middle_of_a_split(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    def rows(split: str) -> Iterator[Record]:
        yield record(1)
        raise ConnectionError("reset by peer")

    hub.splits = {"train": []}
    monkeypatch.setattr(hub, "_rows", rows)
    with pytest.raises(InputError, match="the hub cannot be reached for 'owner/name': reset by peer"):
        list(open_sources(["owner/name"], ColumnNames()).rows)


def test_an_empty_split(hub: FakeHub) -> None:
    hub.splits = {"train": []}
    with pytest.raises(InputError, match="owner/name:train has no rows"):
        rows_of("owner/name")


def test_offline_with_the_real_library(tmp_path: Path) -> None:
    code = (
        "from medqa_cli.data.reading.sources import open_sources\n"
        "from medqa_cli.data.reading.shapes import ColumnNames\n"
        "from medqa_cli.errors import InputError\n"
        "try: open_sources(['owner/name'], ColumnNames())\n"
        "except InputError as error: print(error.message, '|', error.hint)"
    )
    environment = {**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert "the hub cannot be reached for 'owner/name'" in done.stdout, done.stderr
    assert "HF_HUB_OFFLINE" in done.stdout
