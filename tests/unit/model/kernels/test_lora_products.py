"""What is computed how often where activations are recomputed, and that the numbers do not change by it."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers.training import CPU, make_examples
from medqa_cli.config.schema import LoraConfig, ModelConfig
from medqa_cli.model.kernels import lora_products
from medqa_cli.model.kernels.fused_layers import fuse_layers
from medqa_cli.model.kernels.lora_products import keeping_constants
from medqa_cli.model.kernels.packing import answer_token_losses, pack
from medqa_cli.model.load import load_base
from medqa_cli.model.lora import add_lora
from medqa_cli.model.resolve import find_base

LAYERS, LINEARS = 2, 7


def make_model(folder: Path, **lora: Any) -> Any:
    """The tiny model, twice quantized, with an adapter that has an effect on all linear layers."""
    source = find_base(str(folder))
    base = load_base(source, ModelConfig(double_quantization=True), CPU, torch.float32, packed=True)
    config = LoraConfig(**{"r": 4, "lora_dropout": 0.0, "target_modules": "all-linear", **lora})
    model = add_lora(base, config, source.name, None).train()
    torch.manual_seed(1)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    fuse_layers(model)
    return model


def step(model: Any, recomputed: bool, dtype: torch.dtype) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    causal_lm = model.get_base_model()
    if recomputed:
        causal_lm.activation_checkpointing_enable({"use_reentrant": False})
    else:
        causal_lm.activation_checkpointing_disable()
    model.zero_grad()
    torch.manual_seed(4)
    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32), keeping_constants(recomputed):
        losses = answer_token_losses(model, pack(make_examples([(3, 9), (5, 4)]), CPU))
        losses.sum().backward()
    return losses.detach(), {name: p.grad.clone() for name, p in model.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("lora", [{}, {"lora_dropout": 0.2}])
def test_a_recomputed_step_is_the_kept_one_without_the_last_product_again(
    tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, lora: dict[str, Any]
) -> None:
    model = make_model(tiny_model_dir, **lora)
    counted: Counter[str] = Counter()

    def watch(owner: Any, name: str) -> None:
        own = getattr(owner, name)

        def watched(*arguments: Any, **more: Any) -> Any:
            counted[name] += 1
            return own(*arguments, **more)

        monkeypatch.setattr(owner, name, watched)

    import bitsandbytes as bnb

    watch(lora_products, "product")
    watch(bnb.functional, "dequantize_blockwise")
    kept, gradients = step(model, False, dtype)
    of_kept = dict(counted)
    counted.clear()
    recomputed, of_recomputed = step(model, True, dtype)
    assert torch.equal(recomputed, kept)
    assert gradients.keys() == of_recomputed.keys()
    assert all(torch.equal(of_recomputed[name], gradient) for name, gradient in gradients.items())
    # The product of a layer's last linear is in nothing that the backward pass needs.
    # The first layer's input needs no gradient, so that q, k and v of it are not multiplied backwards.
    assert of_kept == {"product": LAYERS * LINEARS, "dequantize_blockwise": 2 * LAYERS * LINEARS - 3}
    assert counted == {"product": LAYERS * (2 * LINEARS - 1), "dequantize_blockwise": 2 * LAYERS * LINEARS}


def test_kept_constants_are_those_of_bitsandbytes(tiny_model_dir: Path) -> None:
    model = make_model(tiny_model_dir)
    layer = model.get_base_model().model.layers[0].mlp.down_proj.get_base_layer()
    assert lora_products._constants_of(layer) is None
    with keeping_constants():
        constants = lora_products._constants_of(layer)
    assert constants is not None
    for dtype in (torch.float32, torch.bfloat16):
        found, _ = lora_products._dense_weight(layer, dtype, constants)
        expected, _ = lora_products._dense_weight(layer, dtype)
        assert torch.equal(found, expected)
    assert layer.weight.quant_state.nested


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_scaled_product_has_the_bits_of_a_product_that_is_scaled(dtype: torch.dtype) -> None:
    """For the scales that alpha / r usually is; garbage in what is not read does no harm."""
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.randn(shape, generator=generator).to(dtype) for shape in ((37, 300), (300, 24)))
    for scaling in (0.25, 1.0, 2.0, 8.0):
        found = lora_products._scaled_product(first, second, scaling)
        assert torch.equal(found, torch.mm(first, second).mul_(scaling))
    uneven = lora_products._scaled_product(first, second, 0.3)
    torch.testing.assert_close(uneven, torch.mm(first, second).mul_(0.3))
