"""A data folder, a checkpoint and an adapter that 0.1.0 (commit 7928b16) wrote stay usable; see tests/data/old_run."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from helpers.commands import Outcome
from helpers.paths import TESTS

OLD_RUN = TESTS / "data" / "old_run"


@pytest.fixture
def old_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the run, as the current folder."""
    folder = Path(shutil.copytree(OLD_RUN, tmp_path / "old"))
    monkeypatch.chdir(folder)
    return folder


def test_old_checkpoint_resumed_gives_the_adapter_that_was_saved_then(
    old_run: Path, medqa: Callable[..., Outcome]
) -> None:
    saved = load_file(old_run / "run/adapter/adapter_model.safetensors")
    shutil.rmtree(old_run / "run/adapter")
    # It was computed on a CPU with AMX, where auto is bfloat16.
    outcome = medqa("train", "--resume", "--set", "model.compute_dtype=bfloat16")
    assert outcome.code == 0, outcome.err
    now = load_file(old_run / "run/adapter/adapter_model.safetensors")
    assert now.keys() == saved.keys()
    for name, tensor in saved.items():  # on another processor the last bits may differ
        torch.testing.assert_close(now[name], tensor, rtol=1e-3, atol=1e-5)
    logged = [json.loads(line) for line in (old_run / "run/train.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in logged if "loss" in entry] == list(range(1, 13))


def test_old_adapter_and_data_are_evaluated_merged_audited_and_asked(
    old_run: Path, medqa: Callable[..., Outcome]
) -> None:
    for command in (
        ("convert", "--audit", "data"),
        ("eval", "--limit", "2", "--set", "eval.metrics=[nll]"),
        ("merge",),
        ("ask", "What is gout?"),
    ):
        outcome = medqa(*command)
        assert outcome.code == 0, (command, outcome.err)
    models = json.loads((old_run / "run/eval/results.json").read_text())["models"]
    assert models.keys() == {"adapter", "base"}
    assert (old_run / "run/merged/model.safetensors").is_file()
