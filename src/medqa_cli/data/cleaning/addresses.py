"""Web and mail addresses and DOIs within a text, which no rule may change inside."""

from __future__ import annotations

import re
from collections.abc import Callable

ADDRESS = re.compile(
    r"(?:(?:https?|ftp)://|\bwww\.)[^\s<>\"]+"
    r"|[\w.+-]+@[\w-]+(?:\.[\w-]+)+"
    r"|\b10\.\d{4,9}/[^\s<>\"]+"
    r"|\b(?:[a-z0-9-]+\.)+(?:(?:com|org|net|gov|edu|int|info|io)\b(?:/[^\s<>\"]*)?|[a-z]{2}/[^\s<>\"]*)",
    re.IGNORECASE,
)
_BEHIND = ".,;:!?)]'»"  # marks of the sentence around an address
_STANDS_FOR = "\ue000"  # a private character, no letter and no mark
_WORD = re.compile(r"\S+")
_ADDRESS_SIGN = re.compile(r"[/@]|\.(?=\S)")  # any address holds one
_LONGEST_SEARCHED = 256  # characters; the pattern takes quadratic time, and what is longer is no prose in any case


def _holds_address(text: str) -> bool:
    """Tell whether a text holds an address, looking only at words that may be one: the pattern itself is slow."""
    if _ADDRESS_SIGN.search(text) is None:
        return False
    return any(
        len(word) > _LONGEST_SEARCHED or ADDRESS.search(word) is not None
        for word in text.split()
        if _ADDRESS_SIGN.search(word)
    )


def outside_addresses(change: Callable[[str], str]) -> Callable[[str], str]:
    """Return a change that leaves the addresses in a text as they are.

    Args:
        change: maps a text to the changed one. It has to keep the order of what it keeps.

    Returns:
        the same, with each address hidden from it; a text of which it would drop an address stays as it is.
    """

    def changed(text: str) -> str:
        new = change(text)
        if new == text or not _holds_address(text):
            return new
        addresses: list[str] = []

        def hide(found: re.Match[str]) -> str:
            address = found[0].rstrip(_BEHIND)
            addresses.append(address)
            return _STANDS_FOR + found[0][len(address) :]

        def hide_in_word(found: re.Match[str]) -> str:
            word = found[0]
            if not _ADDRESS_SIGN.search(word):
                return word
            return hide(found) if len(word) > _LONGEST_SEARCHED else ADDRESS.sub(hide, word)

        pieces = change(_WORD.sub(hide_in_word, text)).split(_STANDS_FOR)
        if len(pieces) != len(addresses) + 1:
            return text
        return pieces[0] + "".join(address + piece for address, piece in zip(addresses, pieces[1:], strict=True))

    return changed
