"""Which cleaned rows hold no answer: a question back, a page heading, or nothing but links.

A short answer is not a bad one: nothing here looks at length alone. Does not clean, and knows no other rows.
"""

from __future__ import annotations

import re
import unicodedata

_LONGEST_STUB = 200  # characters; what is longer is no heading
_LONGEST_QUESTION = 300

_SENTENCE_BREAK = re.compile(r"[.!:](?=\s)|\n")
_LINE_SIGN = re.compile(r"^[\s*•–—-]+")
_BRACKETS = re.compile(r"\([^()]*\)")

_HEADINGS = frozenset(
    {
        "additional information",
        "coming soon",
        "contents",
        "fact sheet",
        "fact sheets",
        "faq",
        "faqs",
        "frequently asked queestions",  # as in the source
        "frequently asked questions",
        "further information",
        "general information",
        "introduction",
        "key points",
        "learn more",
        "more information",
        "on this page",
        "overview",
        "read more",
        "references",
        "related topics",
        "resources",
        "summary",
        "table of contents",
        "top of page",
        "topics",
        "vector information",
    }
)
_MISSING = frozenset(
    {
        "answer not available",
        "information not available",
        "missing",
        "n.a",
        "n/a",
        "na",
        "no answer",
        "no answer available",
        "no information available",
        "not answered",
        "not applicable",
        "not available",
        "tba",
        "tbd",
        "to be determined",
        "todo",
    }
)
_STUBS = _HEADINGS | _MISSING
_POINTER = re.compile(
    r"(?:please )?(?:see|refer to|go to)"
    r" (?:above|below|also [^.]*|page \d+|(?:table|figure|section|chapter|appendix) \w+"
    r"|the [^.]*\b(?:summary|page|section|article|fact sheet|topic|link|web ?site|table|figure)\b[^.]*)"
)

_URL = re.compile(r"(?:https?://|www\.)\S+")
_LINK_SIGNS = " \t\n-*•,;:.()<>[]"
# "These resources address the diagnosis or management of X:", and the like, up to the colon.
_LINK_HEADING = re.compile(
    r"(?:These|The following) (?:online )?(?:resources|links|web ?sites|pages|organizations)\b(?:[^:]|:(?=\S)){0,400}:"
    r"(?=\s+- |\s*$)"
)
_MORE_AT = re.compile(r"(?:for )?(?:more|further|additional) (?:detailed |specific )?information\b[^.!?]{0,200}")
_LINK_TITLE_WORDS = 30
_ITEM_SIGN = re.compile(r"(?:^|\s)- ")


def unhelpful(question: str, answer: str) -> str | None:
    """Return why a cleaned row is of no use, or None.

    Args:
        question: the cleaned question; not looked at so far, since no reason depends on it.
        answer: the cleaned answer, not empty.

    Returns:
        ``answer_is_question``: the answer is one or more questions and nothing else;
        ``stub``: the answer is a heading of a page, a sign for "missing", or a pointer to elsewhere;
        ``link_list``: the answer is a list of titles of links, or addresses only. A list behind an answer is no reason.
    """
    answer = answer.strip()
    if _is_question(answer):
        return "answer_is_question"
    if _is_stub(answer):
        return "stub"
    if _is_link_list(answer):
        return "link_list"
    return None


def _is_question(answer: str) -> bool:
    return (
        answer.endswith(("?", "？"))
        and len(answer) <= _LONGEST_QUESTION
        and any(c.isalnum() for c in answer)
        and not _SENTENCE_BREAK.search(answer)
    )


def _is_stub(answer: str) -> bool:
    """Tell whether each line is a heading, a sign for "missing", a pointer, or without any letter or digit."""
    if len(answer) > _LONGEST_STUB:
        return False
    lines = [line for line in answer.splitlines() if line.strip()]
    return bool(lines) and all(_is_stub_line(line) for line in lines)


def _is_stub_line(line: str) -> bool:
    if all(unicodedata.category(c)[0] in "PZC" for c in line):
        return True
    text = _LINE_SIGN.sub("", line).casefold().strip(" .:;!?\"'")
    bare = " ".join(_BRACKETS.sub(" ", text).split()).strip(" .:;")
    return text in _STUBS or bare in _STUBS or bool(_POINTER.fullmatch(text))


def _is_link_list(answer: str) -> bool:
    if _has_only_addresses(answer):
        return True
    if not _LINK_HEADING.match(answer):
        return False
    # Without the headings only titles are left; a sentence among them would be an answer.
    titles = [title.strip() for title in _ITEM_SIGN.split(_LINK_HEADING.sub(" ", answer))]
    return all(len(title.split()) <= _LINK_TITLE_WORDS and not title.endswith((".", "!")) for title in titles)


def _has_only_addresses(answer: str) -> bool:
    """Tell whether nothing is left without the addresses but ``More information on X is available at``."""
    without, addresses = _URL.subn(" ", answer)
    without = without.strip(_LINK_SIGNS)
    if not addresses:
        return False
    return not any(c.isalnum() for c in without) or bool(_MORE_AT.fullmatch(without.casefold()))
