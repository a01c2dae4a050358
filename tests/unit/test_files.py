"""Files and folders appear whole or not at all; damaged ones are named."""

import contextlib
import errno
import hashlib
import importlib.metadata
import json
import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from medqa_cli.environment import describe_environment
from medqa_cli.errors import InputError
from medqa_cli.files import (
    ACCESS_VARIABLE,
    RunFolder,
    as_umask_says,
    atomic_dir,
    atomic_file,
    for_the_owner,
    locked,
    read_json,
    sha256_of_file,
    write_json,
)
from medqa_cli.leftovers import held, old_scratch_folders, sweep_folder


class StoppedError(Exception):
    """Stands for whatever ends a write half-way."""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def umask() -> Iterator[int]:
    before = os.umask(0o027)
    yield 0o027
    os.umask(before)


def test_run_folder_paths_are_those_that_the_docs_name() -> None:
    run = RunFolder(Path("runs/x"))
    found = {name: getattr(run, name).as_posix() for name in dir(run) if name.endswith(("_path", "_dir"))}
    assert found == {
        "config_path": "runs/x/config.yaml",
        "environment_path": "runs/x/environment.json",
        "adapter_dir": "runs/x/adapter",
        "checkpoints_dir": "runs/x/checkpoints",
        "train_log_path": "runs/x/train.jsonl",
        "train_json_path": "runs/x/train.json",
        "loss_plot_path": "runs/x/loss.png",
        "merged_dir": "runs/x/merged",
        "gguf_dir": "runs/x/gguf",
        "eval_dir": "runs/x/eval",
        "results_path": "runs/x/eval/results.json",
        "review_dir": "runs/x/review",
        "review_results_path": "runs/x/review/results.json",
        "preferences_path": "runs/x/review/dpo.jsonl",
    }


def test_sha256_of_a_file_equals_hashlib(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc" * 100_000)
    assert sha256_of_file(tmp_path / "a") == hashlib.sha256(b"abc" * 100_000).hexdigest()


def test_a_file_is_replaced_when_its_block_ends(tmp_path: Path, umask: int) -> None:
    path = tmp_path / "deep" / "a.txt"
    for text in ("first\n", "zweite Größe\nline\n"):
        with atomic_file(path) as file:
            file.write(text)
            file.flush()
            assert not path.exists() or path.read_text() == "first\n"
        assert path.read_bytes() == text.encode("utf-8")
    assert names(path.parent) == ["a.txt"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask


@pytest.mark.parametrize("ending", [StoppedError, KeyboardInterrupt])
def test_a_stopped_write_leaves_the_old_file(tmp_path: Path, ending: type[BaseException]) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    def write_half() -> None:
        with atomic_file(path) as file:
            file.write("half of the ne")
            raise ending

    with pytest.raises(ending):
        write_half()
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_a_folder_is_replaced_when_its_block_ends(tmp_path: Path, umask: int) -> None:
    path = tmp_path / "deep" / "data"
    for name in ("first", "second"):
        with atomic_dir(path) as folder:
            (folder / name).write_text(name)
            assert folder.parent == path.parent  # a rename across disks would not be atomic
            assert not path.exists() or names(path) == ["first"]
        assert names(path) == [name]
    assert names(path.parent) == ["data"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o777 & ~umask


@pytest.mark.parametrize("ending", [StoppedError, KeyboardInterrupt])
def test_a_stopped_write_leaves_the_old_folder(tmp_path: Path, ending: type[BaseException]) -> None:
    path = tmp_path / "data"
    path.mkdir()
    (path / "old").touch()

    def write_half() -> None:
        with atomic_dir(path) as folder:
            (folder / "new").touch()
            raise ending

    with pytest.raises(ending):
        write_half()
    assert names(path) == ["old"]
    assert names(tmp_path) == ["data"]


def test_the_old_folder_comes_back_where_the_new_one_cannot_take_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "data"
    path.mkdir()
    (path / "old").touch()
    rename = Path.rename

    def refuse_the_new_one(self: Path, target: Path) -> Path:
        if self.suffix == ".tmp":
            raise PermissionError("no")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse_the_new_one)
    with pytest.raises(PermissionError), atomic_dir(path) as folder:
        (folder / "new").touch()
    assert names(path) == ["old"]
    assert names(tmp_path) == ["data"]


@pytest.mark.parametrize("write", [atomic_file, atomic_dir])
def test_a_place_that_cannot_be_written(
    tmp_path: Path, write: Callable[[Path], contextlib.AbstractContextManager[object]]
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"cannot write .*file/below/a: "), write(tmp_path / "file" / "below" / "a"):
        pytest.fail("the block must not run")


def test_json_there_and_back(tmp_path: Path) -> None:
    value = {"name": "Ménière", "numbers": [1, 2.5, None, True]}
    write_json(tmp_path / "a.json", value)
    assert read_json(tmp_path / "a.json") == value
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert "Ménière" in text
    assert text.endswith("}\n")


def test_json_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"old": 1})
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", {"new": [1, object()]})
    assert read_json(tmp_path / "a.json") == {"old": 1}
    assert names(tmp_path) == ["a.json"]


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "is missing"), (b"", "cannot be read as JSON"), (b'{"a": ', "cannot be read"), (b"\xff", "cannot be read")],
)
def test_a_damaged_json_file_is_named(tmp_path: Path, content: bytes | None, said: str) -> None:
    path = tmp_path / "train.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=rf"train\.json {said}"):
        read_json(path)


def test_the_environment_tells_how_to_repeat_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["medqa", "train", "-c", "x.yaml"])
    # Outside of any working tree, also where the temporary folder lies in one.
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "none"))
    found = describe_environment()
    assert found["command"] == ["medqa", "train", "-c", "x.yaml"]
    assert found["packages"]["torch"] == importlib.metadata.version("torch")
    assert {"transformers", "peft", "bitsandbytes", "medqa-cli"} <= set(found["packages"])
    assert found["python"].startswith("3.")
    assert found["git_commit"] is None
    json.dumps(found)


def test_the_environment_names_the_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import subprocess

    who = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    for arguments in (["init", "-q"], [*who, "commit", "-q", "--allow-empty", "-m", "x"]):
        subprocess.run(["git", *arguments], cwd=tmp_path, check=True, capture_output=True)
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=tmp_path, check=True, capture_output=True, text=True)
    monkeypatch.chdir(tmp_path)
    assert len(head.stdout.strip()) >= 40
    assert describe_environment()["git_commit"] == head.stdout.strip()


def test_without_git_there_is_no_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert describe_environment()["git_commit"] is None


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def write_some(folder: Path) -> set[int]:
    """Write in each way that there is, by libraries too; return the modes."""
    with atomic_file(folder / "atomic") as file:
        file.write("x")
    with atomic_dir(folder / "new") as new:
        (new / "plain").write_text("x")
    subprocess.run([sys.executable, "-c", "open('child', 'w')"], cwd=folder, check=True)
    return {mode_of(path) for path in (folder / "atomic", folder / "new/plain", folder / "child")} | {
        mode_of(folder / "new") << 12
    }


@pytest.mark.skipif(sys.platform == "win32", reason="modes of POSIX")
def test_what_is_written_is_the_owners_alone_unless_the_variable_leaves_it_to_the_umask(
    tmp_path: Path, umask: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(ACCESS_VARIABLE, raising=False)
    with for_the_owner():
        (tmp_path / "a").mkdir()
        assert write_some(tmp_path / "a") == {0o600, 0o700 << 12}
        with as_umask_says():
            (tmp_path / "cache").write_text("x")
    assert mode_of(tmp_path / "cache") == 0o666 & ~umask
    assert os.umask(umask) == umask
    monkeypatch.setenv(ACCESS_VARIABLE, "umask")
    with for_the_owner(), as_umask_says():
        (tmp_path / "b").mkdir()
        assert write_some(tmp_path / "b") == {0o666 & ~umask, (0o777 & ~umask) << 12}
    monkeypatch.setenv(ACCESS_VARIABLE, "everybody")
    with pytest.raises(InputError, match="MEDQA_FILE_ACCESS is 'everybody'"), for_the_owner():
        pass


def test_a_stricter_umask_comes_back_afterwards(umask: int) -> None:
    with pytest.raises(ValueError, match="x"), for_the_owner():
        raise ValueError("x")
    assert os.umask(umask) == umask


def test_all_leftovers_of_a_folder_are_removed_and_those_in_use_are_named(tmp_path: Path) -> None:
    for name in (
        ".samples.jsonl.abcdefgh.tmp",
        ".merged.abcdefgh.old",
        ".a.b.abcdefgh.tmp",
        "samples.jsonl",
        ".hidden",
    ):
        (tmp_path / name).write_text("x")
    with held(tmp_path / ".a.b.abcdefgh.tmp"):
        assert sweep_folder(tmp_path) == [tmp_path / ".a.b.abcdefgh.tmp"]
    # An old one that was moved out of the way comes back.
    assert {path.name for path in tmp_path.iterdir()} == {"merged", ".a.b.abcdefgh.tmp", "samples.jsonl", ".hidden"}
    assert sweep_folder(tmp_path) == []
    assert sweep_folder(tmp_path / "missing") == []


def test_old_scratch_folders_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for name in ("medqa-old", "medqa-new", "other-old"):
        (tmp_path / name).mkdir()
        if name.endswith("old"):
            os.utime(tmp_path / name, (1, 1))
    (tmp_path / "medqa-file").write_text("x")
    assert old_scratch_folders(3600) == [tmp_path / "medqa-old"]


def test_two_commands_do_not_write_one_folder(tmp_path: Path) -> None:
    folder = tmp_path / "run" / "eval"
    with (
        locked(folder, "medqa eval"),
        pytest.raises(InputError, match=r"another medqa eval is running in .*eval"),
        locked(folder, "medqa eval"),
    ):
        raise AssertionError("two hold the lock")
    with locked(folder, "medqa eval"):
        pass
    assert list(folder.iterdir()) == []  # nothing is left behind
    with locked(tmp_path / "missing", "medqa eval", make=False):
        assert not (tmp_path / "missing").exists()


def test_where_there_are_no_locks_a_command_goes_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    closed: list[int] = []

    def refuse(descriptor: int, _: int) -> None:
        closed.append(descriptor)
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with locked(tmp_path, "medqa train"):
        pass
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(closed[0])
    monkeypatch.setitem(sys.modules, "fcntl", None)  # Windows
    with locked(tmp_path, "medqa train"):
        pass
    assert len(closed) == 1
