"""convert -> train -> eval -> ask -> merge on a tiny model, in one process, as a user types it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers.commands import Outcome

QUESTIONS = [
    (f"What is {name}{suffix}?", f"{name.capitalize()}{suffix} is a disease of the nerve number {index}.")
    for index, name in enumerate(["glaucoma", "asthma", "gout", "angina", "anemia", "eczema", "migraine", "mumps"])
    for suffix in ("", " of childhood", " with fever", "osis", "itis")
]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory, tiny_model_dir: Path) -> Path:
    folder = tmp_path_factory.mktemp("work")
    lines = ["Question,ANSWER", *(f'"{question}","{answer}"' for question, answer in QUESTIONS), '"What is that?",""']
    (folder / "qa.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "medqa.yaml").write_text(
        f"""
run_dir: runs/tiny
data: {{source: qa.csv, dir: data/tiny, validation_fraction: 0.1, test_fraction: 0.2}}
prompt: {{template: chat}}
model: {{name_or_path: {tiny_model_dir}, max_length: 128, double_quantization: true, compute_dtype: float32}}
lora: {{r: 4, lora_alpha: 16, target_modules: all-linear, lora_dropout: 0.05}}
train: {{max_steps: 12, learning_rate: 1e-2, save_steps: 5, logging_steps: 4, eval_steps: 6,
         gradient_checkpointing: false}}
generate: {{max_new_tokens: 16}}
eval: {{bootstrap_draws: 500}}
""",
        encoding="utf-8",
    )
    return folder


def files_below(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_all_five_commands_in_turn_agree_on_a_tiny_model(
    workspace: Path, medqa: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workspace)
    check_convert(medqa("convert"), workspace)
    check_train(medqa("train", "--json"), workspace)
    check_merge(medqa("merge", "--json"), workspace)
    check_eval(medqa("eval", "--json", "--model", "adapter,base,merged"), workspace)
    check_ask(medqa)
    check_tables(medqa)


def check_convert(outcome: Outcome, workspace: Path) -> None:
    assert outcome.code == 0, outcome.err
    data = workspace / "data/tiny"
    names = {*(f"{name}.jsonl" for name in ("train", "validation", "test", "rejected"))}
    names |= {"report.json", "README.md", "index.sqlite", "lengths.png"}
    assert files_below(data) == names
    report = json.loads((data / "report.json").read_text())
    assert report["rows"] == {"read": 41, "kept": 40, "rejected": {"empty_answer": 1}}
    assert sum(report["splits"].values()) == 40
    row = json.loads((data / "train.jsonl").read_text().splitlines()[0])
    assert list(row) == ["id", "question", "answer", "topic", "source", "text"]
    assert row["text"] == (
        f"<|im_start|>system\nAnswer the Question<|im_end|>\n<|im_start|>user\n{row['question']}<|im_end|>\n"
        f"<|im_start|>assistant\n{row['answer']}"
    )


def check_train(outcome: Outcome, workspace: Path) -> None:
    assert outcome.code == 0, outcome.err
    run = workspace / "runs/tiny"
    summary = json.loads(outcome.out)
    assert summary == json.loads((run / "train.json").read_text())
    assert (summary["status"], summary["global_step"]) == ("completed", 12)
    assert summary["train_loss"][1] < summary["train_loss"][0] - 0.5
    before, best, last = summary["validation_loss"]
    assert best <= last < before
    log = [json.loads(line) for line in (run / "train.jsonl").read_text().splitlines()]
    assert [(line["step"], "loss" in line) for line in log] == [
        (0, False),
        (1, True),
        (4, True),
        (6, False),
        (8, True),
        (12, True),
        (12, False),
    ]
    assert log[-2]["num_tokens"] == summary["num_train_tokens"] > 1000
    assert {"adapter_config.json", "adapter_model.safetensors", "prompt.json", "tokenizer.json"} <= files_below(
        run / "adapter"
    )
    assert {p.name for p in (run / "checkpoints").iterdir()} == {"checkpoint-5", "checkpoint-10", "checkpoint-12"}
    assert (run / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert "# medqa.yaml:" in (run / "config.yaml").read_text()
    assert json.loads((run / "environment.json").read_text())["packages"]["torch"] == torch.__version__
    recorded = json.loads((run / "adapter/adapter_config.json").read_text())
    assert recorded["r"] == 4


def check_merge(outcome: Outcome, workspace: Path) -> None:
    assert outcome.code == 0, outcome.err
    merged = workspace / "runs/tiny/merged"
    summary = json.loads(outcome.out)
    assert summary == json.loads((merged / "merge.json").read_text())
    gain = summary["verification"]["nll_difference"]["original-nf4"]
    is_likelier = gain["value"] < -1.96 * gain["standard_error"]
    assert summary["base_weights"] == ("original" if is_likelier else "nf4")
    assert summary["dtype"] == "float32"
    # Stored in float32, the sum on the weights of the training is exact.
    assert summary["verification"]["candidates"]["nf4"]["mean_kl"] < 1e-10
    assert {"config.json", "model.safetensors", "tokenizer.json", "prompt.json", "chat_template.jinja"} <= files_below(
        merged
    )


def check_eval(outcome: Outcome, workspace: Path) -> None:
    assert outcome.code == 0, outcome.err
    results = json.loads(outcome.out)
    assert results == json.loads((workspace / "runs/tiny/eval/results.json").read_text())
    report = json.loads((workspace / "data/tiny/report.json").read_text())
    assert results["questions"] == report["splits"]["test"] > 3
    models = ("adapter", "base", "merged")
    assert set(results["models"]) == {*models, *(f"{name}_greedy" for name in models)}
    nll = results["differences"]["adapter-base"]["nll"]
    assert nll["better"] is True
    assert nll["ci95"][0] <= nll["value"] <= nll["ci95"][1] < 0
    values = {name: results["models"][name]["nll"]["value"] for name in models}
    assert values["adapter"] - values["base"] == pytest.approx(nll["value"])
    assert values["merged"] == pytest.approx(values["adapter"], abs=0.01)
    assert abs(values["base"] - values["adapter"]) > 0.1
    samples = [json.loads(line) for line in (workspace / "runs/tiny/eval/samples.jsonl").read_text().splitlines()]
    assert len(samples) == 2 * 3 * results["questions"]
    own = [sample for sample in samples if sample["model"] == "adapter"]
    mean = sum(s["nll_sum"] for s in own) / sum(s["answer_tokens"] for s in own)
    assert mean == pytest.approx(values["adapter"])


def check_ask(medqa: Callable[..., Outcome]) -> None:
    plain = medqa("ask", "What is glaucoma?")
    assert plain.code == 0, plain.err
    assert "not medical advice" in plain.err
    assert "not medical advice" not in plain.out
    as_json = json.loads(medqa("ask", "--json", "  What is\nglaucoma?  ").out)
    assert as_json["answer"] == plain.out.strip()
    assert len(as_json["answer"]) > 5
    assert as_json["question"] == "What is glaucoma?"
    assert as_json["complete"] is (as_json["finish_reason"] == "stop")
    assert as_json["answer_tokens"] <= 16
    base = json.loads(medqa("ask", "--json", "--model", "base", "What is glaucoma?").out)
    assert base["prompt_tokens"] == as_json["prompt_tokens"]
    assert base["answer"] != as_json["answer"]
    merged = json.loads(medqa("ask", "--json", "--model", "merged", "What is glaucoma?").out)
    assert merged["prompt_tokens"] == as_json["prompt_tokens"]


def check_tables(medqa: Callable[..., Outcome]) -> None:
    shown = medqa("eval", "--limit", "3")
    assert shown.code == 0, shown.err
    for expected in ("3 questions", "adapter - base", "baseline: unigram", "95 % interval"):
        assert expected in shown.out


def test_merged_model_computes_base_plus_adapter(
    workspace: Path, medqa: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch, tiny_model_dir: Path
) -> None:
    """Plain Transformers on the merged folder against plain PEFT on the unquantized base."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    monkeypatch.chdir(workspace)
    assert medqa("merge", "--base-weights", "original", "--out", "runs/tiny/merged").code == 0
    ids = torch.arange(3, 40)[None]

    def logits(model: Any) -> torch.Tensor:
        with torch.no_grad():
            return model(input_ids=ids).logits

    base = AutoModelForCausalLM.from_pretrained(tiny_model_dir)
    base_logits = logits(base)
    adapted_logits = logits(PeftModel.from_pretrained(base, "runs/tiny/adapter").eval())
    merged_logits = logits(AutoModelForCausalLM.from_pretrained("runs/tiny/merged"))
    torch.testing.assert_close(merged_logits, adapted_logits, rtol=1e-4, atol=1e-4)
    assert (merged_logits - base_logits).abs().max() > 0.1


def test_commands_find_the_config_of_the_run(
    workspace: Path, medqa: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a YAML file, ``ask`` takes the settings that the run was trained with."""
    monkeypatch.chdir(workspace)
    (workspace / "medqa.yaml").rename(workspace / "away.yaml")
    try:
        answer = json.loads(medqa("ask", "--json", "--set", "run_dir=runs/tiny", "What is gout?").out)
    finally:
        (workspace / "away.yaml").rename(workspace / "medqa.yaml")
    assert answer["model"]["template"] == "chat"
    assert answer["answer_tokens"] <= 16
