"""Experts as layers of their own: they compute what joined ones do, are quantized like other layers, and merged."""

import math
from pathlib import Path
from typing import Any

import bitsandbytes as bnb
import pytest
import torch
from safetensors.torch import load_file, save_file

from helpers.tiny_architectures import tiny_config, tiny_model
from medqa_cli.config.schema import LoraConfig, ModelConfig
from medqa_cli.merging.architecture import build_architecture, stored_names
from medqa_cli.model.experts import SeparateExperts, experts_of, separate_experts
from medqa_cli.model.load import empty_base, load_base
from medqa_cli.model.lora import add_lora
from medqa_cli.model.memory_profile import ShapeModel
from medqa_cli.model.quantization import four_bit_layers, num_unquantized, tell_unquantized
from medqa_cli.model.resolve import find_base
from medqa_cli.model.weights import WeightFiles
from medqa_cli.prompt.encoder import Example

CPU = torch.device("cpu")
# Rows of whole blocks: bitsandbytes computes others wrongly on some CPUs.
SIZES: dict[str, Any] = {"hidden_size": 64, "head_dim": 16, "intermediate_size": 64, "moe_intermediate_size": 64}
SEPARATED = ("mixtral", "qwen3_moe", "qwen2_moe", "olmoe")
HOW = ModelConfig(quantization="nf4")


def sizes_of(kind: str) -> dict[str, Any]:
    found = {name: size for name, size in SIZES.items() if hasattr(tiny_config(kind), name)}
    return found if kind == "mixtral" else {**found, "num_experts": 4}


def saved(kind: str, folder: Path) -> Any:
    model = tiny_model(kind, **sizes_of(kind))
    model.save_pretrained(folder)
    return model


def load(folder: Path, how: ModelConfig = HOW) -> Any:
    return load_base(find_base(str(folder)), how, CPU, torch.float32, packed=True)


def logits_of(model: Any, seed: int = 0) -> torch.Tensor:
    ids = torch.randint(5, 100, (2, 40), generator=torch.Generator().manual_seed(seed))
    with torch.inference_mode():
        found: torch.Tensor = model(input_ids=ids).logits
    return found


@pytest.mark.parametrize("kind", SEPARATED)
def test_separate_experts_compute_what_joined_ones_do(kind: str, tmp_path: Path) -> None:
    joined = saved(kind, tmp_path)
    files = load_file(tmp_path / "model.safetensors")
    with torch.device("meta"):
        model = type(joined)(joined.config)
    separate_experts(model, files)
    names = stored_names(model, files)
    assert not names.missing | names.unexpected | names.rearranged
    assert names.of_parameter.keys() == model.state_dict().keys()
    model.load_state_dict({name: files[stored] for name, stored in names.of_parameter.items()}, assign=True)
    model.model.rotary_emb = joined.model.rotary_emb
    assert experts_of(model) == [f"model.layers.{index}.mlp.experts" for index in range(len(model.model.layers))]
    assert float((logits_of(model.eval()) - logits_of(joined)).abs().max()) < 1e-5


def test_gradients_through_separate_experts_are_those_of_joined_ones() -> None:
    joined = tiny_model("mixtral").model.layers[0].mlp.experts
    separate = SeparateExperts(joined, ("w1", "w3", "w2")).to_empty(device=CPU)
    for index in range(joined.num_experts):
        parts = (*joined.gate_up_proj[index].chunk(2), joined.down_proj[index])
        for name, part in zip(("w1", "w3", "w2"), parts, strict=True):
            separate.get_submodule(f"{index}.{name}").weight.data = part.detach().clone()
    generator = torch.Generator().manual_seed(0)
    tokens, weights = torch.randn(30, 32, generator=generator), torch.rand(30, 2, generator=generator)
    # One expert gets nothing.
    chosen = torch.stack([torch.randperm(3, generator=generator)[:2] for _ in range(30)])
    gradients = []
    for experts in (joined, separate):
        inputs = [tokens.clone().requires_grad_(), weights.clone().requires_grad_()]
        output = experts(inputs[0], chosen, inputs[1])
        gradients.append([output, *torch.autograd.grad(output.square().sum(), inputs)])
    for own, wanted in zip(*gradients, strict=True):
        assert torch.allclose(own, wanted, atol=1e-5, rtol=1e-5)


def test_experts_that_compute_otherwise_or_are_published_joined_stay_so() -> None:
    """gpt-oss clamps, has biases, and interleaves gate and up; Qwen3.5's files hold them joined."""
    for kind, is_separate in (("gpt_oss", False), ("qwen3_5_moe_text", False), ("mixtral", True)):
        model = tiny_model(kind)
        separate_experts(model)
        assert bool(experts_of(model)) == is_separate


@pytest.mark.parametrize("kind", ["mixtral", "qwen3_moe"])
@pytest.mark.parametrize("quantization", ["nf4", "int8"])
def test_quantized_loading_leaves_no_expert_in_16_bits(
    kind: str, quantization: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    joined = saved(kind, tmp_path)
    how = ModelConfig(quantization=quantization)
    base = load(tmp_path, how)
    routers = sum(p.numel() for name, p in joined.named_parameters() if ".gate." in name)
    assert num_unquantized(base) == num_unquantized(empty_base(joined.config, how, torch.float32)) == routers
    tell_unquantized(base, how, torch.float32)
    assert "nf4" not in capsys.readouterr().err
    # As near to the file's as 4 and 8 bits come: other experts, or their parts exchanged, are far off.
    files = load_file(tmp_path / "model.safetensors")
    names = stored_names(base, files).of_parameter
    experts = {
        name: module for name, module in base.named_modules() if ".experts." in name and hasattr(module, "weight")
    }
    assert len(experts) == 2 * 4 * 3
    for name, layer in experts.items():
        wanted = files[names[f"{name}.weight"]]
        assert float((whole(layer) - wanted).norm() / wanted.norm()) < (0.11 if quantization == "nf4" else 0.02)


def whole(layer: Any) -> torch.Tensor:
    """The weight that a quantized layer stands for."""
    if hasattr(layer.weight, "quant_state"):
        found: torch.Tensor = bnb.functional.dequantize_4bit(layer.weight.data, layer.weight.quant_state)
        return found
    return layer.weight.data.float() * layer.weight.SCB[:, None] / 127


def test_merge_knows_the_experts_in_4_bits(tmp_path: Path) -> None:
    saved("qwen3_moe", tmp_path)
    base = load(tmp_path)
    architecture, _ = build_architecture(tmp_path, WeightFiles.open(tmp_path).tensors)
    names = {name for name, module in base.named_modules() if module in four_bit_layers(base)}
    assert architecture.four_bit == names
    assert "model.layers.1.mlp.experts.3.down_proj" in names


def test_files_with_joined_experts_are_loaded_as_they_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    joined = saved("qwen3_moe", tmp_path)
    state = {name: value.clone() for name, value in joined.state_dict().items()}
    save_file(state, tmp_path / "model.safetensors", {"format": "pt"})
    base = load(tmp_path)
    assert experts_of(base) == []
    architecture, _ = build_architecture(tmp_path, WeightFiles.open(tmp_path).tensors)
    assert "model.layers.0.mlp.experts.gate_up_proj" in architecture.shapes
    assert num_unquantized(base) > 40_000
    tell_unquantized(base, HOW, torch.float32)
    assert "(the experts of a mixture, as a rule) stay float32" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("kind", ["mixtral", "qwen3_moe"])
def test_adapters_leave_separate_experts_alone(kind: str, tmp_path: Path) -> None:
    saved(kind, tmp_path)
    for modules in ("all-linear", "auto"):
        model = add_lora(load(tmp_path), LoraConfig(target_modules=modules), "base", None)
        adapted = {name.rpartition(".")[2] for name, module in model.named_modules() if hasattr(module, "lora_A")}
        assert adapted == ({"q_proj", "v_proj"} if modules == "auto" else {"q_proj", "k_proj", "v_proj", "o_proj"})


@pytest.mark.parametrize("kind", ["mixtral", "qwen3_moe"])
def test_the_memory_plan_counts_experts_as_they_are_loaded(kind: str, tmp_path: Path) -> None:
    joined = saved(kind, tmp_path)
    examples = [Example(list(range(5, 5 + length)), [-100, *range(6, 5 + length)], False) for length in (20, 30)]
    memory = {}
    for quantization in ("nf4", "none"):
        how: Any = ModelConfig(quantization=quantization)
        shape = ShapeModel(joined.config, how, LoraConfig(target_modules="all-linear"), torch.float32)
        memory[quantization] = shape.step_memory(examples, device_type="cpu", recomputed=False, several_forwards=False)
    count = sum(p.numel() for p in joined.parameters())
    assert memory["nf4"].num_parameters - memory["nf4"].num_trainable == count
    whole = sum(p.numel() * p.element_size() for p in joined.parameters())
    assert memory["none"].base_bytes == pytest.approx(whole, rel=0.01)
    loaded = load(tmp_path)
    packed = sum(
        layer.weight.numel() + 4 * math.ceil(2 * layer.weight.numel() / 64) for layer in four_bit_layers(loaded)
    )
    others = sum(p.numel() * p.element_size() for p in loaded.parameters() if p.is_floating_point())
    assert memory["nf4"].base_bytes == pytest.approx(packed + others, rel=0.05)
