"""Who speaks in a text: names of those who ask and answer, their marks around it, and turns of a talk within it.

The names stand in ``resources/speakers.yaml``, in some 30 languages: of roles in chats, of turns in a talk, and of the
marks that programs put before a question and an answer. In doubt there is no turn: a definition ("Patient: a child
under five"), and a talk that the question asks for or that the answer shows as an example, are none.
"""

import re
import unicodedata
from collections.abc import Iterable, Mapping
from functools import cache

from medqa_cli.resources import load_pattern, load_yaml

USER, ASSISTANT, SYSTEM = "user", "assistant", "system"

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

_SENTENCE_ENDS = r".!?。！？…؟।॥۔”\"»)"
_SURE = ("Patient", "病人", "患者")  # within a line: others ("Human") may name what a sentence is about
_NEXT_PROMPT = ("[INST]", "<|im_start|>", "### Instruction")
_LONGEST_NAME = 20  # characters, with spaces behind it
_LOOKED_AT = 400  # characters of a turn, and before the first

_DEFINES = re.compile(r"\s*(?:(?:an?|any|someone|anyone|one|usually|mostly|the (?:person|one|man|woman))\b|\d)")


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
    table = load_yaml("speakers")
    texts = {*table["texts"].split(), *table["text_phrases"]}
    return tuple(name for name in _names(role) if name not in texts)


@cache
def marks(role: str) -> tuple[str, ...]:
    """Return the names that stand as marks before a text, without those that are headings as well ("model")."""
    headings = set(load_yaml("speakers")["headings"].split())
    return tuple(name for name in _names(role) if name not in headings)


def _names(role: str) -> tuple[str, ...]:
    table = load_yaml("speakers")[role]
    return (*table["words"].split(), *table["phrases"])


def prompt_marks(question: str, answer: str) -> tuple[str, str]:
    """Remove marks that a program put at the ends of the texts: ``<s>``, ``[INST]``, ``问：``, ``Q:``, ``Doctor:``.

    A text that is nothing but marks stays as it is.
    """
    question_start, question_end, marked_question_end, answer_start = _patterns()
    if _may_hold_marks(question):
        start = _TOKEN_START if is_talk(question) else question_start
        question = _stripped(question, start, marked_question_end if start.match(question) else question_end)
    if _may_hold_marks(answer[:_REACH] + answer[-_REACH:]) and not _LETTERED.match(answer):
        # The first name of an example of a talk is one of its turns.
        answer = _stripped(answer, _TOKEN_START if is_talk(answer) else answer_start, _ANSWER_END)
    return question, answer


def _may_hold_marks(text: str) -> bool:
    return _MARK_SIGN.search(text) is not None or text.startswith("Q.") or text.rstrip().endswith("END")


@cache
def _patterns() -> tuple[re.Pattern[str], ...]:
    """Return what stands at the start and the end of a question, at the end of one with a mark, before an answer."""
    asks, tells = (f"(?:{_any_of(marks(role))})" for role in (USER, ASSISTANT))
    # "vitamin A:" ends with no mark, unless there is a mark at the start too.
    answer_next = rf"(?:{tells}|#{{2,}}\s*(?:Response|Answer))\s*[:：]\s*$"
    headings = "#{2,}\\s*(?:Instruction|Input|Question)"
    patterns = (
        rf"\s*(?:{_TOKEN}|{asks}{_COLON}|Q\.\s+(?=[A-Z])|{headings}{_COLON})",
        rf"{_TOKEN}\s*$|{_PROMPT_END}|(?:(?<=[\n.?!。！？؟।])|(?<=[.?!] )){answer_next}",
        rf"{_TOKEN}\s*$|{_PROMPT_END}|(?<![^\W_]){answer_next}",
        rf"\s*(?:{_TOKEN}|{tells}{_COLON}|#{{2,}}\s*(?:Response|Answer){_COLON})",
    )
    return tuple(re.compile(pattern, re.IGNORECASE) for pattern in patterns)


def _stripped(text: str, start: re.Pattern[str], end: re.Pattern[str]) -> str:
    first, last = 0, len(text)
    while match := start.match(text, first):
        first = match.end()
    while match := end.search(text, max(first, last - _REACH), last):
        last = match.start()
        while last > first and text[last - 1].isspace():
            last -= 1
    rest = text[first:last].strip()
    return text if not rest or (first, last) == (0, len(text)) else rest


def has_more_turns(question: str, answer: str) -> bool:
    """Tell whether a row holds more than a question and its answer: the patient's or the doctor's next turn.

    Args:
        question: the cleaned question.
        answer: the cleaned answer.
    """
    if any(sign[0] in answer and sign in answer for sign in _NEXT_PROMPT):  # a single character is found faster
        return True
    turns = _turns(answer)
    if turns:
        start, shown = turns[0].start(), load_pattern("speakers", "examples")
        is_shown = shown.search(question) or shown.search(answer, max(0, start - _LOOKED_AT), start)
        if not is_shown and any(_is_next(turn, turns[index:]) for index, turn in enumerate(turns)):
            return True
    turns = _turns(question)
    return bool(turns) and _is_patient(turns[-1]) and any(not _is_patient(turn) and _speaks(turn) for turn in turns)


def is_talk(text: str) -> bool:
    """Tell whether the names of those who speak stand within a text, behind its first words."""
    return bool(_turns(text))


def _turns(text: str) -> list[re.Match[str]]:
    for piece in text.replace("：", ":").split(":")[:-1]:
        end = piece[-_LONGEST_NAME:].rstrip("* ")
        if end.endswith(_names_by_last_letter().get(end[-1:], ())):
            return list(_turn().finditer(text))
    return []


@cache
def _names_by_last_letter() -> dict[str, tuple[str, ...]]:
    names: dict[str, tuple[str, ...]] = {}
    for name in (*persons(USER), *persons(ASSISTANT)):
        for form in (name, *_capitals(name)):
            names[form[-1]] = (*names.get(form[-1], ()), form)
    return names


@cache
def _turn() -> re.Pattern[str]:
    """Match the name of who speaks at the start of a line, or right behind a sentence with a capital."""
    patients, doctors = persons(USER), persons(ASSISTANT)
    behind = [[form for name in names for form in _capitals(name)] for names in (patients, doctors)]
    lines = [[*names, *forms] for names, forms in zip((patients, doctors), behind, strict=True)]
    return re.compile(
        rf"(?:(?<=\n)\s{{0,9}}\*{{0,2}}(?:({_any_of(lines[0])})|({_any_of(lines[1])}))"
        rf"|(?<=[{_SENTENCE_ENDS}])\s{{0,9}}\*{{0,2}}(?:({_any_of(behind[0])})|({_any_of(behind[1])})))\s*\*{{0,2}}[:：](?=\s*\S)"
    )


def _any_of(names: Iterable[str]) -> str:
    return "|".join(re.escape(name) for name in sorted(set(names), key=lambda name: (-len(name), name)))


def _capitals(name: str) -> tuple[str, str]:
    return name[:1].upper() + name[1:], name.upper()


def _is_next(turn: re.Match[str], following: list[re.Match[str]]) -> bool:
    """Tell whether a turn is the patient's, who speaks, and not what a sentence within the text is about."""
    if not _is_patient(turn) or not _speaks(turn):
        return False
    is_sure = turn[1] or turn[3] in _SURE or "\n" in turn[0]
    return bool(is_sure) or any(mark in _said(turn) for mark in "?？؟") or not all(map(_is_patient, following))


def _is_patient(turn: re.Match[str]) -> bool:
    return bool(turn[1] or turn[3])


def _speaks(turn: re.Match[str]) -> bool:
    """Tell whether what stands behind a speaker's name, up to the next one, is said by somebody."""
    speech = _said(turn)
    return load_pattern("speakers", "speech").search(speech) is not None and _DEFINES.match(speech) is None


def _said(turn: re.Match[str]) -> str:
    following = _turn().search(turn.string, turn.end(), turn.end() + _LOOKED_AT)
    end = following.start() if following else turn.end() + _LOOKED_AT
    return turn.string[turn.end() : end].split("\n\n")[0]
