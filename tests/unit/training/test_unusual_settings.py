"""Settings that ruin a model are told with the usual range; usual ones are not."""

from typing import Any

import pytest

from medqa_cli.config.schema import LoraConfig, TrainConfig
from medqa_cli.training.setup import unusual_settings


def told(lora: LoraConfig | None = None, size: float = 7e9, rows: int = 1000, steps: int = 125, **train: Any) -> str:
    return "; ".join(unusual_settings(lora or LoraConfig(), TrainConfig(**train), int(size), rows, steps))


@pytest.mark.parametrize("size", [1e5, 135e6, 7e9, 70e9])
def test_the_defaults_are_usual_for_every_size(size: float) -> None:
    assert told(size=size) == ""


LOW, HIGH = "so low that next to nothing is learned", "so high that models break"


@pytest.mark.parametrize(
    ("size", "rate", "result", "usual"),
    [
        (7e9, 2e-3, HIGH, "1e-5 to 0.001 is usual on 7.0 billion parameters"),
        (70e9, 1e-3, HIGH, "1e-5 to 0.0005 is usual on 70.0 billion parameters"),
        (135e6, 1e-2, HIGH, "1e-5 to 0.002 is usual on 135 million parameters"),
        (7e9, 2e-7, LOW, "1e-5 to 0.001 is usual on 7.0 billion parameters"),
        (1e5, 2e-7, LOW, "1e-5 or more is usual on 0 million parameters"),
    ],
)
def test_learning_rates_far_off_the_usual_for_the_size(size: float, rate: float, result: str, usual: str) -> None:
    assert told(size=size, learning_rate=rate) == f"train.learning_rate {rate:g} is {result}, as a rule: {usual}"


@pytest.mark.parametrize(("size", "rate"), [(7e9, 1e-3), (135e6, 1e-3), (1e5, 1e-2), (70e9, 1e-5)])
def test_learning_rates_within_the_usual(size: float, rate: float) -> None:
    assert told(size=size, learning_rate=rate) == ""


@pytest.mark.parametrize(
    ("lora", "scale"),
    [
        (LoraConfig(r=4, lora_alpha=32), None),
        (LoraConfig(r=8, lora_alpha=512), "lora.lora_alpha / r is 64"),
        (LoraConfig(r=256, lora_alpha=1), "lora.lora_alpha / r is 0.00391"),
        (LoraConfig(r=256, lora_alpha=16, use_rslora=True), None),
        (LoraConfig(r=256, lora_alpha=512, use_rslora=True), "lora.lora_alpha / sqrt(r) is 32"),
    ],
)
def test_scales_of_the_update(lora: LoraConfig, scale: str | None) -> None:
    assert told(lora) == ("" if scale is None else f"{scale}, the update's scale: 0.25 to 8 is usual")


@pytest.mark.parametrize(
    ("train", "expected"),
    [
        ({"warmup_ratio": 0.9}, ""),  # the schedule constant ignores it
        ({"warmup_ratio": 0.9, "lr_scheduler_type": "cosine"}, "rises for 113 of 125 steps"),
        ({"max_steps": 125}, ""),
        ({"weight_decay": 5}, "pulls the adapter back to 0"),
        ({"max_grad_norm": 1e-4}, "makes every step tiny"),
        ({"max_grad_norm": 0}, ""),
    ],
)
def test_only_unusual_settings_are_told(train: dict[str, Any], expected: str) -> None:
    found = told(**train)
    assert expected in found
    assert bool(found) == bool(expected)


def test_a_training_that_sees_few_of_its_rows() -> None:
    assert told(max_steps=4, steps=4, rows=1000) == "train.max_steps 4: 32 of 1,000 training rows are seen"
    assert told(max_steps=40, steps=40, rows=1000) == ""


def test_the_rows_that_are_seen_are_those_of_all_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("WORLD_SIZE", "2"), ("RANK", "0"), ("LOCAL_RANK", "0")):
        monkeypatch.setenv(name, value)
    assert told(max_steps=4, steps=4, rows=1000) == "train.max_steps 4: 64 of 1,000 training rows are seen"
