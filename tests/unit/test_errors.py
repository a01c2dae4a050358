"""Which errors mean that memory ran out, whatever library reports it."""

import errno

import pytest
import torch

from medqa_cli.doctor.finding import Measured, examine
from medqa_cli.errors import InputError, out_of_memory

# PyTorch's allocator for the CPU has no class for it.
CPU = RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried 8 bytes")
FULL = [MemoryError(), torch.OutOfMemoryError("CUDA out of memory"), OSError(errno.ENOMEM, "no room"), CPU]


@pytest.mark.parametrize("error", FULL, ids=repr)
def test_full_memory_is_known_by_class_number_or_text_also_as_a_cause(error: Exception) -> None:
    outer = ValueError("a library wrapped it")
    outer.__cause__ = error
    assert out_of_memory(error) is out_of_memory(outer) is error


def test_other_errors_are_not_taken_for_full_memory() -> None:
    assert out_of_memory(RuntimeError("shapes differ")) is None
    assert out_of_memory(InputError("device 3: out of memory is what this message is about")) is None


@pytest.mark.parametrize("error", FULL, ids=repr)
def test_a_check_of_the_doctor_that_finds_no_memory_is_not_checked_and_fails_nothing(error: Exception) -> None:
    def measure() -> Measured:
        raise error

    finding = examine("a check", "a model", measure)
    assert (finding.status, finding.fails) == ("not checked", False)
    assert finding.text.startswith("memory ran out")
