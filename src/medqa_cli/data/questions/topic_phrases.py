"""Finds the thing that a phrase in a topic's place is about: "role of steroids in bacterial meningitis" is meningitis.

Names that begin large or are written with prepositions stay whole ("Loss of Taste", "hemiplegia of childhood"): only a
head that names a relation ("role", "recommended vaccine") gives way to what it relates to. What names no thing at all
("well controlled") is none.
"""

from __future__ import annotations

import functools
import re

from medqa_cli.data.questions.question_forms import POINTING
from medqa_cli.data.questions.topic_names import is_illness

_PREPOSITION = re.compile(
    r"\s+(?:of|in|for|against|with|by|to|on|from|during|after|before|between|among|through|via|at|under|over|about|"
    r"within|without|following|and|or|versus|vs\.?)\s+"
)
# Heads that name a relation or a part of care, and not a thing that rows can be about.
_RELATIONS_TEXT = """
role roles purpose purposes use uses usage benefit benefits effect effects impact impacts influence importance
significance function functions aim aims goal goals advantage advantages disadvantage disadvantages risk risks
chance chances likelihood probability odds rate rates incidence prevalence mortality morbidity burden cost costs
dose doses dosage dosing course duration period time onset origin origins history pathophysiology pathogenesis
mechanism mechanisms action actions physiology etiology aetiology epidemiology cause causes reason reasons
treatment treatments therapy therapies management diagnosis prognosis outlook prevention symptom symptoms sign signs
feature features manifestation manifestations presentation complication complications stage stages type types kind
kinds form forms class classes classification category categories subtype subtypes example examples definition
meaning concept relationship relation link links association connection correlation recommendation recommendations
guideline guidelines vaccine vaccines vaccination immunization immunisation test tests testing screening method
methods way ways approach approaches strategy strategies step steps option options choice medication medications
medicine medicines drug drugs standard survival expectancy efficacy effectiveness safety contraindication
contraindications indication indications evidence number amount level levels range value values percentage
proportion majority consequence consequences outcome outcomes factor factors need needs place part spread
transmission control care advice information fact facts overview target targets threshold interval frequency
timing recovery technique procedure protocol criteria criterion basis nature process case cases episode episodes
lot diff follow-up trigger triggers accuracy sensitivity specificity
response responses help results opinion question questions problem problems
diet diets age ages cut-off cutoff recurrence remission shot shots cure cures
"""
# Words that make no name of one of the above: "next step", "second opinion", "best treatment".
_ORDER = re.compile(
    r"(?:(?:next|first|second|third|last|best|main|other|same|usual|standard|common|new|current|initial|early|late|"
    r"long-term|short-term|possible|good|right|recommended|most|available|important|different|typical)\s+)*"
)
_RELATIONS = frozenset(_RELATIONS_TEXT.split())
# "people with asthma", "a person who has asthma", "infection with HIV", "rid of acne": asthma, HIV, acne.
_LEAD = re.compile(
    r"(?:(?:an?|the|some|any|enough|more|most|many|your|my|all|other|such)\s+"
    r"|(?:(?:\w+\s+)?(?:people|persons?|patients?|children|kids|adults|women|men|infants|babies|newborns|teenagers|"
    r"individuals|someone|somebody|those|child|adult|woman|man|baby)\s+"
    r"(?:with|who\s+(?:has|have|had|suffers?\s+from)|having|suffering\s+from|affected\s+by|living\s+with|"
    r"diagnosed\s+with|infected\s+with))\s+"
    r"|rid\s+of\s+|over\s+(?=an?\s)|(?:prevent|treat|cur|avoid|manag|diagnos|surviv|hav|gett)(?:e|ing)?\s+"
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
_CIRCUMSTANCE = re.compile(
    r"\s+(?:(?:in|among|for)\s+(?:(?:an?|the|most|some|very|young|younger|old|older|elderly|pregnant|healthy|small|"
    r"adult|breastfeeding|diabetic)\s+)*"
    r"(?:children|kids|child|baby|babies|toddlers?|newborns?|infants?|teenagers|adolescents|adults|m[ae]n|wom[ae]n|"
    r"elderly|people|"
    r"persons|patients|seniors|travell?ers|athletes|smokers|pregnancy|childhood|adulthood|winter|summer|"
    r"africa|europe|asia|general)"
    r"|(?:during|after|before|in)\s+(?:pregnancy|childbirth|delivery|breastfeeding|surgery|menopause|exercise)"
    r"|at\s+(?:night|home|work)|(?:each|every|per)\s+(?:year|day|week|month)|worldwide|in\s+the\s+world"
    r"|in\s+(?:simple|plain|other)\s+\w+|according\s+to"
    r"|under\s+(?:the\s+age\s+of\s+)?(?:\w+)(?:\s+years(?:\s+(?:of\s+age|old))?)?"
    r"|over\s+(?:the\s+age\s+of\s+)?\d+)(?=\s|\Z).*"
)
_THING = re.compile(
    r"\b(?:infections?|\w*virus(?:es)?|fever|injur(?:y|ies)|stroke|strokes|HIV|AIDS|HPV|TB|COPD|COVID(?:-19)?|pain|"
    r"aches?|"
    r"headaches?|migraines?|tumou?rs?|ulcers?|allerg(?:y|ies)|poisoning|failure|failures|fractures?|burns?|wounds?|"
    r"diarrh?o?ea|constipation|insomnia|cough|cold|colds|stones?|arrest|attacks?|addiction|"
    r"abuse|h(?:a)?emorrhage|disability|"
    r"diseases?|syndromes?|disorders?|cancers?|seizures?|convulsions|rash|rashes|lice|worms?|warts?|herpes|sepsis|"
    r"septic shock|shock|preeclampsia|eclampsia|ebola|zika|dengue|polio|plague|cholera|typhoid|tetanus|leprosy|"
    r"an[a]?emias?|leuk[a]?emia|\w{3,}(?:itis|osis|oses|asis|[^m]oma|omas|emia|aemia|pathy|algia|plegia))\Z",
    re.IGNORECASE,
)
LONGEST_PLAIN_QUESTION = 150  # characters
_ASKS = re.compile(
    r"(?:what|which|who|when|where|why|how|should|can|could|may|must|do|does|did|is|are|will|would)\b", re.IGNORECASE
)
# Not the last word of a name: participles, and adjectives that "mean" or that one "gets".
_NO_NOUN = re.compile(
    r"(?!(?:seed|weed|bed|need|feed|speed|breed|blood|flaxseed|linseed|nosebleed|bleed|knotweed|red)\Z)"
    r"[a-z]+ed|well|better|worse|sick|ill|pregnant|fit|old|older|young|benign|malignant|positive|negative|normal|"
    r"abnormal|contagious|infectious|contraindicated|asymptomatic|symptomatic|healthy|unwell|tired|high|low|"
    r"slim|thin|fat|strong|stronger|taller|enough|much|many|often|soon|now|today|again|here|there|away|out|off|up|down|"
    r"safe|effective|necessary|available|possible|immune|fertile|infertile|dizzy|nauseous|mild|moderate|"
    r"severe|stable|unstable|terminal|metastatic|chronic|acute|new|hungry|thirsty|"
    r"anxious|nervous|angry|sad|happy|into|free|ready|done|through|over|in|on|at|to|with|for|of|"
    r"(?!belly\Z|jelly\Z|wrinkly\Z)[a-z]+(?:lly|tely|vely|usly|edly|ntly|rly|sly)|safely"
)
_ADVERB = re.compile(
    r"(?:better|worse|really|not|ready|new|to|away|into|well\s+(?:[a-z]+ed|after|before|from|again|soon|with|enough))"
    r"(?=\s|\Z)"
)


@functools.lru_cache(maxsize=1 << 16)
def thing_of(phrase: str) -> str:
    """Return the thing that a phrase is about.

    Args:
        phrase: the topic as ``question_forms.recognise`` found it, without a leading article.

    Returns:
        the phrase itself where it is a name, a piece of it where that is, or an empty text where it names nothing.
    """
    if not phrase[:1].islower():
        return phrase
    thing = _related(_without_lead(phrase))
    return "" if _names_nothing(thing) else thing


def without_circumstance(question: str) -> str:
    """Return a question without its last words where they only tell of whom or when: "... in children under five"."""
    return _CIRCUMSTANCE.sub("", question.rstrip(" ?!."))


def only_thing_in(question: str) -> str:
    """Return the one illness that a question of no known form names after a preposition, or an empty text.

    "When should antibiotics be started in bacterial meningitis?" is about meningitis; a question of two illnesses, or
    a long story, is about none.
    """
    if len(question) > LONGEST_PLAIN_QUESTION or not _ASKS.match(question):
        return ""
    pieces = [_without_lead(piece) for piece in _PREPOSITION.split(question.rstrip(" ?!."))[1:]]
    things = {_MANNER.sub("", piece) for piece in pieces if _is_thing(piece)}
    return things.pop() if len(things) == 1 else ""


def without_manner(name: str) -> str:
    """Return the folded name of an illness without words that tell how sure or by which germ: "viral gastroenteritis".

    One that would be left without a name ("viral infection") or that the words make another illness of ("severe
    combined immunodeficiency") stays whole.
    """
    shorter = _GERM.sub("", name)
    return shorter if shorter != name and shorter not in _ANY_ILLNESS and _is_thing(shorter) else name


def _related(phrase: str) -> str:
    """Return what a head that names a relation relates to: the illness in the rest, else what follows first."""
    phrase = _CIRCUMSTANCE.sub("", phrase)
    head, *rest = _PREPOSITION.split(phrase)
    *before, last = head.split() or [""]
    if last.lower() not in _RELATIONS:
        return phrase
    if not rest:
        return " ".join(before) if before and _is_thing(" ".join(before)) else phrase
    pieces = [_without_lead(piece) for piece in rest]
    for piece in pieces:
        if _is_thing(piece):
            return _MANNER.sub("", piece)
    after = _without_lead(phrase[_PREPOSITION.search(phrase).end() :])  # type: ignore[union-attr]
    inner = _related(after)
    return inner if inner != after else pieces[0]


def _is_thing(piece: str) -> bool:
    last = piece.split()[-1].lower()
    return last not in _RELATIONS and (is_illness(piece) or _THING.search(piece) is not None)


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
        or _ORDER.sub("", phrase, count=1).lower() in _RELATIONS
    )
