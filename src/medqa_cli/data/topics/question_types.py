"""Tells from the wording of a question what is asked (its kind) and about what (its topic).

Knows MedQuAD's fixed forms and the common ways in which people ask the same. Looks at the question only, never at the
answer, and gives nothing rather than a topic that is none: rows are kept together in a split by it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from medqa_cli.data.topics.topic_casing import is_capitalised

LONGEST_QUESTION = 400  # characters; MedQuAD's longest has 191, and a longer text is a story, not a form
OTHER = "other"  # the topic is certain, but what is asked is none of MedQuAD's kinds


@dataclass(frozen=True)
class QuestionForm:
    """What a question asks (``kind``, named as MedQuAD does, or ``other``) and about what (``topic``, as written)."""

    kind: str
    topic: str


# The pieces of the forms below; TOPIC is where the topic stands. Each form holds it once: that keeps matching linear.
_WORDS = {
    "ASK": r"(?:(?:what|which)(?: is| are|['’]s) |(?:give|list|name|describe|explain|tell)(?: me)?(?: about)? )?"
    r"(?:the |some )?(?:main |common |usual |typical |possible )?",
    "SIGNS": r"(?:(?:signs?|symptoms?) (?:and|or) (?:signs?|symptoms?)|signs?|symptoms?)",
    "GENES": r"(?:genes?|(?:genetic|gene) (?:changes?|mutations?|variants?))",
    "DONE": r"(?:usually |typically |normally |commonly )?",
    "WHO": r"(?:you|i|we|one|doctors?|people)",
    "KNOW": r"(?:diagnosed|detected|treated|managed|prevented|cured)",
    "PEOPLE": r"(?:(?:people|someone|patients|those) (?:with|who have) )?",
    # Before a form that begins with the topic: no question and no sentence is a name.
    "NAME": r"(?!(?:what|which|who|how|why|when|where|is|are|do|does|can|i|my|we|give|list|tell|explain)\b)",
    "TOPIC": "(.+?)",
}

_WITH_OWN_SPACE = frozenset({"ASK", "DONE", "PEOPLE", "NAME"})  # they may be empty: their pattern brings the space

# Tried in this order; the open forms of "information" come last.
_FORMS: dict[str, tuple[str, ...]] = {
    "symptoms": (
        "ASK SIGNS (?:of|for) TOPIC",
        "what SIGNS (?:do|does|can|may|might) TOPIC (?:cause|have|bring)",
        "what SIGNS (?:can |may |might |could )?(?:come with|point to|suggest|indicate) TOPIC",
        "(?:do|does|can) TOPIC (?:cause|have) (?:any )?SIGNS",
        "NAME TOPIC SIGNS",
        "what are TOPIC symptoms",
    ),
    "treatment": (
        "ASK (?:treatments?|therapy|therapies|treatment options|management) (?:for|of) TOPIC",
        "how to (?:treat|manage) TOPIC",
        "how (?:is|are|can|should) TOPIC (?:be )?DONE (?:treated|managed)",
        "how (?:do|does|can|should) WHO (?:treat|manage) TOPIC",
        "what (?:treatments?|treatment options) (?:is|are) (?:there|available) for TOPIC",
        "what can be done (?:to treat|for) TOPIC",
        "NAME TOPIC treatments?",
    ),
    "causes": (
        "what (?:causes|leads to) TOPIC(?: to (?:form|happen|occur|develop))?",
        "ASK causes? of TOPIC",
        "what can cause TOPIC",
        "how (?:is|are) TOPIC caused",
        "NAME TOPIC causes",
    ),
    "exams and tests": (
        "how to diagnose TOPIC",
        "how (?:is|are|can) TOPIC (?:be )?DONE diagnosed",
        "how (?:do|does|can) WHO diagnose TOPIC",
        "ASK (?:exams and tests|tests?|exams?|diagnosis) (?:for|of) TOPIC",
        "(?:what|which) (?:tests|exams)(?: are (?:used|done))?(?: to)? diagnose TOPIC",
        "NAME TOPIC diagnosis",
    ),
    "inheritance": (
        "(?:is|are) TOPIC (?:inherited|hereditary)",
        "can TOPIC be (?:inherited|hereditary|passed (?:down|on))",
        "how (?:is|are) TOPIC inherited",
        "how do people inherit TOPIC",
        "(?:do|does|can) TOPIC run in (?:the family|families)",
        "ASK inheritance(?: pattern)? of TOPIC",
    ),
    "frequency": (
        "how many people (?:are affected by|have|get) TOPIC",
        "how (?:common|rare|frequent|widespread) (?:is|are) TOPIC",
        "ASK (?:prevalence|incidence|frequency) of TOPIC",
        "NAME TOPIC prevalence",
    ),
    "genetic changes": (
        "ASK GENES (?:related to|associated with|linked to|involved in|in) TOPIC",
        "(?:what|which) GENES (?:is|are) (?:related to|associated with|linked to|involved in) TOPIC",
    ),
    "research": (
        r"(?:what|which) research(?: \(or clinical trials\))? is being done (?:for|on|about) TOPIC",
        "ASK (?:current |latest )?research (?:on|into|about) TOPIC",
        "(?:are there|ASK) (?:any )?clinical trials (?:for|of|on) TOPIC",
    ),
    "outlook": (
        "ASK (?:long-term )?(?:outlook|prognosis) (?:for|of) PEOPLE TOPIC",
        "NAME TOPIC (?:prognosis|outlook)",
    ),
    "susceptibility": (
        "who is (?:most )?(?:at )?(?:higher |high )?risk (?:for|of) (?:getting |developing )?TOPIC",
        "who (?:gets|can get|is (?:most |more )?likely to (?:get|develop|have)) TOPIC",
        "ASK risk factors? (?:for|of) TOPIC",
        "NAME TOPIC risk factors",
    ),
    "prevention": (
        "how to prevent (?:getting )?TOPIC",
        "how (?:can|is|are) TOPIC (?:be )?DONE prevented",
        "how (?:can|do|does|should) WHO prevent (?:getting )?TOPIC",
        "can TOPIC be prevented",
        "what can WHO do to prevent TOPIC",
        "ASK prevention of TOPIC",
        "NAME TOPIC prevention",
    ),
    "considerations": ("what to do (?:for|about) TOPIC", "what should WHO do (?:for|about) TOPIC"),
    "stages": ("ASK stages of TOPIC", "NAME TOPIC stages"),
    "complications": (
        "ASK complications? (?:of|from) TOPIC",
        "are there (?:any )?complications (?:of|from) TOPIC",
        "what complications (?:can|do|does|may) TOPIC (?:cause|have)",
        "NAME TOPIC complications",
    ),
    "support groups": (
        "where (?:to|can WHO) find support for (?:people with )?TOPIC",
        "ASK support groups for (?:people with )?TOPIC",
    ),
    OTHER: (
        "ASK (?:early|earliest|first|late|warning) (?:warning )?SIGNS (?:of|for) TOPIC",
        "ASK (?:best|first-line) (?:treatment|therapy) for TOPIC",
        "ASK (?:most common|leading) causes? of TOPIC",
        "ASK side effects of TOPIC",
        "ASK (?:medicines?|medications?|drugs?|diet|vaccines?) for TOPIC",
        "how (?:is|are|can) TOPIC (?:be )?KNOW (?:and|or) KNOW",
        "(?:is|are) TOPIC (?:contagious|infectious|curable|treatable|reversible|genetic|dangerous|serious|fatal)",
        "can TOPIC be (?:cured|treated|managed|detected|diagnosed|reversed)",
        "is there (?:a|any) (?:cure|treatment|vaccine|test) for TOPIC",
        "how (?:does|do) TOPIC (?:spread(?: (?:to|from|between|among|through) .{2,40})?|develop"
        "|affect (?:people|you|the body))",
        "how (?:is|are) TOPIC (?:spread|transmitted)(?: (?:to|from|between|among|through|by) .{2,40})?",
        "how many (?:children|adults|women|men|people worldwide) (?:have|get) TOPIC",
        "how do WHO (?:get|catch) TOPIC",
        "how do WHO know (?:if|that|whether) (?:i|you|they|we) have TOPIC",
        "what (?:does|do) TOPIC (?:sound and )?(?:feel|look|sound) like",
        "how (?:serious|dangerous|contagious|safe|effective|useful|helpful) (?:is|are) TOPIC",
        "what (?:helps|relieves|eases|cures|treats|stops|reduces) (?:with |against )?TOPIC",
        "how long (?:does|do) TOPIC last(?: (?:after|with|without|in) .{2,40})?",
        "when should WHO see a doctor (?:for|about) TOPIC",
        "what (?:is|are) .{2,40}? doing to (?:prevent|control|treat)(?: (?:and|or) (?:prevent|control|treat))? TOPIC",
    ),
    "information": (
        r"what is \(are\) TOPIC",
        "what (?:is|are) meant by TOPIC",
        "what (?:does|do) TOPIC mean",
        "what(?: is| are|['’]s) TOPIC",
        "(?:(?:do you have|give me|i need|i want) )?(?:some )?information (?:about|on) TOPIC",
        "tell me (?:more )?about TOPIC",
        "ASK (?:overview|definition) of TOPIC",
    ),
}


def _compile(forms: tuple[str, ...]) -> re.Pattern[str]:
    """Join the forms of a kind to one pattern; the one group that takes part in a match holds the topic."""
    patterns = []
    for form in forms:
        for name, pattern in _WORDS.items():
            gap = " " if name in _WITH_OWN_SPACE else ""
            form = form.replace(name + gap, pattern)
        patterns.append(f"(?:{form})")
    return re.compile("|".join(patterns), re.IGNORECASE)


_PATTERNS = {kind: _compile(forms) for kind, forms in _FORMS.items()}

_ARTICLE = re.compile(r"(?:an?|[Tt]he|THE) ")

_PLEASE = re.compile(
    r"\A(?:please,? |(?:can|could) you (?:please )?(?=tell|give|list|name|explain))|,? please\Z", re.IGNORECASE
)

# Topics that name nothing by themselves, in any case.
POINTING = re.compile(
    r"(?:it|its|one|he|she|they|them|me|you|us|yourself|myself"
    r"|(?:this|that|these|those|such|any|our)\b.*"
    r"|(?:disease|condition|disorder|illness|problem|symptom|sign|cause|treatment|test|complication|stage|doctor|thing|"
    r"way|reason|risk)s?|diagnosis|prognosis|outlook|prevention)",
    re.IGNORECASE,
)
# The words of a clause or of general advice, in lower case: titles such as "What I need to know about Gas" are topics.
_CLAUSE = re.compile(
    r"(?:my|your|his|her|some|something|there|not|wrong|going|happening|considered|called|known|differences?|ways?)\b"
    r"|(?:the (?:best|worst|most|least|safest|fastest|easiest|quickest)\b|best\b.* (?:to|for) )"
    r"|.*?\b(?:how|what|why|when|where|who|which|whether|should|could|would|can|will|do|does|did|doing|is|are|was|were|"
    r"has|have|had|it|they|them|this|these|you|we|he|she|me|my|because|diagnosed|treated|prevented|managed)\b"
    r"|[^,]*\b(?:and|or|of|for|with|in|on|the|to|by|be)\Z"
    r"|.*[?!]"
)
# "how can these diseases be treated for Marine Toxins": a question without a name, and the name that it is about.
_NAMED_LAST = re.compile(
    r"(?:how|what|which|who|when|where|why|is|are|can|do|does)\b[^A-Z]* for ([A-Z]\w+(?: [A-Z]\w+)*)"
)
# "Am I at Risk for Type 2 Diabetes? Taking Steps to Lower Your Risk": a name of a page that asks.
_ASKING_TITLE = re.compile(r".*\w\? [A-Z].*")


def recognise(question: str) -> QuestionForm | None:
    """Recognise a question's kind and topic by its wording.

    Args:
        question: raw ("What is (are) Flu ?") or cleaned ("What is Flu?"); case and spacing play no part.

    Returns:
        the kind and the topic, a piece of the question without a leading article; None where the wording is none of
        the known forms, or what stands in the topic's place names nothing ("it", "the best way to lose weight").
    """
    text = " ".join(question.split()).strip("\"'“”").rstrip(" ?!.")
    text = _PLEASE.sub("", text)
    if not text or len(text) > LONGEST_QUESTION:
        return None
    form = _form(text)
    named = _NAMED_LAST.fullmatch(text)
    return form if named is None or (form and form.topic == named[1]) else QuestionForm(OTHER, named[1])


def _form(text: str) -> QuestionForm | None:
    matched = False
    for kind, pattern in _PATTERNS.items():
        if kind == "information" and matched:
            return None  # "the symptoms of it" is not a topic either
        if match := pattern.fullmatch(text):
            if topic := _topic(match[match.lastindex or 0]):
                return QuestionForm(kind, topic)
            matched = True
    return None


def _topic(text: str) -> str | None:
    """Return what the text names, without a leading article; None if it names nothing."""
    article = _ARTICLE.match(text)
    topic = (text[article.end() :] if article else text).strip(" ?\"'“”,:")
    if not any(character.isalpha() for character in topic):
        return None
    if _ASKING_TITLE.fullmatch(topic) and is_capitalised(topic):
        return topic
    return None if POINTING.fullmatch(topic) or _CLAUSE.match(text) or _CLAUSE.match(topic) else topic
