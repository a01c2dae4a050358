"""``medqa convert`` in several processes: the same files and messages for any number of them, nothing left behind."""

import contextlib
import csv
import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from helpers.commands import Outcome
from medqa_cli import console
from medqa_cli.config.schema import DataConfig
from medqa_cli.data import convert as conversion
from medqa_cli.data import filtering, row_workers
from medqa_cli.data.convert import convert
from medqa_cli.data.dataset import read_split
from medqa_cli.data.reading import table_form
from medqa_cli.data.retrieval import PassageIndex, passage_of
from medqa_cli.errors import InputError, MedqaError
from medqa_cli.workers import Workers

WORDS = [f"word{number}" for number in range(300)]
HEADER = ("question", "answer", "topic", "source")


def rows_of_all_kinds(count: int) -> list[list[str]]:
    """Rows on topics that come again and again, copies and near copies, rejected ones, some about persons."""
    draw = random.Random(3)
    rows: list[list[str]] = []
    for number in range(count):
        answer = f"It&#39;s number {number}. " + " ".join(draw.choices(WORDS, k=draw.choice([2, 10, 60])))
        # The column holds one topic only, at first.
        topic = "gout" if number < count // 2 else f"illness {number % 40}"
        rows.append([f"What is (are) illness {number % 150} ?", answer, topic, f"https://x.org/{number % 30}"])
        kind = number % 10
        if kind == 0:
            rows.append(list(rows[draw.randrange(len(rows))]))
        elif kind == 1:
            rows.append([f"Is illness {number} bad?", "Yes.", topic, ""])
        elif kind == 2:
            rows.append(["", "no question", topic, ""])
        elif kind == 3:
            rows.append([f"Who treats {number}?", f"Dr. Anna Lee, anna.lee{number}@clinic.org, {answer}", topic, ""])
        elif kind == 4:
            rows.append(["ragged"])
        elif kind == 5:
            rows.append([f"What helps {number}?", answer.replace("word7", "word8"), "", ""])
        elif kind == 6:
            rows.append([f"What is {number}?", "Click here", topic, "nul\0"])
        elif kind == 7:
            rows.append([f"What hurts {number}?", f"A lost \ufffd sign, {answer}", topic, ""])
    return rows


def write_csv(path: Path, rows: Sequence[Sequence[str]]) -> Path:
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([HEADER, *rows])
    return path


def contents(folder: Path) -> dict[str, bytes]:
    """Return the files of a data folder, the report without its seconds."""
    found = {path.name: path.read_bytes() for path in folder.iterdir()}
    report = json.loads(found["report.json"])
    found["report.json"] = json.dumps({key: value for key, value in report.items() if "seconds" not in key}).encode()
    return found


def check_index(folder: Path) -> None:
    """The index holds the training rows as they are read back, but for paraphrases, canaries and follow-up turns."""
    rows = [row for row in read_split(folder, "train") if not row.paraphrase_of and not row.given]
    indexed = [passage for passage in PassageIndex.of_folder(folder).passages() if passage.kind == "row"]
    assert indexed == [passage_of(row) for row in rows]
    assert rows


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filtering, "_BATCH_ROWS", 5)
    monkeypatch.setattr(filtering, "_FEWEST_TO_SHARE", 4)


@pytest.fixture
def children() -> Callable[[], list[psutil.Process]]:
    """Return the children of this process that the test has started; other tests' helpers may run beside."""
    before = psutil.Process().children()
    return lambda: [child for child in psutil.Process().children() if child not in before]


@pytest.mark.usefixtures("small_batches")
@pytest.mark.parametrize(
    ("counts", "settings"),
    [
        ((1, 2, 3), {"identifiers": "report", "max_copies_of_an_answer": 3, "paraphrases_per_question": 1}),
        ((1, 2), {"identifiers": "replace", "documents": "leaflets"}),
    ],
)
def test_any_number_of_workers_writes_the_same_bytes_and_says_the_same(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    counts: tuple[int, ...],
    settings: dict[str, Any],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "leaflets").mkdir()
    (tmp_path / "leaflets/gout.txt").write_text("Gout\n\n" + " ".join(WORDS[:80]) + ".\n")
    write_csv(tmp_path / "rows.csv", rows_of_all_kinds(150))
    made = {}
    for count in counts:
        out = tmp_path / f"out{count}"
        convert(["rows.csv"], DataConfig(**settings), 42, "{}|{}".format, None, out, workers=count)
        made[count] = contents(out), capsys.readouterr().err.replace(out.name, "out")
    files, said = made[1]
    report = json.loads(files["report.json"])
    rejected = report["rows"]["rejected"]
    assert {"empty_question", "ragged_row", "nul_byte", "exact_duplicate", "near_duplicate_of_test"} <= {*rejected}
    assert report["identifiers"]["rows"] > 10
    assert "kept rows hold signs that a wrong decoding leaves" in said  # and names the first five
    assert [row["row"] for row in map(json.loads, files["rejected.jsonl"].splitlines())] == sorted(
        row["row"] for row in map(json.loads, files["rejected.jsonl"].splitlines())
    )
    check_index(tmp_path / "out1")
    for count in counts[1:]:
        other, other_said = made[count]
        assert {name for name in files if files[name] != other.get(name)} == set()
        assert sorted(other) == sorted(files)
        assert other_said == said


@pytest.mark.usefixtures("small_batches")
@pytest.mark.parametrize("topics", [["gout"], ["gout", ""], ["gout", "flu", "mumps", "scurvy"]])
def test_a_column_that_holds_one_topic_is_told_the_same_by_any_number_of_workers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], topics: list[str]
) -> None:
    column = [topics[number % len(topics)] if number > 60 else topics[0] for number in range(99)]
    rows = [[f"What is illness {n} ?", f"It is number {n}.", topic, ""] for n, topic in enumerate(column)]
    source = write_csv(tmp_path / "rows.csv", rows)
    made = []
    for count in (1, 2):
        convert([str(source)], DataConfig(), 1, "{}|{}".format, None, tmp_path / f"out{count}", workers=count)
        made.append((contents(tmp_path / f"out{count}"), capsys.readouterr().err))
    assert made[0] == made[1]
    check_index(tmp_path / "out2")
    assert ("holds the same topic on all" in made[0][1]) == ("flu" not in topics)


@pytest.mark.usefixtures("small_batches")
def test_conversations_with_contexts_and_canaries_are_written_the_same_by_any_number_of_workers(
    tmp_path: Path,
) -> None:
    source = tmp_path / "talks.jsonl"
    with open(source, "w", encoding="utf-8") as file:
        for number in range(90):
            said = [
                f"What is illness {number % 40}?",
                f"It is number {number}.",
                "Is it bad?",
                f"No, {number} is mild.",
            ]
            turns = [{"role": "assistant" if n % 2 else "user", "content": text} for n, text in enumerate(said)]
            talk = {"messages": turns[: 2 + number % 3], "note": f"Seen {number} times." if number % 4 else ""}
            file.write(json.dumps(talk) + "\n")
    settings = DataConfig(turns="all", context_column="note", canaries=3, paraphrases_per_question=1)
    made = []
    for count in (1, 2, 3):
        out = tmp_path / f"out{count}"
        convert([str(source)], settings, 5, "{}|{}|{}".format, None, out, workers=count)
        made.append(contents(out))
    check_index(tmp_path / "out3")
    assert json.loads(made[0]["report.json"])["conversations"]["answers"] == 90
    assert made[0] == made[1] == made[2]


@pytest.mark.usefixtures("small_batches")
@pytest.mark.parametrize("count", [1, 2])
def test_a_row_that_is_too_long_is_named_by_its_line_after_the_progress_before_it_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int, children: Callable[[], list[psutil.Process]]
) -> None:
    shown: list[str] = []
    monkeypatch.setattr(console, "status", lambda text: contextlib.nullcontext(shown.append))
    monkeypatch.setattr(filtering, "ROWS_PER_UPDATE", 30)
    for peek in ("ROWS_LOOKED_AT", "ROWS_FOR_FORM"):
        monkeypatch.setattr(table_form, peek, 5)
    rows = [[f"What is {number}?", "long " * (500 if number in (90, 95) else 5), "", ""] for number in range(120)]
    source = write_csv(tmp_path / "rows.csv", rows)
    settings = DataConfig(max_row_bytes=2000)
    with pytest.raises(InputError, match=r"rows\.csv:92 holds more than 2,000 bytes"):
        convert([str(source)], settings, 1, "{}|{}".format, None, tmp_path / "out", workers=count)
    assert shown == [f"reading and cleaning: {number} rows ..." for number in (30, 60, 90)]
    assert [path.name for path in tmp_path.iterdir()] == ["rows.csv"]
    assert children() == []


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.usefixtures("small_batches")
@pytest.mark.parametrize("stage", ["cleaning", "indexing"])
def test_a_worker_that_dies_is_one_message_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, children: Callable[[], list[psutil.Process]], stage: str
) -> None:
    source = write_csv(tmp_path / "rows.csv", rows_of_all_kinds(100))

    def kill_a_worker(*arguments: Any) -> Any:
        for child in children():
            child.kill()
        return original(*arguments)

    patched: Any = filtering.DuplicateFilter if stage == "cleaning" else conversion
    name = "reason" if stage == "cleaning" else "audit_written"
    original = getattr(patched, name)
    monkeypatch.setattr(patched, name, kill_a_worker)
    with pytest.raises(MedqaError, match=r"a worker process ended before its work was done \(SIGKILL\)") as caught:
        convert([str(source)], DataConfig(), 1, "{}|{}".format, None, tmp_path / "out", workers=2)
    assert "--workers 1" in caught.value.hint
    assert [path.name for path in tmp_path.iterdir()] == ["rows.csv"]
    assert children() == []


def test_a_small_source_is_converted_in_this_process_and_a_large_one_is_shared_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = []

    def start(count: int, hint: str, module: str) -> Workers:
        started.append(count)
        return Workers(1, hint, module)

    monkeypatch.setattr(row_workers, "Workers", start)
    monkeypatch.setattr(row_workers, "usable_cores", lambda: range(64))
    source = write_csv(tmp_path / "rows.csv", [[f"What is {n}?", f"It is {n}.", "", ""] for n in range(70)])
    for rows_of_a_batch in (64, 2):
        monkeypatch.setattr(filtering, "_BATCH_ROWS", rows_of_a_batch)
        convert([str(source)], DataConfig(), 1, "{}|{}".format, None, tmp_path / "out")
    assert started == [1, row_workers.MOST_WORKERS]


@pytest.mark.parametrize(("size", "count", "started"), [(99, None, None), (100, None, 3), (99, 2, 2), (100, 1, 1)])
def test_workers_start_before_a_source_is_opened_where_it_is_large_or_their_number_was_named(
    size: int, count: int | None, started: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts: list[int] = []
    monkeypatch.setattr(row_workers, "Workers", lambda count, hint, module: counts.append(count))
    monkeypatch.setattr(row_workers, "usable_cores", lambda: range(3))
    monkeypatch.setattr(row_workers, "MANY_BYTES", 100)
    (tmp_path / "rows.csv").write_bytes(b"x" * size)
    row_workers.early_row_workers([tmp_path / "rows.csv", tmp_path], count)
    assert counts == ([] if started is None else [started])


@pytest.mark.parametrize(
    ("number", "said"),
    [
        ("0", "should be greater than or equal to 1"),
        ("-2", "should be greater than or equal to 1"),
        ("65", "should be less than or equal to 64"),
        ("two", "should be a valid integer"),
    ],
)
def test_a_number_of_workers_that_cannot_be_is_refused(medqa: Callable[..., Outcome], number: str, said: str) -> None:
    done = medqa("convert", "rows.csv", "--workers", number)
    assert done.code == 2
    assert "'--workers'" in done.err
    assert said in done.err


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_ctrl_c_ends_the_command_and_its_workers_and_leaves_nothing(tmp_path: Path) -> None:
    rows = [[f"What is illness {n}?", " ".join(random.Random(n).choices(WORDS, k=40)), "", ""] for n in range(20_000)]
    write_csv(tmp_path / "rows.csv", rows)
    command = [sys.executable, "-m", "medqa_cli", "convert", "rows.csv", "--out", "out", "--workers", "3"]
    # An ignored SIGINT would be inherited where the tests run in the background of a shell.
    restore = lambda: signal.signal(signal.SIGINT, signal.default_int_handler)  # noqa: E731
    parent = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=restore)
    process = psutil.Process(parent.pid)
    while len(workers := [child for child in process.children() if child.cpu_times().user > 0.5]) < 2:
        assert parent.poll() is None
        time.sleep(0.01)
    parent.send_signal(signal.SIGINT)
    _, said = parent.communicate(timeout=60)
    assert parent.returncode == 130
    assert said.splitlines()[-1] == b"error: interrupted"
    assert psutil.wait_procs(workers, timeout=10)[1] == []
    assert [path.name for path in tmp_path.iterdir()] == ["rows.csv"]
