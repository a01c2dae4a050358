"""Tables and templates of the package: data, not code, read on first use."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment


def policy_hash(element: str) -> str:
    """Return what a Content-Security-Policy allows an inline script or style by (CSP level 3, section 8.3)."""
    return f"sha256-{base64.b64encode(hashlib.sha256(element.encode()).digest()).decode()}"


@cache
def load_yaml(name: str) -> Any:
    """Return the content of ``NAME.yaml`` of this folder; it is shared, so callers must not change it."""
    import yaml  # slow, and ``medqa --help`` and the processes of readers do not need it

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return yaml.load(files(__name__).joinpath(f"{name}.yaml").read_text(encoding="utf-8"), loader)


@cache
def load_words(name: str, *tables: str) -> frozenset[str]:
    """Return the words of some tables in a YAML file, each of which is one text of words between spaces."""
    return frozenset(" ".join(load_yaml(name)[table] for table in tables).split())


@cache
def load_pattern(name: str, table: str, flags: re.RegexFlag = re.IGNORECASE) -> re.Pattern[str]:
    """Return the regular expressions of one table in a YAML file as one; see ``compiled``.

    Args:
        name: the file's name without its suffix.
        table: the table's name; it holds one expression, or maps languages or other names that only tell what they
            are to expressions.
        flags: by default the letters match in any case.
    """
    expressions = load_yaml(name)[table]
    return compiled(name, expressions if isinstance(expressions, str) else "|".join(expressions.values()), flags)


def compiled(name: str, expression: str, flags: re.RegexFlag = re.NOFLAG) -> re.Pattern[str]:
    """Compile a regular expression of a YAML file.

    Line breaks inside it are no part of it, and ``<word>`` stands for what the file's table ``words`` has there, or for
    any of the words of another table of that name, the longer ones first.
    """
    tables = load_yaml(name)
    parts = tables.get("words", {})

    def inserted(found: re.Match[str]) -> str:
        if found[1] in parts:
            return str(parts[found[1]])
        return "|".join(sorted(tables[found[1]].split(), key=lambda word: (-len(word), word)))

    while (replaced := re.sub(r"<(\w+)>", inserted, expression)) != expression:
        expression = replaced
    return re.compile("".join(expression.splitlines()), flags)


def template_environment(finalize: Callable[[Any], Any], *, autoescape: bool = False) -> Environment:
    """Return a Jinja environment over the templates of this folder; a missing value is an error.

    Args:
        finalize: applied to each value that is filled in.
        autoescape: whether values are escaped as HTML.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("medqa_cli", "resources"),
        autoescape=autoescape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=finalize,
    )
