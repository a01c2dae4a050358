"""What spares a text the slow patterns never spares it one that would have found something."""

import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from medqa_cli.data.identifiers import addresses, contacts, finding, names, numbers, written_dates
from medqa_cli.data.identifiers.finding import find_in_row
from medqa_cli.data.identifiers.name_cues import CUE_NEEDS, SMALL_NEEDS, all_cues, possible_cues, stands_before
from medqa_cli.data.identifiers.text import Text
from medqa_cli.data.identifiers.word_tables import known_words, months
from medqa_cli.resources import load_yaml

AT_NUMBERS = [
    *((pattern, before) for pattern, before, _ in contacts._PHONES),
    (contacts._IPV4, (0,)),
    *((pattern, before) for pattern, before, _, _ in (*numbers._OF_DIGITS, *numbers._OF_LETTERS)),
    *((pattern, (0,)) for pattern in (written_dates._NUMERIC, written_dates._MONTH_YEAR, written_dates._DAY_MONTH)),
    (addresses._ZIP, (0,)),
    (addresses._UK, (1, 2)),
    (addresses._CANADA, (1,)),
]
_NUMBERS = (
    "617-555-0142", "+44 20 7946 0958", "0049 30 123456", "(030) 1234567", "123-45-6789", "AB 12 34 56 C",
    "1 85 03 75 123 456 78", "X-1234567 L", "4111 1111 1111 1111", "DE89 3704 0044 0532 0130 00",
    "(01)12345678901234(21)A1", "1EG4-TE5-MK73", "RSSMRA85T10A562S", "3/4/1985", "1985-03-04", "3/1985", "3/14",
    "02139-1234", "SW1A 1AA", "K1A 0B6", "203.0.113.7", "555-0142",
)  # fmt: skip
NUMBERS = st.sampled_from(_NUMBERS)
PARTS = st.sampled_from(
    [*"0123456789", *"0017", *"ABCDXYZ", *"  --./()+:x\né", "19", "123", "555", "0142"]
)  # fmt: skip


def test_each_cue_has_its_needs_in_the_order_of_the_cues() -> None:
    assert tuple(load_yaml("identifiers")["cue_needs"]) == all_cues()
    assert set(load_yaml("identifiers")["small_needs"]) == set(load_yaml("identifiers")["sure_signs"])


@pytest.mark.parametrize("cue", all_cues())
def test_a_cue_that_stands_before_a_place_is_a_possible_one(cue: str) -> None:
    words = "".join(load_yaml("identifiers")["name_cues"][cue].splitlines())
    seen = 0

    @settings(max_examples=60, deadline=None, database=None, derandomize=True)
    @given(st.from_regex(re.compile(words), fullmatch=True))
    def check(written: str) -> None:
        nonlocal seen
        # Most white space that is drawn is none that texts have.
        spaced = re.sub(r"[^\S\n]", " ", written)
        text = Text(f"Well, {spaced}Zofia")
        is_one = stands_before(text, cue, len(text.text) - len("Zofia"))
        if is_one and "lll" not in written:  # counselllor ends no cue
            seen += 1
            assert cue in possible_cues(text, CUE_NEEDS), written

    check()
    assert seen


@pytest.mark.parametrize(
    ("text", "cue"),
    [
        ("mrs kowalczyk coughs", "title"),
        ("attention nurse kowalczyk", "title"),
        ("a man called zofia", "named"),
        ("the nurse whose name is zofia", "named"),
        ("is it bad? thanks,\nzofia", "closing"),
        ("hi, zofia here, it hurts", "greeting"),
        ("my niece zofia has a cough", "relation"),
        ("i’m zofia, 34, and cough", "iam"),
        ("nurse zofia told me", "the_person"),
        ("seen by: zofia kowalczyk.", "role"),
        ("attn zofia kowalczyk dob", "role"),
        ("ask for zofia at the desk", "role"),
        ("from: zofia kowalczyk, to: me", "role"),
        ("my names zofia", "self"),
        ("name: zofia", "self"),
        ("mein name ist zofia", "foreign"),
        ("mam na imię zofia", "foreign"),
    ],
)
def test_a_cue_before_a_name_in_small_letters_is_a_possible_one(text: str, cue: str) -> None:
    assert any(find.kind == "name" for find in find_in_row(text, ""))
    assert cue in possible_cues(Text(text), SMALL_NEEDS)


@settings(max_examples=150, deadline=None, database=None, derandomize=True)
@given(st.lists(st.one_of(NUMBERS, PARTS), max_size=12).map("".join))
def test_a_pattern_is_matched_at_numbers_as_by_a_search(text: str) -> None:
    for pattern, before in AT_NUMBERS:
        expected = [found.span() for found in pattern.finditer(text)]
        assert [found.span() for found in Text(text).matches(pattern, *before)] == expected, pattern


def test_each_pattern_that_is_matched_at_numbers_matches_one_of_those_alone() -> None:
    for text in _NUMBERS:
        for pattern, before in AT_NUMBERS:
            expected = [found.span() for found in pattern.finditer(text)]
            assert [found.span() for found in Text(text).matches(pattern, *before)] == expected, (pattern, text)
    missing = [pattern for pattern, _ in AT_NUMBERS if not any(map(pattern.search, _NUMBERS))]
    assert not missing


DATE_PARTS = st.sampled_from(
    [*sorted(months()), "March", "May", "MAY", "third", "twenty-third", "twenty third", "3rd", "3.", "3º", "14", "1985",
     "'85", "of", "de", "the", "in", "nineteen", "ninety-nine", "was", "symptoms", "include", ",", ".", "-", "\n"]
)  # fmt: skip


@settings(max_examples=400, deadline=None, database=None, derandomize=True)
@given(st.lists(DATE_PARTS, min_size=2, max_size=9).map(" ".join))
@example("May the third")
@example("the third of May")
@example("3. märz")
@example("March of nineteen ninety-nine")
@example("in June, twenty oh five")
def test_dates_are_the_same_whatever_stands_beside_the_month(text: str) -> None:
    found = list(written_dates.dates_in(Text(text)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(written_dates, "_may_be_of_date", lambda *place: True)
        assert list(written_dates.dates_in(Text(text))) == found


SENTENCE_PARTS = st.sampled_from(
    [*"abcABx7", "Maria", "mr.", "Dr.", "MD.", "Mrs.", "friends.", "arms.", "end.", "Prof.", *"?!([- \"", "\n", "  "]
)  # fmt: skip


@settings(max_examples=300, deadline=None, database=None, derandomize=True)
@given(st.lists(SENTENCE_PARTS, max_size=12).flatmap(lambda parts: st.sampled_from([" ".join(parts), "".join(parts)])))
def test_capitals_within_a_sentence_are_those_of_the_pattern(text: str) -> None:
    expected = {found.end() for found in names._LARGE_WORD.finditer(text)}
    found = names._large_words(Text(text), all_cues())
    assert len(found) == len(set(found))
    assert set(found) <= expected
    # Those it passes over stand behind a full stop that ends no last word of a cue.
    assert all(text[place - 2] == "." for place in expected - set(found))
    if Text(text).words & names._abbreviations(all_cues()):
        assert set(found) == expected


@settings(max_examples=200, deadline=None, database=None, derandomize=True)
@given(st.lists(st.one_of(st.sampled_from(sorted(known_words())), NUMBERS, SENTENCE_PARTS), max_size=10).map(" ".join))
def test_a_text_that_is_passed_over_as_a_whole_has_no_finds(text: str) -> None:
    found = finding.find_in_row(text, text.capitalize())
    with pytest.MonkeyPatch.context() as patch:
        for gate in ("_may_hold_more", "_may_hold_names", "may_have_dates"):
            patch.setattr(finding, gate, lambda text: True)
        assert finding.find_in_row(text, text.capitalize()) == found


@settings(max_examples=200, deadline=None, database=None, derandomize=True)
@given(st.text(st.sampled_from("abzABZ09 .,'-/_\n\t\x1c’éßİ"), max_size=40))
def test_words_are_all_between_other_signs_in_any_text(text: str) -> None:
    words = {word for word in re.findall(r"[^\W_]+", Text(text).lower) if word in known_words()}
    assert Text(text).words == words
