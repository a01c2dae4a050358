"""Which device and number type the work runs on, without needing the devices."""

import itertools
from types import SimpleNamespace

import pytest
import torch

from medqa_cli.errors import InputError
from medqa_cli.model import devices
from medqa_cli.model.devices import describe_device, peak_memory_bytes, pick_compute_dtype, pick_device

CPU = torch.device("cpu")
CUDA = torch.device("cuda", 1)


def test_without_a_gpu_it_is_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert pick_device() == CPU


def launched_as(monkeypatch: pytest.MonkeyPatch, local_rank: int | None) -> None:
    """Eight processes on two hosts of four GPUs each, as torchrun starts them; None: no launcher."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(torch.cuda, "get_arch_list", list)
    for name, value in (("WORLD_SIZE", 8), ("RANK", 4 + (local_rank or 0)), ("LOCAL_RANK", local_rank)):
        monkeypatch.delenv(name, raising=False)
        if local_rank is not None:
            monkeypatch.setenv(name, str(value))


@pytest.fixture(autouse=True)
def given_back(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """The host's memory would be given back in the tests' own process."""
    calls: list[bool] = []
    monkeypatch.setattr("medqa_cli.allocators.give_back_freed_memory", lambda: calls.append(True))
    return calls


def test_the_hosts_memory_is_kept_for_tensors_on_the_cpu_only(
    monkeypatch: pytest.MonkeyPatch, given_back: list[bool]
) -> None:
    launched_as(monkeypatch, None)
    pick_device()
    assert given_back == [True]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    pick_device()
    assert given_back == [True]


@pytest.mark.parametrize(("local_rank", "index"), [(None, 0), (0, 0), (3, 3)])
def test_each_process_takes_its_own_gpu(monkeypatch: pytest.MonkeyPatch, local_rank: int | None, index: int) -> None:
    launched_as(monkeypatch, local_rank)
    assert pick_device() == torch.device("cuda", index)


def test_a_process_too_many_has_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    launched_as(monkeypatch, 4)
    with pytest.raises(InputError, match="no GPU is left for process 4 of this host: it has 4"):
        pick_device()


def test_the_launcher_may_ask_for_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    launched_as(monkeypatch, 1)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "True")
    assert pick_device() == CPU


@pytest.mark.parametrize("device", [CPU, CUDA])
@pytest.mark.parametrize("name", ["bfloat16", "float16", "float32"])
def test_a_named_type_is_taken_as_it_is(name: str, device: torch.device) -> None:
    assert pick_compute_dtype(name, device) == getattr(torch, name)


@pytest.mark.parametrize(
    ("capability", "expected"),
    [((7, 5), torch.float16), ((8, 0), torch.bfloat16), ((8, 9), torch.bfloat16), ((9, 0), torch.bfloat16)],
)
def test_auto_on_a_gpu(monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], expected: torch.dtype) -> None:
    asked: list[torch.device] = []

    def get_device_capability(device: torch.device) -> tuple[int, int]:
        asked.append(device)
        return capability

    monkeypatch.setattr(torch.cuda, "get_device_capability", get_device_capability)
    assert pick_compute_dtype("auto", CUDA) == expected
    assert asked == [CUDA]


@pytest.mark.parametrize(
    ("has_amx", "has_avx512_bf16", "float32_ms", "bfloat16_ms", "expected"),
    [
        (True, True, 1.0, 1.0, torch.bfloat16),
        (False, True, 1.6, 0.6, torch.bfloat16),
        (False, True, 1.0, 2.0, torch.float32),
        (False, True, 1.2, 1.0, torch.float32),
        (False, False, 1.6, 0.6, torch.float32),  # emulated: not even measured
    ],
)
def test_auto_on_the_cpu_is_bfloat16_with_amx_or_where_its_products_are_faster(
    monkeypatch: pytest.MonkeyPatch,
    has_amx: bool,
    has_avx512_bf16: bool,
    float32_ms: float,
    bfloat16_ms: float,
    expected: torch.dtype,
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: has_amx)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: has_avx512_bf16)
    times = {torch.float32: itertools.cycle([9.0, float32_ms]), torch.bfloat16: itertools.cycle([9.0, bfloat16_ms])}
    monkeypatch.setattr(devices, "_product_seconds", lambda dtype: next(times[dtype]))
    devices.has_fast_bfloat16.cache_clear()
    assert pick_compute_dtype("auto", CPU) == expected
    devices.has_fast_bfloat16.cache_clear()


@pytest.mark.parametrize(("platform", "expected"), [("linux", 5 * 1024), ("darwin", 5)])
def test_peak_memory_is_in_bytes_everywhere(monkeypatch: pytest.MonkeyPatch, platform: str, expected: int) -> None:
    """getrusage counts KiB on Linux and bytes on macOS."""
    monkeypatch.setattr("resource.getrusage", lambda who: SimpleNamespace(ru_maxrss=5))
    monkeypatch.setattr("sys.platform", platform)
    assert peak_memory_bytes(CPU) == expected


def test_peak_memory_of_this_process_is_plausible() -> None:
    # An interpreter with PyTorch takes more than 64 MiB; a unit mistaken by 1024 would leave these bounds.
    assert 2**26 < peak_memory_bytes(CPU) < 2**38


def test_peak_memory_of_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: {CUDA: 7}[device])
    assert peak_memory_bytes(CUDA) == 7


def test_names_for_people(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: {CUDA: "NVIDIA T4"}[device])
    assert describe_device(CPU) == "CPU, 2 threads"
    assert describe_device(CUDA) == "NVIDIA T4"
