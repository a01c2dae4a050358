"""Write tensors to safetensors shards as they are computed: header first, then tensor by tensor.

The library's ``save_file`` wants a whole shard in memory. The format: 8 bytes with the length of the header, the header
in JSON (type, shape and place of each tensor), the values (safetensors' own README).
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from medqa_cli.errors import InputError
from medqa_cli.files import is_full_disk, write_json
from medqa_cli.model.weights import SAFETENSORS_FILE, SAFETENSORS_INDEX, StoredTensor

# Beside the weights: tokenizer, configs, room for the file system.
_SPARE_BYTES = 64 << 20


@dataclass(frozen=True)
class Shard:
    """One file to write: its name and its tensors, whose ``path`` and ``offset`` mean nothing here."""

    file_name: str
    tensors: tuple[StoredTensor, ...]


def make_shards(groups: Sequence[Sequence[StoredTensor]]) -> list[Shard]:
    """Name the files; each group of tensors becomes one of them."""
    if len(groups) == 1:
        return [Shard(SAFETENSORS_FILE, _aligned(groups[0]))]
    return [
        Shard(f"model-{number:05d}-of-{len(groups):05d}.safetensors", _aligned(group))
        for number, group in enumerate(groups, start=1)
    ]


def total_bytes(shards: Iterable[Shard]) -> int:
    """Return the size of all tensors, without the headers."""
    return sum(tensor.num_bytes for shard in shards for tensor in shard.tensors)


def check_disk_space(folder: Path, needed_bytes: int) -> None:
    """Check that a folder's file system has room.

    Raises:
        InputError: it has not.
    """
    place = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(place).free
    if free < needed_bytes + _SPARE_BYTES:
        raise InputError(
            f"not enough room for the merged model in {folder}: it needs {(needed_bytes + _SPARE_BYTES) / 1e9:.2f} GB, "
            f"{free / 1e9:.2f} GB are free",
            "make room, or write it elsewhere: --out DIR",
        )


def write_shards(
    folder: Path,
    shards: Sequence[Shard],
    blocks_of: Callable[[str], Iterator[memoryview]],
    on_progress: Callable[[int], None] = lambda done: None,
) -> None:
    """Write all shards and, where there are several, their index.

    Args:
        folder: where they go.
        shards: what they hold.
        blocks_of: gives the bytes of a tensor by its name, in order.
        on_progress: called with the number of bytes written so far.

    Raises:
        InputError: the disk is full or cannot be written.
    """
    done = 0
    try:
        for shard in shards:
            with open(folder / shard.file_name, "wb", buffering=0) as file:
                header = _header(shard)
                _reserve(file.fileno(), len(header) + total_bytes([shard]))
                _write_all(file.write, header)
                for tensor in shard.tensors:
                    before = done
                    for block in blocks_of(tensor.name):
                        _write_all(file.write, block)
                        done += len(block)
                        on_progress(done)
                    if done - before != tensor.num_bytes:
                        raise AssertionError(f"{tensor.name}: {done - before} bytes, {tensor.num_bytes} announced")
    except OSError as error:
        full = is_full_disk(error)
        what = "no space is left on the disk" if full else f"cannot write: {error.strerror}"
        raise InputError(
            f"the merge was stopped in {folder.parent}: {what}; nothing was changed",
            "make room, or write it elsewhere: --out DIR",
        ) from error
    if len(shards) > 1:
        weight_map = {tensor.name: shard.file_name for shard in shards for tensor in shard.tensors}
        write_json(
            folder / SAFETENSORS_INDEX, {"metadata": {"total_size": total_bytes(shards)}, "weight_map": weight_map}
        )


def _reserve(descriptor: int, num_bytes: int) -> None:
    """Take the room on the disk at once: a full disk shows before the work, and writing is twice as fast on ext4."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, num_bytes)


def _write_all(write: Callable[[memoryview], int | None], block: memoryview | bytes) -> None:
    rest = memoryview(block)
    while rest:
        rest = rest[write(rest) or 0 :]


def _header(shard: Shard) -> bytes:
    ends = list(accumulate(tensor.num_bytes for tensor in shard.tensors))
    header: dict[str, Mapping[str, object]] = {"__metadata__": {"format": "pt"}}
    for tensor, end in zip(shard.tensors, ends, strict=True):
        header[tensor.name] = {
            "dtype": tensor.type_name,
            "shape": list(tensor.shape),
            "data_offsets": [end - tensor.num_bytes, end],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    # The values begin at a multiple of 8 bytes, so that a memory map of them is aligned.
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _aligned(tensors: Sequence[StoredTensor]) -> tuple[StoredTensor, ...]:
    """Put wider types first, so that each tensor begins at a multiple of its type's size; otherwise keep the order."""
    return tuple(sorted(tensors, key=lambda tensor: -tensor.dtype.itemsize))
