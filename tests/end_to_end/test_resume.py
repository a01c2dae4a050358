"""An interrupted and resumed training ends with the same bytes as an uninterrupted one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Outcome

STEPS = 40


@pytest.fixture
def workspace(tmp_path: Path, tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    rows = [f"What is disease {i}?,Disease {i} is number {i * 7} of the list of diseases." for i in range(60)]
    Path("qa.csv").write_text("question,answer\n" + "\n".join(rows) + "\n", encoding="utf-8")
    # Dropout and several epochs: random state and data order have to survive the interruption.
    Path("medqa.yaml").write_text(
        f"""
data: {{source: qa.csv, dir: data, validation_fraction: 0.1, test_fraction: 0.1}}
prompt: {{template: chat}}
model: {{name_or_path: {tiny_model_dir}, max_length: 64, compute_dtype: float32}}
lora: {{r: 4, target_modules: all-linear, lora_dropout: 0.2}}
train: {{num_train_epochs: 20, max_steps: {STEPS}, learning_rate: 5e-3, lr_scheduler_type: cosine, save_steps: 7,
         logging_steps: 1, eval_steps: 10, gradient_checkpointing: true}}
""",
        encoding="utf-8",
    )
    return tmp_path


def adapter_bytes(run_dir: str) -> bytes:
    return Path(run_dir, "adapter/adapter_model.safetensors").read_bytes()


def losses(run_dir: str) -> list[tuple[int, float]]:
    lines = [json.loads(line) for line in Path(run_dir, "train.jsonl").read_text().splitlines()]
    return [(line["step"], line.get("loss", line.get("validation_loss"))) for line in lines]


def train_and_interrupt(run_dir: str, after_step: int, sent: signal.Signals) -> int:
    """Start a training in a process of its own and send it a signal once it has logged ``after_step``."""
    log = Path(run_dir, "train.jsonl")
    process = subprocess.Popen(
        [sys.executable, "-m", "medqa_cli", "train", "--set", f"run_dir={run_dir}"],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ},
    )
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if log.is_file() and f'"step": {after_step},' in log.read_text():
            process.send_signal(sent)
            break
        time.sleep(0.01)
    _, errors = process.communicate(timeout=120)
    assert "Traceback" not in errors
    assert "medqa train --resume" in errors
    return process.returncode


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_resumed_equals_uninterrupted(workspace: Path, medqa: Callable[..., Outcome], sent: signal.Signals) -> None:
    assert medqa("convert").code == 0
    assert medqa("train", "--set", "run_dir=whole").code == 0

    assert train_and_interrupt("broken", 3, sent) == 130
    stopped = json.loads(Path("broken/train.json").read_text())
    assert stopped["status"] == "interrupted"
    assert 3 <= stopped["global_step"] < STEPS
    assert not Path("broken/adapter").exists()
    refused = medqa("train", "--set", "run_dir=broken")
    assert refused.code == 2
    assert "--resume" in refused.err

    assert medqa("train", "--resume", "--set", "run_dir=broken").code == 0
    assert adapter_bytes("broken") == adapter_bytes("whole")
    assert losses("broken") == losses("whole")
    assert len(losses("whole")) == STEPS + 5  # the first look at the validation split, and four more
    resumed, whole = (json.loads(Path(run, "train.json").read_text()) for run in ("broken", "whole"))
    for key in ("global_step", "num_train_tokens", "train_loss", "validation_loss", "status"):
        assert resumed[key] == whole[key], key


def test_a_damaged_newest_checkpoint_is_passed_over(workspace: Path, medqa: Callable[..., Outcome]) -> None:
    assert medqa("convert").code == 0
    assert medqa("train", "--set", "run_dir=whole").code == 0
    assert medqa("train", "--set", "run_dir=cut", "--set", "train.max_steps=21").code == 0
    Path("cut/checkpoints/checkpoint-21/optimizer.pt").unlink()
    # max_steps shapes the cosine schedule, so the run up to step 14 is repeated with the whole schedule.
    resumed = medqa("train", "--resume", "--set", "run_dir=cut")
    assert resumed.code == 0, resumed.err
    assert "checkpoint-21 is incomplete (optimizer.pt missing)" in resumed.err
    assert [step for step, _ in losses("cut")] == [step for step, _ in losses("whole")]


def test_resuming_what_is_finished_changes_nothing(workspace: Path, medqa: Callable[..., Outcome]) -> None:
    """Transformers' Trainer takes one step more when it resumes from the checkpoint of the last step."""
    assert medqa("convert").code == 0
    short = ("--set", "run_dir=short", "--set", "train.max_steps=3")
    assert medqa("train", *short).code == 0
    adapter, lines = adapter_bytes("short"), losses("short")
    resumed = medqa("train", "--resume", "--json", *short)
    assert resumed.code == 0, resumed.err
    summary = json.loads(resumed.out)
    assert (summary["status"], summary["global_step"]) == ("completed", 3)
    assert adapter_bytes("short") == adapter
    assert losses("short") == lines

    other = medqa("train", "--resume", "--set", "lora.r=8", "--set", "train.optim=sgd", *short)
    assert other.code == 2
    assert "lora.r was 4, is 8; train.optim was paged_adamw_32bit, is sgd" in other.err
    assert "--restart" in other.err
    assert adapter_bytes("short") == adapter


WILD = ("train.learning_rate=1e30", "train.eval_steps=null", "train.warmup_ratio=0")


def train_wildly(medqa: Callable[..., Outcome], *more: str) -> Outcome:
    settings = [option for setting in (*WILD, *more) for option in ("--set", setting)]
    return medqa("train", "--set", "run_dir=wild", *settings)


def test_a_diverging_run_stops_and_says_so(workspace: Path, medqa: Callable[..., Outcome]) -> None:
    assert medqa("convert").code == 0
    outcome = train_wildly(medqa)
    assert outcome.code == 1
    assert outcome.out == ""
    assert "the loss of step 2 is nan" in outcome.err
    summary = json.loads(Path("wild/train.json").read_text())
    assert (summary["status"], summary["global_step"]) == ("diverged", 1)
    assert not Path("wild/adapter").exists()


def test_a_last_step_that_diverges_saves_no_adapter(workspace: Path, medqa: Callable[..., Outcome]) -> None:
    """No later training loss can tell: the validation split does."""
    assert medqa("convert").code == 0
    outcome = train_wildly(medqa, "train.max_steps=1")
    assert outcome.code == 1
    assert "the validation loss after step 1 is nan" in outcome.err
    assert not Path("wild/adapter").exists()
