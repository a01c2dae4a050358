"""Kinds of adapters and bases that need care when they are merged, evaluated or trained."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers.commands import Outcome

Medqa = Callable[..., Outcome]


@pytest.fixture
def workspace(tmp_path: Path, tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch, medqa: Medqa) -> Path:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny_model_dir, "model")
    rows = [f"What is disease {i}?,Disease {i} is number {i * 7} of the list of diseases." for i in range(40)]
    Path("qa.csv").write_text("question,answer\n" + "\n".join(rows) + "\n", encoding="utf-8")
    Path("medqa.yaml").write_text(
        """
run_dir: run
data: {source: qa.csv, dir: data, validation_fraction: 0.1, test_fraction: 0.2}
prompt: {template: chat}
model: {name_or_path: model, max_length: 64, compute_dtype: float32, quantization: none}
lora: {r: 4, lora_alpha: 16, target_modules: all-linear}
train: {max_steps: 2, learning_rate: 1e-2, gradient_checkpointing: false}
eval: {metrics: [nll], bootstrap_draws: 100}
""",
        encoding="utf-8",
    )
    assert medqa("convert").code == 0
    return tmp_path


def nll_of(medqa: Medqa, *options: str) -> dict[str, float]:
    outcome = medqa("eval", "--json", *options)
    assert outcome.code == 0, outcome.err
    return {name: figures["nll"]["value"] for name, figures in json.loads(outcome.out)["models"].items()}


@pytest.mark.parametrize("modules", ["[embed_tokens, q_proj]", "[lm_head]"])
def test_an_adapter_on_one_of_two_tied_layers_merges_exactly(workspace: Path, medqa: Medqa, modules: str) -> None:
    """Added to the shared weights, the update of one layer would change the other one too."""
    assert medqa("train", "--set", f"lora.target_modules={modules}").code == 0
    assert medqa("merge").code == 0
    nll = nll_of(medqa, "--model", "adapter,base,merged")
    assert nll["merged"] == pytest.approx(nll["adapter"], abs=1e-4)
    assert abs(nll["base"] - nll["adapter"]) > 0.01


def test_a_base_with_a_temperature_but_no_sampling_merges(workspace: Path, medqa: Medqa) -> None:
    """Early Llama-2 folders are like that, and Transformers refuses to save such a generation_config.json."""
    path = Path("model/generation_config.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), "temperature": 0.9, "top_p": 0.6}))
    assert medqa("train").code == 0
    merged = medqa("merge", "--json")
    assert merged.code == 0, merged.err
    saved = json.loads(Path("run/merged/generation_config.json").read_text())
    assert (saved["temperature"], saved["do_sample"]) == (0.9, True)


def test_base_is_scored_without_the_trained_biases(workspace: Path, medqa: Medqa, chatml_tokenizer: Any) -> None:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = Qwen2Config(vocab_size=len(chatml_tokenizer), num_key_value_heads=2, max_position_embeddings=512, **sizes)
    Qwen2ForCausalLM(config).save_pretrained("qwen")
    chatml_tokenizer.save_pretrained("qwen")
    base = {}
    for bias in ("none", "all"):
        options = ("--set", "model.name_or_path=qwen", "--set", f"lora.bias={bias}")
        assert medqa("train", "--restart", *options).code == 0
        base[bias] = nll_of(medqa, *options)["base"]
    assert base["all"] == pytest.approx(base["none"], abs=1e-6)


def test_what_cannot_be_trained_is_said(workspace: Path, medqa: Medqa) -> None:
    dora = medqa("train", "--set", "lora.use_dora=true", "--set", "model.quantization=int8")
    assert dora.code == 2
    assert "works on a GPU only" in dora.err
    # Its package is missing; Transformers raises a ValueError for this one, not an ImportError.
    optimizer = medqa("train", "--set", "train.optim=grokadamw")
    assert optimizer.code == 2
    assert "pip install grokadamw" in optimizer.err


def test_other_data_than_the_run_was_trained_on_is_noticed(workspace: Path, medqa: Medqa) -> None:
    assert medqa("train").code == 0
    assert "converted again" not in medqa("eval").err
    assert medqa("convert", "--set", "seed=7").code == 0
    assert "may hold questions that were trained on" in medqa("eval").err
    resumed = medqa("train", "--resume")
    assert resumed.code == 2
    assert "data was converted again" in resumed.err


@pytest.mark.parametrize(("start", "quantization"), [("loftq", "nf4"), ("pissa", "none")])
def test_other_starts_train_resume_merge_and_score_as_one_model(
    workspace: Path, medqa: Medqa, start: str, quantization: str
) -> None:
    options: tuple[str, ...] = (
        "--set",
        f"lora.init_lora_weights={start}",
        "--set",
        f"model.quantization={quantization}",
    )
    options += ("--set", "lora.lora_alpha=2", "--set", "train.learning_rate=1e-3", "--set", "train.save_steps=3")
    whole = medqa("train", "--json", *options, "--set", "train.max_steps=6")
    assert whole.code == 0, whole.err
    weights = Path("run/adapter/adapter_model.safetensors").read_bytes()
    last = json.loads(whole.out)["validation_loss"][-1]
    # The run's own last look and the adapter folder on the untouched base are one model.
    scored = nll_of(medqa, "--model", "adapter", *options, "--set", "eval.split=validation")
    assert scored["adapter"] == pytest.approx(last, abs=1e-4)
    # Interrupted after half of its steps: the start is made again, then the checkpoint's weights are put in its place.
    shutil.rmtree("run/checkpoints/checkpoint-6")
    resumed = medqa("train", "--resume", *options, "--set", "train.max_steps=6")
    assert resumed.code == 0, resumed.err
    assert Path("run/adapter/adapter_model.safetensors").read_bytes() == weights
    merged = medqa("merge", "--json", *options)
    assert merged.code == 0, merged.err
    nll = nll_of(medqa, "--model", "adapter,merged", *options)
    assert nll["merged"] == pytest.approx(nll["adapter"], abs=2e-2)


def test_a_start_that_does_not_go_with_the_base_is_said(workspace: Path, medqa: Medqa) -> None:
    for arguments in (("train",), ("train", "--plan")):
        outcome = medqa(*arguments, "--set", "lora.init_lora_weights=loftq")
        assert outcome.code == 2
        assert "makes up for 4-bit quantization" in outcome.err
