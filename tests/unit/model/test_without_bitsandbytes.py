"""Without bitsandbytes unquantized models are trained, merged and asked; quantization says how to get it."""

import builtins
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers.training import CPU, make_examples
from medqa_cli.config.schema import LoraConfig, ModelConfig
from medqa_cli.errors import InputError
from medqa_cli.merging.verify import computing_in
from medqa_cli.model import quantization
from medqa_cli.model.kernels.fused_layers import LAYER_KINDS
from medqa_cli.model.kernels.packing import answer_token_losses, pack
from medqa_cli.model.kernels.verify import settle_way
from medqa_cli.model.load import load_base
from medqa_cli.model.lora import add_lora
from medqa_cli.model.resolve import find_base


@pytest.fixture
def hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """The package is not there for medqa: importing it fails, as Python does where it is not installed."""
    own = builtins.__import__

    def imported(name: str, namespace: Any = None, *args: Any, **kwargs: Any) -> Any:
        if name.partition(".")[0] == "bitsandbytes":
            raise ModuleNotFoundError(f"No module named {name!r}", name="bitsandbytes")
        return own(name, namespace, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", imported)
    for question in ("is_bnb_available", "is_bnb_4bit_available"):
        monkeypatch.setattr(f"peft.tuners.lora.model.{question}", lambda: False)
    for name in [name for name in sys.modules if name.partition(".")[0] == "bitsandbytes"]:
        monkeypatch.delitem(sys.modules, name)


def test_an_unquantized_model_is_trained_and_compared(hidden: None, tiny_model_dir: Path) -> None:
    source = find_base(str(tiny_model_dir))
    base = load_base(source, ModelConfig(quantization="none"), CPU, torch.float32, packed=True)
    model = add_lora(base, LoraConfig(r=4, target_modules="all-linear"), source.name, None)
    way = settle_way(model, "it", torch.float32, trains=True)
    assert (way.packed, way.in_chunks, way.fused, way.reasons) == (True, True, LAYER_KINDS, ())
    answer_token_losses(model.train(), pack(make_examples([(3, 5), (4, 6)]), CPU)).sum().backward()
    assert any(bool(p.grad.any()) for p in model.parameters() if p.grad is not None)
    assert quantization.four_bit_layers(model) == quantization.eight_bit_layers(model) == []
    assert quantization.dequantize_layers(base, torch.float32) == 0
    with computing_in(model, torch.bfloat16):  # as merge compares
        pass


@pytest.mark.parametrize("kind", ["nf4", "int8"])
def test_quantization_says_how_to_get_it(kind: Any, hidden: None, tiny_model_dir: Path) -> None:
    with pytest.raises(InputError, match="bitsandbytes is not installed") as caught:
        load_base(find_base(str(tiny_model_dir)), ModelConfig(quantization=kind), CPU, torch.float32, packed=True)
    assert "pip install 'bitsandbytes" in caught.value.hint
    assert "model.quantization: none" in caught.value.hint


def test_one_that_does_not_start_is_named_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    own = builtins.__import__

    def imported(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "bitsandbytes":
            raise OSError("libbitsandbytes_cpu.so: wrong ELF class")
        return own(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", imported)
    with pytest.raises(InputError, match="does not start here: libbitsandbytes"):
        quantization.require_bitsandbytes("nf4")
