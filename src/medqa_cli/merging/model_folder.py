"""What stands beside the weights of a merged model: config, generation config, tokenizer, prompt contract.

With them the folder is a plain Transformers model that other tools load as it is. Does not write weights (``writing``)
or the model card (``cards``).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from medqa_cli import console
from medqa_cli.config.schema import PromptConfig
from medqa_cli.errors import InputError
from medqa_cli.files import read_json, write_json
from medqa_cli.model.load import load_tokenizer
from medqa_cli.prompt.chat_template import install_chat_template
from medqa_cli.prompt.encoder import PROMPT_FILE_NAME, PromptContract, make_contract

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "tokenizer_config.json")


def load_contract(adapter_dir: Path, base_dir: Path, prompt: PromptConfig) -> tuple[PromptContract, Any]:
    """Load the prompt contract of an adapter and its tokenizer.

    An adapter that medqa did not train has no ``prompt.json``: its contract is then made from the config's prompt
    section, and the user is told. Its tokenizer may be the base's.

    Raises:
        InputError: the contract is damaged, or there is no tokenizer.
    """
    has_own = any((adapter_dir / name).is_file() for name in _TOKENIZER_FILES)
    tokenizer = load_tokenizer(str(adapter_dir if has_own else base_dir))
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
    _write_generation_config(folder, base_dir, contract)
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
        folder: where it goes.
        base_dir: where the base's lies.
        untied: embedding and output layer now differ.
        dtype: the type that all weights are written in; None: the base's.
    """
    config: dict[str, Any] = read_json(base_dir / "config.json")
    config.pop("_name_or_path", None)
    if dtype is not None:
        # Transformers 4 called it torch_dtype; of a model of several parts each has its own.
        for part in (config, *(part for part in config.values() if isinstance(part, dict))):
            for key in ("dtype", "torch_dtype"):
                if key in part:
                    part[key] = str(dtype).removeprefix("torch.")
        config.setdefault("torch_dtype" if "dtype" not in config else "dtype", str(dtype).removeprefix("torch."))
    if untied:
        config["tie_word_embeddings"] = False
        for part in config.values():
            if isinstance(part, dict) and part.get("tie_word_embeddings"):
                part["tie_word_embeddings"] = False
    write_json(folder / "config.json", config)


def _write_generation_config(folder: Path, base_dir: Path, contract: PromptContract) -> None:
    path = base_dir / "generation_config.json"
    config = read_json(path) if path.is_file() else {}
    if not isinstance(config, dict):
        raise InputError(f"{path} is damaged: not an object", "copy or download it again")
    config["eos_token_id"] = list(contract.stop_token_ids)
    if contract.bos_token_id is not None:
        config["bos_token_id"] = contract.bos_token_id
    # Early Llama-2 folders name a temperature without sampling, which Transformers no longer takes.
    if not config.get("do_sample") and any(config.get(key) not in (None, 1.0) for key in ("temperature", "top_p")):
        config["do_sample"] = True
    (folder / "generation_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
