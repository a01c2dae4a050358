"""On machines with GPUs that medqa does not use, all parts of a training agree on the CPU, and the user is told."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from medqa_cli import console
from medqa_cli.config.schema import TrainConfig
from medqa_cli.model.devices import pick_device
from medqa_cli.training.arguments import make_training_arguments


@pytest.fixture(params=["mps", "xpu"])
def pretended(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A Mac with its GPU, and a machine with one of Intel's."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: request.param == "mps")
    monkeypatch.setattr(torch.backends.mps, "is_built", lambda: request.param == "mps")
    monkeypatch.setattr(torch.xpu, "is_available", lambda: request.param == "xpu")
    monkeypatch.setattr(torch.xpu, "get_device_name", lambda: "Arc A770")
    AcceleratorState._reset_state(reset_partial_state=True)
    console.begin()
    yield request.param
    AcceleratorState._reset_state(reset_partial_state=True)


def test_a_training_stays_on_the_cpu_and_says_so(
    pretended: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    device = pick_device()
    settings = TrainConfig(optim="adamw_torch")
    args = make_training_arguments(settings, seed=1, output_dir=tmp_path, device=device, compute_dtype=torch.float32)
    assert (device.type, args.device.type, Accelerator().device.type) == ("cpu", "cpu", "cpu")
    said = capsys.readouterr().err
    assert {"mps": "the GPU of this Mac (MPS) is not used", "xpu": "Intel GPU (Arc A770) is not used"}[
        pretended
    ] in said
    assert "a small model trains on this CPU as it is" in said
