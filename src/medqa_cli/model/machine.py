"""What the machine at hand has for training: its GPUs, its memory. Does not choose anything by it."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass

import psutil
import torch

GB = 10**9


@dataclass(frozen=True)
class Machine:
    """A machine.

    Attributes:
        gpu_name: None: PyTorch sees no GPU.
        num_gpus: how many it sees.
        gpu_memory_bytes: of the smallest of them.
        ram_bytes: memory of the host.
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
    ram, cpus = int(psutil.virtual_memory().total), os.cpu_count() or 1
    if not torch.cuda.is_available():
        unused = torch.version.cuda is None and shutil.which("nvidia-smi") is not None
        return Machine(None, 0, 0, ram, cpus, unused)
    seen = [torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count())]
    smallest = min(seen, key=lambda properties: int(properties.total_memory))
    return Machine(smallest.name, len(seen), int(smallest.total_memory), ram, cpus, False)
