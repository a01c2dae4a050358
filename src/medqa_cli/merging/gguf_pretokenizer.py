"""How a tokenizer cuts text before it merges, and llama.cpp's name for it.

llama.cpp's converter recognises byte-level pre-tokenizers by the hash of an encoded text, which depends on the
vocabulary; here the structure in ``tokenizer.json`` is compared, which does not. Names and patterns: llama.cpp's
``src/llama-vocab.cpp`` (2026-11).
"""

from __future__ import annotations

from typing import Any

from medqa_cli.merging.gguf_hyperparameters import unsupported
from medqa_cli.prompt.encoder import PromptContract

_SPACE = "▁"
_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
_QWEN2 = _LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
_TEKKEN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# (pattern of the split, whole words that are tokens skip the merges) -> llama.cpp's name, which stands for both.
_SPLITS = {
    (_LLAMA3, True): "llama-bpe",
    (_LLAMA3, False): "smaug-bpe",
    (_QWEN2, False): "qwen2",
    (_TEKKEN, True): "tekken",
}


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
    rule = _prefix_rule(saved)
    texts = _texts_between(contract.text.before_question + "\0" + contract.text.after_question, added)
    starts_with_text = bool(texts and texts[0])
    followers = [text for text in texts[1:] if text]
    if rule == "never":
        return False, True
    if rule == "every text":
        return True, True
    # Metaspace leaves text alone that begins with a space; llama.cpp does not look.
    if rule == "first":
        return starts_with_text, not (starts_with_text and (followers or texts[0].startswith(" ")))
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
    return _SPLITS.get((split.get("pattern", {}).get("Regex"), ignore_merges))


def _prefix_rule(saved: dict[str, Any]) -> str:
    """Return where the tokenizer puts a space: ``every text``, ``always`` or ``first`` (Metaspace), or ``never``."""
    steps = _steps(saved.get("pre_tokenizer"))
    normalizers = _steps(saved.get("normalizer"))
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": _SPACE}
    if not steps and normalizers in ([{"type": "Prepend", "prepend": _SPACE}, replace], [replace]):
        return "every text" if len(normalizers) == 2 else "never"
    whole_text = {"type": "Metaspace", "replacement": _SPACE, "split": False}
    if len(steps) == 1 and not normalizers and whole_text.items() <= steps[0].items():
        return str(steps[0].get("prepend_scheme", "always"))
    kinds = " + ".join(str(step.get("type")) for step in [*normalizers, *steps]) or "none"
    raise unsupported(f"its tokenizer prepares text in a way that llama.cpp does not for SentencePiece ({kinds})")


def _steps(part: dict[str, Any] | None) -> list[dict[str, Any]]:
    """Return a pre-tokenizer or normalizer as a flat list of steps."""
    if not part:
        return []
    inner = part.get("pretokenizers") or part.get("normalizers")
    return [step for one in inner for step in _steps(one)] if inner else [part]


def _texts_between(prompt: str, added: list[str]) -> list[str]:
    """Cut a prompt at its added tokens; the longest wins where several fit, as in both tokenizers."""
    texts, rest = [""], prompt
    by_length = sorted((token for token in added if token), key=len, reverse=True)
    while rest:
        token = next((token for token in by_length if rest.startswith(token)), None)
        if token:
            texts.append("")
            rest = rest[len(token) :]
        else:
            texts[-1] += rest[0]
            rest = rest[1:]
    return texts
