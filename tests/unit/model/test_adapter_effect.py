"""An adapter that changes nothing, or not all of its layers, is refused wherever one is loaded."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from medqa_cli.config.schema import LoraConfig, ModelConfig
from medqa_cli.errors import InputError
from medqa_cli.merging.adapter_file import expected_tensors
from medqa_cli.model.load import load_adapter, load_base
from medqa_cli.model.lora import add_lora
from medqa_cli.model.resolve import find_base

Weights = dict[str, torch.Tensor]
FIRST_B = "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight"


def base_in(folder: Path) -> Any:
    how = ModelConfig(quantization="none")
    return load_base(find_base(str(folder)), how, torch.device("cpu"), torch.float32, packed=False)


@pytest.fixture
def adapter(tiny_model_dir: Path, tmp_path: Path) -> Path:
    """A trained adapter of q_proj and v_proj: eight tensors."""
    torch.manual_seed(1)
    model = add_lora(base_in(tiny_model_dir), LoraConfig(r=4), str(tiny_model_dir), None)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_()
    model.save_pretrained(tmp_path / "adapter", save_embedding_layers=False)
    return tmp_path / "adapter"


def rewrite(folder: Path, change: Callable[[str, torch.Tensor], tuple[str, torch.Tensor] | None]) -> None:
    path = folder / "adapter_model.safetensors"
    changed = [change(name, value) for name, value in load_file(path).items()]
    save_file(dict(pair for pair in changed if pair is not None), path, {"format": "pt"})


def zeroed(name: str, value: torch.Tensor) -> tuple[str, torch.Tensor]:
    return name, value * ("lora_B" not in name)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (zeroed, "changes nothing: all its B matrices are zero"),
        (lambda name, value: None, "is incomplete: its file lacks 8 tensors"),
        (
            lambda name, value: (name, value) if ".layers.0." in name else None,
            "its file lacks 4 tensors of the layers that adapter_config.json names: "
            "base_model.model.model.layers.1.self_attn.q_proj.lora_A.weight, ",
        ),
        (
            lambda name, value: (name.replace("self_attn", "attention"), value),
            "8 of 8 tensors of the adapter in ADAPTER belong to no layer of the base: "
            "base_model.model.model.layers.{0, 1}.attention.q_proj.lora_A.weight, ",
        ),
        (
            lambda name, value: (name, value * (float("nan") if name == FIRST_B else 1)),
            f"holds values that are not finite (NaN or infinite): {FIRST_B}",
        ),
    ],
    ids=["zero", "empty", "half", "other names", "nan"],
)
def test_an_adapter_without_effect_is_refused(
    adapter: Path, tiny_model_dir: Path, change: Callable[[str, torch.Tensor], Any], said: str
) -> None:
    rewrite(adapter, change)
    with pytest.raises(InputError) as caught:
        load_adapter(base_in(tiny_model_dir), adapter)
    assert said.replace("ADAPTER", str(adapter)) in caught.value.message


def test_layers_that_stay_as_they_are_are_warned_of(
    adapter: Path, tiny_model_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rewrite(adapter, lambda name, value: zeroed(name, value) if name == FIRST_B else (name, value))
    load_adapter(base_in(tiny_model_dir), adapter)
    said = " ".join(capsys.readouterr().err.split())
    assert f"changes nothing in 1 of its 4 layers, where B is zero: {FIRST_B}" in said


def test_a_trained_adapter_is_loaded_without_a_word(
    adapter: Path, tiny_model_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    load_adapter(base_in(tiny_model_dir), adapter)
    assert capsys.readouterr().err == ""


def test_merge_knows_which_tensors_an_adapter_must_have(adapter: Path, tiny_model_dir: Path) -> None:
    assert expected_tensors(tiny_model_dir, adapter) == load_file(adapter / "adapter_model.safetensors").keys()


def test_an_adapter_of_a_resized_vocabulary_is_refused_with_both_sizes(tiny_model_dir: Path, tmp_path: Path) -> None:
    from peft import LoraConfig as PeftLoraConfig
    from peft import get_peft_model

    model = base_in(tiny_model_dir)
    size = model.config.vocab_size
    model.resize_token_embeddings(size + 8)
    config = PeftLoraConfig(r=4, target_modules=["q_proj"], task_type="CAUSAL_LM", init_lora_weights=False)
    get_peft_model(model, config).save_pretrained(tmp_path, save_embedding_layers=True)
    with pytest.raises(InputError, match=rf"size mismatch.*\[{size + 8}, 64\].*\[{size}, 64\]"):
        load_adapter(base_in(tiny_model_dir), tmp_path)
