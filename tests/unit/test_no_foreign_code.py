"""Models, adapters and data cannot run a program: no code of a repository, no pickle, no module that a file names."""

import ast
import builtins
import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

import medqa_cli
from medqa_cli.config.schema import ModelConfig
from medqa_cli.errors import InputError

SOURCE = Path(medqa_cli.__file__).parent
CPU = torch.device("cpu")
EVIL = "from pathlib import Path\nPath({marker!r}).touch()\nclass Evil: pass\n"


@cache
def calls() -> list[tuple[str, str, ast.Call]]:
    """Every call in the package: where, what is called, with what."""
    return [
        (f"{path.relative_to(SOURCE)}:{node.lineno}", ast.unparse(node.func), node)
        for path in sorted(SOURCE.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
    ]


def constant(node: ast.Call, name: str) -> Any:
    found = [own.value for own in node.keywords if own.arg == name]
    return found[0].value if found and isinstance(found[0], ast.Constant) else None


def test_what_builds_a_model_says_that_no_code_is_trusted() -> None:
    # Left out, it is a question at the terminal: a "y" would run the code.
    own = [
        (place, constant(node, "trust_remote_code"))
        for place, name, node in calls()
        if name in (f"Auto{kind}.{how}" for kind in ("Config", "Tokenizer", "ModelForCausalLM")
                    for how in ("from_pretrained", "from_config"))
    ]  # fmt: skip
    assert len(own) >= 8
    assert [place for place, trusted in own if trusted is not False] == []


def test_no_pickle_is_read_but_tensors() -> None:
    loads = [(place, constant(node, "weights_only")) for place, name, node in calls() if name == "torch.load"]
    assert len(loads) >= 3
    assert [place for place, only in loads if only is not True] == []
    forbidden = {"pickle.load", "pickle.loads", "pickle.Unpickler", "yaml.load", "yaml.unsafe_load", "yaml.full_load"}
    forbidden |= {"eval", "exec", "os.system", "os.popen", "joblib.load", "marshal.loads", "shelve.open"}
    # A child process and its parent send each other what they made themselves, convert reads back the rows that it has
    # just written, and the package reads its own YAML, safely.
    allowed = {
        ("confined.py", "pickle.load"),
        ("workers.py", "pickle.loads"),
        ("data/row_work.py", "marshal.loads"),
        ("resources/__init__.py", "yaml.load"),
    }
    found = {(place.partition(":")[0], name) for place, name, _ in calls() if name in forbidden}
    assert found - allowed == set()
    assert [place for place, _, node in calls() if constant(node, "allow_pickle") or constant(node, "shell")] == []
    assert [(place, name) for place, name, _ in calls() if name.endswith((".extractall", ".extract"))] == []


@pytest.fixture
def says_yes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A user who agrees to whatever is asked; what was asked."""
    asked: list[str] = []

    def answer(prompt: str = "") -> str:
        asked.append(prompt)
        return "y"

    monkeypatch.setattr(builtins, "input", answer)
    return asked


def loaders() -> dict[str, Callable[[Path], Any]]:
    from medqa_cli.gguf.architecture import read_known_model
    from medqa_cli.merging.architecture import build_architecture
    from medqa_cli.model.load import load_base, load_config, load_tokenizer
    from medqa_cli.model.resolve import find_base

    settings = ModelConfig(name_or_path="x", quantization="none")
    return {
        "config": lambda folder: load_config(str(folder)),
        "tokenizer": lambda folder: load_tokenizer(str(folder)),
        "model": lambda folder: load_base(find_base(str(folder), None), settings, CPU, torch.float32, packed=False),
        "merge": build_architecture,
        "gguf": lambda folder: read_known_model(str(folder)),
    }


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("what", ["config", "tokenizer", "model", "merge", "gguf"])
def test_code_beside_the_weights_is_not_run(
    what: str, known: bool, tiny_model_dir: Path, tmp_path: Path, says_yes: list[str]
) -> None:
    """A repository with its own classes: of an architecture that nobody knows, or under the name of a known one."""
    folder, marker = tmp_path / "model", tmp_path / "was-run"
    shutil.copytree(tiny_model_dir, folder)
    (folder / "evil.py").write_text(EVIL.format(marker=str(marker)), encoding="utf-8")
    own = {"AutoConfig": "evil.Evil", "AutoModelForCausalLM": "evil.Evil", "AutoTokenizer": ["evil.Evil", "evil.Evil"]}
    names = {} if known else {"model_type": "evil", "architectures": ["Evil"]}
    for name, more in (("config.json", names), ("tokenizer_config.json", {} if known else {"tokenizer_class": "Evil"})):
        path = folder / name
        path.write_text(json.dumps({**json.loads(path.read_text()), **more, "auto_map": own}), encoding="utf-8")
    if known:
        loaders()[what](folder)
    else:
        with pytest.raises(InputError) as raised:
            loaders()[what](folder)
        assert "custom code" in raised.value.message
    assert says_yes == []
    assert not marker.exists()


class Bomb:
    """What a pickle can hold: a call that is made when it is read."""

    def __init__(self, marker: Path) -> None:
        self._marker = marker

    def __reduce__(self) -> Any:
        return Path.touch, (self._marker,)


def test_a_pickle_in_place_of_weights_is_not_run(tiny_model_dir: Path, tmp_path: Path) -> None:
    from medqa_cli.model.load import load_adapter
    from medqa_cli.model.weights import pytorch_tensors

    folder, marker = tmp_path / "model", tmp_path / "was-run"
    shutil.copytree(tiny_model_dir, folder)
    (folder / "model.safetensors").unlink()
    weights = folder / "pytorch_model.bin"
    torch.save({"weight": Bomb(marker)}, weights)
    with pytest.raises(InputError, match="damaged"):
        loaders()["model"](folder)
    with pytest.raises(InputError, match="damaged"):
        pytorch_tensors(weights)
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj"]}
    (adapter / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    torch.save({"weight": Bomb(marker)}, adapter / "adapter_model.bin")
    with pytest.raises(InputError, match="damaged"):
        load_adapter(loaders()["model"](tiny_model_dir), adapter)
    assert not marker.exists()
    # The bomb does go off where pickles are read as such.
    pickle.loads(pickle.dumps(Bomb(marker)))
    assert marker.exists()


def test_an_adapter_names_no_module_to_import(
    tiny_model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from medqa_cli.model.load import load_adapter

    marker = tmp_path / "was-run"
    (tmp_path / "evil_module.py").write_text(EVIL.format(marker=str(marker)), encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj"]}
    config |= {"megatron_config": {"a": 1}, "megatron_core": "evil_module"}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(InputError, match="Megatron"):
        load_adapter(loaders()["model"](tiny_model_dir), tmp_path)
    assert not marker.exists()


@pytest.mark.parametrize("name", ["../outside.safetensors", "/outside.safetensors", "a/../../outside.safetensors"])
def test_an_index_names_files_of_its_folder_only(name: str, tiny_model_dir: Path, tmp_path: Path) -> None:
    from medqa_cli.gguf.tensors import open_weights

    folder = tmp_path / "model"
    shutil.copytree(tiny_model_dir, folder)
    outside = tmp_path / "outside.safetensors"
    (folder / "model.safetensors").rename(outside)
    wanted = str(outside) if name.startswith("/") else name
    index = {"metadata": {}, "weight_map": {"model.norm.weight": wanted}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    with pytest.raises(InputError, match="files of this folder"):
        loaders()["model"](folder)
    with pytest.raises(InputError, match="files of this folder"):
        open_weights(folder)


@pytest.mark.parametrize(
    "start",
    [
        "from medqa_cli.model.load import quiet_libraries; quiet_libraries()",
        "import medqa_cli.training.run, bitsandbytes",
        """
import contextlib, sys
from medqa_cli.cli.program import main
sys.argv = ["medqa", "--version"]
with contextlib.suppress(SystemExit):
    main()
""",
    ],
)
def test_no_package_fetches_kernels_from_the_hub(tmp_path: Path, start: str) -> None:
    """bitsandbytes asks ``kernels`` for code of a hub repository when it is imported on some CPUs."""
    (tmp_path / "kernels.py").write_text("raise SystemExit('kernels was imported')")
    code = f"{start}\nimport importlib.util; print(importlib.util.find_spec('kernels')); import kernels"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=240)
    assert done.stdout.splitlines()[-1] == "None"
    assert done.stderr.splitlines()[-1].startswith("ModuleNotFoundError: import of kernels halted")
