r"""The cleaning rules for marks that programs put around a text: of prompts, of speakers, and ``\n`` written out."""

from __future__ import annotations

import re
import unicodedata
from functools import cache
from typing import NamedTuple

from medqa_cli.data.cleaning.turns import is_talk
from medqa_cli.data.speakers import ASSISTANT, USER, marks

# Tokens of training texts, at either end.
_TOKEN = (
    r"(?:</?s>|<bos>|<eos>|<pad>|<unk>|<\|start_header_id\|>\s*\w+\s*<\|end_header_id\|>|<start_of_turn>(?:user|model)?"
    r"|<end_of_turn>|<\|[a-z_]{2,30}\|>(?:\s*(?:user|assistant|system)\s*\n)?|\[/?INST\]|<</?SYS>>"
    r"|\[(?:CLS|SEP|PAD|UNK|EOS|BOS)\])"
)
_COLON = r"\s*[:：]\s*"
# What ended prompts and completions of older services: "...?\n\n###\n\n", "... ->", "... END".
_PROMPT_END = r"\s#{3,}\s*$|\s(?:->|=>)\s*$"
_COMPLETION_END = r"\s#{3,}\s*$|(?<=[.!?。！？])\s+(?-i:END)\s*$"
_TOKEN_START = re.compile(rf"\s*{_TOKEN}", re.IGNORECASE)
_ANSWER_END = re.compile(rf"\s*{_TOKEN}\s*$|{_COMPLETION_END}", re.IGNORECASE)
_REACH = 80  # characters at either end that may hold a mark
_MARK_SIGN = re.compile(r"[:：<\[#>]")
# "A: 5 mg, B: 10 mg" is a list, and "A: asthma. P: inhaler." a doctor's note (SOAP).
_LETTERED = re.compile(r"\s*A\s*[:：].*?(?<!\w)[BPSO]\s*[:：]", re.DOTALL)

# Commands of LaTeX that begin with n or t: \nu is no break before a "u".
_LATEX = frozenset(
    re.findall(
        r"\w+",
        """nu ne neq nabla not notin ni newline newcommand nolimits normalsize noindent nonumber natural nearrow nwarrow
        nmid nless ngtr nleq ngeq nparallel nsim ncong nexists nsubseteq nsupseteq neg nobreak
        times tau theta text textbf textit textrm texttt textsc textsuperscript textsubscript tan tanh to top tilde
        triangle triangleq therefore tfrac tiny title table tableofcontents tbinom thinspace tag tabular thickapprox
        thicksim textstyle trianglelefteq tt ti""",
    )
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


def prompt_marks(question: str, answer: str) -> tuple[str, str]:
    """Remove marks that a program put at the ends of the texts: ``<s>``, ``[INST]``, ``问：``, ``Q:``, ``Doctor:``.

    Args:
        question: the question.
        answer: the answer.

    Returns:
        both without the marks; a text that is nothing but marks stays as it is.
    """
    patterns = _patterns()
    if _may_hold_marks(question):
        start = _TOKEN_START if is_talk(question) else patterns.question_start
        end = patterns.marked_question_end if start.match(question) else patterns.question_end
        question = _stripped(question, start, end)
    if _may_hold_marks(answer[:_REACH] + answer[-_REACH:]) and not _LETTERED.match(answer):
        # The first name of an example of a talk is one of its turns.
        answer = _stripped(answer, _TOKEN_START if is_talk(answer) else patterns.answer_start, _ANSWER_END)
    return question, answer


def _may_hold_marks(text: str) -> bool:
    return _MARK_SIGN.search(text) is not None or text.startswith("Q.") or text.rstrip().endswith("END")


class _Patterns(NamedTuple):
    """What stands at the ends of a question and of an answer."""

    question_start: re.Pattern[str]
    question_end: re.Pattern[str]
    marked_question_end: re.Pattern[str]
    answer_start: re.Pattern[str]


@cache
def _patterns() -> _Patterns:
    asks, tells = (
        "(?:" + "|".join(re.escape(name) for name in sorted(marks(role), key=len, reverse=True)) + ")"
        for role in (USER, ASSISTANT)
    )
    # "vitamin A:" ends with no mark, unless there is a mark at the start too.
    answer_next = rf"(?:{tells}|#{{2,}}\s*(?:Response|Answer))\s*[:：]\s*$"
    headings = "#{2,}\\s*(?:Instruction|Input|Question)"
    return _Patterns(
        *(
            re.compile(pattern, re.IGNORECASE)
            for pattern in (
                rf"\s*(?:{_TOKEN}|{asks}{_COLON}|Q\.\s+(?=[A-Z])|{headings}{_COLON})",
                rf"{_TOKEN}\s*$|{_PROMPT_END}|(?:(?<=[\n.?!。！？؟।])|(?<=[.?!] )){answer_next}",
                rf"{_TOKEN}\s*$|{_PROMPT_END}|(?<![^\W_]){answer_next}",
                rf"\s*(?:{_TOKEN}|{tells}{_COLON}|#{{2,}}\s*(?:Response|Answer){_COLON})",
            )
        )
    )


def _stripped(text: str, start: re.Pattern[str], end: re.Pattern[str]) -> str:
    first, last = 0, len(text)
    while found := start.match(text, first):
        first = found.end()
    while found := end.search(text, max(first, last - _REACH), last):
        last = found.start()
        while last > first and text[last - 1].isspace():
            last -= 1
    rest = text[first:last].strip()
    return text if not rest or (first, last) == (0, len(text)) else rest


def written_breaks(text: str) -> str:
    r"""Turn ``\n``, ``\r\n`` and ``\t`` that are written out into a line break or a space, where that is certain.

    Args:
        text: a question or an answer.

    Returns:
        the text. It stays as it is where the ``n`` may be a letter of its own: in commands of LaTeX (``\nu``), Windows
        paths (``C:\new``), patterns (``\d+\n``) and words (``\nausea``), and where ``\n`` itself is talked of.
    """
    # Again where a break was one: what stands behind it is no path any more.
    while "\\" in text and _WRITTEN.search(text):
        before, text = text, _with_breaks(text)
        if text == before:
            break
    return text


def _with_breaks(text: str) -> str:
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
    return "".join([*pieces, text[end:]])


def _may_be_a_break(text: str, sign: re.Match[str]) -> bool:
    """Tell whether a sign is no piece of a command, a path or a pattern."""
    if sign[0] == "\\r\\n":
        return True
    before, after = text[max(0, sign.start() - _WINDOW) : sign.start()], _WORD_AFTER.match(text, sign.end())
    word = sign[0][1] + (after[0] if after else "")
    pattern = _PATTERN_BEFORE.search(before) or _PATTERN_AFTER.match(text, sign.end())
    return word not in _LATEX and not _PATH.search(before) and (not pattern or before.endswith(("\\n", "\\r")))


def _is_clear(text: str, sign: re.Match[str], bare: bool) -> bool:
    r"""Tell a break by what stands beside it.

    Args:
        text: the text.
        sign: where ``\n`` is written.
        bare: the text has no other backslashes.
    """
    before, after = text[max(0, sign.start() - _WINDOW) : sign.start()], text[sign.end() : sign.end() + 2]
    said = before.rstrip(" \t")[-1:]
    if sign[0] == "\\r\\n" or after == "\\n" or before.endswith("\\n"):
        return True
    if said != before[-1:] and not after[:1].isalnum():  # "the \n character", but "Rest. \n - drink" is clear
        return said in _SENTENCE_ENDS or after.strip() in ("-", "•", "*", "–")
    if after[:1].isupper():
        return bare or said in _SENTENCE_ENDS
    return not (after[:1].islower() and unicodedata.name(after[0], "").startswith("LATIN"))
