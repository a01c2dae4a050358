"""The folder of a merged model: weights, config, generation config, tokenizer, prompt contract.

Together they are a plain Transformers model that other tools load as it is. Weights are written as they are computed,
header first, then tensor by tensor: safetensors' own ``save_file`` wants a whole file in memory. The format is 8 bytes
with the length of the header, the header in JSON (type, shape and offsets of each tensor), the values (safetensors'
README).
"""

import errno
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch

from medqa_cli import console
from medqa_cli.config.schema import PromptConfig
from medqa_cli.errors import InputError, MedqaError
from medqa_cli.files import is_full_disk, lack_of_room, read_json, write_json
from medqa_cli.model.devices import dtype_name
from medqa_cli.model.load import load_tokenizer
from medqa_cli.model.weights import SAFETENSORS_FILE, SAFETENSORS_INDEX, StoredTensor
from medqa_cli.prompt.chat_template import install_chat_template
from medqa_cli.prompt.contract import PROMPT_FILE_NAME, PromptContract, make_contract

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "tokenizer_config.json")
# Next to the weights: tokenizer, configs, room for the file system.
_SPARE_BYTES = 64 << 20

# The tensors of each file to write, by its name; their ``path`` and ``offset`` mean nothing here.
Shards = dict[str, tuple[StoredTensor, ...]]


def load_contract(adapter_dir: Path, base_dir: Path, prompt: PromptConfig) -> tuple[PromptContract, Any]:
    """Load the prompt contract of an adapter and its tokenizer.

    An adapter that medqa did not train has no ``prompt.json``: its contract is made from the config's prompt section,
    with a warning. Its tokenizer may be the base's.

    Raises:
        InputError: the contract is damaged, or there is no tokenizer.
    """
    has_tokenizer = any((adapter_dir / name).is_file() for name in _TOKENIZER_FILES)
    tokenizer = load_tokenizer(str(adapter_dir if has_tokenizer else base_dir))
    if (adapter_dir / PROMPT_FILE_NAME).is_file():
        return PromptContract.load(adapter_dir), tokenizer
    console.warn(
        f"{adapter_dir} has no {PROMPT_FILE_NAME}: it was not trained by medqa. The prompt of the merged model is "
        f"taken from the config (prompt.template {prompt.template}); set what the adapter was trained with"
    )
    return make_contract(prompt, tokenizer), tokenizer


def write_companions(folder: Path, base_dir: Path, contract: PromptContract, tokenizer: Any) -> bool:
    """Write everything but the weights, their config and the model card.

    Returns:
        Whether the tokenizer's chat template gives exactly the contract's prompt ids.

    Raises:
        InputError: the base's config cannot be read.
    """
    path = base_dir / "generation_config.json"
    generation = read_json(path) if path.is_file() else {}
    if not isinstance(generation, dict):
        raise InputError(f"{path} is damaged: not an object", "copy or download it again")
    generation["eos_token_id"] = list(contract.stop_token_ids)
    if contract.bos_token_id is not None:
        generation["bos_token_id"] = contract.bos_token_id
    # Early Llama-2 folders name a temperature without sampling, which Transformers no longer takes.
    is_set = any(generation.get(key) not in (None, 1.0) for key in ("temperature", "top_p"))
    if is_set and not generation.get("do_sample"):
        generation["do_sample"] = True
    (folder / path.name).write_text(json.dumps(generation, indent=2) + "\n", encoding="utf-8")
    same = install_chat_template(tokenizer, contract)
    tokenizer.save_pretrained(folder)
    contract.save(folder)
    if not same:
        console.warn(
            "this tokenizer's chat template cannot give exactly the prompt that was trained on; use prompt.json, or "
            "ask with: medqa ask --model merged"
        )
    return same


def write_config(folder: Path, base_dir: Path, *, untied: bool, dtype: torch.dtype | None = None) -> None:
    """Write the base's ``config.json`` as it holds for the merged weights.

    Args:
        folder: of the merged model.
        base_dir: of the base.
        untied: embedding and output layer now differ.
        dtype: the type that all weights are written in; None: the base's.
    """
    config: dict[str, Any] = read_json(base_dir / "config.json")
    config.pop("_name_or_path", None)
    if dtype is not None:
        # Transformers 4 called it torch_dtype; a model of several parts has one for each.
        for part in (config, *(part for part in config.values() if isinstance(part, dict))):
            for key in ("dtype", "torch_dtype"):
                if key in part:
                    part[key] = dtype_name(dtype)
        config.setdefault("torch_dtype" if "dtype" not in config else "dtype", dtype_name(dtype))
    if untied:
        config["tie_word_embeddings"] = False
        for part in config.values():
            if isinstance(part, dict) and part.get("tie_word_embeddings"):
                part["tie_word_embeddings"] = False
    write_json(folder / "config.json", config)


def make_shards(groups: Sequence[Sequence[StoredTensor]]) -> Shards:
    """Return a file for each group of tensors, in the order of their names.

    Wider types come first, so that each tensor begins at a multiple of its type's size; otherwise the order stays.
    """
    count = len(groups)
    names = [f"model-{number:05d}-of-{count:05d}.safetensors" for number in range(1, count + 1)]
    groups = [sorted(group, key=lambda tensor: -tensor.dtype.itemsize) for group in groups]
    return dict(zip(names if count > 1 else [SAFETENSORS_FILE], map(tuple, groups), strict=True))


def total_bytes(tensors: Iterable[StoredTensor]) -> int:
    """Return the size of tensors in a file, without the header."""
    return sum(tensor.num_bytes for tensor in tensors)


def check_disk_space(folder: Path, needed_bytes: int) -> None:
    """Check that a folder's file system has room for the weights; the folder may not exist yet.

    Raises:
        MedqaError: it has not.
    """
    if problem := lack_of_room(folder, needed_bytes + _SPARE_BYTES, "the merged model"):
        raise MedqaError(problem, "make room, or write it elsewhere: --out DIR")


def write_shards(
    folder: Path,
    shards: Shards,
    blocks_of: Callable[[str], Iterator[memoryview]],
    on_progress: Callable[[int], None] = lambda done: None,
) -> None:
    """Write all shards and, where there are several, their index.

    Args:
        folder: of the merged model.
        shards: as ``make_shards`` returns them.
        blocks_of: yields the bytes of a tensor, by its name.
        on_progress: called with the number of bytes written so far.

    Raises:
        InputError: the disk is full or cannot be written.
    """
    done = 0
    try:
        for file_name, tensors in shards.items():
            with open(folder / file_name, "wb", buffering=0) as file:
                header = _header(tensors)
                _reserve(file.fileno(), len(header) + total_bytes(tensors))
                _write_all(file.write, header)
                for tensor in tensors:
                    before = done
                    for block in blocks_of(tensor.name):
                        _write_all(file.write, block)
                        done += len(block)
                        on_progress(done)
                    if done - before != tensor.num_bytes:
                        raise AssertionError(f"{tensor.name}: {done - before} bytes, {tensor.num_bytes} announced")
    except OSError as error:
        what = "no space is left on the disk" if is_full_disk(error) else f"cannot write: {error.strerror}"
        raise InputError(
            f"the merge was stopped in {folder.parent}: {what}; nothing was changed",
            "make room, or write it elsewhere: --out DIR",
        ) from error
    if len(shards) > 1:
        weight_map = {tensor.name: file_name for file_name, tensors in shards.items() for tensor in tensors}
        write_json(folder / SAFETENSORS_INDEX, {"metadata": {"total_size": done}, "weight_map": weight_map})


def _reserve(descriptor: int, num_bytes: int) -> None:
    """Allocate the file at once: a full disk shows before the work, and writing is twice as fast on ext4."""
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(descriptor, 0, num_bytes)
        except OSError as error:
            # Some file systems cannot (ZFS; NFS before 4.2 where the C library does not write zeros instead).
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
                raise


def _write_all(write: Callable[[memoryview], int | None], block: memoryview | bytes) -> None:
    rest = memoryview(block)
    while rest:
        rest = rest[write(rest) or 0 :]


def _header(tensors: Sequence[StoredTensor]) -> bytes:
    header: dict[str, Mapping[str, object]] = {"__metadata__": {"format": "pt"}}
    for tensor, end in zip(tensors, accumulate(tensor.num_bytes for tensor in tensors), strict=True):
        header[tensor.name] = {
            "dtype": tensor.type_name,
            "shape": list(tensor.shape),
            "data_offsets": [end - tensor.num_bytes, end],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    # The values begin at a multiple of 8 bytes, so that a memory map of them is aligned.
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text
