"""A hub id goes through the same function as a folder: here from a hub cache that is filled by hand, offline."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def hub_home(tmp_path: Path, tiny_model_dir: Path) -> Path:
    """A HF_HOME whose cache holds tiny/llama, in the layout of huggingface_hub."""
    repository = tmp_path / "hf/hub/models--tiny--llama"
    shutil.copytree(tiny_model_dir, repository / "snapshots" / COMMIT)
    (repository / "refs").mkdir()
    (repository / "refs/main").write_text(COMMIT)
    return tmp_path / "hf"


def ask(model: str, folder: Path, home: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "medqa_cli", "ask", "--json", "--model", model, "--set", "prompt.template=chat"]
    options = ["--set", "generate.max_new_tokens=4", "--set", "model.quantization=none", "What is glaucoma?"]
    environment = {**os.environ, "HF_HOME": str(home), "HF_HUB_OFFLINE": "1"}
    return subprocess.run(
        command + options, cwd=folder, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )


def test_a_cached_hub_model_answers_as_its_folder_does(hub_home: Path, tmp_path: Path, tiny_model_dir: Path) -> None:
    by_id, by_folder = (ask(model, tmp_path, hub_home) for model in ("tiny/llama", str(tiny_model_dir)))
    assert by_id.returncode == by_folder.returncode == 0, by_id.stderr + by_folder.stderr
    first, second = json.loads(by_id.stdout), json.loads(by_folder.stdout)
    assert first["model"]["base"] == "tiny/llama"
    assert first["answer_tokens"] > 0
    assert (first["answer"], first["prompt_tokens"]) == (second["answer"], second["prompt_tokens"])


def test_a_hub_model_that_is_not_cached(hub_home: Path, tmp_path: Path) -> None:
    missing = ask("tiny/absent", tmp_path, hub_home)
    assert missing.returncode == 2
    assert missing.stdout == ""
    assert "Traceback" not in missing.stderr
    assert "three ways to get a model" in missing.stderr
