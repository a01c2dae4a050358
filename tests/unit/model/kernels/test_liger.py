"""Liger's kernels are asked for on CUDA only, and medqa's own norms then stay out of their way."""

import sys
import types
from pathlib import Path
from typing import Any

import pytest
import torch

from medqa_cli.config.schema import LoraConfig, ModelConfig
from medqa_cli.model.kernels.fused_layers import fuse_layers, use_liger_kernels, uses_liger_kernels
from medqa_cli.model.load import load_base
from medqa_cli.model.lora import add_lora
from medqa_cli.model.resolve import find_base

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def base(tiny_model_dir: Path) -> Any:
    return load_base(find_base(str(tiny_model_dir)), ModelConfig(), CPU, torch.float32, packed=True)


@pytest.fixture
def applied(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What a package in Liger's place was asked for."""
    calls: list[dict[str, Any]] = []
    package = types.ModuleType("liger_kernel.transformers")
    package._apply_liger_kernel_to_instance = lambda model, **kernels: calls.append(kernels)  # type: ignore[attr-defined]
    patches = types.ModuleType("liger_kernel.transformers.monkey_patch")
    patches.MODEL_TYPE_TO_APPLY_LIGER_FN = {"llama": None}  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "liger_kernel", types.ModuleType("liger_kernel"))
    monkeypatch.setitem(sys.modules, "liger_kernel.transformers", package)
    monkeypatch.setitem(sys.modules, "liger_kernel.transformers.monkey_patch", patches)
    monkeypatch.setattr("transformers.utils.is_liger_kernel_available", lambda: True)
    monkeypatch.setattr("transformers.integrations.liger.is_liger_kernel_available", lambda: True)
    return calls


def num_fused(base: Any) -> int:
    return fuse_layers(add_lora(base, LoraConfig(r=2, target_modules="all-linear"), "", None))


def test_on_cuda_the_norms_are_ligers(base: Any, applied: list[dict[str, Any]]) -> None:
    assert use_liger_kernels(base, CUDA)
    assert [name for name, wanted in applied[0].items() if wanted] == ["rope", "rms_norm"]
    assert uses_liger_kernels(base)
    # Two layers: seven adapters and a gated layer each, and no norm.
    assert num_fused(base) == 2 * (7 + 1)


def test_on_a_cpu_nothing_is_asked_for(base: Any, applied: list[dict[str, Any]]) -> None:
    assert not use_liger_kernels(base, CPU)
    assert applied == []
    assert num_fused(base) == 2 * (7 + 1 + 2) + 1


def test_an_architecture_that_liger_does_not_know(base: Any, applied: list[dict[str, Any]]) -> None:
    base.config.model_type = "another"
    assert not use_liger_kernels(base, CUDA)
    assert applied == []


def test_without_the_package_all_stays_as_it_is(base: Any) -> None:
    assert not use_liger_kernels(base, CUDA)
    assert not uses_liger_kernels(base)
