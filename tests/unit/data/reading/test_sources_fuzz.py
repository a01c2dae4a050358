"""The readers on random bytes: no traceback, no lost text."""

import csv
import io
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from helpers.encodings import is_no_utf8
from medqa_cli import confined
from medqa_cli.data.reading import json_stream
from medqa_cli.data.reading.shapes import ColumnNames, RawRow, UnreadRow
from medqa_cli.data.reading.sources import open_sources
from medqa_cli.errors import InputError

Row = RawRow | UnreadRow
SLOW = settings.get_profile("slow")

# Pieces that mean something to a reader of CSV, beside bytes that mean nothing.
PIECES = st.sampled_from(
    [b'"', b'""', b",", b";", b"\t", b"\n", b"\r", b"\r\n", b"\n\n", b'","', b'"\n"', b" ", b"\0", b"\xef\xbb\xbf"]
) | st.sampled_from(
    [b"sep=,", b"question,answer\n", "é".encode(), "é".encode("latin-1"), b"\xff\xfe", b"\xe2\x82", b"a1", b"\x1a"]
)
MARKER = "zq{}qz"

# What csv.writer and a reader agree on: no lone surrogates, which no encoding of a file can hold.
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
TRICKY_TEXT = st.lists(st.sampled_from([*"ab ,;|\t\"\n\r'\0=\\é€\u2028\x85", "sep="]), max_size=12).map("".join)
# In Windows-1252 none of these letters, side by side, is valid UTF-8.
WESTERN_TEXT = st.text(st.sampled_from(list('abc ,;"\n\réüñ')), max_size=12)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


def read(path: Path, content: bytes, **columns: Any) -> list[Row]:
    path.write_bytes(content)
    rows = list(open_sources([str(path)], ColumnNames(**columns)).rows)
    assert all(isinstance(row, RawRow | UnreadRow) for row in rows)
    assert [row.row for row in rows] == list(range(1, len(rows) + 1))
    return rows


def read_or_refused(path: Path, content: bytes) -> str:
    """Read the file; return ``read`` or ``refused`` with its suffix, after the checks that hold for either."""
    refusal = None
    try:
        rows = read(path, content)
    except InputError as error:
        refusal = error
    if refusal is None:
        assert rows
        return f"read {path.suffix}"
    assert path.name in refusal.message
    assert refusal.hint
    return f"refused {path.suffix}"


@st.composite
def written_tables(draw: st.DrawFn) -> tuple[bytes, list[list[str]], dict[str, str]]:
    """The bytes of a table that csv.writer made, its rows, and its encoding where a text of random letters hides it."""
    codec = draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252"]))
    cell = WESTERN_TEXT if codec == "cp1252" else ANY_TEXT | TRICKY_TEXT
    width = draw(st.sampled_from([2, 3]))
    rows = draw(st.lists(st.lists(cell, min_size=width, max_size=width), min_size=1, max_size=8))
    file = io.StringIO(newline="")
    # \r\n as the line end makes csv.writer quote every cell with a \r or a \n in it.
    writer = csv.writer(
        file,
        delimiter=draw(st.sampled_from(",;\t|")),
        lineterminator="\r\n",
        quoting=draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])),
    )
    if draw(st.booleans()):
        file.write("\r\n")
    writer.writerow(["question", "answer", "topic"][:width])
    writer.writerows(rows)
    return file.getvalue().encode(codec), rows, {"encoding": codec} if codec == "cp1252" else {}


@given(written_tables())
def test_each_cell_of_a_written_table_comes_back(
    folder: Path, table: tuple[bytes, list[list[str]], dict[str, str]]
) -> None:
    content, expected, named = table
    rows = read(folder / "written.csv", content, **named)
    assert all(isinstance(row, RawRow) for row in rows), rows
    width = len(expected[0])
    assert [[row.question, row.answer, row.topic][:width] for row in rows if isinstance(row, RawRow)] == expected


@st.composite
def near_csv(draw: st.DrawFn) -> tuple[bytes, int]:
    """A header and then anything, with numbered markers strewn in; and their number."""
    pieces = draw(st.lists(PIECES | st.binary(max_size=6), max_size=40))
    places = draw(st.lists(st.integers(0, len(pieces)), min_size=1, max_size=8))
    for number, place in enumerate(places):
        pieces.insert(place, MARKER.format(number).encode())
    mark = draw(st.sampled_from([b"", b"\xef\xbb\xbf"]))
    return mark + b"question,answer" + draw(st.sampled_from([b"\n", b"\r\n"])) + b"".join(pieces), len(places)


@given(near_csv())
def test_no_text_of_a_broken_table_is_lost_or_doubled(folder: Path, table: tuple[bytes, int]) -> None:
    content, markers = table
    # Noise is in no encoding that could be told.
    content = content.removeprefix(b"\xef\xbb\xbf") if is_no_utf8(content) else content
    rows = read(folder / "broken.csv", content, **({"encoding": "latin-1"} if is_no_utf8(content) else {}))
    texts = [row.text if isinstance(row, UnreadRow) else f"{row.question}\n{row.answer}" for row in rows]
    counts = [sum(text.count(MARKER.format(number)) for text in texts) for number in range(markers)]
    assert counts == [1] * markers


HEADERS = st.sampled_from([b"", b"question,answer\n", b"question\tanswer\r\n", b"answer;question\nx;y\n"])


@given(
    start=HEADERS,
    pieces=st.lists(PIECES | st.binary(max_size=12), max_size=30).map(b"".join),
    suffix=st.sampled_from(["csv", "tsv", "txt"]),
)
def check_table_of_bytes(folder: Path, start: bytes, pieces: bytes, suffix: str, seen: Counter[str]) -> None:
    seen[read_or_refused(folder / f"any.{suffix}", start + pieces)] += 1


def test_arbitrary_bytes_behind_a_header_end_in_rows_or_in_an_input_error(folder: Path) -> None:
    seen: Counter[str] = Counter()
    check_table_of_bytes(folder=folder, seen=seen)
    assert min(seen[f"{end} .{suffix}"] for end in ("read", "refused") for suffix in ("csv", "tsv", "txt")) >= 10, seen


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["answer", "x"]), inner, max_size=2),
    max_leaves=6,
)
LINES = st.one_of(
    st.fixed_dictionaries({"question": ANY_TEXT, "answer": JSON_VALUES}).map(lambda value: json.dumps(value).encode()),
    JSON_VALUES.map(lambda value: json.dumps(value).encode()),
    st.binary(min_size=1, max_size=20).map(lambda junk: b"x" + junk.replace(b"\n", b"")),
)


@SLOW
@given(st.lists(LINES, max_size=10), st.sampled_from([b"\n", b"\r\n", b"\n\n"]))
@example([b"x\x1b$@"], b"\n")
@example([b"x\x1b$@ab", b"x\x1b$B!!\x1b(J"], b"\r\n")
def test_each_line_of_json_lines_is_one_row(folder: Path, lines: list[bytes], end: bytes) -> None:
    first = b'{"question": "q", "answer": "a"}'
    # Noise is in no encoding that could be told.
    named = {"encoding": "latin-1"} if any(map(is_no_utf8, lines)) else {}
    rows = read(folder / "lines.jsonl", end.join([first, *lines]), **named)
    assert len(rows) == 1 + len(lines)
    # In the other order the columns may not be found, for want of an object; then that is said.
    try:
        backwards = read(folder / "lines.jsonl", end.join([*lines, first]), **named)
    except InputError as error:
        pytest.fail(f"a file with one good line is refused: {error}")
    assert len(backwards) == 1 + len(lines)


@given(st.lists(JSON_VALUES, max_size=6), st.integers(1, 40), st.sampled_from([None, 1, "\t"]))
def test_a_streamed_list_is_what_the_whole_is(values: list[object], block: int, indent: int | str | None) -> None:
    text = json.dumps(values, indent=indent)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_stream, "BLOCK", block)
        assert list(json_stream.stream_list(io.StringIO(f" \n{text}\n"))) == json_stream.parse_json(text)
        with pytest.raises(ValueError, match=r"\(line [0-9]+\)$"):
            list(json_stream.stream_list(io.StringIO(text[:-1])))


@SLOW
@given(
    content=st.binary(max_size=60)
    | st.lists(LINES, max_size=4).map(lambda values: b"[" + b",".join(values) + b"]")
    | st.just(b'[{"question": "q", "answer": "a"}]')
)
def check_named_file_of_bytes(folder: Path, content: bytes, seen: Counter[str]) -> None:
    suffixes = ["json", "parquet", "xlsx", "xls", "ods", "zip", "tar.gz", "tar", "csv.gz", "xml"]
    starts = {
        "parquet": b"PAR1",
        "xlsx": b"PK\x03\x04",
        "zip": b"PK\x03\x04",
        "tar.gz": b"\x1f\x8b",
        "csv.gz": b"\x1f\x8b",
    }
    for suffix in suffixes:
        for start in {b"", starts.get(suffix, b"")}:
            seen[read_or_refused(folder / f"any.{suffix}", start + content)] += 1


def test_arbitrary_bytes_named_json_parquet_excel_or_archive(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Without a process for each: test_doors kills readers.
    monkeypatch.setattr(confined, "stream", lambda function, *arguments, **_: function(*arguments))
    seen: Counter[str] = Counter()
    check_named_file_of_bytes(folder=folder, seen=seen)
    # Bytes at random are no archive and no workbook; a list of objects is read.
    assert seen["read .json"] >= 10, seen
    assert {suffix for suffix in seen if suffix.startswith("refused")} >= {
        f"refused .{suffix}" for suffix in ("json", "parquet", "xlsx", "xls", "ods", "zip", "gz", "tar", "xml")
    }
