"""Compiled layers compute what the layers compute without, by one graph for all of them and for every length."""

import functools
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers.models import make_tiny_model
from helpers.training import CPU, make_examples
from medqa_cli.config.schema import LoraConfig, ModelConfig
from medqa_cli.model.kernels import operators
from medqa_cli.model.kernels.compiled_layers import compile_layers, counted_graphs, uncompile_layers, why_not
from medqa_cli.model.kernels.cpu_attention import CpuAttention
from medqa_cli.model.kernels.fused_layers import fuse_layers
from medqa_cli.model.kernels.packing import answer_token_losses, pack
from medqa_cli.model.load import load_base
from medqa_cli.model.lora import add_lora
from medqa_cli.model.resolve import find_base


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model with four layers."""
    folder = tmp_path_factory.mktemp("four-layers")
    make_tiny_model(200, num_hidden_layers=4).save_pretrained(folder)
    return folder


def trained_model(folder: Path, **lora: Any) -> Any:
    """The model with 4-bit weights, adapters that have an effect, and fused layers."""
    torch.manual_seed(3)
    source = find_base(str(folder))
    base = load_base(source, ModelConfig(quantization="nf4"), CPU, torch.float32, packed=True)
    settings = {"r": 4, "lora_dropout": 0.0, "target_modules": "all-linear", **lora}
    model = add_lora(base, LoraConfig(**settings), source.name, None)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    fuse_layers(model)
    return model.train()


def step(model: Any, lengths: list[tuple[int, int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """The losses of a forward pass and the gradients of all that is trained."""
    losses = answer_token_losses(model, pack(make_examples(lengths), CPU))
    gradients = torch.autograd.grad(losses.mean(), [p for p in model.parameters() if p.requires_grad])
    return losses.detach(), torch.cat([gradient.flatten() for gradient in gradients])


@pytest.fixture
def graphs_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Graphs are made and run as they are, without C++: that takes a second instead of twenty."""
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))


@pytest.mark.usefixtures("graphs_only")
def test_four_layers_share_two_graphs_and_other_lengths_need_no_more(folder: Path) -> None:
    """Two, since what goes into the first layer needs no gradient."""
    lengths = [[(5, 7), (12, 1), (3, 20)], [(4, 30)], [(2, 2), (9, 9), (30, 3), (1, 8), (20, 20)]]
    model = trained_model(folder)
    expected = [step(model, some) for some in lengths]
    compile_layers(model.get_base_model())
    found, graphs = [], []
    for some in lengths:
        with counted_graphs() as counted:
            found.append(step(model, some))
        graphs.append(counted)
    assert graphs == [{"graphs": 2, "cuts": 0}, {"graphs": 0, "cuts": 0}, {"graphs": 0, "cuts": 0}]
    for (losses, gradients), (own_losses, own_gradients) in zip(found, expected, strict=True):
        torch.testing.assert_close(losses, own_losses, rtol=1e-5, atol=1e-5)
        assert float((gradients - own_gradients).norm()) < 1e-5 * float(own_gradients.norm())
    uncompile_layers(model.get_base_model())
    assert all(torch.equal(*pair) for pair in zip(step(model, lengths[0]), expected[0], strict=True))


def test_without_gradients_the_layers_compute_as_before(folder: Path) -> None:
    model = trained_model(folder)
    batch = pack(make_examples([(5, 7), (3, 20)]), CPU)
    with torch.no_grad(), counted_graphs() as counted:
        expected = answer_token_losses(model, batch)
        compile_layers(model.get_base_model())
        assert torch.equal(answer_token_losses(model, batch), expected)
    assert counted == {"graphs": 0, "cuts": 0}


@pytest.mark.parametrize("lora", [{"lora_dropout": 0.1}, {"use_dora": True}])
def test_other_adapters_than_plain_ones_without_dropout_are_named(folder: Path, lora: dict[str, Any]) -> None:
    assert "an adapter with dropout, or in another form than plain LoRA" in why_not(
        trained_model(folder, **lora).get_base_model()
    )
    assert why_not(trained_model(folder).get_base_model()) == ""


def test_the_operators_keep_to_what_they_tell_the_compiler(folder: Path) -> None:
    """Shapes, layouts and gradients, with lengths that are known and with symbols (PyTorch's own check)."""
    model = trained_model(folder)
    layer = model.get_base_model().model.layers[0].mlp.down_proj
    lora = (layer.lora_A["default"].weight, layer.lora_B["default"].weight)
    x = torch.randn(1, 12, 128, requires_grad=True)
    torch.library.opcheck(operators.lora_linear, (x, *lora, operators.number_of(layer)))
    torch.testing.assert_close(operators.lora_linear(x, *lora, operators.number_of(layer)), layer(x))
    query, key, value = (torch.randn(1, heads, 12, 16, requires_grad=True) for heads in (4, 2, 2))
    lengths = operators.lengths_tensor((5, 7))
    torch.library.opcheck(operators.attention, (query, key, value, lengths, 0.25))
    attended: Any = CpuAttention.apply(query, key, value, (5, 7), 0.25)
    assert torch.equal(operators.attention(query, key, value, lengths, 0.25)[0], attended)
