"""Which device and number type the work runs on, and how much memory it took.

Does not move models: ``base`` loads them where they belong.
"""

from __future__ import annotations

import gc
import sys

import psutil
import torch

from medqa_cli import allocator, console, distributed
from medqa_cli.errors import InputError
from medqa_cli.model.machine import has_kernels, unused_gpu, without_kernels

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}


def pick_device() -> torch.device:
    """Return this process's own CUDA device where there are any, else the CPU; warn where a GPU is here and not used.

    Raises:
        InputError: more processes were started on this host than it has GPUs, or PyTorch has no kernels for the GPU.
    """
    if distributed.cpu_wanted():
        return torch.device("cpu")
    if not torch.cuda.is_available():
        if (why := unused_gpu()) is not None:
            console.warn_once(f"computing on the CPU, which is much slower than a GPU: {why}")
        return torch.device("cpu")
    if distributed.local_rank() >= torch.cuda.device_count():
        raise InputError(
            f"no GPU is left for process {distributed.local_rank()} of this host: it has {torch.cuda.device_count()}",
            "start one process per GPU: --nproc-per-node (torchrun), --num_processes (accelerate launch)",
        )
    if not has_kernels(distributed.local_rank()):
        raise InputError(*without_kernels(distributed.local_rank()))
    allocator.give_back_freed_memory()  # kept for tensors on the CPU only; here the host only stages weights
    return torch.device("cuda", distributed.local_rank())


def pick_compute_dtype(name: str, device: torch.device) -> torch.dtype:
    """Turn ``model.compute_dtype`` into a dtype; ``auto`` takes what the device computes fast.

    A T4 (compute capability 7.5) only emulates bfloat16, so ``auto`` gives it float16. A CPU gets bfloat16 only with
    AMX: with AVX512-BF16 alone it was half as fast as float32 (docs/experiments.md, 2026-11-22).
    """
    if name != "auto":
        return DTYPES[name]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.get_device_capability(device) >= (8, 0) else torch.float16
    return torch.bfloat16 if torch.cpu._is_amx_tile_supported() else torch.float32


def peak_memory_bytes(device: torch.device) -> int:
    """Return the peak so far, in bytes: allocated on the GPU, or resident in the whole process on the CPU."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    if sys.platform == "win32":
        memory = psutil.Process().memory_info()
        return int(getattr(memory, "peak_wset", memory.rss))
    import resource  # not on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def let_go_of_unused(device: torch.device) -> None:
    """Free models that nothing names any more: forwards that were put into a model refer to it in a circle."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def describe_device(device: torch.device) -> str:
    """Return the device's name for people."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU, {torch.get_num_threads()} threads"
