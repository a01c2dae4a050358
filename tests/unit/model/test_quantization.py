"""4-bit layers made plain for generation: the kernel's own numbers, and only where that helps and fits."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import bitsandbytes as bnb
import pytest
import torch
from peft import LoraConfig, get_peft_model

from helpers.models import make_tiny_model
from medqa_cli.config.schema import ModelConfig
from medqa_cli.model import quantization
from medqa_cli.model.load import load_base
from medqa_cli.model.resolve import ModelRef

CPU = torch.device("cpu")


def load(
    folder: Path, quantization: Any = "nf4", dtype: torch.dtype = torch.float32, double: bool = True, **how: bool
) -> Any:
    config = ModelConfig(quantization=quantization, double_quantization=double)
    return load_base(ModelRef(str(folder), str(folder), "folder"), config, CPU, dtype, **{"packed": False, **how})


def num_four_bit(model: torch.nn.Module) -> int:
    return sum(isinstance(module, bnb.nn.Linear4bit) for module in model.modules())


def with_adapter(model: torch.nn.Module) -> Any:
    torch.manual_seed(0)
    config = LoraConfig(r=4, target_modules=["q_proj", "down_proj"], init_lora_weights=False)
    return get_peft_model(model, config).eval()


@pytest.fixture
def without_avx512bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bnb.nn.modules, "has_avx512bf16", lambda: False)


@pytest.fixture
def biased_model_dir(tmp_path: Path) -> Path:
    config = make_tiny_model(300).config
    config.attention_bias = config.mlp_bias = True
    torch.manual_seed(5)
    model = type(make_tiny_model(300))(config)
    for name, parameter in model.named_parameters():
        if name.endswith(".bias"):
            parameter.data.normal_()
    model.save_pretrained(tmp_path / "biased")
    return tmp_path / "biased"


@pytest.mark.usefixtures("without_avx512bf16")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("quantization", ["nf4", "fp4"])
@pytest.mark.parametrize("double", [True, False])
def test_logits_are_those_of_the_kernel(
    biased_model_dir: Path, monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, quantization: str, double: bool
) -> None:
    plain = with_adapter(load(biased_model_dir, quantization, dtype, double))
    monkeypatch.setattr("medqa_cli.model.quantization.gains_from_dequantizing", lambda *_, **__: False)
    quantized = with_adapter(load(biased_model_dir, quantization, dtype, double))
    assert (num_four_bit(plain), num_four_bit(quantized)) == (0, 14)

    input_ids = torch.randint(3, 300, (2, 9), generator=torch.Generator().manual_seed(1))
    for ids in (input_ids, input_ids[:1, :1]):
        with torch.inference_mode():
            tuned, expected = plain(ids).logits, quantized(ids).logits
            with plain.disable_adapter(), quantized.disable_adapter():
                assert plain(ids).logits.equal(quantized(ids).logits)
        assert tuned.dtype == dtype
        if dtype == torch.float32:
            assert tuned.equal(expected)
        else:
            # PEFT rounds the product of the adapter before it adds it to a 4-bit layer, not to a plain one.
            assert (tuned - expected).abs().max() < 0.01 * expected.abs().max()
    assert not any(p.requires_grad for name, p in plain.named_parameters() if "lora_" not in name)


@pytest.mark.usefixtures("without_avx512bf16")
def test_another_type_in_the_file_does_not_round_twice(biased_model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint stored in 4 bits elsewhere says bfloat16 of itself; the kernel dequantizes to its input's type."""
    monkeypatch.setattr("medqa_cli.model.quantization.gains_from_dequantizing", lambda *_, **__: False)
    model = load(biased_model_dir)
    input_ids = torch.tensor([[5, 6, 7]])
    with torch.inference_mode():
        expected = model(input_ids).logits
        for module in model.modules():
            if isinstance(module, bnb.nn.Linear4bit):
                module.weight.quant_state.dtype = torch.bfloat16
        assert quantization.dequantize_layers(model, torch.float32) == 14
        assert model(input_ids).logits.equal(expected)


@pytest.mark.usefixtures("without_avx512bf16")
def test_only_for_generation_where_there_is_room(tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert num_four_bit(load(tiny_model_dir)) == 0
    assert num_four_bit(load(tiny_model_dir, packed=True)) == 14

    layers = [module for module in load(tiny_model_dir, packed=True).modules() if isinstance(module, bnb.nn.Linear4bit)]
    needed = 4 * sum(layer.in_features * layer.out_features for layer in layers)
    for free, expected in ((2 * needed, 0), (2 * needed - 1, 14)):
        monkeypatch.setattr(quantization, "free_memory_bytes", lambda device, free=free: free)
        assert num_four_bit(load(tiny_model_dir)) == expected
    # In half the bytes there is room again.
    assert num_four_bit(load(tiny_model_dir, dtype=torch.bfloat16)) == 0


def test_the_packed_kernel_of_avx512bf16_makes_single_answers_only(
    tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bnb.nn.modules, "has_avx512bf16", lambda: True)
    assert num_four_bit(load(tiny_model_dir, dtype=torch.bfloat16)) == 14
    assert num_four_bit(load(tiny_model_dir, dtype=torch.bfloat16, batches=True)) == 0
    # It rounds to bfloat16 whatever the type is.
    assert num_four_bit(load(tiny_model_dir, dtype=torch.float32)) == 0


def test_gpus_are_left_alone(tiny_model_dir: Path) -> None:
    model = load(tiny_model_dir, packed=True)
    assert quantization.gains_from_dequantizing(model, CPU, torch.float32, batches=True)
    assert not quantization.gains_from_dequantizing(model, torch.device("cuda", 0), torch.float32, batches=True)
    unquantized = load(tiny_model_dir, "none")
    assert not quantization.gains_from_dequantizing(unquantized, CPU, torch.float32, batches=True)


def test_an_unquantized_model_answers_without_bitsandbytes(tiny_model_dir: Path) -> None:
    """Its import takes two seconds, a third of what the first answer waits for."""
    code = f"""
import sys, torch
from medqa_cli.config.schema import ModelConfig
from medqa_cli.model.load import load_base
from medqa_cli.model.resolve import ModelRef

source = ModelRef({str(tiny_model_dir)!r}, {str(tiny_model_dir)!r}, "folder")
model = load_base(source, ModelConfig(quantization="none"), torch.device("cpu"), torch.float32, packed=False)
assert len(list(model.modules())) > 10
print("bitsandbytes" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
