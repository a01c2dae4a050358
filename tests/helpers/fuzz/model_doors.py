"""Doors of models: config.json, weights, tokenizer, chat template and adapter, opened as the commands open them."""

import functools
import json
import random
import shutil
import tempfile
from pathlib import Path
from typing import Any

from helpers.fuzz.driver import Door, collected, raise_worst
from helpers.fuzz.known import (
    ADAPTER_KEYS,
    CONFIG_KEYS,
    GENERATION_KEYS,
    PROMPT_KEYS,
    TEMPLATES,
    TOKENIZER_CONFIG_KEYS,
    TOKENIZER_KEYS,
)
from helpers.fuzz.mutations import Known, change_bytes, change_json_file, change_value, dumped
from helpers.fuzz.quick import confine_by_forking

_GOOD = tempfile.TemporaryDirectory(prefix="good-")  # goes with the process


@functools.cache
def good_files() -> Path:
    """A folder with a tiny model and an adapter on it; everything that opens them has been imported."""
    import torch

    from helpers.models import make_chatml_tokenizer, make_tiny_model
    from medqa_cli.config.schema import LoraConfig, PromptConfig
    from medqa_cli.model.lora import add_lora
    from medqa_cli.prompt.contract import make_contract

    torch.set_num_threads(1)
    confine_by_forking()
    folder = Path(_GOOD.name)
    tokenizer = make_chatml_tokenizer()
    make_tiny_model(len(tokenizer)).save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    lora = LoraConfig(r=4, lora_alpha=8, target_modules=("q_proj", "v_proj"))
    adapted = add_lora(load(folder / "model"), lora, str(folder / "model"), None)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.02)
    adapted.save_pretrained(folder / "adapter")
    make_contract(PromptConfig(template="llama2"), tokenizer).save(folder / "adapter")
    for open_it in (open_config, open_weights, open_tokenizer, open_template):
        open_it(folder / "model")
    open_adapter(folder / "adapter", folder / "model")
    return folder


def load(path: Path, source: Any = None) -> Any:
    """The model of a folder or file, unquantized, on the CPU."""
    import torch

    from medqa_cli.config.schema import ModelConfig
    from medqa_cli.model.load import load_base
    from medqa_cli.model.resolve import find_base

    settings = ModelConfig(name_or_path="x", quantization="none")
    source = source or find_base(str(path))
    return load_base(source, settings, torch.device("cpu"), torch.float32, packed=False)


def check_logits(model: Any) -> None:
    import torch

    with torch.no_grad():
        logits = model(torch.tensor([[1, 2, 3, 4]])).logits
    assert bool(logits.isfinite().all()), "logits are no numbers, and nothing was said"


def config(rng: random.Random, folder: Path) -> None:
    copied = shutil.copytree(good_files() / "model", folder / "model")
    known: tuple[str, Known] = ("config.json", CONFIG_KEYS)
    name, keys = ("generation_config.json", GENERATION_KEYS) if rng.random() < 0.15 else known
    change_json_file(copied / name, rng, keys)
    open_config(copied)


def open_config(folder: Path) -> None:
    from medqa_cli.merging.architecture import build_architecture
    from medqa_cli.model.load import load_config
    from medqa_cli.model.resolve import find_base

    errors: list[BaseException] = []
    with collected(errors):
        base = find_base(str(folder))
        load_config(base.location, base.revision)
        model = load(folder)
        check_logits(model)
        assert sum(p.numel() for p in model.parameters()) < 10**7, "a model of another size was loaded"
    with collected(errors):
        build_architecture(folder)
    raise_worst(errors)


def weights(rng: random.Random, folder: Path) -> None:
    copied = shutil.copytree(good_files() / "model", folder / "model")
    path = copied / "model.safetensors"
    kind = rng.choice(["index", "index", "bytes", "bytes", "header", "header", "pickle"])
    if kind == "index":
        change_index(path, rng)
    elif kind == "bytes":
        path.write_bytes(change_bytes(path.read_bytes(), rng))
    elif kind == "header":
        content = path.read_bytes()
        size = int.from_bytes(content[:8], "little")
        known = {"__metadata__": [3, {"format": "tf"}, {"a": 3}, None]}
        text = dumped(change_value(json.loads(content[8 : 8 + size]), rng, known)).encode("utf-8", "surrogatepass")
        path.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + size :])
    else:
        change_to_pickle(path, rng)
    open_weights(copied)


def change_index(path: Path, rng: random.Random) -> None:
    """Make two files and an index of the weights, and change the index."""
    from safetensors.torch import load_file, save_file

    tensors = load_file(path)
    names = list(tensors)
    weight_map: dict[str, str] = {}
    for number, part in enumerate((names[: len(names) // 2], names[len(names) // 2 :]), start=1):
        shard = f"model-{number:05d}-of-00002.safetensors"
        save_file({name: tensors[name] for name in part}, path.with_name(shard), metadata={"format": "pt"})
        weight_map |= dict.fromkeys(part, shard)
    path.unlink()
    index = path.with_name("model.safetensors.index.json")
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map}))
    odd: list[Any] = ["../x", "", "\0", "missing.safetensors", index.name, {"a": "b"}, ".", "config.json"]
    maps = [{names[0]: value} for value in odd] + [[], {}, "x", {f"t{i}": "x" for i in range(10**5)}]
    maps.append({**weight_map, "extra": "model-00001-of-00002.safetensors"})
    change_json_file(index, rng, {"weight_map": maps, "metadata": ["x", None, {"total_size": "x"}]})


def change_to_pickle(path: Path, rng: random.Random) -> None:
    """Put a pickle that is no state dict in the weights' place, and sometimes change its bytes."""
    import torch
    from safetensors.torch import load_file

    tensors = load_file(path)
    path.unlink()
    name, first = next(iter(tensors.items()))
    # fmt: off
    odd_tensors: list[Any] = [
        "x", None, torch.zeros(3), first.to_sparse(), first.to(torch.complex64), torch.nn.Parameter(first),
        torch.empty(first.shape, device="meta"), torch.zeros(1).expand(10**7, 10**5),
    ]
    odd_files: list[Any] = [
        [1, 2], None, "x", {}, {3: torch.zeros(2)}, torch.zeros(3), {"a": {"b": tensors}}, {"model": tensors},
        {"state_dict": tensors}, tensors, {n: t.int() for n, t in tensors.items()}, dict(list(tensors.items())[:-1]),
    ]
    # fmt: on
    file = path.with_name("pytorch_model.bin")
    torch.save(rng.choice([*odd_files, *({**tensors, name: odd} for odd in odd_tensors)]), file)
    if rng.random() < 0.4:
        file.write_bytes(change_bytes(file.read_bytes(), rng))


def open_weights(folder: Path) -> None:
    from medqa_cli.model.weights import WeightFiles

    errors: list[BaseException] = []
    with collected(errors):
        load(folder)
    with collected(errors):
        files = WeightFiles.open(folder)
        for name in files.tensors:
            for _ in files.pieces(name):
                pass
        files.close()
    raise_worst(errors)


def tokenizer(rng: random.Random, folder: Path) -> None:
    copied = shutil.copytree(good_files() / "model", folder / "model")
    main = [("tokenizer.json", TOKENIZER_KEYS)] * 6 + [("tokenizer_config.json", TOKENIZER_CONFIG_KEYS)] * 5
    added: Known = {"<y>": [10**9, "x", -1, None]}
    name, known = rng.choice(
        [*main, ("special_tokens_map.json", TOKENIZER_CONFIG_KEYS), ("added_tokens.json", added), ("", {})]
    )
    if not name:
        (copied / rng.choice(["tokenizer.json", "tokenizer_config.json"])).unlink()
    else:
        if not (copied / name).exists():
            (copied / name).write_text(json.dumps({"<x>": 500}))
        change_json_file(copied / name, rng, known)
    open_tokenizer(copied)


def open_tokenizer(folder: Path) -> None:
    from medqa_cli.config.schema import PromptConfig
    from medqa_cli.model.load import load_tokenizer
    from medqa_cli.prompt.contract import make_contract
    from medqa_cli.prompt.encoder import PromptEncoder

    loaded = load_tokenizer(str(folder))
    encoder = PromptEncoder(make_contract(PromptConfig(template="llama2"), loaded), loaded)
    ids = encoder.encode_prompt("What is glaucoma? " + "aaaaaaaaaaaaaaaaaaaa! " * 3)
    example = encoder.encode_examples(["How to treat asthma?"], ["With inhaled medicines. " * 20], 64)
    encoder.decode_answer([*ids, *example[0].input_ids])


def template(rng: random.Random, folder: Path) -> None:
    copied = shutil.copytree(good_files() / "model", folder / "model")
    path = copied / "chat_template.jinja"
    good, text = path.read_text(), rng.choice(TEMPLATES)
    cut = rng.randrange(len(good) + 1)
    changed = change_bytes(good.encode(), rng).decode("utf-8", "replace")
    text = rng.choice([text, good + text, text + good, good[:cut] + text + good[cut:], changed])
    place = rng.randrange(4)
    if place == 0:
        path.unlink()
        file = copied / "tokenizer_config.json"
        named = [{"name": "default", "template": text}, {"name": "tool_use", "template": good}]
        file.write_text(json.dumps(json.loads(file.read_text()) | {"chat_template": rng.choice([text, named])}))
    elif place == 1:
        path.unlink()
        (copied / "chat_template.json").write_text(json.dumps({"chat_template": text}))
        (copied / "additional_chat_templates").mkdir()
        (copied / "additional_chat_templates" / "default.jinja").write_text(text, errors="surrogatepass")
    else:
        path.write_text(text, errors="surrogatepass")
    open_template(copied)


def open_template(folder: Path) -> None:
    from medqa_cli.config.schema import PromptConfig
    from medqa_cli.model.load import load_tokenizer
    from medqa_cli.prompt.contract import make_contract
    from medqa_cli.prompt.encoder import PromptEncoder

    loaded = load_tokenizer(str(folder))
    contract = make_contract(PromptConfig(template="chat"), loaded)
    written = len(contract.text.before_question + contract.text.after_question)
    assert written <= 10**6, "a prompt of a million characters was accepted"
    PromptEncoder(contract, loaded).encode_prompt("What is glaucoma?")


def adapter(rng: random.Random, folder: Path) -> None:
    copied = shutil.copytree(good_files() / "adapter", folder / "adapter")
    kind = rng.choice(["config"] * 8 + ["prompt", "weights", "weights"])
    if kind == "weights":
        path = copied / "adapter_model.safetensors"
        path.write_bytes(change_bytes(path.read_bytes(), rng))
    else:
        name, known = ("prompt.json", PROMPT_KEYS) if kind == "prompt" else ("adapter_config.json", ADAPTER_KEYS)
        change_json_file(copied / name, rng, known)
    open_adapter(copied, good_files() / "model")


def open_adapter(folder: Path, base: Path) -> None:
    import torch

    from medqa_cli.merging.adapter_file import AdapterFile, expected_tensors
    from medqa_cli.model.load import base_of_adapter, load_adapter
    from medqa_cli.model.resolve import ModelRef
    from medqa_cli.prompt.contract import PromptContract

    errors: list[BaseException] = []
    with collected(errors):
        base_of_adapter(folder)
        PromptContract.load(folder)
    model = load(base, ModelRef("x", str(base), "folder"))
    with collected(errors):
        adapted = load_adapter(model, folder)
        with torch.no_grad():
            adapted(torch.tensor([[1, 2, 3, 4]]))
    with collected(errors):
        AdapterFile(folder)
        expected_tensors(base, folder)
    raise_worst(errors)


DOORS = {each.__name__: Door(each, good_files) for each in (config, weights, tokenizer, template, adapter)}
