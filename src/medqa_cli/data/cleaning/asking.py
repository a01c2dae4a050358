"""Whether an answer says nothing but a question, and whether a question asks for one.

In doubt an answer says something: what is thrown away here is lost, what is kept only costs a row.
"""

from __future__ import annotations

import re

from medqa_cli.data.languages import UNKNOWN, language_of

_LONGEST = 300  # characters; a longer text is more than a question
_LONGEST_CLAUSE = 80  # of a language whose questions have no known beginning
_CLOSING = "\"'”’»)）」』 \t\n"
_QUESTION_MARKS = ("?", "？", "؟", "⁇", "⸮")

# The ends of sentences. A full stop within a word or a number is none.
_SENTENCE = re.compile(r"[.!:](?=\s|$)|[。！：；;…।॥۔።។။\n]|[?？؟]")
_CLAUSE = re.compile(r"[,，、،](?=\D)|\s[–—-]+\s|[–—]{2,}")

# A greeting or the like, which says nothing either.
_FILLER = re.compile(
    r"(?:hi|hello|hey|dear|good (?:morning|day|afternoon|evening)|welcome|thanks?|thank you|sorry|well|ok|okay|so"
    r"|and|but|also|now|then|please|bonjour|bonsoir|merci|alors|hallo|guten tag|danke"
    r"|hola|buenos d[ií]as|gracias|ciao|salve"
    r"|buongiorno|grazie|ol[áa]|bom dia|obrigad[oa])\b[^,.!?]{0,40}"
    r"|(?:您|你)好(?:[^，。！？]{0,8})?|请问|谢谢[^，。！？]{0,10}|嗯|哦|好的|こんにちは|すみません(?:が)?|안녕하세요",
    re.IGNORECASE,
)
_BE = r"(?:is|are|am|was|were|do|does|did|has|have|had|can|could|may|might|will|would|shall|should|must)(?:n['’]?t)?"
_ASKS_IN_ENGLISH = re.compile(
    # "How old are you", not "What you have is gout"; "Which drug", "Any fever".
    r"(?:(?:and|but|so|or|also|please tell me|tell me|may i ask|can i ask|could you tell me|i would like to ask)\b\W*)*"
    r"(?:(?:in|on|at|for|with|from|by|to|since|until|of)\s)?"
    rf"(?:(?:what|when|where|who|whom|whose|why|which|how)\b(?!\s+(?:you|i|he|she|it|they|we|your|my|this|that|the|a)\b)"
    rf"|(?:what|where|how|who|which|why|when)['’]s\b|{_BE}\b|any\b)",
    re.IGNORECASE,
)
_WORDS = {
    "fr": "que qui quoi quel quelle quels quelles où quand comment pourquoi combien est-ce depuis avez-vous êtes-vous",
    "de": "wie was wer wen wem wo wann warum wieso weshalb welche welcher welches welchen seit haben hat sind ist gibt",
    "it": "che chi come dove quando perché quale quali quanto quanti quanta quante da ha avete è",
    "pt": "que quem como onde quando por qual quais quanto quantos quantas há tem você",
    "nl": "wat wie waar wanneer waarom hoe welke heeft hebt is zijn bent",
    "pl": "co kto gdzie kiedy dlaczego jak jaki jaka jakie ile czy od",
    "ru": "что кто где когда почему как какой какая какие сколько есть ли давно",
    "sv": "vad vem var när varför hur vilken vilka har är",
}
_FIRST_WORDS = "|".join(re.escape(word) for words in _WORDS.values() for word in words.split())
_ASKS_ELSEWHERE = re.compile(rf"(?:¿|\w+-(?:vous|tu|il|elle|ils|elles|on)\b|(?:{_FIRST_WORDS})(?!\w))", re.IGNORECASE)
# Chinese, Japanese and Korean ask with words within or at the end of a clause.
_CJK = re.compile("[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_ASKS_IN_CJK = re.compile(
    r"[吗呢么嘛？]|什么|怎[么样]|多[久少大长高重]|哪|几|是否|是不是|有没有|有无|会不会|能不能|谁|为何|如何|何时|没有?$"
    r"|か$|何|いつ|どこ|どの|どれ|どう|なぜ|誰|언제|어디|무엇|얼마|어떻게|어떤|왜|누가|까$|나요$"
)
_SAYS_IN_CJK = re.compile(r"建议|推荐|请先|注意|不用担心|考虑是|お勧め|ください|세요\s")
# A clause behind a question that says something: "Do you smoke, it makes it worse".
_SAYS = re.compile(
    r"(?:i|it|this|that|these|those|he|she|they|we|there|you|your|the|take|try|use|drink|eat|avoid|see|stop|apply|rest"
    r"|consult|visit|go|get|keep|start|continue|if not|if so)\b(?!\s*\?)",
    re.IGNORECASE,
)

_ASKED_FOR = re.compile(
    r"\bquestions?\b|\b(?:should|could|can|do|must) (?:i|we|you|they|one) ask\b|\bto ask\b"
    r"|\bask(?:s|ed|ing)? (?:next|first)\b"
    r"|\b(?:responses?|reply|replies|respond|remark|statement)\b|\brephrase|\bparaphrase|\bfollow[- ]?up\b|\bsummar[iy]"
    r"|\b(?:fragen?|pregunta\w*|domand[ae]|chiedere|pergunta\w*|demander|vrag(?:en)?|frågor?|spørgsmål|spørsmål"
    r"|pytani[ae])\b"
    r"|вопрос|спросить|问什么|哪些问题|什么问题|提问|提出|问题是|追问|質問|질문|प्रश्न|سؤال",
    re.IGNORECASE,
)


def asks_for_a_question(question: str) -> bool:
    """Tell whether a question may be answered by a question: ``What should I ask my doctor?``.

    Args:
        question: the question of a row.
    """
    return _ASKED_FOR.search(question) is not None


def is_only_a_question(answer: str) -> bool:
    """Tell whether an answer is one or more questions, with greetings at most, and says nothing else.

    Args:
        answer: the answer, cleaned.

    Returns:
        False in doubt: where a sentence or a clause before the question mark says something, where a text without any
        mark does not begin as a question does, and for a text of more than 300 characters.
    """
    answer = answer.rstrip(_CLOSING)
    if not answer.endswith(_QUESTION_MARKS) or len(answer) > _LONGEST or not any(map(str.isalnum, answer)):
        return False
    start = 0
    for mark in _SENTENCE.finditer(answer):
        sentence = answer[start : mark.start()].strip(_CLOSING + "-*•")
        start = mark.end()
        if sentence and not _asks(sentence, mark[0] in _QUESTION_MARKS):
            return False
    return True


def _asks(sentence: str, has_mark: bool) -> bool:
    clauses = [clause.strip() for clause in _CLAUSE.split(sentence) if clause.strip()]
    while clauses and _FILLER.fullmatch(clauses[0]):
        clauses.pop(0)
    if not clauses:
        return True
    if not has_mark:
        return False
    first, others = clauses[0], clauses[1:]
    if _CJK.search(sentence):
        return _SAYS_IN_CJK.search(sentence) is None and all(_ASKS_IN_CJK.search(clause) for clause in clauses[:-1])
    if _ASKS_IN_ENGLISH.match(first):
        return not any(_SAYS.match(clause) for clause in others)
    if _ASKS_ELSEWHERE.match(first):
        return True
    return not others and len(first) <= _LONGEST_CLAUSE and language_of(first) not in ("en", UNKNOWN)
