"""The largest forward pass of a training run, the state of its optimizer; ranks agree on the limits of the smallest."""

from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
import torch

from helpers.tiny_architectures import tiny_model
from helpers.training import make_examples, remembered_shape
from medqa_cli import distributed
from medqa_cli.config.schema import Config, LoraConfig, ModelConfig, Optimizer, TrainConfig
from medqa_cli.model.load import load_config
from medqa_cli.model.memory_profile import UnknownMemoryError
from medqa_cli.training.arguments import make_optimizer, make_training_arguments
from medqa_cli.training.estimate import ForwardLimits, MemoryEstimator, Target

CONFIG = Config(
    model=ModelConfig(quantization="none"),
    lora=LoraConfig(r=4, target_modules="all-linear"),
    train=TrainConfig(gradient_checkpointing="auto"),
)
# Optimizers of packages that are not installed, with the bytes of state per parameter of their source: torchao's codes
# of 4 and 8 bits, GrokAdamW's filtered gradient beside two moments, two moments.
OF_OTHER_PACKAGES = {
    "adamw_torch_xla": 8,
    "adamw_torch_npu_fused": 8,
    "adamw_anyprecision": 8,
    "adamw_torch_4bit": 1,
    "adamw_torch_8bit": 2,
    "grokadamw": 12,
    "stable_adamw": 8,
}
EXAMPLES = make_examples([(5, 40), (12, 30), (3, 80), (9, 60)])


@pytest.fixture(autouse=True)
def _steps_run_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Most tests predict for the same model, and only the optimizer differs."""
    monkeypatch.setattr("medqa_cli.training.estimate.ShapeModel", remembered_shape)


@pytest.fixture
def estimator(tiny_model_dir: Path) -> MemoryEstimator:
    target = Target("cuda", 80 << 30, 80 << 30, 0)
    return MemoryEstimator(load_config(str(tiny_model_dir)), EXAMPLES, torch.float32, target)


def beside(other: ForwardLimits | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "all_gather", lambda value: [value, other])


def test_predict_on_all_ranks_alike_is_the_prediction(
    estimator: MemoryEstimator, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = estimator.predict(CONFIG)
    assert not alone.limits.recomputed
    beside(alone.limits, monkeypatch)
    assert estimator.predict_on_all_ranks(CONFIG) == alone


def test_predict_on_all_ranks_takes_the_limits_of_the_smallest(
    estimator: MemoryEstimator, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = estimator.predict(CONFIG)
    beside(ForwardLimits(100, recomputed=True), monkeypatch)
    estimate = estimator.predict_on_all_ranks(CONFIG)
    assert estimate.limits == ForwardLimits(100, recomputed=True)
    assert estimate.largest_forward_tokens <= 100 < alone.largest_forward_tokens
    assert estimate.step.activation_bytes < alone.step.activation_bytes


def test_predict_on_all_ranks_is_unknown_where_one_rank_does_not_know(
    estimator: MemoryEstimator, monkeypatch: pytest.MonkeyPatch
) -> None:
    beside(None, monkeypatch)
    with pytest.raises(UnknownMemoryError, match="on another process"):
        estimator.predict_on_all_ranks(CONFIG)


@pytest.mark.parametrize(("model_type", "tokens"), [("llama", 45 + 42 + 83 + 69), ("bloom", 83)])
def test_predict_largest_forward_of_a_model_computed_one_at_a_time_is_the_longest_example(
    model_type: str, tokens: int
) -> None:
    target = Target("cuda", 80 << 30, 80 << 30, 0)
    estimate = MemoryEstimator(tiny_model(model_type).config, EXAMPLES, torch.float32, target).predict(CONFIG)
    assert estimate.largest_forward_tokens == tokens


@pytest.mark.parametrize(("times", "recomputed"), [(2, True), (6, False)])
def test_auto_recomputes_unless_the_free_memory_holds_the_largest_step_several_times(
    estimator: MemoryEstimator, times: int, recomputed: bool
) -> None:
    """The four examples have 239 tokens: room for the 16,384 of the fastest forward pass is not needed."""
    roomy = estimator.predict(CONFIG)
    step = roomy.step
    weights = step.base_bytes + step.adapter_bytes + step.gradient_bytes + roomy.optimizer_bytes
    free = weights + times * step.activation_bytes
    small = MemoryEstimator(estimator._hf_config, EXAMPLES, torch.float32, Target("cuda", free, free, 0))
    assert small.predict(CONFIG).limits.recomputed is recomputed


def predicted_state_bytes(estimator: MemoryEstimator, name: Optimizer) -> float:
    """Bytes of optimizer state per trained parameter."""
    estimate = estimator.predict(replace(CONFIG, train=replace(CONFIG.train, optim=name)))
    return estimate.optimizer_bytes / estimate.step.num_trainable


@pytest.mark.parametrize("name", [name for name in get_args(Optimizer) if name not in OF_OTHER_PACKAGES])
def test_the_state_of_an_optimizer_is_as_large_as_predicted(
    name: Optimizer, estimator: MemoryEstimator, tmp_path: Path
) -> None:
    matrix = torch.nn.Linear(2048, 64, bias=False)  # as an adapter of rank 64 has
    arguments = make_training_arguments(
        TrainConfig(optim=name),
        seed=0,
        output_dir=tmp_path,
        device=torch.device("cpu"),
        compute_dtype=torch.float32,
    )
    optimizer = make_optimizer(arguments, matrix)
    matrix.weight.grad = torch.ones_like(matrix.weight)
    optimizer.step()
    # Without what is of one size for any parameter: a count of steps, a table of 256 codes.
    state = [value for value in optimizer.state[matrix.weight].values() if isinstance(value, torch.Tensor)]
    measured = sum(value.nbytes for value in state if value.numel() > 256)
    per_parameter = measured / matrix.weight.numel()
    assert predicted_state_bytes(estimator, name) == pytest.approx(per_parameter, rel=0.03, abs=0.05)


@pytest.mark.parametrize(("name", "expected"), OF_OTHER_PACKAGES.items())
def test_the_state_of_an_optimizer_of_another_package_is_predicted(
    name: Optimizer, expected: float, estimator: MemoryEstimator
) -> None:
    assert predicted_state_bytes(estimator, name) == pytest.approx(expected)
