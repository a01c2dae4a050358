"""Tables of the package that are data and no code: each file is read once, when it is first asked for."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any


@cache
def load_yaml(name: str) -> Any:
    """Return what a YAML file of this folder holds; it is shared, so that nobody may change it.

    Args:
        name: the file's name without its suffix.
    """
    import yaml  # takes time that ``medqa --help`` and the process of a reader need not spend

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return yaml.load(files(__name__).joinpath(f"{name}.yaml").read_text(encoding="utf-8"), loader)
