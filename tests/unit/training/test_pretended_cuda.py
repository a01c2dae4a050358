"""The GPU's code as a GPU would run it, on fake CUDA tensors: types, devices, kernels' demands, waits, launches, bytes.

No number is computed here and no speed is seen. docs/gpu.md says what that shows and what not.
"""

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

GUARD = TESTS / "helpers/pretend_cuda/guard.cpp"

pytestmark = [
    pytest.mark.skipif(shutil.which("g++") is None, reason="there is no g++ to make CUDA's stand-in with"),
    pytest.mark.skipif(torch.version.cuda is not None, reason="this PyTorch has CUDA itself"),
    pytest.mark.skipif(sys.platform != "linux", reason="the stand-in is made for Linux"),
]

SHAPE = {"hidden_size": 1024, "intermediate_size": 2816, "num_attention_heads": 16, "num_key_value_heads": 4}
TOKENS, HEAD_DIM, WINDOW = 2 * 300, 64, 128
USUAL: dict[str, Any] = {
    "card": "H100",
    "dtype": "bfloat16",
    "shape": SHAPE,
    "model": {},
    "lora": {"target_modules": "all-linear"},
    "examples": [[100, 200]] * 2,
    "recomputed": False,
    "plan": True,
    "most_launches": None,  # that one more layer of Llama adds to a step, views left out: today's figures
}
ON_T4 = {"card": "T4", "dtype": "float16"}
ALL_LINEAR = {"target_modules": "all-linear"}
QUERY_AND_VALUE = {"target_modules": ["q_proj", "v_proj"], "lora_dropout": 0.1}
TWICE, INT8, NONE = ({"double_quantization": True}, {"quantization": "int8"}, {"quantization": "none"})

STEPS: dict[str, dict[str, Any]] = {
    "nf4": {},
    "nf4 twice quantized, recomputed": {"model": TWICE, "recomputed": True, "most_launches": 217},
    "nf4, q and v, dropout, recomputed": {"lora": QUERY_AND_VALUE, "recomputed": True, "most_launches": 126},
    "nf4, dropout on all layers": {"lora": {**ALL_LINEAR, "lora_dropout": 0.1}},
    "nf4, float32": {"dtype": "float32"},
    "nf4, DoRA": {"lora": {**ALL_LINEAR, "use_dora": True}},
    "unquantized": {"model": NONE},
    "unquantized, float32, dropout, recomputed": {
        "model": NONE, "dtype": "float32", "lora": QUERY_AND_VALUE, "recomputed": True,
    },
    "int8": {"model": INT8},
    "int8, recomputed, outliers": {"model": INT8, "recomputed": True, "outliers": 5},
    "float16, unquantized, DoRA, recomputed": {
        "dtype": "float16", "model": NONE, "lora": {**ALL_LINEAR, "use_dora": True}, "recomputed": True,
    },
    "T4, nf4": ON_T4,
    "T4, int8, q and v, dropout": {**ON_T4, "model": INT8, "lora": QUERY_AND_VALUE},
    "Mistral with a window": {"architecture": "Mistral", "shape": {**SHAPE, "sliding_window": WINDOW}},
    "Qwen2 with biases": {"architecture": "Qwen2", "recomputed": True},
}  # fmt: skip
SMALL = {"examples": [[20, 30]] * 24, "tokens": 200}  # two forward passes of 4 examples in a step
TRAININGS = {
    "AdamW in one kernel": {**SMALL, "optim": "adamw_torch_fused"},
    "float16 with its scaler": {**SMALL, "optim": "adamw_torch_fused", **ON_T4},
}
ROWS = {"prompts": [5, 9, 3], "answers": [6, 3, 6], "goes_back": 1, "adapter": True, "penalized_rows": 0}
PENALTIES = {"temperature": 0.7, "top_p": 0.9, "repetition_penalty": 1.2, "no_repeat_ngram_size": 3}
GENERATIONS = {
    "greedy": {**ROWS, "generate": {}},
    "sampled with penalties on a T4": {**ROWS, **ON_T4, "generate": PENALTIES, "penalized_rows": 16},
    "without an adapter": {**ROWS, "model": NONE, "adapter": False, "generate": {}},
}
SCORINGS = {
    "scoring": {"examples": [[20, 30], [9, 5], [10, 10], [3, 4], [2, 6]], "batch_size": 4},
    "scoring on a T4": {"examples": [[20, 30], [9, 5], [10, 10], [3, 4], [2, 6]], "batch_size": 4, **ON_T4},
}
# Each is found by what is asserted of the healthy case: the fault, the case, and the words of what is then said.
FAULTS = {
    "starts of examples in 64 bits": ("nf4", "the flash kernel would refuse"),
    "a window that is a token short": ("Mistral with a window", "flash was asked for"),
    "attention to later tokens": ("nf4", "flash was asked for"),
    "the adapter is not cast": ("nf4", "of different types"),
    "the adapter is cast at each use": ("nf4 twice quantized, recomputed", "launches a layer"),
    "dequantized weights in float32": ("nf4", "of different types"),
    "4-bit constants in 16 bits": ("nf4", "would refuse or misread"),
    "a dequantized weight is kept": ("nf4, q and v, dropout, recomputed", "kept for a layer"),
    "positions on the CPU": ("nf4", "cpu"),
    "the batch is copied tensor by tensor": ("nf4", "waits"),
    "the forward pass looks at its losses": ("nf4", "waits"),
    "the plan sees flash on a T4": ("T4, nf4", "the plan"),
    "float16 without its scaler": ("float16 with its scaler", "the scaler"),
    "a step walks over all modules": ("AdamW in one kernel", "modules visited"),
    "the mask of padding on the CPU": ("greedy", "waits"),
    "scores are read one by one": ("scoring", "waits"),
}


def all_cases() -> dict[str, dict[str, Any]]:
    """Return the healthy cases and those with a fault, by name."""
    kinds = {"step": STEPS, "train": TRAININGS, "generate": GENERATIONS, "score": SCORINGS}
    cases = {name: {**USUAL, "kind": kind, **case} for kind, group in kinds.items() for name, case in group.items()}
    for fault, (name, said) in FAULTS.items():
        # The plan and the layers are run where they find the fault.
        less = {"plan": "plan" in said} if "a layer" in said else {"plan": "plan" in said, "most_launches": None}
        cases[f"fault: {fault}"] = {**cases[name], **less, "fault": fault}
    return {name: {**case, "name": name} for name, case in cases.items()}


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What all cases showed; one process, since importing takes longer than a case."""
    folder = tmp_path_factory.mktemp("pretend")
    torch_dir = Path(torch.__file__).parent
    library = folder / "guard.so"
    includes = [f"-I{torch_dir / 'include'}", f"-I{torch_dir / 'include/torch/csrc/api/include'}"]
    links = [f"-L{torch_dir / 'lib'}", "-lc10", "-ltorch_cpu", f"-Wl,-rpath,{torch_dir / 'lib'}"]
    flags = ["-std=c++20", "-O0", "-fPIC", "-shared"]
    subprocess.run(["g++", *flags, str(GUARD), "-o", str(library), *includes, *links], check=True)
    cases = [{**case, "folder": str(folder)} for case in all_cases().values()]
    (folder / "cases.json").write_text(json.dumps(cases), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "helpers.pretend_cuda", str(library), str(folder / "cases.json")],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path[1:]])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def problems(case: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """Say what a case showed that it should not; each sentence begins with what was looked at."""
    if "error" in found:
        return [found["error"]]
    return CHECKS[case["kind"]](case, found)


def of_step(case: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """A forward and its backward never wait for the GPU, ask flash for the right thing, and take what the plan says."""
    wrong = []
    has_flash = case["card"] == "H100" and case["dtype"] != "float32"
    # The batch goes to the GPU, for the flash kernel the starts of its examples too; no copy blocks.
    if found["waits"] != {"copy to the GPU": 1 + has_flash}:
        wrong.append(f"waits: {found['waits']}")
    window = case["shape"].get("sliding_window")
    # The longest example, causal, scale, window, grouped.
    asked = [300, str(window is None), str(HEAD_DIM**-0.5), f"[{-1 if window is None else window - 1}, 0]", "True"]
    if found["flash"] != [asked] * has_flash:
        wrong.append(f"flash was asked for {found['flash']}")
    if case["plan"]:
        for what in ("activations", "peak"):
            if abs(found[f"planned_{what}"] / found[what] - 1) > 0.01:
                wrong.append(f"the plan says {found[f'planned_{what}']} bytes ({what}), the step took {found[what]}")
    if case["most_launches"]:
        launches = found["launches_of_a_layer"]
        if sum(launches.values()) > case["most_launches"]:
            wrong.append(f"launches a layer: {sum(launches.values())}, {launches}")
        # Activations are recomputed in these cases: what goes into the layer is kept, and the adapter's casts.
        kept = TOKENS * case["shape"]["hidden_size"] * 2 + found["casts_of_a_layer"]
        if found["activations_of_a_layer"] > kept:
            wrong.append(f"kept for a layer: {found['activations_of_a_layer']} bytes instead of {kept}")
    return wrong


def of_training(case: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """A step waits for its loss and its norm, with a scaler for what that found, and visits no modules one by one."""
    wrong = []
    if (found["steps"], found["evaluations"]) != (3, 1):
        wrong.append(f"{found['steps']} steps, {found['evaluations']} evaluations")
    has_scaler, forwards = case["dtype"] == "float16", 2
    if found["waits"] != {"copy to the GPU": forwards, "item of the GPU": 3 if has_scaler else 2}:
        wrong.append(f"waits: {found['waits']}")
    if has_scaler != any("_amp_" in name for name in found["launches"]):
        wrong.append("the scaler of float16 is there where it should not be, or is missing")
    if found["walked"]:
        wrong.append(f"modules visited in a step: {found['walked']} of {found['modules']}")
    return wrong


def of_generation(case: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """A batch waits for each row of tokens, and whether it is made of numbers; the ids of its prompts go to the GPU."""
    wrong = [] if found["tokens"] == case["answers"] else [f"answers of {found['tokens']} tokens"]
    choices, first_tokens, retries, batches, shrunk = 8, 3, 2, 2, 1
    waits = {
        "list of the GPU": choices,
        "item of the GPU": choices + first_tokens + retries,
        "blocking copy to the GPU": 2 * batches + shrunk + case["penalized_rows"],
    }
    return wrong if found["waits"] == waits else [*wrong, f"waits: {found['waits']} instead of {waits}"]


def of_scoring(case: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """A forward pass waits for its losses, however many answers it holds."""
    forwards, has_flash = 2, case["card"] == "H100"
    waits = {"copy to the GPU": forwards * (1 + has_flash), "blocking copy to the CPU": 2 * forwards}
    seen_of_the_gpu = {what: count for what, count in found["waits"].items() if what in waits or "GPU" in what}
    return [] if seen_of_the_gpu == waits else [f"waits: {seen_of_the_gpu} instead of {waits}"]


CHECKS = {"step": of_step, "train": of_training, "generate": of_generation, "score": of_scoring}


@pytest.mark.parametrize("name", [*STEPS, *TRAININGS, *GENERATIONS, *SCORINGS])
def test_what_runs_on_a_gpu_fits_it(seen: dict[str, Any], name: str) -> None:
    """No mismatch of types or devices, nothing that a kernel refuses, no wait and no byte more than is known."""
    assert problems(all_cases()[name], seen[name]) == []


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_the_gpus_code_is_found(seen: dict[str, Any], fault: str) -> None:
    said = FAULTS[fault][1]
    found = problems(all_cases()[f"fault: {fault}"], seen[f"fault: {fault}"])
    assert any(said in problem for problem in found), found
