"""The cleaning rules for the form of a question, and for an answer that begins by repeating its question.

They know the fixed forms in which MedQuAD asks. They do not find the topic of a question. What a
question and its echo are compared by stands in ``resources/question_echoes.yaml``.
"""

import re
import unicodedata

from medqa_cli.data.languages import likeliest_language
from medqa_cli.resources import load_words, load_yaml

_FRENCH_SPACE = re.compile("\\S[\u00a0\u202f]\\?$")
_SPACED_MARKS = re.compile(r"(?<![\s?])[\s?]*\?")
_WHAT_IS_ARE = re.compile(r"What is ?\(are\)\s+(?=[^\s?])")

ECHO_CHARACTERS = 300  # the longest echoed question of MedQuAD has 196
_BREAK = re.compile(r"[.!:;]\s|\n")
_PARENTHESIS = re.compile(r"\([^()]{0,200}\)")
_WORD = re.compile(r"[^\W_]+")
_ASKS = re.compile(r"(?:what|how|is|are|can|does|do|which|why)\b", re.IGNORECASE)
_YES_NO_QUESTION = re.compile(r"(?:is|are|can|does|do)\b", re.IGNORECASE)
_YES_OR_NO = re.compile(r"(?:yes|no)[,.;:!]", re.IGNORECASE)
_KIND = re.compile("|".join(f"(?P<{kind}>{begins})" for kind, begins in load_yaml("question_echoes")["kinds"].items()))
_MANNER = load_words("question_echoes", "manner")
_STEM = 5


def question_mark_space(question: str) -> str:
    """Make each run of question marks one, right behind the word: ``flu ? ?`` becomes ``flu?``.

    A space that does not break is a sign of French, and stays unless the words are English.
    """
    if not question.isascii() and _FRENCH_SPACE.search(question) and likeliest_language(question) != "en":
        return question
    return _SPACED_MARKS.sub("?", question)


def what_is_are(question: str) -> str:
    """Turn the fixed form ``What is (are) X`` into ``What is X``; without an X it stays as it is."""
    match = _WHAT_IS_ARE.match(question)
    return f"What is {question[match.end() :]}" if match else question


def question_echo(question: str, answer: str) -> str:
    """Remove a question at the start of an answer that asks the same as the question of the row.

    Asking the same: a single sentence about the same kind of thing (symptoms, treatment, ...), with at least half of
    the question's topic words and no others. A leading question that asks for less (``... in children?``) tells what
    the answer is about, so it stays; and so does one that is answered by a yes or no which the row's question does not
    ask for, and one that is the whole answer.
    """
    while (end := answer.find("?", 0, ECHO_CHARACTERS) + 1) > 0:
        rest = answer[end:].lstrip()
        lead = answer[:end].strip()
        if not rest or not rest[0].isalnum() or _BREAK.search(lead) or not _asks_the_same(lead, question):
            break
        if _YES_OR_NO.match(rest) and not _YES_NO_QUESTION.match(question.lstrip()):
            break
        answer = rest
    return answer


def _asks_the_same(lead: str, question: str) -> bool:
    if not _ASKS.match(lead):
        return False
    # An abbreviation in parentheses adds nothing; the words are compared by how they begin, for plurals and slips.
    lead_kinds, lead_topic, refers_back = _parts(_PARENTHESIS.sub(" ", lead))
    kinds, topic, _ = _parts(question)
    if not lead_kinds & kinds:
        return False
    if not lead_topic:
        return refers_back
    return lead_topic <= topic and 2 * len(lead_topic) >= len(topic)


def _parts(question: str) -> tuple[set[str], set[str], bool]:
    """Return the kinds of thing asked, the stems of the topic words, and whether it says "this"."""
    plain = unicodedata.normalize("NFKD", question.replace("'s ", " ").casefold())
    if not plain.isascii():
        plain = "".join(c for c in plain if not unicodedata.combining(c))
    words = _WORD.findall(plain)
    kinds, topic = set(), set()
    for word in words:
        if kind := _KIND.match(word):
            kinds.add(kind.lastgroup or "")
        elif word not in _MANNER:
            topic.add(word.removesuffix("s")[:_STEM])
    return kinds, topic, "this" in words
