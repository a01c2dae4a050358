"""The memory at hand: of the host, or of the container that the process is in."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch

from medqa_cli.model import machine
from medqa_cli.model.machine import free_memory_bytes, host_memory_bytes

CPU = torch.device("cpu")
GIB = 1 << 30


@pytest.fixture
def cgroup_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host of 64 GiB, 40 of them free; the folder in which its container would say what it may take."""
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=64 * GIB, available=40 * GIB))
    monkeypatch.setattr(machine, "_CGROUP_DIR", tmp_path)
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
