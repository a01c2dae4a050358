"""Which phrases name an illness or complaint, which a treatment or test, and which only how two things relate."""

from __future__ import annotations

import functools
import re
import unicodedata
from importlib.resources import files

from medqa_cli.data.normalize import normalize
from medqa_cli.data.topics.topic_casing import names_illness

_MEDICINES = "# medicines under two names"  # the section of synonyms.txt that holds no illnesses
_POSSESSIVE = re.compile(r"(?<=\w)['’]s\b|(?<=s)['’](?=\s|$)")
_ACCENTS = re.compile("[\u0300-\u036f]")  # of European letters; marks of other scripts are letters
_NOT_PLURAL = ("ss", "us", "is")
_SHORTEST_PLURAL = 4

# Words that name a relation or a part of care, and not a thing that rows can be about.
_RELATIONS_TEXT = """
role roles purpose purposes use uses usage usefulness utility benefit benefits effect effects impact impacts influence
importance significance function functions aim aims goal goals advantage advantages disadvantage disadvantages risk
risks harm harms chance chances likelihood probability odds rate rates incidence prevalence mortality morbidity burden
cost costs dose doses dosage dosing course duration period time onset origin origins history pathophysiology
pathogenesis mechanism mechanisms action actions physiology etiology aetiology epidemiology cause causes reason reasons
rationale treatment treatments therapy therapies management diagnosis prognosis outlook prevention symptom symptoms
sign signs feature features manifestation manifestations presentation complication complications stage stages type
types kind kinds form forms class classes classification category categories subtype subtypes example examples
definition meaning concept relationship relation link links association connection correlation recommendation
recommendations guideline guidelines vaccine vaccines vaccination immunization immunisation test tests testing
screening method methods way ways approach approaches strategy strategies step steps option options choice medication
medications medicine medicines drug drugs standard survival expectancy efficacy effectiveness safety contraindication
contraindications indication indications evidence number amount level levels range value values percentage proportion
majority consequence consequences outcome outcomes factor factors need needs place part spread transmission control
care advice information fact facts overview target targets threshold interval frequency timing recovery technique
procedure protocol criteria criterion basis nature process case cases episode episodes lot diff follow-up trigger
triggers accuracy sensitivity specificity response responses help results opinion question questions problem problems
diet diets age ages cut-off cutoff recurrence remission shot shots cure cures
intake requirement requirements
"""
# Words of medicine that end like an illness.
_NO_ILLNESS_TEXT = """
apoptosis diagnosis empathy hemostasis haemostasis homeopathy homeostasis hypnosis meiosis metamorphosis mitosis
naturopathy osmosis osteopathy prognosis self-diagnosis sympathy symbiosis telepathy
"""
_RELATIONS, _NO_ILLNESS = frozenset(_RELATIONS_TEXT.split()), frozenset(_NO_ILLNESS_TEXT.split())
_COMPLAINTS = (
    r"pain|\w*aches?|diarrh?o?ea|constipation|insomnia|cough|fever|rash|rashes|bleeding|bruising|nausea|vomiting|swelling|"
    r"itch|itching|cramps?|spasms?|spasticity|tremors?|fatigue|tiredness|dizziness|drowsiness|numbness|weakness|stiffness|"
    r"dryness|hoarseness|sickness|bedwetting|(?:hair|weight|memory|vision|sight|bone|tooth|appetite) loss|weight gain|"
    r"sweats?|sweating|flashes|flushes|palpitations?|breathlessness|heartburn|reflux|indigestion|bloating|incontinence|"
    r"anxiety|dehydration"
)
_COMPLAINT = re.compile(rf"\b(?:{_COMPLAINTS})\Z", re.IGNORECASE)
_ILLNESS = re.compile(
    rf"\b(?:{_COMPLAINTS}|"
    r"infections?|\w*virus(?:es)?|injur(?:y|ies)|stroke|strokes|HIV|AIDS|HPV|TB|COPD|COVID(?:-19)?|ADHD|PTSD|"
    r"migraines?|tumou?rs?|ulcers?|allerg(?:y|ies)|poisoning|failure|failures|fractures?|burns?|wounds?|"
    r"cold|colds|stones?|arrest|attacks?|addiction|"
    r"abuse|h(?:a)?emorrhage|disability|"
    r"diseases?|syndromes?|disorders?|cancers?|seizures?|convulsions|lice|worms?|warts?|herpes|sepsis|"
    r"septic shock|shock|preeclampsia|eclampsia|ebola|zika|dengue|polio|plague|cholera|typhoid|tetanus|leprosy|"
    r"an[a]?emias?|leuk[a]?emia|\w{3,}(?:itis|osis|oses|asis|[^m]oma|omas|emia|aemia|pathy|algia|plegia)|"
    r"(?:hearing|bone) loss|deafness|blindness|baldness|infertility|"
    r"impotence|dysfunction|colic|croup|thrush|jaundice|o?edema|malnutrition|scurvy|rickets|pellagra|"
    r"goit(?:er|re)|cataracts?|strabismus|tinnitus|vertigo|h(?:a)?emorrhoids|piles|hernias?|cysts?|polyps?|abscess(?:es)?|"
    r"fistulas?|boils|prolapse|embolism|embolus|clots?|aneurysms?|sciatica|scoliosis|whiplash|concussion|sprains?|"
    r"trauma|bites?|stings?|impetigo|scabies|ringworm|urticaria|hives|dermatographia|sunburn|frostbite|varicose veins|"
    r"sore throat|(?:frozen|stiff) (?:shoulder|neck)|dry (?:eyes?|mouth|skin)|tennis elbow|club ?foot|carpal tunnel|"
    r"miscarriage|stillbirth|teething|snoring|delirium|psychosis|mania|phobias?|anorexia|bulimia|anaphylaxis|"
    r"angina|gangrene|paralysis|hypothermia|hyperthermia|intolerance|menopause|toxicity|overdose|withdrawal)\Z",
    re.IGNORECASE,
)
_MEANS = re.compile(
    r"\b(?:surger(?:y|ies)|operations?|\w*therap(?:y|ies)|treatments?|medicines?|medications?|drugs?|pills?|tablets?|"
    r"\w*biotics?|\w*steroids?|vaccin(?:es?|ations?)|supplements?|supplementation|exercises?|diets?|rehabilitation|massage|"
    r"acupuncture|yoga|meditation|mindfulness|counsel?ling|rest|bed rest|screening|imaging|scans?|MRI|CT|PET|EEG|EMG|"
    r"ECG|EKG|X-?rays?|sonography|ultrasound|\w{3,}(?:scop|graph|ectom|plast|otom|ostom)(?:y|ies)|biops(?:y|ies)|"
    r"transplants?|transplantation|transfusions?|dialysis|infusions?|injections?|punctures?|blocks?|blockers?|"
    r"inhibitors?|agonists?|antagonists?|diuretics?|laxatives?|antacids?|analgesics?|painkillers?|opioids?|opiates?|"
    r"nsaids?|sedatives?|anti\w{5,}s?|contracepti(?:on|ves?)|immunoglobulins?|IVIG|oxygen|stockings|splints?|braces?|casts?|"
    r"bandages?|orthotics|pacemakers?|stents?|stenting|implants?|catheters?|ventilation|CPAP|inhalers?|sprays?|drops|"
    r"ointments?|creams?|gels?|lotions?|patch(?:es)?|gargles?|rehydration(?: solutions?| salts)?|blood tests?|"
    r"tests?|testing|\w{3,}(?:cillin|m[yi]cin|cycline|floxacin|azole?s?|olol|pril|sartan|statins?|mab|nib|vir|parin|xaban|"
    r"gliptin|gliflozin|glutide|setron|triptans?|dronates?|azepam|azolam|oxetine|pramine|triptyline|profen|caine|lukast|"
    r"terol|solone|sone|formin|zide|semide|thyroxine|platin|rubicin|taxel|quine|mectin)|aspirin|warfarin|heparin|"
    r"colchicine|methotrexate|lithium|morphine|naproxen|tamoxifen|digoxin|botulinum toxin|botox|tranexamic acid|"
    r"clopidogrel|ketamine|naloxone|melatonin|turmeric|cannabis|honey|ginger|garlic|echinacea|probiotics)\Z",
    re.IGNORECASE,
)


def is_relation(word: str) -> bool:
    """Tell whether a word says how two things relate ("role", "risk", "treatment") and names none of them."""
    return word.lower() in _RELATIONS


def is_illness_or_complaint(phrase: str) -> bool:
    """Tell whether a phrase without prepositions names an illness, an injury or a complaint."""
    words = phrase.lower().split()
    if not words or words[-1] in _RELATIONS or words[-1] in _NO_ILLNESS:
        return False
    return names_illness(phrase) or _ILLNESS.search(phrase) is not None or compared(phrase) in _known()["illnesses"]


def is_complaint(phrase: str) -> bool:
    """Tell whether a phrase names what one feels or sees, which many illnesses bring with them."""
    return _COMPLAINT.search(phrase) is not None


def is_means(phrase: str) -> bool:
    """Tell whether a phrase without prepositions names a treatment, or a test."""
    return _MEANS.search(phrase) is not None or compared(phrase) in _known()["medicines"]


@functools.cache
def synonyms() -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Return each line of ``synonyms.txt``: the section that it stands in, and the names of one thing."""
    lines, section = [], ""
    for line in files("medqa_cli.resources").joinpath("synonyms.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            section = line
        elif line:
            lines.append((section, tuple(line.split(" = "))))
    return tuple(lines)


def compared(name: str) -> str:
    """Return a name folded, without accents, possessives and plurals: "Sjögren's Syndromes" is "sjogren syndrome"."""
    plain = _ACCENTS.sub("", unicodedata.normalize("NFKD", _POSSESSIVE.sub("", name)))
    return " ".join(_singular(word) for word in normalize(plain).split())


@functools.cache
def _known() -> dict[str, frozenset[str]]:
    illnesses, medicines = set[str](), set[str]()
    for section, names in synonyms():
        (medicines if section == _MEDICINES else illnesses).update(compared(name) for name in names)
    return {"illnesses": frozenset(illnesses), "medicines": frozenset(medicines)}


def _singular(word: str) -> str:
    """Return a word without a plural ending; it need not be a word, but one and many give the same."""
    if len(word) < _SHORTEST_PLURAL or not word.endswith("s") or word.endswith(_NOT_PLURAL):
        return word
    if word.endswith("ies"):
        return f"{word[:-3]}y"
    return word[:-2] if word.endswith(("sses", "xes", "ches", "shes")) else word[:-1]
