"""The adapter folder: PEFT files, tokenizer, prompt contract and model card, whole or not at all.

Does not decide which weights it gets; ``run`` does.
"""

from __future__ import annotations

import copy
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from medqa_cli.errors import MedqaError
from medqa_cli.files import atomic_dir, read_json, write_json
from medqa_cli.model.adapter_init import as_plain_lora, plain_lora_config
from medqa_cli.prompt.chat_template import install_chat_template
from medqa_cli.prompt.encoder import PromptContract
from medqa_cli.training.checkpoint_files import sync_folder, writing

WEIGHTS_NAME = "adapter_model.safetensors"
CONFIG_NAME = "adapter_config.json"
CARD_NAME = "README.md"


@dataclass(frozen=True)
class AdapterParts:
    """What an adapter folder is made of; ``card`` is the text of its README.md.

    ``weights``: the trained parameters of a model that lies in parts on several ranks; None: the model has them whole.
    """

    tokenizer: Any
    contract: PromptContract
    card: str
    weights: dict[str, torch.Tensor] | None = None


def save_adapter(adapter_dir: Path, model: Any, checkpoint: Path | None, parts: AdapterParts) -> None:
    """Write the folder and check its weights before it takes its place.

    Args:
        adapter_dir: where it appears; an earlier one stays where this fails.
        model: the PEFT model after its last step.
        checkpoint: take the weights of this checkpoint instead; None: those of ``model``.
        parts: all else.

    Raises:
        MedqaError: the weights are not finite or have no effect.
        NotWrittenError: the disk is full or failed.
    """
    with writing(adapter_dir), atomic_dir(adapter_dir) as temporary:
        if checkpoint is None:
            # save_embedding_layers=False: otherwise PEFT asks the hub whether the vocabulary was resized.
            model.save_pretrained(temporary, state_dict=parts.weights, save_embedding_layers=False)
        else:
            for name in (WEIGHTS_NAME, CONFIG_NAME):
                shutil.copyfile(checkpoint / name, temporary / name)
        _make_plain(temporary, model)
        _check_weights(temporary / WEIGHTS_NAME)
        # Its template is how other tools ask; nobody in this process needs to see it.
        tokenizer = copy.deepcopy(parts.tokenizer)
        install_chat_template(tokenizer, parts.contract)
        tokenizer.save_pretrained(temporary)
        parts.contract.save(temporary)
        # In the place of PEFT's card, a template of questions.
        (temporary / CARD_NAME).write_text(parts.card, encoding="utf-8")
        # safetensors makes its files private; those of a result are as readable as the others.
        shutil.copymode(temporary / CARD_NAME, temporary / WEIGHTS_NAME)
        sync_folder(temporary)


def _make_plain(folder: Path, model: Any) -> None:
    """Rewrite an adapter that started inside the base's weights (PiSSA) as one to the untouched base."""
    plain = as_plain_lora(model, load_file(folder / WEIGHTS_NAME))
    if plain is not None:
        save_file(plain, folder / WEIGHTS_NAME, metadata={"format": "pt"})
        write_json(folder / CONFIG_NAME, plain_lora_config(read_json(folder / CONFIG_NAME)))


def _check_weights(path: Path) -> None:
    has_effect = False
    with safe_open(path, "pt") as file:
        for name in file.keys():  # noqa: SIM118 -- safe_open's handle is no mapping
            tensor = file.get_tensor(name)
            if not bool(tensor.isfinite().all()):
                raise MedqaError(
                    "the adapter holds values that are not finite: the last step diverged; no adapter was saved",
                    "lower train.learning_rate, then start over with: medqa train --restart",
                )
            # Adapters of embedding layers are named lora_embedding_B.
            if "lora_B" in name or "lora_embedding_B" in name:
                has_effect = has_effect or bool(tensor.count_nonzero())
    if not has_effect:
        raise MedqaError(
            "the adapter has no effect: all its B matrices are still zero, so it answers exactly like the base model",
            "check train.learning_rate and train.max_steps (no adapter was saved), then: medqa train --restart",
        )
