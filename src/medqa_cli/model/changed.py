"""Attributes of models, layers and libraries that are others for a while."""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def changed(*changes: tuple[Any, str, Any]) -> Iterator[None]:
    """Give objects other attributes inside the block: owner, name and value of each."""
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in changes]
    # A method that an owner has of its class appears again when it is taken away.
    inherited = {
        (id(owner), name) for owner, name, value in before if inspect.isroutine(value) and name not in vars(owner)
    }
    try:
        for owner, name, value in changes:
            setattr(owner, name, value)
        yield
    finally:
        for owner, name, value in before:
            if (id(owner), name) in inherited:
                delattr(owner, name)
            else:
                setattr(owner, name, value)
