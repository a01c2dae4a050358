"""The step without numbers takes the bytes that the real step takes."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers.tiny_architectures import tiny_model
from helpers.training import make_examples
from medqa_cli.config.schema import LoraConfig, ModelConfig
from medqa_cli.model import memory_profile
from medqa_cli.model.kernels.fused_layers import fuse_layers
from medqa_cli.model.kernels.packing import answer_token_losses, pack
from medqa_cli.model.load import load_base, load_config
from medqa_cli.model.lora import add_lora
from medqa_cli.model.memory_profile import ShapeModel, UnknownMemoryError
from medqa_cli.model.resolve import find_base
from medqa_cli.prompt.encoder import Example

CPU = torch.device("cpu")
EXAMPLES = make_examples([(5, 40), (12, 30), (3, 80)])


class RealStep:
    """The same step on real tensors, its storages counted in the same way."""

    def __init__(
        self,
        folder: Path,
        model: ModelConfig,
        lora: LoraConfig,
        recomputed: bool,
        examples: Sequence[Example] = EXAMPLES,
    ) -> None:
        base = load_base(find_base(str(folder)), model, CPU, torch.float32, packed=True)
        self.model = add_lora(base, lora, "", None).train()
        fuse_layers(self.model)
        if recomputed:
            base.activation_checkpointing_enable({"use_reentrant": False, "preserve_rng_state": False})
        live = memory_profile._LiveBytes(self.model)
        batch = pack(examples, CPU)
        after_layers: list[int] = []
        with live:
            with base.base_model.register_forward_hook(lambda *_: after_layers.append(live.mark())):
                losses = answer_token_losses(self.model, batch)
            self.logit_bytes = live.peak_since_mark - after_layers[0]
            losses.sum().backward()
        # The examples themselves were laid end to end outside.
        self.activation_bytes, self.peak = after_layers[0], live.peak


CASES: dict[str, tuple[dict[str, Any], dict[str, Any], bool]] = {
    "nf4, all layers": ({}, {}, False),
    "nf4, twice quantized": ({"double_quantization": True}, {}, False),
    "fp4, q and v, dropout": ({"quantization": "fp4"}, {"lora_dropout": 0.1, "target_modules": "auto"}, False),
    "nf4, recomputed": ({}, {}, True),
    "unquantized": ({"quantization": "none"}, {}, False),
    "int8": ({"quantization": "int8"}, {}, False),
    "DoRA": ({}, {"use_dora": True}, False),
}


@pytest.mark.parametrize("case", CASES)
def test_a_step_takes_what_the_real_one_takes(tiny_model_dir: Path, case: str) -> None:
    model_settings, lora_settings, recomputed = CASES[case]
    model = ModelConfig(**model_settings)
    lora = LoraConfig(**{"r": 4, "lora_dropout": 0.0, "target_modules": "all-linear", **lora_settings})
    real = RealStep(tiny_model_dir, model, lora, recomputed)
    shape = ShapeModel(load_config(str(tiny_model_dir)), model, lora, torch.float32)
    memory = shape.step_memory(EXAMPLES, device_type="cpu", recomputed=recomputed, several_forwards=False)
    batch_bytes = sum(t.untyped_storage().nbytes() for t in vars(pack(EXAMPLES, CPU)).values() if torch.is_tensor(t))
    assert memory.activation_bytes - batch_bytes == pytest.approx(real.activation_bytes, rel=0.01)
    assert memory.logit_bytes == pytest.approx(real.logit_bytes, rel=0.01)
    assert memory.step_bytes - batch_bytes == pytest.approx(real.peak, rel=0.03)
    trained = [p for p in real.model.parameters() if p.requires_grad]
    assert memory.num_trainable == sum(p.numel() for p in trained)
    assert memory.adapter_bytes == memory.gradient_bytes == 4 * memory.num_trainable
    frozen = [tensor for tensor in memory_profile._weights_of(real.model) if not tensor.requires_grad]
    assert memory.base_bytes == memory_profile._bytes_of(frozen)


def test_a_step_of_a_model_computed_one_at_a_time_takes_what_that_of_the_longest_example_takes(tmp_path: Path) -> None:
    tiny_model("bloom", vocab_size=200).save_pretrained(tmp_path)
    model = ModelConfig(quantization="none")
    lora = LoraConfig(r=4, lora_dropout=0.0, target_modules="all-linear")
    longest = [max(EXAMPLES, key=lambda example: len(example.input_ids))]
    real = RealStep(tmp_path, model, lora, False, longest)
    shape = ShapeModel(load_config(str(tmp_path)), model, lora, torch.float32)
    memory = shape.step_memory(EXAMPLES, device_type="cpu", recomputed=False, several_forwards=False)
    assert shape.examples_at_once == 1
    batch_bytes = sum(t.untyped_storage().nbytes() for t in vars(pack(longest, CPU)).values() if torch.is_tensor(t))
    assert memory.activation_bytes - batch_bytes == pytest.approx(real.activation_bytes, rel=0.03)
    assert memory.num_trainable == sum(p.numel() for p in real.model.parameters() if p.requires_grad)


def test_kept_gradients_and_recomputing_show(tiny_model_dir: Path) -> None:
    lora = LoraConfig(r=4, lora_dropout=0.0, target_modules="all-linear")
    shape = ShapeModel(load_config(str(tiny_model_dir)), ModelConfig(), lora, torch.float32)

    def step(recomputed: bool, several: bool) -> memory_profile.StepMemory:
        return shape.step_memory(EXAMPLES, device_type="cpu", recomputed=recomputed, several_forwards=several)

    assert step(False, True).step_bytes > step(False, False).step_bytes
    assert step(True, False).activation_bytes < 0.5 * step(False, False).activation_bytes
    on_gpu = shape.step_memory(EXAMPLES, device_type="cuda", recomputed=False, several_forwards=False)
    assert on_gpu.logit_bytes == step(False, False).logit_bytes  # a few tokens are one chunk on both


def test_what_one_layer_takes_is_counted_for_all(tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = load_config(str(tiny_model_dir))
    config.num_hidden_layers = 7
    lora = LoraConfig(r=4, target_modules="all-linear")

    def memory() -> dict[str, int]:
        shape = ShapeModel(config, ModelConfig(), lora, torch.float32)
        found = shape.step_memory(EXAMPLES, device_type="cpu", recomputed=False, several_forwards=True)
        return asdict(found)

    extrapolated = memory()
    monkeypatch.setattr(memory_profile, "_FEW_LAYERS", (7, 8))
    assert extrapolated == memory()


def test_an_architecture_that_needs_numbers_is_named(tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shape = ShapeModel(load_config(str(tiny_model_dir)), ModelConfig(), LoraConfig(r=4), torch.float32)
    monkeypatch.setattr(memory_profile, "answer_token_losses", lambda model, batch: batch.targets.max().item())
    with pytest.raises(UnknownMemoryError, match="cannot be predicted"):
        shape.step_memory(EXAMPLES, device_type="cpu", recomputed=False, several_forwards=False)
