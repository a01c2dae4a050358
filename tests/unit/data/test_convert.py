"""The whole of ``medqa convert``: counts, files, repeatability, what it refuses to overwrite, what is read back."""

import csv
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from helpers.commands import Outcome, draw_no_lengths
from helpers.paths import SHARED_DATA
from medqa_cli import console
from medqa_cli.config.schema import DataConfig
from medqa_cli.data import convert as conversion
from medqa_cli.data import row_work, splitting
from medqa_cli.data.cleaning.rules import RULES
from medqa_cli.data.convert import convert
from medqa_cli.data.dataset import QaRow, read_split
from medqa_cli.data.normalize import normalize
from medqa_cli.data.report import check_counts, show
from medqa_cli.data.retrieval import PassageIndex
from medqa_cli.data.token_lengths import TokenLengths, percentile
from medqa_cli.errors import InputError, MedqaError
from medqa_cli.prompt.given import NOTHING, Given

FILES = [
    "README.md",
    "index.sqlite",
    "lengths.png",
    "rejected.jsonl",
    "report.json",
    "test.jsonl",
    "train.jsonl",
    "validation.jsonl",
]
SPLITS = ("train", "validation", "test")
NONE = {"question": 0, "answer": 0, "near_duplicate_answer": 0, "topic": 0}
UNKNOWN = {**NONE, "topic": None}  # nearly every topic occurs once
MEDQUAD = SHARED_DATA / "medquad/medquad_two_columns.csv"


@pytest.fixture(autouse=True)
def no_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    """The picture has tests of its own, and takes longer to draw than most sources here to convert."""
    monkeypatch.setattr("medqa_cli.data.token_lengths.draw_lengths", draw_no_lengths)


def render(question: str, answer: str, given: Given = NOTHING) -> str:
    return f"<{question}>{answer}"


def count_words(texts: Sequence[str]) -> list[int]:
    return [len(text.split()) for text in texts]


def run(source: Path, out_dir: Path, seed: int = 42, force: bool = False, **data: Any) -> dict[str, Any]:
    return convert([str(source)], DataConfig(**data), seed, render, TokenLengths(count_words, 8), out_dir, force=force)


def write_csv(path: Path, rows: Sequence[Sequence[str]], header: Sequence[str] = ("question", "answer")) -> Path:
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]


@pytest.fixture
def messy(tmp_path: Path) -> Path:
    """A hundred good rows and each kind of bad one."""
    rows = [[f" What  is disease {i}?", f"It is\xa0number {i} – of  many."] for i in range(100)]
    rows[10:10] = [
        ["", "no question"],
        ["no answer", "  "],
        ["missing", "NaN"],
        ["what is disease 3", "It is number 3 of many"],
        ["nul", "a\0b"],
        ["ragged"],
        ["ragged", "a", "b"],
    ]
    return write_csv(tmp_path / "messy.csv", rows)


def test_each_row_is_in_a_split_or_rejected(messy: Path, tmp_path: Path) -> None:
    report = run(messy, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == FILES
    assert report == json.loads((tmp_path / "out/report.json").read_text())
    assert list(report) == [
        "source",
        "rows",
        "splits",
        "paraphrases",
        "topics",
        "encoding",
        "languages",
        "identifiers",
        "cleaning",
        "leakage",
        "short_answers",
        "tokens",
        "seconds",
        "stage_seconds",
    ]
    assert report["rows"] == {
        "read": 107,
        "kept": 100,
        "rejected": {
            "empty_answer": 2,
            "empty_question": 1,
            "exact_duplicate": 1,
            "nul_byte": 1,
            "ragged_row": 2,
        },
    }
    assert report["splits"] == {"train": 85, "validation": 5, "test": 10}
    assert {rule: count for rule, count in report["cleaning"].items() if count} == {"whitespace": 100}
    doubt = "100 of 100 topics occur on one row only (100 rows)"
    assert report["topics"] == {
        "column": None,
        "pages": False,
        "from_questions": 100,
        "known": 100,
        "distinct": 100,
        "once": 100,
        "doubt": doubt,
    }
    kept = {split: lines_of(tmp_path / "out" / f"{split}.jsonl") for split in report["splits"]}
    assert {split: len(rows) for split, rows in kept.items()} == report["splits"]
    questions = [row["question"] for rows in kept.values() for row in rows]
    assert sorted(questions) == sorted(f"What is disease {i}?" for i in range(100))
    rejected = lines_of(tmp_path / "out/rejected.jsonl")
    assert [row["row"] for row in rejected] == [11, 12, 13, 14, 15, 16, 17]
    assert list(rejected[0]) == ["row", "reason", "question", "answer", "line"]
    assert rejected[1] == {"row": 12, "reason": "empty_answer", "question": "no answer", "answer": "  ", "line": 13}
    assert rejected[4]["answer"] == "a\0b"
    assert rejected[6]["text"] == "ragged,a,b"


def test_the_written_rows(messy: Path, tmp_path: Path) -> None:
    run(messy, tmp_path / "out")
    content = (tmp_path / "out/train.jsonl").read_bytes()
    assert b"\r" not in content
    assert "–".encode() in content
    rows = lines_of(tmp_path / "out/train.jsonl")
    assert list(rows[0]) == ["id", "question", "answer", "topic", "source", "text"]
    assert rows[0]["text"] == render(rows[0]["question"], rows[0]["answer"])
    assert (rows[0]["topic"], rows[0]["source"]) == (rows[0]["question"][8:-1], "messy.csv")
    numbers = [int(row["question"].split()[-1][:-1]) for row in rows]
    assert numbers == sorted(numbers)
    assert len({row["id"] for row in rows}) == len(rows) == 85
    assert {len(row["id"]) for row in rows} == {16}


def test_same_input_config_and_seed_give_the_same_bytes(messy: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        run(messy, tmp_path / name, max_rows=60)
    run(messy, tmp_path / "other", seed=7, max_rows=60)
    for name, seed in (("whole", 42), ("whole, split otherwise", 7)):
        run(messy, tmp_path / name, seed=seed)
    for name in set(FILES) - {"report.json"}:
        content = (tmp_path / "one" / name).read_bytes()
        assert content
        assert content == (tmp_path / "two" / name).read_bytes()
    # Another seed draws other rows, and splits the same rows otherwise.
    drawn, drawn_otherwise, whole, split_otherwise = (
        {split: {row["id"] for row in lines_of(tmp_path / name / f"{split}.jsonl")} for split in SPLITS}
        for name in ("one", "other", "whole", "whole, split otherwise")
    )
    assert set().union(*drawn.values()) != set().union(*drawn_otherwise.values())
    assert set().union(*whole.values()) == set().union(*split_otherwise.values())
    assert whole["test"] != split_otherwise["test"]
    reports = [json.loads((tmp_path / name / "report.json").read_text()) for name in ("one", "two")]
    for report in reports:
        assert report.pop("seconds") >= sum(report.pop("stage_seconds").values()) - 0.1
    assert reports[0] == reports[1]


def test_rows_not_drawn_are_rejected_with_their_raw_text(messy: Path, tmp_path: Path) -> None:
    report = run(messy, tmp_path / "out", max_rows=60)
    assert report["rows"]["kept"] == 60
    assert report["rows"]["rejected"]["not_sampled"] == 40
    assert sum(report["rows"]["rejected"].values()) == 47
    rejected = lines_of(tmp_path / "out/rejected.jsonl")
    assert [row["row"] for row in rejected] == sorted(row["row"] for row in rejected)
    not_sampled = [row for row in rejected if row["reason"] == "not_sampled"]
    assert not_sampled[0]["question"].startswith(" What  is disease")


def rows_of_topics(topics: Sequence[object]) -> list[list[object]]:
    return [
        [f"What are the symptoms of illness{number // 2}?", f"Sign {number} of it, told in a sentence.", topic]
        for number, topic in enumerate(topics)
    ]


@pytest.mark.parametrize("missing", ["", " ", "null", "n/a", r"\n"])
def test_a_topic_that_is_missing_in_its_column_is_found_in_the_question(missing: str, tmp_path: Path) -> None:
    given = [missing if number % 3 == 0 else f"Illness{number // 2}" for number in range(120)]
    source = tmp_path / "in.csv"
    with open(source, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["question", "answer", "topic"], *rows_of_topics(given)])
    report = run(source, tmp_path / "out")
    kept = {split: lines_of(tmp_path / f"out/{split}.jsonl") for split in ("train", "validation", "test")}
    assert report["topics"]["column"] == "topic"
    assert report["topics"]["from_questions"] == 40
    assert (report["topics"]["known"], report["topics"]["distinct"]) == (120, 60)
    for rows in kept.values():
        # Both rows of an illness stand in one split, whether the column or the question names it.
        assert set(Counter(row["topic"].lower() for row in rows).values()) == {2}


def test_topics_of_rows_that_lack_the_key_are_found_in_the_questions(tmp_path: Path) -> None:
    rows = [dict(zip(("question", "answer", "topic"), row, strict=True)) for row in rows_of_topics(["x"] * 40)]
    for number, row in enumerate(rows):
        row["topic"] = None if number % 4 == 1 else f"illness{number // 2}"
        if number % 4 == 3:
            del row["topic"]
    source = tmp_path / "in.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    report = run(source, tmp_path / "out")
    assert report["topics"]["from_questions"] == 20
    assert (report["topics"]["known"], report["topics"]["distinct"]) == (40, 20)


def test_a_column_with_one_topic_and_gaps_is_no_column_of_topics(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "in.csv"
    with open(source, "w", encoding="utf-8", newline="") as file:
        given = ["" if number % 5 == 0 else "general" for number in range(100)]
        csv.writer(file).writerows([["question", "answer", "topic"], *rows_of_topics(given)])
    report = run(source, tmp_path / "out")
    assert report["topics"] == {
        "column": None,
        "pages": False,
        "from_questions": 100,
        "known": 100,
        "distinct": 50,
        "once": 0,
        "doubt": None,
    }
    assert "holds the same topic on all 80 rows that name one" in " ".join(capsys.readouterr().err.split())


def test_copies_of_an_answer(tmp_path: Path) -> None:
    recessive = "It is autosomal recessive: both copies of the gene in each cell have to be changed. The parents of a "
    recessive += "person with it each carry one changed copy and show no signs."
    rows = [[f"Is disease {i} inherited?", recessive] for i in range(40)]
    rows += [[f"What causes disease {i}?", f"Cause number {i}."] for i in range(40)]
    source = write_csv(tmp_path / "copies.csv", rows)
    report = run(source, tmp_path / "out", test_fraction=0.25, validation_fraction=0.1)
    assert report["rows"]["rejected"]["over_copy_limit"] == 20  # the default keeps 20
    # 60 rows of 40 diseases; of the 20 copies only those stay that the test split took.
    rejected = {**report["rows"]["rejected"], "over_copy_limit": 0}
    assert set(rejected) == {"near_duplicate_of_test", "over_copy_limit"}
    test = lines_of(tmp_path / "out/test.jsonl")
    copies = sum(row["answer"] == recessive for row in test)
    assert 0 < copies == 20 - report["rows"]["rejected"]["near_duplicate_of_test"]
    assert report["leakage"] == {"test": UNKNOWN, "validation": UNKNOWN}
    limited = run(source, tmp_path / "limited", max_copies_of_an_answer=12)
    assert limited["rows"]["rejected"]["over_copy_limit"] == 28
    unlimited = run(source, tmp_path / "unlimited", max_copies_of_an_answer=None)
    assert "over_copy_limit" not in unlimited["rows"]["rejected"]


def test_answers_that_are_all_equal_leave_nothing_to_train_on(tmp_path: Path) -> None:
    source = write_csv(
        tmp_path / "same.csv", [[f"Is disease {i} inherited?", f"Yes, {'it is ' * 12}so."] for i in range(40)]
    )
    with pytest.raises(
        InputError, match=r"no row is left for training: \d+ rows have an answer that is equal"
    ) as caught:
        run(source, tmp_path / "out", max_copies_of_an_answer=None)
    assert "--set data.test_fraction=0" in caught.value.hint
    report = run(source, tmp_path / "out", validation_fraction=0, test_fraction=0, max_copies_of_an_answer=None)
    assert report["splits"] == {"train": 40, "validation": 0, "test": 0}


CONDITIONS = ["gout", "asthma", "scurvy", "mumps", "lupus", "angina", "anemia", "rabies", "eczema", "croup"]


def yes_no_rows(count: int, answers: Sequence[str]) -> list[list[str]]:
    """Questions of which none is like another, whose answers are a closed set."""
    return [
        [f"Does remedy{i} of the {i // 10 + 2}th trial help people who have {CONDITIONS[i % 10]}?", answers[i % 3]]
        for i in range(count)
    ]


@pytest.mark.parametrize(
    "answers",
    [
        ("Yes", "No.", "Maybe"),
        ("Vitamin C", "Nicotinic acid and niacin", "None of the above"),
        ("是的，有帮助", "没有任何帮助", "还不清楚"),
        (
            "Yes, this remedy helps most of the people who take it for a month",
            "No, people who take this remedy fare no better than others do",
            "Nobody can tell so far, since the trials of this remedy do not agree",
        ),
    ],
    ids=["yes no maybe", "options", "Chinese", "templates"],
)
def test_answers_of_a_closed_set_stay_in_all_splits(answers: Sequence[str], tmp_path: Path) -> None:
    source = write_csv(tmp_path / "in.csv", yes_no_rows(300, answers))
    report = run(source, tmp_path / "out", test_fraction=0.2, validation_fraction=0.2, max_copies_of_an_answer=None)
    assert report["rows"] == {"read": 300, "kept": 300, "rejected": {}}
    for split in ("train", "validation", "test"):
        rows = lines_of(tmp_path / f"out/{split}.jsonl")
        assert {row["answer"] for row in rows} == set(answers)
        if split != "train":
            counts = report["leakage"][split]
            assert (counts["answer"], counts["near_duplicate_answer"]) == (0, 0)
            assert report["short_answers"][split] == len(rows) == report["splits"][split]


@pytest.mark.parametrize("max_rows", [None, 200])
def test_a_short_answer_leaves_train_where_its_question_is_nearly_a_held_out_one(
    max_rows: int | None, tmp_path: Path
) -> None:
    rows = yes_no_rows(300, ("Yes", "No", "Maybe"))
    # The same again with a word more, and once more with another answer: only the former tell a held-out row.
    rows += [[question.replace("Does", "Well, does"), answer] for question, answer in rows[:100]]
    rows += [[question.replace("Does", "So, does"), "Never"] for question, _ in rows[100:200]]
    source = write_csv(tmp_path / "in.csv", rows)
    report = run(source, tmp_path / "out", test_fraction=0.3, max_copies_of_an_answer=None, max_rows=max_rows)
    rejected = [row for row in lines_of(tmp_path / "out/rejected.jsonl") if row["reason"].startswith("near_duplicate")]
    assert len(rejected) >= (30 if max_rows is None else 5)
    held_out = {
        (row["question"].removeprefix("Well, ").lower(), row["answer"])
        for split in ("validation", "test")
        for row in lines_of(tmp_path / f"out/{split}.jsonl")
    }
    assert {(row["question"].removeprefix("Well, ").lower(), row["answer"]) for row in rejected} <= held_out
    for counts in report["leakage"].values():
        assert (counts["answer"], counts["near_duplicate_answer"]) == (0, 0)


def test_a_template_of_few_questions_still_leaves_train(tmp_path: Path) -> None:
    """Three questions of a split do not make a closed set: their answer may be one fact, asked in other words."""
    rows = yes_no_rows(300, [f"Answer {i} is told at length and by itself" for i in range(3)])
    rows = [[question, f"{answer} {i // 3 % 49}"] for i, (question, answer) in enumerate(rows)]
    report = run(write_csv(tmp_path / "in.csv", rows), tmp_path / "out", test_fraction=0.2)
    assert report["rows"]["rejected"]["near_duplicate_of_test"] > 10
    assert report["short_answers"] == {"test": 0, "validation": 0}


def test_near_copies_of_held_out_answers_leave_train(tmp_path: Path) -> None:
    fixed = "of {} tell your doctor at once and do not wait until the next morning because it may get worse over night"
    rows = [[f"What are the symptoms of illness{i}?", f"Word{i} " * 5 + fixed.format(f"illness{i}")] for i in range(60)]
    rows += [[f"What causes harm{i}?", " ".join(f"cause{i}-{j}" for j in range(9))] for i in range(60)]
    source = write_csv(tmp_path / "near.csv", rows)
    report = run(source, tmp_path / "out", near_duplicate_threshold=0.5, test_fraction=0.2)
    rejected = [row for row in lines_of(tmp_path / "out/rejected.jsonl") if row["reason"] == "near_duplicate_of_test"]
    assert len(rejected) == report["rows"]["rejected"]["near_duplicate_of_test"] > 10
    assert {row["question"].split("illness")[0] for row in rejected} == {"What are the symptoms of "}
    assert report["leakage"] == {"test": UNKNOWN, "validation": UNKNOWN}
    strict = run(source, tmp_path / "strict", near_duplicate_threshold=0.99, test_fraction=0.2)
    assert strict["rows"]["rejected"] == {}


def test_the_leaks_are_counted_on_the_files(messy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault in the split must not hide itself."""

    def careless(keys: Sequence[Any], *_: Any) -> list[str]:
        return ["train" if i % 4 else "test" for i in range(len(keys))]

    monkeypatch.setattr(splitting, "place_rows", careless)
    rows = [[f"What is illness{i // 2}?", f"Answer {i % 30} says more than a few words"] for i in range(120)]
    report = run(write_csv(tmp_path / "in.csv", rows), tmp_path / "out", max_copies_of_an_answer=None)
    assert report["leakage"]["test"] == {"question": 30, "answer": 30, "near_duplicate_answer": 30, "topic": 30}


def test_paraphrases_are_made_of_training_questions_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [[f"What are the treatments for illness{i} ?", f"Remedy {i}."] for i in range(60)]
    source = write_csv(tmp_path / "in.csv", rows)
    plain = run(source, tmp_path / "plain")
    report = run(source, tmp_path / "out", paraphrases_per_question=3)
    assert report["splits"] == plain["splits"]
    assert report["rows"] == plain["rows"]
    assert report["paraphrases"] == 3 * report["splits"]["train"]
    console.use_json(False)
    show(report, "", tmp_path / "out")
    shown = capsys.readouterr().out
    assert f"paraphrases: {report['paraphrases']:,} more training questions, not counted above" in shown
    rows_of = {split: lines_of(tmp_path / "out" / f"{split}.jsonl") for split in SPLITS}
    assert not any(row["paraphrase_of"] for split in ("validation", "test") for row in rows_of[split])
    train = rows_of["train"]
    originals = {row["id"]: row for row in train if not row["paraphrase_of"]}
    assert len(originals) == report["splits"]["train"]
    for row in train:
        if row["paraphrase_of"]:
            original = originals[row["paraphrase_of"]]
            assert (row["answer"], row["topic"]) == (original["answer"], original["topic"])
            assert row["id"].startswith(original["id"] + "-p")
            assert row["text"] == render(row["question"], row["answer"])
    assert len({normalize(row["question"]) for row in train}) == len(train)
    # An answer is found once, not once for each wording of its question.
    passages = list(PassageIndex.of_folder(tmp_path / "out").passages())
    assert sorted(passage.id for passage in passages) == sorted(originals)
    assert "paraphrase_of" not in lines_of(tmp_path / "plain/train.jsonl")[0]


def test_topics_are_kept_and_keep_rows_together(tmp_path: Path) -> None:
    rows = [[f"Question {i}", f"Answer {i}", f" Topic  {i % 30}", "NIH"] for i in range(120)]
    source = write_csv(tmp_path / "topics.csv", rows, ("question", "answer", "Focus", "source"))
    report = run(source, tmp_path / "out", topic_column="focus", test_fraction=0.2)
    assert report["leakage"]["test"]["topic"] == 0
    test = lines_of(tmp_path / "out/test.jsonl")
    train = lines_of(tmp_path / "out/train.jsonl")
    assert len(test) == report["splits"]["test"] == 24
    assert test[0]["topic"].startswith("Topic ")
    assert test[0]["source"] == "NIH"
    assert not {row["topic"] for row in test} & {row["topic"] for row in train}


def test_token_lengths_are_reported_where_a_tokenizer_counts_them(tmp_path: Path) -> None:
    rows = [[f"Question {i}", " ".join(f"w{i}-{j}" for j in range(i + 1))] for i in range(100)]
    report = run(write_csv(tmp_path / "qa.csv", rows), tmp_path / "out")
    # The rendered text has one word more than the answer: "<Question 0>word".
    assert report["tokens"] == {"answer": {"p50": 50, "p90": 90, "p99": 99, "max": 100}, "longer_than_max_length": 93}
    assert percentile([5], 0.5) == percentile([5], 1.0) == 5
    without = convert([str(tmp_path / "qa.csv")], DataConfig(), 42, render, None, tmp_path / "without")
    assert without["tokens"] is None
    assert not (tmp_path / "without/lengths.png").exists()


def test_cleaning_can_be_switched_off(messy: Path, tmp_path: Path) -> None:
    report = run(messy, tmp_path / "out", cleaning=dict.fromkeys(RULES, False))
    assert report["cleaning"] == {}
    assert lines_of(tmp_path / "out/train.jsonl")[0]["question"].startswith(" What  is")


def test_text_that_is_no_unicode_is_rejected_and_kept(tmp_path: Path) -> None:
    source = tmp_path / "qa.jsonl"
    rows = [json.dumps({"question": f"q{i}", "answer": f"a{i}"}) for i in range(5)]
    source.write_text("\n".join([*rows, r'{"question": "bad", "answer": "\ud800 x"}']))
    report = run(source, tmp_path / "out")
    assert report["rows"]["rejected"] == {"invalid_unicode": 1}
    assert lines_of(tmp_path / "out/rejected.jsonl")[0]["answer"] == "\ud800 x"


def test_all_rows_rejected_for_a_reason_names_the_option_that_keeps_them(
    tmp_path: Path, medqa: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = "".join(f"I have {illness}.,How long have you had it?\n" for illness in ("gout", "mumps", "asthma"))
    (tmp_path / "asked.csv").write_text(f"question,answer\n{rows}")
    nothing_held_out = ("--set", "data.validation_fraction=0", "--set", "data.test_fraction=0")
    refused = medqa("convert", "asked.csv", *nothing_held_out)
    assert refused.code == 2
    assert "if these rows are good: --set 'data.reasons={answer_is_question: false}'" in refused.err
    kept = medqa("convert", "asked.csv", *nothing_held_out, "--set", "data.reasons={answer_is_question: false}")
    assert kept.code == 0, kept.err


def test_all_rows_rejected(tmp_path: Path) -> None:
    source = write_csv(tmp_path / "qa.csv", [["q", ""], ["", "a"], ["q", "nan"]])
    with pytest.raises(InputError, match="none of its 3 rows can be used: 2 empty_answer, 1 empty_question") as caught:
        run(source, tmp_path / "out")
    assert "row 1 (line 2): empty_answer" in caught.value.message
    assert sorted(path.name for path in tmp_path.iterdir()) == ["qa.csv"]


def test_too_few_questions(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="need at least 3"):
        run(write_csv(tmp_path / "qa.csv", [["q", "a"], ["q", "b"]]), tmp_path / "out")


def test_counts_that_do_not_add_up() -> None:
    rows = {"read": 3, "kept": 2, "rejected": {"empty_answer": 1}}
    check_counts({"rows": rows, "splits": {"train": 1, "test": 1}})
    with pytest.raises(MedqaError, match="do not add up"):
        check_counts({"rows": rows, "splits": {"train": 1, "test": 0}})
    with pytest.raises(MedqaError, match="do not add up"):
        check_counts({"rows": {**rows, "rejected": {}}, "splits": {"train": 1, "test": 1}})


def test_a_row_lost_on_the_way_stops_the_run(messy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = row_work.read_spooled
    monkeypatch.setattr(row_work, "read_spooled", lambda path: (row for row in read(path) if row.row != 12))
    with pytest.raises(MedqaError, match="107 read, 100 kept, 6 rejected"):
        run(messy, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["messy.csv"]


def test_files_that_are_read_back_otherwise_stop_the_run(
    messy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    audit_written = conversion.audit_written

    def lose_a_row(folder: Path, *rest: Any) -> Any:
        path = folder / "test.jsonl"
        path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[1:]))
        return audit_written(folder, *rest)

    monkeypatch.setattr(conversion, "audit_written", lose_a_row)
    with pytest.raises(MedqaError, match=r"wrote {.*'test': 10} rows but read back {.*'test': 9}") as caught:
        run(messy, tmp_path / "out")
    assert caught.value.hint == "check the disk"
    assert [path.name for path in tmp_path.iterdir()] == ["messy.csv"]


def test_the_bytes_do_not_depend_on_pythons_hash_seed(messy: Path, tmp_path: Path) -> None:
    script = """
import sys
from pathlib import Path
from medqa_cli.config.schema import DataConfig
from medqa_cli.data.convert import convert
convert([sys.argv[1]], DataConfig(max_rows=60), 42, "{}|{}".format, None, Path(sys.argv[2]))
print(sorted(name for name in sys.modules if name in ("torch", "transformers", "pyarrow", "pandas")))
"""
    for name, hash_seed in (("one", "1"), ("two", "2")):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(sys.path)}
        command = [sys.executable, "-c", script, str(messy), str(tmp_path / name)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stderr
        assert done.stdout == "[]\n"  # a CSV needs none of the large packages
    for split in ("train", "validation", "test"):
        content = (tmp_path / "one" / f"{split}.jsonl").read_bytes()
        assert content
        assert content == (tmp_path / "two" / f"{split}.jsonl").read_bytes()


class TestWhatIsOverwritten:
    def contents(self, folder: Path) -> dict[str, bytes]:
        found = {path.name: path.read_bytes() for path in folder.iterdir()}
        assert found
        return found

    def test_own_folder_of_the_same_source(self, messy: Path, tmp_path: Path) -> None:
        run(messy, tmp_path / "out")
        run(messy, tmp_path / "out", seed=3)
        with open(messy, "a") as file:
            file.write("new question,new answer\n")
        assert run(messy, tmp_path / "out")["rows"]["read"] == 108
        assert sorted(self.contents(tmp_path / "out")) == FILES
        assert sorted(path.name for path in tmp_path.iterdir()) == ["messy.csv", "out"]

    def test_an_empty_folder_is_written_into(self, messy: Path, tmp_path: Path) -> None:
        (tmp_path / "out").mkdir()
        assert run(messy, tmp_path / "out")["rows"]["read"] == 107

    def test_another_source_is_refused_without_force(self, messy: Path, tmp_path: Path) -> None:
        run(messy, tmp_path / "out")
        before = self.contents(tmp_path / "out")
        other = write_csv(tmp_path / "other.csv", [[f"q{i}", f"a{i}"] for i in range(9)])
        with pytest.raises(InputError, match="made from another source") as caught:
            run(other, tmp_path / "out")
        assert "--force" in caught.value.hint
        assert self.contents(tmp_path / "out") == before
        assert run(other, tmp_path / "out", force=True)["rows"]["read"] == 9

    @pytest.mark.parametrize("force", [False, True])
    @pytest.mark.parametrize("name", ["notes.txt", "train.jsonl", "report.json"])
    def test_a_folder_of_the_user(self, messy: Path, tmp_path: Path, name: str, force: bool) -> None:
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / name).write_text('{"mine": 1}')
        with pytest.raises(InputError, match=f"did not write: '{name}'"):
            run(messy, tmp_path / "out", force=force)
        assert self.contents(tmp_path / "out") == {name: b'{"mine": 1}'}

    def test_a_file_of_the_user_in_the_data_folder(self, messy: Path, tmp_path: Path) -> None:
        run(messy, tmp_path / "out")
        (tmp_path / "out/notes.txt").write_text("mine")
        with pytest.raises(InputError, match=r"also holds 'notes\.txt'"):
            run(messy, tmp_path / "out", force=True)
        assert (tmp_path / "out/notes.txt").read_text() == "mine"

    def test_the_source_itself(self, messy: Path, tmp_path: Path) -> None:
        run(messy, tmp_path / "out")
        with pytest.raises(InputError, match="lies in"):
            run(tmp_path / "out/train.jsonl", tmp_path / "out", force=True)

    def test_a_file_and_the_current_folder(self, messy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(InputError, match=r"lies in|is a file"):
            run(messy, messy)
        (tmp_path / "file").write_text("mine")
        with pytest.raises(InputError, match="is a file"):
            run(messy, tmp_path / "file")
        (tmp_path / "here").mkdir()
        monkeypatch.chdir(tmp_path / "here")
        with pytest.raises(InputError, match="current folder"):
            run(messy, Path())

    def test_a_link_to_a_folder_stays_a_link(self, messy: Path, tmp_path: Path) -> None:
        (tmp_path / "real").mkdir()
        (tmp_path / "link").symlink_to(tmp_path / "real")
        for _ in range(2):
            run(messy, tmp_path / "link")
        assert (tmp_path / "link").is_symlink()
        assert sorted(self.contents(tmp_path / "real")) == FILES

    @pytest.mark.parametrize("error", [KeyboardInterrupt, MedqaError("no"), RuntimeError])
    def test_an_interrupted_run_leaves_the_old_folder(self, messy: Path, tmp_path: Path, error: Any) -> None:
        run(messy, tmp_path / "out")
        before = self.contents(tmp_path / "out")
        left = [60]

        def failing(question: str, answer: str, given: Given = NOTHING) -> str:
            left[0] -= 1
            if not left[0]:
                raise error
            return "other " + render(question, answer)

        with pytest.raises(error if isinstance(error, type) else type(error)):
            convert([str(messy)], DataConfig(), 1, failing, None, tmp_path / "out")
        assert left == [0]
        assert self.contents(tmp_path / "out") == before
        assert sorted(path.name for path in tmp_path.iterdir()) == ["messy.csv", "out"]

    def test_a_full_disk(self, messy: Path, tmp_path: Path) -> None:
        def failing(question: str, answer: str, given: Given = NOTHING) -> str:
            raise OSError(28, "No space left on device")

        with pytest.raises(MedqaError, match="No space left on device") as caught:
            convert([str(messy)], DataConfig(), 1, failing, None, tmp_path / "out")
        assert caught.value.exit_code == 1


def test_show_prints_counts_shares_and_splits(messy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    console.use_json(False)
    lengths = TokenLengths(count_words, 8)
    report = convert([str(messy)], DataConfig(), 42, render, lengths, tmp_path / "out")
    assert "UTF-8, delimiter ','" in capsys.readouterr().err.replace("\n", " ")
    show(report, lengths.advice(), tmp_path / "out")
    lines = [line.split() for line in capsys.readouterr().out.split("\n")]
    assert ["read", "107"] in lines
    assert ["kept", "100", "93.5", "%"] in lines
    assert ["rejected:", "ragged_row", "2", "1.9", "%"] in lines
    assert ["kept,", "changed", "by:", "whitespace", "100", "100.0", "%"] in lines
    assert ["train", "85", "85.0", "%"] in lines
    assert ["test", "10", "10.0", "%", "0", "0", "0", "unknown"] in lines
    assert any("written to" in " ".join(line) for line in lines)


class TestReadSplit:
    def test_reads_what_convert_wrote(self, messy: Path, tmp_path: Path) -> None:
        run(messy, tmp_path / "out", validation_fraction=0.0)
        rows = read_split(tmp_path / "out", "test")
        written = lines_of(tmp_path / "out/test.jsonl")
        assert len(rows) == 10
        assert rows[0] == QaRow(**{key: value for key, value in written[0].items() if key != "text"})
        assert read_split(tmp_path / "out", "validation") == []

    def test_missing_folder_file_and_split(self, messy: Path, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"no data in .*out$") as caught:
            read_split(tmp_path / "out", "train")
        assert caught.value.hint == "run: medqa convert FILE"
        run(messy, tmp_path / "out")
        (tmp_path / "out/test.jsonl").unlink()
        with pytest.raises(InputError, match=r"no data in .*: test.jsonl is missing"):
            read_split(tmp_path / "out", "test")
        with pytest.raises(InputError, match="no split is named 'dev'"):
            read_split(tmp_path / "out", "dev")

    @pytest.mark.parametrize("damage", [b'{"id": "x"', b"[]", b'{"id": "x", "question": "q"}', b"\xff"])
    def test_a_damaged_line_of_a_split_is_named_with_file_and_line(
        self, messy: Path, tmp_path: Path, damage: bytes
    ) -> None:
        run(messy, tmp_path / "out")
        path = tmp_path / "out/test.jsonl"
        path.write_bytes(path.read_bytes() + damage + b"\n")
        with pytest.raises(InputError, match=r"test\.jsonl:11: damaged line"):
            read_split(tmp_path / "out", "test")


def test_signs_make_another_row(tmp_path: Path) -> None:
    rows = [[f"Is a value {sign}38 a fever?", "Ask a doctor."] for sign in (">", "<", "", "> ")]
    rows += [[f"Is HER2{sign} breast cancer rare?", "Ask a doctor."] for sign in ("+", "-", " -", "?")]
    rows += [
        ["Which type?", answer]
        for answer in ("HER2-", "HER2+", "HER2", "HER2 - ", "-5", "5", "10⁵", "105", "a-b", "a b")
    ]
    report = run(write_csv(tmp_path / "in.csv", rows), tmp_path / "out", test_fraction=0, validation_fraction=0)
    # "> 38" beside ">38", "HER2 -" beside "HER2?" and again beside "HER2", "a b" beside "a-b"
    assert report["rows"]["rejected"] == {"exact_duplicate": 4}


def test_a_question_whose_topic_shows_only_when_cleaned(tmp_path: Path) -> None:
    rows = [[f"Whats illness{i % 60}?", f"Thing {i} of {i}."] for i in range(180)]
    report = run(write_csv(tmp_path / "in.csv", rows), tmp_path / "out", test_fraction=0.2)
    assert report["topics"]["known"] == report["rows"]["kept"]
    assert report["leakage"] == {"test": NONE, "validation": NONE}


def test_an_emptied_or_odd_split_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [[f"question {i}", f"answer {i}", f"category {i % 3}"] for i in range(90)]
    source = write_csv(tmp_path / "in.csv", rows, ("question", "answer", "topic"))
    report = run(source, tmp_path / "out")
    assert report["splits"] == {"train": 30, "validation": 30, "test": 30}
    told = " ".join(capsys.readouterr().err.split())
    assert "the test split holds 30 of 90 rows, not 10 %" in told
    for split in ("test", "validation"):
        assert f"all 30 rows of {split} are about one topic, so that figures on them say nothing about others" in told


def test_held_out_rows_of_several_topics_are_not_warned_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [[f"question {i}", f"answer {i}", f"category {i % 40}"] for i in range(200)]
    run(write_csv(tmp_path / "in.csv", rows, ("question", "answer", "topic")), tmp_path / "out")
    assert "about one topic" not in capsys.readouterr().err


def test_what_a_killed_run_left_is_removed(messy: Path, tmp_path: Path) -> None:
    left, other = tmp_path / ".out.abc_1234.tmp", tmp_path / ".out.mine.tmp"
    left.mkdir()
    (left / "spool.tmp").write_text("texts")
    other.mkdir()
    run(messy, tmp_path / "out")
    assert [left.exists(), other.exists()] == [False, True]


def test_sources_of_one_name(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        rows = [[f"{name} {i}", f"answer {name} {i}"] for i in range(20)]
        write_csv(tmp_path / name / "d.csv", [*rows, ["", ""]])
    sources = [str(tmp_path / name / "d.csv") for name in ("one", "two")]
    convert(sources, DataConfig(), 42, render, None, tmp_path / "out")
    assert [row["file"] for row in lines_of(tmp_path / "out/rejected.jsonl")] == ["one/d.csv", "two/d.csv"]


def test_a_reason_that_takes_many_rows_is_told_with_its_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [[f"What is disease {i}?", f"It is number {i} of many."] for i in range(12)]
    rows[2:2] = [
        [f"Message {i}", f"Do you have a {symptom}?"] for i, symptom in enumerate(("rash", "cough", "fever", "limp"))
    ]
    source = write_csv(tmp_path / "qa.csv", rows)
    assert run(source, tmp_path / "a")["rows"]["rejected"] == {"answer_is_question": 4}
    told = " ".join(capsys.readouterr().err.split())
    assert "answer_is_question takes 4 of 16 rows (25 %), the first: row 3 (line 4); look at rejected.jsonl" in told
    assert "--set 'data.reasons={answer_is_question: false}'" in told
    assert run(source, tmp_path / "b", reasons={"answer_is_question": False})["rows"]["kept"] == 16
    assert " of 16 rows" not in capsys.readouterr().err


def test_the_report_counts_languages(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [[f"What is disease {i}?", f"It is the number {i} of many that you may have."] for i in range(6)]
    rows += [[f"Maladie {i} ?", f"C'est la maladie numéro {i} et elle est rare."] for i in range(4)]
    result = run(write_csv(tmp_path / "qa.csv", rows), tmp_path / "out")
    assert result["languages"] == {"en": 6, "fr": 4}
    show(result, "", tmp_path / "out")
    assert "languages: 6 en, 4 fr" in capsys.readouterr().out
    card = (tmp_path / "out/README.md").read_text(encoding="utf-8")
    assert "language:\n- en\n- fr\n" in card
    assert "| `fr` | 4 |" in card
