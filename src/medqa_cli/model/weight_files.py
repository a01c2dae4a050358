"""Reads the weight files of a model folder a few rows at a time: safetensors shards, or PyTorch shards.

Nothing is kept: safetensors files are read with plain ``pread``, since the pages of a memory map count as resident
memory of the process for as long as it is open; PyTorch files are mapped only while one tensor is being read. Does
not know what the tensors mean (``skeleton``) and does not write (``writing``).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator
from io import FileIO
from math import gcd, prod
from pathlib import Path
from typing import Any

import torch

from medqa_cli.errors import InputError
from medqa_cli.model.weight_headers import StoredTensor, pytorch_tensors, stored_tensors

_BLOCK_BYTES = 4 << 20
# Values in one piece of a matrix: few enough for the cache of a core, enough that the work outweighs the calls.
_PIECE_VALUES = 1 << 19
# Pieces end where a block of 4-bit quantization ends, whatever the number of columns (see ``four_bit``).
_PIECE_ALIGNMENT = 64


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
        return cls(folder, stored_tensors(folder))

    @property
    def names(self) -> Iterable[str]:
        """Names of all tensors, in the order of the files."""
        return self.tensors.keys()

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
        if not tensor.shape:
            return self._scalar(tensor)
        return self.rows(name, 0, tensor.shape[0])

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor."""
        return self.tensors[name].shape

    def pieces(self, name: str) -> Iterator[torch.Tensor]:
        """Yield a tensor as consecutive groups of rows, in the stored type, on the CPU."""
        shape = self.tensors[name].shape
        step = rows_in_a_piece(shape)
        if not shape:
            yield self.whole(name)
        for start in range(0, shape[0] if shape else 0, step):
            yield self.rows(name, start, min(start + step, shape[0]))

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
        one, other = self.tensors[first], self.tensors[second]
        if (one.type_name, one.shape) != (other.type_name, other.shape):
            return False
        step = rows_in_a_piece(one.shape)
        ranges = ((start, min(start + step, one.shape[0])) for start in range(0, one.shape[0], step))
        return all(self.rows(first, a, b).equal(self.rows(second, a, b)) for a, b in ranges)

    def close(self) -> None:
        """Close the file that is open; the next read opens it again."""
        if self._file is not None:
            self._file.close()
        self._open_path = self._file = self._mapped = None

    def _scalar(self, tensor: StoredTensor) -> torch.Tensor:
        if tensor.offset < 0:
            return self._mapped_tensor(tensor).clone()
        raw = torch.empty(tensor.num_bytes, dtype=torch.uint8)
        self._read_into(_buffer(raw), tensor.path, tensor.offset)
        return raw.view(tensor.dtype).view(())

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


def as_bytes(tensor: torch.Tensor) -> memoryview:
    """Return the bytes of a CPU tensor, without a copy where it is contiguous."""
    return _buffer(tensor.contiguous().reshape(-1).view(torch.uint8))


def _buffer(raw: torch.Tensor) -> memoryview:
    """Return the memory of a uint8 vector."""
    array: Any = raw.numpy()
    return memoryview(array)
