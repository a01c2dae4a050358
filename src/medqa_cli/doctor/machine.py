"""What this machine is and has, and with ``--full`` how fast it is.

Versions, device, driver, memory, disk, cores, optional packages; the speed of products and of a training, its memory
beside the prediction, and two ranks.
"""

import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from medqa_cli.doctor.finding import Finding, Measured, NotChecked
from medqa_cli.doctor.steps import bound_of
from medqa_cli.doctor.subject import Subject, write_data
from medqa_cli.environment import package_versions
from medqa_cli.errors import MedqaError
from medqa_cli.files import read_json
from medqa_cli.model import devices
from medqa_cli.model.devices import dtype_name
from medqa_cli.training.callbacks import read_log

_SIDE = {"cuda": 8192, "cpu": 1024}  # of the matrices of a product
_SECONDS = 0.5
_STEPS = 8
_ROWS, _WORDS = 64, 60
_RUN_SECONDS = 600
# Of a training that was measured, over its prediction: --plan promises that it does not run out of memory.
_MOST_OF_PLAN = 1.1
# Of the config, as a training takes them.
_SECTIONS = ("run_dir", "seed", "data", "prompt", "model", "lora", "train", "generate")
_RANK_VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
# Packages that are used where they are there: module, name on the package index, what for.
_OPTIONAL = (
    ("bitsandbytes", "bitsandbytes", "4- and 8-bit weights, paged and 8-bit optimizers"),
    ("flash_attn", "flash-attn", "flash attention where PyTorch's own is too old"),
    ("liger_kernel", "liger-kernel", "rotary embedding and RMSNorm in one kernel on CUDA"),
    ("xllamacpp", "xllamacpp", "answers by llama.cpp"),
    ("trl", "trl", "train --method dpo"),
    ("starlette", "starlette", "medqa serve"),
    ("pypdf", "pypdf", "documents in PDF"),
)


def products(device: torch.device, dtype: torch.dtype) -> list[Finding]:
    """Return how fast matrix products are, in the type of the training and in float32."""
    side, findings = _SIDE[device.type], []
    for kind in dict.fromkeys((dtype, torch.float32)):
        a, b = (torch.randn((side, side), device=device, dtype=kind) for _ in range(2))
        a @ b  # kernels are chosen, or compiled, at the first one
        _wait_for(device)
        count, started = 0, time.perf_counter()
        while time.perf_counter() - started < _SECONDS:
            a @ b
            _wait_for(device)
            count += 1
        speed = 2 * side**3 * count / (time.perf_counter() - started) / 1e12
        text = f"{speed:.3g} TFLOP/s in {dtype_name(kind)}, matrices of {side} x {side}"
        findings.append(Finding("products", "", "ok", False, text, speed))
    return findings


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class Run:
    """A longer training in a process of its own, so that its memory is its own."""

    def __init__(self, subject: Subject) -> None:
        folder = subject.run.path.parent / "speed"
        write_data(folder / "data", rows=_ROWS, words=_WORDS)
        train = replace(
            subject.config.train,
            max_steps=_STEPS,
            save_steps=_STEPS,
            per_device_train_batch_size=8,
            gradient_accumulation_steps=1,
        )
        self._subject, self._folder = subject, folder
        self._config = replace(subject.config, train=train, data=replace(subject.config.data, dir=str(folder / "data")))
        self._summaries: dict[int, dict[str, Any]] = {}

    def summary(self, ranks: int = 1) -> dict[str, Any]:
        """Train once; return ``train.json`` and the losses of the steps.

        Raises:
            MedqaError: it fails.
        """
        if ranks in self._summaries:
            return self._summaries[ranks]
        run_dir = self._folder / f"run-{ranks}"
        share = self._config.train.per_device_train_batch_size // ranks
        train = replace(self._config.train, per_device_train_batch_size=share)
        config = asdict(replace(self._config, run_dir=str(run_dir), train=train))
        path = self._folder / f"config-{ranks}.yaml"
        # JSON is YAML.
        path.write_text(json.dumps({name: config[name] for name in _SECTIONS}, default=list), encoding="utf-8")
        launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"] if ranks > 1 else []
        command = [sys.executable, *launcher, "-m", "medqa_cli", "train", "-c", str(path), "--json"]
        environment = {name: value for name, value in os.environ.items() if name not in _RANK_VARIABLES}
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            env=environment,
            stdin=subprocess.DEVNULL,
            timeout=_RUN_SECONDS,
            check=False,
        )
        if done.returncode:
            said = [line for line in done.stderr.splitlines() if line.startswith("error:")]
            last = said or done.stderr.strip().splitlines()[-1:] or ["it said nothing"]
            raise MedqaError(f"medqa train on {ranks} process(es) ends with code {done.returncode}: {last[0]}")
        summary: dict[str, Any] = read_json(run_dir / "train.json")
        losses = [line["loss"] for line in read_log(run_dir / "train.jsonl") if "loss" in line]
        self._summaries[ranks] = {**summary, "losses": losses}
        return self._summaries[ranks]

    def speed(self) -> Finding:
        """Return how fast the training is."""
        speed = float(self.summary()["tokens_per_second"])
        text = f"{speed:,.0f} tokens per second, which says more of a large model with `medqa train --plan --probe`"
        return Finding("training", self._subject.name, "ok", False, text, speed)

    def memory(self) -> Measured:
        """Compare the measured peak with the predicted one.

        Raises:
            NotChecked: nothing was predicted.
        """
        summary = self.summary()
        predicted, measured = summary["predicted_peak_memory_bytes"], summary["peak_memory_bytes"]
        if not predicted:
            raise NotChecked("the memory of this architecture cannot be predicted")
        sizes = f"{measured / 2**20:,.0f} MiB measured, {predicted / 2**20:,.0f} MiB predicted"
        return Measured(measured / predicted, _MOST_OF_PLAN, f"of the predicted peak: {sizes}")

    def two_ranks(self) -> Measured:
        """Compare the losses of two processes with those of one.

        Raises:
            NotChecked: there are no two GPUs.
        """
        if self._subject.device.type != "cuda" or torch.cuda.device_count() < 2:
            raise NotChecked("there are no two GPUs")
        one, two = self.summary(1)["losses"], self.summary(2)["losses"]
        apart = max(abs(a / b - 1) for a, b in zip(two, one, strict=True))
        return Measured(apart, bound_of(self._subject), f"apart in the losses of {len(one)} steps")


def describe(device: torch.device, dtype: torch.dtype, folder: Path) -> dict[str, Any]:
    """Return the facts.

    Args:
        device: the one that is computed on.
        dtype: type of the matrix products there.
        folder: on the disk that the run is written to; need not exist yet.
    """
    versions = package_versions()
    gpus = []
    for number in range(torch.cuda.device_count() if device.type == "cuda" else 0):
        properties = torch.cuda.get_device_properties(number)
        capability = ".".join(map(str, torch.cuda.get_device_capability(number)))
        gpus.append({"name": properties.name, "memory_bytes": int(properties.total_memory), "capability": capability})
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    return {
        "medqa": versions.pop("medqa-cli", None),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": versions,
        "device": devices.describe_device(device),
        "compute_dtype": devices.dtype_name(dtype),
        "gpus": gpus,
        "driver": devices.nvidia_driver_version(),
        "cuda": torch.version.cuda,
        "rocm": torch.version.hip,
        "unused_gpu": devices.unused_gpu() if device.type == "cpu" else None,
        "memory_bytes": devices.host_memory_bytes(),
        "free_memory_bytes": devices.free_memory_bytes(device),
        "free_disk_bytes": shutil.disk_usage(there).free,
        "cores": os.cpu_count() or 1,
        "cpu_kernels": torch.backends.cpu.get_cpu_capability(),
        "optional": {name: importlib.util.find_spec(module) is not None for module, name, _ in _OPTIONAL},
    }


def lines(facts: dict[str, Any]) -> list[str]:
    """Return the facts as lines for people, the ones that a report of a fault needs first."""
    packages = ", ".join(f"{name} {version}" for name, version in facts["packages"].items())
    gpus = [
        f"{gpu['name']}, {gpu['memory_bytes'] / 1e9:.1f} GB, capability {gpu['capability']}" for gpu in facts["gpus"]
    ]
    runtime = [f"CUDA {facts['cuda']}" if facts["cuda"] else "", f"ROCm {facts['rocm']}" if facts["rocm"] else ""]
    builds = [text for text in runtime if text] or ["neither CUDA nor ROCm"]
    driver = f"NVIDIA driver {facts['driver']}" if facts["driver"] else "no NVIDIA driver"
    optional = facts["optional"]
    missing = [f"{name} ({purpose})" for _, name, purpose in _OPTIONAL if not optional[name]]
    told = [
        f"medqa {facts['medqa']}, Python {facts['python']}, {facts['platform']}",
        packages,
        f"device: {'; '.join(gpus) or facts['device']}; products in {facts['compute_dtype']}",
        f"PyTorch built for {', '.join(builds)}; {driver}",
        f"memory: {facts['free_memory_bytes'] / 1e9:.1f} GB free on the device, {facts['memory_bytes'] / 1e9:.1f} GB "
        f"in the host; disk: {facts['free_disk_bytes'] / 1e9:.1f} GB free; {facts['cores']} cores, "
        f"{facts['cpu_kernels']}",
        f"installed: {', '.join(name for name in optional if optional[name]) or 'nothing optional'}",
    ]
    if missing:
        told.append(f"not installed, and not needed otherwise: {', '.join(missing)}")
    if facts["unused_gpu"]:
        told.append(f"a GPU is here and not used: {facts['unused_gpu']}")
    return told
