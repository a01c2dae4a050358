"""Which step's adapter a training run leaves, by its validation losses, and that it says so."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helpers.commands import Outcome, run_in
from medqa_cli.model.kernels import packing

Medqa = Callable[..., Outcome]


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory, tiny_model_dir: Path) -> Path:
    folder = tmp_path_factory.mktemp("looks")
    rows = [f"What is disease {i}?,Disease {i} is number {i * 7} of the list of diseases." for i in range(60)]
    (folder / "qa.csv").write_text("question,answer\n" + "\n".join(rows) + "\n", encoding="utf-8")
    (folder / "medqa.yaml").write_text(
        f"""
data: {{source: qa.csv, dir: data, validation_fraction: 0.1, test_fraction: 0.1}}
run_dir: run
prompt: {{template: chat}}
model: {{name_or_path: {tiny_model_dir}, quantization: none, max_length: 64, compute_dtype: float32}}
lora: {{r: 2}}
train: {{max_steps: 5, learning_rate: 1e-2, save_steps: 3, logging_steps: 1, eval_steps: 1, save_total_limit: 1}}
""",
        encoding="utf-8",
    )
    run_in(folder, "convert")
    return folder


@pytest.fixture
def train(
    converted: Path, tmp_path: Path, medqa: Medqa, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[Outcome, dict[str, Any]]]:
    """Train with looks whose losses the test names: the base model's, then one after each step."""
    monkeypatch.chdir(converted)

    def run(*arguments: str, losses: list[float]) -> tuple[Outcome, dict[str, Any]]:
        left = list(losses)
        monkeypatch.setattr(packing, "mean_nll", lambda scores: left.pop(0))
        outcome = medqa("train", "--set", f"run_dir={tmp_path}", *arguments)
        assert outcome.code == 0, outcome.err
        assert left == []
        return outcome, json.loads((tmp_path / "train.json").read_text())

    return run


def weights(folder: Path) -> bytes:
    return (folder / "adapter_model.safetensors").read_bytes()


def checkpoint_names(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "checkpoints").iterdir())


PATIENT = ("--set", "train.early_stopping_patience=2")
EARLY = [3.0, 2.5, 2.2, 2.4, 2.3]


def test_early_stopping_leaves_the_best_look(train: Callable[..., Any], tmp_path: Path) -> None:
    outcome, summary = train(*PATIENT, losses=EARLY)
    assert (summary["status"], summary["stop_reason"]) == ("completed", "early_stopping")
    assert (summary["global_step"], summary["adapter_step"], summary["best_step"]) == (4, 2, 2)
    assert summary["validation_loss"] == [3.0, 2.2, 2.3]
    assert checkpoint_names(tmp_path) == ["checkpoint-2", "checkpoint-4"]  # the best, and the newest one
    assert weights(tmp_path / "adapter") == weights(tmp_path / "checkpoints/checkpoint-2")
    assert weights(tmp_path / "adapter") != weights(tmp_path / "checkpoints/checkpoint-4")
    assert "Training completed, stopped early" in outcome.out
    assert "of step 2, the best on validation" in outcome.out
    assert "weights saved are those after step | 2 |" in (tmp_path / "adapter/README.md").read_text()

    before = weights(tmp_path / "adapter")
    _, resumed = train("--resume", *PATIENT, losses=[])  # trains no further, looks no more
    assert weights(tmp_path / "adapter") == before
    differ = {"seconds", "peak_memory_bytes", "predicted_peak_memory_bytes", "tokens_per_second"}
    assert {key: resumed[key] for key in summary.keys() - differ} == {
        key: summary[key] for key in summary.keys() - differ
    }


def test_more_patience_goes_on_where_it_had_stopped(train: Callable[..., Any], tmp_path: Path) -> None:
    train(*PATIENT, losses=EARLY)
    _, summary = train("--resume", "--set", "train.early_stopping_patience=3", losses=[2.1])
    assert (summary["global_step"], summary["adapter_step"], summary["stop_reason"]) == (5, 5, "max_steps")


def test_without_patience_a_run_to_the_end_leaves_its_best_look_and_says_so(
    train: Callable[..., Any], tmp_path: Path
) -> None:
    outcome, summary = train(losses=[3.0, 2.5, 2.2, 2.4, 2.6, 2.7])
    assert (summary["global_step"], summary["adapter_step"], summary["best_step"]) == (5, 2, 2)
    assert summary["stop_reason"] == "max_steps"
    assert summary["validation_rising_since"] == 2
    assert "warning: the validation loss has risen since step 2 (from 2.2000 to 2.7000)" in outcome.err
    assert weights(tmp_path / "adapter") == weights(tmp_path / "checkpoints/checkpoint-2")
    assert (
        "the adapter is that of step 2, which had the best validation loss (2.2000; after the last step, 5: 2.7000)"
        in outcome.err
    )
    assert "of step 2, the best on validation" in outcome.out


def test_without_looks_in_between_the_last_step_is_the_adapter(train: Callable[..., Any], tmp_path: Path) -> None:
    outcome, summary = train("--set", "train.eval_steps=null", losses=[3.0, 2.7])
    assert (summary["adapter_step"], summary["best_step"]) == (5, 5)
    assert "of step 5, the last and best" in outcome.out


def test_auto_looks_no_more_often_than_a_tenth_of_the_time_allows(train: Callable[..., Any]) -> None:
    """Five steps of eight rows, six validation rows: 0.1 x 3 x 40 / 6 = 2 looks, and one after the last step."""
    _, summary = train("--set", "train.eval_steps=auto", losses=[3.0, 2.5, 2.7])
    assert (summary["adapter_step"], summary["best_step"]) == (3, 3)


def test_patience_chooses_also_where_it_was_not_used_up(train: Callable[..., Any], tmp_path: Path) -> None:
    _, summary = train(*PATIENT, losses=[3.0, 2.5, 2.4, 2.3, 2.2, 2.3])
    assert (summary["stop_reason"], summary["global_step"], summary["adapter_step"]) == ("max_steps", 5, 4)


def test_the_last_step_where_it_was_best(train: Callable[..., Any], tmp_path: Path) -> None:
    outcome, summary = train(*PATIENT, losses=[3.0, 2.5, 2.4, 2.3, 2.2, 2.1])
    assert (summary["adapter_step"], summary["best_step"]) == (5, 5)
    assert "of step 5, the last and best" in outcome.out
    assert "validation was best" not in outcome.err


def test_an_adapter_worse_than_the_base_is_told(train: Callable[..., Any], tmp_path: Path) -> None:
    outcome, summary = train(losses=[2.0, 2.5, 2.4, 2.3, 2.2, 2.1])
    assert "no validation loss was better than the base model's 2.0000 (the best: 2.1000 after step 5)" in outcome.err
    assert summary["adapter_step"] == 5


def test_a_damaged_best_checkpoint_is_named(train: Callable[..., Any], tmp_path: Path) -> None:
    train(losses=[3.0, 2.5, 2.2, 2.4, 2.6, 2.7])
    (tmp_path / "checkpoints/checkpoint-2/adapter_model.safetensors").write_bytes(b"")
    outcome, summary = train("--resume", *PATIENT, losses=[])
    assert "checkpoint-2 had the best validation loss but is damaged (adapter_model.safetensors)" in outcome.err
    assert summary["adapter_step"] == 5
