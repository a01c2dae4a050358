r"""The cleaning rules for HTML, pictures that are written into the text, and ``\n`` written out.

A sign of comparison is no tag: only names that HTML has, with attributes as HTML writes them, make one. The names
are in ``resources/markup.yaml``.
"""

import html
import html.entities
import itertools
import re
import unicodedata
from collections.abc import Iterator
from functools import cache

from medqa_cli.resources import load_words

# An attribute has a value; those that stand alone are few.
_ATTRIBUTE = (
    r"\s+(?:[a-zA-Z_:@][\w:.@-]*\s*=\s*(?:\"[^\"]*\"|'[^']*'|[^\s\"'<>`]+)"
    r"|(?:data-[\w-]+|checked|controls|disabled|hidden|nowrap|reversed|selected|noshade|async|defer|allowfullscreen)\b)"
)
# What is not text at all, from here to its end.
_HIDDEN = re.compile(
    r"<(script|style|noscript|template)\b[^<>]*>|<(!--)|<!doctype\s[^<>]*>|<!\[CDATA\[|\]\]>"
    r"|<!\[(?:if|endif)\b[^<>]*>|<\?xml\b[^<>]*>",
    re.IGNORECASE,
)
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});|&nbsp(?![\w;=])")
_RAISED = re.compile(r"<sup(?:\s[^<>]*)?>\s*([0-9+−-]{1,6})\s*</sup>", re.IGNORECASE)
_TO_RAISED = str.maketrans("0123456789+-−", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁻")
_WRAPPED = re.compile(r"(?<=[^\s>])[^\S\n]*\n[^\S\n]*(?=[a-z(])")
_NUMBER_AROUND = re.compile(r"[^\s<>]<p>\s*[\d.=-]", re.IGNORECASE)
_ITEM_SIGN = re.compile(r"(?:^|\n)(?:-|\d+\.)$")
_MANY_BREAKS = re.compile(r"\n{3,}")

_DATA = r"data:(?:image|application|video|audio)/[\w.+-]+(?:;[\w=.+-]+)*;base64,[A-Za-z0-9+/=\s%]*"
_PICTURE = re.compile(
    rf"<img\b[^<>]*?{_DATA}[^<>]*>|!\[[^\]\n]{{0,300}}\]\(\s*{_DATA}[^()]{{0,300}}\)|"
    r"data:(?:image|application|video|audio)/[\w.+-]+(?:;[\w=.+-]+)*;base64,[A-Za-z0-9+/=%]*",
    re.IGNORECASE,
)

_WRITTEN = re.compile(r"\\r\\n|\\n|\\t")
_OTHER_ESCAPE = re.compile(r"\\(?!r\\n|[nt])")
_WORD_AFTER = re.compile(r"[A-Za-z]*")
_PATH = re.compile(r"(?:[A-Za-z]:\\|\\\\)[^\s\"'<>|]*$")
# Beside a sign of a pattern or a program: "[^\n]+", "\d+\n", "'\n'".
_PATTERN_BEFORE = re.compile(r"(?:[\[^|/\\(\"'`]|\\[dwsbDWSB.][+*?]?|\\[dwsbDWSB.]\{[\d,]*\})$")
_PATTERN_AFTER = re.compile(r"[+?{\]|/]|\*(?!\s)|\\[dwsbDWSB.]")
_SENTENCE_ENDS = ".!?:;,)。！？：；，）…"
_WINDOW = 200  # characters before a sign that are read


@cache
def _any_tag() -> re.Pattern[str]:
    """Match a tag: whether it closes, its name, and its attributes."""
    names = "|".join(sorted(load_words("markup", "lines", "paragraphs", "inline"), key=lambda name: (-len(name), name)))
    return re.compile(rf"<(/?)({names})((?:{_ATTRIBUTE})*)\s*/?>", re.IGNORECASE)


def embedded_pictures(text: str) -> str:
    """Put a line break in the place of each picture that is written into the text as base64."""
    return _PICTURE.sub("\n", text) if "base64," in text else text


def markup(text: str) -> str:
    """Turn HTML into text: breaks into line breaks, list items into ``- item``, entities into characters.

    A text comes as a web page or a form field holds it; entities may be written twice. Comparisons (``p < 0.05``,
    ``a<b and c>d``) and names in angle brackets that are no tags stay.
    """
    if "<" not in text and "&" not in text:
        return text
    while True:
        before = text
        if "<" in text:
            text = _without_tags(text)
        if "&" in text:
            text = _ENTITY.sub(_character, text)
        if text == before:
            return text


def _character(entity: re.Match[str]) -> str:
    is_known = entity[0][1] == "#" or entity[0][1:] in html.entities.html5
    return html.unescape(entity[0]) if is_known else entity[0]


def _without_tags(text: str) -> str:
    text = _without_hidden(text)
    all_tags = list(_any_tag().finditer(text))
    comparisons = _comparisons(all_tags)
    tags = [tag for tag in all_tags if tag.start() not in comparisons]
    if not tags:
        return text
    if any(tag[2].casefold() in ("p", "br", "div") for tag in tags):
        # Where tags make the paragraphs, a break within a sentence is where an editor wrapped the line.
        rejoined = _WRAPPED.sub(" ", text)
        if rejoined != text:
            return _without_tags(rejoined)
    raised = _RAISED.sub(lambda match: match[1].translate(_TO_RAISED), text)
    if raised != text:
        return _without_tags(raised)
    lines = [line.strip(" \t\xa0") for line in _Writer().write(text, tags).split("\n")]
    return _MANY_BREAKS.sub("\n\n", "\n".join(lines)).strip()


def _without_hidden(text: str) -> str:
    """Return the text without programs, styles and comments; one that does not end stays."""
    pieces, end, endless = [], 0, set[str]()
    for start in _HIDDEN.finditer(text):
        kind = (start[1] or start[2] or "").casefold()
        if start.start() < end or kind in endless:
            continue
        stop: int | None = start.end()
        if start[2]:
            stop = position + 3 if (position := text.find("-->", start.end())) >= 0 else None
        elif start[1]:
            closed = re.compile(rf"</{kind}\s*>", re.IGNORECASE).search(text, start.end())
            stop = closed.end() if closed else None
        if stop is None:
            endless.add(kind)
            continue
        pieces.append(text[end : start.start()])
        end = stop
    return "".join([*pieces, text[end:]])


def _comparisons(tags: list[re.Match[str]]) -> set[int]:
    """Return where a tag opens that needs an end and has none: ``a<b>c`` compares, ``<time>`` is a blank to fill."""
    opened: dict[str, list[re.Match[str]]] = {}
    never_opened = []  # </s> ends the text of a prompt
    for tag in tags:
        name = tag[2].casefold()
        if not tag[1]:
            opened.setdefault(name, []).append(tag)
        elif opened.get(name):
            opened[name].pop()
        elif name == "s":
            never_opened.append(tag)
    unclosed = [tag for name, left in opened.items() for tag in left if not tag[3]]
    comparing = [
        tag
        for tag in unclosed
        if tag[2].casefold() not in load_words("markup", "alone")
        or _NUMBER_AROUND.match(tag.string[max(0, tag.start() - 1) : tag.end() + 9])
    ]
    return {tag.start() for tag in (*comparing, *never_opened)}


class _Writer:
    """Writes the text between tags, and what the tags stand for."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._lists: list[Iterator[int] | None] = []  # the open lists: the numbers of their items, None without

    def write(self, text: str, tags: list[re.Match[str]]) -> str:
        end = 0
        for tag in tags:
            self._pieces.append(text[end : tag.start()])
            end, name, closes = tag.end(), tag[2].casefold(), bool(tag[1])
            if name == "br":
                self._pieces.append("\n")
            elif name in ("ul", "ol"):
                if not closes:
                    self._lists.append(itertools.count(1) if name == "ol" else None)
                elif self._lists:
                    self._lists.pop()
                self._break("\n" if self._lists else "\n\n")
            elif name == "li":
                self._break("\n")
                if not closes:
                    numbers = self._lists[-1] if self._lists else None
                    self._pieces.append("- " if numbers is None else f"{next(numbers)}. ")
            elif name in ("td", "th"):
                # Between two cells of a row, not before the first one.
                if not closes and not self._at_line_start():
                    self._pieces.append(" | ")
            elif name not in load_words("markup", "inline"):
                self._break("\n" if name in load_words("markup", "lines") else "\n\n")
        return "".join([*self._pieces, text[end:]])

    def _break(self, kind: str) -> None:
        # "<li><p>text</p></li>" is one line, and a row of a table needs no break before and another behind it.
        if not _ITEM_SIGN.search(self._end()) and not (kind == "\n" and self._at_line_start()):
            self._pieces.append(kind)

    def _at_line_start(self) -> bool:
        before = self._end()
        return not before or before.endswith("\n")

    def _end(self) -> str:
        return "".join(self._pieces[-6:]).rstrip(" \t\r\xa0")


def written_breaks(text: str) -> str:
    r"""Turn ``\n``, ``\r\n`` and ``\t`` that are written out into a line break or a space, where that is certain.

    A text stays as it is where the ``n`` may be a letter of its own: in commands of LaTeX (``\nu``), Windows paths
    (``C:\new``), patterns (``\d+\n``) and words (``\nausea``), and where ``\n`` itself is talked of.
    """
    # Again where a break was one: what stands behind it is no path any more.
    while "\\" in text and _WRITTEN.search(text):
        signs = [sign for sign in _WRITTEN.finditer(text) if _may_be_a_break(text, sign)]
        bare = _OTHER_ESCAPE.search(text) is None
        clear = {sign.start() for sign in signs if _is_clear(text, sign, bare)}
        pieces, end = [], 0
        for sign in signs:
            # Beside clear breaks a small letter behind one tells nothing, unless a word begins there.
            starts_word = not sign.start() or text[sign.start() - 1].isspace()
            if sign.start() in clear or (clear and bare and not starts_word):
                pieces += [text[end : sign.start()], " " if sign[0] == "\\t" else "\n"]
                end = sign.end()
        if not pieces:
            break
        text = "".join([*pieces, text[end:]])
    return text


def _may_be_a_break(text: str, sign: re.Match[str]) -> bool:
    """Tell whether a sign is no piece of a command, a path or a pattern."""
    if sign[0] == "\\r\\n":
        return True
    before, after = text[max(0, sign.start() - _WINDOW) : sign.start()], _WORD_AFTER.match(text, sign.end())
    word = sign[0][1] + (after[0] if after else "")
    pattern = _PATTERN_BEFORE.search(before) or _PATTERN_AFTER.match(text, sign.end())
    return (
        word not in load_words("markup", "latex")
        and not _PATH.search(before)
        and (not pattern or before.endswith(("\\n", "\\r")))
    )


def _is_clear(text: str, sign: re.Match[str], bare: bool) -> bool:
    r"""Tell a break by what stands beside it.

    Args:
        text: the text.
        sign: where ``\n`` is written.
        bare: the text has no other backslashes.
    """
    before, after = text[max(0, sign.start() - _WINDOW) : sign.start()], text[sign.end() : sign.end() + 2]
    last_sign = before.rstrip(" \t")[-1:]
    if sign[0] == "\\r\\n" or after == "\\n" or before.endswith("\\n"):
        return True
    if last_sign != before[-1:] and not after[:1].isalnum():  # "the \n character", but "Rest. \n - drink" is clear
        return last_sign in _SENTENCE_ENDS or after.strip() in ("-", "•", "*", "–")
    if after[:1].isupper():
        return bare or last_sign in _SENTENCE_ENDS
    return not (after[:1].islower() and unicodedata.name(after[0], "").startswith("LATIN"))
