"""What the machine at hand has: its GPUs, its memory and how much of it is free. Does not choose anything by it."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

GB = 10**9
_CGROUP_DIR = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Machine:
    """A machine.

    Attributes:
        gpu_name: None: PyTorch sees no GPU.
        num_gpus: how many it sees.
        gpu_memory_bytes: of the smallest of them.
        ram_bytes: memory of the host, or what its container may take of it.
        num_cpus: cores of the host.
        unused_gpu: an NVIDIA driver is here, but this PyTorch was built without CUDA.
    """

    gpu_name: str | None
    num_gpus: int
    gpu_memory_bytes: int
    ram_bytes: int
    num_cpus: int
    unused_gpu: bool

    @property
    def gpu_memory_gb(self) -> float | None:
        """Memory of a GPU in GB of 10**9 bytes; None: there is no GPU."""
        return self.gpu_memory_bytes / GB if self.gpu_name is not None else None

    def __str__(self) -> str:
        if self.gpu_name is None:
            return f"CPU only, {self.num_cpus} cores, {self.ram_bytes / GB:.0f} GB of memory"
        several = f"{self.num_gpus} x " if self.num_gpus > 1 else ""
        return f"{several}{self.gpu_name}, {self.gpu_memory_bytes / GB:.1f} GB"


def machine_at_hand() -> Machine:
    """Look at this machine."""
    ram, cpus = host_memory_bytes(), os.cpu_count() or 1
    if not torch.cuda.is_available():
        unused = torch.version.cuda is None and shutil.which("nvidia-smi") is not None
        return Machine(None, 0, 0, ram, cpus, unused)
    seen = [torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count())]
    smallest = min(seen, key=lambda properties: int(properties.total_memory))
    return Machine(smallest.name, len(seen), int(smallest.total_memory), ram, cpus, False)


def free_memory_bytes(device: torch.device) -> int:
    """Return the memory that a process can still take: of the GPU, or of the host and the container it is in."""
    if device.type == "cuda":
        # What PyTorch holds and does not use counts as free: the driver does not know of it.
        idle = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + idle
    available = int(psutil.virtual_memory().available)
    limit = _container_limit_bytes()
    if limit is None:
        return available
    return max(0, min(available, limit - _container_used_bytes()))


def host_memory_bytes() -> int:
    """Return the memory of the host, or the limit of the container where that is lower."""
    total = int(psutil.virtual_memory().total)
    return min(total, _container_limit_bytes() or total)


def _container_limit_bytes() -> int | None:
    """Return the limit of this container (cgroup v2, as Docker and Kubernetes set it); None: it has none."""
    try:
        limit = (_CGROUP_DIR / "memory.max").read_text(encoding="ascii").strip()
        return None if limit == "max" else int(limit)
    except (OSError, ValueError):
        return None


def _container_used_bytes() -> int:
    """Return what this container has taken, without the pages of files that it can give back."""
    try:
        used = int((_CGROUP_DIR / "memory.current").read_text(encoding="ascii"))
        stat = (_CGROUP_DIR / "memory.stat").read_text(encoding="ascii").splitlines()
        return used - next((int(line.split()[1]) for line in stat if line.startswith("inactive_file ")), 0)
    except (OSError, ValueError, IndexError):
        return 0
