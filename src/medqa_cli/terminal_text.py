"""Text from data or from a model in the form in which it may be shown: it cannot rule what shows it.

Files keep texts as they are; only what a person looks at goes through here. Does not print.
"""

from __future__ import annotations

import json
import re
import unicodedata
from typing import Any

_OVERRIDES = "\u202d\u202e"
# JSON escapes the control characters below the space by itself.
_UNESCAPED_BY_JSON = re.compile(f"[\x7f-\x9f{_OVERRIDES}\ud800-\udfff]")


def printable(text: str) -> str:
    """Replace by U+FFFD what does not show itself but rules how the rest is shown.

    These are terminal control characters (newlines and tabs excepted), overrides of the direction of writing, which
    let "05" be read as "50", and lone surrogates, which stdout cannot encode.
    """
    return "".join("\ufffd" if character in _OVERRIDES or _is_control(character) else character for character in text)


def json_line(data: Any, *, ascii_only: bool = False) -> str:
    """Return one line of JSON that a terminal may see: what ``printable`` replaces is written as an escape here.

    Whoever reads the JSON gets the text unchanged. ``ascii_only``: escapes for all that is not ASCII.

    Raises:
        ValueError: a number is not finite.
    """
    text = json.dumps(data, ensure_ascii=ascii_only, allow_nan=False)
    return _UNESCAPED_BY_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", text) + "\n"


def _is_control(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cs") and character not in "\n\t"
