"""An interrupted and resumed training run ends with the same bytes as an uninterrupted one."""

import errno
import json
import os
import random
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from helpers.commands import Outcome, Starter
from medqa_cli.training import checkpoints
from medqa_cli.training.checkpoints import numbered_checkpoints, problem_of, step_of

STEPS = 28


def adapter_bytes(run_dir: str) -> bytes:
    return Path(run_dir, "adapter/adapter_model.safetensors").read_bytes()


def losses(run_dir: str) -> list[tuple[int, float]]:
    lines = [json.loads(line) for line in Path(run_dir, "train.jsonl").read_text().splitlines()]
    return [(line["step"], line.get("loss", line.get("validation_loss"))) for line in lines]


def lines(run_dir: str) -> list[dict[str, Any]]:
    """The log without what depends on the clock."""
    found = [json.loads(line) for line in Path(run_dir, "train.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "tokens_per_second"} for line in found]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory, tiny_model_dir: Path, starter: Starter) -> Path:
    """A folder with converted data and an uninterrupted training in ``whole``."""
    folder = tmp_path_factory.mktemp("resume")
    rows = [f"What is disease {i}?,Disease {i} is number {i * 7} of the list of diseases." for i in range(60)]
    (folder / "qa.csv").write_text("question,answer\n" + "\n".join(rows) + "\n", encoding="utf-8")
    # Dropout and several epochs: random state and data order have to survive the interruption.
    (folder / "medqa.yaml").write_text(
        f"""
data: {{source: qa.csv, dir: data, validation_fraction: 0.1, test_fraction: 0.1}}
prompt: {{template: chat}}
model: {{name_or_path: {tiny_model_dir}, max_length: 64, compute_dtype: float32}}
lora: {{r: 4, target_modules: all-linear, lora_dropout: 0.2}}
train: {{num_train_epochs: 20, max_steps: {STEPS}, learning_rate: 5e-3, lr_scheduler_type: cosine, save_steps: 7,
         logging_steps: 1, eval_steps: 8, gradient_checkpointing: true}}
""",
        encoding="utf-8",
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert starter.run("convert") == 0, starter.errors
        assert starter.run("train", run_dir="whole") == 0, starter.errors
    return folder


@pytest.fixture
def workspace(prepared: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The prepared folder as the current one; each test trains in run folders of its own."""
    monkeypatch.chdir(prepared)
    return prepared


def interrupt(run_dir: str, starter: Starter, sent: signal.Signals, step: int, *arguments: str) -> None:
    """Train until ``step`` is logged, then send the signal: a checkpoint is saved, and the way to go on is told."""
    assert starter.run("train", *arguments, run_dir=run_dir, step=step, sent=sent) == 130
    assert "Traceback" not in starter.errors
    assert "medqa train --resume" in starter.errors
    stopped = json.loads(Path(run_dir, "train.json").read_text())
    assert (stopped["status"], stopped["stop_reason"]) == ("interrupted", "signal")
    assert step <= stopped["global_step"] == stopped["checkpoint_step"] < STEPS
    assert not Path(run_dir, "adapter").exists()


def test_resumed_equals_uninterrupted(workspace: Path, medqa: Callable[..., Outcome], starter: Starter) -> None:
    """Stopped by Ctrl-C, and again by the other signal that asks a process to end."""
    interrupt("broken", starter, signal.SIGINT, 3)
    refused = medqa("train", "--set", "run_dir=broken")
    assert refused.code == 2
    assert "--resume" in refused.err
    interrupt("broken", starter, signal.SIGTERM, 14, "--resume")

    assert starter.run("train", "--resume", run_dir="broken") == 0
    assert adapter_bytes("broken") == adapter_bytes("whole")
    assert lines("broken") == lines("whole")
    assert len(losses("whole")) == STEPS + 5  # the first look at the validation split, and four more
    resumed, whole = (json.loads(Path(run, "train.json").read_text()) for run in ("broken", "whole"))
    for key in ("global_step", "num_train_tokens", "train_loss", "validation_loss", "status"):
        assert resumed[key] == whole[key], key


def test_a_damaged_newest_checkpoint_is_passed_over(workspace: Path, medqa: Callable[..., Outcome]) -> None:
    assert medqa("train", "--set", "run_dir=cut", "--set", "train.max_steps=21").code == 0
    Path("cut/checkpoints/checkpoint-21/optimizer.pt").unlink()
    # max_steps shapes the cosine schedule, so the run up to step 14 is repeated with the whole schedule.
    resumed = medqa("train", "--resume", "--set", "run_dir=cut")
    assert resumed.code == 0, resumed.err
    assert "checkpoint-21 is incomplete (optimizer.pt missing)" in resumed.err
    assert [step for step, _ in losses("cut")] == [step for step, _ in losses("whole")]


def test_resuming_what_is_finished_changes_nothing(workspace: Path, medqa: Callable[..., Outcome]) -> None:
    """Transformers' Trainer takes one step more when it resumes from the checkpoint of the last step."""
    short = ("--set", "run_dir=short", "--set", "train.max_steps=3")
    assert medqa("train", *short).code == 0
    adapter, lines = adapter_bytes("short"), losses("short")
    resumed = medqa("train", "--resume", "--json", *short)
    assert resumed.code == 0, resumed.err
    summary = json.loads(resumed.out)
    assert (summary["status"], summary["global_step"]) == ("completed", 3)
    assert adapter_bytes("short") == adapter
    assert losses("short") == lines

    changes = ("--set", "lora.r=8", "--set", "train.optim=sgd", "--set", "seed=7")
    other = medqa("train", "--resume", *changes, *short)
    assert other.code == 2
    assert "lora.r was 4, is 8; train.optim was paged_adamw_32bit, is sgd; seed was 42, is 7" in other.err
    assert "--restart" in other.err
    assert adapter_bytes("short") == adapter


def newest_whole_step(run_dir: str) -> int:
    """Step of the newest checkpoint; each one that has its name must be whole."""
    found = numbered_checkpoints(Path(run_dir, "checkpoints"))
    assert [problem_of(path) for path in found] == [None] * len(found)
    return step_of(found[-1]) if found else 0


def test_killed_again_and_again(workspace: Path, starter: Starter) -> None:
    """SIGKILL at random moments, as a power cut or the kernel's memory killer gives no time to do anything."""
    settings = ("--set", "train.save_steps=4", "--set", "train.logging_steps=3", "--set", "train.save_total_limit=2")
    assert starter.run("train", *settings, run_dir="unkilled") == 0

    drawn, kills, resumed = random.Random(1), 0, 0
    for _ in range(40):
        start = newest_whole_step("killed") if Path("killed/checkpoints").is_dir() else 0
        go_on = ("--resume",) if start else ()
        resumed += bool(go_on)
        step = start + drawn.randint(1, 7) if kills < 4 else None
        code = starter.run(
            "train", *go_on, *settings, run_dir="killed", step=step, delay=drawn.random() / 10, sent=signal.SIGKILL
        )
        if code == 0:
            break
        assert code == -signal.SIGKILL, starter.errors
        kills += 1
        reached = max(line["step"] for line in lines("killed"))
        assert reached - newest_whole_step("killed") <= 4
    assert kills >= 4
    assert resumed >= 3

    assert adapter_bytes("killed") == adapter_bytes("unkilled")
    assert lines("killed") == lines("unkilled")
    assert [line["step"] for line in lines("unkilled") if "loss" in line] == [1, *range(3, STEPS, 3), STEPS]
    killed, whole = (json.loads(Path(run, "train.json").read_text()) for run in ("killed", "unkilled"))
    differ = {"seconds", "tokens_per_second", "peak_memory_bytes", "predicted_peak_memory_bytes"}
    assert {key: killed[key] for key in killed.keys() - differ} == {key: whole[key] for key in whole.keys() - differ}
    names = sorted(path.name for path in Path("unkilled/checkpoints").iterdir())
    assert sorted(path.name for path in Path("killed/checkpoints").iterdir()) == names
    assert not list(Path("killed").glob(".*"))


def fill_after(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the disk be full from the checkpoint after ``step`` on."""
    write = checkpoints._write_manifest

    def full(folder: Path, number: int, scheduled: bool) -> None:
        if number > step:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))
        write(folder, number, scheduled)

    monkeypatch.setattr(checkpoints, "_write_manifest", full)


def test_a_full_disk_ends_the_run_and_loses_nothing(
    workspace: Path, medqa: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ("--set", "train.eval_steps=null", "--set", "train.max_steps=21")
    assert medqa("train", "--set", "run_dir=unfilled", *settings).code == 0
    with monkeypatch.context() as patch:
        fill_after(7, patch)
        outcome = medqa("train", "--set", "run_dir=full", *settings)
    assert outcome.code == 1
    assert outcome.out == ""
    error, hint = outcome.err.splitlines()[-2:]
    assert error == (
        "error: full/checkpoints/checkpoint-14 could not be written: No space left on device; the checkpoint of step 7 "
        "is kept"
    )
    assert hint.startswith("hint: make room")
    assert "medqa train --resume" in hint
    summary = json.loads(Path("full/train.json").read_text())
    assert (summary["status"], summary["stop_reason"]) == ("interrupted", "not_written")
    assert (summary["global_step"], summary["checkpoint_step"], summary["adapter_step"]) == (14, 7, None)
    assert not Path("full/adapter").exists()
    assert medqa("train", "--resume", "--set", "run_dir=full", *settings).code == 0
    assert adapter_bytes("full") == adapter_bytes("unfilled")
    assert lines("full") == lines("unfilled")


@pytest.fixture
def small_disk(workspace: Path) -> Iterator[str]:
    """A disk with room for two checkpoints and a half; skipped where nobody may mount one."""
    mount = shutil.which("mount")
    Path("disk").mkdir()
    if (
        mount is None
        or subprocess.run([mount, "-t", "tmpfs", "-o", "size=450k", "tmpfs", "disk"], check=False).returncode
    ):
        pytest.skip("needs the right to mount a tmpfs")
    yield "disk/run"
    subprocess.run(["umount", "-l", "disk"], check=True)


def test_a_disk_that_is_really_full(small_disk: str, medqa: Callable[..., Outcome]) -> None:
    settings = ("--set", f"run_dir={small_disk}", "--set", "train.eval_steps=null", "--set", "train.max_steps=40")
    outcome = medqa("train", *settings)
    assert outcome.code == 1, outcome.err
    said = [line for line in outcome.err.splitlines() if "checkpoints of about" in line or line.startswith("step 1/")]
    assert "not enough room for" in said[0]  # before the first step
    assert len(said) == 2
    assert "No space left on device; the checkpoint of step 14 is kept" in outcome.err
    assert "Traceback" not in outcome.err
    assert newest_whole_step(small_disk) == 14


WILD = ("train.learning_rate=1e30", "train.eval_steps=null", "train.warmup_ratio=0")


def train_wildly(medqa: Callable[..., Outcome], *more: str) -> Outcome:
    settings = [option for setting in (*WILD, *more) for option in ("--set", setting)]
    return medqa("train", "--set", "run_dir=wild", *settings)


def test_a_diverging_run_stops_and_says_so(workspace: Path, medqa: Callable[..., Outcome]) -> None:
    outcome = train_wildly(medqa)
    assert outcome.code == 1
    assert outcome.out == ""
    assert "the loss of step 2 is nan" in outcome.err
    summary = json.loads(Path("wild/train.json").read_text())
    assert (summary["status"], summary["global_step"]) == ("diverged", 1)
    diverged = summary["diverged"]
    assert (diverged["step"], diverged["split"]) == (2, "train")
    ids = {json.loads(line)["id"] for line in Path("data/train.jsonl").read_text().splitlines()}
    assert len(diverged["rows"]) == 8
    assert set(diverged["rows"]) < ids
    assert f"its rows in data/train.jsonl: {', '.join(diverged['rows'])}" in outcome.err
    assert not Path("wild/adapter").exists()


def test_a_last_step_that_diverges_saves_no_adapter(workspace: Path, medqa: Callable[..., Outcome]) -> None:
    """No later training loss can tell: the validation split does."""
    outcome = train_wildly(medqa, "train.max_steps=1")
    assert outcome.code == 1
    assert "the validation loss after step 1 is nan" in outcome.err
    ids = [json.loads(line)["id"] for line in Path("data/validation.jsonl").read_text().splitlines()]
    assert json.loads(Path("wild/train.json").read_text())["diverged"]["rows"] == ids
    assert not Path("wild/adapter").exists()
