"""The weight files of a model folder, safetensors or PyTorch shards: checked headers, and reading a few rows at a time.

Nothing is kept: safetensors files are read with plain ``pread``, since the pages of a memory map count as resident
memory for as long as it is open; PyTorch files are mapped only while one tensor is being read.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from io import FileIO
from math import gcd, prod
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from medqa_cli.errors import InputError, first_line, reason_of
from medqa_cli.model.checks.loading import AGAIN, read_object

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
TYPES = {
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
TYPE_NAMES = {dtype: name for name, dtype in TYPES.items()}
_BLOCK_BYTES = 4 << 20
# Values in one piece of a matrix: few enough for the cache of a core, enough that the work outweighs the calls.
_PIECE_VALUES = 1 << 19
# Pieces end where a block of 4-bit quantization ends, whatever the number of columns (``merging.weights``).
_PIECE_ALIGNMENT = 64


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
        return TYPES[self.type_name]

    @property
    def num_bytes(self) -> int:
        """Its size in bytes."""
        return prod(self.shape) * self.dtype.itemsize


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
    names = read_object(index_path, _MOST_INDEX_BYTES).get("weight_map")
    if (
        not isinstance(names, dict)
        or not names
        or not all(
            isinstance(name, str) and Path(name).name == name and len(name.encode("utf-8", "replace")) <= 255
            for name in names.values()
        )
    ):
        raise InputError(f"{index_path} is damaged: weight_map does not map names to files of this folder", AGAIN)
    return dict(names)


def adapter_file(folder: Path) -> Path:
    """Return the file with an adapter's weights, in the order in which PEFT looks for it.

    Raises:
        InputError: there is none.
    """
    file = next((folder / name for name in ADAPTER_FILES if (folder / name).is_file()), None)
    if file is None:
        raise InputError(f"cannot load the adapter in {folder}: {ADAPTER_FILES[0]} is missing", "train again")
    return file


def tensors_of_file(path: Path) -> list[StoredTensor]:
    """List the tensors of a safetensors or PyTorch file, in the order of the file.

    Raises:
        InputError: it is damaged or cut short, or holds a type that medqa does not read.
    """
    if path.suffix == ".safetensors":
        tensors = _safetensors_tensors(path)
    else:
        tensors = [
            StoredTensor(name, path, TYPE_NAMES.get(value.dtype, str(value.dtype)), tuple(value.shape), -1)
            for name, value in pytorch_tensors(path).items()
        ]
    odd = [tensor for tensor in tensors if tensor.type_name not in TYPES]
    if odd:
        raise InputError(
            f"{path}: {odd[0].name} is stored as {odd[0].type_name}, which medqa merge does not read",
            "take the 16-bit version of the model",
        )
    return sorted(tensors, key=lambda tensor: tensor.offset)


def _safetensors_tensors(path: Path) -> list[StoredTensor]:
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
    return [
        StoredTensor(name, path, entry["dtype"], tuple(entry["shape"]), 8 + size + entry["data_offsets"][0])
        for name, entry in header.items()
    ]


def pytorch_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Map the tensors of a PyTorch file; no other objects are unpickled.

    Raises:
        InputError: it is damaged or of the format before PyTorch 1.6, which cannot be mapped.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # what a damaged pickle raises is of every class
        raise InputError(
            f"{path} is damaged, cut short or of PyTorch's old format: {reason_of(error)}",
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
            raise InputError(f"{path}: {name} is not a plain tensor of {size:,} bytes or fewer", _SAFETENSORS_VERSION)
    return tensors


class WeightFiles:
    """All tensors of a model folder, by name, in the order of its files."""

    def __init__(self, folder: Path, tensors: dict[str, StoredTensor]) -> None:
        self.folder = folder
        self.tensors = tensors
        self._open_path: Path | None = None
        self._file: FileIO | None = None
        self._lock = threading.Lock()
        self._mapped: tuple[str, torch.Tensor] | None = None

    @classmethod
    def open(cls, folder: Path) -> WeightFiles:
        """Read the headers of all shards and check that every file is whole.

        Raises:
            InputError: a shard is missing, cut short or damaged, or there are no weights.
        """
        paths = weight_paths(folder)
        tensors = {tensor.name: tensor for path in paths for tensor in tensors_of_file(path)}
        for index in (folder / name for name in WEIGHT_FILES if name.endswith(".index.json")):
            if index.is_file() and {path.name for path in paths} & set(_weight_map(index).values()):
                absent = [name for name in _weight_map(index) if name not in tensors]
                if absent:
                    raise InputError(
                        f"{index} names {absent[0]}, which is in none of the shards ({len(absent)} such tensors)",
                        "the files are of different models or versions: copy or download them again",
                    )
        return cls(folder, tensors)

    @property
    def paths(self) -> list[Path]:
        """The files, in order."""
        return list(dict.fromkeys(tensor.path for tensor in self.tensors.values()))

    def rows(self, name: str, start: int, stop: int) -> torch.Tensor:
        """Return rows ``start`` to ``stop`` (along the first dimension) in the stored type, on the CPU."""
        tensor = self.tensors[name]
        if tensor.offset < 0:
            return self._mapped_tensor(tensor)[start:stop].contiguous()
        row_bytes = tensor.num_bytes // max(1, tensor.shape[0])
        raw = torch.empty((stop - start) * row_bytes, dtype=torch.uint8)
        self._read_into(_buffer(raw), tensor.path, tensor.offset + start * row_bytes)
        return raw.view(tensor.dtype).view(stop - start, *tensor.shape[1:])

    def whole(self, name: str) -> torch.Tensor:
        """Return a whole tensor in the stored type, on the CPU; for small ones."""
        tensor = self.tensors[name]
        if tensor.offset < 0:
            return self._mapped_tensor(tensor)
        raw = torch.empty(tensor.num_bytes, dtype=torch.uint8)
        self._read_into(_buffer(raw), tensor.path, tensor.offset)
        return raw.view(tensor.dtype).view(tensor.shape)

    def pieces(self, name: str) -> Iterator[torch.Tensor]:
        """Yield a tensor as consecutive groups of rows, in the stored type, on the CPU."""
        if not self.tensors[name].shape:
            yield self.whole(name)
        for start, stop in row_ranges(self.tensors[name].shape):
            yield self.rows(name, start, stop)

    def raw_blocks(self, name: str) -> Iterator[memoryview]:
        """Yield the bytes of a tensor as safetensors stores them. A block is valid until the next one is asked for."""
        tensor = self.tensors[name]
        if tensor.offset < 0:
            yield as_bytes(self._mapped_tensor(tensor))
            return
        buffer = memoryview(bytearray(min(_BLOCK_BYTES, tensor.num_bytes)))
        for start in range(0, tensor.num_bytes, _BLOCK_BYTES):
            block = buffer[: min(_BLOCK_BYTES, tensor.num_bytes - start)]
            self._read_into(block, tensor.path, tensor.offset + start)
            yield block

    def are_equal(self, first: str, second: str) -> bool:
        """Tell whether two tensors hold the same values in the same type and shape."""
        tensor, other = self.tensors[first], self.tensors[second]
        if (tensor.type_name, tensor.shape) != (other.type_name, other.shape):
            return False
        return all(self.rows(first, a, b).equal(self.rows(second, a, b)) for a, b in row_ranges(tensor.shape))

    def close(self) -> None:
        """Close the file that is open; the next read opens it again."""
        if self._file is not None:
            self._file.close()
        self._open_path = self._file = self._mapped = None

    def _read_into(self, buffer: memoryview, path: Path, offset: int) -> None:
        with self._lock:  # pieces of one tensor are read by several threads
            if self._open_path != path:
                self.close()
                self._file, self._open_path = path.open("rb", buffering=0), path
            file = self._file
        assert file is not None
        done = 0
        while done < len(buffer):
            if hasattr(os, "preadv"):
                count = os.preadv(file.fileno(), [buffer[done:]], offset + done)
            else:  # Windows: the threads share one place in the file
                with self._lock:
                    file.seek(offset + done)
                    count = file.readinto(buffer[done:])
            if count == 0:
                raise InputError(f"{path} became shorter while it was read", "copy or download it again")
            done += count

    def _mapped_tensor(self, tensor: StoredTensor) -> torch.Tensor:
        with self._lock:
            if self._mapped is None or self._mapped[0] != tensor.name:
                self._mapped = None  # before the next map is made
                self._mapped = (tensor.name, pytorch_tensors(tensor.path)[tensor.name].contiguous())
            return self._mapped[1]


def rows_in_a_piece(shape: tuple[int, ...]) -> int:
    """Return how many rows of a tensor are worked on at a time: a vector is one piece."""
    if len(shape) < 2:
        return max(1, prod(shape))
    num_columns = max(1, prod(shape[1:]))
    step = _PIECE_ALIGNMENT // gcd(_PIECE_ALIGNMENT, num_columns)
    return max(step, _PIECE_VALUES // num_columns // step * step)


def row_ranges(shape: tuple[int, ...]) -> list[tuple[int, int]]:
    """Return first row and end of each piece of a tensor; none of a scalar."""
    num_rows, step = shape[0] if shape else 0, rows_in_a_piece(shape)
    return [(start, min(start + step, num_rows)) for start in range(0, num_rows, step)]


def as_bytes(tensor: torch.Tensor) -> memoryview:
    """Return the bytes of a CPU tensor, without a copy where it is contiguous."""
    return _buffer(tensor.contiguous().reshape(-1).view(torch.uint8))


def _buffer(raw: torch.Tensor) -> memoryview:
    """Return the memory of a uint8 vector."""
    array: Any = raw.numpy()
    return memoryview(array)
