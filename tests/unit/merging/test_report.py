"""The share of an adapter's changes that a quantized file is too coarse for, against llama.cpp's own steps."""

import gguf
import numpy as np
import pytest
import torch

from medqa_cli.merging.report import small_changes_warning
from medqa_cli.merging.weights import SmallChanges

KINDS = {"q4_0": gguf.GGMLQuantizationType.Q4_0, "q8_0": gguf.GGMLQuantizationType.Q8_0}


def test_changes_are_compared_with_the_steps_of_the_file() -> None:
    torch.manual_seed(0)
    after = torch.randn(64, 96)
    before = after - 0.1 * torch.randn(64, 96) ** 3
    counted = SmallChanges()
    for piece, rows in enumerate((slice(0, 24), slice(24, 64), slice(24, 64))):
        counted.add("a.weight", min(piece, 1), before[rows], after[rows])
    found = counted.fractions()
    assert found is not None
    for name, kind in KINDS.items():
        blocks = gguf.quants.quantize(after.numpy(), kind).reshape(-1, gguf.GGML_QUANT_SIZES[kind][1])
        # A block begins with its step, in half precision.
        steps = np.abs(blocks[:, :2].copy().view(np.float16).astype(np.float32))
        small = np.abs((after - before).numpy().reshape(-1, 32)) < steps / 2
        assert found[name] == pytest.approx(small.mean(), abs=5e-4)
    assert 0.05 < found["q8_0"] < found["q4_0"] < 0.95


def test_matrices_that_are_no_blocks_do_not_count() -> None:
    counted = SmallChanges()
    counted.add("a.bias", 0, torch.zeros(32), torch.ones(32))
    counted.add("b.weight", 0, torch.zeros(4, 40), torch.ones(4, 40))
    assert counted.fractions() is None


def test_only_the_files_that_are_asked_for_are_warned_of() -> None:
    shares = {"q4_0": 0.98, "q8_0": 0.2}
    assert small_changes_warning(shares, ("q8_0", "f16")) is None
    assert small_changes_warning(None, ("q4_0",)) is None
    told = small_changes_warning(shares, ("f16", "q4_0"))
    assert told is not None
    assert "98.0% of them in q4_0" in told
    assert told.endswith("take f16 or q8_0")
