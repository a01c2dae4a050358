"""Finds the thing that a phrase in a topic's place is about: "role of steroids in bacterial meningitis" is meningitis.

A phrase is about the first illness or complaint that it names, else, where a treatment or test is asked about, about
what that is for ("place of surgery in Dupuytren"), else about what a head that names a relation relates to ("role of
vitamin D in bone health"). Names stay whole ("Loss of Taste", "hemiplegia of childhood"); what names no thing ("well
controlled") is none.
"""

from __future__ import annotations

import functools
import itertools
import re

from medqa_cli.data.topics.medical_terms import is_complaint, is_illness_or_complaint, is_means, is_relation
from medqa_cli.data.topics.question_types import POINTING, is_capitalized

_PREPOSITION = re.compile(
    r"\s+(of|in|for|against|with|by|to|on|from|during|after|before|between|among|through|via|at|under|over|about|"
    r"within|without|following|and|or|versus|vs\.?|than)(?=\s)"
)
# Words that make no name of a word for a relation: "next step", "second opinion", "best treatment".
_ORDER = re.compile(
    r"(?:(?:next|first|second|third|last|best|main|other|same|usual|standard|common|new|current|initial|early|late|"
    r"long-term|short-term|possible|good|right|recommended|most|available|important|different|typical)\s+)*"
)
# "people with asthma", "a person who has asthma", "infection with HIV", "rid of acne": asthma, HIV, acne.
_LEAD = re.compile(
    r"(?:(?:an?|the|some|any|enough|more|most|many|your|my|all|other|such)\s+"
    r"|(?:(?:\w+\s+)?(?:people|persons?|patients?|children|kids|adults|women|men|infants|babies|newborns|teenagers|"
    r"individuals|someone|somebody|those|child|adult|woman|man|baby)\s+"
    r"(?:with|who\s+(?:has|have|had|suffers?\s+from)|having|suffering\s+from|affected\s+by|living\s+with|"
    r"diagnosed\s+with|infected\s+with))\s+"
    r"|rid\s+of\s+|over\s+(?=an?\s)|(?:prevent|treat|cur|avoid|manag|diagnos|surviv|hav|gett|fight|reduc|reliev)(?:e|ing)?\s+"
    r"|(?:infected|diagnosed|sick|ill|infections?|poisoning)\s+(?:with|by|from)\s+)"
)
# Words before an illness that tell how sure, how bad or by which germ, and make no other illness of it.
_MANNER = re.compile(
    r"\A(?:(?:suspected|possible|probable|confirmed|proven|known|severe|mild|moderate|uncomplicated|complicated|"
    r"symptomatic|asymptomatic|untreated|newly|diagnosed|uncontrolled|recurrent|bacterial|viral|fungal|"
    r"community-acquired|hospital-acquired)\s+)+(?=\S)"
)
_GERM = re.compile(
    r"\A(?:(?:suspected|possible|probable|confirmed|uncomplicated|untreated|uncontrolled|newly diagnosed|"
    r"(?:poorly|well|badly) controlled|bacterial|viral|fungal) )+(?=\S)"
)
_ANY_ILLNESS = frozenset({"infection", "disease", "illness", "disorder", "fever", "rash", "virus", "syndrome", "pain"})
# "asthma in children under five", "hypertension during pregnancy", "meningitis for travellers": when and of whom.
_PEOPLE = (
    r"(?:children|kids|child|baby|babies|toddlers?|newborns?|infants?|teenagers|adolescents|adults|m[ae]n|wom[ae]n|elderly|"
    r"people|persons|patients|seniors|travell?ers|athletes|smokers|pregnancy|childhood|adulthood|winter|summer|africa|"
    r"europe|asia)"
)
_CIRCUMSTANCE = re.compile(
    r"\s+(?:(?:in|among|for)\s+(?:(?:an?|the|most|some|very|young|younger|old|older|elderly|pregnant|healthy|small|"
    r"adult|breastfeeding|diabetic)\s+)*"
    # "in childhood diarrhea" is no circumstance: the words for people end what is said.
    rf"(?:{_PEOPLE}(?=\W*\Z|\W*\s(?:with|without|who|whose|that|of|in|on|at|under|over|from|and|or|aged|older|younger|"
    r"during|after|before|each|every|per|living|having|today|worldwide)\b)|general(?=\s|\Z))"
    r"|(?:during|after|before|in)\s+(?:pregnancy|childbirth|delivery|breastfeeding|surgery|menopause|exercise)"
    r"|at\s+(?:night|home|work)|(?:each|every|per)\s+(?:year|day|week|month)|worldwide|in\s+the\s+world"
    r"|in\s+(?:simple|plain|other)\s+\w+|according\s+to"
    r"|under\s+(?:the\s+age\s+of\s+)?(?:\d+|one|two|three|five|six|ten|twelve|eighteen)(?:\s+years(?:\s+(?:of\s+age|old))?)?"
    r"|over\s+(?:the\s+age\s+of\s+)?\d+)(?=\W*\s|\W*\Z).*"
)
# Before what a treatment or test is for, and before what only tells when something happens.
_FOR, _WHEN = frozenset({"in", "for", "against", "after"}), frozenset({"after", "during", "following", "before"})
_VERSUS = frozenset({"versus", "vs", "vs."})
# Where, on whom or for what work of the body something is used: not what it is used against.
_SETTING = re.compile(
    rf"(?:.*\s)?(?:{_PEOPLE}|labou?r|childbirth|infancy|adolescence|age|life|lives|health|healthcare|practice|hospitals?|"
    r"homes?|clinics?|settings?|emergency|emergencies|society|world|sports?|body|brain|heart|blood|bones?|muscles?|skin|"
    r"liver|lungs?|kidneys?|eyes?|cells?|growth|digestion|metabolism|immunity|general|detail|future|past|days?|weeks?|"
    r"months?|years?|hours?|minutes?|time|times|long|ever|free|now|sure|example|"
    r"[a-z]+(?:ing|tion|sion|ment)|(?:mother|father|wife|husband|son|daughter|dog|cat)s?)"
    r"|[a-z]+ing\s.*|(?:this|that|these|those|how|what|when|which|it|one|two|three|my|her|his|our)\b.*",
    re.IGNORECASE,
)
_MOST_WORDS_AIMED_AT = 4
_ABBREVIATION = re.compile(r"[A-Z][A-Z0-9-]+\s")
LONGEST_PLAIN_QUESTION = 150  # characters
_MOST_WORDS_OF_A_PHRASE = 10
# Not within the name of an illness; it is what stands behind: "pregnancy prevent postnatal depression".
_NO_PART = re.compile(
    r".*(?:--|\b(?:an?|the|my|your|his|her|our|their|whats?|so|doe?s?n[’']?t|is|are|be|been|get|getting|born|"
    r"(?:predict|prevent|improv|reduc|affect|impact|assess|caus|help|increas|decreas|differentiat|diagnos|detect|treat|"
    r"manag|reliev|cur|hav|hurt|reliably assess)(?:e|es|s|ing)?)\s)\s*",
    re.IGNORECASE,
)
_NEGATED = re.compile(r"(?:no|not|without)\b", re.IGNORECASE)
# "severe pain after surgery" is a phrase, "I have pain after surgery" is none.
_SENTENCE = re.compile(
    r"\b(?:i|i['’]m|my|me|you|your|he|she|his|her|it|we|our|they|is|are|was|were|be|been|has|have|had|do|does|did|can|"
    r"could|will|would|should|may|might|must|not|please|thanks?|hello|hi|what|which|who|why|how)\b|"
    r"(?<! vs)[.!?;:]\s|\n",
    re.IGNORECASE,
)
_ASKS = re.compile(
    r"(?:what|which|who|when|where|why|how|should|can|could|may|must|do|does|did|is|are|will|would)\b", re.IGNORECASE
)
# Not the last word of a name: participles, and adjectives that "mean" or that one "gets".
_NO_NOUN = re.compile(
    r"(?!(?:seed|weed|bed|need|feed|speed|breed|blood|flaxseed|linseed|nosebleed|bleed|knotweed|red)\Z)"
    r"[a-z]+ed|well|better|worse|sick|ill|pregnant|fit|old|older|young|benign|malignant|positive|negative|normal|"
    r"abnormal|contagious|infectious|contraindicated|asymptomatic|symptomatic|healthy|unwell|tired|high|low|"
    r"slim|thin|fat|strong|stronger|taller|enough|much|many|more|less|often|soon|now|today|again|here|there|away|out|off|up|down|"
    r"safe|effective|necessary|available|possible|immune|fertile|infertile|dizzy|nauseous|mild|moderate|"
    r"severe|stable|unstable|terminal|metastatic|chronic|acute|new|hungry|thirsty|"
    r"anxious|nervous|angry|sad|happy|into|free|ready|done|through|over|in|on|at|to|with|for|of|"
    r"(?!belly\Z|jelly\Z|wrinkly\Z)[a-z]+(?:lly|tely|vely|usly|edly|ntly|rly|sly)|safely"
)
_ADVERB = re.compile(
    r"(?:better|worse|really|not|ready|new|to|away|into|well\s+(?:[a-z]+ed|after|before|from|again|soon|with|enough))"
    r"(?=[\s,]|\Z)"
)


@functools.lru_cache(maxsize=1 << 16)
def thing_of(phrase: str) -> str:
    """Return the thing that a phrase is about.

    Args:
        phrase: the topic as ``question_types.recognize`` found it, without a leading article.

    Returns:
        the phrase itself where it is a name, a piece of it where that is, or an empty text where it names nothing.
    """
    if is_capitalized(phrase):
        return phrase
    # "Crohn disease in adults" is cut, "Problems with Smell" is a title.
    if not phrase[:1].islower() and not _ABBREVIATION.match(phrase):
        return _CIRCUMSTANCE.sub("", phrase)
    thing = _related(_without_lead(phrase))
    return "" if _names_nothing(thing) else thing


def without_circumstance(question: str) -> str:
    """Return a question without its last words where they only say whose or when: "... in children under five"."""
    return _CIRCUMSTANCE.sub("", question.rstrip(" ?!."))


def only_thing_in(question: str) -> str:
    """Return the one thing that a question of no known form is about, or an empty text.

    "When should antibiotics be started in bacterial meningitis?" is about meningitis, the one illness behind a
    preposition, "Is surgery needed in Dupuytren?" about what the treatment is for; a question of two illnesses, or a
    long story, is about none.
    """
    if not _ASKS.match(question):
        return ""
    (_, asking), *pieces = _pieces(question.rstrip(" ?!."))
    things = {_MANNER.sub("", illness) for _, piece in pieces if (illness := _illness_in(piece))}
    things = {thing for thing in things if not _names_nothing(thing)}
    if any(preposition in _VERSUS and _illness_in(piece) for preposition, piece in pieces):
        return ""
    if things or len(pieces) != 1 or not any(is_means(word) for word in asking.split()):
        return things.pop() if len(things) == 1 else ""
    return _aimed_at(*pieces[0])


def bare_thing(phrase: str) -> str:
    """Return what a phrase used as a question is about: "the role of beta blockers in heart failure"."""
    phrase = _without_lead(phrase.strip(" ?!."))
    if len(phrase.split()) > _MOST_WORDS_OF_A_PHRASE or _ASKS.match(phrase) or _SENTENCE.search(phrase):
        return ""
    pieces = _pieces(phrase)
    if len(pieces) > 1 and _relates(pieces):
        thing, head = thing_of(phrase), pieces[0][1]
        return "" if thing == head and not is_relation(head.rpartition(" ")[2]) else thing
    illnesses = [illness for _, piece in pieces if (illness := _illness_in(piece))]
    related = thing_of(phrase)
    return related if related in illnesses and (len(illnesses) == 1 or related == pieces[0][1] != phrase) else ""


def without_manner(name: str) -> str:
    """Return the normalized name of an illness without words for certainty or germ: "viral gastroenteritis".

    One that would be left without a name ("viral infection") or that the words make another illness of ("severe
    combined immunodeficiency") stays whole.
    """
    shorter = _GERM.sub("", name)
    return shorter if shorter != name and shorter not in _ANY_ILLNESS and is_illness_or_complaint(shorter) else name


def _pieces(phrase: str) -> list[tuple[str, str]]:
    """Split a phrase at its prepositions; each piece comes with the one before it (the first with none)."""
    first, *rest = _PREPOSITION.split(phrase)
    behind = [(rest[i], _without_lead(rest[i + 1].strip()).strip(",;:")) for i in range(0, len(rest), 2)]
    return [("", first), *behind]


def _relates(pieces: list[tuple[str, str]]) -> bool:
    """Tell whether a phrase begins with a relation, a treatment for something, or compares two."""
    return (
        is_relation(pieces[0][1].rpartition(" ")[2])
        or any(preposition in _VERSUS for preposition, _ in pieces)
        or any(is_means(before) and preposition in _FOR for (_, before), (preposition, _) in itertools.pairwise(pieces))
    )


def _related(phrase: str) -> str:
    """Return what a phrase is about: see the module's docstring for the order in which it is looked for."""
    pieces = _pieces(phrase)
    if not pieces[0][1] or not _relates(pieces):
        return _CIRCUMSTANCE.sub("", _first_complaint(phrase, pieces))
    # The first illness; of two that are compared none.
    illnesses = [(preposition, illness) for preposition, piece in pieces if (illness := _illness_in(piece))]
    if illnesses:
        are_compared = len(illnesses) > 1 and illnesses[1][0] in _VERSUS
        return "" if are_compared else _MANNER.sub("", illnesses[0][1])
    # What a treatment or test is for.
    for (_, before), (preposition, piece) in itertools.pairwise(pieces):
        if is_means(before) and (aim := _aimed_at(preposition, piece)):
            return aim
    if any(preposition in _VERSUS for preposition, _ in pieces):
        return ""
    # The head, unless it names a relation: then what that relates to, or what this is about in its turn.
    shorter = _CIRCUMSTANCE.sub("", phrase)
    (_, head), *rest = _pieces(shorter)
    if not rest or not is_relation(head.rpartition(" ")[2]):
        return head
    after = _without_lead(_PREPOSITION.split(shorter, maxsplit=1)[2].strip())
    thing = _related(after)
    return thing if thing != after else rest[0][1]


def _first_complaint(phrase: str, pieces: list[tuple[str, str]]) -> str:
    """Return "hair loss" of "hair loss after chemotherapy": one illness, and when or with which other it comes."""
    (_, head), *rest = pieces
    if not rest:
        return phrase
    preposition, piece = rest[0]
    if preposition in _WHEN:
        return head if is_illness_or_complaint(head) else _illness_in(piece) or head
    both = is_illness_or_complaint(head) and is_illness_or_complaint(piece)
    return head if (both and preposition == "in") or (preposition == "with" and is_complaint(head)) else phrase


def _illness_in(piece: str) -> str:
    """Return the illness at the end of a piece or before a relation ("stroke risk"), or an empty text."""
    piece = _NO_PART.sub("", piece)
    if _NEGATED.match(piece):
        return ""
    if is_illness_or_complaint(piece):
        return piece
    name, _, last = piece.rpartition(" ")
    return name if is_relation(last) and is_illness_or_complaint(name) else ""


def _aimed_at(preposition: str, piece: str) -> str:
    """Return what a treatment or test is for, by the words behind it; empty where they do not say."""
    names = (
        preposition in _FOR
        and len(piece.split()) <= _MOST_WORDS_AIMED_AT
        and not _SETTING.fullmatch(piece)
        and not is_means(piece)
        and not _names_nothing(piece)
    )
    return piece if names else ""


def _without_lead(phrase: str) -> str:
    while match := _LEAD.match(phrase):
        if match.end() == len(phrase):
            break
        phrase = phrase[match.end() :]
    return phrase


def _names_nothing(phrase: str) -> bool:
    words = phrase.split()
    if not words:
        return True
    return (
        POINTING.fullmatch(phrase) is not None
        or _NO_NOUN.fullmatch(words[-1]) is not None
        or _ADVERB.match(phrase) is not None
        or not {"that", "which", "who"}.isdisjoint(words)
        or is_relation(_ORDER.sub("", phrase, count=1))
    )
