"""The door of GGUF files: counts, types, values and names of a good file changed where they stand."""

import functools
import json
import os
import random
import struct
from pathlib import Path
from typing import Any

from helpers.fuzz.driver import Door
from helpers.fuzz.model_doors import check_logits, good_files, load
from helpers.fuzz.mutations import ODD_SIZES, change_bytes

# fmt: off
_ODD = {
    "count": [*ODD_SIZES, 5, 10**7],
    "type": [0, 3, 4, 6, 7, 8, 9, 10, 12, 13, 99, 2**31],
    "value": [0, 1, 3, 2**15, 2**31, 2**31 - 1, 2**32 - 1, 10**9, 2**63 - 1],
}
_ODD_FLOATS = [0, -1, 1e38, float("nan"), float("inf")]
_ODD_TEXTS = [b"\x1b[2J\x07", b"\xff\xfe", b"gpt2", b"llama", b"\x00", b"../..", b"qwen2", b"mistral", b"{{ 1"]
# fmt: on
Place = tuple[str, int, int]  # what stands there, offset, bytes


@functools.cache
def good_gguf() -> bytes:
    """The tiny model as a GGUF file."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = good_files() / "model"
    path = good_files() / "m.gguf"
    write_gguf(path, AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder))
    open_gguf(path)
    return path.read_bytes()


def write_gguf(path: Path, model: Any, tokenizer: Any) -> None:
    """Write a Llama in float32, with a byte-level vocabulary."""
    import gguf

    config = model.config
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    saved = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    texts = sorted(saved["vocab"], key=saved["vocab"].get)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(texts)
    writer.add_token_types([3 if text.startswith("<|") else 1 for text in texts])
    writer.add_token_merges([" ".join(pair) for pair in saved["merges"]])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for name, tensor in model.state_dict().items():
        if name != "lm_head.weight":  # tied
            writer.add_tensor(names.get_name(name, (".weight",)), tensor.float().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@functools.cache
def places() -> list[Place]:
    """Where the good file has its counts, types, values and texts; of long lists the first four."""
    import gguf

    good_gguf()
    reader = gguf.GGUFReader(good_files() / "m.gguf")
    found: list[Place] = [("count", 4, 4), ("count", 8, 8), ("count", 16, 8)]  # version, tensors, keys
    fields = [(field, _kinds(field.types)) for name, field in reader.fields.items() if not name.startswith("GGUF.")]
    in_tensor = ["count", "text", "count", "count", "type", "count"]
    for field, kinds in fields + [(tensor.field, in_tensor) for tensor in reader.tensors]:
        offset = field.offset
        for kind, part in zip(kinds, field.parts, strict=False):
            found.append((kind, offset, part.nbytes if kind == "text" else min(part.nbytes, 8)))
            offset += part.nbytes
    return found


def _kinds(types: list[Any]) -> list[str]:
    """What the parts of a key are: its name, its type, and what it holds."""
    names = [one.name for one in types]
    value = ["count", "text"] if names[-1] == "STRING" else ["value"]
    return ["count", "text", "type", *(["type", "count", *value * 4] if names[0] == "ARRAY" else value)]


def change_gguf(content: bytes, rng: random.Random) -> bytes:
    data = bytearray(content)
    for _ in range(rng.choice([1, 1, 2])):
        kind, offset, size = rng.choice(places())
        if kind == "text":
            new = rng.choice(_ODD_TEXTS) * size
        elif kind == "value" and size == 4 and rng.random() < 0.3:
            new = struct.pack("<f", rng.choice(_ODD_FLOATS))
        else:
            new = rng.choice(_ODD[kind]).to_bytes(8, "little")
        data[offset : offset + size] = new[:size]
    return change_bytes(bytes(data), rng) if rng.random() < 0.15 else bytes(data)


def try_gguf(rng: random.Random, folder: Path) -> None:
    path = folder / "m.gguf"
    path.write_bytes(change_gguf(good_gguf(), rng))
    open_gguf(path)


def open_gguf(path: Path) -> None:
    from medqa_cli.model.load import load_tokenizer
    from medqa_cli.model.resolve import find_base

    os.environ["MEDQA_CACHE_DIR"] = str(path.parent / "cache")
    source = find_base(str(path))
    tokenizer = load_tokenizer(source.location)
    tokenizer.decode(tokenizer("What is glaucoma?")["input_ids"])
    check_logits(load(path, source))


DOORS = {"gguf": Door(try_gguf, places)}
