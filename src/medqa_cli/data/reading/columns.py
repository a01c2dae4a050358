"""Which column holds the question, the answer, the topic and the source, and which go with them: by their names alone.
What is said of columns that are not found, or not used.
"""

import itertools
import json
import re
import shlex
from collections.abc import Sequence, Set
from dataclasses import replace

from medqa_cli.data.reading.shapes import ColumnNames, Columns
from medqa_cli.errors import InputError
from medqa_cli.spelling import did_you_mean, listed

MOST_TITLES = 5  # rows that may stand above the header
# The first name of each wins over the others; two of the others in one file are ambiguous.
CANDIDATES = {
    "question": ("question", "questions", "q", "query", "prompt", "instruction", "input", "qtext"),
    "answer": ("answer", "answers", "a", "response", "output", "completion", "target"),
}
# The same words in other languages, which count where a file has none of the above.
_ABROAD = {
    "question": re.findall(
        r"\S+",
        """frage fragen pregunta preguntas domanda domande pergunta perguntas vraag vragen fråga frågor spørgsmål
        spørsmål kysymys pytanie otázka întrebare kérdés soru вопрос питання ερώτηση سؤال שאלה پرسش प्रश्न सवाल
        pertanyaan คำถาม 问题 問題 质问 質問 提问 질문""",
    ),
    "answer": re.findall(
        r"\S+",
        """antwort antworten réponse réponses respuesta respuestas risposta risposte resposta respostas antwoord
        antwoorden svar vastaus odpowiedź odpověď odpoveď răspuns válasz cevap yanıt ответ відповідь απάντηση جواب إجابة
        תשובה پاسخ उत्तर जवाब jawaban คำตอบ 回答 答案 答复 답변""",
    ),
}
# Words in the names of columns that are no candidates and yet are likely to hold it; the likelier first.
_LIKELY = {
    "question": re.findall(
        r"\S+",
        """question questions ask query body title description prompt instruction patient user human qtext context""",
    ),
    "answer": re.findall(
        r"\S+",
        """answer answers response reply output completion ideal solution doctor physician assistant gpt correct chosen
        target""",
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
_NEEDED = re.compile(
    r"contexts?|passages?|paragraphs?|background|abstract|documents?|evidence|snippets|history|inputs?|case|vignette"
    r"|(?:case|patient|medical|clinical) (?:text|history|description|context|note|notes|presentation)"
    r"|(?:question |post |long |full )?(?:title|descriptions?|body|details?)|turns"
)
_MORE = frozenset({"explanation", "explanations", "exp", "rationale", "rationales", "reasoning", "cot", "long_answer"})
# These are optional: the first name that a file has is taken.
TOPIC_NAMES = ("topic", "focus", "focus_area", "disease", "condition")
# Their kin, as words: "Focus (Drug)", "topic_name". No coarse ones ("category", "subject"): a topic is not divided.
_TOPIC_KIN = re.compile(
    r"(?:topic|focus)s?(?: (?:drug|disease|condition|medication|medicine|area|name|entity|term|title|concept))?"
    r"|(?:medical|health) condition|(?:disease|condition|illness|disorder|drug|medication|medicine|entity)(?: name)?"
    r"|illness|disorder|diagnosis|main entity|fact ?sheet|(?:page|document|article) title"
    r"|thema|krankheit|erkrankung|diagnose|th[eè]me|maladie|tema|enfermedad|argomento|malattia|doença|choroba|ziekte"
    r"|болезнь|заболевание|疾病"
)
KIND_NAMES = ("qtype", "question_type")
# What a row is from; rows from one page stay together where topics do not tell what belongs together.
SOURCE_NAMES = (
    *("source", "url", "source_url", "page_url", "document_url", "link", "page", "document", "document_id", "doc_id"),
    *("article_id", "page_id", "pmid", "pubmed_id"),
)
# A question and its answer in one column: a list of messages, or a text with turn markers.
MESSAGE_NAMES = ("messages", "conversations", "conversation", "dialogue", "dialog", "utterances")
TEXT_NAMES = ("text",)
SYSTEM_MESSAGE = "system"  # as data.context_column
# Alpaca's form: the question is the instruction, and behind it the input where there is one. Under other names the
# cells have to tell whether it is one.
INSTRUCTION, INPUT = "instruction", "input"
INPUT_NAMES = (INPUT, "inputs", "context", "background", "case", "vignette", "passage")
# The turns before the question, as words: "history", "chatHistory", "previous_turns".
_HISTORY_KIN = re.compile(
    r"(?:(?:chat|dialog|dialogue|conversation|message|turn|qa|past|previous) )?(?:history|histories)"
    r"|(?:history|historical|past|previous|prior|earlier|preceding) (?:turns?|messages?|dialogs?|dialogues?|utterances?"
    r"|conversations?|chats?|exchanges?|qas?|questions?)"
    r"|(?:chat|dialog|dialogue|conversation) (?:context|log|so far)|past"
)
# The options of a multiple-choice question: one column that holds all of them, or one column each.
OPTIONS_NAMES = ("options", "option", "choices")
# As words: "Correct Answer", "correct_answer" and "correctAnswer".
CORRECT_NAMES = re.findall(
    r"\w[\w ]*",
    """correct, cop, answer idx, answer index, answer key, correct option, correct answer, correct choice, correct idx,
    correct index, correct letter, correct ans, right answer, right option, right choice, answer letter, answer number,
    ans, label, gold, ra""",
)
# HEAD-QA: the number of the right answer, beside a list of all.
_RIGHT_OF_ANSWERS = ("ra", "answers")
_OPTION_NAME = re.compile(
    r"(?:(?:op|opt|options?|choices?|ans|answer)[ _.-]?)?([a-h])|(?:op|opt|options?|choices?)[ _.-]?([1-8])"
)


def find_columns(wanted: ColumnNames, header: Sequence[str], file: object) -> Columns:
    """Find the columns in use.

    Args:
        wanted: the names that the user gave.
        header: all names of the file, in its order.
        file: what the messages call the file.

    Returns:
        the positions of the columns.

    Raises:
        InputError: a column is missing or ambiguous, or question and answer are one column.
    """
    if not wanted.answers:
        return _questions_alone(wanted, header, file)
    exchange = None
    if wanted.question is None and wanted.answer is None:
        known = [bool(_candidates(role, header, ())) for role in CANDIDATES]
        # `prompt` beside `messages` is a copy of its first turn; `question` beside `text` lacks an answer column.
        names = () if all(known) else MESSAGE_NAMES if any(known) else (*MESSAGE_NAMES, *TEXT_NAMES)
        exchange = _optional(names, header, set())
    if exchange is None:
        columns = _question_and_answer(wanted, header, file)
    else:
        columns = Columns(tuple(header), exchange, exchange, exchange=True)
    taken = set(columns.used)
    context, takes_system = _context(wanted, header, file, taken, is_exchange=exchange is not None)
    if context is not None:
        taken.add(context)
    topic = _optional(TOPIC_NAMES, header, taken)
    if wanted.topic is not None:
        topic = _named("topic", wanted.topic, header, file)
    elif topic is None:
        topic = _of_kin(_TOPIC_KIN, header, taken)
    source, kind = _optional(SOURCE_NAMES, header, taken), _optional(KIND_NAMES, header, taken)
    history = _of_kin(_HISTORY_KIN, header, set() if context is None else {context})
    found = replace(columns, topic=topic, source=source, kind=kind, history=history)
    return replace(found, turns=wanted.turns, context=context, takes_system=takes_system)


def _context(
    wanted: ColumnNames, header: Sequence[str], file: object, taken: Set[int], *, is_exchange: bool
) -> tuple[int | None, bool]:
    """Return the column of the context, if one is named, and whether system messages are taken for one."""
    if wanted.context is None:
        return None, False
    takes_system = is_exchange and wanted.context == SYSTEM_MESSAGE
    if takes_system and not _matches(header, wanted.context):
        return None, True
    context = _named("context", wanted.context, header, file)
    if context in taken:
        raise InputError(
            f"{file}: data.context_column is '{wanted.context}', which holds the question, the answer or an option",
            "name another column: --set data.context_column=NAME",
        )
    return context, takes_system


def _question_and_answer(wanted: ColumnNames, header: Sequence[str], file: object) -> Columns:
    """Find the question and the answer in two columns, with what goes with them."""
    options = _options(wanted, header)
    questions, answers = (_candidates(role, header, options) for role in CANDIDATES)
    words = [_as_words(name) for name in header]
    # Columns whose names say that they tell the right option, the likelier first.
    correct = [index for name in CORRECT_NAMES for index, word in enumerate(words) if word == name]
    # One message names all that is missing.
    missing = ["question"] if wanted.question is None and not questions else []
    if wanted.answer is None and not answers and not (options and correct):
        missing.append("answer")
    if missing:
        barred = [header[index] for index in options]
        why = f"; {listed(barred)} look like the options of a multiple-choice question, not like its answer"
        free = [name for name in header if name not in barred]
        raise missing_column(missing, free, file, why if options else "", header)
    unnamed = _without(wanted, header)
    after = _optional((INPUT,), unnamed, set())
    if wanted.question is not None:
        question = _named("question", wanted.question, header, file)
    else:
        question = _only("question", [index for index in questions if index != after] or questions, header, file)
    if wanted.answer is not None:
        answer = _named("answer", wanted.answer, header, file)
    else:
        answer = _only("answer", answers, header, file) if answers or not options else correct[0]
    if question == answer:
        raise InputError(
            f"{file}: question and answer are one column, '{header[question]}'; the file has {listed(header)}",
            "name another: --set data.answer_column=NAME",
        )
    options = tuple(index for index in options if index not in (question, answer))
    right = [*_candidates("answer", header, options), *correct]
    if after is None or after == question:
        after = _optional(INPUT_NAMES, unnamed, {question, answer, *options})
    folded = [header[index].strip().casefold() for index in (question, after) if index is not None]
    return Columns(
        tuple(header),
        question,
        answer,
        input=after,
        input_in_doubt=after is not None and folded != [INSTRUCTION, INPUT],
        options=options,
        correct=next((index for index in right if index not in (question, answer)), None),
        answer_is_named=wanted.answer is not None and answer not in right,
    )


def _questions_alone(wanted: ColumnNames, header: Sequence[str], file: object) -> Columns:
    """Find the question, and behind Alpaca's instruction its input, in a file that need not have answers."""
    # The config names the column of the training data; a file of questions may have another.
    names = (*([wanted.question] if wanted.question is not None else []), *CANDIDATES["question"], *_ABROAD["question"])
    question = _optional(names, header, set())
    if question is None:
        expected = f"'{wanted.question}' or 'question'" if wanted.question is not None else "'question'"
        raise InputError(
            f"{file}: no column {expected}; found {', '.join(map(repr, header)) or 'none'}",
            "name it: --set data.question_column=NAME",
        )
    is_instruction = header[question].strip().casefold() == INSTRUCTION
    after = _optional((INPUT,), header, {question}) if is_instruction else None
    context = _optional((wanted.context,), header, {question}) if wanted.context is not None else None
    return Columns(tuple(header), question, question, input=None if after == context else after, context=context)


def _without(wanted: ColumnNames, header: Sequence[str]) -> list[str]:
    """Return the names of the columns, without those that the user gave a role."""
    roles = (wanted.question, wanted.answer, wanted.topic, wanted.context)
    named = {name.strip().casefold() for name in roles if name is not None}
    return ["" if name.strip().casefold() in named else name for name in header]


def _of_kin(kin: re.Pattern[str], header: Sequence[str], taken: Set[int]) -> int | None:
    """Return the first column whose name, as words, is of a kind."""
    return next((at for at, name in enumerate(header) if at not in taken and kin.fullmatch(_as_words(name))), None)


def _as_words(name: str) -> str:
    """Return the words of a name: "question title" of "questionTitle" and of "Question_Title"."""
    return " ".join(_WORDS.findall(name)).casefold()


def _options(wanted: ColumnNames, header: Sequence[str]) -> tuple[int, ...]:
    """Return the columns that hold the options of a multiple-choice question, in their order: A, B, ... or one."""
    unnamed = _without(wanted, header)
    signs: dict[str, int] = {}
    for index, name in enumerate(unnamed):
        if match := _OPTION_NAME.fullmatch(name.strip().casefold()):
            signs.setdefault(match[1] or match[2], index)
    for first in ("a", "1"):
        run = list(itertools.takewhile(signs.__contains__, (chr(ord(first) + step) for step in range(len(signs)))))
        if len(run) > 1:
            return tuple(signs[sign] for sign in run)
    single = _optional(OPTIONS_NAMES, header, set())
    if single is None and all(_matches(header, name) for name in _RIGHT_OF_ANSWERS):
        single = _matches(header, _RIGHT_OF_ANSWERS[1])[0]
    return () if single is None or not unnamed[single] else (single,)


def _optional(names: Sequence[str], header: Sequence[str], taken: Set[int]) -> int | None:
    return next((index for name in names for index in _matches(header, name) if index not in taken), None)


def _named(role: str, name: str, header: Sequence[str], file: object) -> int:
    matches = _matches(header, name)
    if not matches:
        raise InputError(
            f"{file}: data.{role}_column is '{name}', but the columns are {listed(header)}{did_you_mean(name, header)}",
            f"name one of them: --set data.{role}_column=NAME",
        )
    return _only(role, matches, header, file)


def _candidates(role: str, header: Sequence[str], barred: Sequence[int]) -> list[int]:
    first, *others = CANDIDATES[role]
    matches = _matches(header, first)
    for names in (others, _ABROAD[role]):
        matches = matches or [index for name in names for index in _matches(header, name)]
    return [index for index in matches if index not in barred]


def _only(role: str, matches: Sequence[int], header: Sequence[str], file: object) -> int:
    if len(matches) > 1:
        raise InputError(
            f"{file}: {len(matches)} columns could hold the {role}: {listed([header[index] for index in matches])}; "
            f"the columns are {listed(header)}",
            f"name one: --set data.{role}_column=NAME (rename columns that share a name)",
        )
    return matches[0]


def _matches(header: Sequence[str], name: str) -> list[int]:
    exact = [index for index, column in enumerate(header) if column == name]
    folded = name.strip().casefold()
    return exact or [index for index, column in enumerate(header) if column.strip().casefold() == folded]


def titles_in_words(count: int) -> str:
    """Return what is said of lines of title above a header; empty: there are none."""
    return f", below {count} line{'s' * (count > 1)} of title" if count else ""


def likeliest_header(heads: Sequence[Sequence[Sequence[str]]], wanted: ColumnNames) -> tuple[int, Sequence[str]]:
    """Return the row that a message calls the header where none has the columns, and which of the tables it is from.

    Args:
        heads: the first rows of each table, at least one; their header is the first with more than a title in it.
        wanted: the columns that the user named.
    """
    headers = [next((row for row in head if _num_filled(row) > 1), head[0]) for head in heads]

    def rank(header: Sequence[str]) -> tuple[int, bool]:
        named = {"question": wanted.question, "answer": wanted.answer}
        known = [_likely(role, header) or (name and _matches(header, name)) for role, name in named.items()]
        return sum(map(bool, known)), _num_filled(header) > 1

    best = max(range(len(headers)), key=lambda index: rank(headers[index]))
    return best, headers[best]


def _num_filled(row: Sequence[str]) -> int:
    return sum(bool(cell.strip()) for cell in row)


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
        if column := _likely(role, [column for column in free if column not in likely.values()]):
            likely[role] = column
    names = " and ".join(f"'{column}'" for column in likely.values())
    meant = f"; did you mean {names}?" if likely else ""
    settings = " ".join(setting(role, likely.get(role, "NAME")) for role in roles)
    return InputError(
        f"{file}: {' and '.join(f'no {role} column found' for role in roles)}; expected {expected}, "
        f"but the columns are {listed(list(header if header is not None else free))}{why}{meant}",
        f"name {'it' if len(roles) == 1 else 'them'}: {settings}"
        + ("" if likely else " (a file without a header line needs one)"),
    )


def unused_warnings(columns: Columns) -> list[str]:
    """Return a warning for each column that is not used and that a question or an answer may need."""
    answer = columns.names[columns.answer]
    warnings = []
    for name in columns.unused():
        folded = name.strip().casefold()
        if _NEEDED.fullmatch(_as_words(name)) or _HISTORY_KIN.fullmatch(_as_words(name)):
            warnings.append(
                f"column '{name}' is not used: a question that cannot be answered without it is learned without it"
            )
        elif folded in _MORE:
            instead = f"to learn it instead: {setting('answer', name)}"
            warnings.append(f"column '{name}' is not used: the answer is '{answer}' alone ({instead})")
    return warnings


def _likely(role: str, names: Sequence[str]) -> str | None:
    """Return the name that most likely holds the question or the answer, or None."""
    known = [*_ABROAD[role], *_LIKELY[role]]
    ranked = []
    for index, name in enumerate(names):
        words = [word.casefold() for word in _WORDS.findall(name)]
        hits = [known.index(word) for word in words if word in known]
        if hits and not _NEVER.intersection(words):
            extra = min((_LIKELIER.index(word) for word in words if word in _LIKELIER), default=len(_LIKELIER))
            ranked.append((min(hits), extra, index, name))
    return min(ranked)[-1] if ranked else None
