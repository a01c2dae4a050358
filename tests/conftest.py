"""Tiny models and tokenizers built in the process, and a runner for the command line. Nothing is downloaded."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

os.environ.update(HF_HUB_OFFLINE="1", NO_COLOR="1", COLUMNS="200", CUDA_VISIBLE_DEVICES="")

CORPUS = [
    "What is glaucoma? Glaucoma is a disease of the optic nerve.",
    "How to treat asthma? Asthma is treated with inhaled medicines.",
    "Answer the Question about symptoms, causes and treatments of diseases.",
    "system user assistant Instruction Response Question Answer INST SYS",
] * 20

CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# The form of Llama-2's own template: it writes the BOS that the tokenizer adds as well.
LLAMA_CHAT = (
    "{% set system = messages[0]['content'] if messages[0]['role'] == 'system' else '' %}"
    "{% for message in messages %}{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' }}"
    "{% if system %}{{ '<<SYS>>\n' + system + '\n<</SYS>>\n\n' }}{% endif %}{{ message['content'] + ' [/INST]' }}"
    "{% elif message['role'] == 'assistant' %}{{ ' ' + message['content'] + ' ' + eos_token }}{% endif %}{% endfor %}"
)


def make_bos_tokenizer() -> Any:
    """A tokenizer in the manner of Llama 2: SentencePiece-like pieces, BOS added by itself, pad == unk."""
    from tokenizers import Tokenizer, decoders, models, normalizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    bytes_ = [f"<0x{value:02X}>" for value in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=420, special_tokens=["<unk>", "<s>", "</s>", *bytes_], show_progress=False)
    # Trained word by word: otherwise whole sentences become one token.
    tokenizer.train_from_iterator([word for text in CORPUS for word in text.split()], trainer)
    # The trainer takes the byte pieces only as special tokens; in Llama's tokenizer they are ordinary pieces.
    saved = json.loads(tokenizer.to_str())
    saved["added_tokens"] = [token for token in saved["added_tokens"] if token["content"] not in bytes_]
    tokenizer = Tokenizer.from_str(json.dumps(saved))
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        pad_token="<unk>",
        chat_template=LLAMA_CHAT,
    )


def make_chatml_tokenizer() -> Any:
    """A tokenizer in the manner of SmolLM2: byte-level pieces, no BOS of its own, pad == eos."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        unk_token="<|endoftext|>",
        pad_token="<|im_end|>",
        chat_template=CHATML,
    )


def chat_prompt_ids(tokenizer: Any, messages: list[dict[str, str]]) -> list[int]:
    """The ids that other tools get for a conversation, by Transformers itself."""
    found = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=True, return_dict=False)
    return list(found)


def make_tiny_model(vocabulary_size: int, **changes: Any) -> Any:
    """A two-layer Llama with grouped attention, float32, seeded."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    values = {
        "vocab_size": vocabulary_size,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "tie_word_embeddings": True,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    return LlamaForCausalLM(LlamaConfig(**values | changes))


@pytest.fixture(scope="session")
def bos_tokenizer() -> Any:
    return make_bos_tokenizer()


@pytest.fixture(scope="session")
def chatml_tokenizer() -> Any:
    return make_chatml_tokenizer()


@pytest.fixture(scope="session")
def tiny_model_dir(tmp_path_factory: pytest.TempPathFactory, chatml_tokenizer: Any) -> Path:
    """A saved tiny model with the ChatML tokenizer."""
    folder = tmp_path_factory.mktemp("tiny-model")
    make_tiny_model(len(chatml_tokenizer)).save_pretrained(folder)
    chatml_tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def talking_model_dir(tmp_path_factory: pytest.TempPathFactory, chatml_tokenizer: Any) -> Path:
    """A tiny model whose weights are so large that it says something else to each question, and for long."""
    import torch

    folder = tmp_path_factory.mktemp("talking-model")
    model = make_tiny_model(len(chatml_tokenizer))
    torch.manual_seed(3)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.data.normal_(std=0.2)
    model.save_pretrained(folder)
    chatml_tokenizer.save_pretrained(folder)
    return folder


@dataclass(frozen=True)
class Outcome:
    """What a command printed and how it ended."""

    code: int
    out: str
    err: str


@pytest.fixture
def medqa(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Outcome]:
    """Run ``medqa ARGS`` in this process through ``main``, as a user's shell would."""
    from medqa_cli.cli import main

    def run(*args: str | Path) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["medqa", *map(str, args)])
        capsys.readouterr()
        try:
            main()
            code = 0
        except SystemExit as ending:
            code = ending.code if isinstance(ending.code, int) else int(bool(ending.code))
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return run


def two_processes(folder: Path, script: str, *arguments: str) -> list[subprocess.CompletedProcess[str]]:
    """Run ``script`` twice at once, as torchrun would; return both outcomes, by rank."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    started = []
    for rank in range(2):
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        environment |= {"WORLD_SIZE": "2", "RANK": str(rank), "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": "2"}
        command = [sys.executable, "-c", script, *arguments]
        pipe = subprocess.PIPE
        started.append(subprocess.Popen(command, cwd=folder, env=environment, stdout=pipe, stderr=pipe, text=True))
    done = []
    for process in started:
        out, err = process.communicate(timeout=240)
        done.append(subprocess.CompletedProcess(process.args, process.returncode, out, err))
    return done
