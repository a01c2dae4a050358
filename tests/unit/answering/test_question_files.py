"""Files of questions: what is read of each format, and what is said of files that do not fit."""

import io
import sys
from pathlib import Path

import pytest

from medqa_cli.answering.question_files import AskedRow, read_questions
from medqa_cli.errors import InputError


def write(folder: Path, name: str, content: str | bytes) -> str:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def test_a_text_file_has_a_question_on_each_line(tmp_path: Path) -> None:
    name = write(tmp_path, "q.txt", "\ufeffWhat is gout?\r\n\n  Is Ménière's rare? \n")
    assert read_questions(name) == [AskedRow("What is gout?", {}), AskedRow("Is Ménière's rare?", {})]


def test_json_texts_may_hold_other_line_ends(tmp_path: Path) -> None:
    name = write(tmp_path, "q.jsonl", '{"question": "What is\u2028gout?"}\n')
    assert read_questions(name) == [AskedRow("What is\u2028gout?", {})]


def test_json_lines_keep_their_other_columns(tmp_path: Path) -> None:
    name = write(tmp_path, "q.jsonl", '{"id": 7, "Question": "What is gout?", "tags": ["a"]}\n\n"Why?"\n')
    assert read_questions(name) == [AskedRow("What is gout?", {"id": 7, "tags": ["a"]}), AskedRow("Why?", {})]


@pytest.mark.parametrize(("suffix", "delimiter"), [("csv", ","), ("csv", ";"), ("tsv", "\t")])
def test_a_table_keeps_its_other_columns(tmp_path: Path, suffix: str, delimiter: str) -> None:
    text = 'id|question|note\n1|"What is\n""gout""?"|x\n\n2|Why?|\n'.replace("|", delimiter)
    assert read_questions(write(tmp_path, f"q.{suffix}", text)) == [
        AskedRow('What is\n"gout"?', {"id": "1", "note": "x"}),
        AskedRow("Why?", {"id": "2", "note": ""}),
    ]


def test_a_table_of_questions_alone_may_have_commas_and_a_title(tmp_path: Path) -> None:
    assert read_questions(write(tmp_path, "q.tsv", "question\nWhat, if any?\nquestion\n")) == [
        AskedRow("What, if any?", {}),
        AskedRow("question", {}),
    ]
    name = write(tmp_path, "q.csv", "Asked in May,\nid;question\n1;Why, oh why?\n".replace(",\n", "\n"))
    assert read_questions(name) == [AskedRow("Why, oh why?", {"id": "1"})]


def test_the_input_follows_the_instruction_of_alpaca(tmp_path: Path) -> None:
    name = write(tmp_path, "q.csv", "instruction,input\nAs a nurse.,What is gout?\nWhat is flu?,\n")
    assert read_questions(name) == [
        AskedRow("As a nurse.\n\nWhat is gout?", {"input": "What is gout?"}),
        AskedRow("What is flu?", {"input": ""}),
    ]


def test_a_table_in_the_windows_encoding(tmp_path: Path) -> None:
    name = write(tmp_path, "q.csv", "question\nIs Ménière's rare?\n".encode("cp1252"))
    assert read_questions(name) == [AskedRow("Is Ménière's rare?", {})]


def test_a_named_column(tmp_path: Path) -> None:
    name = write(tmp_path, "q.csv", "question,asked\nx,What is gout?\n")
    assert read_questions(name, "asked") == [AskedRow("What is gout?", {"question": "x"})]
    assert read_questions(name, "of the training data") == [AskedRow("x", {"asked": "What is gout?"})]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"What is gout?\nWhy?\n", [AskedRow("What is gout?", {}), AskedRow("Why?", {})]),
        (b'{"q": "What is gout?", "id": 1}\n', [AskedRow("What is gout?", {"id": 1})]),
    ],
)
def test_standard_input_is_read_as_lines_or_json_lines(
    monkeypatch: pytest.MonkeyPatch, content: bytes, expected: list[AskedRow]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    assert read_questions("-") == expected


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("q.txt", "\n \n", "holds no question"),
        ("q.csv", "question\n", "holds no question"),
        ("q.csv", "id,text\n1,What?\n", r"no column 'question'; found 'id', 'text'"),
        ("q.csv", "id,question\n1,What?,more\n", r"q.csv:2: 3 cells, but the header has 2"),
        ("q.csv", 'id,question\n1,"What?\n2,Why?\n', r"q.csv:2: the row cannot be read: unclosed quote"),
        ("q.csv", "", "is empty"),
        ("q.csv", "id,id,question\n1,2,What?\n", "two columns have the same name"),
        ("q.jsonl", '{"question": "a"}\n{"question": \n', r"q.jsonl:2: no valid JSON"),
        ("q.jsonl", "[1]\n", r"q.jsonl:1: expected an object or a text, found \[1\]"),
        ("q.jsonl", '{"id": 1}\n', r"q.jsonl:1: no column 'question'; found 'id'"),
        ("q.jsonl", '{"question": 5}\n', r"q.jsonl:1: the question under 'question' is not text"),
        ("q.pdf", "x", "unknown format '.pdf'"),
    ],
)
def test_files_that_do_not_fit(tmp_path: Path, name: str, content: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        read_questions(write(tmp_path, name, content))


def test_a_missing_file() -> None:
    with pytest.raises(InputError, match="cannot be read: No such file"):
        read_questions("absent.txt")
