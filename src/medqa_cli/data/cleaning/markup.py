"""The cleaning rules for HTML: tags and entities become text, pictures that are written into the text go.

A sign of comparison is no tag: only names that HTML has, with attributes as HTML writes them, make one.
"""

from __future__ import annotations

import html
import html.entities
import re

# What a tag becomes; an inline one becomes nothing.
_BREAK = {
    **dict.fromkeys(("br", "div", "tr", "li", "dd", "dt", "caption", "center", "option", "figcaption", "o:p"), "\n"),
    **dict.fromkeys(("p", "ul", "ol", "dl", "table", "blockquote", "pre", "hr", "section", "article"), "\n\n"),
    **dict.fromkeys(("h1", "h2", "h3", "h4", "h5", "h6", "header", "footer", "aside", "main", "nav", "figure"), "\n\n"),
    **dict.fromkeys(("html", "body", "form", "fieldset", "address", "details", "summary"), "\n\n"),
}
_INLINE = frozenset(
    re.findall(
        r"\S+",
        """a abbr acronym b bdi bdo big button cite code col colgroup data dfn em font head i img input ins kbd label
        link mark meta picture q rp rt ruby s samp select small source span strike strong sub sup tbody td textarea
        tfoot th thead time title tt u var video wbr audio iframe embed object param svg path""",
    )
)
# Those that are no words and stand without an end, too; "<time>" or "<b>" alone is a blank to fill or a comparison.
_ALONE = frozenset(
    re.findall(
        r"\S+",
        """br hr img p li dd dt dl td th tr div ul ol table tbody thead tfoot span font strong em h1 h2 h3 h4 h5 h6
        blockquote sup sub col colgroup wbr iframe embed o:p figcaption tt bdi bdo dfn kbd samp rp rt svg""",
    )
)
_NAMES = "|".join(sorted((*_BREAK, *_INLINE), key=len, reverse=True))
# An attribute has a value; those that stand alone are few.
_ATTRIBUTE = (
    r"\s+(?:[a-zA-Z_:@][\w:.@-]*\s*=\s*(?:\"[^\"]*\"|'[^']*'|[^\s\"'<>`]+)"
    r"|(?:data-[\w-]+|checked|controls|disabled|hidden|nowrap|reversed|selected|noshade|async|defer|allowfullscreen)\b)"
)
_TAG = re.compile(rf"<(/?)({_NAMES})((?:{_ATTRIBUTE})*)\s*/?>", re.IGNORECASE)
# What is no text at all, from here to its end.
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


def embedded_pictures(text: str) -> str:
    """Remove pictures that are written into the text as base64.

    Args:
        text: a question or an answer.

    Returns:
        the text without them, with a line break in the place of each.
    """
    return _PICTURE.sub("\n", text) if "base64," in text else text


def markup(text: str) -> str:
    """Turn HTML into text: breaks into line breaks, list items into ``- item``, entities into characters.

    Args:
        text: a question or an answer, as a web page or a form field holds it; entities may be written twice.

    Returns:
        the text. Comparisons (``p < 0.05``, ``a<b and c>d``) and names in angle brackets that are no tags stay.
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
    name = entity[0][1:]
    if name == "nbsp":
        return "\xa0"
    return html.unescape(entity[0]) if name[0] == "#" or name in html.entities.html5 else entity[0]


def _without_tags(text: str) -> str:
    text = _without_hidden(text)
    found = list(_TAG.finditer(text))
    comparisons = _comparisons(found)
    tags = [tag for tag in found if tag.start() not in comparisons]
    if not tags:
        return text
    if any(tag[2].casefold() in ("p", "br", "div") for tag in tags):
        # Where tags make the paragraphs, a break within a sentence is where an editor wrapped the line.
        rejoined = _WRAPPED.sub(" ", text)
        if rejoined != text:
            return _without_tags(rejoined)
    raised = _RAISED.sub(lambda found: found[1].translate(_TO_RAISED), text)
    if raised != text:
        return _without_tags(raised)
    lines = [line.strip(" \t\xa0") for line in _Writer(text).write(tags).split("\n")]
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
        if tag[2].casefold() not in _ALONE or _NUMBER_AROUND.match(tag.string[max(0, tag.start() - 1) : tag.end() + 9])
    ]
    return {tag.start() for tag in (*comparing, *never_opened)}


class _Writer:
    """Writes the text between tags, and what the tags stand for."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._pieces: list[str] = []
        self._lists: list[int | None] = []  # the numbers of the open lists; None: not numbered

    def write(self, tags: list[re.Match[str]]) -> str:
        end = 0
        for tag in tags:
            self._pieces.append(self._text[end : tag.start()])
            self._tag(tag[2].casefold(), closes=bool(tag[1]))
            end = tag.end()
        self._pieces.append(self._text[end:])
        return "".join(self._pieces)

    def _tag(self, name: str, closes: bool) -> None:
        if name == "br":
            self._pieces.append("\n")
        elif name in ("ul", "ol"):
            self._list(name, closes)
        elif name == "li":
            self._item(closes)
        elif name in ("td", "th"):
            # Between two cells of a row, not before the first one.
            if not closes and not self._at_line_start():
                self._pieces.append(" | ")
        elif name in _BREAK:
            self._break(_BREAK[name])

    def _list(self, name: str, closes: bool) -> None:
        if not closes:
            self._lists.append(0 if name == "ol" else None)
        elif self._lists:
            self._lists.pop()
        self._break("\n" if self._lists else "\n\n")

    def _item(self, closes: bool) -> None:
        self._break("\n")
        if closes:
            return
        number = self._lists[-1] if self._lists else None
        if number is not None:
            number += 1
            self._lists[-1] = number
        self._pieces.append("- " if number is None else f"{number}. ")

    def _break(self, kind: str) -> None:
        # "<li><p>text</p></li>" is one line, and a row of a table needs no break before and another behind it.
        if not _ITEM_SIGN.search(self._end()) and not (kind == "\n" and self._at_line_start()):
            self._pieces.append(kind)

    def _at_line_start(self) -> bool:
        before = self._end()
        return not before or before.endswith("\n")

    def _end(self) -> str:
        return "".join(self._pieces[-6:]).rstrip(" \t\r\xa0")
