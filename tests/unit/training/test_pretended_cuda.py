"""The training step as a GPU would run it, on fake CUDA tensors: types, devices, kernels' demands, waits, bytes.

No number is computed here and no speed is seen. What the real kernels demand beyond ``check_contract``, bitsandbytes'
CUDA library, loading and several GPUs are not either.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers.paths import TESTS

HERE = TESTS / "helpers/pretend_cuda"

pytestmark = [
    pytest.mark.skipif(shutil.which("g++") is None, reason="there is no g++ to make CUDA's stand-in with"),
    pytest.mark.skipif(torch.version.cuda is not None, reason="this PyTorch has CUDA itself"),
    pytest.mark.skipif(sys.platform != "linux", reason="the stand-in is made for Linux"),
]

SHAPE = {"hidden_size": 1024, "intermediate_size": 2816, "num_attention_heads": 16, "num_key_value_heads": 4}
USUAL: dict[str, Any] = {
    "card": "H100",
    "dtype": "bfloat16",
    "shape": SHAPE,
    "model": {},
    "lora": {"target_modules": "all-linear"},
    "examples": [[100, 200]] * 4,
    "recomputed": False,
    "count_launches": False,
}
ON_T4 = {"card": "T4", "dtype": "float16"}
QUERY_AND_VALUE = {"target_modules": ["q_proj", "v_proj"], "lora_dropout": 0.1}
CASES: dict[str, dict[str, Any]] = {
    "nf4": {},
    "nf4 twice quantized, recomputed": {
        "model": {"double_quantization": True}, "recomputed": True, "count_launches": True,
    },
    "nf4, q and v, dropout, recomputed": {"lora": QUERY_AND_VALUE, "recomputed": True, "count_launches": True},
    "nf4, float32": {"dtype": "float32"},
    "nf4, DoRA": {"lora": {**USUAL["lora"], "use_dora": True}},
    "unquantized": {"model": {"quantization": "none"}},
    "int8": {"model": {"quantization": "int8"}},
    "int8, recomputed": {"model": {"quantization": "int8"}, "recomputed": True},
    "T4, nf4": ON_T4,
    "T4, nf4, recomputed": {**ON_T4, "recomputed": True},
    "Mistral with a window": {"architecture": "Mistral", "shape": {**SHAPE, "sliding_window": 128}},
    "Qwen2 with biases": {"architecture": "Qwen2", "recomputed": True},
}  # fmt: skip
TRAININGS = {
    "AdamW in one kernel": {"optim": "adamw_torch_fused"},
    "float16 with its scaler": {"optim": "adamw_torch_fused", **ON_T4},
}
# Launches that one more layer of Llama adds to a step, views left out: today's figures.
MOST_LAUNCHES = {"nf4 twice quantized, recomputed": 270, "nf4, q and v, dropout, recomputed": 150}


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What all cases showed; one process, since importing takes longer than a case."""
    folder = tmp_path_factory.mktemp("pretend")
    torch_dir = Path(torch.__file__).parent
    library = folder / "guard.so"
    includes = [f"-I{torch_dir / 'include'}", f"-I{torch_dir / 'include/torch/csrc/api/include'}"]
    links = [f"-L{torch_dir / 'lib'}", "-lc10", "-ltorch_cpu", f"-Wl,-rpath,{torch_dir / 'lib'}"]
    flags = ["-std=c++20", "-O0", "-fPIC", "-shared"]
    subprocess.run(["g++", *flags, str(HERE / "guard.cpp"), "-o", str(library), *includes, *links], check=True)
    cases = [{**USUAL, "name": name, **case} for name, case in CASES.items()]
    small = {**USUAL, "examples": [[20, 30]] * 40, "tokens": 200, "folder": str(folder)}
    cases += [{**small, "name": name, **case} for name, case in TRAININGS.items()]
    done = subprocess.run(
        [sys.executable, str(HERE / "pretend.py"), str(library), json.dumps(cases)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("name", CASES)
def test_the_plan_counts_the_bytes_of_the_step(seen: dict[str, Any], name: str) -> None:
    """Each case also ran without a mismatch of types or devices, and within what the kernels demand."""
    found = seen[name]
    # Masks of dropout are one byte a number on CUDA, and as wide as the numbers on the CPU, on which the plan runs; the
    # backward pass of float32 attention takes other working space.
    tolerance = 0.06 if "dropout" in name or "float32" in name else 0.01
    assert found["planned_activations"] == pytest.approx(found["activations"], rel=tolerance)
    assert found["planned_peak"] == pytest.approx(found["peak"], rel=tolerance)


@pytest.mark.parametrize("name", CASES)
def test_a_forward_and_its_backward_never_wait_for_the_gpu(seen: dict[str, Any], name: str) -> None:
    waits = seen[name]["waits"]
    # The batch goes to the GPU; nothing comes back.
    assert waits.keys() <= {"copy cpu to cuda"}
    assert waits.get("copy cpu to cuda", 0) <= 6


@pytest.mark.parametrize("name", MOST_LAUNCHES)
def test_a_layer_launches_no_more_kernels_than_it_did(seen: dict[str, Any], name: str) -> None:
    assert sum(seen[name]["launches_of_a_layer"].values()) <= MOST_LAUNCHES[name]


@pytest.mark.parametrize(("name", "items"), [("AdamW in one kernel", 2), ("float16 with its scaler", 3)])
def test_a_step_of_the_trainer_waits_for_its_loss_and_its_norm(seen: dict[str, Any], name: str, items: int) -> None:
    assert seen[name]["steps"] == 4
    assert seen[name]["waits"]["item of the GPU"] == items
