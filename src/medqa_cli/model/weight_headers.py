"""What the weight files of a model folder say of themselves: which files there are, which tensors lie where in them.

Safetensors and PyTorch shards. Does not read weights (``weight_files``) and does not know what they mean.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from medqa_cli.errors import InputError
from medqa_cli.model.loading import AGAIN, first_line, read_object

SAFETENSORS_INDEX = "model.safetensors.index.json"
SAFETENSORS_FILE = "model.safetensors"
PYTORCH_INDEX = "pytorch_model.bin.index.json"
PYTORCH_FILE = "pytorch_model.bin"
# In the order in which Transformers looks for them.
WEIGHT_FILES = (SAFETENSORS_FILE, SAFETENSORS_INDEX, PYTORCH_FILE, PYTORCH_INDEX)

ADAPTER_FILES = ("adapter_model.safetensors", "adapter_model.bin")
# DeepSeek-V3's has 9 MB.
_MOST_INDEX_BYTES = 128 << 20

# Names of the safetensors format for types that a weight may be computed in, and those that are only copied.
FLOAT_TYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_TYPES = {
    **FLOAT_TYPES,
    "F64": torch.float64,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_SAFETENSORS_VERSION = "take the safetensors version of the model"
_TYPE_NAMES = {dtype: name for name, dtype in _TYPES.items()}


def dtype_of(type_name: str) -> torch.dtype:
    """Return the type that the safetensors format calls so."""
    return _TYPES[type_name]


@dataclass(frozen=True)
class StoredTensor:
    """One tensor as it lies in a file. ``offset``: of its first byte; -1 in a PyTorch file, which is not raw."""

    name: str
    path: Path
    type_name: str
    shape: tuple[int, ...]
    offset: int

    @property
    def dtype(self) -> torch.dtype:
        """The type of its values."""
        return dtype_of(self.type_name)

    @property
    def num_bytes(self) -> int:
        """Its size in bytes."""
        return prod(self.shape) * self.dtype.itemsize


def stored_tensors(folder: Path) -> dict[str, StoredTensor]:
    """Read the headers of all shards of a folder, in order, and check that every file is whole.

    Raises:
        InputError: a shard is missing, cut short or damaged, or there are no weights.
    """
    paths = weight_paths(folder)
    read = safetensors_tensors if paths[0].suffix == ".safetensors" else _pytorch_tensors_as_stored
    tensors: dict[str, StoredTensor] = {}
    for path in paths:
        tensors.update({tensor.name: tensor for tensor in read(path)})
    _check_tensors_of_index(folder, tensors)
    return tensors


def weight_paths(folder: Path) -> list[Path]:
    """Return the weight files of a folder, in order.

    Raises:
        InputError: there are none, or one that the index names is missing.
    """
    for name in WEIGHT_FILES:
        path = folder / name
        if not path.is_file():
            continue
        names = shard_names(path) if name.endswith(".index.json") else [name]
        missing = [shard for shard in names if not (folder / shard).is_file()]
        if missing:
            raise InputError(
                f"the model in {folder} is incomplete: {', '.join(missing[:3])} missing "
                f"({len(missing)} of the {len(names)} shards that {name} names)",
                "copy or download the missing files",
            )
        return [folder / shard for shard in names]
    raise InputError(f"{folder} holds no weights: neither {' nor '.join(WEIGHT_FILES)}", "copy or download them")


def check_weight_files(folder: Path) -> None:
    """Check that the index of a folder names files of the folder only, and that PyTorch files hold plain tensors.

    Transformers itself would open files outside the folder, and does not tell a list from weights. Damage of
    safetensors files is seen when they are loaded.

    Raises:
        InputError: it is otherwise, a shard is missing, or there are no weights.
    """
    for path in weight_paths(folder):
        if path.suffix != ".safetensors":
            pytorch_tensors(path)


def shard_names(index_path: Path) -> list[str]:
    """Return the file names that an index lists, sorted.

    Raises:
        InputError: the index is damaged.
    """
    return sorted(set(_weight_map(index_path).values()))


def _weight_map(index_path: Path) -> dict[str, str]:
    found = read_object(index_path, _MOST_INDEX_BYTES).get("weight_map")
    if not isinstance(found, dict) or not found or not all(map(_is_file_name, found.values())):
        raise InputError(f"{index_path} is damaged: weight_map does not map names to files of this folder", AGAIN)
    return dict(found)


def _is_file_name(name: Any) -> bool:
    return isinstance(name, str) and Path(name).name == name and len(name.encode("utf-8", "replace")) <= 255


def _check_tensors_of_index(folder: Path, tensors: dict[str, StoredTensor]) -> None:
    for index in (folder / name for name in WEIGHT_FILES if name.endswith(".index.json")):
        if index.is_file() and any(tensor.path.name in set(_weight_map(index).values()) for tensor in tensors.values()):
            absent = [name for name in _weight_map(index) if name not in tensors]
            if absent:
                raise InputError(
                    f"{index} names {absent[0]}, which is in none of the shards ({len(absent)} such tensors)",
                    "the files are of different models or versions: copy or download them again",
                )


def adapter_file(folder: Path) -> Path:
    """Return the file with an adapter's weights, in the order in which PEFT looks for it.

    Raises:
        InputError: there is none.
    """
    found = next((folder / name for name in ADAPTER_FILES if (folder / name).is_file()), None)
    if found is None:
        raise InputError(f"cannot load the adapter in {folder}: {ADAPTER_FILES[0]} is missing", "train again")
    return found


def safetensors_tensors(path: Path) -> list[StoredTensor]:
    """Read the header of one safetensors file; the tensors in the order of the file.

    Raises:
        InputError: it is damaged or cut short, or holds a type that medqa does not read.
    """
    try:
        # Checks the header, and that the file ends where the header says.
        with safe_open(path, "pt"):
            pass
        with open(path, "rb") as file:
            size = int.from_bytes(file.read(8), "little")
            header: dict[str, Any] = json.loads(file.read(size))
    except (OSError, ValueError, RecursionError, SafetensorError) as error:
        raise InputError(f"{path} is damaged or cut short: {first_line(error)}", AGAIN) from error
    header.pop("__metadata__", None)
    start = 8 + size
    found = [
        StoredTensor(name, path, entry["dtype"], tuple(entry["shape"]), start + entry["data_offsets"][0])
        for name, entry in header.items()
    ]
    _check_types(path, found)
    return sorted(found, key=lambda tensor: tensor.offset)


def _pytorch_tensors_as_stored(path: Path) -> list[StoredTensor]:
    found = [
        StoredTensor(name, path, _TYPE_NAMES.get(value.dtype, str(value.dtype)), tuple(value.shape), -1)
        for name, value in pytorch_tensors(path).items()
    ]
    _check_types(path, found)
    return found


def pytorch_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Map the tensors of a PyTorch file; no other objects are unpickled.

    Raises:
        InputError: it is damaged or of the format before PyTorch 1.6, which cannot be mapped.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # what a damaged pickle raises is of every class
        raise InputError(
            f"{path} is damaged, cut short or of PyTorch's old format: {first_line(error)}",
            "copy or download it again, or take the safetensors version of the model",
        ) from error
    if not isinstance(content, dict) or not content or not all(isinstance(name, str) for name in content):
        raise InputError(f"{path} holds no weights by name", _SAFETENSORS_VERSION)
    tensors = {name: value for name, value in content.items() if isinstance(value, torch.Tensor)}
    if not tensors:
        raise InputError(
            f"{path} holds no weights: its entries are {', '.join(list(content)[:3])}", _SAFETENSORS_VERSION
        )
    size = path.stat().st_size
    for name, value in tensors.items():
        # A tensor may be laid out so that few bytes stand for many, or hold none at all.
        if value.layout != torch.strided or value.device.type != "cpu" or value.nbytes > size:
            raise InputError(f"{path}: {name} is no plain tensor of {size:,} bytes or fewer", _SAFETENSORS_VERSION)
    return tensors


def _check_types(path: Path, tensors: list[StoredTensor]) -> None:
    odd = [tensor for tensor in tensors if tensor.type_name not in _TYPES]
    if odd:
        raise InputError(
            f"{path}: {odd[0].name} is stored as {odd[0].type_name}, which medqa merge does not read",
            "take the 16-bit version of the model",
        )
