"""What this machine is and has: versions, device, driver, memory, disk, cores, optional packages."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import os
import platform
import shutil
from pathlib import Path
from typing import Any

import torch

from medqa_cli.environment import RECORDED_PACKAGES
from medqa_cli.model import devices

# Packages that are used where they are there: module, name on the package index, what for.
_OPTIONAL = (
    ("bitsandbytes", "bitsandbytes", "4- and 8-bit weights, paged and 8-bit optimizers"),
    ("flash_attn", "flash-attn", "flash attention where PyTorch's own is too old"),
    ("liger_kernel", "liger-kernel", "rotary embedding and RMSNorm in one kernel on CUDA"),
    ("xllamacpp", "xllamacpp", "answers by llama.cpp"),
    ("trl", "trl", "train --method dpo"),
    ("starlette", "starlette", "medqa serve"),
    ("pypdf", "pypdf", "documents in PDF"),
)


def describe(device: torch.device, dtype: torch.dtype, folder: Path) -> dict[str, Any]:
    """Return the facts.

    Args:
        device: the one that is computed on.
        dtype: type of the matrix products there.
        folder: on the disk that the run is written to; need not exist yet.
    """
    versions = {}
    for name in RECORDED_PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    return {
        "medqa": versions.pop("medqa-cli", None),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": versions,
        "device": devices.describe_device(device),
        "compute_dtype": devices.dtype_name(dtype),
        "gpus": _gpus() if device.type == "cuda" else [],
        "driver": devices.nvidia_driver_version(),
        "cuda": torch.version.cuda,
        "rocm": torch.version.hip,
        "unused_gpu": devices.unused_gpu() if device.type == "cpu" else None,
        "memory_bytes": devices.host_memory_bytes(),
        "free_memory_bytes": devices.free_memory_bytes(device),
        "free_disk_bytes": shutil.disk_usage(there).free,
        "cores": os.cpu_count() or 1,
        "cpu_kernels": torch.backends.cpu.get_cpu_capability(),
        "optional": {name: importlib.util.find_spec(module) is not None for module, name, _ in _OPTIONAL},
    }


def _gpus() -> list[dict[str, Any]]:
    found = []
    for number in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(number)
        found.append(
            {
                "name": properties.name,
                "memory_bytes": int(properties.total_memory),
                "capability": ".".join(map(str, torch.cuda.get_device_capability(number))),
            }
        )
    return found


def lines(facts: dict[str, Any]) -> list[str]:
    """Return the facts as lines for people, the ones that a report of a fault needs first."""
    packages = ", ".join(f"{name} {version}" for name, version in facts["packages"].items())
    gpus = [
        f"{gpu['name']}, {gpu['memory_bytes'] / 1e9:.1f} GB, capability {gpu['capability']}" for gpu in facts["gpus"]
    ]
    runtime = [f"CUDA {facts['cuda']}" if facts["cuda"] else "", f"ROCm {facts['rocm']}" if facts["rocm"] else ""]
    builds = [text for text in runtime if text] or ["neither CUDA nor ROCm"]
    driver = f"NVIDIA driver {facts['driver']}" if facts["driver"] else "no NVIDIA driver"
    optional = facts["optional"]
    missing = [f"{name} ({purpose})" for _, name, purpose in _OPTIONAL if not optional[name]]
    told = [
        f"medqa {facts['medqa']}, Python {facts['python']}, {facts['platform']}",
        packages,
        f"device: {'; '.join(gpus) or facts['device']}; products in {facts['compute_dtype']}",
        f"PyTorch built for {', '.join(builds)}; {driver}",
        f"memory: {facts['free_memory_bytes'] / 1e9:.1f} GB free on the device, {facts['memory_bytes'] / 1e9:.1f} GB "
        f"in the host; disk: {facts['free_disk_bytes'] / 1e9:.1f} GB free; {facts['cores']} cores, "
        f"{facts['cpu_kernels']}",
        f"installed: {', '.join(name for name in optional if optional[name]) or 'nothing optional'}",
    ]
    if missing:
        told.append(f"not installed, and not needed otherwise: {', '.join(missing)}")
    if facts["unused_gpu"]:
        told.append(f"a GPU is here and not used: {facts['unused_gpu']}")
    return told
