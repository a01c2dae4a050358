"""The leak audit: what it counts on hand-made folders, and that it agrees with comparing all pairs on real data."""

import csv
import gzip
import json
import random
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from helpers.paths import SHARED_DATA
from helpers.spreadsheets import hostile_ods
from medqa_cli.config.schema import DataConfig
from medqa_cli.data.audit import Audit, audit_folder
from medqa_cli.data.convert import convert
from medqa_cli.data.dataset import QaRow, find_split_files, read_split
from medqa_cli.data.normalize import normalize
from medqa_cli.data.reading.formats import TABLE_SUFFIXES
from medqa_cli.data.reading.shapes import ColumnNames
from medqa_cli.data.report import show_audit
from medqa_cli.data.topics.topics import topic_names, topic_of
from medqa_cli.errors import InputError, MedqaError

MEDQUAD = SHARED_DATA / "medquad/medquad_two_columns.csv"
NONE = {"question": 0, "answer": 0, "near_duplicate_answer": 0, "topic": 0}
URIC_ACID = "Uric acid that the kidneys do not pass falls out as crystals"
LONG = "The cause is not known but it runs in families and smoking makes it worse so that doctors advise to stop soon"


def write_csv(path: Path, rows: Sequence[Sequence[str]], header: Sequence[str] = ("question", "answer")) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def audit(folder: Path, threshold: float = 0.8, **columns: Any) -> Audit:
    return audit_folder(folder, threshold, ColumnNames(**columns))


def num_leaks(found: Audit) -> int:
    return sum(count or 0 for counts in found.leakage.values() for count in counts.values())


@pytest.fixture
def leaky(tmp_path: Path) -> Path:
    """A test row for each kind of leak, one for all of them, one clean; a validation row that test repeats."""
    write_csv(
        tmp_path / "train.csv",
        [
            ["What causes gout?", URIC_ACID],
            ["What is asthma?", LONG],
            ["Why do we sleep?", "Nobody knows for sure."],
        ],
    )
    write_csv(tmp_path / "valid.csv", [["What is scurvy?", "A lack of vitamin C."], ["Is it late?", "Nobody knows."]])
    write_csv(
        tmp_path / "test.csv",
        [
            ["What causes GOUT ?", "Crystals in the joints."],  # question, and with it the topic
            ["What are the symptoms of flu?", URIC_ACID.lower()],  # answer, which is a near copy of itself
            ["What is rheumatism?", LONG + " smoking"],  # near copy
            ["How to treat asthma?", "With an inhaler."],  # topic
            ["What is scurvy?", "A lack of vitamin C!"],  # all four, with validation
            ["What is mumps?", "A viral disease."],
            ["", "no question"],
        ],
    )
    return tmp_path


def test_counts_each_kind_of_leak(leaky: Path) -> None:
    found = audit(leaky)
    assert found.rows == {"train": 3, "validation": 2, "test": 6}
    assert found.unusable == {"train": 0, "validation": 0, "test": 1}
    assert found.leakage == {
        "test": {"question": 2, "answer": 2, "near_duplicate_answer": 3, "topic": 3},
        "validation": NONE,
    }
    assert num_leaks(found) == 10
    assert {"leak": "topic", "row": "test.csv:5", "also": "train.csv:3"} in found.examples
    assert {"leak": "answer", "row": "test.csv:6", "also": "valid.csv:2"} in found.examples
    assert json.loads(json.dumps(found.as_json()))["leakage"] == found.leakage


def test_the_threshold_decides_what_is_near(leaky: Path) -> None:
    assert audit(leaky, threshold=0.99).leakage["test"]["near_duplicate_answer"] == 2


def test_validation_is_compared_with_train_only(leaky: Path) -> None:
    write_csv(leaky / "valid.csv", [["What is gout?", f"{URIC_ACID}!"], ["What is mumps?", "It swells the face."]])
    assert audit(leaky).leakage["validation"] == {"question": 0, "answer": 1, "near_duplicate_answer": 1, "topic": 1}


def test_a_short_answer_is_shared_only_with_its_question(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    inhaler = "Is it safe to use an inhaler twice a day in a child of four years with asthma?"
    write_csv(
        tmp_path / "train.csv", [[inhaler, "Yes."], ["Does gout run in families?", "Yes"], ["Is it mumps?", "No"]]
    )
    write_csv(
        tmp_path / "test.csv",
        [
            [f"Doctor, {inhaler.lower()}", "yes"],  # nearly the same question
            [f"Please: {inhaler.lower()}", "No"],  # likewise, with the answer to another
            ["Does coffee raise the blood pressure for good?", "Yes"],
        ],
    )
    found = audit(tmp_path)
    assert found.leakage["test"]["answer"] == found.leakage["test"]["near_duplicate_answer"] == 1
    assert found.short_answers == {"test": 3, "validation": 0}
    assert {"leak": "answer", "row": "test.csv:2", "also": "train.csv:2"} in found.examples
    show_audit(found, tmp_path)
    assert "short answers (yes, no, an option, the answer to many questions): 3 of 3 in test" in " ".join(
        capsys.readouterr().out.split()
    )


@pytest.mark.parametrize(
    "names",
    [
        ("train.jsonl", "dev.jsonl", "test.jsonl"),
        ("train-00000-of-00001.jsonl", "validation-00000-of-00001.jsonl", "test-00000-of-00001.jsonl"),
        ("data/Train.jsonl", "data/VAL.jsonl", "data/Test_set.jsonl"),
        ("train/0000.jsonl", "validation/0000.jsonl", "test/0000.jsonl"),
        ("my_train.jsonl", "my-dev.jsonl", "my_test_v2.jsonl"),
    ],
)
def test_folders_as_others_write_them(names: Sequence[str], tmp_path: Path) -> None:
    for number, name in enumerate(names):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(json.dumps({"question": f"What is {number}?", "answer": URIC_ACID}) + "\n")
    found = audit(tmp_path)
    assert found.rows == {"train": 1, "validation": 1, "test": 1}
    assert found.leakage["test"]["answer"] == found.leakage["validation"]["answer"] == 1


@pytest.mark.parametrize("suffix", TABLE_SUFFIXES)
def test_splits_are_found_in_every_format_that_convert_reads(suffix: str, tmp_path: Path) -> None:
    for name in (f"train{suffix}", f"test{suffix}.gz", f"more{suffix}", "notes.txt", "train.pdf"):
        (tmp_path / name).touch()
    found, others = find_split_files(tmp_path)
    names = {split: [path.name for path in paths] for split, paths in found.items()}
    assert names == {"train": [f"train{suffix}"], "validation": [], "test": [f"test{suffix}.gz"]}
    # A text file is a note unless its name says a split.
    assert [path.name for path in others] == ([] if suffix == ".txt" else [f"more{suffix}"])


def test_a_held_out_spreadsheet_and_a_text_file_are_audited(tmp_path: Path) -> None:
    write_csv(tmp_path / "train.txt", [["q", "a"], ["What is gout?", URIC_ACID]])
    hostile_ods(tmp_path / "test.ods")  # one row: q, a
    found = audit(tmp_path)
    assert found.rows == {"train": 2, "validation": 0, "test": 1}
    assert found.leakage["test"]["question"] == 1


def test_files_that_are_no_split_are_named(leaky: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (leaky / "eval_results.json").write_text('{"loss": 1.5}')
    write_csv(leaky / "holdout.csv", [["What causes gout?", "Uric acid."]])
    (leaky / "README.md").write_text("mine")
    assert audit(leaky).rows == {"train": 3, "validation": 2, "test": 6}
    shown = " ".join(capsys.readouterr().err.split())
    assert "ignored, because the name says no split: 'eval_results.json', 'holdout.csv'" in shown
    assert "train: 'train.csv'" in shown


def test_a_file_beside_those_of_convert_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    converted(write_csv(tmp_path / "in.csv", [[f"q {i}", f"a {i}"] for i in range(40)]), tmp_path / "out")
    (tmp_path / "out/test_extra.jsonl").write_bytes((tmp_path / "out/train.jsonl").read_bytes())
    assert num_leaks(audit(tmp_path / "out")) == 0
    assert "'test_extra.jsonl'" in " ".join(capsys.readouterr().err.split())


def test_gzipped_and_empty_files(leaky: Path) -> None:
    plain = (leaky / "train.csv").read_bytes()
    (leaky / "train.csv").unlink()
    (leaky / "train.csv.gz").write_bytes(gzip.compress(plain))
    (leaky / "valid.csv").write_bytes(b"")
    found = audit(leaky)
    assert found.rows == {"train": 3, "validation": 0, "test": 6}
    assert found.leakage["test"]["question"] == 1


@pytest.mark.parametrize("emptied", ["train", "test"])
def test_zeros_of_nothing_are_no_pass(emptied: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("train", "test"):
        write_csv(tmp_path / f"{name}.csv", [["", "a"]] if name == emptied else [["What is gout?", "a"]])
    with pytest.raises(InputError, match=f"nothing to compare: usable rows: .*0 in {emptied}"):
        audit(tmp_path)
    assert f"1 {emptied} rows hold no question" in " ".join(capsys.readouterr().err.split())


def test_no_room_for_the_scratch_file(leaky: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.mkdtemp", full)
    with pytest.raises(MedqaError, match="No space left on device") as caught:
        audit(leaky)
    assert caught.value.exit_code == 1


def test_columns_and_topics_that_the_user_names(tmp_path: Path) -> None:
    for name, topic in (("train", "Gout"), ("test", "gout")):
        write_csv(tmp_path / f"{name}.csv", [[f"q {name}", f"a {name}", topic]], ("col_a", "col_b", "col_c"))
    with pytest.raises(InputError, match="no question column found"):
        audit(tmp_path)
    found = audit(tmp_path, question="col_a", answer="col_b", topic="col_c")
    assert found.leakage["test"] == {**NONE, "topic": 1}
    unknown = audit(tmp_path, question="col_a", answer="col_b")
    assert unknown.leakage["test"] == {**NONE, "topic": None}


def test_a_topic_that_all_rows_have_tells_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    things = ["gout", "asthma", "mumps", "rickets", "scurvy", "measles", "gout", "asthma"]
    questions = [f"What {('causes', 'is')[i // 6]} {thing}?" for i, thing in enumerate(things)]
    rows = [[question, f"Text {i} on this.", "medicine"] for i, question in enumerate(questions)]
    header = ("question", "answer", "topic")
    report = converted(write_csv(tmp_path / "in.csv", rows, header), tmp_path / "out")
    assert (report["topics"]["column"], report["topics"]["known"], report["topics"]["distinct"]) == (None, 8, 6)
    assert capsys.readouterr().err.count("column 'topic' holds the same topic on all 8 rows") == 1
    kept = [row for split in ("train", "validation", "test") for row in read_split(tmp_path / "out", split)]
    assert sorted(row.topic for row in kept) == sorted(things)
    write_csv(tmp_path / "foreign/train.csv", rows[:6], header)
    write_csv(tmp_path / "foreign/test.csv", rows[6:], header)
    assert audit(tmp_path / "foreign").leakage["test"]["topic"] == 2  # gout and asthma, not the 2 of "medicine"
    write_csv(tmp_path / "foreign/test.csv", [*rows[6:7], ["Is it late?", "Yes, it is.", "medicine"]], header)
    assert audit(tmp_path / "foreign").leakage["test"]["topic"] == 1
    # One row of another topic, and the column tells rows apart again.
    rows[7][2] = "lungs"
    report = converted(write_csv(tmp_path / "in.csv", rows, header), tmp_path / "again", validation_fraction=0)
    assert (report["topics"]["column"], report["topics"]["distinct"]) == ("topic", 2)


def test_a_folder_without_splits(tmp_path: Path) -> None:
    write_csv(tmp_path / "train.csv", [["q", "a"]])
    with pytest.raises(InputError, match=r"expected a training file and a held-out one, found 'train\.csv'"):
        audit(tmp_path)
    with pytest.raises(InputError, match="is not a folder"):
        audit(tmp_path / "train.csv")


def fact_sheets(number: int) -> tuple[list[list[str]], int]:
    """Questions on the same few pages, each with a topic of its own, and how many there are."""
    kinds = ["toxin", "enzyme", "device", "statute", "survey", "pump", "clinic", "mask"]
    rows = [[f"What is the {kind}{i} of page {i % 5}?", f"Text {kind} {i}."] for i in range(number) for kind in kinds]
    return rows, len(rows)


def test_topics_that_occur_once_are_not_known_rather_than_0(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows, number = fact_sheets(10)
    report = converted(write_csv(tmp_path / "in.csv", rows), tmp_path / "out")
    doubt = f"{number} of {number} topics occur on one row only ({number} rows)"
    assert report["topics"] == {
        "column": None,
        "pages": False,
        "from_questions": number,
        "known": number,
        "distinct": number,
        "once": number,
        "doubt": doubt,
    }
    unknown = {**NONE, "topic": None}
    assert report["leakage"] == {"test": unknown, "validation": unknown}
    assert doubt in " ".join(capsys.readouterr().err.split())
    found = audit(tmp_path / "out")
    assert found.leakage == report["leakage"]
    assert found.as_json()["topics"] == {
        key: value for key, value in report["topics"].items() if key not in ("column", "pages", "from_questions")
    }
    assert num_leaks(found) == 0
    card = (tmp_path / "out/README.md").read_text(encoding="utf-8")
    assert f"Yet held-out rows may be about what training rows are about: {doubt}." in card
    assert "| topic | not known | not known |" in card


PAGES = [
    [f"What is the {kind}{page} for?", f"Text {kind} {page}.", f"https://a.example/sheets/{page}#{kind}"]
    for page in range(30)
    for kind in ("toxin", "enzyme", "device", "statute")
]


def test_rows_of_one_page_stay_together_where_topics_tell_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    header = ("question", "answer", "URL")
    report = converted(write_csv(tmp_path / "in.csv", PAGES, header), tmp_path / "out", test_fraction=0.2)
    expected = {
        "column": "URL",
        "pages": True,
        "from_questions": 0,
        "known": 120,
        "distinct": 30,
        "once": 0,
        "doubt": None,
    }
    assert report["topics"] == expected
    assert report["leakage"] == {"test": NONE, "validation": NONE}
    assert "warning" not in capsys.readouterr().err
    pages = {
        name: {row.source.split("#")[0] for row in read_split(tmp_path / "out", name)}
        for name in ("train", "validation", "test")
    }
    assert len(set.union(*pages.values())) == sum(map(len, pages.values())) == 30
    assert report["splits"]["test"] == 24
    assert audit(tmp_path / "out").leakage == report["leakage"]


def test_the_audit_of_a_random_split_of_pages_counts_its_rows(tmp_path: Path) -> None:
    shuffled = random.Random(2).sample(PAGES, len(PAGES))
    for name, rows in (("train", shuffled[:90]), ("test", shuffled[90:])):
        write_csv(tmp_path / f"{name}.csv", rows, ("question", "answer", "source"))
    pages = {row[2].split("#")[0] for row in shuffled[:90]}
    shared = sum(row[2].split("#")[0] in pages for row in shuffled[90:])
    assert audit(tmp_path).leakage["test"] == {**NONE, "topic": shared}
    assert shared > 25


@pytest.mark.parametrize("source", ["all", "each", "two"])
def test_sources_that_are_no_pages_join_nothing(source: str, tmp_path: Path) -> None:
    """One publisher for all rows, an address for each row, or a few large publishers."""
    names: dict[str, Callable[[int], str]] = {
        "all": lambda _: "WHO",
        "each": str,
        "two": lambda index: f"publisher {index % 2}",
    }
    rows = [[question, answer, names[source](index)] for index, (question, answer, _) in enumerate(PAGES)]
    report = converted(write_csv(tmp_path / "in.csv", rows, ("question", "answer", "source")), tmp_path / "out")
    assert report["topics"]["pages"] is False
    assert report["leakage"]["test"] == {**NONE, "topic": None}


def test_topics_of_few_rows_are_not_known_either_but_a_shared_one_is_counted(tmp_path: Path) -> None:
    stories = [[f"My arm {i} hurts, doctor", f"Rest it {i} days."] for i in range(30)]
    known = [["What is gout?", "A disease."], ["What causes gout?", "Uric acid."], ["What is flu?", "A cold."]]
    write_csv(tmp_path / "train.csv", stories[:20] + known[:1])
    write_csv(tmp_path / "test.csv", stories[20:] + known[2:])
    found = audit(tmp_path)
    assert found.leakage["test"] == {**NONE, "topic": None}
    assert found.topics.doubt == "topics are known for only 2 of 32 rows"
    write_csv(tmp_path / "test.csv", stories[20:] + known[1:])
    assert audit(tmp_path).leakage["test"] == {**NONE, "topic": 1}


def converted(source: Path, out_dir: Path, **data: Any) -> dict[str, Any]:
    render = "{}{}".format
    return convert([str(source)], DataConfig(**data), 42, render, None, out_dir)


def test_paraphrases_are_no_rows_but_their_questions_count(tmp_path: Path) -> None:
    rows = [[f"What are the treatments for disease{i} ?", f"Remedy number {i}."] for i in range(40)]
    report = converted(write_csv(tmp_path / "in.csv", rows), tmp_path / "out", paraphrases_per_question=2)
    found = audit(tmp_path / "out")
    assert report["paraphrases"] == found.paraphrases == 2 * report["splits"]["train"] > 0
    assert found.rows == report["splits"]
    assert num_leaks(found) == 0
    paraphrase = next(row for row in read_split(tmp_path / "out", "train") if row.paraphrase_of)
    with open(tmp_path / "out/test.jsonl", "a", encoding="utf-8") as file:
        row = {"id": "x", "question": paraphrase.question, "answer": "none", "topic": "other", "source": "", "text": ""}
        file.write(json.dumps(row) + "\n")
    assert audit(tmp_path / "out").leakage["test"] == {**NONE, "question": 1, "topic": None}  # 40 topics on 40 rows


def all_pairs(splits: dict[str, list[QaRow]], threshold: float) -> dict[str, dict[str, int]]:
    """The same counts by comparing all pairs, through the five-word runs that they share."""
    counts = {}
    for name, others in (("test", ("train", "validation")), ("validation", ("train",))):
        held_out, other = splits[name], [row for split in others for row in splits[split]]
        questions = {normalize(row.question) for row in other}
        answers = {normalize(row.answer) for row in other}
        little = says_little(held_out)
        alike = {row: count_near([row], other, threshold, runs_of_question) > 0 for row in held_out if row in little}
        topics = {name for row in other for name in topic_names(topic_of(row.question, row.topic))}
        counts[name] = {
            "question": sum(normalize(row.question) in questions for row in held_out),
            "answer": sum(alike.get(row, normalize(row.answer) in answers) for row in held_out),
            "near_duplicate_answer": sum(alike.values())
            + count_near([row for row in held_out if row not in little], other, threshold, runs_of_answer),
            "topic": sum(bool(topics & {*topic_names(topic_of(row.question, row.topic))}) for row in held_out),
        }
    return counts


def says_little(rows: Sequence[QaRow]) -> set[QaRow]:
    """Rows with an answer of up to 7 words, or one of up to 23 that 5 questions share."""
    questions: dict[str, set[str]] = {}
    for row in rows:
        questions.setdefault(normalize(row.answer), set()).add(normalize(row.question))
    lengths = {row: len(normalize(row.answer).split()) for row in rows}
    return {row for row in rows if lengths[row] <= (23 if len(questions[normalize(row.answer)]) >= 5 else 7)}


def count_near(
    rows: Sequence[QaRow],
    others: Sequence[QaRow],
    threshold: float,
    runs_of: Callable[[QaRow], set[Any]],
) -> int:
    runs_of_others = [runs_of(other) for other in others]
    holders: dict[tuple[str, ...], list[int]] = {}
    for index, runs in enumerate(runs_of_others):
        for run in runs:
            holders.setdefault(run, []).append(index)
    found = 0
    for row in rows:
        runs = runs_of(row)
        shared = Counter(index for run in runs for index in holders.get(run, ()))
        found += any(is_near(runs, runs_of_others[index], count, threshold) for index, count in shared.items())
    return found


def is_near(runs: set[Any], others: set[Any], shared: int, threshold: float) -> bool:
    """Of short answers one has to hold the other: less than 20 runs of words."""
    smaller = min(len(runs), len(others))
    return shared / (len(runs) + len(others) - shared) >= threshold and (smaller >= 20 or shared == smaller)


def runs_of_answer(row: QaRow) -> set[Any]:
    return runs_of_five(row.answer)


def runs_of_question(row: QaRow) -> set[Any]:
    return {(normalize(row.answer), run) for run in runs_of_five(row.question)}


def runs_of_five(text: str) -> set[tuple[str, ...]]:
    words = normalize(text).split()
    return {tuple(words[i : i + 5]) for i in range(len(words) - 4)} or {tuple(words)}


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> list[list[str]]:
    """3,000 rows of MedQuAD."""
    if not MEDQUAD.exists():
        pytest.skip(f"MedQuAD is not at {MEDQUAD}")
    with open(MEDQUAD, encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))[1:]
    return random.Random(1).sample(rows, 3000)


def test_a_random_split_leaks_what_comparing_all_pairs_finds(sample: list[list[str]], tmp_path: Path) -> None:
    splits = {"test": sample[:300], "validation": sample[300:450], "train": sample[450:]}
    for name, rows in splits.items():
        write_csv(tmp_path / f"{name}.csv", rows)
    found = audit(tmp_path)
    as_rows = {name: [QaRow("", q, a, "", "") for q, a in rows] for name, rows in splits.items()}
    assert found.leakage == all_pairs(as_rows, 0.8)
    assert min(value or 0 for value in found.leakage["test"].values()) >= 8  # no zero that would hold by itself


@pytest.mark.parametrize("threshold", [0.5, 0.8])
def test_a_converted_sample_leaks_nothing_by_either_count(
    sample: list[list[str]], threshold: float, tmp_path: Path
) -> None:
    report = converted(
        write_csv(tmp_path / "in.csv", sample), tmp_path / "out", near_duplicate_threshold=threshold, test_fraction=0.2
    )
    splits = {name: read_split(tmp_path / "out", name) for name in ("train", "validation", "test")}
    assert {name: len(rows) for name, rows in splits.items()} == report["splits"]
    assert report["leakage"] == all_pairs(splits, threshold) == {"test": NONE, "validation": NONE}
    assert report["rows"]["rejected"]["near_duplicate_of_test"] > 10
