"""A training compares packed examples with each alone, on the model that it loaded, before its first step."""

from pathlib import Path
from typing import Any

import pytest
import torch

from helpers.commands import save_no_picture
from helpers.training import remembered_shape
from medqa_cli.config.schema import Config, LoraConfig, ModelConfig
from medqa_cli.doctor.subject import Subject, tiny_subject
from medqa_cli.files import read_json
from medqa_cli.model.kernels.cpu_attention import CpuAttention
from medqa_cli.training import run as training
from medqa_cli.training.callbacks import read_log


@pytest.fixture
def subject(tmp_path: Path, unconfined: None, monkeypatch: pytest.MonkeyPatch) -> Subject:
    monkeypatch.setattr("medqa_cli.training.estimate.ShapeModel", remembered_shape)
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", save_no_picture)
    config = Config(model=ModelConfig(quantization="none", compute_dtype="float32"), lora=LoraConfig(lora_dropout=0.0))
    return tiny_subject(config, tmp_path, torch.device("cpu"), torch.float32)


def losses(subject: Subject, **how: bool) -> list[float]:
    training.train(subject.config, subject.run, "# a test\n", **how)
    return [line["loss"] for line in read_log(subject.run.train_log_path) if "loss" in line]


def test_where_examples_see_each_other_they_go_one_at_a_time_also_after_a_restart(
    subject: Subject, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = losses(subject)
    assert read_json(subject.run.environment_path)["forwards"]["packed"]
    own = CpuAttention.forward

    def forward(ctx: Any, query: Any, key: Any, value: Any, lengths: Any, scale: Any) -> Any:
        return own(ctx, query, key, value, (sum(lengths),), scale)

    monkeypatch.setattr(CpuAttention, "forward", staticmethod(forward))
    capsys.readouterr()
    assert losses(subject, restart=True) == pytest.approx(expected, rel=1e-5)
    assert "examples are computed one at a time" in capsys.readouterr().err
    assert not read_json(subject.run.environment_path)["forwards"]["packed"]
