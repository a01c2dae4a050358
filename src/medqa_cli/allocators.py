"""Tunes glibc malloc, PyTorch's allocators and oneDNN's kernel cache for training, before PyTorch is imported.

glibc gives a large block back to the system when it is freed and asks for it again a millisecond later; the system
fills it with zeros each time. A training step does that thousands of times, so freed blocks are kept at first. They do
not fit together again as well as they might (up to 2.5 times a step's own memory lay idle between blocks, see
docs/experiments.md, 2026-11-24 and 2026-11-28), so that where memory is short they are given back after all, which
costs a fifth of the speed. ``MEDQA_KEEP_FREED_MEMORY`` = 1 or 0 decides instead. Does nothing elsewhere than on glibc.

PyTorch's own allocator for NVIDIA GPUs cuts blocks out of segments that cannot grow: with forward passes of changing
lengths memory lies idle between them. Segments that can be extended leave less of it.

oneDNN, which computes bfloat16 products, compiles a kernel for each shape that it meets and keeps 1,024 of them.
Forwards of changing lengths fill that with 0.8 GB; 300 hold what a step meets, at the same speed.
"""

import ctypes
import os
from pathlib import Path

# <malloc.h> of glibc.
_M_TRIM_THRESHOLD = -1
_M_TOP_PAD = -2
_M_MMAP_THRESHOLD = -3
_M_MMAP_MAX = -4
_TOP_PAD_BYTES = 64 << 20
_GIVEN_BACK_FROM_BYTES = 512 << 10
_MOST_BLOCKS = 1 << 16
_NEVER = 2**31 - 1

_KERNELS_KEPT = 300
_KERNEL_BYTES = 800_000  # of one, on a CPU with AMX: docs/experiments.md, 2026-11-28

_NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")  # Linux alone has it, and extendable segments
# The name since PyTorch 2.9, and those before it.
_GPU_ALLOCATOR_VARIABLES = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_HIP_ALLOC_CONF")

VARIABLE = "MEDQA_KEEP_FREED_MEMORY"


def keep_freed_memory() -> bool:
    """Let freed blocks stay with the process, PyTorch ask for large pages, and oneDNN keep fewer kernels.

    On a machine with an NVIDIA GPU, PyTorch's segments of its memory can be extended, unless the environment says
    otherwise.

    Call it before torch is imported.

    Returns:
        whether the C library took the settings.
    """
    if _NVIDIA_DRIVER.exists() and not any(name in os.environ for name in _GPU_ALLOCATOR_VARIABLES):
        os.environ[_GPU_ALLOCATOR_VARIABLES[0]] = "expandable_segments:True"
    # Read by oneDNN (src/common/primitive_cache.cpp) at its first product.
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(_KERNELS_KEPT))
    # Read by PyTorch's CPU allocator (c10/core/impl/alloc_cpu.cpp) at its first allocation.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    return _set((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, _NEVER), (_M_TOP_PAD, _TOP_PAD_BYTES))


def kept_kernel_bytes() -> int:
    """Return what the kernels take that oneDNN keeps, at most."""
    return _KERNELS_KEPT * _KERNEL_BYTES


def give_back_freed_memory() -> bool:
    """Give large blocks back from now on when they are freed, and all that is idle at once.

    Returns:
        whether the C library took the settings.
    """
    taken = _set((_M_MMAP_THRESHOLD, _GIVEN_BACK_FROM_BYTES), (_M_MMAP_MAX, _MOST_BLOCKS))
    return taken and release_idle_memory()


def release_idle_memory() -> bool:
    """Give back what is idle now; return whether the C library can."""
    try:
        ctypes.CDLL(None).malloc_trim(ctypes.c_size_t(0))
    except (AttributeError, OSError, TypeError):  # macOS, musl, Windows
        return False
    return True


def is_kept(is_plentiful: bool) -> bool:
    """Tell whether freed memory is kept: as the environment says, else if memory is plentiful."""
    wanted = os.environ.get(VARIABLE, "")
    return wanted != "0" if wanted in ("0", "1") else is_plentiful


def _set(*settings: tuple[int, int]) -> bool:
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # macOS, musl, Windows
        return False
    return all(mallopt(parameter, value) == 1 for parameter, value in settings)
