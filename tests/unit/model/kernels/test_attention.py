"""Attention per example and chunked losses: values and gradients against the plain computation."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from medqa_cli.model.kernels import attention, chunked_cross_entropy, cpu_attention
from medqa_cli.model.kernels.attention import packed_attention
from medqa_cli.model.kernels.chunked_cross_entropy import answer_losses
from medqa_cli.training.estimate import tokens_per_forward


def by_hand(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, lengths: tuple[int, ...]) -> torch.Tensor:
    """Softmax over a block-diagonal causal mask; key heads repeated."""
    group = query.shape[1] // key.shape[1]
    example = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    place = torch.arange(sum(lengths))
    allowed = (example[:, None] == example[None, :]) & (place[:, None] >= place[None, :])
    scores = query @ key.repeat_interleave(group, 1).transpose(2, 3) / query.shape[-1] ** 0.5
    weights = scores.masked_fill(~allowed, float("-inf")).softmax(-1)
    return (weights @ value.repeat_interleave(group, 1)).transpose(1, 2)


@pytest.mark.parametrize("block", [1, 4, 7, 192])
@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 4), (6, 2), (3, 1)])
def test_packed_attention_and_its_gradients_equal_those_by_hand(
    heads: int, kv_heads: int, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu_attention, "QUERY_BLOCK", block)
    lengths = (5, 1, 9, 12)
    torch.manual_seed(0)
    shapes = [(1, heads, 27, 8), (1, kv_heads, 27, 8), (1, kv_heads, 27, 8)]
    inputs = query, key, value = [(3 * torch.randn(shape)).requires_grad_() for shape in shapes]
    direction = torch.randn(1, 27, heads, 8)
    ours, _ = packed_attention(torch.nn.Identity(), query, key, value, None, example_lengths=lengths)
    expected = by_hand(query, key, value, lengths)
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)
    got = torch.autograd.grad((ours * direction).sum(), inputs)
    wanted = torch.autograd.grad((expected * direction).sum(), inputs)
    assert all(float(gradient.abs().max()) > 0.1 for gradient in wanted)
    for gradient, other in zip(got, wanted, strict=True):
        torch.testing.assert_close(gradient, other, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 4), (6, 2)])
def test_attention_example_by_example(heads: int, kv_heads: int) -> None:
    """What a GPU without flash kernels takes."""
    torch.manual_seed(0)
    query, key, value = (torch.randn(1, number, 27, 8) for number in (heads, kv_heads, kv_heads))
    lengths = (5, 1, 9, 12)
    found = attention._attention_per_example(query, key, value, lengths, 8**-0.5, None, 0.0)
    torch.testing.assert_close(found, by_hand(query, key, value, lengths), rtol=1e-4, atol=1e-5)


def test_a_flash_kernel_that_takes_less_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch.nn.attention import varlen

    find_kernel: Any = attention._varlen_kernel.__wrapped__
    assert find_kernel("cuda").args == (attention._torch_kernel,)

    def first_version(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, is_causal=False): ...  # type: ignore[no-untyped-def]

    monkeypatch.setattr(varlen, "varlen_attn", first_version)
    kernel = find_kernel("cuda")
    assert kernel is None or kernel.args == (attention._flash_attn_kernel,)


@pytest.mark.parametrize("head_dim", [8, 64])
def test_attention_in_bfloat16_rounds_scores_after_the_subtraction(head_dim: int) -> None:
    lengths = (40, 300)
    torch.manual_seed(0)
    # Scores of up to 100: a unit of bfloat16 is 0.5 there, a factor of 1.6 on a probability.
    shapes = [(1, 4, 340, head_dim), (1, 2, 340, head_dim), (1, 2, 340, head_dim)]
    wide = [(torch.randn(shape) * factor).bfloat16().float() for shape, factor in zip(shapes, (5, 5, 1), strict=True)]
    inputs = query, key, value = [tensor.bfloat16().requires_grad_() for tensor in wide]
    wide = [tensor.requires_grad_() for tensor in wide]
    direction = torch.randn(1, 340, 4, head_dim).bfloat16()
    ours, _ = packed_attention(torch.nn.Identity(), query, key, value, None, example_lengths=lengths)
    got = torch.autograd.grad((ours * direction).sum(), inputs)
    wanted = torch.autograd.grad((by_hand(wide[0], wide[1], wide[2], lengths) * direction.float()).sum(), wide)
    for gradient, other in zip(got, wanted, strict=True):
        assert float((gradient.float() - other).norm() / other.norm()) < 0.015


@pytest.mark.parametrize("trained_head", [False, True])
@pytest.mark.parametrize("rows", [1, 3, 10, 99])
def test_chunked_losses_and_their_gradients_equal_whole_ones(
    rows: int, trained_head: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunked_cross_entropy, "_chunk_rows", lambda layer, device_type: rows)
    torch.manual_seed(0)
    head = torch.nn.Linear(6, 50).requires_grad_(trained_head)
    hidden = torch.randn(10, 6, requires_grad=True)
    targets, weights = torch.randint(50, (10,)), torch.rand(10)
    wanted = [hidden, *head.parameters()] if trained_head else [hidden]
    expected = F.cross_entropy(head(hidden), targets, reduction="none")
    expected_gradients = torch.autograd.grad((expected * weights).sum(), wanted)
    losses = answer_losses(hidden, head, targets)
    torch.testing.assert_close(losses, expected)
    for gradient, other in zip(torch.autograd.grad((losses * weights).sum(), wanted), expected_gradients, strict=True):
        torch.testing.assert_close(gradient, other, rtol=1e-4, atol=1e-6)
    with torch.no_grad():
        torch.testing.assert_close(answer_losses(hidden, head, targets), expected)


def test_chunks_hold_the_bytes_they_may() -> None:
    head = torch.nn.Linear(2, 49_152, device="meta")
    assert chunked_cross_entropy._chunk_rows(head, "cpu") == (24 << 20) // (4 * 49_152)


def test_a_forward_holds_what_fits_and_no_more_than_is_fastest() -> None:
    kept, wide, narrow = 800_000.0, torch.float32, torch.bfloat16
    assert tokens_per_forward(kept, 8 << 30, "cpu", wide, 512) == 768  # more would not be faster
    assert tokens_per_forward(kept, 8 << 30, "cpu", narrow, 512) == 2048
    assert tokens_per_forward(kept, 8 << 30, "cpu", wide, 1024) == 1024  # the longest example alone
    assert tokens_per_forward(kept, 1 << 30, "cpu", wide, 512) == int((1 << 29) / kept)  # half of what is free
    assert tokens_per_forward(kept, 0, "cpu", wide, 300) == 300  # nothing fits: the longest example alone
    assert tokens_per_forward(kept, 80 << 30, "cuda", narrow, 512) == 16_384
    assert tokens_per_forward(kept, 80 << 30, "cuda", torch.float16, 512) == 16_384
