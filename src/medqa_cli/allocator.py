"""What the memory allocator of the C library needs for training on a CPU, set by the program itself at its start.

glibc gives every large block back to the system when it is freed and asks for it anew a millisecond later; the system
fills it with zeros each time. A training step does that thousands of times. Does nothing elsewhere than on glibc.
"""

from __future__ import annotations

import ctypes
import os

# <malloc.h> of glibc.
_M_TRIM_THRESHOLD = -1
_M_TOP_PAD = -2
_M_MMAP_MAX = -4
_TOP_PAD_BYTES = 64 << 20
_NEVER = 2**31 - 1


def keep_freed_memory() -> bool:
    """Let freed blocks stay with the process, and let PyTorch ask for large pages; call it before torch is imported.

    Returns:
        whether the C library took the settings.
    """
    # Read by PyTorch's CPU allocator (c10/core/impl/alloc_cpu.cpp) at its first allocation.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # macOS, musl, Windows
        return False
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, _NEVER), (_M_TOP_PAD, _TOP_PAD_BYTES))
    return all(mallopt(parameter, value) == 1 for parameter, value in settings)
