"""Compute the chunks of a tensor in a thread pool; yield the results in order.

A chunk is too small for PyTorch's own threads, which would meet after every operation; here each thread computes alone.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from typing import TypeVar

import torch

T = TypeVar("T")

_MAX_THREADS = 8


def parallel_map(work: Callable[[int], T], count: int) -> Iterator[T]:
    """Yield ``work(0)`` to ``work(count - 1)``; up to two results per thread are computed ahead."""
    if count == 1:
        yield work(0)
        return
    pool, num_threads = _pool()
    waiting: deque[Future[T]] = deque()
    try:
        for index in range(count):
            waiting.append(pool.submit(work, index))
            if len(waiting) >= 2 * num_threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        # If the caller stops early, no thread may still read what it closes next.
        for future in waiting:
            future.cancel()
        for future in waiting:
            if not future.cancelled():
                future.exception()


@cache
def _pool() -> tuple[ThreadPoolExecutor, int]:
    num_threads = max(1, min(_MAX_THREADS, torch.get_num_threads(), os.cpu_count() or 1))
    # The setting holds for the thread that makes it.
    return ThreadPoolExecutor(num_threads, "medqa-merge", initializer=torch.set_num_threads, initargs=(1,)), num_threads
