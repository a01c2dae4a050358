"""The names of who asks and who answers, in some 30 languages: of roles in chats, of turns in a talk, and of the marks
that programs put before a question and an answer. They stand in ``resources/speakers.yaml``.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from functools import cache

from medqa_cli.resources import load_yaml

USER, ASSISTANT, SYSTEM = "user", "assistant", "system"


@cache
def roles() -> Mapping[str, str]:
    """Return what each name of who speaks stands for, folded: ``USER``, ``ASSISTANT`` or ``SYSTEM``."""
    return {
        form: role
        for role in (USER, ASSISTANT, SYSTEM)
        for name in _names(role)
        for form in (name, unicodedata.normalize("NFC", name).casefold())  # "ασθενής" ends in a sigma
    }


def role_of(name: str) -> str:
    """Return what a name stands for, ``USER``, ``ASSISTANT`` or ``SYSTEM``; empty where it is not known."""
    return roles().get(unicodedata.normalize("NFC", name).strip().casefold(), "")


@cache
def persons(role: str) -> tuple[str, ...]:
    """Return the names of those who speak in a role, without the names of what they say ("question")."""
    texts = set(load_yaml("speakers")["texts"].split()) | set(load_yaml("speakers")["text_phrases"])
    return tuple(name for name in _names(role) if name not in texts)


@cache
def marks(role: str) -> tuple[str, ...]:
    """Return the names that stand as marks before a text, without those that are headings as well ("model")."""
    headings = set(load_yaml("speakers")["headings"].split())
    return tuple(name for name in _names(role) if name not in headings)


def _names(role: str) -> tuple[str, ...]:
    table = load_yaml("speakers")[role]
    return (*table["words"].split(), *table["phrases"])
