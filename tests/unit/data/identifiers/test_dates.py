"""Dates in a text about one person, however people write them, and what has the form of one and stays."""

import random
import re

import pytest

from medqa_cli.data.identifiers.finding import find_in_row
from medqa_cli.data.identifiers.replacing import same_form
from medqa_cli.data.identifiers.text import Text
from medqa_cli.data.identifiers.written_dates import WrittenDate, dates_in


def dates_of(text: str) -> list[str]:
    return [text[find.start : find.end] for find in find_in_row(text, "") if find.kind == "date"]


@pytest.mark.parametrize(
    "written",
    [
        # With the time of day.
        "2023-05-12T14:30:22Z", "2023-05-12 14:30", "12/05/2023, 2:30 pm", "12-MAY-2023 14:30", "May 12, 2023 10:00",
        # Several days of a month.
        "12-14 May 2023", "May 12-14, 2023", "12. bis 14. Mai", "12.-14.5.2023",
        # Names of months of other languages, in Roman numerals, before the day, and without a space.
        "12. toukokuuta 2021", "12 мая 2021", "12 Agustus 2021", "12. svibnja 2021", "2021年5月12日",
        "12 tháng 5 năm 2021",
        "7.III.1985", "2021. május 12.", "1985 March 7", "March 7,1985", "7thMarch1985", "12MAY", "5 th June",
        "May '21", "early May 2021",
    ],
)  # fmt: skip
def test_a_date_is_found_in_whatever_form(written: str) -> None:
    assert dates_of(f"My mother had her knee done {written} and it still hurts.") == [written]


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("My scan is 8-14, will it hurt?", ["8-14"]),
        ("I had the stent put in 11/26 and my leg is blue.", ["11/26"]),
        ("My incision (hip, 9/19) is warm.", ["9/19"]),
        ("I was in bed 12/5-14/5 and my cough is worse.", ["12/5", "14/5"]),
        ("I was positive on 6/21 and 9/16, when am I free?", ["6/21", "9/16"]),
        ('His diary: "5/3 felt sick. 9/15 fever." My husband wrote it.', ["5/3", "9/15"]),
        ("My wife was delivered 14/7, her wound is open.", ["14/7"]),
        ("My nan is on holiday till 3/29/24, her pills ran out.", ["3/29/24"]),
    ],
)
def test_a_day_and_a_month_need_no_year_where_something_happened(text: str, written: list[str]) -> None:
    assert dates_of(text) == written


@pytest.mark.parametrize(
    "text",
    [
        "My pain was 7/10 and now it is 3/10, my power 4/5.",
        "I take 1/2 tablet and my wife takes 5-10 ml every 8-12 hours.",
        "My PHQ-9 was 12/27 and my GAD-7 11/21.",
        "J'ai une tension à 16/9 et je prends mes pilules.",
        "My PSA rose from 4.2 to 6.8. I am afraid.",
        "I am on BiPAP 12/5 and my vision is 6/9.",
        "My doctor quotes the NICE guideline No. 37a (April 2015).",
        "He had a 3/12 history of cough, mum says. Review in 6/52.",
        "Of my moles 53% (10/19) were fine.",
    ],
)
def test_scores_shares_and_doses_are_no_days(text: str) -> None:
    assert dates_of(text) == []


@pytest.mark.parametrize(
    "written", ["12-14 May 2023", "May 12-14, 2023", "7.III.1985", "12.-14.5.2023", "2023-05-12T14:30:22Z"]
)
def test_all_days_of_a_date_move_together(written: str) -> None:
    for seed in range(20):
        made = same_form(written, "date", random.Random(seed))
        before, after = (max(dates_in(Text(date), in_any_form=True), key=_length) for date in (written, made))
        assert len(after.others) == len(before.others), made
        assert made != written
        assert "14:30:22Z" not in written or made.endswith("T14:30:22Z")


def test_the_ending_of_a_moved_day_fits_its_number() -> None:
    for seed in range(20):
        made = same_form("22nd Jan 2000", "date", random.Random(seed))
        assert re.match(r"(?:2?1st|31st|2?2nd|2?3rd|(?:[4-9]|1\d|2[04-9]|30)th) ", made), made


def test_a_day_without_a_year_does_not_stay() -> None:
    assert all(same_form("4. August", "date", random.Random(seed)) != "4. August" for seed in range(500))


def _length(date: WrittenDate) -> int:
    return date.end - date.start
