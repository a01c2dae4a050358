"""The small model of an architecture has one layer of each kind and the base's heads, and trains on rows of its own."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from medqa_cli.config.schema import Config, ModelConfig
from medqa_cli.doctor.finding import NotChecked
from medqa_cli.doctor.subject import own_subject, reduced

CPU = torch.device("cpu")


def parameters(config: Any) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in AutoModelForCausalLM.from_config(config).parameters())


@pytest.mark.parametrize("model_type", ["llama", "qwen2", "qwen3", "gemma3_text", "gemma3", "smollm3", "mistral"])
def test_a_base_is_made_small_with_heads_of_its_size(model_type: str) -> None:
    base = CONFIG_MAPPING[model_type]()
    small, text = reduced(base), base.get_text_config()
    head_dim = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    assert (getattr(small, "head_dim", None) or small.hidden_size // small.num_attention_heads) == head_dim
    is_grouped = (text.num_key_value_heads or text.num_attention_heads) < text.num_attention_heads
    assert (small.num_key_value_heads < small.num_attention_heads) == is_grouped
    assert 10_000 < parameters(small) < 20_000_000
    assert base.get_text_config().num_hidden_layers > 4  # it is as it was


def test_each_kind_of_layer_is_there_once() -> None:
    sliding_and_full = reduced(CONFIG_MAPPING["gemma3_text"](num_hidden_layers=12))
    assert sliding_and_full.layer_types == ["sliding_attention", "full_attention"]
    smollm3 = reduced(CONFIG_MAPPING["smollm3"]())
    assert (smollm3.num_hidden_layers, sorted(smollm3.no_rope_layers)) == (2, [0, 1])
    assert reduced(CONFIG_MAPPING["llama"]()).num_hidden_layers == 2


def subject_of(name: str | None, folder: Path) -> Any:
    return own_subject(Config(model=ModelConfig(name_or_path=name)), folder, CPU, torch.float32)


def test_a_config_alone_is_enough(tmp_path: Path) -> None:
    CONFIG_MAPPING["qwen3"](num_hidden_layers=3).save_pretrained(tmp_path / "base")
    subject = subject_of(str(tmp_path / "base"), tmp_path / "made")
    assert subject.name == "small qwen3"
    assert (subject.base_dir / "model.safetensors").is_file()
    lengths = [len(example.input_ids) for example in subject.inputs.data.examples]
    assert len(set(lengths)) == len(lengths) == 8


@pytest.mark.parametrize(
    ("name", "said"), [(None, "model.name_or_path is not set"), ("nowhere/at all", "is neither a folder")]
)
def test_without_an_architecture_the_reason_is_said(name: str | None, said: str, tmp_path: Path) -> None:
    with pytest.raises(NotChecked, match=said):
        subject_of(name, tmp_path)
