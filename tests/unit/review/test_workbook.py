"""A review as a spreadsheet: written, filled in as a program would, and read back; what is wrong in it is named."""

import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest

from helpers.reviews import make, measured_run
from helpers.spreadsheets import SHEETS, write_xlsx
from medqa_cli.review.judgments import Key, read_judgments
from medqa_cli.review.workbook import ShownPair, num_lines, sheet_cells, write_workbook

SHEET = "xl/worksheets/sheet1.xml"
LONG = "A long line of words. " * 400


@pytest.fixture(scope="module")
def review(tmp_path_factory: pytest.TempPathFactory) -> tuple[Key, Path]:
    """The key of a review of six questions by anna, and her spreadsheet."""
    config = measured_run(tmp_path_factory.mktemp("review"))
    key, made = make(config, num_questions=6, raters=("anna",), spreadsheets=True)
    return key, Path(made["raters"]["anna"]["files"][1])


def filled(source: Path, target: Path, answer: Callable[[str], str]) -> Path:
    """Write a copy of a spreadsheet in which the third cell of each row is what ``answer`` says to the first one."""
    with zipfile.ZipFile(source) as archive, zipfile.ZipFile(target, "w") as copy:
        for name in archive.namelist():
            text = archive.read(name).decode()
            if name == SHEET:
                rows = re.findall(r'<row r="\d+"[^>]*>.*?</row>', text, re.DOTALL)
                for row in rows:
                    code = re.search(r'<c r="A\d+"[^>]*><is><t[^>]*>(.*?)</t>', row)
                    if code and (value := answer(code[1])):
                        cell = rf'<c r="C\1" s="3" t="inlineStr"><is><t>{value}</t></is></c>'
                        text = text.replace(row, re.sub(r'<c r="C(\d+)" s="3"/>', cell, row))
            copy.writestr(name, text)
    return target


def answers(key: Key, **others: str) -> Callable[[str], str]:
    """Say yes to all about X and no about Y, X better at the first question, Y at the others; ``others`` by field."""

    def answer(code: str) -> str:
        pair, _, field = code.partition(" ")
        if field in others:
            return others[field]
        if field == "better":
            return "X" if pair == key.pairs[0].id else "y"
        return {"x.": "yes", "y.": "No"}.get(field[:2], "")

    return answer


def read(key: Key, path: Path) -> tuple[list[tuple[bool | None, ...]], list[str | None], list[str]]:
    judgments, problems = read_judgments([path], key)
    said = [(*own.x.values(), *own.y.values()) for own in judgments]
    assert [own.pair for own in judgments] == list(key.pairs)[: len(judgments)]
    assert {own.seconds for own in judgments} <= {None}
    return said, [own.better for own in judgments], problems


def test_a_filled_in_spreadsheet_is_read_like_a_page(review: tuple[Key, Path], tmp_path: Path) -> None:
    key, path = review
    said, better, problems = read(key, filled(path, tmp_path / "review-anna.xlsx", answers(key)))
    assert said == [(True,) * 5 + (False,) * 5] * 6
    assert better == ["x", *"yyyyy"]
    assert problems == []


def test_an_empty_spreadsheet_holds_no_judgment(review: tuple[Key, Path]) -> None:
    key, path = review
    assert read(key, path) == ([], [], ["anna: 6 questions (1, 2, 3, 4, 5, 6) of 6 not rated"])


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("x.correct", "maybe", "'maybe' is neither yes nor no: not counted"),
        ("better", "left", "'left' is none of X, Y, equal and cannot: not counted"),
    ],
)
def test_a_cell_that_says_something_else_is_named_and_the_rest_counts(
    review: tuple[Key, Path], tmp_path: Path, field: str, value: str, message: str
) -> None:
    key, path = review
    said, better, problems = read(key, filled(path, tmp_path / "a.xlsx", answers(key, **{field: value})))
    assert len(said) == 6
    assert [re.sub(r"row \d+", "row N", own) for own in problems[:6]] == [
        f"{tmp_path / 'a.xlsx'}, row N: {message}"
    ] * 6
    if field == "better":
        assert better == [None] * 6
        assert "without a better answer" in problems[6]
    else:
        assert said == [(None, *(True,) * 4, *(False,) * 5)] * 6


@pytest.mark.parametrize(
    ("word", "better"), [("equal", "equal"), ("=", "equal"), ("Both equal", "equal"), ("X is better", "x")]
)
def test_words_of_the_page_are_understood(review: tuple[Key, Path], tmp_path: Path, word: str, better: str) -> None:
    key, path = review
    filled_in = filled(path, tmp_path / "a.xlsx", answers(key, better=word))
    assert read(key, filled_in)[1:] == ([better] * 6, [])


def test_a_rater_who_cannot_judge_says_so_and_a_remark_is_kept(review: tuple[Key, Path], tmp_path: Path) -> None:
    key, path = review
    judgments, problems = read_judgments(
        [filled(path, tmp_path / "a.xlsx", answers(key, better="cannot", remark="not my field"))], key
    )
    assert problems == []
    assert {(own.better, own.remark) for own in judgments} == {(None, "not my field")}


def test_changed_ids_are_named_and_the_other_rows_count(review: tuple[Key, Path], tmp_path: Path) -> None:
    key, path = review
    first = key.pairs[0].id
    whole = filled(path, tmp_path / "whole.xlsx", answers(key))
    changed = tmp_path / "changed.xlsx"
    with zipfile.ZipFile(whole) as archive, zipfile.ZipFile(changed, "w") as copy:
        for name in archive.namelist():
            copy.writestr(name, archive.read(name).decode().replace(f">{first} ", ">ffffffffffff "))
    judgments, problems = read_judgments([changed], key)
    assert [own.pair for own in judgments] == list(key.pairs[1:])
    assert problems == [
        f"{changed}, entry 1 (ffffffffffff): no pair of this review has this id: left out",
        "anna: question 1 of 6 not rated",
    ]


def test_an_id_that_was_moved_to_another_question_is_named(review: tuple[Key, Path], tmp_path: Path) -> None:
    key, path = review
    first = key.pairs[0].id
    whole = filled(path, tmp_path / "whole.xlsx", answers(key))
    moved = tmp_path / "moved.xlsx"
    with zipfile.ZipFile(whole) as archive, zipfile.ZipFile(moved, "w") as copy:
        for name in archive.namelist():
            text = archive.read(name).decode()
            text = text.replace(f"{first} x.correct", "SWAP").replace(f"{first} x.could_harm", f"{first} x.correct")
            copy.writestr(name, text.replace("SWAP", f"{first} x.could_harm"))
    judgments, problems = read_judgments([moved], key)
    assert [judgments[0].x["correct"], judgments[0].x["could_harm"]] == [None, None]
    assert [own.split(": ", 1)[1] for own in problems] == [
        "the first column does not belong to this question: not counted"
    ] * 2


def test_a_row_that_stands_twice_counts_once(review: tuple[Key, Path], tmp_path: Path) -> None:
    key, path = review
    cells = [row[:3] for row in sheet_cells(filled(path, tmp_path / "whole.xlsx", answers(key)))]
    row = next(row for row in cells if row[0] == f"{key.pairs[0].id} better")
    cells.append([row[0], row[1], "equal"])
    judgments, problems = read_judgments([write_xlsx(tmp_path / "twice.xlsx", {"Review": cells})], key)
    assert judgments[0].better == "x"
    assert [own.split(": ", 1)[1] for own in problems] == ["a second row of 'better' of the same pair: not counted"]


def test_a_sheet_that_another_program_saved_among_others_is_found(review: tuple[Key, Path], tmp_path: Path) -> None:
    key, path = review
    cells = [row[:3] for row in sheet_cells(filled(path, tmp_path / "whole.xlsx", answers(key)))]
    saved = write_xlsx(tmp_path / "saved.xlsx", {"Notes": [["mine"]], "Review": cells})
    assert read(key, saved)[1:] == (["x", *"yyyyy"], [])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty (0 bytes)"),
        (b"<html>", "cannot be read as a spreadsheet"),
        (b"PK\x03\x04 cut off", "cannot be read as a spreadsheet"),
    ],
)
def test_a_damaged_spreadsheet_is_named(review: tuple[Key, Path], tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "review-anna.xlsx"
    path.write_bytes(content)
    _, problems = read_judgments([path], review[0])
    assert problems[0].startswith(f"{path} {message}")


def test_another_spreadsheet_is_named(review: tuple[Key, Path], tmp_path: Path) -> None:
    path = write_xlsx(tmp_path / "a.xlsx", {"QA": [["question", "answer"], ["q", "a"]]})
    _, problems = read_judgments([path], review[0])
    assert problems[0].startswith(f"{path} is no spreadsheet of a review")


def test_the_spreadsheet_of_another_review_is_named(review: tuple[Key, Path], tmp_path: Path) -> None:
    key, _ = review
    other = tmp_path / "other.xlsx"
    write_workbook(other, "0123456789abcdef", "anna", [], key.form)
    _, problems = read_judgments([other], key)
    assert problems[0].startswith(f"{other} belongs to another review ('0123456789abcdef')")


def test_texts_are_texts_whole_and_in_pieces_that_a_row_can_show(review: tuple[Key, Path], tmp_path: Path) -> None:
    key, _ = review
    texts = [
        "=1+1",
        "<b>&amp;</b>",
        "_x0041_ and \x07",
        LONG,
        "one\n\n  two",
        " ",
        "語" * 3000,
        "\n".join(["line"] * 99),
    ]
    path = tmp_path / "a.xlsx"
    write_workbook(
        path, "r", "anna", [ShownPair(f"p{n}", text, text, "other") for n, text in enumerate(texts)], key.form
    )
    cells = sheet_cells(path)
    column = [row[1] for row in cells]
    assert max(map(num_lines, column)) == 24
    shown = "\n".join(column)
    for text in ("=1+1", "<b>&amp;</b>", "_x0041_ and \ufffd", "one\n\n  two"):
        assert shown.count(f"\n{text}\n") == 2, text
    assert " ".join(column).count("A long line of words.") == 2 * 400
    assert key.form.words["empty"] in column
    assert ("".join(column).count("語"), "\n".join(column).split("\n").count("line")) == (2 * 3000, 2 * 99)
    with zipfile.ZipFile(path) as archive:
        sheet = ElementTree.fromstring(archive.read(SHEET))
    # Each row is as high as its text; Excel shows no more than 409 points.
    heights = [int(row.get("ht", "0")) for row in sheet.iter(f"{{{SHEETS}}}row")]
    assert heights == [15 * num_lines(text) for text in column]
    assert max(heights) == 360
    kinds = {cell.get("t") for cell in sheet.iter(f"{{{SHEETS}}}c")}
    assert kinds == {"inlineStr", None}
    assert not list(sheet.iter(f"{{{SHEETS}}}f"))


def test_only_the_cells_to_fill_in_are_open_and_offer_their_choices(review: tuple[Key, Path]) -> None:
    _, path = review
    with zipfile.ZipFile(path) as archive:
        sheet = ElementTree.fromstring(archive.read(SHEET))
    assert sheet.find(f"{{{SHEETS}}}sheetProtection") is not None
    style_of = {cell.get("r"): cell.get("s") for cell in sheet.iter(f"{{{SHEETS}}}c")}
    opened = {place for place, style in style_of.items() if style == "3"}
    assert len(opened) == 6 * (2 * 5 + 2)
    checks = {
        check.findtext(f"{{{SHEETS}}}formula1"): (check.get("sqref") or "").split()
        for check in sheet.iter(f"{{{SHEETS}}}dataValidation")
    }
    assert {name: len(places) for name, places in checks.items()} == {'"Yes,No"': 60, '"X,Y,equal,cannot"': 6}
    assert {place for places in checks.values() for place in places} < opened
