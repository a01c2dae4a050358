"""Lets the threads of a training on a CPU sleep while they wait, as long as other programs compute on its cores.

OpenMP's threads wait for each other after every operation. They spin at first, which is the fastest way on a machine
that is idle, and the slowest on a busy one: a thread spins away the time in which the one that it waits for could have
run (figures: docs/experiments/2026-12.md). libgomp, which PyTorch has on Linux, hardly spins while a process has more
of its threads than cores (``do_spin`` in libgomp/config/linux/wait.h). So while others compute, one more thread of
Python keeps OpenMP threads of its own, all asleep. What is computed, and in which parts, stays the same to the bit.
"""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import psutil
import torch

from medqa_cli.environment import usable_cores

_SECONDS = 2.0  # between two looks
_BUSY, _IDLE = 0.2, 0.1  # shares of the cores that others use: from here on they are busy, below that idle
_PARALLEL_FROM = 1 << 20  # elements; PyTorch fills so many with all threads


class CoreTimes(NamedTuple):
    """Seconds since some beginning.

    ``others``: in which other programs, or other machines on the same host, had the cores that this process may use,
    summed over the cores; ``available``: the cores' time in all.
    """

    others: float
    available: float


def core_times() -> CoreTimes:
    """Read how the cores were used up to now."""
    by_core = psutil.cpu_times(percpu=True)
    # "guest" is a part of "user".
    spent = [
        sum(getattr(by_core[core], name, 0.0) for name in ("user", "nice", "system", "irq", "softirq", "steal"))
        for core in usable_cores()
        if core < len(by_core)
    ]
    own = psutil.Process().cpu_times()
    return CoreTimes(sum(spent) - own.user - own.system, time.monotonic() * len(spent))


class _SleepingPool(threading.Thread):
    """A thread that has made OpenMP threads of its own, and keeps them until it is ended."""

    def __init__(self) -> None:
        super().__init__(name="medqa-sleeping-pool", daemon=True)
        self._made, self._ended = threading.Event(), threading.Event()
        self.start()
        self._made.wait()

    def run(self) -> None:
        torch.ones(_PARALLEL_FROM)
        self._made.set()
        self._ended.wait()

    def end(self) -> None:
        self._ended.set()
        self.join()


class CoreSharing(threading.Thread):
    """Looks at the cores from time to time, and lets threads sleep or spin as they are busy or not.

    Args:
        read: tells how the cores were used.
        seconds: between two looks.
    """

    def __init__(self, read: Callable[[], CoreTimes] = core_times, seconds: float = _SECONDS) -> None:
        super().__init__(name="medqa-core-sharing", daemon=True)
        self._read, self._seconds = read, seconds
        self._ended = threading.Event()
        self._pool: _SleepingPool | None = None
        self._before = read()

    @property
    def sleeps(self) -> bool:
        """Whether waiting threads sleep now."""
        return self._pool is not None

    def run(self) -> None:
        """Look until it is ended."""
        while not self._ended.wait(self._seconds):
            self.look()
        self._let_sleep(False)

    def look(self) -> None:
        """Compare the cores' use with that of the last look."""
        now = self._read()
        share = (now.others - self._before.others) / max(1e-9, now.available - self._before.available)
        self._before = now
        self._let_sleep(share > (_IDLE if self.sleeps else _BUSY))

    def end(self) -> None:
        """Stop looking; threads spin again."""
        self._ended.set()
        self.join()

    def _let_sleep(self, wanted: bool) -> None:
        if wanted and self._pool is None:
            self._pool = _SleepingPool()
        elif not wanted and self._pool is not None:
            self._pool.end()
            self._pool = None


@contextmanager
def sharing_cores(device_type: str) -> Iterator[None]:
    """Share the cores with other programs while this lasts; does nothing on a GPU, elsewhere than on Linux, or alone.

    Args:
        device_type: what computes.
    """
    if device_type != "cpu" or sys.platform != "linux" or torch.get_num_threads() == 1:
        yield
        return
    sharing = CoreSharing()
    sharing.start()
    try:
        yield
    finally:
        sharing.end()
