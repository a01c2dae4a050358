"""The whole of MedQuAD through ``medqa convert``: counts, topics, leaks, and that cleaning once is enough."""

import csv
from pathlib import Path
from typing import Any

import pytest

from helpers.paths import SHARED_DATA
from medqa_cli.config.schema import DataConfig
from medqa_cli.data.cleaning.rules import RULES
from medqa_cli.data.convert import convert
from medqa_cli.data.dataset import QaRow, read_split
from medqa_cli.data.normalize import key_of, normalize
from medqa_cli.data.topics.topics import topic_names

MEDQUAD = SHARED_DATA / "medquad"
SPLITS = ("train", "validation", "test")
NONE = {"question": 0, "answer": 0, "near_duplicate_answer": 0, "topic": 0}

pytestmark = pytest.mark.skipif(not MEDQUAD.is_dir(), reason="MedQuAD is not on this machine (../shared/data/medquad)")


def run(source: Path, out_dir: Path, **data: Any) -> dict[str, Any]:
    render = "{} {}".format
    return convert([str(source)], DataConfig(**data), 42, render, None, out_dir)


def rows_of(folder: Path) -> list[QaRow]:
    return [row for split in SPLITS for row in read_split(folder, split)]


@pytest.fixture(scope="module")
def two_columns(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("medquad") / "two"
    return folder, run(MEDQUAD / "medquad_two_columns.csv", folder)


def test_medquad_is_converted_by_exact_counts_without_leaks(two_columns: tuple[Path, dict[str, Any]]) -> None:
    folder, report = two_columns
    rejected = report["rows"]["rejected"]
    fixed = ("answer_is_question", "exact_duplicate", "link_list", "over_copy_limit", "stub")
    assert {reason: rejected[reason] for reason in fixed} == {
        "answer_is_question": 17,
        "exact_duplicate": 51,  # 48 before cleaning makes three more rows equal
        "link_list": 1089,
        "over_copy_limit": 384,
        "stub": 6,
    }
    assert set(rejected) - set(fixed) == {"near_duplicate_of_test", "near_duplicate_of_validation"}
    assert report["rows"]["read"] == 16407 == report["rows"]["kept"] + sum(rejected.values())
    assert report["splits"]["test"] == pytest.approx(0.1 * 14860, abs=10)
    assert report["leakage"] == {"test": NONE, "validation": NONE}
    questions = {name: {normalize(row.question) for row in read_split(folder, name)} for name in SPLITS}
    assert len(set.union(*questions.values())) == sum(len(found) for found in questions.values()) > 10000


def test_topics_of_the_questions_are_those_of_the_focus_column(
    two_columns: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    six = run(MEDQUAD / "medquad.csv", tmp_path / "six")
    assert six["topics"]["column"] == "focus"
    assert six["leakage"] == {"test": NONE, "validation": NONE}
    by_id = {row.id: normalize(row.topic) for row in rows_of(tmp_path / "six")}
    shared = [(normalize(row.topic), by_id[row.id]) for row in rows_of(two_columns[0]) if row.id in by_id]
    assert len(shared) > 14400
    assert sum(one == other for one, other in shared) >= 0.995 * len(shared)


def test_no_held_out_row_shares_its_focus_with_train(two_columns: tuple[Path, dict[str, Any]]) -> None:
    """By the column that the two-column file lacks; also no other seed could part the rows of a focus."""
    with open(MEDQUAD / "medquad.csv", encoding="utf-8", newline="") as file:
        focus_of = {
            key_of(normalize(row["question"].split("?")[0])): row["focus"]
            for row in csv.DictReader(file)
            if row["focus"]
        }
    groups: dict[str, set[str]] = {}
    known = 0
    for split in SPLITS:
        for row in read_split(two_columns[0], split):
            question = row.question.split("?")[0].replace("What is ", "What is (are) ", 1)
            focus = focus_of.get(key_of(normalize(question))) or focus_of.get(
                key_of(normalize(row.question.split("?")[0]))
            )
            known += focus is not None
            for name in topic_names(focus or ""):
                groups.setdefault(name, set()).add(split)
    assert known > 14_000
    assert {name: found for name, found in groups.items() if len(found) > 1} == {}


def test_the_archive_of_xml(tmp_path: Path) -> None:
    report = run(MEDQUAD / "medquad_xml_sample.tar.gz", tmp_path / "xml")
    assert report["rows"]["read"] == 2131  # 2,127 pairs and four documents of another form
    assert report["rows"]["rejected"]["not_medquad_xml"] == 4
    assert report["leakage"] == {"test": NONE, "validation": NONE}
    assert {row.source for row in rows_of(tmp_path / "xml")} == {"CDC", "NIHSeniorHealth", "NINDS"}


def test_converting_the_cleaned_rows_again_changes_none(
    two_columns: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    again = run(two_columns[0] / "train.jsonl", tmp_path / "again", max_copies_of_an_answer=None)
    assert again["rows"]["read"] == two_columns[1]["splits"]["train"]
    assert again["cleaning"] == dict.fromkeys(RULES, 0)
    assert set(again["rows"]["rejected"]) <= {"near_duplicate_of_test", "near_duplicate_of_validation"}
    before = {(row.question, row.answer) for row in read_split(two_columns[0], "train")}
    after = {(row.question, row.answer) for row in rows_of(tmp_path / "again")}
    assert after <= before
    assert len(after) == again["rows"]["kept"]
