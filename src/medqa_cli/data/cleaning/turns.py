"""Tells a row that goes on with the next turn of patient or doctor, which one question and its answer do not.

In doubt there is none: a definition ("Patient: a child under five"), and a talk that the question asks for or that the
answer shows as an example, are no turns.
"""

from __future__ import annotations

import re

# A turn of the patient, or the next of the doctor: at the start of a line, or right behind a sentence.
_PATIENT, _DOCTOR = ("Patient", "病人", "患者"), ("Doctor", "Physician", "医生", "大夫")
_LINE_PATIENT, _LINE_DOCTOR = ("patient", "User", "Human", "用户"), ("doctor", "Assistant")
_TURN = re.compile(
    rf"(?:(?:(?<=\n)|(?<=[.!?。！？…”\")]))\s{{0,9}}(?:({'|'.join(_PATIENT)})|({'|'.join(_DOCTOR)}))"
    rf"|(?<=\n)\s{{0,9}}(?:({'|'.join(_LINE_PATIENT)})|({'|'.join(_LINE_DOCTOR)})))\s*[:：](?=\s*\S)"
)
_SPEAKERS = (*_PATIENT, *_DOCTOR, *_LINE_PATIENT, *_LINE_DOCTOR)
_NEXT_PROMPT = ("[INST]", "<|im_start|>", "### Instruction")
_LONGEST_NAME = 20  # characters, with spaces behind it
_LOOKED_AT = 400  # characters of a turn, and before the first

# Who speaks asks, thanks, or says "I" or "you".
_SPEECH = re.compile(
    r"[?？؟]|\b(?:i|i['’]\w{1,2}|my|me|mine|we|our|us|you|your|yes|no|ok|okay|thanks?|hello|hi|please|sorry)\b"
    r"|[我您你咱谢吗私]|ます|です|\b(?:ich|mir|mich|mein\w*|sie|ihnen|danke|ja|nein|je|j['’]|moi|mon|ma|mes|vous|merci|oui"
    r"|yo|mi|usted|gracias|sí|io|mia|mio|lei|grazie|eu|meu|minha|obrigad[oa])\b"
    r"|\b(?:я|мне|меня|мой|моя|вы|вас|спасибо|да|нет)\b",
    re.IGNORECASE,
)
_DEFINES = re.compile(r"\s*(?:(?:an?|any|someone|anyone|one|usually|mostly|the (?:person|one|man|woman))\b|\d)")
_SHOWN = re.compile(
    r"\b(?:dialog\w*|diálogo|conversation|conversación|conversazione|role[- ]?play\w*|(?:tran)?script|skit|vignette"
    r"|scenario|simulat\w+|interview|exchange|encounter|act out|examples?|samples?|demonstrat\w+|illustrat\w+|imagine"
    r"|for instance|e\.g|as follows|like (?:this|so)|such as|say|ask|gespräch\w*|beispiel\w*|ejemplo|exemples?|esempio"
    r"|exemplo|rozmow\w*|przykład\w*)\b|диалог|беседа|разговор|пример|对话|例如|例子|示例|会話|例えば|대화|예시",
    re.IGNORECASE,
)


def has_more_turns(question: str, answer: str) -> bool:
    """Tell whether a row holds more than a question and its answer: the patient's or the doctor's next turn.

    Args:
        question: the cleaned question.
        answer: the cleaned answer.
    """
    if any(sign in answer for sign in _NEXT_PROMPT):
        return True
    if _may_have_turns(answer) and (turns := list(_TURN.finditer(answer))):
        start = turns[0].start()
        is_shown = _SHOWN.search(question) or _SHOWN.search(answer, max(0, start - _LOOKED_AT), start)
        if not is_shown and any(_is_patient(turn) and _speaks(turn) for turn in turns):
            return True
    turns = list(_TURN.finditer(question)) if _may_have_turns(question) else []
    return bool(turns) and _is_patient(turns[-1]) and any(not _is_patient(turn) and _speaks(turn) for turn in turns)


def _is_patient(turn: re.Match[str]) -> bool:
    return bool(turn[1] or turn[3])


def _speaks(turn: re.Match[str]) -> bool:
    """Tell whether what stands behind a speaker's name, up to the next one, is said by somebody."""
    following = _TURN.search(turn.string, turn.end(), turn.end() + _LOOKED_AT)
    end = following.start() if following else turn.end() + _LOOKED_AT
    said = turn.string[turn.end() : end].split("\n\n")[0]
    return _SPEECH.search(said) is not None and _DEFINES.match(said) is None


def _may_have_turns(text: str) -> bool:
    return any(piece[-_LONGEST_NAME:].rstrip().endswith(_SPEAKERS) for piece in text.replace("：", ":").split(":")[:-1])
