"""A training run on a CPU is held to the freed memory that its plan allows it to keep."""

import gc
import os

import psutil
import pytest

from medqa_cli import allocators
from medqa_cli.training.callbacks import IdleMemoryLimit

MIB = 1 << 20


def resident() -> int:
    return int(psutil.Process(os.getpid()).memory_info().rss)


def test_idle_memory_is_given_back_only_beyond_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def release_idle_memory() -> bool:
        calls.append(resident())
        return True

    monkeypatch.setattr(allocators, "release_idle_memory", release_idle_memory)
    IdleMemoryLimit(resident() + 500 * MIB).on_step_end()
    assert calls == []
    IdleMemoryLimit(resident() - 1 * MIB).on_step_end()
    assert len(calls) == 1


@pytest.mark.skipif(
    not hasattr(os, "confstr") or "glibc" not in (os.confstr("CS_GNU_LIBC_VERSION") or ""), reason="needs glibc"
)
def test_what_is_idle_between_blocks_in_use_is_given_back() -> None:
    # Blocks below the size from which glibc maps them; each second one is freed, so that the heap cannot shrink.
    blocks = [bytearray(100_000) for _ in range(2_000)]
    del blocks[::2]
    gc.collect()
    before = resident()
    IdleMemoryLimit(before - 10 * MIB).on_step_end()
    assert before - resident() > 50 * MIB
    assert all(len(block) == 100_000 for block in blocks)
