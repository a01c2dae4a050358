"""Waiting threads sleep while other programs compute, and nothing that is computed changes."""

import sys
import time
from collections.abc import Iterator
from types import SimpleNamespace

import psutil
import pytest
import torch

from medqa_cli.training.core_sharing import CoreSharing, CoreTimes, core_times, sharing_cores

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="PyTorch has libgomp on Linux")


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


class Cores:
    """Two cores; others use what a test says."""

    def __init__(self) -> None:
        self.others = self.available = 0.0

    def __call__(self) -> CoreTimes:
        return CoreTimes(self.others, self.available)

    def pass_by(self, share: float) -> None:
        self.others += 4 * share
        self.available += 4


def test_threads_sleep_from_a_fifth_of_the_cores_on_until_less_than_a_tenth_is_used() -> None:
    cores = Cores()
    sharing = CoreSharing(cores)
    seen = []
    for share in (0.0, 0.15, 0.25, 0.15, 0.05, 0.15):
        cores.pass_by(share)
        sharing.look()
        seen.append(sharing.sleeps)
    assert seen == [False, False, True, True, False, False]


def num_threads() -> int:
    """Return the number of the process's threads; the system's end a moment after Python's."""
    seen = [-1] * 20
    while len(set(seen[-20:])) > 1 or seen[-1] < 0:
        seen.append(psutil.Process().num_threads())
        time.sleep(0.01)
    return seen[-1]


def test_a_sleeping_pool_has_openmp_threads_of_its_own_until_it_ends(two_threads: None) -> None:
    torch.ones(1 << 20)  # this thread's own are there
    before = num_threads()
    cores = Cores()
    sharing = CoreSharing(cores)
    cores.pass_by(1.0)
    sharing.look()
    # The thread itself and, of libgomp's two, the one that is not the thread itself.
    assert num_threads() == before + 1 + (torch.get_num_threads() - 1)
    cores.pass_by(0.0)
    sharing.look()
    assert num_threads() == before


def test_products_are_the_same_to_the_bit_while_threads_sleep(two_threads: None) -> None:
    a, b = torch.randn(300, 500), torch.randn(500, 200)
    plain = a @ b, torch.nn.functional.silu(a).sum()
    cores = Cores()
    sharing = CoreSharing(cores)
    cores.pass_by(1.0)
    sharing.look()
    shared = a @ b, torch.nn.functional.silu(a).sum()
    cores.pass_by(0.0)
    sharing.look()
    assert torch.equal(plain[0], shared[0])
    assert torch.equal(plain[1], shared[1])


def test_others_have_what_this_process_has_not_on_the_cores_that_it_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    def core(**seconds: float) -> SimpleNamespace:
        return SimpleNamespace(**{"user": 0.0, "nice": 0.0, "system": 0.0, "idle": 50.0, "iowait": 9.0, **seconds})

    cores = [core(user=30.0, guest=20.0), core(user=99.0), core(nice=5.0, system=2.0, steal=3.0)]
    monkeypatch.setattr(psutil, "cpu_times", lambda percpu: cores)
    monkeypatch.setattr(psutil.Process, "cpu_times", lambda self: SimpleNamespace(user=12.0, system=1.0))
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0, 2})
    monkeypatch.setattr(time, "monotonic", lambda: 100.0)
    assert core_times() == CoreTimes(others=30 + 5 + 2 + 3 - 12 - 1, available=200)


def test_a_training_on_a_gpu_shares_no_cores() -> None:
    before = num_threads()
    with sharing_cores("cuda"):
        assert num_threads() == before


def test_a_training_with_two_threads_looks_until_it_ends(two_threads: None) -> None:
    torch.ones(1 << 20)
    before = num_threads()
    with sharing_cores("cpu"):
        assert num_threads() >= before + 1
    assert num_threads() == before
