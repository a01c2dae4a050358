"""Reading and writing weight files: what is written is what safetensors reads, and damage is named."""

import errno
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from medqa_cli.errors import InputError, MedqaError
from medqa_cli.merging import model_folder
from medqa_cli.merging.model_folder import check_disk_space, make_shards, total_bytes, write_shards
from medqa_cli.model.weights import StoredTensor, WeightFiles, as_bytes

NAMES = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16", torch.int64: "I64", torch.uint8: "U8"}


def some_tensors() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {
        "bytes": torch.arange(7, dtype=torch.uint8),
        "half": torch.randn(5, 3).half(),
        "brain": torch.randn(700, 1000).bfloat16(),
        "scalar": torch.tensor(3, dtype=torch.int64),
        "empty": torch.empty(0, 4),
        "cube": torch.randn(2, 3, 4),
    }


def announced(tensors: dict[str, torch.Tensor]) -> list[StoredTensor]:
    return [StoredTensor(n, Path(), NAMES[t.dtype], tuple(t.shape), -1) for n, t in tensors.items()]


def write(folder: Path, groups: list[dict[str, torch.Tensor]]) -> None:
    together = {name: tensor for group in groups for name, tensor in group.items()}

    def blocks(name: str) -> Iterator[memoryview]:
        content = as_bytes(together[name])
        for start in range(0, len(content), 1000):
            yield content[start : start + 1000]

    write_shards(folder, make_shards([announced(group) for group in groups]), blocks)


def test_safetensors_reads_what_was_written(tmp_path: Path) -> None:
    tensors = some_tensors()
    write(tmp_path, [tensors])
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]
    found = load_file(tmp_path / "model.safetensors")
    assert found.keys() == tensors.keys()
    assert all(found[name].dtype == tensors[name].dtype and found[name].equal(tensors[name]) for name in tensors)
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt"}
    # Each tensor begins at a multiple of its type's size, so that a map of the file is aligned.
    files = WeightFiles.open(tmp_path)
    assert all(stored.offset % stored.dtype.itemsize == 0 for stored in files.tensors.values())


def test_reading_in_pieces_gives_the_tensor(tmp_path: Path) -> None:
    tensors = some_tensors()
    save_file(tensors, tmp_path / "model.safetensors")
    files = WeightFiles.open(tmp_path)
    assert len(list(files.pieces("brain"))) > 1
    for name, tensor in tensors.items():
        assert files.tensors[name].shape == tuple(tensor.shape)
        raw = b"".join(bytes(block) for block in files.raw_blocks(name))
        assert raw == bytes(as_bytes(tensor)), name
        if tensor.numel():
            pieces = list(files.pieces(name))
            assert (torch.cat(pieces) if tensor.dim() else pieces[0]).equal(tensor), name
    assert files.rows("brain", 3, 690).equal(tensors["brain"][3:690])


def test_a_pytorch_file_gives_the_same_pieces_and_bytes(tmp_path: Path) -> None:
    tensors = some_tensors()
    torch.save(tensors, tmp_path / "pytorch_model.bin")
    files = WeightFiles.open(tmp_path)
    for name, tensor in tensors.items():
        assert b"".join(bytes(block) for block in files.raw_blocks(name)) == bytes(as_bytes(tensor)), name
        if tensor.numel():
            pieces = list(files.pieces(name))
            assert (torch.cat(pieces) if tensor.dim() else pieces[0]).equal(tensor), name
    assert files.are_equal("half", "half")
    assert not files.are_equal("half", "cube")


def test_several_shards_have_an_index_with_the_true_size(tmp_path: Path) -> None:
    tensors = some_tensors()
    groups = [{name: tensors[name] for name in names} for names in (("bytes", "half"), ("brain",), ("scalar", "cube"))]
    write(tmp_path, groups)
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    expected = sum(tensor.numel() * tensor.element_size() for group in groups for tensor in group.values())
    shards = make_shards([announced(group) for group in groups])
    assert index["metadata"]["total_size"] == expected == sum(map(total_bytes, shards.values()))
    assert index["weight_map"]["brain"] == "model-00002-of-00003.safetensors"
    for file_name in set(index["weight_map"].values()):
        found = load_file(tmp_path / file_name)
        assert {name for name, place in index["weight_map"].items() if place == file_name} == found.keys()
        assert all(found[name].equal(tensors[name]) for name in found)


def test_blocks_that_do_not_fill_their_tensor_are_a_bug(tmp_path: Path) -> None:
    shards = make_shards([announced({"half": some_tensors()["half"]})])
    with pytest.raises(AssertionError, match="half: 3 bytes, 30 announced"):
        write_shards(tmp_path, shards, lambda name: iter([memoryview(b"abc")]))


# Damage


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    tensors = some_tensors()
    write(tmp_path, [{"half": tensors["half"]}, {"brain": tensors["brain"]}])
    return tmp_path


def refused(folder: Path) -> str:
    with pytest.raises(InputError) as caught:
        WeightFiles.open(folder)
    assert caught.value.hint
    return caught.value.message


def test_a_missing_shard(sharded: Path) -> None:
    (sharded / "model-00002-of-00002.safetensors").unlink()
    said = refused(sharded)
    assert "model-00002-of-00002.safetensors missing" in said
    assert "1 of the 2 shards" in said


@pytest.mark.parametrize("keep", [0, 4, 60, 5000, -1])
def test_a_shard_that_was_cut_short(sharded: Path, keep: int) -> None:
    path = sharded / "model-00002-of-00002.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    assert f"{path} is damaged or cut short" in refused(sharded)


def test_a_damaged_header(sharded: Path) -> None:
    path = sharded / "model-00001-of-00002.safetensors"
    content = bytearray(path.read_bytes())
    content[20] ^= 0xFF
    path.write_bytes(content)
    assert f"{path} is damaged" in refused(sharded)


def test_a_file_that_shrinks_while_it_is_read(sharded: Path) -> None:
    files = WeightFiles.open(sharded)
    os.truncate(sharded / "model-00002-of-00002.safetensors", 1000)
    with pytest.raises(InputError, match="became shorter"):
        list(files.pieces("brain"))


@pytest.mark.parametrize("content", ["", "[]", '{"weight_map": {}}', '{"weight_map": {"a": "../other.safetensors"}}'])
def test_a_damaged_index(sharded: Path, content: str) -> None:
    (sharded / "model.safetensors.index.json").write_text(content)
    assert "model.safetensors.index.json is damaged" in refused(sharded)


def test_shards_of_another_model(sharded: Path) -> None:
    save_file({"other": torch.zeros(3)}, sharded / "model-00001-of-00002.safetensors")
    assert "names half, which is in none of the shards" in refused(sharded)


def test_no_weights_at_all(tmp_path: Path) -> None:
    assert "holds no weights" in refused(tmp_path)


class Malicious:
    def __reduce__(self) -> Any:
        return (os.mkdir, ("was-executed",))


def test_pytorch_files_run_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"weight": Malicious()}, tmp_path / "pytorch_model.bin")
    assert "pytorch_model.bin is damaged, cut short or of PyTorch's old format" in refused(tmp_path)
    assert not (tmp_path / "was-executed").exists()


@pytest.mark.parametrize("content", [b"", b"PK", b"no pickle at all"])
def test_damaged_pytorch_files(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(content)
    assert "pytorch_model.bin is damaged" in refused(tmp_path)


def test_an_old_pytorch_file(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(3)}, tmp_path / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    assert "PyTorch's old format" in refused(tmp_path)


def test_a_pytorch_file_without_names(tmp_path: Path) -> None:
    torch.save([torch.zeros(3)], tmp_path / "pytorch_model.bin")
    assert refused(tmp_path) == f"{tmp_path / 'pytorch_model.bin'} holds no weights by name"


def test_a_type_that_is_not_read(tmp_path: Path) -> None:
    save_file({"weight": torch.zeros(3, dtype=torch.complex64)}, tmp_path / "model.safetensors")
    assert "weight is stored as C64, which medqa merge does not read" in refused(tmp_path)


# The disk


def test_too_little_room_is_seen_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_disk_space(tmp_path / "not" / "there" / "yet", 1000)
    usage = type(shutil.disk_usage(tmp_path))(10**12, 10**12 - 10**8, 10**8)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    check_disk_space(tmp_path, 10**7)
    with pytest.raises(MedqaError, match=r"1\.07 GB are needed, 0\.10 GB are free") as caught:
        check_disk_space(tmp_path, 10**9)
    assert caught.value.exit_code == 1


@pytest.mark.parametrize(("number", "said"), [(errno.ENOSPC, "no space is left"), (errno.EIO, "cannot write")])
def test_a_disk_that_fails_while_writing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, said: str
) -> None:
    def fail(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(model_folder, "_reserve", fail)
    with pytest.raises(InputError, match=said) as caught:
        write(tmp_path, [some_tensors()])
    assert "--out DIR" in caught.value.hint


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="this system cannot allocate a file at once")
def test_a_file_system_that_cannot_allocate_at_once_is_written_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    tensors = some_tensors()
    write(tmp_path, [tensors])
    assert load_file(tmp_path / "model.safetensors").keys() == tensors.keys()
