"""Each file of tests/data/bad is wrong in one way: what `medqa convert` says of it, or which of its rows it rejects."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers.commands import Outcome
from helpers.paths import TESTS

BAD = TESTS / "data" / "bad"
LARGEST_FILE = 4096  # bytes

# Words that several messages share.
EXPORT = "save it as 'CSV UTF-8'"
QUESTION_COLUMN = ["no question column found", "expected one named 'question'", "--set data.question_column=NAME"]
ONE_COLUMN = ["the first line is one column", "split at ',' or ';' or tab or '|'", EXPORT]
NO_ROW = ["rows can be used", "check the file"]
HOLD_OUT_LESS = "--set data.validation_fraction=0 --set data.test_fraction=0"
TOO_FEW = ["form 1 group(s) that share no question or topic; train, test, validation need at least 3", HOLD_OUT_LESS]
DAMAGED = "it may be cut off, or another kind of file: copy or download it again"
OWN_NAME = ["give it the name that fits (medqa reads .xlsx,", EXPORT]
EXAMPLE = '{"question": "...", "answer": "..."}'
PAGE = ["is a web page (HTML)", "download again what turned into an error page"]
POINTER = ["is only a pointer of Git LFS", "git lfs pull"]
NO_DATA_IN_IT = ["holds no XML documents and no tables", "name a file, or a folder or archive that holds .xml, .csv"]
UNSAFE = ["document type or entity refused", "take its <!DOCTYPE ...> out"]

# File: what the error and its hint have to say.
REFUSED: dict[str, list[str]] = {
    # Nothing in it.
    "empty.csv": ["empty.csv is empty (0 bytes)", "one row per question"],
    "blank_lines.csv": ["blank_lines.csv is empty: no header line", "give a file with a header line"],
    "header_only.csv": ["has no data rows, only the columns question 'question', answer 'answer'", "at least one row"],
    "empty_list.json": ["empty_list.json has no data rows", "one object per question"],
    "all_cells_empty.csv": ["none of its 4 rows", "3 empty_question, 1 empty_answer", "first: row 1", *NO_ROW],
    "only_links.csv": ["none of its 2 rows can be used: 2 link_list", *NO_ROW],
    # Columns.
    "no_header.csv": ["'What is gout?', 'Gout is a form of arthritis.'", "without a header line", *QUESTION_COLUMN],
    "other_language.csv": [
        "the columns are 'Frage Text', 'Antwort Text'; did you mean 'Frage Text' and 'Antwort Text'?",
        "name them: --set 'data.question_column=Frage Text' --set 'data.answer_column=Antwort Text'",
    ],
    "one_column.csv": ["no answer column found; expected one named 'answer'", "are 'question'", *ONE_COLUMN],
    "unknown_delimiter.csv": ["the columns are 'question^answer'", *ONE_COLUMN],
    "quoted_header.csv": ["the columns are 'question,answer'", *ONE_COLUMN],
    "two_question_columns.csv": ["2 columns could hold the question: 'Question', 'question '", "name one: --set data."],
    "two_answer_columns.csv": ["2 columns could hold the answer: 'response', 'output'", "data.answer_column=NAME"],
    "rows_in_another_delimiter.csv": ["none of its 4 rows", "4 ragged_row", *NO_ROW],
    "text_without_form.csv": ["'text' does not hold questions and answers in the form of Llama 2", "with 'Question:'"],
    # Rows that leave nothing to hold out.
    "one_row.csv": ["the rows to split (1)", *TOO_FEW],
    "one_question_for_all.csv": ["the rows to split (4)", *TOO_FEW],
    "one_answer_for_all.csv": ["no row is left for training: 4 rows have an answer that is equal", HOLD_OUT_LESS],
    # JSON.
    "cut_off.json": ["is not valid JSON: ", "(line 11)", "repair or export it again"],
    "cut_off_object.json": ["is not valid JSON: ", "line 1 column", "repair or export it again"],
    "single_quotes.json": ["is not valid JSON: ", "double quotes (line 1)", "repair or export it again"],
    "deeply_nested.json": ["is nested too deeply", f"a list of objects like {EXAMPLE}"],
    "uneven_columns.json": ["the columns 'question', 'answer' with 1 to 2 rows", "orient='records'"],
    "single_text.json": ["holds a single text or number; expected a list of objects", "orient='records'"],
    "list_of_lists.json": ["none of the first 4 entries is a JSON object; expected one per question", EXAMPLE],
    "no_line_is_json.jsonl": ["none of the first 2 entries is a JSON object; expected one per question", EXAMPLE],
    "only_long_talks.jsonl": ["none of its 2 rows", "2 several_turns", *NO_ROW],
    # Something else than the name says.
    "picture.csv": ["is not a text file, it is a PNG image", *OWN_NAME],
    "workbook.csv": ["is not a text file, it is a ZIP archive or an Excel file", *OWN_NAME],
    "parquet.csv": ["is not a text file, it is a Parquet file", *OWN_NAME],
    "web_page.csv": PAGE,
    "web_page.json": PAGE,
    "web_page.xlsx": PAGE,
    "letter.csv": ["is a text document (RTF)", "save a table in it as 'CSV UTF-8'"],
    "letter.docx": ["unknown format ('.docx'); expected .csv, .tsv", "export it as CSV"],
    "lfs_pointer.csv": POINTER,
    "lfs_pointer.parquet": POINTER,
    "noise.csv": ["no UTF-8 (byte 0xa3 at offset 3), and no older encoding", "--set data.encoding=NAME"],
    "nul_in_header.csv": ["is not plain text: it has NUL bytes in its first line", EXPORT],
    "nul_bytes_only.csv": ["is not plain text: it has NUL bytes in its first line", EXPORT],
    "table.xlsx": ["cannot be read as a spreadsheet", "a text file with this name needs the suffix .csv or .tsv"],
    "table.parquet": ["cannot be read as Parquet", "copy or export it again"],
    # Workbooks, Parquet and archives that are damaged or hold nothing of use.
    "workbook_cut_off.xlsx": ["cannot be read as a spreadsheet", "open it and save it as .xlsx"],
    "workbook_without_cells.xlsx": ["is empty: its 1 sheets hold no cells", "give a filled one"],
    "workbook_of_notes.xlsx": ["workbook_of_notes.xlsx, sheet 'Notes': ", "'date', 'note'", *QUESTION_COLUMN],
    "cut_off.parquet": ["cannot be read as Parquet", "the file may be cut off: copy or export it again"],
    "not_gzip.csv.gz": ["is not packed with gzip", "name it not_gzip.csv"],
    "cut_off.csv.gz": ["is damaged: ", DAMAGED],
    "of_nothing.csv.gz": ["is empty (0 bytes)", "one row per question"],
    "cut_off.zip": ["is damaged: ", DAMAGED],
    "flipped_byte.zip": ["is damaged: ", DAMAGED],
    "password.zip": ["cannot be unpacked: it is protected by a password", "unpack it yourself and name the folder"],
    "no_members.zip": ["found no files", *NO_DATA_IN_IT],
    "only_pictures.zip": ["found only 2 .png, 1 no suffix", *NO_DATA_IN_IT],
    "one_table_without_columns.zip": ["one_table_without_columns.zip/notes/b.csv: ", *QUESTION_COLUMN],
    "cut_off.tar.gz": ["is damaged: it ends or cannot be read after a.csv", DAMAGED],
    "not_tar.tar.gz": ["is damaged: ", DAMAGED],
    # XML.
    "entity_bomb.xml": ["entity_bomb.xml:2 cannot be read: ", *UNSAFE],
    "external_entity.xml": ["external_entity.xml:2 cannot be read: ", *UNSAFE],
    "malformed.xml": ["malformed.xml:8 cannot be read: mismatched tag", "repair it or download it again"],
    "feed.xml": ["expected <Document> with <QAPairs>, found <rss>", "no XML but MedQuAD's", "'CSV UTF-8'"],
    "no_pairs.xml": ["no_pairs.xml has no data rows", "at least one row"],
    # Folders.
    "both_kinds": ["holds 1 XML documents and 1 tables ('asthma.csv'); expected one kind", "name one of the files"],
    "only_notes": ["found only 1 .md, 1 .txt", *NO_DATA_IN_IT],
    "converted": ["is a data set that was converted before", "medqa convert --audit converted"],
}

# File: how many rows are kept, and of each other row its place (file of a folder, line, or else row) and its reason.
CONVERTED: dict[str, tuple[int, list[tuple[str | int, str]]]] = {
    "by_column.json": (4, []),
    "broken_lines.jsonl": (
        4,
        [
            (5, "invalid_json"),
            (7, "not_an_object"),
            (8, "not_text"),
            (9, "empty_answer"),
            (10, "invalid_unicode"),
        ],
    ),
    "carriage_returns.csv": (4, [(6, "ragged_row")]),
    "duplicates.csv": (24, [(6, "exact_duplicate"), (27, "over_copy_limit")]),
    "formula_errors.xlsx": (4, [(7, "empty_answer")]),
    "latin_1_in_a_cell.parquet": (4, [(5, "invalid_unicode")]),
    "missing_values.csv": (
        4,
        [(6, "empty_answer"), (7, "empty_question"), (8, "empty_answer"), (9, "empty_answer")],
    ),
    "mixed_documents": (
        2,
        [
            ("2_bomb.xml", "unsafe_xml"),
            ("3_cut_off.xml", "malformed_xml"),
            ("4_feed.xml", "not_medquad_xml"),
            ("5_two_answers.xml", "several_answers"),
            ("6_no_answer.xml", "empty_answer"),
            ("7_empty.xml", "malformed_xml"),
        ],
    ),
    "nested_records.jsonl": (4, []),
    "nul_in_cells.csv": (4, [(6, "nul_byte"), (7, "nul_byte")]),
    "ragged_rows.csv": (5, [(6, "ragged_row"), (7, "ragged_row")]),
    "some_long_talks.jsonl": (1, [(2, "several_turns"), (3, "not_rendered_form")]),
    "some_texts_without_form.csv": (
        1,
        [(3, "not_rendered_form"), (4, "not_rendered_form"), (5, "several_turns")],
    ),
    "stray_quotes.csv": (3, [(3, "malformed_quotes")]),
    "two_encodings.csv": (6, []),
    "two_headers.csv": (5, [(6, "repeated_header")]),
    "two_marks.csv": (4, []),
    "unclosed_quote.csv": (3, [(3, "unclosed_quote")]),
    "useless_answers.csv": (4, [(6, "answer_is_question"), (7, "stub"), (8, "stub"), (9, "link_list")]),
    "utf32.csv": (4, []),
    "utf16_without_mark.csv": (4, [(6, "ragged_row")]),
}

Convert = Callable[..., Outcome]


@pytest.fixture
def convert(medqa: Convert, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Convert:
    """Run ``medqa convert NAME OPTION...`` in a folder that holds nothing but a copy of that bad file."""
    monkeypatch.chdir(tmp_path)

    def run(name: str, *options: str) -> Outcome:
        if (BAD / name).is_dir():
            shutil.copytree(BAD / name, name)
        else:
            shutil.copyfile(BAD / name, name)
        return medqa("convert", name, *options)

    return run


def test_every_bad_file_is_small_and_has_its_expectation() -> None:
    assert sorted(path.name for path in BAD.iterdir()) == sorted([*REFUSED, *CONVERTED])
    assert [path for path in BAD.rglob("*") if path.is_file() and path.stat().st_size > LARGEST_FILE] == []


def test_git_keeps_the_bytes_of_the_bad_files() -> None:
    """With its line ends changed, none of them would be wrong in the way it should be."""
    assert "tests/data/bad/** -text" in (BAD.parents[2] / ".gitattributes").read_text().splitlines()
    assert b"\n" not in (BAD / "carriage_returns.csv").read_bytes()
    assert b"\r\n" in (BAD / "blank_lines.csv").read_bytes()


@pytest.mark.parametrize(("name", "said"), REFUSED.items(), ids=REFUSED)
def test_a_bad_file_is_refused_with_one_clear_message(convert: Convert, name: str, said: list[str]) -> None:
    outcome = convert(name)
    assert (outcome.code, outcome.out) == (2, ""), outcome.err
    assert "Traceback" not in outcome.err
    lines = outcome.err.splitlines()
    error, hint = lines[-2:]  # the last thing on the screen
    assert [line for line in lines if line.startswith(("error: ", "hint: "))] == [error, hint]
    assert error.startswith("error: ")
    assert [text for text in said if text not in f"{error}\n{hint}"] == [], outcome.err
    # What is wrong with rows is said below the note which file is read.
    assert name in error or any(line.startswith(f"reading {name}: ") for line in lines)
    # No file is written, not even a temporary one.
    assert {path.parts[0] for path in Path().rglob("*") if path.is_file()} == {name}


@pytest.mark.parametrize(("name", "kept", "rejected"), [(name, *rows) for name, rows in CONVERTED.items()])
def test_the_good_rows_of_a_bad_file_are_kept_and_the_others_told(
    convert: Convert, name: str, kept: int, rejected: list[tuple[str | int, str]]
) -> None:
    # Nothing is held out: a few rows are no basis for that.
    outcome = convert(name, *HOLD_OUT_LESS.split(), "--json")
    assert outcome.code == 0, outcome.err
    rows = json.loads(outcome.out)["rows"]
    assert (rows["read"], rows["kept"]) == (kept + len(rejected), kept)
    assert len(Path("data/medqa/train.jsonl").read_text(encoding="utf-8").splitlines()) == kept
    entries = [json.loads(line) for line in Path("data/medqa/rejected.jsonl").read_text(encoding="utf-8").splitlines()]
    places = [entry.get("file") or entry.get("line") or entry["row"] for entry in entries]
    assert list(zip(places, [entry["reason"] for entry in entries], strict=True)) == rejected
    assert all(entry["question"] or entry["answer"] or entry["text"] for entry in entries)
