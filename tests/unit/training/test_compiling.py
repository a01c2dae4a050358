"""``train.compile``: when layers are compiled, and why they are not."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from medqa_cli.config.schema import Config, TrainConfig
from medqa_cli.errors import InputError
from medqa_cli.model.kernels.compiled_layers import has_cpp_compiler
from medqa_cli.model.kernels.verify import Way
from medqa_cli.training import setup

WAY = Way(packed=True, in_chunks=True, fused=())


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The models whose layers were compiled, on two cores with a compiler; what it compiles is right."""
    tried: list[str] = []
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.setattr(setup, "has_cpp_compiler", lambda: True)

    def compile_if_right(model: Any, name: str, dtype: torch.dtype) -> str:
        tried.append(name)
        return ""

    monkeypatch.setattr(setup, "compile_if_right", compile_if_right)
    return tried


def settle(
    compile_: Any,
    *,
    tokens: int = 100,
    device: str = "cpu",
    way: Way = WAY,
    recomputes: bool = False,
    before: bool | None = None,
) -> bool:
    """Settle a training of a million parameters on so many tokens."""
    example = SimpleNamespace(input_ids=range(tokens))
    inputs: Any = SimpleNamespace(
        config=Config(train=TrainConfig(compile=compile_)),
        device=torch.device(device),
        dtype=torch.float32,
        source=SimpleNamespace(name="it"),
        data=SimpleNamespace(examples=[example]),
        limits=SimpleNamespace(recomputed=recomputes),
    )
    model = torch.nn.Linear(1000, 1000, bias=False)
    return setup.settle_compiling(model, inputs, way, before)


def test_auto_compiles_where_the_training_is_long_and_true_and_false_do_not_ask(tried: list[str]) -> None:
    assert not settle("auto", tokens=99_999_999)
    assert settle("auto", tokens=100_000_000)
    assert settle(True)
    assert not settle(False, tokens=100_000_000)
    assert tried == ["it", "it"]


def test_auto_goes_on_as_the_run_began(tried: list[str]) -> None:
    assert settle("auto", before=True)
    assert not settle("auto", tokens=100_000_000, before=False)


REFUSED: dict[str, dict[str, Any]] = {
    "on a CPU only": {"device": "cuda"},
    "activations are recomputed are not compiled (train.gradient_checkpointing)": {"recomputes": True},
    "one example at a time": {"way": replace(WAY, packed=False)},
}


@pytest.mark.parametrize("reason", REFUSED)
def test_true_is_refused_with_the_reason_and_auto_goes_without(tried: list[str], reason: str) -> None:
    with pytest.raises(InputError) as refused:
        settle(True, **REFUSED[reason])
    assert reason in refused.value.message
    assert "train.compile: false" in (refused.value.hint or "")
    assert not settle("auto", tokens=100_000_000, **REFUSED[reason])
    assert tried == []


def test_without_a_cpp_compiler_true_says_what_to_install(
    tried: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(setup, "has_cpp_compiler", has_cpp_compiler)
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(InputError, match=r"no C\+\+ compiler: install g\+\+"):
        settle(True)
    assert not settle("auto", tokens=100_000_000)
    assert capsys.readouterr().err == ""
    assert not settle("auto", before=True)
    assert "goes on without" in capsys.readouterr().err


def test_layers_that_compute_something_else_when_compiled_are_not_used(
    tried: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(setup, "compile_if_right", lambda *_: "values differ by up to 0.1")
    with pytest.raises(InputError, match=r"values differ by up to 0\.1"):
        settle(True)
    assert not settle("auto", tokens=100_000_000)
    assert "the layers are not compiled: values differ by up to 0.1" in capsys.readouterr().err
