"""llama.cpp by its C API, through the shared library in the package ``xllamacpp``: token ids in, logits out.

The package's own Python API is a server that renders, samples and ends answers by itself. Here each step is ours, so
that prompts, ends and the watch for loops are those of every other engine. Structs of ``llama.h`` are passed by value
without their fields being declared, but for the first four of ``llama_context_params``; the library is asked afterwards
whether it understood them. The package's version is pinned.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import os
from collections.abc import Sequence
from ctypes import POINTER, c_bool, c_char_p, c_float, c_int8, c_int32, c_size_t, c_uint8, c_uint32, c_void_p
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from medqa_cli.environment import usable_cores
from medqa_cli.errors import InputError, MedqaError

PACKAGE = "xllamacpp"
INSTALL = "install it: pip install 'medqa-cli[fast]'"
_TOKENS_AT_ONCE = 512  # of prompts, in one call
_ROOM_FOR_A_STRUCT = 1024  # bytes; llama.h's largest has fewer than 200
_ROOM_FOR_A_VALUE = 256  # bytes
_CONTEXT_STEP = 256  # llama.cpp rounds the room of a sequence up to it
_SHARE_OF_MEMORY = 0.25  # of the free memory, for keys and values
_KEY_BYTES = 2  # float16


class _ModelParams(ctypes.Structure):
    _fields_ = (("content", c_uint8 * _ROOM_FOR_A_STRUCT),)


class _ContextParams(ctypes.Structure):
    _fields_ = (
        ("n_ctx", c_uint32),
        ("n_batch", c_uint32),
        ("n_ubatch", c_uint32),
        ("n_seq_max", c_uint32),
        ("content", c_uint8 * _ROOM_FOR_A_STRUCT),
    )


class _Batch(ctypes.Structure):
    _fields_ = (
        ("n_tokens", c_int32),
        ("token", POINTER(c_int32)),
        ("embd", POINTER(c_float)),
        ("pos", POINTER(c_int32)),
        ("n_seq_id", POINTER(c_int32)),
        ("seq_id", POINTER(POINTER(c_int32))),
        ("logits", POINTER(c_int8)),
    )


_LOG = ctypes.CFUNCTYPE(None, ctypes.c_int, c_char_p, c_void_p)
_silent = _LOG(lambda *_: None)  # it would speak of the model on stderr
# Name: result, arguments.
_FUNCTIONS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "llama_log_set": (None, (_LOG, c_void_p)),
    "llama_backend_init": (None, ()),
    "llama_model_default_params": (_ModelParams, ()),
    "llama_model_load_from_file": (c_void_p, (c_char_p, _ModelParams)),
    "llama_model_free": (None, (c_void_p,)),
    "llama_model_get_vocab": (c_void_p, (c_void_p,)),
    "llama_model_n_ctx_train": (c_int32, (c_void_p,)),
    "llama_model_n_layer": (c_int32, (c_void_p,)),
    "llama_model_n_head": (c_int32, (c_void_p,)),
    "llama_model_n_head_kv": (c_int32, (c_void_p,)),
    "llama_model_n_embd": (c_int32, (c_void_p,)),
    "llama_model_meta_val_str": (c_int32, (c_void_p, c_char_p, c_char_p, c_size_t)),
    "llama_vocab_n_tokens": (c_int32, (c_void_p,)),
    "llama_context_default_params": (_ContextParams, ()),
    "llama_init_from_model": (c_void_p, (c_void_p, _ContextParams)),
    "llama_free": (None, (c_void_p,)),
    "llama_n_batch": (c_uint32, (c_void_p,)),
    "llama_n_ubatch": (c_uint32, (c_void_p,)),
    "llama_n_seq_max": (c_uint32, (c_void_p,)),
    "llama_n_ctx_seq": (c_uint32, (c_void_p,)),
    "llama_set_n_threads": (None, (c_void_p, c_int32, c_int32)),
    "llama_batch_init": (_Batch, (c_int32, c_int32, c_int32)),
    "llama_batch_free": (None, (_Batch,)),
    "llama_decode": (c_int32, (c_void_p, _Batch)),
    "llama_get_logits_ith": (c_void_p, (c_void_p, c_int32)),
    "llama_get_memory": (c_void_p, (c_void_p,)),
    "llama_memory_seq_rm": (c_bool, (c_void_p, c_int32, c_int32, c_int32)),
}


def is_installed() -> bool:
    """Tell whether llama.cpp is here."""
    return _library_file() is not None


def _library_file() -> Path | None:
    # find_spec looks the package up without running its code; its module is the library.
    spec = importlib.util.find_spec(PACKAGE)
    folders = spec.submodule_search_locations if spec else None
    return next((path for folder in folders or () for path in sorted(Path(folder).glob(f"{PACKAGE}*.so"))), None)


@functools.cache
def _library() -> Any:
    path = _library_file()
    if path is None:
        raise InputError(f"the package {PACKAGE}, which holds llama.cpp, is not installed", INSTALL)
    try:
        library = ctypes.CDLL(str(path))
        for name, (result, arguments) in _FUNCTIONS.items():
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
    except (OSError, AttributeError) as error:
        raise InputError(f"llama.cpp in the package {PACKAGE} cannot be used: {error}", INSTALL) from error
    library.llama_log_set(_silent, None)
    library.llama_backend_init()
    return library


def pick_threads() -> int:
    """Return how many threads compute: ``OMP_NUM_THREADS``, else the cores that this process may use."""
    usable = len(usable_cores())
    given = os.environ.get("OMP_NUM_THREADS", "")
    if given.isdecimal() and int(given) > 0:
        return int(given)
    return max(1, min(usable, psutil.cpu_count(logical=False) or usable))


class LlamaWeights:
    """The weights of a GGUF file, mapped into memory.

    Args:
        path: the file; its header is checked (``read_header``) by the caller, since llama.cpp trusts it.

    Raises:
        InputError: llama.cpp is not here or cannot load the file.
    """

    def __init__(self, path: Path) -> None:
        self._library = _library()
        self._model = self._library.llama_model_load_from_file(
            os.fsencode(path), self._library.llama_model_default_params()
        )
        if not self._model:
            raise InputError(
                f"llama.cpp cannot load {path}",
                "it may be damaged, or of an architecture that it does not know; --set generate.engine=transformers",
            )
        self.vocabulary_size = int(self._library.llama_vocab_n_tokens(self._library.llama_model_get_vocab(self._model)))
        self.context_length = int(self._library.llama_model_n_ctx_train(self._model))

    def token_bytes(self) -> int:
        """Return the bytes of keys and values of one token."""
        library, model = self._library, self._model
        # Where the file says it: heads of Qwen3 and Gemma are larger than their part of the width.
        stated = self._metadata(f"{self._metadata('general.architecture')}.attention.key_length")
        own_part = library.llama_model_n_embd(model) // max(1, library.llama_model_n_head(model))
        head_size = int(stated) if stated.isdecimal() else own_part
        per_layer = library.llama_model_n_head_kv(model) * head_size * 2 * _KEY_BYTES
        return int(library.llama_model_n_layer(model) * per_layer)

    def _metadata(self, key: str) -> str:
        """Return a value of the file's header as text; empty: it has none."""
        text = ctypes.create_string_buffer(_ROOM_FOR_A_VALUE)
        self._library.llama_model_meta_val_str(self._model, key.encode(), text, len(text))
        return text.value.decode(errors="replace")

    def pick_sequences(self, wanted: int, tokens_each: int) -> int:
        """Return how many sequences of so many tokens fit into a quarter of the free memory, at most ``wanted``."""
        free = psutil.virtual_memory().available * _SHARE_OF_MEMORY
        return max(1, min(wanted, int(free // max(1, self.token_bytes() * tokens_each))))

    def open(self, num_sequences: int, tokens_each: int) -> LlamaContext:
        """Make room for sequences.

        Raises:
            MedqaError: llama.cpp refuses it.
        """
        return LlamaContext(self._library, self._model, self.vocabulary_size, num_sequences, tokens_each)

    def close(self) -> None:
        """Release the weights; their contexts must be closed before."""
        if self._model:
            self._library.llama_model_free(self._model)
            self._model = None


class LlamaContext:
    """Sequences of tokens that one model reads; ``open`` of ``LlamaWeights`` makes it.

    ``num_sequences`` and ``tokens_each`` say how many there may be and how long.
    """

    def __init__(self, library: Any, model: Any, vocabulary_size: int, num_sequences: int, tokens_each: int) -> None:
        self._library, self._vocabulary_size = library, vocabulary_size
        self._logits_type = c_float * vocabulary_size
        self.num_sequences = num_sequences
        self.tokens_each = -(-tokens_each // _CONTEXT_STEP) * _CONTEXT_STEP
        self.tokens_at_once = min(self.tokens_each * num_sequences, max(_TOKENS_AT_ONCE, num_sequences))
        wanted = library.llama_context_default_params()
        wanted.n_ctx, wanted.n_seq_max = self.tokens_each * num_sequences, num_sequences
        wanted.n_batch = wanted.n_ubatch = self.tokens_at_once
        self._context = library.llama_init_from_model(model, wanted)
        if not self._context:
            raise MedqaError(
                f"llama.cpp has no room for {num_sequences} answers of {tokens_each:,} tokens",
                "lower generate.batch_size, generate.max_new_tokens or serve.max_requests",
            )
        expected = {
            "n_ctx_seq": self.tokens_each,
            "n_seq_max": num_sequences,
            "n_batch": self.tokens_at_once,
            "n_ubatch": self.tokens_at_once,
        }
        found = {name: int(getattr(library, f"llama_{name}")(self._context)) for name in expected}
        if found != expected:  # llama.h has changed
            self.close()
            raise MedqaError(
                f"this {PACKAGE} is of a version that medqa does not know: {found}, not {expected}", INSTALL
            )
        threads = pick_threads()
        library.llama_set_n_threads(self._context, threads, threads)
        self._memory = library.llama_get_memory(self._context)
        self._batch = library.llama_batch_init(self.tokens_at_once, 0, 1)

    def read(self, parts: Sequence[tuple[int, int, Sequence[int], bool]]) -> dict[int, NDArray[np.float32]]:
        """Read more tokens of some sequences.

        Args:
            parts: sequence, position of its first new token, its new token ids, and whether the logits after them are
                wanted; all together ``tokens_at_once`` ids at most.

        Returns:
            the ``(V,)`` logits by sequence, which may be changed; the next call writes over them.

        Raises:
            MedqaError: llama.cpp failed.
        """
        count = 0
        last: dict[int, int] = {}
        for sequence, position, ids, is_wanted in parts:
            for offset, token_id in enumerate(ids, start=1):
                self._put(count, token_id, position + offset - 1, sequence, is_wanted and offset == len(ids))
                count += 1
            if is_wanted:
                last[sequence] = count - 1
        self._decode(count)
        return {sequence: self._logits(index) for sequence, index in last.items()}

    def logits_at(self, ids: Sequence[int], places: Sequence[int]) -> NDArray[np.float32]:
        """Return the logits after the tokens at these places of a text, ``(N, V)``; the first sequence is used for it.

        Raises:
            MedqaError: llama.cpp failed.
        """
        found = np.empty((len(places), self._vocabulary_size), np.float32)
        row_of = {place: row for row, place in enumerate(places)}
        self.forget(0, 0)
        for start in range(0, len(ids), self.tokens_at_once):
            part = range(start, min(start + self.tokens_at_once, len(ids)))
            for place in part:
                self._put(place - start, ids[place], place, 0, place in row_of)
            self._decode(len(part))
            for place in row_of.keys() & set(part):
                found[row_of[place]] = self._logits(place - start)
        self.forget(0, 0)
        return found

    def _put(self, index: int, token_id: int, position: int, sequence: int, is_wanted: bool) -> None:
        batch = self._batch
        batch.token[index] = token_id
        batch.pos[index] = position
        batch.n_seq_id[index] = 1
        batch.seq_id[index][0] = sequence
        batch.logits[index] = is_wanted

    def _decode(self, count: int) -> None:
        self._batch.n_tokens = count
        status = self._library.llama_decode(self._context, self._batch)
        if status:
            raise MedqaError(f"llama.cpp failed at {count} tokens (status {status})", "try fewer answers at once")

    def _logits(self, index: int) -> NDArray[np.float32]:
        address = self._library.llama_get_logits_ith(self._context, index)
        values: Any = self._logits_type.from_address(address)
        return np.frombuffer(values, np.float32)

    def forget(self, sequence: int, position: int) -> bool:
        """Forget the tokens of a sequence from a position on; False: it cannot forget a part, and nothing is done."""
        return bool(self._library.llama_memory_seq_rm(self._memory, sequence, position, -1))

    def close(self) -> None:
        """Release the sequences."""
        if self._context:
            if hasattr(self, "_batch"):
                self._library.llama_batch_free(self._batch)
            self._library.llama_free(self._context)
            self._context = None
