"""Results computed ahead by threads come in order; errors come where they belong."""

import threading
import time

import pytest
import torch

from medqa_cli.merging.weights import parallel_map


@pytest.mark.parametrize("count", [0, 1, 2, 50])
def test_results_come_in_order(count: int) -> None:
    def work(index: int) -> int:
        time.sleep(0.002 * (index % 3 == 0))
        return index * index

    assert list(parallel_map(work, count)) == [index * index for index in range(count)]


def test_the_threads_compute_alone_and_leave_the_others_their_setting() -> None:
    before = torch.get_num_threads()
    seen = list(parallel_map(lambda index: (torch.get_num_threads(), threading.current_thread().name), 8))
    assert {number for number, _ in seen} == {1}
    assert all(name.startswith("medqa-merge") for _, name in seen)
    assert torch.get_num_threads() == before


def test_an_error_comes_at_its_place_and_ends_the_work() -> None:
    done = []

    def work(index: int) -> int:
        if index == 5:
            raise ValueError("five")
        done.append(index)
        return index

    results: list[int] = []
    with pytest.raises(ValueError, match="five"):
        results.extend(parallel_map(work, 1000))  # keeps what came before the error
    assert results == [0, 1, 2, 3, 4]
    assert len(done) < 1000
