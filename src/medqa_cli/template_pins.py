"""Makes a chat template say the same whenever it is rendered: no date of today, no room for thoughts before an answer.

What a model was tuned with must be what it is asked with. Works on the source of a template, so that whoever renders it
later, with whatever tool, gets the same. Does not render.
"""

from __future__ import annotations

import re
from datetime import date

# Today, for a template that prints the date: always the same, so that a training gives the same model on any day, a
# resumed one the same prompts. Meta's templates print this one where they are not told another.
PINNED_DATE = date(2024, 7, 26)

_DATE_CALL = re.compile(r"strftime_now\(\s*(?P<quote>['\"])(?P<format>[ !#-&(-~]{0,200})(?P=quote)\s*\)")
_NO_THOUGHTS = "{% set enable_thinking = false %}"
# The tag that opens thoughts in R1, Qwen, Magistral, Seed, Command A and others, at the end of a prompt: <think>,
# [THINK], <|START_THINKING|>, ...
_OPEN_THOUGHTS = re.compile(
    r"(?P<left>[<\[◁]\|?)(?P<verb>start|begin|)(?P<name>[\w:]*(?:think|thought|reason)\w*)(?P<right>\|?[>\]▷])\s*\Z",
    re.I,
)


def pin_template(source: str) -> str:
    """Return a chat template that prints ``PINNED_DATE`` as today, and that knows thinking to be switched off."""
    head = ""
    if _switches_thinking(source):
        head += _NO_THOUGHTS
    if _prints_date(source):
        formats = dict.fromkeys(found["format"] for found in _DATE_CALL.finditer(source))
        cases = "".join(
            f"{{% {'elif' if number else 'if'} format == '{name}' %}}{PINNED_DATE.strftime(name)}"
            for number, name in enumerate(formats)
        )
        other = PINNED_DATE.isoformat()
        told = f"{cases}{{% else %}}{other}{{% endif %}}" if cases else other
        head += f"{{% macro strftime_now(format) %}}{told}{{% endmacro %}}"
    return source if source.startswith(head) else head + source


def closed_thoughts(prompt: str) -> str:
    """Return what closes a block of thoughts that a prompt ends in, so that the answer stands behind it; or nothing."""
    opened = _OPEN_THOUGHTS.search(prompt)
    if opened is None:
        return ""
    verb = opened["verb"]
    close = "/" if not verb else "END" if verb.isupper() else "end"
    end = "" if opened.group().endswith("\n") else "\n"
    return f"{end}\n{opened['left']}{close}{opened['name']}{opened['right']}\n\n"


def pin_notes(source: str) -> list[str]:
    """Return what the user is to know of a template that was pinned."""
    notes = []
    if _prints_date(source):
        notes.append(f"the chat template prints today's date; it is pinned to {PINNED_DATE.isoformat()}")
    if _switches_thinking(source):
        notes.append("the chat template has a thinking mode; it is off (enable_thinking=False), in asking as well")
    return notes


def _prints_date(source: str) -> bool:
    return "strftime_now" in source


def _switches_thinking(source: str) -> bool:
    return re.search(r"\benable_thinking\b", source) is not None
