"""A hub id goes through the same function as a folder: here from a hub cache that is filled by hand, offline."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers.commands import Outcome, fails

Medqa = Callable[..., Outcome]

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def hub_home(tmp_path: Path, tiny_model_dir: Path) -> Path:
    """A HF_HOME whose cache holds tiny/llama, in the layout of huggingface_hub."""
    repository = tmp_path / "hf/hub/models--tiny--llama"
    shutil.copytree(tiny_model_dir, repository / "snapshots" / COMMIT)
    (repository / "refs").mkdir()
    (repository / "refs/main").write_text(COMMIT)
    return tmp_path / "hf"


def ask(model: str) -> tuple[str, ...]:
    options = ("prompt.template=chat", "generate.max_new_tokens=4", "model.quantization=none")
    settings = [word for option in options for word in ("--set", option)]
    return ("ask", "--json", "--model", model, *settings, "What is glaucoma?")


def test_a_cached_hub_model_answers_as_its_folder_does(
    hub_home: Path, tmp_path: Path, tiny_model_dir: Path, medqa: Medqa, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its id in a process of its own: huggingface_hub reads HF_HOME when it is imported."""
    monkeypatch.chdir(tmp_path)
    environment = {**os.environ, "HF_HOME": str(hub_home), "HF_HUB_OFFLINE": "1"}
    by_id = subprocess.run(
        [sys.executable, "-m", "medqa_cli", *ask("tiny/llama")],
        env=environment,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert by_id.returncode == 0, by_id.stderr
    by_folder = medqa(*ask(str(tiny_model_dir)))
    assert by_folder.code == 0, by_folder.err
    first, second = json.loads(by_id.stdout), json.loads(by_folder.out)
    assert first["model"]["base"] == "tiny/llama"
    assert first["answer_tokens"] > 0
    assert (first["answer"], first["prompt_tokens"]) == (second["answer"], second["prompt_tokens"])


def test_a_hub_model_that_is_not_cached(medqa: Medqa) -> None:
    fails(medqa(*ask("tiny/absent")), 2, "three ways to get a model")
