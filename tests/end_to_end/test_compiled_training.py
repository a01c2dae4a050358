"""A training with compiled layers: the losses of one without, and the same bytes after an interruption."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers.commands import Outcome
from medqa_cli.model.kernels.compiled_layers import has_cpp_compiler

pytestmark = pytest.mark.skipif(not has_cpp_compiler(), reason="needs a C++ compiler")


def losses(run_dir: str) -> list[float]:
    lines = [json.loads(line) for line in Path(run_dir, "train.jsonl").read_text(encoding="utf-8").splitlines()]
    return [line.get("loss", line.get("validation_loss")) for line in lines]


def test_losses_are_those_without_and_a_resumed_run_ends_with_the_same_bytes(
    tiny_model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, medqa: Callable[..., Outcome]
) -> None:
    monkeypatch.chdir(tmp_path)
    # Which vector instructions there are is believed, not tried out by compiling programs for each.
    monkeypatch.setattr("torch._inductor.config.cpp.vec_isa_ok", True)
    rows = [f"What is disease {i}?,Disease {i} is number {i * 7} of the list of diseases." for i in range(40)]
    Path("qa.csv").write_text("question,answer\n" + "\n".join(rows) + "\n", encoding="utf-8")
    Path("medqa.yaml").write_text(
        f"""
data: {{source: qa.csv, dir: data, validation_fraction: 0.1, test_fraction: 0.1}}
model: {{name_or_path: {tiny_model_dir}, max_length: 64, compute_dtype: float32}}
lora: {{r: 4, target_modules: all-linear, lora_dropout: 0}}
train: {{max_steps: 4, learning_rate: 5e-3, save_steps: 2, logging_steps: 1, eval_steps: 2,
         gradient_checkpointing: false, optim: adamw_torch, compile: true}}
""",
        encoding="utf-8",
    )
    assert medqa("convert").code == 0
    trained = medqa("train", "--set", "run_dir=whole")
    assert trained.code == 0, trained.err
    assert json.loads(Path("whole/environment.json").read_text(encoding="utf-8"))["compiled_layers"] is True
    assert medqa("train", "--set", "run_dir=plain", "--set", "train.compile=false").code == 0
    assert losses("whole") == pytest.approx(losses("plain"), rel=1e-5)
    shutil.copytree("whole", "broken")
    for name in ("adapter", "checkpoints/checkpoint-4"):
        shutil.rmtree(Path("broken", name))
    resumed = medqa("train", "--resume", "--set", "run_dir=broken", "--set", "train.compile=auto")
    assert resumed.code == 0, resumed.err
    assert json.loads(Path("broken/environment.json").read_text(encoding="utf-8"))["compiled_layers"] is True
    ends = [Path(run, "adapter/adapter_model.safetensors").read_bytes() for run in ("whole", "broken")]
    assert ends[0] == ends[1]
    assert losses("broken") == losses("whole")
