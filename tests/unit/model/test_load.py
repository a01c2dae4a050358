"""What ``--model`` names is loaded in one way: its prompt contract, its quantization, what is missing."""

import shutil
from pathlib import Path

import pytest
import torch

from medqa_cli.config.schema import ModelConfig, PromptConfig
from medqa_cli.errors import InputError
from medqa_cli.files import RunFolder
from medqa_cli.model.load import load_model, load_tokenizer, quantized_how
from medqa_cli.prompt.contract import make_contract

PLAIN = ModelConfig(quantization="none", compute_dtype="float32")


def test_load_model_base_is_the_configs(tiny_model_dir: Path, tmp_path: Path) -> None:
    config = ModelConfig(name_or_path=str(tiny_model_dir), quantization="nf4", compute_dtype="float32")
    loaded = load_model("base", RunFolder(tmp_path), config, PromptConfig())
    assert (loaded.name, loaded.source.name, loaded.dtype) == ("base", str(tiny_model_dir), torch.float32)
    assert loaded.model.is_loaded_in_4bit
    assert loaded.encoder.contract.text.template == PromptConfig().template


def test_load_model_base_is_the_base_also_beside_a_folder_with_an_adapter_of_that_name(
    tiny_model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "adapter_config.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    config = ModelConfig(name_or_path=str(tiny_model_dir), quantization="none", compute_dtype="float32")
    assert load_model("base", RunFolder(tmp_path), config, PromptConfig()).source.name == str(tiny_model_dir)


def test_load_model_path_is_asked_by_the_contract_beside_it(tiny_model_dir: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_model_dir, tmp_path / "copy")
    make_contract(PromptConfig(template="alpaca"), load_tokenizer(str(folder))).save(folder)
    loaded = load_model(str(folder), RunFolder(tmp_path / "run"), PLAIN, PromptConfig(), packed=True)
    assert loaded.encoder.contract.text.template == "alpaca"
    assert loaded.source.kind == "folder"


def test_load_model_merged_missing_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no merged model in") as caught:
        load_model("merged", RunFolder(tmp_path), PLAIN, PromptConfig())
    assert caught.value.hint == "make one: medqa merge"


@pytest.mark.parametrize(
    ("choice", "expected"), [("adapter", "nf4"), ("base", "nf4"), ("merged", "none"), ("folder/of/a/model", "nf4")]
)
def test_quantized_how_is_the_config_but_for_merged(choice: str, expected: str) -> None:
    assert quantized_how(choice, ModelConfig(quantization="nf4")).quantization == expected


def test_a_folder_that_merge_wrote_is_not_quantized_again(tmp_path: Path) -> None:
    assert quantized_how(str(tmp_path), ModelConfig(quantization="nf4")).quantization == "nf4"
    (tmp_path / "merge.json").write_text("{}", encoding="utf-8")
    assert quantized_how(str(tmp_path), ModelConfig(quantization="nf4")).quantization == "none"
