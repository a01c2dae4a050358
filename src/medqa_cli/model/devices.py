"""The machine's GPUs and memory, and which device and number type the work runs on."""

import functools
import gc
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

from medqa_cli import allocators, console, distributed
from medqa_cli.errors import InputError

GB = 10**9
_CGROUP_DIR = Path("/sys/fs/cgroup")
_NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")
_AMD_DRIVER = Path("/dev/kfd")
# The oldest driver branch that runs a build for CUDA 13 and for CUDA 12 (NVIDIA's table of minor version
# compatibility, CUDA release notes), and the PyTorch build for it.
_BUILD_FOR_DRIVER = ((580, "cu130"), (525, "cu126"))
# PyTorch's builds for CUDA 13 have nothing for cards older than Turing; those for 12.6 have (torch/cuda/__init__.py).
_BUILD_FOR_OLD_CARDS = "cu126"
# Between the two CPUs measured, 0.5 and 2.3. Other work of a step gains nothing from bfloat16.
_LEAST_BFLOAT16_SPEEDUP = 1.3
_PRODUCT_TRIALS = 32
_ELSEWHERE = (
    "medqa computes on NVIDIA's and AMD's GPUs or on the CPU; a small model trains on this CPU as it is, a large one "
    "wants a machine with such a GPU"
)
DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}


@dataclass(frozen=True)
class Machine:
    """A machine.

    Attributes:
        gpu_name: None: PyTorch sees no GPU that it can use.
        num_gpus: how many it sees.
        gpu_memory_bytes: of the smallest of them.
        ram_bytes: memory of the host, or what its container may take of it.
        num_cpus: cores of the host.
        unused_gpu: why a GPU that is here is not used, and what to do; None: there is none, or it is used.
    """

    gpu_name: str | None
    num_gpus: int
    gpu_memory_bytes: int
    ram_bytes: int
    num_cpus: int
    unused_gpu: str | None

    @property
    def gpu_memory_gb(self) -> float | None:
        """Memory of a GPU in GB of 10**9 bytes; None: there is no GPU."""
        return self.gpu_memory_bytes / GB if self.gpu_name is not None else None

    def __str__(self) -> str:
        if self.gpu_name is None:
            return f"CPU only, {self.num_cpus} cores, {self.ram_bytes / GB:.0f} GB of memory"
        several = f"{self.num_gpus} x " if self.num_gpus > 1 else ""
        return f"{several}{self.gpu_name}, {self.gpu_memory_bytes / GB:.1f} GB"


def machine_at_hand() -> Machine:
    """Look at this machine."""
    ram, cpus = host_memory_bytes(), os.cpu_count() or 1
    if not torch.cuda.is_available():
        return Machine(None, 0, 0, ram, cpus, unused_gpu())
    numbers = range(torch.cuda.device_count())
    seen = [torch.cuda.get_device_properties(number) for number in numbers if has_kernels(number)]
    if not seen:
        return Machine(None, 0, 0, ram, cpus, "; ".join(without_kernels(0)))
    smallest = min(seen, key=lambda properties: int(properties.total_memory))
    return Machine(smallest.name, len(seen), int(smallest.total_memory), ram, cpus, None)


def unused_gpu() -> str | None:
    """Return why this machine's GPU is not used although there is one, and what to do; None: there is none, or it is.

    PyTorch says nothing where its build has no CUDA, and warns only once where the driver is too old for its build.
    """
    if torch.cuda.is_available():
        return None
    if torch.version.hip is None and (_NVIDIA_DRIVER.exists() or shutil.which("nvidia-smi")):
        return _unused_nvidia_gpu()
    if _AMD_DRIVER.exists() and torch.version.hip is None:
        return (
            f"this PyTorch ({torch.__version__}) was built without ROCm, so that the AMD GPU of this machine is not "
            "used; to use it, install PyTorch's ROCm build"
        )
    # On both, bitsandbytes' and medqa's ways of computing were made for the CPU and CUDA only.
    if torch.backends.mps.is_available():
        return f"the GPU of this Mac (MPS) is not used: {_ELSEWHERE}"
    if torch.xpu.is_available():
        return f"the Intel GPU ({torch.xpu.get_device_name()}) is not used: {_ELSEWHERE}"
    return None


def _unused_nvidia_gpu() -> str:
    driver = nvidia_driver_version()
    known = f"NVIDIA driver {driver}" if driver else "NVIDIA driver of unknown version"
    build = next((name for oldest, name in _BUILD_FOR_DRIVER if driver and _branch(driver) >= oldest), None)
    update = f"update the driver to {_BUILD_FOR_DRIVER[0][0]} or newer"
    if torch.version.cuda is None:
        advice = _install(build or _BUILD_FOR_DRIVER[0][1])
        return (
            f"this PyTorch ({torch.__version__}) was built without CUDA, so that the GPU of this machine ({known}) is "
            f"not used; to use it: {advice}" + (f"; {update}" if driver and build is None else "")
        )
    reasons = [
        f"this PyTorch ({torch.__version__}, for CUDA {torch.version.cuda}) finds no GPU that it can use beside the "
        f"{known}"
    ]
    needed = next((oldest for oldest, name in _BUILD_FOR_DRIVER if torch.version.cuda.startswith(name[2:4])), None)
    if os.environ.get("CUDA_VISIBLE_DEVICES", "0") in ("", "-1", "NoDevFiles"):
        reasons.append("CUDA_VISIBLE_DEVICES hides all of them")
    elif driver and needed and _branch(driver) < needed:
        reasons.append(
            f"CUDA {torch.version.cuda} needs driver {needed} or newer: {update}"
            + (f", or take a PyTorch for this one: {_install(build)}" if build else "")
        )
    else:
        reasons.append("look at nvidia-smi; a container has to be started with its GPUs (docker run --gpus all)")
    return "; ".join(reasons)


def nvidia_driver_version() -> str | None:
    """Return the version of this machine's NVIDIA driver; None: there is none, or it does not say."""
    try:
        text = _NVIDIA_DRIVER.read_text(encoding="utf-8", errors="replace")
    except OSError:
        command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        try:
            done = subprocess.run(
                command, capture_output=True, encoding="utf-8", errors="replace", timeout=10, stdin=subprocess.DEVNULL
            )
        except (OSError, subprocess.SubprocessError):
            return None
        text = done.stdout if done.returncode == 0 else ""
    # "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 ..." or the version by itself.
    version = re.search(r"\b(\d{3,4}\.\d{2,3}(?:\.\d+)?)\b", text)
    return version[1] if version else None


def _branch(driver: str) -> int:
    return int(driver.partition(".")[0])


def _install(build: str) -> str:
    """Return how to replace this PyTorch by another build of the same version."""
    version = torch.__version__.partition("+")[0]
    return f"pip install torch=={version}+{build}, with the --index-url that pytorch.org gives for {build}"


def has_kernels(device: int) -> bool:
    """Tell whether this build of PyTorch has kernels for a GPU, or code that the driver compiles for it.

    NVIDIA's rules: a binary for sm_XY runs on GPUs X.Z with Z >= Y, one for sm_XYa on X.Y only; code for compute_XY is
    compiled for X.Y and all newer ones. AMD's binaries run on their own architecture only.
    """
    built_for = torch.cuda.get_arch_list()
    if not built_for:
        return True
    if torch.version.hip is not None:
        architecture = str(torch.cuda.get_device_properties(device).gcnArchName).partition(":")[0]
        return architecture in built_for or any("generic" in name for name in built_for)
    major, minor = torch.cuda.get_device_capability(device)
    return any(_runs_on(name, major, minor) for name in built_for)


def _runs_on(built_for: str, major: int, minor: int) -> bool:
    match = re.fullmatch(r"(sm|compute)_(\d+)(\d)([a-z]?)", built_for)
    if match is None:
        return True  # a name that this version of medqa does not know
    kind, of, suffix = match[1], (int(match[2]), int(match[3])), match[4]
    if suffix == "a":
        return of == (major, minor)
    if kind == "sm" or suffix:
        return of[0] == major and of[1] <= minor
    return of <= (major, minor)


def without_kernels(device: int) -> tuple[str, str]:
    """Return what to say of a GPU that this PyTorch has no kernels for, and what to do."""
    name, built_for = torch.cuda.get_device_name(device), " ".join(torch.cuda.get_arch_list())
    if torch.version.hip is not None:
        which, instead = "", "install a PyTorch (ROCm) that was built for it"
    else:
        major, minor = torch.cuda.get_device_capability(device)
        which = f" (compute capability {major}.{minor})"
        is_older = (major, minor) < (7, 5)
        instead = (
            f"install a PyTorch that has: {_install(_BUILD_FOR_OLD_CARDS)}"
            if is_older
            else "install a newer PyTorch, built for a newer CUDA"
        )
    return (
        f"this PyTorch ({torch.__version__}) has no kernels for the GPU {name}{which}; it was built for {built_for}",
        f"{instead}; or take another GPU with CUDA_VISIBLE_DEVICES=NUMBER; or compute on the CPU with "
        "CUDA_VISIBLE_DEVICES=-1",
    )


def free_memory_bytes(device: torch.device) -> int:
    """Return the memory that a process can still take: of the GPU, or of the host and the container it is in."""
    if device.type == "cuda":
        # What PyTorch holds and does not use counts as free: the driver does not know of it.
        idle = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + idle
    available = int(psutil.virtual_memory().available)
    limit = _container_limit_bytes()
    if limit is None:
        return available
    try:
        used = int((_CGROUP_DIR / "memory.current").read_text(encoding="ascii"))
        stat = (_CGROUP_DIR / "memory.stat").read_text(encoding="ascii").splitlines()
        # Pages of files can be given back.
        used -= next((int(line.split()[1]) for line in stat if line.startswith("inactive_file ")), 0)
    except (OSError, ValueError, IndexError):
        used = 0
    return max(0, min(available, limit - used))


def host_memory_bytes() -> int:
    """Return the memory of the host, or the limit of the container where that is lower."""
    total = int(psutil.virtual_memory().total)
    return min(total, _container_limit_bytes() or total)


def _container_limit_bytes() -> int | None:
    """Return the limit of this container (cgroup v2, as Docker and Kubernetes set it); None: it has none."""
    try:
        limit = (_CGROUP_DIR / "memory.max").read_text(encoding="ascii").strip()
        return None if limit == "max" else int(limit)
    except (OSError, ValueError):
        return None


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
    allocators.give_back_freed_memory()  # kept for tensors on the CPU only; here the host only stages weights
    return torch.device("cuda", distributed.local_rank())


def pick_compute_dtype(name: str, device: torch.device) -> torch.dtype:
    """Turn ``model.compute_dtype`` into a dtype; ``auto`` takes what the device computes fast.

    A T4 (compute capability 7.5) only emulates bfloat16, so ``auto`` gives it float16. A CPU gets bfloat16 with AMX,
    and where its products turn out to be faster than those in float32 (``has_fast_bfloat16``).
    """
    if name != "auto":
        return DTYPES[name]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.get_device_capability(device) >= (8, 0) else torch.float16
    return torch.bfloat16 if torch.cpu._is_amx_tile_supported() or has_fast_bfloat16() else torch.float32


@functools.cache
def has_fast_bfloat16() -> bool:
    """Tell whether this CPU multiplies matrices in bfloat16 clearly faster than in float32. Takes 0.1 s.

    The instructions do not tell: of two CPUs with AVX512-BF16 one is half as fast in bfloat16, the other 2.3 times as
    fast (docs/experiments.md, 2026-11-22 and 2026-12-01). Without them bfloat16 is emulated and nothing is measured.
    """
    if not torch.cpu._is_avx512_bf16_supported():
        return False
    seconds: dict[torch.dtype, list[float]] = {torch.float32: [], torch.bfloat16: []}
    for _ in range(_PRODUCT_TRIALS):  # in turn: what else runs slows down both
        for dtype, times in seconds.items():
            times.append(_product_seconds(dtype))
    return min(seconds[torch.float32]) > _LEAST_BFLOAT16_SPEEDUP * min(seconds[torch.bfloat16])


def _product_seconds(dtype: torch.dtype, size: int = 512) -> float:
    """Return the time of a product of two square matrices."""
    left, right = torch.ones(size, size, dtype=dtype), torch.ones(size, size, dtype=dtype)
    start = time.perf_counter()
    torch.nn.functional.linear(left, right)
    return time.perf_counter() - start


def dtype_name(dtype: torch.dtype) -> str:
    """Return the name of a type as the config has it."""
    return str(dtype).removeprefix("torch.")


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


def free_unused_memory(device: torch.device) -> None:
    """Free models that nothing names any more: forward methods that were put into a model refer to it in a circle."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def describe_device(device: torch.device) -> str:
    """Return the device's name for people."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"CPU, {threads} thread{'' if threads == 1 else 's'}"
