"""Rows, files and libraries that take too much: one message that names the file and the key that allows more."""

import gzip
import json
import subprocess
import sys
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from helpers.spreadsheets import hostile_ods, hostile_xlsx, write_xlsx
from medqa_cli.config.schema import DataConfig
from medqa_cli.data import convert as conversion
from medqa_cli.data import filtering
from medqa_cli.data.convert import column_names
from medqa_cli.data.reading.shapes import Caps, ColumnNames, RawRow, UnreadRow
from medqa_cli.data.reading.sources import open_sources
from medqa_cli.errors import InputError

SMALL = Caps(row_bytes=2000, expanded_bytes=1 << 20, reader_bytes=200 << 20, reader_seconds=20)
LONG = "long " * 1000


def read(path: Path, caps: Caps = SMALL) -> list[RawRow | UnreadRow]:
    return list(open_sources([str(path)], ColumnNames(caps=caps)).rows)


def test_the_defaults_are_those_of_the_config() -> None:
    assert column_names(DataConfig()).caps == Caps()


def test_the_process_of_a_reader_imports_little() -> None:
    code = "import sys, medqa_cli.data.reading.tables as _; print(*sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "medqa_cli.data.reading.excel_parquet" in loaded
    assert {"yaml", "rich", "typer", "numpy", "pyarrow", "psutil", "medqa_cli.config"} & set(loaded) == set()


def write(path: Path, rows: list[tuple[str, str]]) -> Path:
    """Write a table in the format of its name, packed with gzip where it ends so."""
    records = [{"question": question, "answer": answer} for question, answer in rows]
    suffix = path.suffixes[0]
    if suffix == ".xlsx":
        return write_xlsx(path, {"QA": [["question", "answer"], *rows]})
    if suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(records), path)
        return path
    text = {
        ".csv": "question,answer\n" + "".join(f"{question},{answer}\n" for question, answer in rows),
        ".json": json.dumps(records),
        ".jsonl": "".join(json.dumps(record) + "\n" for record in records),
    }[suffix]
    content = text.encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("qa.csv", "qa.csv:3"),
        ("qa.csv.gz", "qa.csv.gz:3"),
        ("qa.jsonl", "qa.jsonl:2"),
        ("qa.json", "qa.json, row 2"),
        ("qa.xlsx", "qa.xlsx:3"),
        ("qa.parquet", "qa.parquet, row 2"),
    ],
)
def test_a_row_that_is_too_long(tmp_path: Path, name: str, place: str) -> None:
    path = write(tmp_path / name, [("q1", "a1"), ("q2", LONG), ("q3", "a3")])
    with pytest.raises(InputError) as caught:
        read(path)
    assert caught.value.message == f"{tmp_path / place} holds more than 2,000 bytes in one row"
    assert "raise data.max_row_bytes" in caught.value.hint
    rows = read(path, Caps(row_bytes=5100))
    assert [row.answer.strip() for row in rows] == ["a1", LONG.strip(), "a3"]


def test_an_unclosed_quote_gives_up_its_line_though_the_rest_is_longer_than_a_row(tmp_path: Path) -> None:
    path = tmp_path / "qa.csv"
    path.write_text('question,answer\nq0,"a0\n' + "".join(f"q{number},a\n" for number in range(1, 1000)))
    rows = read(path)
    assert [getattr(row, "reason", "") for row in rows] == ["unclosed_quote"] + [""] * 999
    assert [row.line for row in rows] == list(range(2, 1002))
    assert rows == read(path, Caps())


def test_quotes_that_never_close_do_not_read_the_file_once_for_each_line(tmp_path: Path) -> None:
    path = tmp_path / "qa.csv"
    path.write_text("question,answer\n" + 'x","z\n' * 1000)
    with pytest.raises(InputError, match=r"qa\.csv:\d+: more than 100 rows open a quote that is never closed"):
        read(path)


def test_a_json_object_of_some_size_is_read_within_the_limit_of_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("medqa_cli.data.reading.tables._READ_WHOLE", 1000)
    path = tmp_path / "qa.json"
    path.write_text(json.dumps({"data": [{"question": f"q{number}", "answer": "a"} for number in range(100)]}))
    assert [row.question for row in read(path)] == [f"q{number}" for number in range(100)]
    path.write_text('{"other": {"x": [' + "{}," * 6_000_000 + '{}]}, "data": [{"question": "q", "answer": "a"}]}')
    with pytest.raises(InputError, match="takes more than 200 MiB of memory") as caught:
        read(path)
    assert "data.max_reader_bytes" in caught.value.hint


def test_parquet_cells_that_repeat_take_no_memory_for_each(tmp_path: Path) -> None:
    path = tmp_path / "qa.parquet"
    answers = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * 5000, pyarrow.int32()), ["a" * 1_000_000])
    table = pyarrow.table({"question": [f"q{number}" for number in range(5000)], "answer": answers})
    pyarrow.parquet.write_table(table, path)
    rows = iter(open_sources([str(path)], ColumnNames(caps=Caps())).rows)
    assert [next(rows).question for _ in range(130)] == [f"q{number}" for number in range(130)]


def test_the_hostile_sheets_are_sheets(tmp_path: Path) -> None:
    rows = read(hostile_ods(tmp_path / "qa.ods", 'table:number-rows-repeated="3"'))
    assert [row.question for row in rows] == ["q", "q", "q"]
    assert len(read(hostile_xlsx(tmp_path / "qa.xlsx", "B3", 'count="2" uniqueCount="2"'))) == 2


@pytest.mark.parametrize(
    "case",
    ["XFD1048576", "B4294967295", 'count="99999999999" uniqueCount="99999999999"'],
)
def test_workbooks_that_abort_their_reader(tmp_path: Path, case: str) -> None:
    is_place = case.isalnum()
    path = hostile_xlsx(tmp_path / "qa.xlsx", *([case] if is_place else ["B3", case]))
    with pytest.raises(InputError, match=r"qa\.xlsx cannot be read") as caught:
        read(path)
    assert "CSV UTF-8" in caught.value.hint


@pytest.mark.parametrize("number", [2**20, 4 * 10**9, 10**30, -1])
@pytest.mark.parametrize("of", ["rows", "columns"])
def test_repeated_rows_and_cells_of_opendocument(tmp_path: Path, of: str, number: int) -> None:
    path = hostile_ods(tmp_path / "qa.ods", **{of: f'table:number-{of}-repeated="{number}"'})
    # Whether the library reads it or not: no abort, no hang, and no more memory than the limit.
    said = ""
    try:
        said = f"{path}: {len(read(path))} rows"
    except InputError as error:
        said = error.message
    assert said.startswith(str(path))


def test_a_file_of_blank_lines(tmp_path: Path) -> None:
    path = tmp_path / "qa.csv"
    path.write_text("question,answer\n" + "\n" * 2_000_001 + "q,a\n")
    with pytest.raises(InputError, match=r"qa\.csv holds more than 2,000,000 blank lines"):
        read(path)


def test_a_source_of_which_next_to_nothing_can_be_used_is_not_read_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filtering, "ROWS_BEFORE_GIVING_UP", 100)
    path = tmp_path / "qa.csv"
    path.write_text("question,answer\n" + "What is flu?,A viral infection of the airways.\n" * 1000)
    render = "{} {}".format
    with pytest.raises(InputError, match="of the first 100 rows only 1 can be used: 99 exact_duplicate"):
        conversion.convert([str(path)], DataConfig(), 1, render, None, tmp_path / "out")
    assert not (tmp_path / "out").exists()
