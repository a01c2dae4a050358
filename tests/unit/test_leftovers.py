"""A kill at every file operation: nothing is lost, and the next run of the same command leaves nothing behind."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from medqa_cli.answering.batch import PartialAnswers, require_new
from medqa_cli.errors import InputError
from medqa_cli.files import atomic_dir, atomic_file
from medqa_cli.journal import SharedJournal
from medqa_cli.leftovers import held, sweep

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="fork and locks of POSIX")

# Runs a scenario once for each of its file operations, each time killed there, then runs it again. In a process of its
# own, with little imported, since it forks.
KILLER = """
import json, os, shutil, sys
from pathlib import Path

FILE_OPERATIONS = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod", "fcntl.flock", "shutil.rmtree")

def convert():
    from medqa_cli.config.schema import DataConfig
    from medqa_cli.data import convert as conversion
    render = "{}{}".format
    conversion.convert(["qa.csv"], DataConfig(), 1, render, None, Path("out/data"))

def eval():
    from medqa_cli.journal import SharedJournal
    from medqa_cli.evaluation.samples import Sample, write_samples
    with SharedJournal(Path("out/eval"), {"a": 1}) as journal:
        journal.run({"1": lambda: "secret", "2": lambda: "secret"})
        write_samples(Path("out/eval/samples.jsonl"), [Sample("1", "flu", "base", "What is flu?", ("secret",))])
        journal.finish()

def ask():
    from medqa_cli.answering.batch import PartialAnswers, require_new
    if not Path("out/answers.jsonl").exists():
        with PartialAnswers(Path("out/answers.jsonl"), "me") as partial:
            partial.add({0: {"answer": "secret"}})
            partial.add({1: {"answer": "secret"}})
            partial.finish()
    else:
        try:
            require_new(Path("out/answers.jsonl"))
        except Exception:
            pass

def cache():
    from medqa_cli.files import atomic_dir
    if not Path("out/cache").exists():
        with atomic_dir(Path("out/cache")) as folder:
            (folder / "config.json").write_text("{}")

def state():
    return {
        str(path): path.read_text(errors="replace") if path.is_file() else ""
        for path in sorted(Path("out").rglob("*")) if path.name not in ("report.json", "README.md")
    }

def forked(action, at=None):
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    seen = [0]
    def hook(event, arguments):
        reads = event == "open" and not (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if event in FILE_OPERATIONS and not reads:
            seen[0] += 1
            if seen[0] == at:
                os._exit(77)
    code = 3
    try:
        if at is not None:
            sys.addaudithook(hook)
        action()
        code = 0
    finally:
        os._exit(code)

action, again = globals()[sys.argv[1]], sys.argv[2] == "again"
Path("qa.csv").write_text("question,answer\\n" + "".join(f"What is flu {n}?,It is {n} of it.\\n" for n in range(30)))
action()
expected = state()
wrong, at = [], 0
while True:
    at += 1
    shutil.rmtree("out")
    if again:
        assert forked(action) == 0
    code = forked(action, at)
    assert code in (0, 77), code
    between = state()
    if again and not all(text in between.values() for text in expected.values()):
        wrong.append((at, "lost", sorted(between)))
    assert forked(action) == 0
    if state() != expected:
        wrong.append((at, sorted(between), sorted(state())))
    if code == 0:
        break
print(json.dumps([at, wrong]))
"""


@pytest.mark.parametrize(
    ("command", "again"), [("convert", "again"), ("eval", ""), ("eval", "again"), ("ask", ""), ("cache", "")]
)
def test_a_kill_at_each_file_operation_leaves_nothing_after_the_next_run(
    tmp_path: Path, command: str, again: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", KILLER, command, again], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    points, wrong = json.loads(done.stdout.splitlines()[-1])
    assert points > 4
    assert wrong == []


def test_what_a_living_run_writes_is_left_alone(tmp_path: Path) -> None:
    with atomic_dir(tmp_path / "data") as first, atomic_file(tmp_path / "a.txt") as file:
        file.write("first")
        (first / "x").write_text("first")
        with atomic_dir(tmp_path / "data") as second, atomic_file(tmp_path / "a.txt") as other:
            other.write("second")
            (second / "x").write_text("second")
        assert (tmp_path / "data" / "x").read_text() == (tmp_path / "a.txt").read_text() == "second"
    assert (tmp_path / "data" / "x").read_text() == (tmp_path / "a.txt").read_text() == "first"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt", "data"]


def test_only_names_of_ours_are_swept(tmp_path: Path) -> None:
    kept = ["data", ".data.tmp", ".data.abc.tmp", ".data.x.abcd1234.tmp", ".data.abcd1234.bak", ".other.abcd1234.tmp"]
    for name in [*kept, ".data.abcd1234.tmp", ".data.abcd1235.old"]:
        (tmp_path / name).touch()
    sweep(tmp_path / "data")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(kept)


def test_an_old_folder_that_was_moved_away_comes_back(tmp_path: Path) -> None:
    old = tmp_path / ".data.abcd1234.old"
    old.mkdir()
    (old / "train.jsonl").write_text("kept")
    with held(old):
        sweep(tmp_path / "data")
    assert not (tmp_path / "data").exists()
    sweep(tmp_path / "data")
    assert (tmp_path / "data" / "train.jsonl").read_text() == "kept"
    assert not old.exists()


def refuse(*_: object, **__: object) -> None:
    raise PermissionError("no")


def test_a_last_step_that_fails_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "old").touch()
    with SharedJournal(tmp_path / "eval", 1) as journal, PartialAnswers(tmp_path / "answers.jsonl", "me") as partial:
        partial.add({0: {"answer": "It is a flu."}})
        with monkeypatch.context() as patch, atomic_dir(tmp_path / "data") as folder:
            (folder / "new").touch()
            patch.setattr(Path, "unlink", refuse)
            patch.setattr(os, "unlink", refuse)
            patch.setattr(os, "rmdir", refuse)
            journal.finish()
            partial.finish()
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["new"]
    said = capsys.readouterr().err
    assert "progress.jsonl could not be deleted" in said
    assert "answers.jsonl.partial could not be deleted" in said


def test_a_partial_file_is_removed_only_where_its_answers_are_in_the_finished_one(tmp_path: Path) -> None:
    out = tmp_path / "answers.jsonl"
    partial = PartialAnswers(out, "me")
    with partial:
        partial.add({1: {"answer": "b"}, 0: {"answer": "a"}})
    out.write_text('{"answer": "a"}\n{"answer": "other"}\n')
    with pytest.raises(InputError, match="already there"):
        require_new(out)
    assert partial.path.exists()
    out.write_text('{"answer": "a"}\n{"answer": "b"}\n')
    with pytest.raises(InputError, match="already there"):
        require_new(out)
    assert not partial.path.exists()
