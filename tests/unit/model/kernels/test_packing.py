"""Padding-free forward passes compute what one example at a time computes, losses and gradients."""

import copy
from typing import Any

import pytest
import torch

from helpers.models import make_tiny_model
from helpers.training import CPU, make_examples
from medqa_cli.model.kernels.attention import PACKED_ATTENTION, packed_attention, register_packed_attention
from medqa_cli.model.kernels.chunked_cross_entropy import install_answer_losses
from medqa_cli.model.kernels.packing import answer_token_losses, group_by_tokens, mean_nll, pack, score_answers
from medqa_cli.prompt.encoder import IGNORE_INDEX, Example


@pytest.fixture
def models() -> tuple[Any, Any]:
    """The same weights twice: plain SDPA attention, and ours."""
    register_packed_attention()
    plain = make_tiny_model(200).train()
    packed = copy.deepcopy(plain)
    packed.set_attn_implementation(PACKED_ATTENTION)
    install_answer_losses(packed)
    return plain, packed


def padded_loss(model: Any, example: Example) -> torch.Tensor:
    """One example in a padded row of 40, the way Transformers itself computes it: summed loss."""
    padding = 40 - len(example.input_ids)
    output = model(
        input_ids=torch.tensor([example.input_ids + [0] * padding]),
        attention_mask=torch.tensor([[1] * len(example.input_ids) + [0] * padding]),
        labels=torch.tensor([example.labels + [IGNORE_INDEX] * padding]),
    )
    return output.loss * example.num_answer_tokens


def test_losses_and_gradients_equal_those_of_single_padded_rows(models: tuple[Any, Any]) -> None:
    plain, packed = models
    examples = make_examples([(5, 7), (12, 1), (3, 20), (8, 8)])
    batch = pack(examples, CPU)
    losses = answer_token_losses(packed, batch)
    losses.sum().backward()
    singles = [padded_loss(plain, example) for example in examples]
    torch.stack(singles).sum().backward()
    for index, single in enumerate(singles):
        torch.testing.assert_close(losses[batch.example_of_target == index].sum(), single, rtol=1e-5, atol=1e-5)
    assert any(p.grad is not None and p.grad.abs().max() > 1e-3 for p in plain.parameters())
    for (name, ours), theirs in zip(packed.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-5, msg=name)


def test_no_example_sees_another(models: tuple[Any, Any]) -> None:
    _, packed = models
    first, second, third = make_examples([(4, 6), (4, 6), (4, 6)])
    with torch.no_grad():
        together = answer_token_losses(packed, pack([first, second], CPU))
        exchanged = answer_token_losses(packed, pack([third, second], CPU))
    torch.testing.assert_close(together[6:], exchanged[6:])
    assert not torch.allclose(together[:6], exchanged[:6])


def test_pack_points_at_the_token_before_each_target() -> None:
    batch = pack([Example([5, 6, 7], [IGNORE_INDEX, 6, 7], False), Example([8, 9], [IGNORE_INDEX, 9], False)], CPU)
    assert batch.input_ids.tolist() == [[5, 6, 7, 8, 9]]
    assert batch.position_ids.tolist() == [[0, 1, 2, 0, 1]]
    assert batch.logit_positions.tolist() == [0, 1, 3]
    assert batch.targets.tolist() == [6, 7, 9]
    assert batch.example_of_target.tolist() == [0, 0, 1]
    assert batch.example_lengths == (3, 2)


def test_group_by_tokens_keeps_order_and_everything() -> None:
    examples = make_examples([(1, 4), (1, 4), (1, 9), (1, 30), (1, 1)])
    groups = list(group_by_tokens(examples, 20))
    assert [[len(e.input_ids) for e in group] for group in groups] == [[5, 5, 10], [31], [2]]
    assert [e for group in groups for e in group] == examples
    assert [len(group) for group in group_by_tokens(examples, None, 2)] == [2, 2, 1]
    assert [len(group) for group in group_by_tokens(examples, 20, 2)] == [2, 1, 1, 1]


@pytest.mark.parametrize("window", [None, 4, 100])
def test_a_sliding_window_equals_a_masked_softmax(window: int | None) -> None:
    torch.manual_seed(0)
    query, key, value = (torch.randn(1, 2, 9, 8) for _ in range(3))
    ours, _ = packed_attention(
        torch.nn.Identity(), query, key, value, None, example_lengths=(9,), sliding_window=window
    )
    distance = torch.arange(9)[:, None] - torch.arange(9)[None, :]
    allowed = (distance >= 0) & (distance < (window or 9))
    scores = (query @ key.transpose(2, 3) / 8**0.5).masked_fill(~allowed, float("-inf"))
    torch.testing.assert_close(ours, (scores.softmax(-1) @ value).transpose(1, 2))


def test_scores_are_in_the_order_given_whatever_the_batch(models: tuple[Any, Any]) -> None:
    plain, packed = models
    examples = make_examples([(5, 20), (4, 3), (6, 11), (3, 1)])
    nothing = Example([4, 5], [IGNORE_INDEX, IGNORE_INDEX], True)
    expected = [float(padded_loss(plain, example).detach()) for example in examples]
    for batch_size in (1, 2, 8):
        scores = score_answers(packed, [*examples, nothing], batch_size=batch_size, device=CPU, dtype=torch.float32)
        assert [score.nll_sum for score in scores[:4]] == pytest.approx(expected, rel=1e-4)
        assert [score.num_tokens for score in scores] == [20, 3, 11, 1, 0]
        assert mean_nll(scores) == pytest.approx(sum(expected) / 35, rel=1e-4)
    few_tokens = score_answers(
        packed, [*examples, nothing], batch_size=8, device=CPU, dtype=torch.float32, max_tokens=20
    )
    assert [score.nll_sum for score in few_tokens[:4]] == pytest.approx(expected, rel=1e-4)
    assert packed.training  # left as it was


@pytest.mark.parametrize("rope_type", ["longrope", "dynamic"])
def test_positions_that_depend_on_the_length_are_those_of_each_example_alone(rope_type: str) -> None:
    register_packed_attention()
    rope: dict[str, Any] = {"rope_type": rope_type, "rope_theta": 10_000.0, "factor": 4.0}
    if rope_type == "longrope":
        rope |= {"short_factor": [1.0] * 8, "long_factor": [8.0] * 8, "original_max_position_embeddings": 16}
    plain = make_tiny_model(200, rope_parameters=rope, max_position_embeddings=16)
    packed = copy.deepcopy(plain)
    packed.set_attn_implementation(PACKED_ATTENTION)
    install_answer_losses(packed)
    examples = make_examples([(3, 8), (5, 25), (4, 7)])
    batch = pack(examples, CPU)
    losses = answer_token_losses(packed, batch)
    for index, example in enumerate(examples):
        row, labels = torch.tensor([example.input_ids]), torch.tensor([example.labels])
        alone = plain(input_ids=row, labels=labels, use_cache=False).loss * example.num_answer_tokens
        torch.testing.assert_close(losses[batch.example_of_target == index].sum(), alone, rtol=1e-5, atol=1e-5)
