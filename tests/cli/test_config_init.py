"""``medqa config init``: the file it writes, what it says, and what it leaves alone."""

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from helpers.commands import Outcome, fails
from medqa_cli.config.dump import preset_for
from medqa_cli.config.load import load

SMALL_MODEL_INSTALL = preset_for(None).needs
SMALL_MODEL, MIDDLE_MODEL, LARGE_MODEL = (preset_for(size).model for size in (None, 8, 16))
Medqa = Callable[..., Outcome]
GB = 10**9


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def with_gpus(monkeypatch: pytest.MonkeyPatch, *sizes: int) -> None:
    cards = [SimpleNamespace(name="NVIDIA T4", total_memory=size) for size in sizes]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(cards))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(cards))
    monkeypatch.setattr(torch.cuda, "get_arch_list", list)
    monkeypatch.setattr(torch.cuda, "get_device_properties", cards.__getitem__)


def test_on_a_machine_without_a_gpu(medqa: Medqa) -> None:
    outcome = medqa("config", "init")
    assert outcome.code == 0, outcome.err
    assert "CPU only" in outcome.out
    assert SMALL_MODEL in outcome.out
    assert load(None).config.model.name_or_path == SMALL_MODEL
    assert medqa("config", "check").out == "medqa.yaml: no problem found\n"


def test_on_a_machine_with_gpus_the_smallest_counts(medqa: Medqa, monkeypatch: pytest.MonkeyPatch) -> None:
    with_gpus(monkeypatch, 85 * GB, 8 * GB)
    said = json.loads(medqa("config", "init", "--json").out)
    assert (said["machine"], said["gpu_memory_gb"], said["model"]) == ("2 x NVIDIA T4, 8.0 GB", 8.0, MIDDLE_MODEL)
    assert load(None).config.model.name_or_path == MIDDLE_MODEL


@pytest.mark.parametrize("size", ["8", "16", "24", "80"])
def test_for_another_card_without_looking_at_this_one(medqa: Medqa, monkeypatch: pytest.MonkeyPatch, size: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: pytest.fail("looked at this machine"))
    outcome = medqa("config", "init", "--gpu-memory", size)
    assert outcome.code == 0, outcome.err
    assert f"a GPU with {size} GB" in outcome.out
    assert f"medqa train --plan --gpu-memory {size}" in outcome.out
    assert medqa("config", "check").code == 0


def test_a_pytorch_without_cuda_beside_a_driver_is_told(medqa: Medqa, monkeypatch: pytest.MonkeyPatch) -> None:
    with_gpus(monkeypatch)
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr("medqa_cli.model.devices.shutil.which", lambda name: "/usr/bin/nvidia-smi")
    outcome = medqa("config", "init")
    assert outcome.code == 0
    assert "built without CUDA" in outcome.err


def test_a_file_that_is_there_is_left_alone(folder: Path, medqa: Medqa) -> None:
    (folder / "medqa.yaml").write_text("seed: 7\n")
    fails(medqa("config", "init"), 2, "medqa.yaml is there already", "--force", "--out")
    assert (folder / "medqa.yaml").read_text() == "seed: 7\n"
    assert names_in(folder) == ["medqa.yaml"]
    assert medqa("config", "init", "--force").code == 0
    assert load(None).config.model.name_or_path == SMALL_MODEL


def test_a_link_to_nowhere_is_there_too(folder: Path, medqa: Medqa) -> None:
    (folder / "medqa.yaml").symlink_to("nowhere.yaml")
    fails(medqa("config", "init"), 2, "is there already")
    assert not (folder / "nowhere.yaml").exists()


def test_another_file_is_named_in_what_comes_next(folder: Path, medqa: Medqa) -> None:
    said = json.loads(medqa("config", "init", "--out", "my configs/a b.yaml", "--json").out)
    assert medqa("config", "check", "-c", "my configs/a b.yaml").code == 0
    calls = [shlex.split(step) for step in said["next"] if step.startswith("medqa ")]
    assert [call[1] for call in calls] == ["convert", "train", "train"]
    assert all(call[-2:] == ["-c", "my configs/a b.yaml"] for call in calls)
    assert not (folder / "medqa.yaml").exists()


@pytest.mark.parametrize("name", ["a10.yaml", "my configs/a b: #1.yaml"])
def test_two_configs_do_not_write_over_each_other(folder: Path, medqa: Medqa, name: str) -> None:
    assert medqa("config", "init").code == 0
    assert medqa("config", "init", "--out", name).code == 0
    first, second = load(None).config, load(Path(name)).config
    assert (first.run_dir, first.data.dir) == ("runs/medqa", "data/medqa")
    assert (second.run_dir, second.data.dir) == (f"runs/{Path(name).stem}", f"data/{Path(name).stem}")


def test_the_source_is_set(folder: Path, medqa: Medqa) -> None:
    (folder / "qa.csv").write_text("question,answer\nWhat is gout?,A disease of the joints.\n")
    said = json.loads(medqa("config", "init", "--data", "qa.csv", "--json").out)
    assert load(None).config.data.source == "qa.csv"
    assert "medqa convert" in said["next"]  # needs no FILE
    assert "medqa convert FILE" not in said["next"]


def test_a_source_that_is_not_there(folder: Path, medqa: Medqa) -> None:
    (folder / "qa.csv").write_text("question,answer\nWhat is gout?,A disease of the joints.\n")
    fails(medqa("config", "init", "--data", "qa.cvs"), 2, "qa.cvs does not exist", "did you mean 'qa.csv'?")
    assert names_in(folder) == ["qa.csv"]


@pytest.mark.parametrize("place", [".", "sub"])
def test_a_folder_is_no_file(folder: Path, medqa: Medqa, place: str) -> None:
    (folder / "sub").mkdir()
    fails(medqa("config", "init", "--force", "--out", place), 2, "is a folder", "medqa.yaml")


def test_a_place_that_cannot_be_written(folder: Path, medqa: Medqa) -> None:
    (folder / "file").touch()
    fails(medqa("config", "init", "--out", "file/medqa.yaml"), 2, "cannot write file/medqa.yaml")


def test_what_has_to_be_installed_or_accepted_comes_first(medqa: Medqa, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert json.loads(medqa("config", "init", "--json").out)["next"][0] == SMALL_MODEL_INSTALL
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    assert SMALL_MODEL_INSTALL not in medqa("config", "init", "--force").out
    large = json.loads(medqa("config", "init", "--force", "--gpu-memory", "16", "--json").out)
    assert large["model"] == LARGE_MODEL
    assert large["next"][0].startswith("medqa convert")  # nothing has to be accepted
    assert {"name": "google/medgemma-4b-it", "license": "Health AI Developer Foundations terms", "gated": True} in (
        large["others"]
    )
    told = medqa("config", "init", "--force", "--gpu-memory", "16").out
    assert "by medqa's plan a GPU with 9.8 GB is enough for it" in told
    assert "meta-llama/Llama-3.1-8B-Instruct (8.0 billion, Llama 3.1 Community License, gated)" in told
    assert "hf auth login" in told


def test_a_gpu_of_no_size(medqa: Medqa, folder: Path) -> None:
    assert medqa("config", "init", "--gpu-memory", "0").code == 2
    assert names_in(folder) == []
