"""Stand-ins: the same kind and form, the same for the same value, dates moved together; nothing found is left."""

import calendar
import json
import random
import re
from datetime import date
from pathlib import Path
from typing import Literal

import pytest

from medqa_cli.config.schema import DataConfig
from medqa_cli.data.convert import convert
from medqa_cli.data.identifiers.finding import find_in_row
from medqa_cli.data.identifiers.replacing import Replaced, replace_finds, same_form
from medqa_cli.data.identifiers.text import Text
from medqa_cli.data.identifiers.written_dates import dates_in
from medqa_cli.data.report import show

Setting = Literal["report", "replace", "reject"]
SETTINGS: tuple[Setting, ...] = ("report", "replace", "reject")


def replaced(question: str, answer: str = "", seed: int = 1) -> Replaced:
    return replace_finds(question, answer, find_in_row(question, answer), seed)


def test_a_name_has_one_stand_in_within_a_row_part_by_part() -> None:
    done = replaced("My name is Sean O'Brien.", "Hello Sean. Mr. O'Brien, rest. Sean's cough will pass.")
    first, last = re.fullmatch(r"My name is (\w+) (O'\w+)\.", done.question).groups()  # type: ignore[union-attr]
    assert (first, last) != ("Sean", "O'Brien")
    assert done.answer == f"Hello {first}. Mr. {last}, rest. {first}'s cough will pass."


def test_dates_of_a_row_move_by_the_same_days_in_the_form_of_each() -> None:
    done = replaced("I was born on 03/04/1985, admitted on 2019-03-14 and discharged on March 20th, 2019.")
    match = re.fullmatch(
        r"I was born on (\d\d)/(\d\d)/(\d{4}), admitted on (\d{4})-(\d\d)-(\d\d) "
        r"and discharged on (\w+) (\d+)(st|nd|rd|th), (\d{4})\.",
        done.question,
    )
    assert match, done.question
    born = date(int(match[3]), int(match[1]), int(match[2]))
    admitted = date(int(match[4]), int(match[5]), int(match[6]))
    months = list(calendar.month_name)
    discharged = date(int(match[10]), months.index(match[7]), int(match[8]))
    assert (discharged - admitted).days == 6
    assert (admitted - born) == date(2019, 3, 14) - date(1985, 3, 4)
    assert 30 <= abs((admitted - date(2019, 3, 14)).days) <= 400


@pytest.mark.parametrize(
    "written", ["third of may nineteen eighty-seven", "31. Dezember 1999", "Feb 29", "12/31/99", "Sept. 2, 2001"]
)
def test_a_moved_date_is_a_date_again(written: str) -> None:
    for seed in range(20):
        made = same_form(written, "date", random.Random(seed))
        assert made != written
        assert len(list(dates_in(Text(made)))) == 1, made
        assert re.sub(r"[\w-]+", "w", made) == re.sub(r"[\w-]+", "w", written) or " " in written


@pytest.mark.parametrize(
    ("value", "kind", "form"),
    [
        ("(617) 555-9142", "phone", r"\([2-9]\d\d\) 555-01\d\d"),
        ("+49 30 12345678", "phone", r"\+49 \d\d \d{8}"),
        ("617.555.9142", "fax", r"[2-9]\d\d\.555\.01\d\d"),
        ("00123456", "record", r"\d{8}"),
        ("XJ-2298471b", "record", r"[A-Z]{2}-\d{7}[a-z]"),
        ("anna.k22@mail.org", "email", r"[a-z]+\.[a-z]+\d\d@example\.com"),
        ("anna at gmail dot com", "email", r"[a-z]+ at example dot com"),
        ("https://x.com/anna_lee", "profile", r"https://x\.com/[a-z]+_[a-z]+"),
        ("192.168.1.17", "ip", r"(?:192\.0\.2|198\.51\.100|203\.0\.113)\.\d+"),
        ("42 Elm Street, Apt 3b, Salem, MA 01970", "address", r"\d\d [A-Z]\w+ Street, Apt \d[a-z], [A-Z]\w+, MA \d{5}"),
        ("94", "age", r"9\d"),
        ("ninety-two", "age", r"ninety(?:-\w+)?"),
        ("JANE DOE", "name", r"[A-Z]+ [A-Z]+"),
        ("j. van der berg", "name", r"j\. van der [a-z]+"),
    ],
)
def test_a_stand_in_has_the_form_of_the_value_and_is_another(value: str, kind: str, form: str) -> None:
    for seed in range(30):
        made = same_form(value, kind, random.Random(seed))
        assert re.fullmatch(form, made), made
        assert made != value


def test_a_row_without_finds_stays_and_a_seed_draws_the_stand_ins() -> None:
    assert replaced("What is Bell's palsy?", "A weakness.") == Replaced("What is Bell's palsy?", "A weakness.")
    question = "My name is Sean O'Brien, call 617-555-9142."
    assert replaced(question) == replaced(question)
    assert replaced(question).question != replaced(question, seed=2).question


def test_convert_replaces_in_all_that_it_writes(tmp_path: Path) -> None:
    source = tmp_path / "rows.csv"
    rows = [
        "My name is Oluwaseun. I cough.,Hello Oluwaseun. Call 617-555-9142.,Oluwaseun's cough,file of Oluwaseun",
        "What does Oluwaseun have?,See above,x,y",  # rejected
        "My name is Oluwaseun; what is it?,See above,x,y",
        "What is asthma?,Asthma narrows the airways.,asthma,leaflet",
        "What is gout?,Gout is a disease of the joints.,gout,leaflet",
    ]
    source.write_text("\n".join(["question,answer,topic,source", *rows]), encoding="utf-8")
    settings = DataConfig(identifiers="replace", validation_fraction=0, test_fraction=0)
    report = convert([str(source)], settings, 1, lambda question, answer, _: question + answer, None, tmp_path / "out")
    assert report["identifiers"]["setting"] == "replace"
    assert report["identifiers"]["kinds"]["phone"] == {"finds": 1, "rows": 1, "train_finds": 1, "train_rows": 1}
    written = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert "identifiers.jsonl" not in written
    for name, data in written.items():
        assert b"555-9142" not in data, name
        assert b"Oluwaseun" not in data, name
    lines = [json.loads(line) for line in written["train.jsonl"].splitlines()]
    assert lines[1]["question"] == "What is asthma?"


def test_where_nothing_is_found_replacing_changes_no_byte(tmp_path: Path) -> None:
    source = tmp_path / "rows.csv"
    source.write_text(
        "question,answer\n" + "\n".join(f"What is disease {i}?,It is number {i} of many." for i in range(30))
    )
    for setting in SETTINGS:
        settings = DataConfig(identifiers=setting)
        convert([str(source)], settings, 1, lambda question, answer, _: question + answer, None, tmp_path / setting)
    for name in ("train.jsonl", "validation.jsonl", "test.jsonl", "rejected.jsonl"):
        assert len({(tmp_path / setting / name).read_bytes() for setting in SETTINGS}) == 1


@pytest.mark.parametrize("setting", SETTINGS)
def test_what_was_found_is_told_in_counts_and_never_by_value(
    setting: Setting, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "rows.csv"
    rows = ["My name is Oluwaseun. Why do I cough?,Call 617-555-9142.", "What is asthma?,Asthma narrows the airways."]
    source.write_text("\n".join(["question,answer", *rows]), encoding="utf-8")
    settings = DataConfig(identifiers=setting, validation_fraction=0, test_fraction=0)
    report = convert([str(source)], settings, 1, lambda question, answer, _: question + answer, None, tmp_path / "out")
    show(report, "", tmp_path / "out")
    printed = capsys.readouterr()
    assert re.search(r"^phone numbers +1 +1 +[01]$", printed.out, re.MULTILINE)
    assert ("1 of 2 training rows hold what looks like" in printed.err) == (setting == "report")
    card = (tmp_path / "out/README.md").read_text(encoding="utf-8")
    assert f"| phone | 1 | 1 | {int(setting != 'reject')} |" in card
    for text in (printed.out, printed.err, card, json.dumps(report)):
        assert "Oluwaseun" not in text
        assert "9142" not in text
