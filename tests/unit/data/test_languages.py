"""Which language a text is in, and which rules may change it."""

import csv
from collections import Counter

import pytest

from helpers.paths import SHARED_DATA
from medqa_cli.data.cleaning.rules import clean, enabled_rules
from medqa_cli.data.languages import UNKNOWN, has_other_languages, language_of, likeliest_language, told_language

MEDQUAD = SHARED_DATA / "medquad/medquad_two_columns.csv"

# One sentence each, of the kind that an answer begins with.
SENTENCES = {
    "en": "The doctor may order a blood test and an ultrasound of the liver.",
    "fr": "Le médecin peut demander une prise de sang et une échographie du foie.",
    "de": "Der Arzt kann eine Blutuntersuchung und einen Ultraschall der Leber anordnen.",
    "es": "El médico puede pedir un análisis de sangre y una ecografía del hígado.",
    "it": "Il medico può richiedere un esame del sangue e un'ecografia del fegato.",
    "ca": "El metge pot demanar una anàlisi de sang i una ecografia del fetge.",
    "pt": "O médico pode pedir um exame de sangue e uma ecografia do fígado.",
    "nl": "De arts kan een bloedonderzoek en een echo van de lever aanvragen.",
    "sv": "Läkaren kan beställa ett blodprov och ett ultraljud av levern.",
    "da": "Lægen kan bestille en blodprøve og en ultralydsscanning af leveren.",
    "no": "Legen kan bestille en blodprøve og en ultralyd av leveren, men ikke noe mer.",
    "pl": "Lekarz może zlecić badanie krwi i USG wątroby.",
    "cs": "Lékař může nařídit vyšetření krve a ultrazvuk jater.",
    "ro": "Medicul poate cere o analiză de sânge și o ecografie a ficatului.",
    "tr": "Doktor kan tahlili ve karaciğer ultrasonu isteyebilir.",
    "fi": "Lääkäri voi määrätä verikokeen ja maksan ultraäänitutkimuksen.",
    "hu": "Az orvos vérvizsgálatot és májultrahangot kérhet.",
    "vi": "Bác sĩ có thể yêu cầu xét nghiệm máu và siêu âm gan.",
    "id": "Dokter dapat meminta tes darah dan USG hati.",
    "ru": "Врач может назначить анализ крови и УЗИ печени.",
    "uk": "Лікар може призначити аналіз крові.",
    "el": "Ο γιατρός μπορεί να ζητήσει εξέταση αίματος.",
    "he": "הרופא עשוי להזמין בדיקת דם.",
    "ar": "قد يطلب الطبيب فحص دم.",
    "fa": "پزشک ممکن است آزمایش خون بخواهد و چند چیز دیگر.",
    "ur": "ڈاکٹر خون کا ٹیسٹ کروا سکتا ہے۔",
    "hi": "डॉक्टर खून की जाँच करवा सकते हैं।",
    "th": "แพทย์อาจสั่งตรวจเลือด",
    "zh": "医生可能会做血液检查和肝脏B超(ultrasound)。",
    "ja": "医師は血液検査を行うことがあります。",
    "ko": "의사는 혈액 검사를 지시할 수 있습니다.",
}


@pytest.mark.parametrize("language", SENTENCES)
def test_a_sentence_tells_its_language(language: str) -> None:
    assert language_of(SENTENCES[language]) == language


@pytest.mark.parametrize(
    "text", ["", "42", "Paracetamol", "Sjögren", "BRCA1, BRCA2", "Is Ménière rare?", "Pagina non valida."]
)
def test_what_is_too_short_to_tell_is_not_told(text: str) -> None:
    assert language_of(text) == UNKNOWN


@pytest.mark.parametrize(
    "text",
    [
        "Swollen cheeks go down by themselves in ten days.",
        "Over 2000 tests are available.",
        "Mild cases likely never come to medical attention.",
        "PCD is a rare, non-metastatic complication of cancer.",
        "Ask a health care provider for written instructions for sick days.",
    ],
)
def test_an_english_sentence_of_words_that_other_languages_have_is_english(text: str) -> None:
    assert language_of(text) in ("en", UNKNOWN)


@pytest.mark.parametrize("text", ["Du har ikke adgang til denne side.", "El esquema no es correcto."])
def test_of_languages_that_are_as_likely_none_is_told_but_that_it_is_not_english(text: str) -> None:
    assert language_of(text) == UNKNOWN
    assert likeliest_language(text) not in ("en", UNKNOWN)


def test_the_text_beside_tells_where_the_text_itself_does_not() -> None:
    assert told_language("Paracetamol.", SENTENCES["fr"]) == "fr"
    assert told_language(SENTENCES["de"], SENTENCES["fr"]) == "de"


def test_a_few_rows_of_other_languages_are_not_worth_a_line() -> None:
    assert not has_other_languages({"en": 14_000, UNKNOWN: 500, "it": 4})
    assert has_other_languages({"en": 14_000, "it": 20})
    assert has_other_languages({"en": 50, "it": 2})
    assert not has_other_languages({"en": 50, "it": 1})
    assert not has_other_languages({"en": 198, "it": 2})  # one of a hundred exactly
    assert has_other_languages({"en": 197, "it": 2})
    assert has_other_languages({"fr": 1})


@pytest.mark.skipif(not MEDQUAD.exists(), reason=f"no file {MEDQUAD}")
def test_medquad_is_english() -> None:
    counts: Counter[str] = Counter()
    with open(MEDQUAD, encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            counts[told_language(row["answer"], row["question"])] += 1
    assert counts["en"] + counts[UNKNOWN] >= 16_407 - 10
    assert counts[UNKNOWN] <= 30


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        (
            "Quels patients faut-il surveiller ?",
            "Les patients dont l'état change, dont certains ont de la fièvre, dont 3 enfants.",
        ),
        (
            "Comment évolue la douleur ?",
            "Voici les signes dont souffre le malade. La façon dont vos douleurs évoluent.",
        ),
        ("Quina teràpia ajuda les persones amb asma?", "El cant i la respiració. El cant coral és per a tots."),
        ("Che cosa aiuta?", "Il cant popolare e la respirazione, che sono utili."),
        ("Wie heißen die Babys?", "Das ist für die babys und childrens nicht so gut."),
    ],
)
def test_english_repairs_leave_other_languages_alone(question: str, answer: str) -> None:
    cleaned = clean(question, answer, enabled_rules({}))
    assert (cleaned.question, cleaned.answer, cleaned.changed) == (question, answer, ())


def test_each_text_of_a_row_counts_by_its_own_language() -> None:
    french = "Comment soigne-t-on la maladie numéro 0 ?"
    cleaned = clean(french, "It doesnt hurt and you cant see it.", enabled_rules({}))
    assert (cleaned.question, cleaned.answer) == (french, "It doesn't hurt and you can't see it.")
    assert clean("What is flu ?", "Il dort.", enabled_rules({})).question == "What is flu?"


@pytest.mark.parametrize("space", [" ", "\xa0", "\u202f"])
def test_the_french_space_before_a_mark_stays(space: str) -> None:
    question = f"Quels sont les signes de la grippe{space}?"
    answer = f"Les signes{space}: fièvre{space}; toux{space}! «{space}Oui{space}»."
    cleaned = clean(question, answer, enabled_rules({}))
    assert (cleaned.question, cleaned.answer) == (question, answer)
    assert clean(f"What is flu{space}? {space}?", "It is viral.", enabled_rules({})).question == "What is flu?"


# As patients ask, every fourth or so without accents.
QUESTIONS = {
    "es": """¿Qué es la diabetes tipo 2?
¿Cómo se trata la gripe?
que es la artritis
cuales son los sintomas del asma
¿Puedo tomar ibuprofeno durante el embarazo?
¿Qué causa el dolor de espalda?
sintomas de la anemia
¿Es contagiosa la varicela?
¿Cuánto dura un resfriado?
tratamiento de la hipertension
¿Qué puedo comer con gastritis?
¿Cuándo debo ir al médico?""",
    "pt": """O que é diabetes tipo 2?
Como se trata a gripe?
o que e artrite
quais sao os sintomas da asma
Posso tomar ibuprofeno durante a gravidez?
O que causa dor nas costas?
sintomas de anemia
A varicela é contagiosa?
Quanto tempo dura uma constipação?
tratamento da hipertensao
O que posso comer com gastrite?
Quando devo ir ao médico?""",
    "ca": """Què és la diabetis tipus 2?
Com es tracta la grip?
que es l'artritis
quins son els simptomes de l'asma
Puc prendre ibuprofèn durant l'embaràs?
Què causa el mal d'esquena?
simptomes de l'anemia
És contagiosa la varicel·la?
Quant dura un refredat?
tractament de la hipertensio
Què puc menjar amb gastritis?
Quan he d'anar al metge?""",
    "it": """Che cos'è il diabete di tipo 2?
Come si cura l'influenza?
cos'e l'artrite
quali sono i sintomi dell'asma
Posso prendere l'ibuprofene in gravidanza?
Che cosa causa il mal di schiena?
sintomi dell'anemia
La varicella è contagiosa?
Quanto dura un raffreddore?
cura dell'ipertensione
Cosa posso mangiare con la gastrite?
Quando devo andare dal medico?""",
    "fr": """Qu'est-ce que le diabète de type 2 ?
Comment soigner la grippe ?
c'est quoi l'arthrite
quels sont les symptomes de l'asthme
Puis-je prendre de l'ibuprofène pendant la grossesse ?
Quelle est la cause du mal de dos ?
symptomes de l'anemie
La varicelle est-elle contagieuse ?
Combien de temps dure un rhume ?
traitement de l'hypertension
Que puis-je manger avec une gastrite ?
Quand dois-je consulter un médecin ?""",
}


@pytest.mark.parametrize("language", QUESTIONS)
def test_a_short_question_is_in_its_language_or_none_that_is_certain(language: str) -> None:
    told = Counter(map(language_of, QUESTIONS[language].split("\n")))
    assert set(told) <= {language, UNKNOWN}
    assert told[language] >= 5
