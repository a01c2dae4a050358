"""The fused layers compute what PEFT's and Transformers' own compute: outputs, losses and gradients."""

import copy
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from helpers.training import make_examples
from medqa_cli.config.schema import LoraConfig, ModelConfig
from medqa_cli.errors import InputError
from medqa_cli.model.kernels.fused_layers import _RmsNorm, fuse_layers, rms_norm_in_one_kernel
from medqa_cli.model.kernels.lora_products import casting_once
from medqa_cli.model.kernels.packing import answer_token_losses, pack
from medqa_cli.model.load import load_base
from medqa_cli.model.lora import add_lora
from medqa_cli.model.resolve import find_base

CPU = torch.device("cpu")


def make_model(folder: Path, quantization: Any = "nf4", **lora: Any) -> Any:
    torch.manual_seed(3)
    source = find_base(str(folder))
    base = load_base(source, ModelConfig(quantization=quantization), CPU, torch.float32, packed=True)
    settings = {"r": 4, "lora_dropout": 0.0, "target_modules": "all-linear", **lora}
    model = add_lora(base, LoraConfig(**settings), source.name, None)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
        if "norm.weight" in name or "layernorm.weight" in name:
            parameter.data.uniform_(0.5, 1.5)
    return model.train()


def step(model: Any, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    torch.manual_seed(7)  # of the dropout
    batch = pack(make_examples([(5, 7), (12, 1), (3, 20)]), CPU)
    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        losses = answer_token_losses(model, batch)
    model.zero_grad()
    losses.mean().backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return losses.detach(), gradients


MODELS: dict[str, dict[str, Any]] = {
    "nf4": {},
    "fp4": {"quantization": "fp4"},
    "unquantized": {"quantization": "none"},
    "q and v only": {"target_modules": ("q_proj", "v_proj")},
    "up only": {"target_modules": ("up_proj",)},
    "rslora": {"use_rslora": True},
    "dropout": {"lora_dropout": 0.3, "target_modules": ("v_proj",)},
}


@pytest.mark.parametrize("case", MODELS)
def test_losses_and_gradients_are_those_of_the_plain_layers(tiny_model_dir: Path, case: str) -> None:
    model = make_model(tiny_model_dir, **MODELS[case])
    losses, gradients = step(model)
    assert fuse_layers(model) >= 2 + 5 + 2  # adapters, norms, gated layers
    fused_losses, fused_gradients = step(model)
    torch.testing.assert_close(fused_losses, losses, rtol=1e-5, atol=1e-5)
    assert gradients.keys() == fused_gradients.keys()
    assert min(float(gradient.abs().max()) for gradient in gradients.values()) > 1e-6
    for name, gradient in gradients.items():
        torch.testing.assert_close(fused_gradients[name], gradient, rtol=1e-3, atol=1e-6, msg=name)


def test_in_bfloat16_they_are_as_near_to_float32_as_the_plain_ones(tiny_model_dir: Path) -> None:
    model = make_model(tiny_model_dir, "none")
    exact, exact_gradients = step(model)
    plain, plain_gradients = step(model, torch.bfloat16)
    fuse_layers(model)
    fused, fused_gradients = step(model, torch.bfloat16)

    def distance(gradients: dict[str, torch.Tensor]) -> float:
        return sum(float((gradients[name] - exact_gradients[name]).norm()) for name in exact_gradients)

    assert float((fused - exact).abs().mean()) < 2 * float((plain - exact).abs().mean()) + 1e-3
    assert 0 < distance(fused_gradients) < 1.5 * distance(plain_gradients)
    assert all(gradient.dtype == torch.float32 for gradient in fused_gradients.values())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_norms_are_computed_in_float32_under_autocast(dtype: torch.dtype) -> None:
    """The sum of these squares is 400 million; float16 ends at 65,504, where the norm would be 0."""
    torch.manual_seed(0)
    norm = LlamaRMSNorm(4096).to(dtype).requires_grad_(False)
    x = (300 * torch.randn(3, 5, 4096)).to(dtype)
    inputs = [x.clone().requires_grad_() for _ in range(2)]
    with torch.autocast("cpu", dtype):
        plain, fused = norm(inputs[0]), _RmsNorm.apply(inputs[1], norm.weight, norm.variance_epsilon)
        gradients = torch.autograd.grad(plain.sum(), inputs[0]), torch.autograd.grad(fused.sum(), inputs[1])
    assert float(plain.abs().max()) > 1
    unit = 2.0**-10 if dtype == torch.float16 else 2.0**-7
    torch.testing.assert_close(fused, plain, rtol=unit, atol=0)
    torch.testing.assert_close(gradients[1][0], gradients[0][0], rtol=4 * unit, atol=unit * 1e-2)


def with_biases(tiny_model_dir: Path, folder: Path) -> Path:
    config = LlamaConfig.from_pretrained(tiny_model_dir, attention_bias=True, mlp_bias=True)
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("quantization", ["none", "nf4"])
@pytest.mark.parametrize("bias", ["all", "lora_only"])
def test_trained_biases_get_their_gradients(tiny_model_dir: Path, tmp_path: Path, bias: str, quantization: str) -> None:
    targets = ("q_proj", "down_proj")
    model = make_model(with_biases(tiny_model_dir, tmp_path), quantization, bias=bias, target_modules=targets)
    losses, gradients = step(model)
    fuse_layers(model)
    fused_losses, fused_gradients = step(model)
    torch.testing.assert_close(fused_losses, losses, rtol=1e-5, atol=1e-5)
    biases = [name for name in gradients if name.endswith(".bias")]
    assert len(biases) == 2 * (2 if bias == "lora_only" else 7)
    assert gradients.keys() == fused_gradients.keys() == {n for n, p in model.named_parameters() if p.requires_grad}
    for name, gradient in gradients.items():
        torch.testing.assert_close(fused_gradients[name], gradient, rtol=1e-3, atol=1e-6, msg=name)


def test_biases_are_trained_in_float32_or_not_at_all(tiny_model_dir: Path, tmp_path: Path) -> None:
    source = find_base(str(with_biases(tiny_model_dir, tmp_path)))
    lora = LoraConfig(bias="all", target_modules=("q_proj",))
    plain = load_base(source, ModelConfig(quantization="none"), CPU, torch.bfloat16, packed=True)
    model = add_lora(plain, lora, source.name, None)
    trained = {name: p.dtype for name, p in model.named_parameters() if p.requires_grad}
    assert sum(name.endswith(".bias") for name in trained) == 14
    assert set(trained.values()) == {torch.float32}
    base = load_base(source, ModelConfig(quantization="nf4"), CPU, torch.bfloat16, packed=True)
    with pytest.raises(InputError, match="would be trained in 16 bits") as caught:
        add_lora(base, lora, source.name, None)
    assert "set lora.bias to none" in caught.value.hint


def test_without_the_adapter_the_base_answers(tiny_model_dir: Path) -> None:
    model = make_model(tiny_model_dir)
    batch = pack(make_examples([(5, 7)]), CPU)
    with torch.no_grad(), model.disable_adapter():
        expected = answer_token_losses(model, batch)
    fuse_layers(model)
    with torch.no_grad():
        adapted = answer_token_losses(model, batch)
        with model.disable_adapter():
            base = answer_token_losses(model, batch)
    torch.testing.assert_close(base, expected, rtol=1e-5, atol=1e-5)
    assert float((adapted - base).abs().max()) > 1e-3


def own_forwards(model: Any) -> Counter[str]:
    """How often each fused layer fell back on its own forward pass in a step."""
    seen: Counter[str] = Counter()

    def counted(name: str, own: Any) -> Any:
        def forward(*args: Any, **kwargs: Any) -> Any:
            seen[name] += 1
            return own(*args, **kwargs)

        return forward

    for name, module in model.named_modules():
        if "plain_forward" in vars(module):
            module.plain_forward = counted(name.rpartition(".")[2], module.plain_forward)
    step(model)
    return seen


def test_dora_layers_compute_with_their_own_code(tiny_model_dir: Path) -> None:
    plain = make_model(tiny_model_dir, "none")
    fuse_layers(plain)
    assert own_forwards(plain) == {}
    model = make_model(tiny_model_dir, "none", use_dora=True)
    losses, gradients = step(model)
    fuse_layers(model)
    projections = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    assert own_forwards(model) == dict.fromkeys(projections, 2)  # once in each of two blocks
    fused_losses, fused_gradients = step(model)
    torch.testing.assert_close(fused_losses, losses, rtol=1e-5, atol=1e-5)
    for name, gradient in gradients.items():
        torch.testing.assert_close(fused_gradients[name], gradient, rtol=1e-3, atol=1e-6, msg=name)


def test_frozen_weights_stay_as_they_are(tiny_model_dir: Path) -> None:
    """The sum with the adapter must never be written into an unquantized base."""
    model = make_model(tiny_model_dir, "none")
    before = copy.deepcopy({name: p for name, p in model.named_parameters() if not p.requires_grad})
    fuse_layers(model)
    step(model)
    after = dict(model.named_parameters())
    assert len(before) > 10
    for name, value in before.items():
        torch.testing.assert_close(after[name], value, rtol=0, atol=0, msg=name)


def test_files_of_the_adapter_are_those_of_peft(tiny_model_dir: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    model = make_model(tiny_model_dir)
    model.save_pretrained(tmp_path / "plain", save_embedding_layers=False)
    fuse_layers(model)
    model.save_pretrained(tmp_path / "fused", save_embedding_layers=False)
    plain, fused = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("plain", "fused"))
    assert list(plain) == list(fused)
    assert all(torch.equal(plain[name], fused[name]) for name in plain)


@pytest.mark.parametrize("recomputed", [False, True])
def test_weights_that_are_cast_once_give_the_same_bits(tiny_model_dir: Path, recomputed: bool) -> None:
    model = make_model(tiny_model_dir)
    fuse_layers(model)
    if recomputed:
        model.get_base_model().activation_checkpointing_enable({"use_reentrant": False})
    losses, gradients = step(model, torch.bfloat16)
    with casting_once():
        once, gradients_once = step(model, torch.bfloat16)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "lora_B" in name:
                    parameter.mul_(2)
    assert torch.equal(once, losses)
    assert all(torch.equal(gradients_once[name], gradient) for name, gradient in gradients.items())
    # In the next step they are other weights.
    with casting_once():
        changed, _ = step(model, torch.bfloat16)
    assert torch.equal(changed, step(model, torch.bfloat16)[0])
    assert not torch.equal(changed, losses)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.bfloat16, 2**-7), (torch.float16, 2e-3)]
)
def test_one_kernel_norms_as_the_plain_layer_does(dtype: torch.dtype, tolerance: float) -> None:
    """CUDA's kernel; here PyTorch computes the function from its parts."""
    torch.manual_seed(0)
    norm = LlamaRMSNorm(96, eps=1e-5).to(dtype).requires_grad_(False)
    norm.weight.uniform_(0.5, 1.5)
    x = (100 * torch.randn(2, 7, 96)).to(dtype)
    inputs = [x.clone().requires_grad_(), x.clone().requires_grad_()]
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        plain = norm(inputs[0])
        fused = rms_norm_in_one_kernel(inputs[1], norm.weight, norm.variance_epsilon)
    assert fused.dtype == plain.dtype == dtype
    torch.testing.assert_close(fused, plain, rtol=tolerance, atol=tolerance)
    direction = torch.randn_like(plain)
    gradients = [torch.autograd.grad(out, x, direction)[0] for out, x in zip((plain, fused), inputs, strict=True)]
    torch.testing.assert_close(gradients[1], gradients[0], rtol=10 * tolerance, atol=tolerance)
