"""What a plan counts of a training before it takes place."""

from __future__ import annotations

from typing import Any

import pytest

from helpers.training import make_examples
from medqa_cli.config.schema import TrainConfig
from medqa_cli.training.plan import num_tokens_of_training

# 20 examples of 10 tokens; steps of 8 rows make three steps an epoch, of 8, 8 and 4 rows.
EXAMPLES = make_examples([(6, 4)] * 20)


@pytest.mark.parametrize(
    ("train", "rows"),
    [
        ({"num_train_epochs": 3}, 60),
        ({"max_steps": 2}, 16),
        ({"max_steps": 3}, 20),
        ({"max_steps": 4}, 28),
        ({"max_steps": 30}, 200),  # not 30 * 8: the last step of each epoch has 4 rows
    ],
)
def test_num_tokens_of_training_counts_the_smaller_last_step_of_each_epoch(train: dict[str, Any], rows: int) -> None:
    config = TrainConfig(per_device_train_batch_size=4, gradient_accumulation_steps=2, **{"max_steps": -1, **train})
    assert num_tokens_of_training(config, EXAMPLES) == 10 * rows
