"""Spreadsheets, and tables whose one column holds question and answer together."""

import json
import re
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import python_calamine

from helpers.paths import ROOT
from helpers.spreadsheets import Cell, write_xlsx
from medqa_cli.config.schema import KEYS
from medqa_cli.data.reading.cells import parse_exchange
from medqa_cli.data.reading.excel_parquet import read_excel
from medqa_cli.data.reading.formats import ARCHIVE_SUFFIXES, FORMATS_IN_WORDS, TABLE_SUFFIXES
from medqa_cli.data.reading.shapes import Caps, ColumnNames, RawRow, SourceRows, TableFile, UnreadRow
from medqa_cli.data.reading.sources import open_sources
from medqa_cli.errors import InputError

DATE = 43831  # 2020-01-01 in days of Excel


def read(path: Path, **columns: Any) -> SourceRows:
    return open_sources([str(path)], ColumnNames(**columns))


def pairs(opened: SourceRows) -> list[tuple[str, str]]:
    return [(row.question, row.answer) for row in opened.rows if isinstance(row, RawRow)]


def test_the_pages_and_the_config_name_every_format_that_is_read() -> None:
    assert FORMATS_IN_WORDS in KEYS["data.source"].metadata["description"]
    table = (ROOT / "docs/data.md").read_text(encoding="utf-8").split("## Sources")[1].split("Columns are")[0]
    assert {*re.findall(r"`([.][a-z.]+)`", table)} == {*TABLE_SUFFIXES, *ARCHIVE_SUFFIXES, ".gz"}


def test_cells_of_a_spreadsheet_are_texts_as_they_are_seen(tmp_path: Path) -> None:
    rows: list[list[Cell]] = [
        ["", None, None],
        ["Answer", " Question ", None],
        [12.0, "whole", None],
        [0.1, "fraction", None],
        [True, "truth", None],
        [DATE, "day", None],
        [DATE + 0.5, "noon", None],
        [None, None, None],
        ["two\nlines &amp; more", "text", "extra"],
        [None, "empty", None],
    ]
    opened = read(write_xlsx(tmp_path / "qa.xlsx", {"Sheet 1": rows}, dates=True))
    assert opened.description == "spreadsheet, sheet 'Sheet 1' of 1"
    found = [row for row in opened.rows if isinstance(row, RawRow)]
    assert [(row.question, row.answer) for row in found] == [
        ("whole", "12"),
        ("fraction", "0.1"),
        ("truth", "true"),
        ("day", "2020-01-01"),
        ("noon", "2020-01-01T12:00:00"),
        ("text", "two\nlines & more"),
        ("empty", ""),
    ]
    # The row without cells is none; `line` is the row that the user sees in the sheet.
    assert [(row.row, row.line) for row in found] == [(1, 3), (2, 4), (3, 5), (4, 6), (5, 7), (6, 9), (7, 10)]


def test_a_header_that_stands_again_within_a_sheet_is_no_row(tmp_path: Path) -> None:
    header: list[Cell] = ["Pregunta", "Respuesta"]
    sheet: list[list[Cell]] = [
        ["Preguntas de la consulta", None],
        header,
        ["¿Qué es el asma?", "Una enfermedad."],
        header,
        ["¿Y?", "Sí."],
    ]
    opened = read(write_xlsx(tmp_path / "rows.xlsx", {"Hoja1": sheet}))
    rows = list(opened.rows)
    assert [(type(row).__name__, row.row, row.line) for row in rows] == [
        ("RawRow", 1, 3),
        ("UnreadRow", 2, 4),
        ("RawRow", 3, 5),
    ]
    assert isinstance(rows[1], UnreadRow)
    assert (rows[1].reason, rows[1].text) == ("repeated_header", "Pregunta\tRespuesta")


def test_the_first_sheet_that_has_the_columns(tmp_path: Path) -> None:
    table = [["question", "answer"], ["q1", "a1"]]
    sheets = {"Empty": [], "Notes": [["Some notes"]], "QA": table, "More": [["q", "a"], ["q2", "a2"]]}
    opened = read(write_xlsx(tmp_path / "qa.xlsx", sheets))
    assert pairs(opened) == [("q1", "a1")]
    assert opened.description == "spreadsheet, sheet 'QA' of 4; not read: 'More', with such columns too"


@pytest.mark.parametrize(
    ("sheets", "said"),
    [
        ({"Empty": []}, "is empty: its 1 sheets hold no cells"),
        ({"Empty": [], "Notes": [["title", "body"]]}, "sheet 'Notes': no question column found"),
        ({"QA": [["question", "answer"]]}, "has no data rows"),
        (
            {"Cover": [["As of May"]], "FAQ": [["Our FAQ", None], ["No.", "Ask", "Reply text"]]},
            r"sheet 'FAQ' \(of 'Cover', 'FAQ'\): .* columns are 'No\.', 'Ask', 'Reply text'; did you mean 'Ask' and",
        ),
    ],
)
def test_spreadsheets_without_rows(tmp_path: Path, sheets: dict[str, list[list[str]]], said: str) -> None:
    with pytest.raises(InputError, match=said):
        read(write_xlsx(tmp_path / "qa.xlsx", sheets))


@pytest.mark.parametrize("name", ["qa.xlsx", "qa.xls", "qa.ods"])
def test_damaged_spreadsheets_and_text_named_so_are_refused(tmp_path: Path, name: str) -> None:
    whole = write_xlsx(tmp_path / "whole.xlsx", {"QA": [["question", "answer"], ["q1", "a1"]]}).read_bytes()
    (tmp_path / name).write_bytes(whole[:700])
    with pytest.raises(InputError, match="cannot be read as a spreadsheet"):
        read(tmp_path / name)
    # What some programs call .xls: a text file.
    (tmp_path / name).write_text("question,answer\nq1,a1\n")
    with pytest.raises(InputError, match="cannot be read as a spreadsheet") as caught:
        read(tmp_path / name)
    assert ".csv" in caught.value.hint


def test_a_sheet_that_is_damaged_further_on(tmp_path: Path) -> None:
    rows = [["question", "answer"], *([f"q{number}", f"a{number}"] for number in range(20))]
    whole = write_xlsx(tmp_path / "whole.xlsx", {"QA": rows})
    with zipfile.ZipFile(whole) as archive, zipfile.ZipFile(tmp_path / "qa.xlsx", "w") as damaged:
        for name in archive.namelist():
            content = archive.read(name)
            damaged.writestr(name, content[: len(content) // 2] if name == "xl/worksheets/0.xml" else content)
    with pytest.raises(InputError, match=r"qa\.xlsx cannot be read as a spreadsheet"):
        list(read(tmp_path / "qa.xlsx").rows)


def test_a_spreadsheet_with_a_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def locked(path: Path) -> None:
        raise python_calamine.PasswordError("Workbook is password protected")

    path = write_xlsx(tmp_path / "qa.xlsx", {"QA": [["question", "answer"], ["q1", "a1"]]})
    monkeypatch.setattr(python_calamine, "CalamineWorkbook", SimpleNamespace(from_path=locked))
    with pytest.raises(InputError, match=r"qa\.xlsx is protected by a password") as caught:
        read_excel(TableFile(path, str(path)), ColumnNames())
    assert "without one" in caught.value.hint


def test_a_spreadsheet_bomb(tmp_path: Path) -> None:
    stored = write_xlsx(tmp_path / "qa.xlsx", {"QA": [["question", "answer"], ["q1", "a1"]]})
    bomb = tmp_path / "bomb.xlsx"
    with zipfile.ZipFile(stored) as source, zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name) + b" " * 2_000_000)
    with pytest.raises(InputError, match=r"bomb\.xlsx unpacks to more than 1 MiB from .*: it looks like a bomb"):
        open_sources([str(bomb)], ColumnNames(caps=Caps(expanded_bytes=1 << 20)))


LLAMA2 = "<s>[INST] <<SYS>> Answer the Question <</SYS>> What is flu? [/INST] An infection. </s>"


@pytest.mark.parametrize(
    ("text", "form"),
    [
        (LLAMA2, "Llama 2"),
        (f"\n {LLAMA2}\n", "Llama 2"),
        ("[INST] What is flu? [/INST] An infection.", "Llama 2"),
        ("<s>[INST]<<SYS>>\nBe kind.\n\nAnd brief.\n<</SYS>>\n\nWhat is flu?[/INST]An infection.</s>", "Llama 2"),
        ("### Instruction:\nWhat is flu?\n\n### Response:\nAn infection.", "Alpaca"),
        ("Below is an instruction.\n\n### Instruction: What is flu?\n### Response: An infection.</s>", "Alpaca"),
        ("<|im_start|>user\nWhat is flu?<|im_end|>\n<|im_start|>assistant\nAn infection.<|im_end|>\n", "ChatML"),
        (
            "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nWhat is flu?<|im_end|>\n"
            "<|im_start|>assistant\nAn infection.",
            "ChatML",
        ),
        (
            '[{"role": "user", "content": "What is flu?"}, {"role": "assistant", "content": "An infection."}]',
            "messages",
        ),
        (
            '[{"from": "system", "value": "x"}, {"from": "human", "value": "What is flu?"}, '
            '{"from": "gpt", "value": "An infection."}]',
            "messages",
        ),
        (
            '[{"role": "user", "content": [{"type": "text", "text": "What is flu?"}]}, '
            '{"role": "assistant", "content": "An infection."}]',
            "messages",
        ),
    ],
)
def test_each_form_is_taken_apart(text: str, form: str) -> None:
    found = parse_exchange(text)
    assert (found.form, found.question, found.answer, found.problem) == (form, "What is flu?", "An infection.", "")


def test_the_input_of_an_alpaca_text_belongs_to_the_question() -> None:
    found = parse_exchange(
        "### Instruction:\nAnswer truthfully\n\n### Input:\nWhat is flu?\n\n### Response:\nAn infection"
    )
    assert (found.question, found.answer) == ("Answer truthfully\nWhat is flu?", "An infection")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "not_rendered_form"),
        ("An ordinary text about [INST] and ### Instruction: things", "not_rendered_form"),
        ("[INST] What is flu? An infection.", "not_rendered_form"),
        ("[INST] <<SYS>> never closed What is flu? [/INST] An infection.", "not_rendered_form"),
        ("### Response:\na\n### Instruction:\nq", "not_rendered_form"),
        ("<|im_start|>user\nq<|im_end|>\nstray<|im_start|>assistant\na<|im_end|>", "not_rendered_form"),
        ("<|im_start|>assistant\na<|im_end|>", "not_rendered_form"),
        ('[{"role": "user", "content": "q"}]', "not_rendered_form"),
        ('[{"role": "tool", "content": "q"}, {"role": "assistant", "content": "a"}]', "not_rendered_form"),
        (
            '[{"role": "user", "content": [{"type": "image"}]}, {"role": "assistant", "content": "a"}]',
            "not_rendered_form",
        ),
        ("[1, 2]", "not_rendered_form"),
        ("[not json", "not_rendered_form"),
        ("[" * 100_000, "not_rendered_form"),
        ("<s>[INST] q1 [/INST] a1 </s><s>[INST] q2 [/INST] a2 </s>", "several_turns"),
        ("### Instruction:\nq1\n### Response:\na1\n### Instruction:\nq2\n### Response:\na2", "several_turns"),
        (
            "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\na<|im_end|>\n<|im_start|>user\nb<|im_end|>",
            "several_turns",
        ),
    ],
)
def test_texts_that_are_not_taken_apart(text: str, problem: str) -> None:
    assert parse_exchange(text).problem == problem


def test_the_file_of_the_first_version(tmp_path: Path) -> None:
    path = tmp_path / "train.csv"
    path.write_text(
        f'text\n"{LLAMA2}"\n"no form, at all"\n"<s>[INST] q, 2 [/INST] line 1\nline 2 </s>"\n', encoding="utf-8"
    )
    opened = read(path)
    assert opened.description == "CSV, UTF-8, delimiter ','; column 'text' taken apart (Llama 2 form)"
    assert opened.columns.describe() == "question and answer 'text'"
    rows = list(opened.rows)
    assert [(row.row, row.line, row.question, row.answer) for row in rows] == [
        (1, 2, "What is flu?", "An infection."),
        (2, 3, "", ""),
        (3, 4, "q, 2", "line 1\nline 2"),
    ]
    assert rows[1] == UnreadRow(2, 3, "not_rendered_form", text="no form, at all")


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".parquet"])
def test_a_column_of_messages(tmp_path: Path, suffix: str) -> None:
    user, assistant = {"role": "user", "content": "q1"}, {"role": "assistant", "content": "a1"}
    records = [
        {"prompt": "q1", "messages": [user, assistant], "topic": "flu"},
        {"prompt": "q2", "messages": [user, assistant, user, assistant], "topic": "flu"},
    ]
    path = tmp_path / f"chat{suffix}"
    if suffix == ".parquet":
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(records), path)
    elif suffix == ".json":
        path.write_text(json.dumps(records))
    else:
        path.write_text("\n".join(map(json.dumps, records)))
    opened = read(path)
    assert opened.description.endswith("; column 'messages' taken apart (messages form)")
    rows = list(opened.rows)
    assert isinstance(rows[0], RawRow)
    assert (rows[0].question, rows[0].answer, rows[0].topic) == ("q1", "a1", "flu")
    assert isinstance(rows[1], UnreadRow)
    assert rows[1].reason == "several_turns"
    assert json.loads(rows[1].text) == records[1]["messages"]


def test_messages_nested_as_deep_as_python_goes_are_rows(tmp_path: Path) -> None:
    path = tmp_path / "deep.jsonl"
    depths = range(800, 1100)
    path.write_text("\n".join('{"messages": %s}' % ("[" * depth + "]" * depth) for depth in depths))
    with pytest.raises(InputError, match="no question column found"):
        read(path)
    turns = [{"role": "user", "content": "q1"}, {"role": "assistant", "content": "a1"}]
    path.write_text(f"{json.dumps({'messages': turns})}\n{path.read_text()}")
    rows = list(read(path).rows)
    assert len(rows) == 1 + len(depths)
    assert {row.reason for row in rows if isinstance(row, UnreadRow)} == {"not_rendered_form", "invalid_json"}


def test_question_and_answer_columns_win_over_a_rendered_text(tmp_path: Path) -> None:
    path = tmp_path / "train.csv"
    path.write_text(f'question,answer,text,messages\nq1,a1,"{LLAMA2}",[]\n')
    assert pairs(read(path)) == [("q1", "a1")]


def test_a_text_column_without_a_form_is_no_source(tmp_path: Path) -> None:
    path = tmp_path / "notes.csv"
    path.write_text("id,text\n1,x\n")
    with pytest.raises(InputError, match=r"no question column found.*'id', 'text'; 'text' does not hold questions"):
        read(path)
