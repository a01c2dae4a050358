"""Models of an evaluation come one after the other: one that is done with is gone before the next is loaded."""

import weakref
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from medqa_cli.config.schema import Config
from medqa_cli.evaluation import generation
from medqa_cli.evaluation.generation import each_model
from medqa_cli.model.load import LoadedModel
from medqa_cli.model.resolve import ModelRef


class Loader:
    """Makes models that refer to themselves, as packed ones do, and notes how many are there at each load."""

    def __init__(self, bias: str) -> None:
        self.bias = bias
        self.made: list[weakref.ref[Any]] = []
        self.alive: list[int] = []

    def make(self, *_: Any, **__: Any) -> Any:
        self.alive.append(sum(model() is not None for model in self.made))
        model = torch.nn.Linear(1, 1)
        model.itself = model
        model.__dict__["peft_config"] = {"default": SimpleNamespace(bias=self.bias)}
        model.__dict__["disable_adapter"] = lambda: torch.no_grad()
        self.made.append(weakref.ref(model))
        return model


@pytest.mark.parametrize(("bias", "num_loaded"), [("none", 2), ("all", 3)])
def test_two_are_never_in_memory_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bias: str, num_loaded: int
) -> None:
    loader = Loader(bias)
    (tmp_path / "merged").mkdir()
    device, source = torch.device("cpu"), ModelRef("tiny", "tiny", "folder")

    def load(choice: str, *_: Any, **__: Any) -> LoadedModel:
        return LoadedModel(choice, source, loader.make(), None, device, torch.float32)  # type: ignore[arg-type]

    monkeypatch.setattr(generation, "load_model", load)
    monkeypatch.setattr(generation, "load_base", loader.make)
    monkeypatch.setattr(generation, "settle_way", lambda *_, **__: None)  # a linear layer has no packed forward pass
    names = []
    for loaded in each_model(("adapter", "base", "merged"), Config(run_dir=str(tmp_path)), packed=True):
        assert loaded.model is not None
        names.append(loaded.name)
    assert names == ["adapter", "base", "merged"]
    assert loader.alive == [0] * num_loaded
    assert [model() for model in loader.made] == [None] * num_loaded
