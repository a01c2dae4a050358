"""The machine at hand: memory of the host or the container that the process is in, and GPUs that are not used."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch

from medqa_cli import console
from medqa_cli.errors import InputError
from medqa_cli.model import devices
from medqa_cli.model.devices import (
    free_memory_bytes,
    has_kernels,
    host_memory_bytes,
    machine_at_hand,
    pick_device,
    unused_gpu,
)

CPU = torch.device("cpu")
GIB = 1 << 30


@pytest.fixture
def cgroup_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host of 64 GiB, 40 of them free; the folder in which its container would say what it may take."""
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=64 * GIB, available=40 * GIB))
    monkeypatch.setattr(devices, "_CGROUP_DIR", tmp_path)
    return tmp_path


def limit_to(folder: Path, limit: str, used: int = 0, inactive_file: int = 0) -> None:
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 1\nfile 2\ninactive_file {inactive_file}\nactive_file 4\n")


def test_without_a_container_it_is_the_host(cgroup_dir: Path) -> None:
    assert (host_memory_bytes(), free_memory_bytes(CPU)) == (64 * GIB, 40 * GIB)
    limit_to(cgroup_dir, "max", used=60 * GIB)
    assert (host_memory_bytes(), free_memory_bytes(CPU)) == (64 * GIB, 40 * GIB)


def test_a_container_has_its_limit_and_can_drop_pages_of_files(cgroup_dir: Path) -> None:
    limit_to(cgroup_dir, str(8 * GIB), used=5 * GIB, inactive_file=2 * GIB)
    assert (host_memory_bytes(), free_memory_bytes(CPU)) == (8 * GIB, 5 * GIB)
    limit_to(cgroup_dir, str(8 * GIB), used=9 * GIB)
    assert free_memory_bytes(CPU) == 0


def test_a_limit_above_the_host_is_no_limit(cgroup_dir: Path) -> None:
    limit_to(cgroup_dir, str(1 << 60), used=5 * GIB)
    assert (host_memory_bytes(), free_memory_bytes(CPU)) == (64 * GIB, 40 * GIB)


@pytest.mark.parametrize("content", ["", "a lot\n"])
def test_an_unreadable_limit_is_none(cgroup_dir: Path, content: str) -> None:
    (cgroup_dir / "memory.max").write_text(content)
    assert (host_memory_bytes(), free_memory_bytes(CPU)) == (64 * GIB, 40 * GIB)


def test_an_unreadable_use_is_none(cgroup_dir: Path) -> None:
    limit_to(cgroup_dir, str(8 * GIB), used=5 * GIB)
    (cgroup_dir / "memory.current").unlink()
    assert free_memory_bytes(CPU) == 8 * GIB


def test_a_gpu_says_itself_what_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (3 * GIB, 16 * GIB))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 9 * GIB)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 4 * GIB)
    assert free_memory_bytes(torch.device("cuda", 0)) == (3 + 5) * GIB  # PyTorch's own idle blocks count


def test_this_machine_has_some() -> None:
    assert 1 << 27 < free_memory_bytes(CPU) < host_memory_bytes() < 1 << 45


# GPUs that are here and not used

OF_PYPI_13_0 = "sm_75 sm_80 sm_86 sm_90 sm_100 sm_120 compute_120"


@pytest.fixture
def nvidia(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A machine with an NVIDIA driver, and a build of PyTorch that sees no GPU."""

    def make(driver: str, torch_version: str, cuda: str | None) -> None:
        path = tmp_path / "version"
        path.write_text(f"NVRM version: NVIDIA UNIX x86_64 Kernel Module  {driver}  Sat Aug 19 01:15:15 UTC 2028\n")
        monkeypatch.setattr(devices, "_NVIDIA_DRIVER", path)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        monkeypatch.setattr(torch, "__version__", torch_version)
        monkeypatch.setattr(torch.version, "cuda", cuda)
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    return make


@pytest.mark.parametrize(
    ("driver", "torch_version", "cuda", "said"),
    [
        (
            "580.65.06",
            "2.13.0+cpu",
            None,
            ["2.13.0+cpu) was built without CUDA", "pip install torch==2.13.0+cu130, with"],
        ),
        ("560.35.03", "2.13.0+cpu", None, ["NVIDIA driver 560.35.03", "torch==2.13.0+cu126"]),
        ("470.82.01", "2.13.0+cpu", None, ["NVIDIA driver 470.82.01", "+cu130", "update the driver to 580"]),
        ("535.104.05", "2.13.0", "13.0", ["2.13.0, for CUDA 13.0", "driver 535.104.05", "or newer", "+cu126"]),
        ("470.82.01", "2.8.0", "12.8", ["CUDA 12.8 needs driver 525 or newer", "update the driver"]),
        ("580.65.06", "2.13.0", "13.0", ["finds no GPU that it can use", "580.65.06", "docker run --gpus all"]),
    ],
)
def test_a_gpu_that_pytorch_cannot_use_is_named(
    nvidia: Any, driver: str, torch_version: str, cuda: str | None, said: list[str]
) -> None:
    nvidia(driver, torch_version, cuda)
    why = unused_gpu()
    assert why is not None
    assert all(part in why for part in said), why
    assert machine_at_hand().unused_gpu == why


def test_gpus_that_the_user_hid_are_said_to_be_hidden(nvidia: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    nvidia("535.104.05", "2.13.0", "13.0")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert "CUDA_VISIBLE_DEVICES hides all of them" in str(unused_gpu())


@pytest.mark.parametrize("answer", ["550.54.15\n550.54.15\n", None])
def test_without_the_drivers_file_nvidia_smi_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str | None
) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\n" + ("exit 9\n" if answer is None else f"printf '{answer}'\n"))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(devices, "_NVIDIA_DRIVER", tmp_path / "none")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert ("NVIDIA driver 550.54.15" if answer else "driver of unknown version") in str(unused_gpu())


@pytest.mark.parametrize(("backend", "said"), [("mps", "GPU of this Mac (MPS)"), ("xpu", "Intel GPU (Arc A770)")])
def test_other_accelerators_are_named(monkeypatch: pytest.MonkeyPatch, backend: str, said: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: backend == "mps")
    monkeypatch.setattr(torch.xpu, "is_available", lambda: backend == "xpu")
    monkeypatch.setattr(torch.xpu, "get_device_name", lambda: "Arc A770")
    assert said in str(unused_gpu())


def test_a_command_warns_once_and_the_next_one_again(nvidia: Any, capsys: pytest.CaptureFixture[str]) -> None:
    nvidia("535.104.05", "2.13.0", "13.0")
    for _ in range(2):
        console.begin()
        assert pick_device() == pick_device() == CPU
        said = capsys.readouterr().err
        assert said.count("warning: computing on the CPU, which is much slower than a GPU: this PyTorch") == 1


def with_card(monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], built_for: str, gcn: str = "") -> None:
    card = SimpleNamespace(name="A card", total_memory=16 * GIB, gcnArchName=gcn)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: card.name)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: card)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.cuda, "get_arch_list", built_for.split)


@pytest.mark.parametrize(
    ("capability", "built_for", "runs"),
    [
        ((6, 0), OF_PYPI_13_0, False),  # P100
        ((7, 0), OF_PYPI_13_0, False),  # V100
        ((7, 5), OF_PYPI_13_0, True),  # T4
        ((8, 6), "sm_80 sm_90", True),  # a binary runs on later GPUs of its generation
        ((8, 0), "sm_86 sm_90", False),  # not on earlier ones
        ((8, 9), OF_PYPI_13_0, True),
        ((12, 0), "sm_80 sm_90", False),
        ((12, 0), "sm_80 compute_90", True),  # the driver compiles it
        ((9, 0), "compute_100", False),
        ((12, 1), OF_PYPI_13_0, True),
        ((9, 0), "sm_90a", True),
        ((9, 2), "sm_90a", False),
        ((12, 0), "sm_90a compute_90a", False),  # nothing of a later generation runs what has this suffix
        ((10, 3), "sm_100f", True),
        ((7, 0), "", True),  # a build that does not say
    ],
)
def test_which_cards_a_build_has_kernels_for(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], built_for: str, runs: bool
) -> None:
    with_card(monkeypatch, capability, built_for)
    assert has_kernels(0) is runs
    assert (machine_at_hand().gpu_name is not None) is runs
    if not runs:
        with pytest.raises(InputError, match=f"no kernels for the GPU A card .*{capability[0]}.{capability[1]}"):
            pick_device()


def test_an_old_card_is_told_which_pytorch_has_its_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    with_card(monkeypatch, (7, 0), OF_PYPI_13_0)
    with pytest.raises(InputError, match="it was built for sm_75 sm_80") as raised:
        pick_device()
    assert "+cu126, with the --index-url" in raised.value.hint
    assert "CUDA_VISIBLE_DEVICES=-1" in raised.value.hint
    assert "no kernels for the GPU A card" in str(machine_at_hand().unused_gpu)


@pytest.mark.parametrize(("name", "runs"), [("gfx942:sramecc+:xnack-", True), ("gfx1103", False)])
def test_amd_cards_are_compared_by_their_name(monkeypatch: pytest.MonkeyPatch, name: str, runs: bool) -> None:
    monkeypatch.setattr(torch.version, "hip", "7.0")
    with_card(monkeypatch, (9, 4), "gfx90a gfx942 gfx1100", name)
    assert has_kernels(0) is runs
