"""A checkpoint is whole or not there: damage is seen, a kill at any moment leaves the one before."""

import errno
import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from medqa_cli import console
from medqa_cli.errors import InputError
from medqa_cli.files import RunFolder
from medqa_cli.training import checkpoints
from medqa_cli.training.checkpoints import (
    MANIFEST_NAME,
    NotWrittenError,
    full_disk_is_an_error,
    numbered_checkpoints,
    problem_of,
    publish,
    remove_leftovers,
    rotate,
    saving,
    set_aside,
    writing,
)
from medqa_cli.training.resume import latest_checkpoint, prepare_run_folder

FILES = {"adapter_model.safetensors": b"weights", "optimizer.pt": b"moments" * 100, "part/0.bin": b""}


def save(folder: Path, step: int, *, scheduled: bool = True) -> Path:
    with saving(folder, step) as aside:
        for name, content in FILES.items():
            path = aside / f"checkpoint-{step}" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        publish(aside, folder, step, scheduled=scheduled)
    return folder / f"checkpoint-{step}"


def names(folder: Path) -> list[str]:
    return [path.name for path in numbered_checkpoints(folder)]


def test_what_was_saved_is_whole_and_nothing_else_is_left(tmp_path: Path) -> None:
    checkpoint = save(tmp_path, 7)
    assert problem_of(checkpoint) is None
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-7"]
    assert {name: (checkpoint / name).read_bytes() for name in FILES} == FILES
    assert set(json.loads((checkpoint / MANIFEST_NAME).read_text())["files"]) == set(FILES)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def unlink(path: Path) -> None:
    path.unlink()


def fill(path: Path) -> None:
    path.write_bytes(b"\0" * path.stat().st_size)


@pytest.mark.parametrize(
    ("damage", "file", "expected"),
    [
        (cut, "optimizer.pt", "damaged (optimizer.pt)"),
        (flip, "optimizer.pt", "damaged (optimizer.pt)"),
        (flip, "adapter_model.safetensors", "damaged (adapter_model.safetensors)"),
        (unlink, "part/0.bin", "incomplete (part/0.bin missing)"),
        (unlink, MANIFEST_NAME, "incomplete (manifest.json missing)"),
        (cut, MANIFEST_NAME, None),  # a newline
        (fill, MANIFEST_NAME, "damaged (manifest.json)"),  # what a crash of the machine may leave of a file
    ],
)
def test_damage_is_named(tmp_path: Path, damage: Callable[[Path], None], file: str, expected: str | None) -> None:
    checkpoint = save(tmp_path, 7)
    damage(checkpoint / file)
    assert problem_of(checkpoint) == expected


@pytest.mark.parametrize("text", ["[]", "{}", '{"files": []}', '{"files": {"optimizer.pt": 3}}', '{"files": null}'])
def test_a_manifest_that_is_none(tmp_path: Path, text: str) -> None:
    checkpoint = save(tmp_path, 7)
    (checkpoint / MANIFEST_NAME).write_text(text)
    assert problem_of(checkpoint) == "damaged (manifest.json)"


def test_the_newest_whole_one_is_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    console.use_json(False)
    for step in (9, 30, 100):
        save(tmp_path, step)
    (tmp_path / "checkpoint-mine").mkdir()
    flip(tmp_path / "checkpoint-100" / "optimizer.pt")
    shutil.copytree(tmp_path / "checkpoint-30", tmp_path / "checkpoint-200")
    (tmp_path / "checkpoint-200" / "optimizer.pt").unlink()
    assert latest_checkpoint(tmp_path) == tmp_path / "checkpoint-30"
    warned = capsys.readouterr().err.splitlines()
    assert [line.partition("checkpoint-")[2] for line in warned] == [
        "200 is incomplete (optimizer.pt missing); looking for an earlier checkpoint",
        "100 is damaged (optimizer.pt); looking for an earlier checkpoint",
    ]
    assert latest_checkpoint(tmp_path / "none") is None


def test_a_damaged_one_is_replaced_when_its_step_comes_again(tmp_path: Path) -> None:
    flip(save(tmp_path, 7) / "optimizer.pt")
    (tmp_path / "checkpoint-7" / "stray.txt").write_text("left from before")
    checkpoint = save(tmp_path, 7)
    assert problem_of(checkpoint) is None
    assert not (checkpoint / "stray.txt").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-7"]


def test_a_file_that_the_disk_no_longer_gives_is_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = checkpoints.sha256_of_file

    def fail_at_the_optimizer(path: Path) -> str:
        if path.name == "optimizer.pt":
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
        return real(path)

    checkpoint = save(tmp_path, 7)
    monkeypatch.setattr(checkpoints, "sha256_of_file", fail_at_the_optimizer)
    assert problem_of(checkpoint) == "damaged (optimizer.pt)"


def test_a_checkpoint_without_a_readable_manifest_is_rotated_as_a_scheduled_one(tmp_path: Path) -> None:
    for step in (10, 20, 30):
        save(tmp_path, step, scheduled=step != 20)
    for step, damage in ((10, unlink), (20, fill)):
        damage(tmp_path / f"checkpoint-{step}" / MANIFEST_NAME)
    rotate(tmp_path, 30, None, None)
    assert names(tmp_path) == ["checkpoint-10", "checkpoint-20", "checkpoint-30"]


def test_rotation_keeps_the_limit_the_best_and_the_scheduled(tmp_path: Path) -> None:
    for step, scheduled in ((10, True), (20, True), (25, False), (30, True), (33, False), (40, True)):
        save(tmp_path, step, scheduled=scheduled)
    rotate(tmp_path, 30, None, 25)
    assert names(tmp_path) == [f"checkpoint-{step}" for step in (10, 20, 25, 30, 33, 40)]
    rotate(tmp_path, 40, None, 25)  # one saved out of turn goes, unless it is the best
    assert names(tmp_path) == [f"checkpoint-{step}" for step in (10, 20, 25, 30, 40)]
    rotate(tmp_path, 40, 2, 10)
    assert names(tmp_path) == [f"checkpoint-{step}" for step in (10, 30, 40)]
    rotate(tmp_path, 30, 1, None)  # a later one is none of a run that is at step 30, nor does it count
    assert names(tmp_path) == [f"checkpoint-{step}" for step in (30, 40)]


def test_the_newest_is_never_rotated_away(tmp_path: Path) -> None:
    save(tmp_path, 5, scheduled=False)
    rotate(tmp_path, 5, 1, None)
    assert names(tmp_path) == ["checkpoint-5"]


def test_what_is_set_aside_is_no_checkpoint_any_more(tmp_path: Path) -> None:
    for step in (5, 10, 15):
        save(tmp_path, step)
    (tmp_path / "risen-checkpoint-10").mkdir()
    moved = set_aside(tmp_path, 10)
    assert moved == [tmp_path / "risen-checkpoint-10", tmp_path / "risen-checkpoint-15"]
    assert [problem_of(path) for path in moved] == [None, None]
    assert latest_checkpoint(tmp_path) == tmp_path / "checkpoint-5"


# Killed


def killed_while(work: Callable[[], Any]) -> None:
    """Run ``work`` in a child that is to die by SIGKILL, as the kernel or a person kills: nothing is cleaned up."""
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(3)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def die(*_: Any, **__: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def dies_after(function: Callable[..., Any]) -> Callable[..., Any]:
    def run(*arguments: Any, **named: Any) -> None:
        function(*arguments, **named)
        die()

    return run


MOMENTS: dict[str, tuple[str, Callable[..., Any]]] = {
    "before the manifest": ("_write_manifest", die),
    "after the manifest": ("_write_manifest", dies_after(checkpoints._write_manifest)),
    "after the sync": ("sync_folder", dies_after(checkpoints.sync_folder)),
    "after the rename": ("_sync", dies_after(checkpoints._sync)),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_kill_while_saving_leaves_whole_checkpoints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    save(tmp_path, 10)
    name, replacement = MOMENTS[moment]
    if moment == "after the rename":
        monkeypatch.setattr(checkpoints, "sync_folder", lambda folder: None)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, name, replacement)
        killed_while(lambda: save(tmp_path, 20))
    latest = latest_checkpoint(tmp_path)
    assert latest is not None
    assert latest.name == ("checkpoint-20" if moment == "after the rename" else "checkpoint-10")
    assert all(problem_of(path) is None for path in numbered_checkpoints(tmp_path))
    remove_leftovers(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} <= {"checkpoint-10", "checkpoint-20"}
    assert problem_of(save(tmp_path, 20)) is None


def test_a_kill_while_deleting_leaves_no_half_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for step in (10, 20):
        save(tmp_path, step)

    def delete_one_file_and_die(path: Path, **_: Any) -> None:
        if path.exists():
            next(file for file in path.rglob("*") if file.is_file()).unlink()
            die()

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints.shutil, "rmtree", delete_one_file_and_die)
        killed_while(lambda: rotate(tmp_path, 20, 1, None))
    assert names(tmp_path) == ["checkpoint-20"]
    assert len(list(tmp_path.iterdir())) == 2
    remove_leftovers(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-20"]


# A disk that is full


def save_by(write: Callable[[Path], None], folder: Path) -> None:
    """Begin to save checkpoint-20, one file of which ``write`` writes."""
    with saving(folder, 20) as aside:
        (aside / "checkpoint-20").mkdir()
        write(aside / "checkpoint-20" / "optimizer.pt")


def write_half(path: Path) -> None:
    path.write_bytes(b"half")
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_leaves_what_there_was(tmp_path: Path) -> None:
    save(tmp_path, 10)
    with pytest.raises(NotWrittenError, match=r"checkpoint-20 could not be written: No space left on device"):
        save_by(write_half, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-10"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Any:
    """A disk of 2 MiB; skipped where nobody may mount one."""
    import subprocess

    place = tmp_path / "disk"
    place.mkdir()
    mount = shutil.which("mount")
    if mount is None or subprocess.run([mount, "-t", "tmpfs", "-o", "size=2m", "tmpfs", place], check=False).returncode:
        pytest.skip("needs the right to mount a tmpfs")
    yield place
    subprocess.run(["umount", place], check=True)


def test_a_disk_that_is_really_full(small_disk: Path) -> None:
    """torch.save and safetensors tell it in words of their own, and not as an OSError."""
    import torch
    from safetensors.torch import save_file

    tensors = {"a": torch.zeros(1_000_000)}
    save(small_disk, 10)
    writers = (lambda path: torch.save(tensors, path), lambda path: save_file(tensors, path))
    for write in writers:
        with pytest.raises(NotWrittenError, match=r"checkpoint-20 could not be written: .*No space left on device"):
            save_by(write, small_disk)
        assert [path.name for path in small_disk.iterdir()] == ["checkpoint-10"]
        assert problem_of(small_disk / "checkpoint-10") is None


def test_other_errors_stay_themselves(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="CUDA"), writing(tmp_path / "a"):
        raise RuntimeError("CUDA out of memory")
    with pytest.raises(PermissionError), full_disk_is_an_error(tmp_path):
        raise PermissionError(errno.EACCES, "Permission denied")
    with pytest.raises(InputError, match="no data"), full_disk_is_an_error(tmp_path):
        raise InputError("no data")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_told_wherever_it_is_met(tmp_path: Path, number: int) -> None:
    with pytest.raises(NotWrittenError, match=r"train\.json could not be written"), full_disk_is_an_error(tmp_path):
        raise OSError(number, os.strerror(number), "train.json")
    with pytest.raises(NotWrittenError), full_disk_is_an_error(tmp_path):
        raise InputError("cannot write config.yaml") from OSError(number, os.strerror(number))


def test_half_an_adapter_of_a_killed_run_goes(tmp_path: Path) -> None:
    (tmp_path / ".adapter.x1y2.tmp").mkdir()
    (tmp_path / ".adapter.x1y2.tmp" / "adapter_model.safetensors").touch()
    (tmp_path / "adapter").mkdir()
    prepare_run_folder(RunFolder(tmp_path), None, restart=False)
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"]


def test_starting_over_deletes_all_that_the_earlier_adapter_made(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    made = ("checkpoints", "adapter", "merged", "merged.failed", "gguf", "eval")
    for name in made:
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").touch()
    (tmp_path / "mine.txt").touch()
    prepare_run_folder(run, None, restart=False)
    assert {path.name for path in tmp_path.iterdir()} == {*made, "mine.txt"}
    prepare_run_folder(run, None, restart=True)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
