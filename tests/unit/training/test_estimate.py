"""The largest forward pass of a training run; ranks with different GPUs agree on the limits of the smallest."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from helpers.tiny_architectures import tiny_model
from helpers.training import make_examples
from medqa_cli import distributed
from medqa_cli.config.schema import Config, LoraConfig, ModelConfig, TrainConfig
from medqa_cli.model.load import load_config
from medqa_cli.model.memory_profile import UnknownMemoryError
from medqa_cli.training.estimate import ForwardLimits, MemoryEstimator, Target

CONFIG = Config(
    model=ModelConfig(quantization="none"),
    lora=LoraConfig(r=4, target_modules="all-linear"),
    train=TrainConfig(gradient_checkpointing="auto"),
)
EXAMPLES = make_examples([(5, 40), (12, 30), (3, 80), (9, 60)])


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
