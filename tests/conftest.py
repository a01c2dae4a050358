"""Fixtures of several test modules: tiny models and tokenizers on disk, and a runner for the command line."""

import gc
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from helpers.commands import Outcome, Starter, run_main
from helpers.models import make_bos_tokenizer, make_chatml_tokenizer, make_tiny_model

os.environ.update(HF_HUB_OFFLINE="1", NO_COLOR="1", COLUMNS="200")
if os.environ.get("MEDQA_TEST_DEVICE") != "cuda":  # tests/gpu, by benchmarks/gpu.py
    os.environ["CUDA_VISIBLE_DEVICES"] = ""

# The same examples in every run; ``make fuzz`` tries more of them. A property whose examples take long has fewer.
for name, examples in {"tests": 300, "slow": 100}.items():
    settings.register_profile(
        name,
        max_examples=int(os.environ.get("MEDQA_FUZZ_EXAMPLES", examples)),
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
settings.load_profile("tests")


# Files that take 20 seconds and more. They come first: the last files of a run are short, and no worker waits.
LONGEST = [
    "test_doors.py",
    "test_several_ranks.py",
    "test_compiled_training.py",
    "test_resume.py",
    "test_merge.py",
    "test_architectures.py",
    "test_errors.py",
    "test_eval.py",
    "test_pretended_cuda.py",
    "test_model_types.py",
    "test_smollm2.py",
    "test_variants.py",
    "test_medquad.py",
    "test_network.py",
    "test_serve.py",
    "test_windows.py",
    "test_llamacpp.py",
    "test_plan.py",
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    rank = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.name, len(rank)))


_imported = 0


def pytest_runtest_setup() -> None:
    """Python no longer looks for garbage in what is imported: that took a seventh of the tests' time."""
    global _imported
    if len(sys.modules) > _imported:
        _imported = len(sys.modules)
        gc.collect()
        gc.freeze()


@pytest.fixture(scope="session")
def bos_tokenizer() -> Any:
    return make_bos_tokenizer()


@pytest.fixture(scope="session")
def chatml_tokenizer() -> Any:
    return make_chatml_tokenizer()


@pytest.fixture(scope="session")
def tiny_model_dir(tmp_path_factory: pytest.TempPathFactory, chatml_tokenizer: Any) -> Path:
    """A saved tiny model with the ChatML tokenizer."""
    folder = tmp_path_factory.mktemp("tiny-model")
    make_tiny_model(len(chatml_tokenizer)).save_pretrained(folder)
    chatml_tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def talking_model_dir(tmp_path_factory: pytest.TempPathFactory, chatml_tokenizer: Any) -> Path:
    """A tiny model whose weights are so large that it says something else to each question, and for long."""
    import torch

    folder = tmp_path_factory.mktemp("talking-model")
    model = make_tiny_model(len(chatml_tokenizer))
    torch.manual_seed(3)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.data.normal_(std=0.2)
    model.save_pretrained(folder)
    chatml_tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def unconfined(monkeypatch: pytest.MonkeyPatch) -> None:
    """Templates, tokenizers and patterns are tried in this process: a child of its own takes 0.1 s."""

    def call(function: Callable[..., Any], *arguments: Any, **limits: Any) -> Any:
        return function(*arguments)

    for module in ("prompt.rendering", "model.checks.model_files", "model.checks.adapter"):
        monkeypatch.setattr(f"medqa_cli.{module}.call", call)


@pytest.fixture
def medqa(capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Run ``medqa ARGS`` in this process through ``main``, as a user's shell would."""

    def run(*args: str | Path) -> Outcome:
        capsys.readouterr()
        code = run_main(args)
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return run


@pytest.fixture(scope="session")
def starter() -> Iterator[Starter]:
    """Starts commands and scripts in processes of their own; they run in the current folder."""
    started = Starter()
    yield started
    started.close()
