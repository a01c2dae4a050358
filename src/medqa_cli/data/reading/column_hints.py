"""What is said of columns that are not found, or not used. Names decide, not cells."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Sequence

from medqa_cli.data.wording import listed
from medqa_cli.errors import InputError

# The first name of each wins over the others; two of the others in one file are ambiguous.
CANDIDATES = {
    "question": ("question", "questions", "q", "query", "prompt", "instruction", "input"),
    "answer": ("answer", "answers", "a", "response", "output", "completion", "target"),
}
# Words in the names of columns that are no candidates and yet are likely to hold it; the likelier first.
_LIKELY = {
    "question": re.findall(
        r"\S+",
        """question questions frage fragen pregunta preguntas domanda pytanie pergunta fråga 问题 問題 質問 提问 ask
        query body title description prompt instruction patient user human qtext context""",
    ),
    "answer": re.findall(
        r"\S+",
        """answer answers antwort antworten respuesta respuestas risposta odpowiedź resposta réponse svar 回答 答案 答复
        response reply output completion ideal solution doctor physician assistant gpt correct chosen target""",
    ),
}
# Of two names that both hold such a word: questionText rather than questionTitle, and questionID never.
_LIKELIER = ("long", "full", "text", "body", "free", "form", "ideal", "content", "title")
_NEVER = frozenset(
    re.findall(
        r"\S+",
        """id ids url link links date time type kind category count number num index idx author name html score votes
        label labels source lang language topic tags""",
    )
)
_WORDS = re.compile(r"[A-ZÄÖÜ]?[^\W\d_A-Z]+|[A-Z]+(?![a-z])|\d+|[^\W\d_]")
_PLAIN = re.compile(r"[^\W\d][\w. -]*[\w-]|[^\W\d]")
_YAML_WORDS = frozenset({"null", "true", "false", "yes", "no", "on", "off", "y", "n"})
# What a question, or an answer, may not be understood without.
_NEEDED = frozenset(
    re.findall(
        r"\S+",
        """context contexts passage passages paragraph paragraphs background abstract document documents evidence
        snippets history input inputs case vignette previous_turns turns dialogue_history""",
    )
)
_MORE = frozenset({"explanation", "explanations", "exp", "rationale", "rationales", "reasoning", "cot", "long_answer"})


def setting(role: str, name: str) -> str:
    """Return the option that names a column, as it is typed in a shell: ``--set data.question_column=ask``."""
    plain = _PLAIN.fullmatch(name) and name.casefold() not in _YAML_WORDS
    value = name if plain else json.dumps(name, ensure_ascii=False)
    return f"--set {shlex.quote(f'data.{role}_column={value}')}"


def missing_column(
    roles: Sequence[str], free: Sequence[str], file: object, why: str = "", header: Sequence[str] | None = None
) -> InputError:
    """Return the error for a file without a column that could hold the question or the answer.

    Args:
        roles: ``question``, ``answer`` or both.
        free: the names of the columns that could be meant.
        file: what the message calls the file.
        why: what else there is to say; begins with a semicolon.
        header: all names of the columns, where these are more.
    """
    expected = " and ".join(f"one named {listed(CANDIDATES[role])}" for role in roles)
    likely: dict[str, str] = {}
    for role in roles:
        if found := _likely(role, [name for name in free if name not in likely.values()]):
            likely[role] = found
    names = " and ".join(f"'{name}'" for name in likely.values())
    meant = f"; did you mean {names}?" if likely else ""
    settings = " ".join(setting(role, likely.get(role, "NAME")) for role in roles)
    return InputError(
        f"{file}: {' and '.join(f'no {role} column found' for role in roles)}; expected {expected}, "
        f"but the columns are {listed(list(header if header is not None else free))}{why}{meant}",
        f"name {'it' if len(roles) == 1 else 'them'}: {settings}"
        + ("" if likely else " (a file without a header line needs one)"),
    )


def unused_warnings(unused: Sequence[str], answer: str) -> list[str]:
    """Return a warning for each column that is not used and that a question or an answer may need.

    Args:
        unused: the names of the columns that are not used.
        answer: the name of the answer's column.
    """
    warnings = []
    for name in unused:
        folded = name.strip().casefold()
        if folded in _NEEDED:
            warnings.append(
                f"column '{name}' is not used: a question that cannot be answered without it is learned without it"
            )
        elif folded in _MORE:
            instead = f"to learn it instead: {setting('answer', name)}"
            warnings.append(f"column '{name}' is not used: the answer is '{answer}' alone ({instead})")
    return warnings


def _likely(role: str, names: Sequence[str]) -> str | None:
    """Return the name that most likely holds the question or the answer, or None."""
    known = _LIKELY[role]
    ranked = []
    for place, name in enumerate(names):
        words = [word.casefold() for word in _WORDS.findall(name)]
        hits = [known.index(word) for word in words if word in known]
        if hits and not _NEVER.intersection(words):
            extra = min((_LIKELIER.index(word) for word in words if word in _LIKELIER), default=len(_LIKELIER))
            ranked.append((min(hits), extra, place, name))
    return min(ranked)[-1] if ranked else None
