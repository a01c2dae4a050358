"""Checks that the header of a GGUF file matches its bytes: counts, lengths, alignment, shapes, sizes of the model.

The library that reads these files takes counts as they stand, and Transformers builds as many layers as the header
says. The table of tensor types is the package ``gguf``'s, which takes half a second to import.
"""

import mmap
import re
import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

# Formats of struct by the type's number; 8 is a text, 9 an array (https://github.com/ggml-org/ggml, docs/gguf.md).
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_TEXT, _ARRAY = 8, 9
_VERSIONS = (2, 3)
# The most that a published file has, with room: 300,000 tokens and merges, some 1,500 tensors, 60 values.
_MOST_ELEMENTS = 1 << 22
_MOST_TENSORS = 1 << 16
_MOST_VALUES = 1 << 12
_MOST_NAME = 1 << 10
_MOST_DIMENSIONS = 4
_MOST_ALIGNMENT = 1 << 16
_MOST_LAYERS = 1 << 12
_LEARNED_POSITIONS = ("gpt2", "starcoder", "bloom")  # one vector for each position
_SIZES = (
    "block_count",
    "embedding_length",
    "feed_forward_length",
    "attention.head_count",
    "vocab_size",
    "context_length",
    "rope.dimension_count",
)
_NAME = re.compile(r"[a-z0-9_.\-]+", re.I)


class GgmlType(NamedTuple):
    """A type of values: its name, how many values are packed together, and in how many bytes."""

    name: str
    block: int
    block_bytes: int


# By number: https://github.com/ggml-org/ggml, docs/gguf.md.
GGML_TYPES: dict[int, GgmlType] = {
    0: GgmlType("f32", 1, 4),
    1: GgmlType("f16", 1, 2),
    2: GgmlType("q4_0", 32, 18),
    3: GgmlType("q4_1", 32, 20),
    6: GgmlType("q5_0", 32, 22),
    7: GgmlType("q5_1", 32, 24),
    8: GgmlType("q8_0", 32, 34),
    9: GgmlType("q8_1", 32, 40),
    10: GgmlType("q2_k", 256, 84),
    11: GgmlType("q3_k", 256, 110),
    12: GgmlType("q4_k", 256, 144),
    13: GgmlType("q5_k", 256, 176),
    14: GgmlType("q6_k", 256, 210),
    15: GgmlType("q8_k", 256, 292),
    16: GgmlType("iq2_xxs", 256, 66),
    17: GgmlType("iq2_xs", 256, 74),
    18: GgmlType("iq3_xxs", 256, 98),
    19: GgmlType("iq1_s", 256, 50),
    20: GgmlType("iq4_nl", 32, 18),
    21: GgmlType("iq3_s", 256, 110),
    22: GgmlType("iq2_s", 256, 82),
    23: GgmlType("iq4_xs", 256, 136),
    24: GgmlType("i8", 1, 1),
    25: GgmlType("i16", 1, 2),
    26: GgmlType("i32", 1, 4),
    27: GgmlType("i64", 1, 8),
    28: GgmlType("f64", 1, 8),
    29: GgmlType("iq1_m", 256, 56),
    30: GgmlType("bf16", 1, 2),
    34: GgmlType("tq1_0", 256, 54),
    35: GgmlType("tq2_0", 256, 66),
    39: GgmlType("mxfp4", 32, 17),
    40: GgmlType("nvfp4", 64, 36),
    41: GgmlType("q1_0", 128, 18),
}


class BadHeader(ValueError):
    """What is wrong with a header, as a phrase."""


@dataclass(frozen=True)
class GgufTensor:
    """What a header says of one tensor. ``kind``: number of its type; ``offset``: from the first tensor's byte."""

    name: str
    shape: tuple[int, ...]
    kind: int
    offset: int


@dataclass(frozen=True)
class GgufHeader:
    """The values of a header (of arrays only the first elements), its tensors, and its own length in bytes."""

    values: dict[str, Any]
    tensors: list[GgufTensor]
    num_bytes: int


def read_header(path: Path) -> GgufHeader:
    """Read and check the header of a GGUF file.

    Raises:
        BadHeader: it does not go with the file, or speaks of more than any model has.
    """
    size = path.stat().st_size
    if not size:
        raise BadHeader("it is empty")
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        header = _Reader(content).header()
    _check_values(header, size)
    _check_places(header, size)
    return header


def refuse_what_would_be_lost(header: GgufHeader) -> None:
    """Refuse a Llama whose GGUF file says more than Transformers' loader takes over: answers would be subtly wrong.

    Transformers 5 (``integrations/ggml.py``) reads neither a scaling of the rotary embedding nor, for ``llama``, the
    biases of the attention.

    Raises:
        NotImplementedError: the file has one of them.
    """
    if header.values["general.architecture"] != "llama":
        return
    scaling = header.values.get("llama.rope.scaling.type")
    biases = ("attn_q.bias", "attn_k.bias", "attn_v.bias", "attn_output.bias")
    lost = ""
    names = {tensor.name for tensor in header.tensors}
    if "rope_freqs.weight" in names or scaling not in (None, "none"):
        lost = "a scaling of the rotary embedding (as Llama 3.1 has)"
    elif any(name.endswith(biases) for name in names):
        lost = "biases in the attention"
    if lost:
        raise NotImplementedError(f"it has {lost}, which would be lost; take the model's safetensors folder or hub id")


class _Reader:
    def __init__(self, content: mmap.mmap) -> None:
        self._content, self._size, self._at = content, len(content), 0

    def header(self) -> GgufHeader:
        if self._take(4) != b"GGUF":
            raise BadHeader("it does not begin with GGUF")
        version = self._number("I")
        if version not in _VERSIONS:
            raise BadHeader(f"it has version {version}; {' and '.join(map(str, _VERSIONS))} are known")
        num_tensors = self._count(_MOST_TENSORS, 24, "tensors")
        num_values = self._count(_MOST_VALUES, 13, "values")
        values: dict[str, Any] = {}
        for _ in range(num_values):
            name = self._name()
            if name in values:
                raise BadHeader(f"it has {name} twice")
            values[name] = self._value(self._number("I"), name)
        tensors = []
        for _ in range(num_tensors):
            name, num_dimensions = self._name(), self._number("I")
            if num_dimensions > _MOST_DIMENSIONS:
                raise BadHeader(f"the tensor {name} has {num_dimensions:,} dimensions")
            shape = tuple(self._number("Q") for _ in range(num_dimensions))
            tensors.append(GgufTensor(name, shape, self._number("I"), self._number("Q")))
        if len({tensor.name for tensor in tensors}) != len(tensors):
            raise BadHeader("two of its tensors have the same name")
        return GgufHeader(values, tensors, self._at)

    def _value(self, kind: int, name: str) -> Any:
        if kind == _TEXT:
            return self._text()
        if kind != _ARRAY:
            return self._number(self._format(kind, name))
        inner = self._number("I")
        if inner == _ARRAY:
            raise BadHeader(f"{name} is an array of arrays")
        if inner == _TEXT:
            count = self._count(_MOST_ELEMENTS, 8, f"elements of {name}")
            shown = [self._text() for _ in range(min(count, 8))]
            self._skip_texts(count - len(shown))
            return shown
        width = struct.calcsize(f"<{self._format(inner, name)}")
        count = self._count(_MOST_ELEMENTS, width, f"elements of {name}")
        taken = min(count, 8)
        raw = self._take(taken * width)
        self._at += (count - taken) * width  # there is room for them
        return list(struct.unpack(f"<{taken}{self._format(inner, name)}", raw))

    def _format(self, kind: int, name: str) -> str:
        if kind not in _SCALARS:
            raise BadHeader(f"{name} is of type {kind}, which is none")
        return _SCALARS[kind]

    def _number(self, form: str) -> Any:
        return struct.unpack(f"<{form}", self._take(struct.calcsize(f"<{form}")))[0]

    def _count(self, most: int, least_bytes: int, what: str) -> int:
        """Read a count of things that take at least so many bytes each."""
        count = int(self._number("Q"))
        if count > most or count * least_bytes > self._size - self._at:
            raise BadHeader(f"it speaks of {count:,} {what}, for which there is no room in its {self._size:,} bytes")
        return count

    def _text(self) -> str:
        return self._take(self._count(self._size, 1, "bytes of a text")).decode("utf-8", "replace")

    def _name(self) -> str:
        name = self._text()
        if len(name) > _MOST_NAME or not _NAME.fullmatch(name):
            raise BadHeader("a name in it holds other characters than letters, digits, '.', '_' and '-'")
        return name

    def _skip_texts(self, count: int) -> None:
        """Go behind so many texts: a vocabulary has 100,000, and a file is asked at each start."""
        length_at, content, at = struct.Struct("<Q").unpack_from, self._content, self._at
        try:
            for _ in range(count):
                at += 8 + length_at(content, at)[0]
        except (struct.error, OverflowError) as error:
            raise BadHeader("it is cut short") from error
        if at > self._size:
            raise BadHeader("it is cut short")
        self._at = at

    def _take(self, count: int) -> bytes:
        taken = self._content[self._at : self._at + count]
        if len(taken) != count:
            raise BadHeader("it is cut short")
        self._at += count
        return taken


def _check_values(header: GgufHeader, num_bytes: int) -> None:
    """Check the values that say what the model is, and sizes that its file has room for."""
    values = header.values
    architecture = values.get("general.architecture")
    if not isinstance(architecture, str) or not _NAME.fullmatch(architecture):
        raise BadHeader("general.architecture is not the name of an architecture")
    alignment = values.get("general.alignment", 32)
    # A power of two.
    if type(alignment) is not int or not 0 < alignment <= _MOST_ALIGNMENT or alignment & (alignment - 1):
        raise BadHeader(f"general.alignment is {alignment}, expected a power of two up to {_MOST_ALIGNMENT:,}")
    parts = values.get("split.count", 1)
    if parts not in (0, 1):
        raise BadHeader(f"it is one of {parts} parts of a model; join them with llama-gguf-split --merge")
    if not isinstance(values.get("general.name", ""), str):
        raise BadHeader("general.name is not text")
    sizes: dict[str, int] = {}
    for name in _SIZES:
        value = values.get(f"{architecture}.{name}")
        elements = value if isinstance(value, list) else [] if value is None else [value]
        if not all(type(element) is int and 0 < element < 1 << 31 for element in elements):
            raise BadHeader(f"{architecture}.{name} is {value}, expected a number above 0")
        sizes[name] = max(elements, default=1)
    if sizes["block_count"] > min(_MOST_LAYERS, max(1, len(header.tensors))):
        raise BadHeader(
            f"{architecture}.block_count is {sizes['block_count']:,}, and there are {len(header.tensors):,} tensors"
        )
    if sizes["rope.dimension_count"] > sizes["embedding_length"]:
        raise BadHeader(f"{architecture}.rope.dimension_count is {sizes['rope.dimension_count']:,}")
    width, most = sizes["embedding_length"], 8 * num_bytes
    grow = ["feed_forward_length", "attention.head_count", "vocab_size", "embedding_length"]
    if architecture in _LEARNED_POSITIONS:
        grow.append("context_length")
    for name in grow:
        times = 1 if name in ("vocab_size", "context_length") else sizes["block_count"]
        if times * width * sizes[name] > most:
            raise BadHeader(f"{architecture}.{name} is {sizes[name]:,}, too much for a file of {num_bytes:,} bytes")


def _check_places(header: GgufHeader, num_bytes: int) -> None:
    """Check that the tensors lie one behind the other and end in the file, as llama.cpp does."""
    alignment = header.values.get("general.alignment", 32)
    expected = 0
    for tensor in sorted(header.tensors, key=lambda tensor: tensor.offset):
        if tensor.kind not in GGML_TYPES:
            raise BadHeader(f"the tensor {tensor.name} is of type {tensor.kind}, which is none")
        _, block, block_bytes = GGML_TYPES[tensor.kind]
        if not tensor.shape or tensor.shape[0] % block:
            raise BadHeader(f"the tensor {tensor.name} has rows that do not divide into blocks of {block}")
        if tensor.offset != expected:
            raise BadHeader(f"the tensor {tensor.name} begins at {tensor.offset:,}, expected {expected:,}")
        end = expected + prod(tensor.shape) // block * block_bytes
        if header.num_bytes + end > num_bytes:
            raise BadHeader(f"the tensor {tensor.name} ends behind the end of the file")
        expected = -(-end // alignment) * alignment
