"""What comes back, damaged or mismatched in every way: each has its message, and what is valid still counts."""

import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helpers.reviews import given_back, make, measured_run
from medqa_cli.errors import InputError
from medqa_cli.review.judgments import KEY_NAME, Judgment, Key, read_judgments, read_key
from medqa_cli.review.returned import check_of


@pytest.fixture(scope="module")
def review(tmp_path_factory: pytest.TempPathFactory) -> tuple[Key, Path]:
    key, made = make(measured_run(tmp_path_factory.mktemp("review")))
    return key, Path(made["key"])


@pytest.fixture
def key(review: tuple[Key, Path]) -> Key:
    return review[0]


def read(key: Key, path: Path, *others: Path) -> tuple[list[Judgment], list[str]]:
    """Read a file of anna's beside a good one of ben's; return anna's judgments and what was said of them."""
    ben = path.parent / "review-ben.json"
    ben.write_text(json.dumps(given_back(key, "ben")))
    judgments, problems = read_judgments([ben, path, *others], key)
    assert [own.pair for own in judgments if own.pair.rater == "ben"] == key.pairs_of("ben")
    return [own for own in judgments if own.pair.rater == "anna"], problems


def saved(key: Key, folder: Path, change: Callable[[dict[str, Any]], Any] = lambda value: None, name: str = "") -> Path:
    """Write what anna's page saves, changed."""
    value = given_back(key, "anna")
    change(value)
    path = folder / (name or "review-anna.json")
    path.write_text(json.dumps(value))
    return path


# What makes a file useless as a whole: its content (None: the file is missing), and what is said of it.
USELESS: dict[str, tuple[Callable[[Key], bytes | None], str]] = {
    "missing": (lambda key: None, "cannot be read: No such file"),
    "empty": (lambda key: b"", "is empty (0 bytes)"),
    "the page instead": (lambda key: b"<!DOCTYPE html>\n<html>", "is a web page, not what it saved"),
    "cut off": (lambda key: json.dumps(given_back(key, "anna")).encode()[:-40], "is damaged: "),
    "no JSON": (lambda key: b"I liked X", "is damaged: Expecting value"),
    "no text": (lambda key: b'{"rater": "\xff\xfe"}', "is no text: byte 11 is not UTF-8"),
    "a list": (lambda key: b"[1, 2]", "is no file that a review page saved"),
    "other JSON": (lambda key: b'{"figures": 3}', "is no file that a review page saved"),
    "deep": (lambda key: b"[" * 100_000, "is damaged: "),
    "the key": (lambda key: json.dumps(key.as_json()).encode(), "is the key of the review, which stays with you"),
    "another review": (
        lambda key: json.dumps(given_back(key, "anna", review="0123456789abcdef")).encode(),
        "belongs to another review ('0123456789abcdef')",
    ),
    "another format": (
        lambda key: json.dumps(given_back(key, "anna", format_version=2)).encode(),
        "has format 2; this medqa reads format 1",
    ),
    "a format that equals one": (
        lambda key: json.dumps(given_back(key, "anna", format_version=True)).encode(),
        "has format True; this medqa reads format 1",
    ),
    "an unknown rater": (
        lambda key: json.dumps(given_back(key, "anna", rater="carl")).encode(),
        "is by 'carl', who is no rater of this review ('anna', 'ben')",
    ),
    "a rater of another type": (
        lambda key: json.dumps(given_back(key, "anna", rater=["anna"])).encode(),
        "is damaged: rater must be a name",
    ),
    "pairs of another type": (
        lambda key: json.dumps(given_back(key, "anna", pairs={"id": 1})).encode(),
        "is damaged: rater must be a name and pairs a list",
    ),
}


@pytest.mark.parametrize("case", USELESS)
def test_a_useless_file_is_named_and_the_other_rater_counts(key: Key, tmp_path: Path, case: str) -> None:
    make_content, message = USELESS[case]
    path = tmp_path / "review-anna.json"
    content = make_content(key)
    if content is not None:
        path.write_bytes(content)
    judgments, problems = read(key, path)
    assert judgments == []
    assert len(problems) == 2
    assert problems[0].startswith(f"{path} {message}")
    assert "not counted" in problems[0]
    assert problems[1] == "anna has given back nothing: 8 questions are not rated"


def test_a_folder_and_a_pipe_are_named(key: Key, tmp_path: Path) -> None:
    (tmp_path / "folder.json").mkdir()
    os.mkfifo(tmp_path / "pipe.json")
    judgments, problems = read(key, tmp_path / "folder.json", tmp_path / "pipe.json")
    assert judgments == []
    assert [problem.split("/")[-1][:25] for problem in problems[:2]] == [
        "folder.json is a folder; ",
        "pipe.json is a pipe; expe",
    ]


# What is wrong with one entry, the first, and what is said; whether the rest of this entry still counts.
WRONG: dict[str, tuple[Callable[[dict[str, Any]], Any], str, bool]] = {
    "no object": (lambda value: value["pairs"].__setitem__(0, 7), "no judgment with the id of a pair: left out", False),
    "no id": (lambda value: value["pairs"][0].pop("id"), "no judgment with the id of a pair: left out", False),
    "unknown id": (lambda value: value["pairs"][0].update(id="abc"), "no pair of this review has this id", False),
    "unknown criterion": (
        lambda value: value["pairs"][0]["x"].update(kind=True),
        "x has the unknown criterion 'kind': not counted",
        True,
    ),
    "yes as a word": (
        lambda value: value["pairs"][0]["x"].update(could_harm="yes"),
        "x.could_harm is 'yes'; expected true, false or null: not counted",
        True,
    ),
    "one for yes": (
        lambda value: value["pairs"][0]["y"].update(correct=1),
        "y.correct is 1; expected true, false or null: not counted",
        True,
    ),
    "criteria in a list": (
        lambda value: value["pairs"][0].update(y=[True] * 5),
        "y is [True, True, True, True, True]; expected yes or no by criterion: not counted",
        True,
    ),
    "unknown verdict": (
        lambda value: value["pairs"][0].update(better="z"),
        "better is 'z'; expected x, y, equal or null: not counted",
        True,
    ),
    "verdict of another type": (
        lambda value: value["pairs"][0].update(better=["x"]),
        "better is ['x']; expected x, y, equal or null: not counted",
        True,
    ),
    "a verdict that cannot be": (
        lambda value: value["pairs"][0].update(cannot_judge=True),
        "says both which answer is better and that the rater cannot judge: left out",
        False,
    ),
    "cannot as a number": (
        lambda value: value["pairs"][0].update(cannot_judge=0),
        "cannot_judge is 0; expected true or false: not counted",
        True,
    ),
    "remark of another type": (
        lambda value: value["pairs"][0].update(remark={"a": 1}),
        "remark is {'a': 1}; expected a text: not counted",
        True,
    ),
    "negative seconds": (
        lambda value: value["pairs"][0].update(seconds=-1),
        "seconds is -1; expected a number from 0 to 10,000,000: not counted",
        True,
    ),
    "endless seconds": (
        lambda value: value["pairs"][0].update(seconds=float("inf")),
        "seconds is inf; expected a number from 0 to 10,000,000: not counted",
        True,
    ),
    "seconds without end": (
        lambda value: value["pairs"][0].update(seconds=10**400),
        "expected a number from 0 to 10,000,000: not counted",
        True,
    ),
    "changed after it was saved": (
        lambda value: value["pairs"][0].update(check="00000000"),
        "changed after it was saved, or damaged: left out",
        False,
    ),
    "checksum of another type": (
        lambda value: value["pairs"][0].update(check=[]),
        "changed after it was saved, or damaged: left out",
        False,
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_entry_is_named_and_the_others_count(key: Key, tmp_path: Path, case: str) -> None:
    change, message, rest_counts = WRONG[case]
    path = saved(key, tmp_path, change)
    judgments, problems = read(key, path)
    assert [own.pair for own in judgments] == key.pairs_of("anna")[0 if rest_counts else 1 :]
    assert problems[0].startswith(f"{path}, entry 1")
    assert problems[0].split(": ", 1)[1].startswith(message) or message in problems[0]
    missing = [] if rest_counts else ["anna: question 1 of 8 not rated"]
    undecided = ["anna: question 1 of 8 without a better answer: taken as cannot judge"] if "verdict" in case else []
    assert problems[1:] == (missing or (undecided if rest_counts else []))
    if rest_counts:
        first = judgments[0]
        expected = given_back(key, "anna")["pairs"][0]
        same = [
            first.x == expected["x"],
            first.y == expected["y"],
            first.better == "x",
            first.seconds == 12.3,
        ]
        # Nothing but the wrong value is lost.
        assert same.count(False) <= 1


def test_what_is_said_of_an_odd_id_can_be_written_and_shown(key: Key, tmp_path: Path) -> None:
    path = saved(key, tmp_path, lambda value: value["pairs"][0].update(id="\ud800\x1b[31m"))
    _, problems = read(key, path)
    assert problems[0] == f"{path}, entry 1 (\ufffd\ufffd[31m): no pair of this review has this id: left out"


def test_a_pair_of_another_rater_is_left_out(key: Key, tmp_path: Path) -> None:
    of_ben = given_back(key, "ben")["pairs"][0]
    path = saved(key, tmp_path, lambda value: value["pairs"].append(of_ben))
    judgments, problems = read(key, path)
    assert len(judgments) == 8
    assert problems == [f"{path}, entry 9 ({of_ben['id']}): a pair of ben, in a file of anna: left out"]


def test_a_pair_that_stands_twice_in_a_file_counts_once(key: Key, tmp_path: Path) -> None:
    path = saved(key, tmp_path, lambda value: value["pairs"].append({**value["pairs"][2], "better": "y"}))
    judgments, problems = read(key, path)
    assert [own.better for own in judgments] == ["x"] * 8
    assert problems == [
        f"{path}, entry 9 ({judgments[2].pair.id}): a second judgment of this pair in the file: left out"
    ]


def test_missing_and_half_filled_questions_are_counted(key: Key, tmp_path: Path) -> None:
    def change(value: dict[str, Any]) -> None:
        empty = dict.fromkeys(key.form.ids)
        value["pairs"][0] = None
        value["pairs"][1] |= {"x": empty, "y": {}, "better": None}
        value["pairs"][2] |= {"better": None}
        value["pairs"][3] |= {"better": None, "cannot_judge": True}
        value["pairs"][4] |= {"x": {"correct": True}}
        del value["pairs"][7]

    judgments, problems = read(key, saved(key, tmp_path, change))
    assert [own.pair for own in judgments] == key.pairs_of("anna")[2:7]
    assert [own.better for own in judgments] == [None, None, "x", "x", "x"]
    assert dict(judgments[2].x) == {**dict.fromkeys(key.form.ids), "correct": True}
    assert problems == [
        "anna: 3 questions (1, 2, 8) of 8 not rated",
        "anna: question 3 of 8 without a better answer: taken as cannot judge",
    ]


def test_a_remark_alone_is_not_lost(key: Key, tmp_path: Path) -> None:
    def change(value: dict[str, Any]) -> None:
        value["pairs"][0] |= {"x": {}, "y": {}, "better": None, "remark": "Both are odd \ud800."}

    judgments, _ = read(key, saved(key, tmp_path, change))
    assert judgments[0].remark == "Both are odd \ufffd."


def test_the_same_file_twice_is_read_once(key: Key, tmp_path: Path) -> None:
    path = saved(key, tmp_path)
    (tmp_path / "link.json").symlink_to(path)
    judgments, problems = read(key, path, tmp_path / "link.json")
    assert len(judgments) == 8
    assert problems == [f"{tmp_path / 'link.json'} is named twice: read once"]


def test_of_two_files_of_a_rater_each_pair_counts_once_and_the_later_one_where_they_differ(
    key: Key, tmp_path: Path
) -> None:
    def first(value: dict[str, Any]) -> None:
        value["saved"] = "2026-12-01T09:00:00.000Z"
        value["pairs"] = value["pairs"][:5]

    def second(value: dict[str, Any]) -> None:
        value["saved"] = "2026-12-01T10:00:00.000Z"
        value["pairs"] = value["pairs"][1:]
        value["pairs"][0] |= {"better": "y"}

    early, late = saved(key, tmp_path, first), saved(key, tmp_path, second, "review-anna (1).json")
    for paths in ((early, late), (late, early)):
        judgments, problems = read(key, *paths)
        assert [own.pair for own in judgments] == key.pairs_of("anna")
        assert [own.better for own in judgments] == ["x", "y", *"xxxxxx"]
        assert problems == [
            f"2 files of anna ({early}, {late}): 4 pairs stand in several and count once; 1 of them differ, and the "
            "later file counts"
        ]


@pytest.mark.parametrize("time", [{}, {"saved": "2026-12-01T09:00:00.000Z"}, {"saved": 7}])
def test_two_files_that_differ_and_do_not_tell_which_is_later_lose_only_what_differs(
    key: Key, tmp_path: Path, time: dict[str, Any]
) -> None:
    def other(value: dict[str, Any]) -> None:
        value |= time
        value["pairs"][3] |= {"better": "equal"}

    paths = saved(key, tmp_path, lambda value: value.update(time)), saved(key, tmp_path, other, "other.json")
    judgments, problems = read(key, *paths)
    assert [own.pair for own in judgments] == [pair for number, pair in enumerate(key.pairs_of("anna")) if number != 3]
    assert "8 pairs stand in several and count once" in problems[0]
    assert problems[1].endswith("judged in two ways in two files, none of which is later: left out")
    assert problems[2] == "anna: question 4 of 8 not rated"


def test_a_file_with_a_time_is_not_later_than_one_without(key: Key, tmp_path: Path) -> None:
    def timed(value: dict[str, Any]) -> None:
        value["saved"] = "2026-12-01T09:00:00.000Z"

    def untimed(value: dict[str, Any]) -> None:
        value.pop("saved", None)
        value["pairs"][3] |= {"better": "equal"}

    judgments, problems = read(key, saved(key, tmp_path, timed), saved(key, tmp_path, untimed, "other.json"))
    assert len(judgments) == 7
    assert problems[1].endswith("judged in two ways in two files, none of which is later: left out")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_file_that_an_editor_saved_in_another_encoding_is_read(key: Key, tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "review-anna.json"
    path.write_text(json.dumps(given_back(key, "anna"), ensure_ascii=False), encoding=encoding)
    assert len(read(key, path)[0]) == 8


ODD: tuple[Any, ...] = (None, True, 0, -1, 10**400, float("nan"), "", "x", "yes", "\ud800", "\x00", [], {}, ["x"])


def damaged(value: Any, rng: random.Random) -> Any:
    """Return the value with one odd value somewhere in it, or one part missing."""
    if isinstance(value, dict) and value:
        name = rng.choice(list(value))
        rest = {key: part for key, part in value.items() if key != name}
        return rest if rng.random() < 0.1 else {**rest, name: damaged(value[name], rng)}
    if isinstance(value, list) and value:
        index = rng.randrange(len(value))
        return [*value[:index], damaged(value[index], rng), *value[index + 1 :]]
    return rng.choice(ODD)


def test_odd_values_anywhere_end_in_judgments_and_sentences_never_in_an_error(key: Key, tmp_path: Path) -> None:
    rng = random.Random(5)
    num_used = 0
    for _ in range(300):
        path = tmp_path / "review-anna.json"
        value = given_back(key, "anna")
        value["pairs"] = damaged(damaged(value["pairs"], rng), rng)
        path.write_text(json.dumps(value if rng.random() < 0.9 else damaged(value, rng)))
        judgments, problems = read_judgments([path], key)
        num_used += len(judgments)
        assert len({judgment.pair.id for judgment in judgments}) == len(judgments)
        for judgment in judgments:
            assert {*judgment.x.values(), *judgment.y.values()} <= {True, False, None}
            assert judgment.better in ("x", "y", "equal", None)
            judgment.remark.encode()
        "".join(problems).encode()
    # Most damage leaves the other seven pairs alone.
    assert 300 * 6 < num_used < 300 * 8


def test_a_right_checksum_is_taken_and_any_change_of_what_was_said_breaks_it(key: Key) -> None:
    entry = given_back(key, "anna")["pairs"][0]
    check = check_of(entry)
    assert check_of({**entry, "seconds": 99, "check": "x"}) == check
    changes: list[dict[str, Any]] = [
        {"id": "other"},
        {"x": {**entry["x"], "correct": False}},
        {"x": {**entry["x"], "correct": None}},
        {"y": {**entry["y"], "would_give": True}},
        {"better": "y"},
        {"better": None},
        {"cannot_judge": True},
        {"remark": "ä"},
    ]
    assert len({check, *(check_of({**entry, **change}) for change in changes)}) == 1 + len(changes)


def test_key_reads_back_as_it_was_written(review: tuple[Key, Path]) -> None:
    key, path = review
    value = json.loads(path.read_text())
    assert key.as_json() == value
    assert set(value) >= {"format_version", "review", "criteria", "models", "raters", "pairs", "samples", "prompt"}


BAD_KEYS: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "another format": (lambda value: value.update(format_version=9), "has format 9; this medqa reads format 1"),
    "no pairs": (lambda value: value.pop("pairs"), "is not the key of a review"),
    "no criteria": (lambda value: value.pop("criteria"), "is damaged: KeyError: 'criteria'"),
    "an answer changed": (
        lambda value: value["samples"][value["pairs"][0]["question_id"]].update(base="Other.", adapter="Other."),
        "was changed: the answers of",
    ),
    "sides swapped": (
        lambda value: value["pairs"][0].update(x=value["pairs"][0]["y"], y=value["pairs"][0]["x"]),
        "was changed: the answers of",
    ),
    "a question lost": (lambda value: value["samples"].clear(), "is damaged: KeyError"),
    "an unknown rater": (lambda value: value["pairs"][0].update(rater="eve"), "was changed: the answers of"),
    "an id twice": (
        lambda value: value["pairs"][1].update(id=value["pairs"][0]["id"]),
        "is damaged: ValueError: two pairs have the same id",
    ),
    "an id of another type": (lambda value: value["pairs"][1].update(id=[]), "is damaged: TypeError"),
    "an answer nobody sees": (lambda value: value["samples"].update(other=1.5), "is damaged: AttributeError"),
    "good as a word": (lambda value: value["criteria"][0].update(good="yes"), "is damaged: TypeError"),
    "models of another type": (lambda value: value.update(models=[1, 2]), "is damaged: TypeError"),
}


@pytest.mark.parametrize("case", BAD_KEYS)
def test_a_damaged_key_has_its_message(review: tuple[Key, Path], tmp_path: Path, case: str) -> None:
    change, message = BAD_KEYS[case]
    value = json.loads(review[1].read_text())
    change(value)
    path = tmp_path / KEY_NAME
    path.write_text(json.dumps(value))
    with pytest.raises(InputError) as caught:
        read_key(path)
    assert message in caught.value.message
    assert caught.value.hint


def test_a_missing_key_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no review") as caught:
        read_key(tmp_path / KEY_NAME)
    assert "medqa review make" in caught.value.hint
