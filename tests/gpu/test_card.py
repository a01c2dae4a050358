"""What only a card can show: its kernels against the CPU's in float32, its memory against the plan, no wait in a step.

Run with ``MEDQA_TEST_DEVICE=cuda`` (``benchmarks/gpu.py`` does); with ``cpu`` the same code walks through on the CPU,
where most of it compares a thing with itself.
"""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers.training import CPU, make_examples
from medqa_cli.answering.decode import decode_batch
from medqa_cli.config.schema import GenerateConfig, LoraConfig, ModelConfig, TrainConfig
from medqa_cli.model.devices import pick_compute_dtype
from medqa_cli.model.kernels.attention import kernel_problems
from medqa_cli.model.kernels.fused_layers import LAYER_KINDS
from medqa_cli.model.kernels.lora_products import casting_once
from medqa_cli.model.kernels.packing import answer_token_losses, pack, score_answers
from medqa_cli.model.kernels.verify import settle_way
from medqa_cli.model.load import load_base, load_config
from medqa_cli.model.lora import add_lora
from medqa_cli.model.memory_profile import ShapeModel, StepMemory
from medqa_cli.model.resolve import find_base
from medqa_cli.prompt.encoder import Example
from medqa_cli.training.arguments import make_training_arguments
from medqa_cli.training.trainer import MedqaTrainer

WANTED = os.environ.get("MEDQA_TEST_DEVICE", "")
DEVICE = torch.device(WANTED or "cpu")
pytestmark = pytest.mark.skipif(not WANTED, reason="needs a card: MEDQA_TEST_DEVICE=cuda, as benchmarks/gpu.py sets it")
on_a_card = pytest.mark.skipif(DEVICE.type != "cuda", reason="needs a card")

EXAMPLES = make_examples([(5, 40), (12, 30), (3, 80), (20, 9)])
SETTINGS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "nf4 twice quantized": ({"double_quantization": True}, {}),
    "unquantized": ({"quantization": "none"}, {}),
    "nf4, q and v": ({}, {"target_modules": "auto"}),
    "nf4, DoRA": ({}, {"use_dora": True}),
}


def own_dtype() -> torch.dtype:
    """The type that the device computes fast."""
    return pick_compute_dtype("auto", DEVICE)


def make_model(
    folder: Path, device: torch.device, dtype: torch.dtype, model: dict[str, Any], lora: dict[str, Any]
) -> Any:
    """The tiny model with an adapter that has an effect, the same on every device."""
    source = find_base(str(folder))
    base = load_base(source, ModelConfig(**model), device, dtype, packed=True)
    config = LoraConfig(**{"r": 8, "lora_dropout": 0.0, "target_modules": "all-linear", **lora})
    adapted = add_lora(base, config, source.name, None)
    generator = torch.Generator().manual_seed(5)
    for _, parameter in sorted(adapted.named_parameters()):
        if parameter.requires_grad and parameter.dim() > 1:
            parameter.data.copy_(torch.randn(parameter.shape, generator=generator) * 0.05)
    return adapted


def losses_and_gradients(
    model: Any, device: torch.device, dtype: torch.dtype, examples: Sequence[Example] = EXAMPLES
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """A step without its update, on the CPU in float32."""
    with casting_once(device.type == "cuda"):
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            losses = answer_token_losses(model, pack(examples, device))
        losses.sum().backward()
    gradients = {name: p.grad.float().cpu() for name, p in model.named_parameters() if p.grad is not None}
    return losses.detach().float().cpu(), gradients


def apart(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """The distance as a share of the length."""
    return float((ours - theirs).norm() / theirs.norm())


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_float32_step_is_the_one_of_the_cpu(tiny_model_dir: Path, setting: str) -> None:
    model, lora = SETTINGS[setting]
    torch.backends.cuda.matmul.allow_tf32 = False
    expected, right = losses_and_gradients(
        make_model(tiny_model_dir, CPU, torch.float32, model, lora), CPU, torch.float32
    )
    on_device = make_model(tiny_model_dir, DEVICE, torch.float32, model, lora)
    found, gradients = losses_and_gradients(on_device, DEVICE, torch.float32)
    assert apart(found, expected) < 1e-4
    assert gradients.keys() == right.keys()
    assert max(apart(gradients[name], value) for name, value in right.items()) < 1e-3


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_step_in_the_devices_own_type_is_near_float32(tiny_model_dir: Path, setting: str) -> None:
    model, lora = SETTINGS[setting]
    expected, right = losses_and_gradients(
        make_model(tiny_model_dir, CPU, torch.float32, model, lora), CPU, torch.float32
    )
    on_device = make_model(tiny_model_dir, DEVICE, own_dtype(), model, lora)
    way = settle_way(on_device, "tiny", own_dtype(), trains=True)
    # Several examples end to end, losses in chunks, fused layers where they fit: and a kernel that is right, if any.
    assert way.packed
    assert way.in_chunks
    assert not kernel_problems()
    assert set(way.fused) == set(LAYER_KINDS)
    found, gradients = losses_and_gradients(on_device, DEVICE, own_dtype())
    assert apart(found, expected) < 0.02
    whole, right_whole = (torch.cat([each[name].flatten() for name in sorted(right)]) for each in (gradients, right))
    assert apart(whole, right_whole) < 0.05


def test_examples_end_to_end_are_examples_alone(tiny_model_dir: Path) -> None:
    model = make_model(tiny_model_dir, DEVICE, own_dtype(), {}, {})
    settle_way(model, "tiny", own_dtype(), trains=False)
    together, alone = (
        score_answers(model, EXAMPLES, batch_size=size, device=DEVICE, dtype=own_dtype()) for size in (4, 1)
    )
    assert [one.nll_sum for one in together] == pytest.approx([one.nll_sum for one in alone], rel=5e-3)


def test_batched_answers_are_single_ones(tiny_model_dir: Path) -> None:
    model = make_model(tiny_model_dir, DEVICE, torch.float32, {"quantization": "none"}, {}).eval()

    class Row:
        went_back, num_retries = False, 0

        def __init__(self) -> None:
            self.ids: list[int] = []

        @property
        def finish_reason(self) -> str | None:
            return "length" if len(self.ids) >= 12 else None

        def biases(self, best: int) -> dict[int, float]:
            return {}

        def add(self, token_id: int) -> None:
            self.ids.append(token_id)

    from medqa_cli.model.kernels.attention import use_own_attention

    use_own_attention(model.get_base_model())
    config = GenerateConfig(temperature=0.0, repetition_penalty=1.0, no_repeat_ngram_size=0)
    prompts = [example.input_ids[:length] for example, length in zip(EXAMPLES, (4, 9, 17, 11), strict=True)]
    together = [Row() for _ in prompts]
    decode_batch(model, DEVICE, prompts, together, config)
    for prompt, row in zip(prompts, together, strict=True):
        alone = Row()
        decode_batch(model, DEVICE, [prompt], [alone], config)
        assert alone.ids == row.ids


def trained_losses(folder: Path, tmp_path: Path, dtype: torch.dtype, **settings: Any) -> list[float]:
    """The losses of six steps on the device."""
    model = make_model(folder, DEVICE, dtype, {}, {})
    config = TrainConfig(max_steps=6, learning_rate=1e-3, logging_steps=1, save_steps=100, **settings)
    trainer = MedqaTrainer(
        model=model,
        args=make_training_arguments(config, seed=5, output_dir=tmp_path, device=DEVICE, compute_dtype=dtype),
        examples=make_examples([(3 + i % 5, 2 + 3 * (i % 7)) for i in range(48)]),
        validation=[],
        max_tokens_per_forward=200,
        compute_dtype=dtype,
        callbacks=[],
    )
    trainer.train()
    return [line["loss"] for line in trainer.state.log_history if "loss" in line]


@pytest.mark.parametrize("optim", ["paged_adamw_32bit", "adamw_torch_fused", "adamw_8bit"])
def test_optimizers_take_the_steps_of_adamw(tiny_model_dir: Path, tmp_path: Path, optim: str) -> None:
    plain = trained_losses(tiny_model_dir, tmp_path, torch.float32, optim="adamw_torch")
    losses = trained_losses(tiny_model_dir, tmp_path, torch.float32, optim=optim)
    assert len(losses) == 6
    assert losses == pytest.approx(plain, rel=2e-3 if "8bit" not in optim else 2e-2)


@on_a_card
def test_float16_with_its_scaler_takes_the_steps_of_float32(tiny_model_dir: Path, tmp_path: Path) -> None:
    wide = trained_losses(tiny_model_dir, tmp_path, torch.float32, optim="adamw_torch")
    narrow = trained_losses(tiny_model_dir, tmp_path, torch.float16, optim="adamw_torch")
    assert narrow[0] == pytest.approx(wide[0], rel=0.01)
    assert narrow[-1] < narrow[0]


@on_a_card
def test_a_step_never_waits_for_the_card(tiny_model_dir: Path) -> None:
    model = make_model(tiny_model_dir, DEVICE, own_dtype(), {"double_quantization": True}, {}).train()
    losses_and_gradients(model, DEVICE, own_dtype())  # kernels are loaded and proven at their first use
    torch.cuda.set_sync_debug_mode("error")
    try:
        with casting_once(), torch.autocast("cuda", own_dtype()):
            losses = answer_token_losses(model, pack(EXAMPLES, DEVICE))
        losses.sum().backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@on_a_card
@pytest.mark.parametrize("recomputed", [False, True])
def test_a_step_takes_what_the_plan_says(tiny_model_dir: Path, recomputed: bool) -> None:
    config = load_config(str(tiny_model_dir))
    settings, lora = ModelConfig(), LoraConfig(r=8, lora_dropout=0.0, target_modules="all-linear")
    examples = [replace(EXAMPLES[2])] * 400  # some 33,000 tokens: far more than the allocator's blocks
    planned: StepMemory = ShapeModel(config, settings, lora, own_dtype()).step_memory(
        examples, device_type="cuda", recomputed=recomputed, several_forwards=False
    )
    model = make_model(tiny_model_dir, DEVICE, own_dtype(), {}, {}).train()
    if recomputed:
        model.get_base_model().activation_checkpointing_enable({"use_reentrant": False, "preserve_rng_state": False})
    losses_and_gradients(model, DEVICE, own_dtype(), examples)
    model.zero_grad()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    losses_and_gradients(model, DEVICE, own_dtype(), examples)
    assert torch.cuda.max_memory_allocated() - before == pytest.approx(planned.step_bytes, rel=0.1)
