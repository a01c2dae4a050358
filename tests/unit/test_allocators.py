"""Memory beside the training's own: kernels that oneDNN compiles are limited, and the prediction counts them."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from helpers.training import make_examples
from medqa_cli import allocators
from medqa_cli.config.schema import Config
from medqa_cli.model.load import load_config
from medqa_cli.training.estimate import MemoryEstimator, Target

PROGRAM_BYTES = 300 << 20


@pytest.mark.parametrize(("given", "expected"), [("", "300"), ("ONEDNN_PRIMITIVE_CACHE_CAPACITY=7", "7")])
def test_few_kernels_are_kept_unless_the_environment_says_more(given: str, expected: str) -> None:
    code = "import os; from medqa_cli import allocators; allocators.keep_freed_memory(); print(os.environ[{!r}])"
    words = ["env", *given.split(), sys.executable, "-c", code.format("ONEDNN_PRIMITIVE_CACHE_CAPACITY")]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == expected


@pytest.mark.parametrize(
    ("has_driver", "given", "expected"),
    [
        (True, {}, "expandable_segments:True"),
        (True, {"PYTORCH_CUDA_ALLOC_CONF": "max_split_size_mb:64"}, None),
        (True, {"PYTORCH_ALLOC_CONF": "backend:cudaMallocAsync"}, "backend:cudaMallocAsync"),
        (False, {}, None),
    ],
)
def test_segments_of_a_gpus_memory_can_grow_unless_the_environment_says_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_driver: bool, given: dict[str, str], expected: str | None
) -> None:
    monkeypatch.setattr(os, "environ", dict(given))
    monkeypatch.setattr(allocators, "_set", lambda *settings: True)
    monkeypatch.setattr(allocators, "_NVIDIA_DRIVER", tmp_path if has_driver else tmp_path / "none")
    allocators.keep_freed_memory()
    assert os.environ.get("PYTORCH_ALLOC_CONF") == expected


@pytest.mark.parametrize(
    ("device_type", "dtype", "compiled"),
    [("cpu", torch.bfloat16, True), ("cpu", torch.float32, False), ("cuda", torch.bfloat16, False)],
)
def test_the_prediction_counts_compiled_kernels(
    tiny_model_dir: Path, device_type: str, dtype: torch.dtype, compiled: bool
) -> None:
    target = Target(device_type, 8 << 30, 8 << 30, PROGRAM_BYTES)
    examples = make_examples([(5, 40), (12, 30), (3, 80)])
    predictor = MemoryEstimator(load_config(str(tiny_model_dir)), examples, dtype, target)
    found = predictor.predict(Config())
    assert found.program_bytes - PROGRAM_BYTES == (allocators.kept_kernel_bytes() if compiled else 0)
    assert found.peak_bytes > found.program_bytes
    for working_bytes in (found.step.working_bytes, -1000):
        step = replace(found.step, working_bytes=working_bytes)
        shown = replace(found, step=step, paged_bytes=0)
        assert min(shown.parts().values()) >= 0
        assert sum(shown.parts().values()) == shown.peak_bytes


def test_a_c_library_without_these_settings_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on macOS and with musl."""
    monkeypatch.setattr("ctypes.CDLL", lambda name: object())
    assert allocators.release_idle_memory() is False
    assert allocators.give_back_freed_memory() is False
