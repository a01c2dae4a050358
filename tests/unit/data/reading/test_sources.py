"""Reading: encodings, delimiters, broken rows, columns, formats, and the messages where a file cannot be used."""

import errno
import gzip
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from medqa_cli.data.cleaning.reasons import unusable
from medqa_cli.data.reading.cells import json_text
from medqa_cli.data.reading.shapes import ColumnNames, RawRow, SourceRows, UnreadRow
from medqa_cli.data.reading.sources import check_sources, local_paths, open_sources
from medqa_cli.errors import InputError

UMLAUT_CSV = 'question,answer\nWhat is Sjögren syndrome?,"A disease: naïve, 37 °C"\nWhat is flu?,An infection\n'


def read(path: Path, **columns: Any) -> SourceRows:
    return open_sources([str(path)], ColumnNames(**columns))


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return path


def good_rows(opened: SourceRows) -> list[RawRow]:
    rows = list(opened.rows)
    assert rows
    assert all(isinstance(row, RawRow) for row in rows), rows
    return [row for row in rows if isinstance(row, RawRow)]


def pairs(opened: SourceRows) -> list[tuple[str, str]]:
    return [(row.question, row.answer) for row in good_rows(opened)]


@pytest.mark.parametrize(
    ("codec", "shown"),
    [
        ("utf-8", "UTF-8"),
        ("utf-8-sig", "UTF-8 with a byte order mark"),
        ("utf-16", "UTF-16"),
        ("cp1252", "Windows-1252"),
        ("latin-1", "Windows-1252"),
    ],
)
@pytest.mark.parametrize(("suffix", "content"), [(".csv", UMLAUT_CSV), (".jsonl", None), (".json", None)])
def test_each_encoding_gives_the_same_texts(
    tmp_path: Path, codec: str, shown: str, suffix: str, content: str | None
) -> None:
    expected = [("What is Sjögren syndrome?", "A disease: naïve, 37 °C"), ("What is flu?", "An infection")]
    objects = [json.dumps({"question": q, "answer": a}, ensure_ascii=False) for q, a in expected]
    if content is None:
        content = "\n".join(objects) if suffix == ".jsonl" else f"[{','.join(objects)}]"
    opened = read(write(tmp_path, f"qa{suffix}", content.encode(codec)))
    assert pairs(opened) == expected
    assert shown in opened.description


def test_big_endian_utf16(tmp_path: Path) -> None:
    opened = read(write(tmp_path, "qa.csv", b"\xfe\xff" + UMLAUT_CSV.encode("utf-16-be")))
    assert pairs(opened)[0] == ("What is Sjögren syndrome?", "A disease: naïve, 37 °C")


def test_one_bad_byte_does_not_turn_a_utf8_file_into_windows_1252(tmp_path: Path) -> None:
    content = UMLAUT_CSV.encode() + b"What is 5 \xb5g?,Micrograms\n"
    opened = read(write(tmp_path, "qa.csv", content))
    assert [question for question, _ in pairs(opened)] == ["What is Sjögren syndrome?", "What is flu?", "What is 5 µg?"]
    assert "UTF-8, 1 line of it Windows-1252" in opened.description


def test_no_sequence_of_bytes_raises_a_decode_error(tmp_path: Path) -> None:
    every_byte = bytes(range(1, 256)).replace(b"\n", b"").replace(b"\r", b"").replace(b",", b"").replace(b'"', b"")
    for index, start in enumerate((b"", b"\xef\xbb\xbf", "é".encode() * 500)):
        # Among many good lines it costs its own row at the most.
        content = start + b"question,answer\n" + b"a good row,kept\n" * 200 + b"q," + every_byte + b"\n"
        question = start.decode("utf-8-sig") + "question"
        assert len(list(read(write(tmp_path, f"{index}.csv", content), question=question).rows)) == 201
    alone = write(tmp_path, "alone.csv", b"question,answer\nq," + every_byte + b"\n")
    with pytest.raises(InputError, match=r"\.csv:2 is no UTF-8 .*no older encoding reads it with certainty"):
        read(alone)
    odd_utf16 = UMLAUT_CSV.encode("utf-16") + b"\x00\xd8\x41"
    assert list(read(write(tmp_path, "odd.csv", odd_utf16)).rows)


@pytest.mark.parametrize(("delimiter", "shown"), [(",", "','"), (";", "';'"), ("\t", "tab"), ("|", "'|'")])
@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".CSV"])
def test_delimiter_comes_from_the_header_not_from_the_text(
    tmp_path: Path, delimiter: str, shown: str, suffix: str
) -> None:
    text = "one; two, three| four"
    content = f'id{delimiter}question{delimiter}answer\n1{delimiter}"{text}"{delimiter}"{text}"\n'
    opened = read(write(tmp_path, f"qa{suffix}", content))
    assert pairs(opened) == [(text, text)]
    assert opened.description.endswith(f"delimiter {shown}")


def test_delimiter_within_a_quoted_column_name(tmp_path: Path) -> None:
    opened = read(write(tmp_path, "qa.csv", '"note, free, long";question;answer\nx;q;a, b\n'))
    assert pairs(opened) == [("q", "a, b")]


def test_excels_sep_line_and_blank_lines_are_no_rows(tmp_path: Path) -> None:
    opened = read(write(tmp_path, "qa.csv", "sep=;\r\nquestion;answer\r\n\r\nq1;a1\r\n   \r\nq2;a2\r\n\r\n"))
    rows = good_rows(opened)
    assert [(row.row, row.line, row.question) for row in rows] == [(1, 4, "q1"), (2, 6, "q2")]


def test_only_a_first_line_can_be_excels_sep_line(tmp_path: Path) -> None:
    assert pairs(read(write(tmp_path, "qa.csv", "question;answer\nsep=;\nq2;a2\n"))) == [("sep=", ""), ("q2", "a2")]


def test_space_after_the_delimiter_where_the_header_has_it(tmp_path: Path) -> None:
    opened = read(write(tmp_path, "qa.csv", 'question, answer\nq1, "a, b"\n'))
    assert pairs(opened) == [("q1", "a, b")]


def test_multi_line_cells_and_their_lines(tmp_path: Path) -> None:
    opened = read(write(tmp_path, "qa.csv", 'question,answer\r\nq1,"first\r\nsecond ""quoted"""\r\nq2,a2\r\n'))
    rows = good_rows(opened)
    assert rows[0].answer == 'first\r\nsecond "quoted"'
    assert [(row.row, row.line) for row in rows] == [(1, 2), (2, 4)]


@pytest.mark.parametrize("length", [30_000, 200_000])
def test_very_large_cells(tmp_path: Path, length: int) -> None:
    assert length > 131_072 or length == 30_000  # the csv module's own limit lies between
    opened = read(write(tmp_path, "qa.csv", f'question,answer\nq,"{"x" * length}"\n'))
    assert [len(answer) for _, answer in pairs(opened)] == [length]


def test_ragged_rows_are_kept_apart_with_all_their_text(tmp_path: Path) -> None:
    opened = read(write(tmp_path, "qa.csv", "question,answer\nq1,a1\nonly one\nq3,a3, and more\nq4,a4,,\nq5,a5\n"))
    rows = list(opened.rows)
    assert [row.row for row in rows] == [1, 2, 3, 4, 5]
    unread = [row for row in rows if isinstance(row, UnreadRow)]
    assert [(row.row, row.line, row.reason, row.text) for row in unread] == [
        (2, 3, "ragged_row", "only one"),
        (3, 4, "ragged_row", "q3,a3, and more"),
    ]
    assert (unread[1].question, unread[1].answer) == ("q3", "a3")


def test_a_quote_that_is_never_closed_costs_its_own_row_only(tmp_path: Path) -> None:
    content = 'question,answer\nq1,a1\nq2,"a2 is open\nq3,a3\nq4,a4\n'
    rows = list(read(write(tmp_path, "qa.csv", content)).rows)
    assert [(row.row, row.line, row.question) for row in rows if isinstance(row, RawRow)] == [
        (1, 2, "q1"),
        (3, 4, "q3"),
        (4, 5, "q4"),
    ]
    assert [(row.row, row.line, row.reason, row.text) for row in rows if isinstance(row, UnreadRow)] == [
        (2, 3, "unclosed_quote", 'q2,"a2 is open')
    ]


def test_text_after_a_closing_quote_never_merges_two_rows_silently(tmp_path: Path) -> None:
    content = 'question,answer\nq1,"a1 is open\nq2,"a2"\nq3,a3\n'
    rows = list(read(write(tmp_path, "qa.csv", content)).rows)
    assert [row.question for row in rows if isinstance(row, RawRow)] == ["q3"]
    unread = [row for row in rows if isinstance(row, UnreadRow)]
    assert [(row.reason, row.text) for row in unread] == [("malformed_quotes", 'q1,"a1 is open\nq2,"a2"')]


def test_a_repeated_topic_and_source_column(tmp_path: Path) -> None:
    opened = read(
        write(tmp_path, "qa.csv", "Question,Answer,Disease,Source\nq1,a1,flu,NIH\nq2,a2,,\n"), topic="disease"
    )
    assert [(row.topic, row.source) for row in good_rows(opened)] == [("flu", "NIH"), ("", "qa.csv")]


@pytest.mark.parametrize(
    "header",
    ["question,answer", " Question , ANSWER ", "q,a", "Questions,Response", "prompt,completion", "instruction,output"],
)
def test_columns_are_found_by_name(tmp_path: Path, header: str) -> None:
    assert pairs(read(write(tmp_path, "qa.csv", f"{header}\nq1,a1\n"))) == [("q1", "a1")]


def test_the_plain_name_wins_over_other_candidates(tmp_path: Path) -> None:
    opened = read(write(tmp_path, "qa.csv", "prompt,question,answer,output\nx,q1,a1,y\n"))
    assert pairs(opened) == [("q1", "a1")]


def test_named_columns_are_found_whatever_their_case(tmp_path: Path) -> None:
    path = write(tmp_path, "qa.csv", "text,Reply,question\nq1,a1,x\n")
    assert pairs(read(path, question="text", answer="reply")) == [("q1", "a1")]


@pytest.mark.parametrize(
    ("content", "columns", "expected"),
    [
        ("id,text\n1,x\n", {}, ["'id', 'text'", "data.question_column=NAME"]),
        ("question,text\n1,x\n", {}, ["'question', 'text'", "data.answer_column=NAME"]),
        ("prompt,query,output\n1,x,y\n", {}, ["2 columns", "'query', 'prompt'", "data.question_column=NAME"]),
        ("question,answer,answer\n1,x,y\n", {}, ["2 columns", "data.answer_column=NAME"]),
        ("Question,QUESTION,answer\n1,x,y\n", {}, ["2 columns", "'Question', 'QUESTION'"]),
        ("query_text,answer\n1,x\n", {"question": "query_txt"}, ["did you mean 'query_text'?"]),
        ("question,answer\n1,x\n", {"topic": "focus"}, ["data.topic_column", "'question', 'answer'"]),
        ("question,answer\n1,x\n", {"answer": "question"}, ["one column"]),
        ("\nWhat is flu?,An infection\n", {}, ["'What is flu?'", "header line"]),
        ("Our FAQ,,\nNo.,ask,reply\n1,x,y\n", {}, ["are 'No.', 'ask', 'reply'", "data.answer_column=reply"]),
        ("Our FAQ,,\nNo.,Ask,answer\n1,x,y\n", {"question": "asks"}, ["did you mean 'Ask'?"]),
    ],
)
def test_columns_that_cannot_be_found(
    tmp_path: Path, content: str, columns: dict[str, str], expected: list[str]
) -> None:
    path = write(tmp_path, "qa.csv", content)
    with pytest.raises(InputError) as caught:
        read(path, **columns)
    said = f"{caught.value.message} {caught.value.hint}"
    assert str(path) in said
    assert [part for part in expected if part not in said] == []
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("empty.csv", "", "is empty"),
        ("blank.csv", "\n \n\n", "is empty"),
        ("header.csv", "question,answer\n", "no data rows"),
        ("header.tsv", "question\tanswer", "no data rows"),
        ("empty.json", "[]", "no data rows"),
        ("blank.jsonl", "\n\n", "no data rows"),
        ("cut.json", '[{"question": "q", "answer"', "not valid JSON"),
        ("columns.json", '{"question": ["q", "q2"], "answer": ["a"]}', "with 1 to 2 rows"),
        ("lists.json", '{"train": [{"question": "q"}], "test": [{"question": "q"}]}', "2 lists of objects"),
        ("number.json", "3", "expected a list of objects"),
        ("deep.json", "[" * 100_000, "nested too deeply"),
        ("texts.jsonl", '"a"\n"b"\n', "none of the first 2 entries"),
        ("disguised.csv", b"PK\x03\x04\x00\x00,\x00\n\x00", "a ZIP archive or an Excel file (.zip, .xlsx)"),
        ("image.jsonl", b"\x89PNG\r\n\x1a\n\x00", "a PNG image"),
        ("old.tsv", b"\xd0\xcf\x11\xe0\xa1\xb1", "an old Excel or Word file (.xls)"),
        ("binary.csv", b"\x7fELF\x02\x01\x00\x00\x00\n\x00\x01", "NUL bytes"),
        ("page.html", "<html></html>", "unknown format ('.html')"),
        ("no_suffix", "question,answer\nq,a\n", "no suffix"),
        ("cut.parquet", b"PAR1\x00\x00", "cannot be read as Parquet"),
    ],
)
def test_files_that_cannot_be_used(tmp_path: Path, name: str, content: str | bytes, expected: str) -> None:
    path = write(tmp_path, name, content)
    with pytest.raises(InputError) as caught:
        read(path)
    assert expected in caught.value.message
    assert str(path) in caught.value.message
    assert caught.value.hint


def test_a_missing_file_in_a_folder_that_may_not_be_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    write(tmp_path, "qa.csv", UMLAUT_CSV)
    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(InputError) as caught:
        check_sources([str(tmp_path / "qs.csv")])
    assert caught.value.message == f"{tmp_path / 'qs.csv'} does not exist"


def test_missing_file_and_folder(tmp_path: Path) -> None:
    write(tmp_path, "medquad.csv", UMLAUT_CSV)
    with pytest.raises(InputError, match=r"does not exist; did you mean 'medquad\.csv'\?"):
        read(tmp_path / "medqaud.csv")
    with pytest.raises(InputError, match="there is no folder"):
        read(tmp_path / "nowhere" / "medquad.csv")
    with pytest.raises(InputError, match=r"^https://example\.org/medquad\.csv is an address; medqa does not download"):
        check_sources(["https://example.org/medquad.csv"])
    with pytest.raises(InputError, match="has no name"):
        check_sources([""])


def test_what_is_neither_a_file_nor_a_folder(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(InputError, match="is neither a file nor a folder"):
        read(tmp_path / "pipe.csv")


def test_links_to_nothing_and_in_a_circle(tmp_path: Path) -> None:
    for name, target in {"broken.csv": "none.csv", "circle.csv": "circle.csv"}.items():
        (tmp_path / name).symlink_to(tmp_path / target)
        with pytest.raises(InputError, match="is a link to something that does not exist"):
            read(tmp_path / name)


def test_a_file_that_vanishes_between_check_and_reading(tmp_path: Path) -> None:
    path = write(tmp_path, "qa.csv", UMLAUT_CSV)
    check_sources([str(path)])
    opened = read(path)
    path.unlink()
    assert len(list(opened.rows)) == 2  # the open file stays readable
    with pytest.raises(InputError, match="does not exist"):
        read(path)


@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl"])
def test_utf16_without_a_mark(tmp_path: Path, codec: str, suffix: str) -> None:
    content = '{"question": "q1", "answer": "a1"}\n' if suffix == ".jsonl" else "question\tanswer\nq1\ta1\n"
    opened = read(write(tmp_path, f"qa{suffix}", content.encode(codec)))
    assert "UTF-16 without a byte order mark" in opened.description
    assert pairs(opened) == [("q1", "a1")]


def test_nul_bytes_within_cells_are_no_utf16(tmp_path: Path) -> None:
    opened = read(write(tmp_path, "qa.csv", b"question,answer\nq\x00,\x00\x00\x00\n"))
    assert pairs(opened) == [("q\0", "\0\0\0")]
    assert "UTF-8" in opened.description


def test_a_text_file_with_a_header(tmp_path: Path) -> None:
    assert pairs(read(write(tmp_path, "qa.txt", "question\tanswer\nq1\ta, 1\n"))) == [("q1", "a, 1")]
    with pytest.raises(InputError, match="no question column found"):
        read(write(tmp_path, "notes.txt", "Some notes\nand more\n"))


@pytest.mark.parametrize("name", ["qa.csv.gz", "qa.CSV.GZ", "qa.jsonl.gz"])
def test_a_packed_table(tmp_path: Path, name: str) -> None:
    content = '{"question": "q1", "answer": "a1"}\n' if "jsonl" in name else "question,answer\nq1,a1\n"
    packed = gzip.compress(content.encode())
    opened = read(write(tmp_path, name, packed))
    assert opened.description.endswith("unpacked with gzip")
    assert [(row.question, row.source, row.file) for row in good_rows(opened)] == [("q1", name, "")]
    assert [*opened.digests.values()] == [hashlib.sha256(packed).hexdigest()]
    with pytest.raises(InputError, match="is damaged"):
        read(write(tmp_path, f"cut-{name}", packed[:-5]))


@pytest.mark.parametrize(
    ("header", "topic", "kind"),
    [
        ("question,answer,Focus,qtype", "Focus", "qtype"),
        ("disease,question,answer,topic", "topic", None),
        ("condition,question,Question_Type,answer", "condition", "Question_Type"),
        ("question,answer,subject", None, None),
    ],
)
def test_topic_and_kind_are_found_by_name(tmp_path: Path, header: str, topic: str | None, kind: str | None) -> None:
    opened = read(write(tmp_path, "qa.csv", f"{header}\n{','.join(name + ' cell' for name in header.split(','))}\n"))
    (row,) = good_rows(opened)
    assert (row.topic, row.kind) == (f"{topic} cell" if topic else "", f"{kind} cell" if kind else "")
    assert (f"topic '{topic}'" in opened.columns.describe()) == (topic is not None)


def test_several_sources_keep_their_order_and_name_their_rows(tmp_path: Path) -> None:
    second = write(tmp_path, "b.csv", "Question;Answer;topic\nq2;a2;flu\nq3\n")
    first = write(tmp_path, "c.jsonl", '{"question": "q1", "answer": "a1"}\n')
    opened = open_sources([str(first), str(second)], ColumnNames())
    rows = list(opened.rows)
    assert [(row.file, row.row, row.question) for row in rows] == [
        ("c.jsonl", 1, "q1"),
        ("b.csv", 1, "q2"),
        ("b.csv", 2, "q3"),
    ]
    assert isinstance(rows[2], UnreadRow)
    digests = [(str(path), hashlib.sha256(path.read_bytes()).hexdigest()) for path in (first, second)]
    assert [*opened.digests.items()] == digests
    assert f"{first}: JSON Lines, UTF-8; {second}: CSV, UTF-8, delimiter ';' (columns: " in opened.description
    assert local_paths([str(first), "owner/name", str(second)]) == [first, second]


def test_sources_of_one_name_are_told_apart(tmp_path: Path) -> None:
    paths = []
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        paths.append(str(write(tmp_path / folder, "qa.csv", f"question,answer\nq {folder},a\n")))
    assert [row.file for row in open_sources(paths, ColumnNames()).rows] == ["x/qa.csv", "y/qa.csv"]


def test_what_several_sources_refuse(tmp_path: Path) -> None:
    good = str(write(tmp_path, "good.csv", "question,answer\nq1,a1\n"))
    other = str(write(tmp_path, "other.csv", "query_text,answer\nq1,a1\n"))
    empty = str(write(tmp_path, "header.csv", "question,answer\n"))
    with pytest.raises(InputError, match=r"other\.csv: no question column found"):
        open_sources([good, other], ColumnNames())
    with pytest.raises(InputError, match=r"good\.csv: data\.question_column is 'query_text', but"):
        open_sources([other, good], ColumnNames(question="query_text"))
    with pytest.raises(InputError, match="named twice"):
        check_sources([good, str(tmp_path / "." / "good.csv")])
    with pytest.raises(InputError, match=r"header\.csv has no data rows"):
        list(open_sources([good, empty], ColumnNames()).rows)
    with pytest.raises(InputError, match="no source"):
        check_sources([])


def test_a_file_that_may_not_be_opened_is_refused_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, "qa.csv", UMLAUT_CSV)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(InputError, match="cannot be read: Permission denied"):
        read(path)


def test_json_cells_that_are_no_strings(tmp_path: Path) -> None:
    content = (
        '{"data": [{"question": "q1", "answer": 1.50}, {"question": "q2", "answer": null}, {"question": "q3"},'
        ' {"question": "q4", "answer": NaN}, {"question": "q5", "answer": true},'
        ' {"question": "q6", "answer": {"a": 1}},'
        ' "text"], "version": 1}'
    )
    rows = list(read(write(tmp_path, "qa.json", content)).rows)
    assert [row.answer for row in rows if isinstance(row, RawRow)] == ["1.50", "", "", "", "true"]
    assert [(row.row, row.reason) for row in rows if isinstance(row, UnreadRow)] == [
        (6, "not_text"),
        (7, "not_an_object"),
    ]


def test_a_long_json_list_that_breaks_off_is_refused_with_its_line(tmp_path: Path) -> None:
    good = ",\n".join('{"question": "q", "answer": "a"}' for _ in range(3000))
    opened = read(write(tmp_path, "qa.json", f"[\n{good},\nbroken]"))
    with pytest.raises(InputError, match=r"qa\.json is not valid JSON: Expecting value \(line 3002\)"):
        list(opened.rows)
    with pytest.raises(InputError, match=r"Extra data \(line 3\)"):
        read(write(tmp_path, "qa.json", '[{"question": "q", "answer": "a"}]\n\n[]'))


def test_a_bad_line_of_json_lines_is_one_rejected_row(tmp_path: Path) -> None:
    content = '{"question": "q1", "answer": "a1"}\n\n{"question": "q2", "ans\n{"Question": "q3", "answer": "a3"}\n[1]\n'
    rows = list(read(write(tmp_path, "qa.jsonl", content)).rows)
    assert [(row.row, row.line) for row in rows] == [(1, 1), (2, 3), (3, 4), (4, 5)]
    assert [(row.reason, row.text) for row in rows if isinstance(row, UnreadRow)] == [
        ("invalid_json", '{"question": "q2", "ans'),
        ("not_an_object", "[1]"),
    ]


def test_json_lines_named_json(tmp_path: Path) -> None:
    content = '{"question": "q1", "answer": "a1"}\n{"question": "q2", "answer": "a2"}\n'
    opened = read(write(tmp_path, "qa.json", content))
    assert pairs(opened) == [("q1", "a1"), ("q2", "a2")]
    assert opened.description.startswith("JSON Lines")


def test_parquet_is_read_over_batches_with_dictionaries_and_nulls(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    count = 2500  # more than one batch
    table = pyarrow.table(
        {
            "Answer": pyarrow.array([None, *range(1, count)]),
            "extra": ["x"] * count,
            "question": pyarrow.array([f"q{i}" for i in range(count)]).dictionary_encode(),
        }
    )
    path = tmp_path / "qa.parquet"
    pyarrow.parquet.write_table(table, path)
    found = pairs(read(path))
    assert len(found) == count
    assert found[0] == ("q0", "")
    assert found[-1] == ("q2499", "2499")

    cut = write(tmp_path, "cut.parquet", path.read_bytes()[:-100])
    with pytest.raises(InputError, match="cannot be read as Parquet"):
        read(cut)


def test_parquet_text_that_is_no_utf8_costs_its_own_row_only(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    answers = pyarrow.array([b"fine", b"caf\xe9", "µg".encode()])
    unchecked = pyarrow.StringArray.from_buffers(3, *answers.buffers()[1:])
    path = tmp_path / "qa.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"question": ["q1", "q2", "q3"], "answer": unchecked}), path)
    found = [answer for _, answer in pairs(read(path))]
    assert found == ["fine", "caf\udce9", "µg"]
    assert [unusable("q", answer) for answer in found] == [None, "invalid_unicode", None]


def test_parquet_cells_that_python_cannot_hold(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    days = pyarrow.array([0, 4_000_000], "int32").cast("date32")
    path = tmp_path / "qa.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"question": ["q1", "q2"], "answer": days}), path)
    assert pairs(read(path)) == [("q1", "1970-01-01"), ("q2", "12921-08-18")]


def test_parquet_without_rows(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    path = tmp_path / "qa.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"question": pyarrow.array([], "string"), "answer": ["a"][:0]}), path)
    with pytest.raises(InputError, match="no data rows"):
        read(path)


def test_parquet_that_is_damaged_further_on(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    path = tmp_path / "qa.parquet"
    table = pyarrow.table({"question": [f"q{n}" for n in range(500)], "answer": [f"a{n}" for n in range(500)]})
    pyarrow.parquet.write_table(table, path, row_group_size=100, compression="gzip")
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle - 400 : middle + 400] = b"\xff" * 800
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"qa\.parquet cannot be read as Parquet: ") as caught:
        list(read(path).rows)
    assert "copy or export it again" in caught.value.hint


def test_a_json_list_after_much_white_space(tmp_path: Path) -> None:
    path = write(tmp_path, "qa.json", " \n" * 2_000_000 + '[{"question": "q1", "answer": "a1"}]')
    assert pairs(read(path)) == [("q1", "a1")]


def test_a_value_nested_deeper_than_python_writes() -> None:
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    assert json_text(value) == "nested too deeply to be shown"


def test_a_name_that_no_file_can_have(tmp_path: Path) -> None:
    name = "x" * 300 + ".csv"
    with pytest.raises(InputError, match=f"{name}.* File name too long"):
        read(tmp_path / name)
