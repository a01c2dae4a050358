"""Models of today's types, tiny and random, through convert, train, eval, ask and merge, against Transformers and PEFT.

docs/architectures.md has a row for each.
"""

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bitsandbytes as bnb
import pytest
import torch
from safetensors.torch import load_file, save_file

from helpers.commands import Outcome, run_in
from helpers.models import make_tiny_model
from helpers.tiny_architectures import tiny_model
from helpers.todays_models import TODAYS
from medqa_cli.data.dataset import read_split
from medqa_cli.model.memory_profile import ShapeModel, UnknownMemoryError
from medqa_cli.prompt.contract import PromptContract
from medqa_cli.prompt.encoder import IGNORE_INDEX, PromptEncoder

Medqa = Callable[..., Outcome]

# Beside the tiny sizes, some of which go with the vocabulary.
CHANGES: dict[str, dict[str, Any]] = {"qwen3_moe": {"num_experts": 4}}
VOCABULARIES = {"gemma4_text": "vocab_size_per_layer_input"}
QUESTIONS = ["What is disease 7?", "Where?", "What is the list of diseases and what is number 42 of it?"]
NEW_TOKENS = 12


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory, chatml_tokenizer: Any) -> Path:
    folder = tmp_path_factory.mktemp("types")
    make_tiny_model(len(chatml_tokenizer)).save_pretrained(folder / "model")  # which each test replaces
    chatml_tokenizer.save_pretrained(folder / "model")
    rows = [f"What is disease {i}?,Disease {i} is number {i * 7} of the list of diseases." for i in range(20)]
    (folder / "qa.csv").write_text("question,answer\n" + "\n".join(rows) + "\n", encoding="utf-8")
    (folder / "medqa.yaml").write_text(
        f"""
run_dir: run
data: {{source: qa.csv, dir: data, validation_fraction: 0.2, test_fraction: 0.2}}
prompt: {{template: chat}}
model: {{name_or_path: model, max_length: 64, compute_dtype: float32, quantization: none}}
lora: {{r: 4, lora_alpha: 16, lora_dropout: 0}}
train: {{max_steps: 2, learning_rate: 1e-2, gradient_checkpointing: false, logging_steps: 1}}
generate: {{max_new_tokens: {NEW_TOKENS}, batch_size: 4}}
eval: {{metrics: [nll], bootstrap_draws: 100}}
""",
        encoding="utf-8",
    )
    run_in(folder, "convert")
    return folder


@pytest.fixture
def workspace(converted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(converted, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def save_model(kind: str, tokenizer: Any, **changes: Any) -> None:
    ids: dict[str, Any] = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    sizes: dict[str, Any] = dict.fromkeys(["vocab_size", *VOCABULARIES.get(kind, "").split()], len(tokenizer))
    tiny_model(kind, **sizes, **ids, **CHANGES.get(kind, {}), **changes).save_pretrained("model")


def plain_model(tokenizer: Any, folder: str = "model") -> tuple[Any, PromptEncoder]:
    """Base and adapter as Transformers and PEFT load and compute them."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    model = PeftModel.from_pretrained(base, "run/adapter").eval()
    return model, PromptEncoder(PromptContract.load(Path("run/adapter")), tokenizer)


def plain_nll(model: Any, encoder: PromptEncoder, split: str) -> float:
    """Nats per answer token, one example at a time."""
    rows = read_split(Path("data"), split)
    total, count = 0.0, 0
    for example in encoder.encode_examples([row.question for row in rows], [row.answer for row in rows], 64):
        labels = torch.tensor(example.labels[1:])
        with torch.inference_mode():
            logits = model(input_ids=torch.tensor([example.input_ids])).logits[0, :-1].float()
        total += float(torch.nn.functional.cross_entropy(logits, labels, ignore_index=IGNORE_INDEX, reduction="sum"))
        count += int((labels != IGNORE_INDEX).sum())
    return total / count


def plain_answer(model: Any, encoder: PromptEncoder, question: str) -> str:
    ids = torch.tensor([encoder.encode_prompt(question)])
    with torch.inference_mode():
        found = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=NEW_TOKENS,
            do_sample=False,
            eos_token_id=list(encoder.contract.stop_token_ids),
        )
    return encoder.decode_answer(found[0, ids.shape[1] :].tolist())


def assert_same_logits(model: Any, expected: Any, encoder: PromptEncoder) -> None:
    """Within 1e-5 of the largest."""
    ids = torch.tensor([encoder.encode_prompt(QUESTIONS[-1])])
    with torch.inference_mode():
        found, wanted = (one(input_ids=ids).logits for one in (model, expected))
    assert float((found - wanted).abs().max()) < 1e-5 * float(wanted.abs().max())


def succeed(outcome: Outcome) -> Outcome:
    assert outcome.code == 0, outcome.err
    return outcome


def no_prediction(*given: Any, **options: Any) -> None:
    """Stands for the prediction of a step's memory, a third of the time of a test, which others are about."""
    raise UnknownMemoryError("not asked for")


@pytest.mark.parametrize("kind", TODAYS)
def test_every_command_computes_what_transformers_and_peft_do(
    kind: str, workspace: Path, medqa: Medqa, chatml_tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoModelForCausalLM

    monkeypatch.setattr(ShapeModel, "step_memory", no_prediction)
    save_model(kind, chatml_tokenizer)
    trained = json.loads(succeed(medqa("train", "--json")).out)
    model, encoder = plain_model(chatml_tokenizer)
    assert trained["validation_loss"][-1] == pytest.approx(plain_nll(model, encoder, "validation"), abs=1e-5)
    assert abs(trained["validation_loss"][0] - trained["validation_loss"][-1]) > 1e-3
    scored = json.loads(succeed(medqa("eval", "--json", "--model", "adapter")).out)["models"]
    assert scored["adapter"]["nll"]["value"] == pytest.approx(plain_nll(model, encoder, "test"), abs=1e-5)
    Path("asked.txt").write_text("\n".join(QUESTIONS), encoding="utf-8")
    answers = [json.loads(line)["answer"] for line in succeed(medqa("ask", "--file", "asked.txt")).out.splitlines()]
    assert answers == [plain_answer(model, encoder, question) for question in QUESTIONS]
    assert any(answers)
    merged_by_medqa = json.loads(succeed(medqa("merge", "--json")).out)
    assert merged_by_medqa["verification"]["passed"]
    assert merged_by_medqa["verification"]["max_abs_logit_difference"] < 1e-4
    merged = AutoModelForCausalLM.from_pretrained("run/merged", dtype=torch.float32).eval()
    expected = copy.deepcopy(model).merge_and_unload()
    assert_same_logits(merged, expected, encoder)


def save_dequantized(folder: Path) -> None:
    """Write the model with each matrix of its layers as 4 bits hold it."""
    shutil.copytree("model", folder)
    state = load_file(folder / "model.safetensors")
    for name, weight in state.items():
        if ".layers." in name and weight.dim() == 2 and not name.endswith(".gate.weight"):
            codes, how = bnb.functional.quantize_4bit(weight, blocksize=64, quant_type="nf4")
            state[name] = bnb.functional.dequantize_4bit(codes, how)
    save_file(state, folder / "model.safetensors", {"format": "pt"})


@pytest.mark.parametrize("kind", ["mixtral", "qwen3_moe"])
def test_experts_in_4_bits_are_trained_on_and_merged_as_4_bits_hold_them(
    kind: str, workspace: Path, medqa: Medqa, chatml_tokenizer: Any
) -> None:
    from transformers import AutoModelForCausalLM

    inner = "intermediate_size" if kind == "mixtral" else "moe_intermediate_size"
    save_model(kind, chatml_tokenizer, **{"hidden_size": 64, "head_dim": 16, inner: 64})
    options = ("--set", "model.quantization=nf4", "--set", "model.double_quantization=false")
    trained = succeed(medqa("train", "--json", *options))
    assert "takes linear layers only" not in trained.err
    save_dequantized(workspace / "dequantized")
    model, encoder = plain_model(chatml_tokenizer, "dequantized")
    expected = plain_nll(model, encoder, "validation")
    assert json.loads(trained.out)["validation_loss"][-1] == pytest.approx(expected, abs=1e-5)
    merged_by_medqa = succeed(medqa("merge", "--json", "--base-weights", "nf4", *options))
    assert json.loads(merged_by_medqa.out)["verification"]["passed"]
    merged = AutoModelForCausalLM.from_pretrained("run/merged", dtype=torch.float32).eval()
    merge = model.merge_and_unload()
    assert_same_logits(merged, merge, encoder)
