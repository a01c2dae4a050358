"""A model's tokenizer as llama.cpp reads it: tokens, types, scores, merges, pre-tokenizer, special ids.

Two kinds: SentencePiece-like BPE with byte fallback (``llama``) and byte-level BPE (``gpt2``). What llama.cpp would
split differently is refused or reported.
"""

import json
import re
from dataclasses import dataclass, field, replace
from typing import Any

from gguf import TokenType

from medqa_cli.errors import InputError
from medqa_cli.gguf.architecture import unsupported
from medqa_cli.prompt.contract import PromptContract
from medqa_cli.resources import load_yaml

_SPACE = "▁"


@dataclass(frozen=True)
class GgufTokenizer:
    """The tokenizer's part of a GGUF file, in llama.cpp's terms.

    ``scores``: SentencePiece only, higher merges first; ``add_space_prefix``: SentencePiece only; ``warnings``: where
    llama.cpp may give other ids than the tokenizer does.
    """

    model: str
    pre: str
    tokens: list[str]
    types: list[int]
    merges: list[str]
    special_ids: dict[str, int]
    add_bos: bool
    scores: list[float] = field(default_factory=list)
    add_space_prefix: bool | None = None
    warnings: list[str] = field(default_factory=list)

    def add_to(self, writer: Any, chat_template: str) -> None:
        """Put it into a ``gguf.GGUFWriter``."""
        writer.add_tokenizer_model(self.model)
        writer.add_tokenizer_pre(self.pre)
        writer.add_token_list(self.tokens)
        writer.add_token_types(self.types)
        writer.add_token_scores(self.scores)
        # llama.cpp merges a SentencePiece vocabulary by scores alone; Transformers' loader takes the merges.
        writer.add_token_merges(self.merges)
        for name, token_id in self.special_ids.items():
            getattr(writer, f"add_{name}_token_id")(token_id)
        writer.add_add_bos_token(self.add_bos)
        writer.add_add_eos_token(False)
        if self.add_space_prefix is not None:
            writer.add_add_space_prefix(self.add_space_prefix)
        writer.add_chat_template(chat_template)


def read_tokenizer(tokenizer: Any, vocab_size: int, contract: PromptContract) -> GgufTokenizer:
    """Translate a fast tokenizer.

    Args:
        tokenizer: as Transformers loads it.
        vocab_size: rows of the model's embedding; ids without a token are filled up.
        contract: decides on the BOS and on the tokens that end an answer.

    Raises:
        InputError: it is of another kind, or llama.cpp has no name for how it splits text.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise unsupported("the tokenizer has no tokenizer.json")
    saved = json.loads(tokenizer.backend_tokenizer.to_str())
    model = saved["model"]
    if model.get("type") != "BPE":
        raise unsupported(f"its tokenizer is a {model.get('type')} model; medqa writes BPE, also SentencePiece's")
    added = {token["id"]: token for token in saved["added_tokens"]}
    texts = {token_id: str(text) for text, token_id in model["vocab"].items()}
    texts.update({token_id: str(token["content"]) for token_id, token in added.items()})
    merges = [tuple(pair) if isinstance(pair, list) else tuple(pair.split(" ")) for pair in model["merges"]]
    if max(texts) >= vocab_size:
        raise unsupported(f"the tokenizer has token {max(texts)}, but the model embeds {vocab_size} tokens")
    tokens, types = [], []
    for token_id in range(vocab_size):
        # The name that llama.cpp's converter gives to ids without a token.
        tokens.append(texts.get(token_id, f"[PAD{token_id}]"))
        kind = TokenType.NORMAL if token_id in texts else TokenType.UNUSED
        if token_id in added:
            kind = TokenType.CONTROL if added[token_id]["special"] else TokenType.USER_DEFINED
        types.append(int(kind))
    plain = GgufTokenizer(
        model="gpt2",
        pre="",
        tokens=tokens,
        types=types,
        merges=[" ".join(pair) for pair in merges],
        special_ids=_special_ids(tokenizer, contract),
        add_bos=contract.adds_bos,
    )
    if model.get("byte_fallback"):
        translated = _sentencepiece(plain, saved, texts, merges, contract)
    else:
        name, warnings = byte_level_name(saved)
        translated = replace(plain, pre=name, warnings=warnings)
    # llama.cpp aborts on them.
    if len(set(translated.tokens)) != len(translated.tokens) or "" in translated.tokens:
        raise InputError("no GGUF export: two tokens of the tokenizer have the same text, or one has none")
    return translated


def _sentencepiece(
    plain: GgufTokenizer,
    saved: dict[str, Any],
    texts: dict[int, str],
    merges: list[tuple[str, ...]],
    contract: PromptContract,
) -> GgufTokenizer:
    """Return the tokenizer in SentencePiece's form; ``plain`` is what both forms have in common."""
    ids = {text: token_id for token_id, text in texts.items()}
    byte_ids = {ids.get(f"<0x{value:02X}>") for value in range(256)}
    if None in byte_ids:
        raise unsupported("its tokenizer lacks some of the 256 byte tokens that llama.cpp falls back on")
    added = {token["id"]: str(token["content"]) for token in saved["added_tokens"]}
    prefix, exact = space_prefix(saved, contract, list(added.values()))
    tokens, types = list(plain.tokens), list(plain.types)
    unknown = ids.get(saved["model"].get("unk_token") or "")
    for token_id in range(len(tokens)):
        if token_id in byte_ids:
            types[token_id] = int(TokenType.BYTE)
        elif token_id == unknown:
            types[token_id] = int(TokenType.UNKNOWN)
        elif types[token_id] == TokenType.USER_DEFINED:
            tokens[token_id] = tokens[token_id].replace(_SPACE, " ")  # llama.cpp looks for them in the raw text
    # The rank of the first merge that makes a token, negative: llama.cpp merges the highest score first.
    ranks: dict[str, int] = {}
    for rank, pair in enumerate(merges):
        ranks.setdefault("".join(pair), rank)
    worst = len(merges) + 1
    scores = [
        -float(ranks.get(token, worst)) if kind == TokenType.NORMAL else 0.0
        for token, kind in zip(tokens, types, strict=True)
    ]
    warnings = [] if exact else ["llama.cpp puts a space before some text of the prompt where the tokenizer has none"]
    if deviant := _merged_otherwise({text for token_id, text in texts.items() if token_id not in added}, merges):
        warnings.append(
            f"{deviant:,} of the tokenizer's {len(texts):,} tokens are merged in an order that llama.cpp cannot "
            "keep: it goes by one score per token, and may cut some words otherwise"
        )
    return replace(
        plain,
        model="llama",
        pre="default",
        tokens=tokens,
        types=types,
        scores=scores,
        add_space_prefix=prefix,
        warnings=warnings,
    )


def _merged_otherwise(known: set[str], merges: list[tuple[str, ...]]) -> int:
    """Count the ``known`` tokens that llama.cpp may build where the tokenizer does not, or at another turn.

    llama.cpp joins any two neighbors that together are a token, the best score first. That is what the merges do if
    every way to cut a token in two is among them, all ways of one token in a row. SentencePiece models are like that.
    """
    ranks: dict[str, list[int]] = {}
    for position, pair in enumerate(merges):
        ranks.setdefault("".join(pair), []).append(position)
    pairs = set(merges)
    deviant = 0
    for text in known:
        cuts = [(text[:i], text[i:]) for i in range(1, len(text)) if text[:i] in known and text[i:] in known]
        positions = ranks.get(text, [])
        in_a_row = not positions or positions[-1] - positions[0] == len(positions) - 1
        if not in_a_row or any(cut not in pairs for cut in cuts):
            deviant += 1
    return deviant


def _special_ids(tokenizer: Any, contract: PromptContract) -> dict[str, int]:
    ids = {
        "bos": contract.bos_token_id if contract.adds_bos else tokenizer.bos_token_id,
        "eos": contract.end_token_id if tokenizer.eos_token_id is None else tokenizer.eos_token_id,
        # Ends an answer as well as EOS does.
        "eot": contract.end_token_id,
        "unk": tokenizer.unk_token_id,
        "pad": tokenizer.pad_token_id,
    }
    return {name: int(token_id) for name, token_id in ids.items() if token_id is not None}


def byte_level_name(saved: dict[str, Any]) -> tuple[str, list[str]]:
    """Return ``tokenizer.ggml.pre`` of a byte-level tokenizer, and warnings.

    Args:
        saved: the content of ``tokenizer.json``.

    Raises:
        InputError: llama.cpp has no name for it, or none that we know.
    """
    model, steps = saved["model"], _steps(saved.get("pre_tokenizer"))
    plain = not any(model.get(key) for key in ("continuing_subword_prefix", "end_of_word_suffix", "dropout"))
    name = _name_of(steps, bool(model.get("ignore_merges"))) if plain else None
    if name is None:
        kinds = " + ".join(str(step.get("type")) for step in steps) or "none"
        raise unsupported(f"its tokenizer splits text in a way that medqa does not know by llama.cpp's name ({kinds})")
    normalizers = [step.get("type") for step in _steps(saved.get("normalizer"))]
    if normalizers == ["NFC"]:
        return name, ["llama.cpp does not bring text to Unicode's composed form (NFC), as the tokenizer does"]
    if normalizers:
        raise unsupported(f"its tokenizer rewrites text before splitting ({', '.join(map(str, normalizers))})")
    return name, []


def space_prefix(saved: dict[str, Any], contract: PromptContract, added: list[str]) -> tuple[bool, bool]:
    """Tell whether llama.cpp must put a space before text in a SentencePiece-like vocabulary, and if that is exact.

    llama.cpp puts it before each text that begins the prompt or follows a control token, or before none.

    Args:
        saved: the content of ``tokenizer.json``.
        contract: its prompt decides where the tokenizer's own rule and llama.cpp's differ.
        added: texts of the added tokens.

    Raises:
        InputError: the tokenizer cuts text in another way before merging.
    """
    steps, normalizers = _steps(saved.get("pre_tokenizer")), _steps(saved.get("normalizer"))
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": _SPACE}
    # Gemma cuts text at spaces, of which the normalizer has left none.
    at_spaces = {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False}
    if normalizers == [replace] and steps == [at_spaces]:
        return False, True
    if not steps and normalizers in ([{"type": "Prepend", "prepend": _SPACE}, replace], [replace]):
        return len(normalizers) == 2, True
    metaspace = {"type": "Metaspace", "replacement": _SPACE, "split": False}
    if normalizers or len(steps) != 1 or not metaspace.items() <= steps[0].items():
        kinds = " + ".join(str(step.get("type")) for step in [*normalizers, *steps]) or "none"
        raise unsupported(f"its tokenizer prepares text in a way that llama.cpp does not for SentencePiece ({kinds})")
    scheme = steps[0].get("prepend_scheme", "always")
    if scheme == "never":
        return False, True
    prompt = contract.text.before_question + "\0" + contract.text.after_question
    # The texts between added tokens, of which the longest wins where several fit, as in both tokenizers.
    longest_first = sorted(filter(None, added), key=len, reverse=True)
    texts = re.split("|".join(map(re.escape, longest_first)), prompt) if longest_first else [prompt]
    # Metaspace adds no space to text that begins with one; llama.cpp does.
    if scheme == "first":
        starts_with_text = bool(texts[0])
        return starts_with_text, not (starts_with_text and (any(texts[1:]) or texts[0].startswith(" ")))
    return True, not any(text.startswith(" ") for text in texts)


def _name_of(steps: list[dict[str, Any]], ignore_merges: bool) -> str | None:
    if not steps or steps[-1].get("type") != "ByteLevel" or steps[-1].get("add_prefix_space"):
        return None
    *first, byte_level = steps
    if byte_level.get("use_regex", True):
        if not first and not ignore_merges:
            return "gpt-2"
        digits = len(first) == 1 and first[0].get("type") == "Digits" and first[0].get("individual_digits")
        return "smollm" if digits and not ignore_merges else None
    if len(first) != 1 or first[0].get("type") != "Split":
        return None
    split = first[0]
    if split.get("behavior") != "Isolated" or split.get("invert"):
        return None
    looked_for = split.get("pattern", {}).get("Regex"), ignore_merges
    known = {
        (entry["pattern"].replace("\n", ""), entry["ignore_merges"]): entry["name"]
        for entry in load_yaml("gguf_splits")
    }
    return known.get(looked_for)


def _steps(part: dict[str, Any] | None) -> list[dict[str, Any]]:
    """Return a pre-tokenizer or normalizer as a flat list of steps."""
    if not part:
        return []
    inner = part.get("pretokenizers") or part.get("normalizers")
    return [step for inner_part in inner for step in _steps(inner_part)] if inner else [part]
