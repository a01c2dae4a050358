"""Tokenizers in llama.cpp's terms: names of pre-tokenizers, scores, types, the space in front, and refusals."""

import copy
import json
from collections.abc import Callable
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
from gguf import TokenType

from helpers.models import CORPUS
from medqa_cli.config.schema import PromptConfig
from medqa_cli.errors import InputError
from medqa_cli.gguf.tokenizer import GgufTokenizer, byte_level_name, read_tokenizer, space_prefix
from medqa_cli.prompt.contract import PromptContract, make_contract

LLAMA3 = (
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*"
    "|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
)
QWEN2 = LLAMA3.replace("{1,3}", "")
Change = Callable[[dict[str, Any]], None]


def changed(tokenizer: Any, *changes: Change) -> Any:
    """The same tokenizer with another ``tokenizer.json``."""
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    saved = json.loads(tokenizer.backend_tokenizer.to_str())
    for change in changes:
        change(saved)
    names = ("bos_token", "eos_token", "unk_token", "pad_token", "chat_template")
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(saved)), **{name: getattr(tokenizer, name) for name in names}
    )


def contract_of(tokenizer: Any, template: str = "plain") -> PromptContract:
    return make_contract(PromptConfig(template=template, system=None), tokenizer)


def read(tokenizer: Any, vocab_size: int | None = None) -> GgufTokenizer:
    return read_tokenizer(tokenizer, vocab_size or len(tokenizer), contract_of(tokenizer))


def add_token(content: str, token_id: int, special: bool) -> Change:
    def change(saved: dict[str, Any]) -> None:
        flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
        saved["added_tokens"].append({"id": token_id, "content": content, "special": special, **flags})

    return change


# Byte-level


def splitting(pattern: str) -> list[dict[str, Any]]:
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    return [split, {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}]


BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
DIGITS = {"type": "Digits", "individual_digits": True}


def saved_with(steps: list[dict[str, Any]], ignore_merges: bool = False, **parts: Any) -> dict[str, Any]:
    pre_tokenizer = steps[0] if len(steps) == 1 else {"type": "Sequence", "pretokenizers": steps}
    return {"pre_tokenizer": pre_tokenizer, "model": {"type": "BPE", "ignore_merges": ignore_merges}, **parts}


@pytest.mark.parametrize(
    ("steps", "ignore_merges", "name"),
    [
        ([BYTE_LEVEL], False, "gpt-2"),
        ([DIGITS, BYTE_LEVEL], False, "smollm"),
        (splitting(LLAMA3), True, "llama-bpe"),
        (splitting(LLAMA3), False, "smaug-bpe"),
        (splitting(QWEN2), False, "qwen2"),
    ],
)
def test_names_of_byte_level_pre_tokenizers(steps: list[dict[str, Any]], ignore_merges: bool, name: str) -> None:
    assert byte_level_name(saved_with(steps, ignore_merges)) == (name, [])


@pytest.mark.parametrize(
    ("saved", "said"),
    [
        (saved_with([BYTE_LEVEL], ignore_merges=True), "ByteLevel"),
        (saved_with([{**BYTE_LEVEL, "add_prefix_space": True}]), "ByteLevel"),
        (saved_with([{"type": "Digits", "individual_digits": False}, BYTE_LEVEL]), r"Digits \+ ByteLevel"),
        (saved_with([{"type": "Whitespace"}]), "Whitespace"),
        (saved_with(splitting(QWEN2), ignore_merges=True), r"Split \+ ByteLevel"),
        (saved_with(splitting(LLAMA3.replace("3", "2"))), r"Split \+ ByteLevel"),
        (saved_with([{**splitting(QWEN2)[0], "invert": True}, splitting(QWEN2)[1]]), r"Split \+ ByteLevel"),
        (saved_with([DIGITS, splitting(QWEN2)[1]]), r"Digits \+ ByteLevel"),
        ({"pre_tokenizer": None, "model": {}}, "none"),
        (saved_with([BYTE_LEVEL], normalizer={"type": "NFKC"}), "NFKC"),
    ],
)
def test_unknown_pre_tokenizers_are_refused(saved: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        byte_level_name(saved)
    assert "convert_hf_to_gguf.py" in caught.value.hint


def test_nfc_is_said() -> None:
    name, warnings = byte_level_name(saved_with(splitting(QWEN2), normalizer={"type": "NFC"}))
    assert name == "qwen2"
    assert "NFC" in warnings[0]


def test_byte_level_tokens_and_ids_without_a_token(chatml_tokenizer: Any) -> None:
    size = len(chatml_tokenizer)
    tokenizer = changed(
        chatml_tokenizer, add_token("<think hard>", size, special=False), add_token("<|end|>", size + 1, special=True)
    )
    found = read(tokenizer, size + 4)
    assert found.tokens[size:] == ["<think hard>", "<|end|>", f"[PAD{size + 2}]", f"[PAD{size + 3}]"]
    assert [TokenType(kind).name for kind in found.types[size:]] == ["USER_DEFINED", "CONTROL", "UNUSED", "UNUSED"]
    assert [TokenType(kind).name for kind in found.types[:4]] == ["CONTROL"] * 3 + ["NORMAL"]
    merges = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    assert found.merges == [f"{left} {right}" for left, right in merges]
    assert (found.model, found.pre, found.scores, found.add_space_prefix) == ("gpt2", "gpt-2", [], None)


def test_more_tokens_than_the_model_embeds_are_refused(chatml_tokenizer: Any) -> None:
    size = len(chatml_tokenizer)
    with pytest.raises(InputError, match=f"has token {size - 1}, but the model embeds {size - 1} tokens"):
        read(chatml_tokenizer, size - 1)


def test_the_end_token_of_the_contract_ends_an_answer(chatml_tokenizer: Any) -> None:
    """Where the template ends answers otherwise than the tokenizer's EOS, llama.cpp must stop at both."""
    tokenizer = copy.deepcopy(chatml_tokenizer)  # shared with other tests
    tokenizer.eos_token = "<|endoftext|>"
    contract = make_contract(PromptConfig(template="chat", system=None), tokenizer)
    found = read_tokenizer(tokenizer, len(tokenizer), contract)
    assert contract.stop_token_ids == (2, 0)
    assert (found.special_ids["eos"], found.special_ids["eot"]) == (0, 2)


# SentencePiece


def spm_ids(text: str, found: GgufTokenizer) -> list[int]:
    """What llama.cpp's ``llm_tokenizer_spm_session`` does: join the best-scored pair of neighbors, else bytes."""
    ids = {token: i for i, token in enumerate(found.tokens)}
    pieces = list((" " + text if found.add_space_prefix else text).replace(" ", "▁"))
    while True:
        pairs = [(-found.scores[ids[a + b]], i) for i, (a, b) in enumerate(pairwise(pieces)) if a + b in ids]
        if not pairs:
            break
        _, best = min(pairs)
        pieces[best : best + 2] = [pieces[best] + pieces[best + 1]]
    return [
        i for piece in pieces for i in ([ids[piece]] if piece in ids else [ids[f"<0x{b:02X}>"] for b in piece.encode()])
    ]


def every_way(saved: dict[str, Any]) -> None:
    """Let merges hold every way to cut a token in two, best tokens first, as those of a SentencePiece model do."""
    from transformers.tokenization_utils_base import generate_merges

    vocab = saved["model"]["vocab"]
    scores = {token: -float(i) for token, i in vocab.items() if i > 258}
    saved["model"]["merges"] = [list(pair) for pair in generate_merges(vocab, scores)]


TEXTS = [
    *dict.fromkeys(CORPUS),
    "treatments of asthma 1990 é😀",
    "  two  spaces",
    "x",
    "Questions\n\nAnswers instructions",
]


def test_scores_make_llama_cpp_merge_as_the_tokenizer_does(bos_tokenizer: Any) -> None:
    tokenizer = changed(bos_tokenizer, every_way)
    found = read(tokenizer)
    assert found.warnings == []
    for text in TEXTS:
        assert spm_ids(text, found) == tokenizer(text, add_special_tokens=False)["input_ids"]


def test_merges_that_scores_cannot_express_are_counted(bos_tokenizer: Any) -> None:
    """Without one way to make a token, the tokenizer cuts otherwise than llama.cpp."""

    def one_way_less(saved: dict[str, Any]) -> None:
        every_way(saved)
        merges = saved["model"]["merges"]
        saved["model"]["merges"] = [pair for pair in merges if "".join(pair) != "ma"]

    tokenizer = changed(bos_tokenizer, one_way_less)
    found = read(tokenizer)
    assert found.warnings[0].startswith("1 of the tokenizer's 420 tokens")
    assert spm_ids("ma", found) != tokenizer("ma", add_special_tokens=False)["input_ids"]


def test_sentencepiece_tokens_get_their_types_and_padding(bos_tokenizer: Any) -> None:
    size = len(bos_tokenizer)
    found = read(changed(bos_tokenizer, add_token("▁<x>▁", size, special=False)), size + 2)
    assert found.tokens[size:] == [" <x> ", f"[PAD{size + 1}]"]  # llama.cpp looks for it in the raw text
    assert [TokenType(kind).name for kind in found.types[size:]] == ["USER_DEFINED", "UNUSED"]
    assert [TokenType(kind).name for kind in found.types[:4]] == ["UNKNOWN", "CONTROL", "CONTROL", "BYTE"]
    assert (found.model, found.pre, found.add_bos, found.add_space_prefix) == ("llama", "default", True, True)


def without_a_byte(saved: dict[str, Any]) -> None:
    vocab = saved["model"]["vocab"]
    vocab["<none>"] = vocab.pop("<0x41>")


def unigram(saved: dict[str, Any]) -> None:
    saved["model"] = {"type": "Unigram", "unk_id": 0, "vocab": [["<unk>", 0.0], ["<s>", -1.0], ["</s>", -2.0]]}


def split_words(saved: dict[str, Any]) -> None:
    saved["normalizer"] = None
    saved["pre_tokenizer"] = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": True}


def at_spaces(saved: dict[str, Any]) -> None:
    saved["normalizer"] = None
    saved |= AT_SPACES


def twice(saved: dict[str, Any]) -> None:
    add_token("▁a b", 420, special=False)(saved)
    add_token(" a b", 421, special=False)(saved)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (without_a_byte, "lacks some of the 256 byte tokens"),
        (unigram, "its tokenizer is a Unigram model"),
        (split_words, r"prepares text in a way .* \(Metaspace\)"),
        (at_spaces, r"prepares text in a way .* \(Split\)"),
        (twice, "two tokens of the tokenizer have the same text"),
    ],
)
def test_other_tokenizers_are_refused(bos_tokenizer: Any, change: Change, said: str) -> None:
    with pytest.raises(InputError, match=said):
        read(changed(bos_tokenizer, change), 430)


def test_slow_tokenizers_are_refused(bos_tokenizer: Any) -> None:
    with pytest.raises(InputError, match=r"no tokenizer\.json"):
        read_tokenizer(SimpleNamespace(is_fast=False), 10, contract_of(bos_tokenizer))


PREPEND = {
    "normalizer": {
        "type": "Sequence",
        "normalizers": [
            {"type": "Prepend", "prepend": "▁"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
        ],
    }
}


# As in Gemma.
AT_SPACES = {
    "pre_tokenizer": {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False}
}


def metaspace(scheme: str) -> dict[str, Any]:
    step = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": False}
    return {"normalizer": None, "pre_tokenizer": step}


@pytest.mark.parametrize(
    ("saved", "before", "after", "expected"),
    [
        (PREPEND, "[INST] ", " [/INST]", (True, True)),
        (PREPEND, "<u>", "<a> go", (True, True)),
        ({"normalizer": PREPEND["normalizer"]["normalizers"][1]}, "<u>", "<a>", (False, True)),
        (AT_SPACES | {"normalizer": PREPEND["normalizer"]["normalizers"][1]}, "<u>", " <a>", (False, True)),
        (metaspace("never"), "Q: ", "<a>", (False, True)),
        (metaspace("always"), "<u>", "<a>", (True, True)),
        (metaspace("always"), "<u>", "<a> go", (True, False)),  # " go": no second space, where llama.cpp puts one
        (metaspace("first"), "Q: ", "\nA:", (True, True)),
        (metaspace("first"), "<u>", "<a>\n", (False, True)),  # no text begins the prompt: none gets a space
        (metaspace("first"), "Q: ", "<a>go", (True, False)),
        (metaspace("first"), " Q: ", "\nA:", (True, False)),
    ],
)
def test_the_space_in_front(saved: dict[str, Any], before: str, after: str, expected: tuple[bool, bool]) -> None:
    text: Any = SimpleNamespace(before_question=before, after_question=after)
    contract: Any = SimpleNamespace(text=text)
    assert space_prefix(saved, contract, ["<u>", "<a>"]) == expected
