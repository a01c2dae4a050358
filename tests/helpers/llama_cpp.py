"""What llama.cpp makes of a text: its ids, by its C API."""

import ctypes
from typing import Any

from medqa_cli.model import llamacpp
from medqa_cli.model.llamacpp import LlamaWeights


def llama_ids(weights: LlamaWeights, text: str) -> list[int]:
    """The ids of a text with special tokens in it."""
    library: Any = llamacpp._library()
    library.llama_tokenize.restype = ctypes.c_int32
    library.llama_tokenize.argtypes = (
        *(ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int32),
        *(ctypes.POINTER(ctypes.c_int32), ctypes.c_int32, ctypes.c_bool, ctypes.c_bool),
    )
    encoded, room = text.encode(), (ctypes.c_int32 * 2048)()
    vocabulary = library.llama_model_get_vocab(weights._model)
    count = library.llama_tokenize(vocabulary, encoded, len(encoded), room, len(room), True, True)
    return list(room[:count])
