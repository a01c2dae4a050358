"""``medqa train --plan``: what it counts, what it advises, and that it leaves everything as it was."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helpers.commands import Outcome, fails, write_workspace
from medqa_cli.errors import MedqaError
from medqa_cli.training.estimate import Target

Medqa = Callable[..., Outcome]


@pytest.fixture
def converted(
    tmp_path: Path, tiny_model_dir: Path, medqa: Medqa, monkeypatch: pytest.MonkeyPatch, bos_tokenizer: Any
) -> Path:
    """The current folder after ``convert``; ``llama2-7b`` in it holds the config of that model and a tokenizer."""
    from transformers import LlamaConfig

    write_workspace(tmp_path, tiny_model_dir)
    monkeypatch.chdir(tmp_path)
    assert medqa("convert", "qa.csv").code == 0
    LlamaConfig(dtype="float16").save_pretrained(tmp_path / "llama2-7b")  # its defaults are those of Llama-2-7B
    bos_tokenizer.save_pretrained(tmp_path / "llama2-7b")
    return tmp_path


def plan_of(medqa: Medqa, *arguments: str) -> dict[str, Any]:
    outcome = medqa("train", "--plan", "--json", *arguments)
    assert outcome.code == 0, outcome.err
    found: dict[str, Any] = json.loads(outcome.out)
    return found


LLAMA = ("--set", "model.name_or_path=llama2-7b", "--set", "train.gradient_checkpointing=true", "--set", "lora.r=64")


def test_counts_and_memory_of_a_small_run(converted: Path, medqa: Medqa) -> None:
    before = sorted(converted.rglob("*"))
    plan = plan_of(medqa, "--set", "train.max_steps=-1", "--set", "train.num_train_epochs=3")
    assert sorted(converted.rglob("*")) == before
    rows = (converted / "data/train.jsonl").read_text().splitlines()
    assert plan["num_train_examples"] == len(rows)
    assert plan["optimizer_steps"] == 3 * -(-len(rows) // 8)
    assert plan["train_tokens"] == 3 * plan["tokens_per_epoch"]
    assert plan["parameters"]["trainable"] == 2 * 2 * (64 + 64) + 2 * 2 * (64 + 32) - 2 * 2 * 64 + 2 * 2 * 64
    assert plan["predicted_peak_memory_bytes"] == sum(plan["memory_bytes"].values())
    assert plan["memory_bytes"]["optimizer"] == 8 * plan["parameters"]["trainable"]
    assert plan["fits"]
    assert not plan["advice"]
    assert plan["probe"] is None
    assert plan["largest_forward_tokens"] <= plan["max_tokens_per_forward"]


def test_llama2_7b_fits_a_card_of_16_gb_in_4_bits_only(converted: Path, medqa: Medqa) -> None:
    quantized = plan_of(medqa, *LLAMA, "--gpu-memory", "16", "--set", "model.quantization=nf4")
    assert quantized["parameters"] == {"total": 6_738_415_616 + 33_554_432, "trainable": 33_554_432, "unquantized": 0}
    # 0.5625 bytes for each weight of the linear layers, 2 for each of embedding, output layer and norms.
    linear = 32 * (4 * 4096**2 + 3 * 4096 * 11008)
    others = 2 * 32000 * 4096 + 65 * 4096
    assert quantized["memory_bytes"]["base"] == pytest.approx(linear * 0.5625 + others * 2, rel=1e-3)
    assert quantized["fits"]
    assert quantized["device_memory_bytes"] == 16 * 10**9
    whole = plan_of(medqa, *LLAMA, "--gpu-memory", "16", "--set", "model.quantization=none")
    assert not whole["fits"]
    assert whole["memory_bytes"]["base"] == pytest.approx((linear + others) * 2, rel=1e-3)
    last = whole["advice"][-1]
    assert last["fits"]
    assert last["change"] == {"model.quantization": "nf4"}
    assert last["peak_bytes"] == quantized["predicted_peak_memory_bytes"]


def test_what_fits_nowhere_is_said(converted: Path, medqa: Medqa) -> None:
    outcome = medqa("train", "--plan", *LLAMA, "--gpu-memory", "3", "--set", "model.quantization=nf4")
    assert outcome.code == 0
    assert "it does not fit, and no setting makes it fit" in outcome.out
    assert "--set model.double_quantization=true" in outcome.out
    assert "docs/several_gpus.md" in outcome.out


def test_a_probe_tells_time_and_measured_peak(converted: Path, medqa: Medqa) -> None:
    before = sorted(converted.rglob("*"))
    plan = plan_of(medqa, "--probe", "--set", "train.max_steps=50")
    probe = plan["probe"]
    assert probe["training_seconds"] == pytest.approx(
        plan["train_tokens"] / probe["tokens_per_second"], rel=0.02, abs=0.1
    )
    assert probe["measured_peak_memory_bytes"] > plan["memory_bytes"]["base"]
    assert sorted(converted.rglob("*")) == before
    table = medqa("train", "--plan", "--probe")
    assert "measured in two steps" in table.out
    assert "tokens per second the training takes" in table.out


def test_the_prediction_stands_beside_the_measured_peak(converted: Path, medqa: Medqa) -> None:
    outcome = medqa("train", "--json")
    assert outcome.code == 0, outcome.err
    summary = json.loads(outcome.out)
    assert summary["predicted_peak_memory_bytes"] > 100 << 20
    assert summary["keeps_freed_memory"] is True
    shown = medqa("train", "--restart")
    rows = dict(re.split(r" {2,}", row) for row in shown.out.splitlines() if row.startswith("peak memory"))
    # What the process holds before a run differs from run to run.
    summary = json.loads((converted / "run/train.json").read_text())
    assert rows.keys() == {"peak memory, freed memory included", "peak memory in use, as predicted"}
    assert rows["peak memory in use, as predicted"] == f"{summary['predicted_peak_memory_bytes'] / 2**30:.2f} GiB"


@pytest.mark.parametrize(
    ("target", "optim", "said"),
    [
        (
            Target("cpu", 1 << 40, 1 << 20, 0),
            "adamw_torch",
            "warning: this training run will probably run out of memory",
        ),
        (
            Target("cuda", 8 << 30, 1 << 20, 0),
            "paged_adamw_32bit",
            "warning: this training run will probably run out of",
        ),
        (Target("cuda", 8 << 30, 8 << 30, 0), "paged_adamw_32bit", "and adamw_torch_fused computes the same steps"),
        (Target("cuda", 8 << 30, 8 << 30, 0), "paged_adamw_8bit", "and adamw_8bit computes the same steps faster"),
        (Target("cuda", 8 << 30, 8 << 30, 0), "adamw_torch_fused", ""),
        (Target("cpu", 1 << 40, 1 << 40, 0), "paged_adamw_32bit", ""),
    ],
)
def test_before_anything_is_loaded_a_training_says_what_its_memory_is_like(
    converted: Path, medqa: Medqa, monkeypatch: pytest.MonkeyPatch, target: Target, optim: str, said: str
) -> None:
    def no_base(*_: Any, **__: Any) -> None:
        raise MedqaError("the base would be loaded here")

    monkeypatch.setattr("medqa_cli.training.estimate.device_at_hand", lambda device: target)
    monkeypatch.setattr("medqa_cli.training.setup.load_base", no_base)
    outcome = medqa("train", "--set", f"train.optim={optim}")
    before = outcome.err.partition("error: the base would be loaded here")[0]
    assert outcome.code == 1
    assert said in before
    assert ("run out of memory" in before) is ("run out of" in said)
    assert ("computes the same steps faster" in before) is ("same steps" in said)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--plan", "--resume"), "--plan trains nothing"),
        (("--plan", "--restart"), "--plan trains nothing"),
        (("--probe",), "belong to --plan"),
        (("--gpu-memory", "16"), "belong to --plan"),
        (("--plan", "--probe", "--gpu-memory", "16"), "leave one out"),
    ],
)
def test_what_does_not_go_together(converted: Path, medqa: Medqa, arguments: tuple[str, ...], said: str) -> None:
    fails(medqa("train", *arguments), 2, said)


def test_a_plan_needs_data(converted: Path, medqa: Medqa) -> None:
    fails(medqa("train", "--plan", "--set", "data.dir=elsewhere"), 2, "nothing has been converted yet")
