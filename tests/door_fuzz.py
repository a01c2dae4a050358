"""Hostile model, tokenizer, adapter and GGUF files, made from good ones by seeded changes, and what each ends in.

``python tests/door_fuzz.py DOOR FIRST COUNT`` tries other seeds than the suite does. Each change runs in a worker
process under limits of memory and time; a worker that dies or hangs is replaced.
"""

from __future__ import annotations

import contextlib
import copy
import json
import os
import pickle
import random
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from door_hostile import (
    ADAPTER_KEYS,
    CONFIG_KEYS,
    GENERATION_KEYS,
    PROMPT_KEYS,
    TEMPLATES,
    TOKENIZER_CONFIG_KEYS,
    TOKENIZER_KEYS,
)

SECONDS_PER_CASE = 60
BYTES_PER_CASE = 2 << 30
_DEEP = 3000
_ODD: list[Any] = [
    None,
    True,
    False,
    -1,
    0,
    1,
    2,
    3,
    7,
    2**15,
    2**31,
    2**31 - 1,
    2**40,
    2**63,
    10**30,
    -(2**31),
    0.0,
    0.5,
    -0.5,
    1e308,
    1e-300,
    float("nan"),
    float("inf"),
    float("-inf"),
    "",
    "x",
    "null",
    "1",
    "nan",
    "\x00",
    "\x1b[2J",
    "\ud800",
    "../..",
    "/etc/passwd",
    "a" * 100_000,
    [],
    {},
    [None],
    [[]],
    [0],
    [1, 2, 3],
    ["x"],
    {"": ""},
    {"a": None},
    {"a": {"b": []}},
    [{}] * 3,
    "{{ 1 }}",
    "(a+)+$",
    "auto",
    "float16",
    "int8",
    "meta",
    list(range(5000)),
]


def paths_of(value: Any, prefix: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a JSON value."""
    yield prefix
    if len(prefix) > 12:
        return
    inner = value.items() if isinstance(value, dict) else enumerate(value[:40]) if isinstance(value, list) else ()
    for key, below in inner:
        yield from paths_of(below, (*prefix, key))


def changed_json(value: Any, rng: random.Random, more: dict[str, list[Any]]) -> Any:
    """Change one to three places of a JSON value: types, sizes, deletions, copies, nesting, new keys."""
    sys.setrecursionlimit(100_000)  # for values of any depth; set back by ``dumps``
    value = copy.deepcopy(value)
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        if more and isinstance(value, dict) and rng.random() < 0.45:
            key = rng.choice(list(more))
            value[key] = copy.deepcopy(rng.choice(more[key] if rng.random() < 0.6 and more[key] else _ODD))
            continue
        path = rng.choice(list(paths_of(value)) or [()])
        if not path:
            if rng.random() < 0.1:
                value = copy.deepcopy(rng.choice(_ODD))
            continue
        parent = value
        for key in path[:-1]:
            parent = parent[key]
        _change(parent, path[-1], rng)
    return value


def _change(parent: Any, key: Any, rng: random.Random) -> None:
    old = parent[key]
    how = rng.randrange(9)
    if how <= 3:
        parent[key] = copy.deepcopy(rng.choice(_ODD))
    elif how == 4:
        del parent[key]
    elif how == 5 and isinstance(old, int | float):
        parent[key] = rng.choice(
            [old + 1, old - 1, old * 2, -old, old // 2 if old else 5, str(old), [old], old * 10**6]
        )
    elif how == 5:
        parent[key] = rng.choice([[old], {"a": old}, str(old)])
    elif how == 6 and isinstance(old, list) and old:
        parent[key] = rng.choice([old * 2, old[:-1], old[1:], [*old, rng.choice(old)], [old[0]] * 1000])
    elif how == 6 and isinstance(parent, dict):
        parent[f"{key}_"] = parent.pop(key)
    elif how == 7:
        others = list(parent) if isinstance(parent, dict) else list(range(len(parent)))
        other = rng.choice(others)
        parent[key], parent[other] = parent[other], parent[key]
    else:
        nested: Any = old
        for _ in range(rng.choice([5, 50, _DEEP])):
            nested = [nested] if rng.random() < 0.5 else {"a": nested}
        parent[key] = nested


def changed_bytes(content: bytes, rng: random.Random) -> bytes:
    """Change the bytes of a file: bits, lengths, what stands before or behind."""
    data = bytearray(content)
    how = rng.randrange(8)
    if how == 0:
        return bytes(data[: rng.randrange(len(data) + 1)])
    if how == 1:
        for _ in range(rng.choice([1, 3, 30])):
            if data:
                data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    elif how == 2:
        start = rng.randrange(len(data) + 1)
        data[start:start] = rng.randbytes(rng.choice([1, 8, 1000]))
    elif how == 3:
        return rng.choice(
            [b"", b"\x00" * 100, b"[" * 200_000, b'{"a":' * 100_000, b" " * 10**7, b"\xff\xfe{}", b"null", b"[]", b"{}"]
        )
    elif how == 4:
        return rng.choice([b"\xef\xbb\xbf", b"\n", b"[]", b"\xff"]) + content
    elif how == 5:
        start = rng.randrange(len(data) + 1)
        del data[start : start + rng.choice([1, 8, 100])]
    elif how == 6 and len(data) > 16:
        start = rng.randrange(min(len(data) - 8, 4000))
        data[start : start + 8] = struct.pack("<Q", rng.choice([0, 1, 2**31, 2**32 - 1, 2**40, 2**63, 2**64 - 1]))
    else:
        return content + content
    return bytes(data)


def change_file(path: Path, rng: random.Random, more: dict[str, list[Any]] | None = None, raw: float = 0.12) -> None:
    """Change a JSON file in place; a share ``raw`` of the changes is to its bytes."""
    content = path.read_bytes() if path.is_file() else b"{}"
    if rng.random() < raw:
        path.write_bytes(changed_bytes(content, rng))
        return
    value = changed_json(json.loads(content), rng, more or {})
    path.write_text(dumps(value), encoding="utf-8", errors="surrogatepass")


def dumps(value: Any) -> str:
    """``json.dumps`` for values of any depth."""
    sys.setrecursionlimit(100_000)
    try:
        return json.dumps(value)
    finally:
        sys.setrecursionlimit(1000)


# --------------------------------------------------------------------------------------------------------------- doors


class Doors:
    """The good files, and for each door: how to change a copy of them with a seed, and how to open it."""

    def __init__(self, good: Path) -> None:
        self.good = good
        self._base: Any = None

    def names(self) -> list[str]:
        return ["config", "weights", "tokenizer", "template", "adapter", "gguf"]

    def change(self, door: str, folder: Path, seed: int) -> None:
        """Lay a changed copy into ``folder``."""
        rng = random.Random(f"{door}-{seed}")
        source = {"adapter": "adapter", "gguf": "gguf"}.get(door, "model")
        shutil.copytree(self.good / source, folder)
        getattr(self, f"_change_{door}")(folder, rng)

    def open(self, door: str, folder: Path) -> None:
        """Do what the commands do with it."""
        getattr(self, f"_open_{door}")(folder)

    def _change_config(self, folder: Path, rng: random.Random) -> None:
        if rng.random() < 0.15:
            change_file(folder / "generation_config.json", rng, GENERATION_KEYS)
        else:
            change_file(folder / "config.json", rng, CONFIG_KEYS)

    def _open_config(self, folder: Path) -> None:
        import torch

        from medqa_cli.config.schema import ModelConfig
        from medqa_cli.merging.skeleton import build_skeleton
        from medqa_cli.model.base import load_base, stored_dtype_of
        from medqa_cli.model.source import find_base

        source = find_base(str(folder))
        first: Any = None
        try:
            stored_dtype_of(source)
            settings = ModelConfig(name_or_path="x", quantization="none")
            model = load_base(source, settings, torch.device("cpu"), torch.float32, packed=False)
            ids = torch.tensor([[1, 2, 3, 4]])
            with torch.no_grad():
                logits = model(ids).logits
            if sum(p.numel() for p in model.parameters()) > 10**7:
                raise AssertionError("a model of another size was loaded")
            if not bool(logits.isfinite().all()):
                raise AssertionError("logits are no numbers, and nothing was said")
        except BaseException as error:
            first = error
        build_skeleton(folder)
        if first is not None:
            raise first

    def _change_weights(self, folder: Path, rng: random.Random) -> None:
        import torch
        from safetensors.torch import load_file, save_file

        kind = rng.choice(["index", "index", "safetensors", "safetensors", "header", "header", "pickle"])
        weights = folder / "model.safetensors"
        tensors = load_file(weights)
        names = list(tensors)
        if kind == "index":
            half = len(names) // 2
            weight_map = {}
            for number, part in enumerate((names[:half], names[half:])):
                shard = f"model-{number + 1:05d}-of-00002.safetensors"
                save_file({name: tensors[name] for name in part}, folder / shard, metadata={"format": "pt"})
                weight_map |= dict.fromkeys(part, shard)
            weights.unlink()
            index = folder / "model.safetensors.index.json"
            index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map}))
            more = {
                "weight_map": [
                    {names[0]: "../x"},
                    {names[0]: ""},
                    {names[0]: "\x00"},
                    {names[0]: "missing.safetensors"},
                    [],
                    {},
                    "x",
                    {names[0]: "model.safetensors.index.json"},
                    {names[0]: {"a": "b"}},
                    {f"t{i}": "x" for i in range(10**5)},
                    {**weight_map, "extra": "model-00001-of-00002.safetensors"},
                    {names[0]: "."},
                    {names[0]: "config.json"},
                ],
                "metadata": ["x", None, {"total_size": "x"}],
            }
            change_file(index, rng, more)
        elif kind == "safetensors":
            weights.write_bytes(changed_bytes(weights.read_bytes(), rng))
        elif kind == "header":
            content = weights.read_bytes()
            size = int.from_bytes(content[:8], "little")
            header = changed_json(
                json.loads(content[8 : 8 + size]), rng, {"__metadata__": [3, {"format": "tf"}, {"a": 3}, None]}
            )
            text = dumps(header).encode("utf-8", "surrogatepass")
            weights.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + size :])
        else:
            weights.unlink()
            path = folder / "pytorch_model.bin"
            odd: list[Any] = [
                [1, 2],
                None,
                "x",
                {"model": tensors},
                {"state_dict": tensors},
                {3: torch.zeros(2)},
                {},
                torch.zeros(3),
                {**tensors, names[0]: "x"},
                {**tensors, names[0]: torch.zeros(3)},
                {**tensors, names[0]: tensors[names[0]].to_sparse()},
                {**tensors, names[0]: tensors[names[0]].to(torch.complex64)},
                {**tensors, names[0]: None},
                tensors,
                {n: t.int() for n, t in tensors.items()},
                {**tensors, names[0]: torch.empty(tensors[names[0]].shape, device="meta")},
                {**tensors, names[0]: torch.zeros(1).expand(10**7, 10**5)},
                dict(list(tensors.items())[:-1]),
                {**tensors, names[0]: torch.nn.Parameter(tensors[names[0]])},
                {"a": {"b": tensors}},
            ]
            torch.save(rng.choice(odd), path)
            if rng.random() < 0.4:
                path.write_bytes(changed_bytes(path.read_bytes(), rng))

    def _open_weights(self, folder: Path) -> None:
        import torch

        from medqa_cli.config.schema import ModelConfig
        from medqa_cli.model.base import load_base
        from medqa_cli.model.source import find_base
        from medqa_cli.model.weight_files import WeightFiles

        first: Any = None
        try:
            settings = ModelConfig(name_or_path="x", quantization="none")
            load_base(find_base(str(folder)), settings, torch.device("cpu"), torch.float32, packed=False)
        except BaseException as error:
            first = error
        files = WeightFiles.open(folder)
        for name in files.names:
            for _ in files.pieces(name):
                pass
        files.close()
        if first is not None:
            raise first

    def _change_tokenizer(self, folder: Path, rng: random.Random) -> None:
        kind = rng.choice(
            ["tokenizer.json"] * 6
            + ["tokenizer_config.json"] * 5
            + ["special_tokens_map.json", "added_tokens.json", "removed"]
        )
        if kind == "removed":
            (folder / rng.choice(["tokenizer.json", "tokenizer_config.json"])).unlink()
        elif kind == "tokenizer.json":
            change_file(folder / kind, rng, TOKENIZER_KEYS)
        elif kind == "tokenizer_config.json":
            change_file(folder / kind, rng, TOKENIZER_CONFIG_KEYS)
        else:
            (folder / kind).write_text(
                json.dumps({"bos_token": "<|im_start|>", "<x>": 500} if "map" in kind else {"<x>": 500})
            )
            change_file(folder / kind, rng, TOKENIZER_CONFIG_KEYS if "map" in kind else {"<y>": [10**9, "x", -1, None]})

    def _open_tokenizer(self, folder: Path) -> None:
        from medqa_cli.config.schema import PromptConfig
        from medqa_cli.model.base import load_tokenizer
        from medqa_cli.prompt import PromptEncoder, make_contract

        tokenizer = load_tokenizer(str(folder))
        encoder = PromptEncoder(make_contract(PromptConfig(template="llama2"), tokenizer), tokenizer)
        ids = encoder.encode_prompt("What is glaucoma? " + "aaaaaaaaaaaaaaaaaaaa! " * 3)
        example = encoder.encode_examples(["How to treat asthma?"], ["With inhaled medicines. " * 20], 64)
        encoder.decode_answer([*ids, *example[0].input_ids])

    def _change_template(self, folder: Path, rng: random.Random) -> None:
        good = (folder / "chat_template.jinja").read_text() if (folder / "chat_template.jinja").is_file() else ""
        template = rng.choice(TEMPLATES)
        how = rng.randrange(5)
        if how == 0:
            template = good + template
        elif how == 1:
            template = template + good
        elif how == 2:
            cut = rng.randrange(len(good) + 1)
            template = good[:cut] + template + good[cut:]
        elif how == 3:
            template = changed_bytes(good.encode(), rng).decode("utf-8", "replace")
        place = rng.randrange(4)
        if place == 0:
            (folder / "chat_template.jinja").unlink(missing_ok=True)
            path = folder / "tokenizer_config.json"
            named = [{"name": "default", "template": template}, {"name": "tool_use", "template": good}]
            config = json.loads(path.read_text()) | {"chat_template": rng.choice([template, named])}
            path.write_text(json.dumps(config))
        elif place == 1:
            (folder / "chat_template.jinja").unlink(missing_ok=True)
            (folder / "chat_template.json").write_text(json.dumps({"chat_template": template}))
            (folder / "additional_chat_templates").mkdir()
            (folder / "additional_chat_templates" / "default.jinja").write_text(template, errors="surrogatepass")
        else:
            (folder / "chat_template.jinja").write_text(template, errors="surrogatepass")

    def _open_template(self, folder: Path) -> None:
        from medqa_cli.config.schema import PromptConfig
        from medqa_cli.model.base import load_tokenizer
        from medqa_cli.prompt import PromptEncoder, make_contract

        tokenizer = load_tokenizer(str(folder))
        contract = make_contract(PromptConfig(template="chat"), tokenizer)
        if len(contract.text.before_question + contract.text.after_question) > 10**6:
            raise AssertionError("a prompt of a million characters was accepted")
        PromptEncoder(contract, tokenizer).encode_prompt("What is glaucoma?")

    def _change_adapter(self, folder: Path, rng: random.Random) -> None:
        kind = rng.choice(["config"] * 8 + ["prompt", "weights", "weights"])
        if kind == "config":
            change_file(folder / "adapter_config.json", rng, ADAPTER_KEYS)
        elif kind == "prompt":
            change_file(folder / "prompt.json", rng, PROMPT_KEYS)
        else:
            path = folder / "adapter_model.safetensors"
            path.write_bytes(changed_bytes(path.read_bytes(), rng))

    def _open_adapter(self, folder: Path) -> None:
        import torch

        from medqa_cli.config.schema import ModelConfig
        from medqa_cli.merging.adapter_file import AdapterFile
        from medqa_cli.merging.skeleton import expected_tensors
        from medqa_cli.model.adapter import base_of_adapter, load_adapter
        from medqa_cli.model.base import load_base
        from medqa_cli.model.source import BaseSource
        from medqa_cli.prompt import PromptContract

        outcomes: list[BaseException] = []
        with collected(outcomes):
            base_of_adapter(folder)
            PromptContract.load(folder)
        source = BaseSource("x", str(self.good / "model"), "folder")
        settings = ModelConfig(name_or_path="x", quantization="none")
        model = load_base(source, settings, torch.device("cpu"), torch.float32, packed=False)
        with collected(outcomes):
            adapted = load_adapter(model, folder)
            with torch.no_grad():
                adapted(torch.tensor([[1, 2, 3, 4]]))
        with collected(outcomes):
            AdapterFile(folder)
            expected_tensors(self.good / "model", folder)
        raise_worst(outcomes)

    def _change_gguf(self, folder: Path, rng: random.Random) -> None:
        path = folder / "m.gguf"
        path.write_bytes(changed_gguf(path.read_bytes(), rng))

    def _open_gguf(self, folder: Path) -> None:
        import torch

        from medqa_cli.config.schema import ModelConfig
        from medqa_cli.model.base import load_base, load_tokenizer
        from medqa_cli.model.source import find_base

        os.environ["MEDQA_CACHE_DIR"] = str(folder / "cache")
        source = find_base(str(folder / "m.gguf"))
        tokenizer = load_tokenizer(source.location)
        tokenizer.decode(tokenizer("What is glaucoma?")["input_ids"])
        settings = ModelConfig(name_or_path="x", quantization="none")
        model = load_base(source, settings, torch.device("cpu"), torch.float32, packed=False)
        with torch.no_grad():
            if not bool(model(torch.tensor([[1, 2, 3]])).logits.isfinite().all()):
                raise AssertionError("logits are no numbers, and nothing was said")


@contextlib.contextmanager
def collected(outcomes: list[BaseException]) -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        outcomes.append(error)


def raise_worst(outcomes: list[BaseException]) -> None:
    """Raise the first that is not a refusal, else the first."""
    from medqa_cli.errors import MedqaError

    bad = [error for error in outcomes if not isinstance(error, MedqaError)]
    if bad or outcomes:
        raise (bad or outcomes)[0]


def changed_gguf(content: bytes, rng: random.Random) -> bytes:
    """Change counts, types, values and names of a GGUF file."""
    data = bytearray(content)
    places = gguf_places(content)
    for _ in range(rng.choice([1, 1, 2])):
        kind, offset, size = rng.choice(places)
        if kind == "count":
            data[offset : offset + size] = rng.choice(
                [0, 1, 5, 10**7, 2**31, 2**32 - 1, 2**40, 2**63, 2**64 - 1]
            ).to_bytes(8, "little")[:size]
        elif kind == "type":
            data[offset : offset + size] = rng.choice([0, 3, 4, 6, 7, 8, 9, 10, 12, 13, 99, 2**31]).to_bytes(
                8, "little"
            )[:size]
        elif kind == "value":
            odd = [0, 1, 3, 2**15, 2**31, 2**31 - 1, 2**32 - 1, 10**9, 2**63 - 1]
            data[offset : offset + size] = (
                struct.pack("<f", rng.choice([0, -1, 1e38, float("nan"), float("inf")]))
                if size == 4 and rng.random() < 0.3
                else rng.choice(odd).to_bytes(8, "little")[:size]
            )
        elif size:
            text = rng.choice(
                [b"\x1b[2J\x07", b"\xff\xfe", b"gpt2", b"llama", b"\x00", b"../..", b"qwen2", b"mistral", b"{{ 1"]
            )
            data[offset : offset + size] = (text * size)[:size]
    if rng.random() < 0.15:
        return changed_bytes(bytes(data), rng)
    return bytes(data)


def gguf_places(content: bytes) -> list[tuple[str, int, int]]:
    """Where the counts, types, values and texts of a (good) GGUF file stand: kind, offset, bytes."""
    sizes = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
    places = [("count", 4, 4), ("count", 8, 8), ("count", 16, 8)]
    at = 24

    def text() -> None:
        nonlocal at
        length = int.from_bytes(content[at : at + 8], "little")
        places.append(("count", at, 8))
        places.append(("text", at + 8, length))
        at += 8 + length

    for _ in range(int.from_bytes(content[16:24], "little")):
        text()
        kind = int.from_bytes(content[at : at + 4], "little")
        places.append(("type", at, 4))
        at += 4
        if kind == 8:
            text()
        elif kind == 9:
            inner, count = struct.unpack_from("<IQ", content, at)
            places.extend([("type", at, 4), ("count", at + 4, 8)] * 3)
            at += 12
            for number in range(count):
                if inner == 8:
                    before = len(places)
                    text()
                    if number > 3:
                        del places[before:]
                else:
                    at += sizes[inner]
        else:
            places.extend([("value", at, sizes[kind])] * 2)
            at += sizes[kind]
    for _ in range(int.from_bytes(content[8:16], "little")):
        text()
        dims = int.from_bytes(content[at : at + 4], "little")
        places.append(("count", at, 4))
        at += 4
        places.extend(("count", at + 8 * i, 8) for i in range(dims))
        at += 8 * dims
        places.extend([("type", at, 4), ("count", at + 4, 8)])
        at += 12
    return places


# -------------------------------------------------------------------------------------------------------------- workers


def make_good(folder: Path) -> None:
    """Make the good files: a tiny model, an adapter on it, a GGUF file of the same shape."""
    import conftest
    import torch

    tokenizer = conftest.make_chatml_tokenizer()
    model = conftest.make_tiny_model(len(tokenizer))
    model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    make_adapter(folder, tokenizer)
    make_gguf(folder / "gguf" / "m.gguf", model, tokenizer)
    torch.manual_seed(0)


def make_adapter(folder: Path, tokenizer: Any) -> None:
    import torch

    from medqa_cli.config.schema import LoraConfig, ModelConfig, PromptConfig
    from medqa_cli.model.adapter import add_lora
    from medqa_cli.model.base import load_base
    from medqa_cli.model.source import find_base
    from medqa_cli.prompt import make_contract

    settings = ModelConfig(name_or_path="x", quantization="none")
    base = load_base(find_base(str(folder / "model")), settings, torch.device("cpu"), torch.float32, packed=False)
    lora = LoraConfig(r=4, lora_alpha=8, target_modules=("q_proj", "v_proj"))
    adapted = add_lora(base, lora, str(folder / "model"), None)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.02)
    adapted.save_pretrained(folder / "adapter")
    make_contract(PromptConfig(template="llama2"), tokenizer).save(folder / "adapter")


def make_gguf(path: Path, model: Any, tokenizer: Any) -> None:
    """Write a Llama of the tiny model's shape, float32, with a byte-level vocabulary."""
    import gguf

    path.parent.mkdir(parents=True, exist_ok=True)
    config = model.config
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_context_length(512)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_dimension_count(16)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_vocab_size(config.vocab_size)
    saved = json.loads(tokenizer.backend_tokenizer.to_str())
    texts = sorted(saved["model"]["vocab"], key=saved["model"]["vocab"].get)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(texts)
    writer.add_token_types([3 if text.startswith("<|") else 1 for text in texts])
    writer.add_token_merges([" ".join(pair) for pair in saved["model"]["merges"]])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    names = {
        "model.embed_tokens.weight": "token_embd.weight",
        "model.norm.weight": "output_norm.weight",
        "input_layernorm.weight": "attn_norm.weight",
        "post_attention_layernorm.weight": "ffn_norm.weight",
        "self_attn.q_proj.weight": "attn_q.weight",
        "self_attn.k_proj.weight": "attn_k.weight",
        "self_attn.v_proj.weight": "attn_v.weight",
        "self_attn.o_proj.weight": "attn_output.weight",
        "mlp.gate_proj.weight": "ffn_gate.weight",
        "mlp.up_proj.weight": "ffn_up.weight",
        "mlp.down_proj.weight": "ffn_down.weight",
    }
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight":
            continue
        parts = name.split(".", 3)
        new = names.get(name) or f"blk.{parts[2]}.{names[parts[3]]}"
        writer.add_tensor(new, tensor.float().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def outcome_of(action: Callable[[], None]) -> tuple[str, str]:
    """Run it; return ``loaded``, ``refused``, ``memory``, ``silent`` or ``traceback``, and what was said."""
    from medqa_cli.errors import MedqaError

    try:
        action()
    except MedqaError as error:
        return "refused", error.message
    except AssertionError as error:
        return "silent", str(error)
    except MemoryError as error:
        return "memory", repr(error)
    except (Exception, SystemExit) as error:
        if "can't allocate memory" in str(error):
            return "memory", str(error)[:200]
        return "traceback", f"{type(error).__name__}: {error}"[:300] + " @ " + "".join(
            traceback.format_tb(error.__traceback__)[-1:]
        ).strip()[:200]
    return "loaded", ""


def worker(good: Path) -> None:
    """Read lines ``DOOR SEED`` from stdin, try each, write one JSON line to the real stdout."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    import torch

    torch.set_num_threads(1)
    if os.environ.get("DOOR_QUICK"):
        confine_by_forking()
    doors = Doors(good)
    doors_open_once(doors)
    own = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (own + BYTES_PER_CASE, own + BYTES_PER_CASE))
    out.write("ready\n")
    out.flush()
    for line in sys.stdin:
        door, seed = line.split()
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch) / "case"
            doors.change(door, folder, int(seed))
            started = time.monotonic()
            found, said = outcome_of(lambda d=door, f=folder: doors.open(d, f))
        out.write(json.dumps([door, int(seed), found, said, round(time.monotonic() - started, 2)]) + "\n")
        out.flush()


def confine_by_forking() -> None:
    """Let what runs in a child of its own run in a fork of this process: ten times as quick, with stricter limits."""
    import jinja2.sandbox  # noqa: F401 -- so that no fork has to

    from medqa_cli import chat_rendering
    from medqa_cli.errors import InputError
    from medqa_cli.model import adapter_config, tokenizer_file

    def call(function: Callable[..., Any], *arguments: Any, what: str, hint: str, limits: Any) -> Any:
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)
            signal.setitimer(signal.ITIMER_PROF, 0.5)
            try:
                message = pickle.dumps((True, function(*arguments)))
            except BaseException as error:
                message = pickle.dumps((False, str(error)))
            with os.fdopen(writing, "wb") as pipe:
                pipe.write(message)
            os._exit(0)
        os.close(writing)
        with os.fdopen(reading, "rb") as pipe:
            message = pipe.read()
        os.waitpid(child, 0)
        if not message:
            raise InputError(f"{what} cannot be read: it does not end", hint)
        worked, value = pickle.loads(message)
        if not worked:
            raise InputError(f"{what} cannot be read: {value}", hint)
        return value

    for module in (chat_rendering, tokenizer_file, adapter_config):
        module.call = call  # type: ignore[attr-defined]


def doors_open_once(doors: Doors) -> None:
    """Open each good file once, so that later ones find all imported."""
    for door in doors.names():
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch) / "case"
            shutil.copytree(doors.good / {"adapter": "adapter", "gguf": "gguf"}.get(door, "model"), folder)
            doors.open(door, folder)


def run_in_two(doors: list[str], seeds: list[int], good: Path) -> list[list[Any]]:
    """Try the seeds at all these doors, in two worker processes at a time."""
    cases = [(door, seed) for door in doors for seed in seeds]
    with ThreadPoolExecutor(2) as pool:
        halves = list(pool.map(lambda start: run_cases(cases[start::2], good), (0, 1)))
    return halves[0] + halves[1]


def run_cases(cases: list[tuple[str, int]], good: Path) -> list[list[Any]]:
    """Try doors with seeds in worker processes; one that dies or hangs counts as ``abort`` or ``hang``."""
    results: list[list[Any]] = []
    process: Any = None
    for door, seed in cases:
        if process is None:
            process = _started(good)
        process.stdin.write(f"{door} {seed}\n")
        process.stdin.flush()
        timer = threading.Timer(SECONDS_PER_CASE, process.kill)
        started = time.monotonic()
        timer.start()
        line = process.stdout.readline()
        timer.cancel()
        if line:
            results.append(json.loads(line))
            continue
        code = process.wait()
        found = "hang" if time.monotonic() - started >= SECONDS_PER_CASE - 1 else "abort"
        results.append([door, seed, found, f"exit {code}", round(time.monotonic() - started, 2)])
        process = None
    if process is not None:
        process.stdin.close()
        process.wait()
    return results


def _started(good: Path) -> subprocess.Popen[str]:
    command = [sys.executable, __file__, "worker", str(good)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True)
    assert process.stdout is not None
    ready = process.stdout.readline()
    if ready != "ready\n":
        raise RuntimeError("the worker did not start")
    return process


def main() -> None:
    """Try seeds of one door and print how they ended."""
    if sys.argv[1] == "worker":
        worker(Path(sys.argv[2]))
        return
    door, first, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    with tempfile.TemporaryDirectory() as scratch:
        good = Path(os.environ.get("DOOR_GOOD") or scratch)
        if not (good / "model").is_dir():
            make_good(good)
        results = run_cases([(door, seed) for seed in range(first, first + count)], good)
    for one in results:
        sys.stdout.write(json.dumps(one) + "\n")
    sys.stderr.write(f"{door}: {dict(Counter(one[2] for one in results))}, {sum(one[4] for one in results):.0f} s\n")


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        main()
