"""What is found only in a text about one person, and stays where the text is about many."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest

from medqa_cli.data.identifiers import name_features, name_scores
from medqa_cli.data.identifiers.finding import find_in_row, is_about_one_person
from medqa_cli.data.identifiers.text import Text
from medqa_cli.data.identifiers.word_tables import weights

CLINICS = Path(__file__).parents[3] / "data" / "clinics"


def found(text: str, answer: str = "") -> list[tuple[str, str]]:
    return [
        (find.kind, {"question": text, "answer": answer}[find.field][find.start : find.end])
        for find in find_in_row(text, answer)
    ]


@pytest.mark.parametrize(
    "text",
    [
        "My gran fell last night and her wrist is swollen.",
        "hi doc, i have a rash since tuesday, what shall i do",
        "Pt seen today, 67 y/o M with CHF. Discharged on furosemide.",
        "Thank you for referring this pleasant lady. She complains of dizziness.",
    ],
)
def test_a_text_of_a_patient_or_a_clinic_is_about_one_person(text: str) -> None:
    assert is_about_one_person(Text(text))


@pytest.mark.parametrize(
    "text",
    [
        "What are the symptoms of Leigh syndrome ?",
        "How many people are affected by Noonan syndrome ?",
        "Noonan syndrome is a genetic disorder. The signs and symptoms include short stature and heart defects. It is"
        " inherited in an autosomal dominant pattern, which means one copy of the altered gene in each cell causes it.",
        "The treatment of hepatitis depends on the type. Most people need no treatment, and some are given antivirals.",
    ],
)
def test_a_page_of_an_encyclopedia_is_about_nobody(text: str) -> None:
    assert not is_about_one_person(Text(text))


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        # Names that no cue announces, of the tables or beside one.
        ("I worry about Priyanka. She has not eaten since the operation.", "name", "Priyanka"),
        ("Could it be mumps? Zoltan has swollen cheeks and my other boy is fine.", "name", "Zoltan"),
        ("We sat next to Amara Obikwelu on the coach and she has scabies.", "name", "Amara Obikwelu"),
        ("does tomasz have to stay in bed? he is bored and my mum is away", "name", "tomasz"),
        # Dates without a word that says what happened.
        ("My cough is back. It was the same in March 2019 and nobody helped me.", "date", "March 2019"),
        ("Home visit 12.03.19, my left heel is sore.", "date", "12.03.19"),
        ("My cast came off 4 Apr 2022 but I still limp.", "date", "4 Apr 2022"),
        ("Seen in clinic 3-Mar-19. Pt well, discharged.", "date", "3-Mar-19"),
        ("Seen in clinic 03Mar2019. Pt well, discharged.", "date", "03Mar2019"),
        ("My last bleed was on 3/14 and I am worried.", "date", "3/14"),
        ("Seen on Tuesday, 4 June 2019, my knee is no better.", "date", "Tuesday, 4 June 2019"),
        ("Mein Arzt sah mich am 17.6. in der Praxis.", "date", "17.6."),
        ("Mi hija tiene tos desde el tres de mayo.", "date", "el tres de mayo"),
        ("I moved in mid-March 2021 and my cough began.", "date", "mid-March 2021"),
        # Ages.
        ("My nan will be 94 in spring and they want to operate.", "age", "94"),
        ("Pt is a 93F w/ h/o AF, seen today after a fall.", "age", "93"),
        ("patient aged ninety-four years with delirium, seen by me today", "age", "ninety-four"),
        ("My nan is pushing 97 and still bakes.", "age", "97"),
        ("Her ninety-third birthday is on Friday, my aunt wants to dance.", "age", "ninety-third"),
        ("She turned 95 on Sunday and my mother wept.", "age", "95"),
        ("My uncle lived to 101 without a pill.", "age", "101"),
        ("Meine Mutter ist einundneunzig und sehr müde.", "age", "einundneunzig"),
        ("Ma mère a quatre-vingt-quatorze ans, elle tousse.", "age", "quatre-vingt-quatorze"),
        ("We celebrated my aunt's 94th in May and she danced.", "age", "94th"),
        ("My dad celebrates his ninety-fifth on Friday.", "age", "ninety-fifth"),
        ("age - 96\nsex - f\nmy question: digoxin", "age", "96"),
        ("Age (yrs): 91, my leg is swollen", "age", "91"),
        ("For my father Jakub (103 y, on digoxin).", "age", "103"),
        ("Cherek, Zofia / 104 / side room: she sleeps all day", "age", "104"),
        ("my dads 92 and dizzy", "age", "92"),
        ("husband 93 wife 88, both have covid, can i help", "age", "93"),
        ("Sie ist 94 J., meine Oma, und schläft.", "age", "94"),
        ("Moja mama ima 94 godina, my aunt says", "age", "94"),
        ("She just hit 100! My gran wants a whisky.", "age", "100"),
        ("my grandmother aged95 has a cough", "age", "95"),
        # Numbers behind any word for one, and codes.
        ("Booking ref 6570-0-132: can I take my pills before the scan?", "record", "6570-0-132"),
        ("My sample CT20431187 is lost, do I have to give blood again?", "record", "CT20431187"),
        ("Crashed my car, plate KA 05 MN 1234, and my neck hurts.", "device", "KA 05 MN 1234"),
        ("My pump, serial no. MMT-7712-118273, beeps.", "device", "MMT-7712-118273"),
        ("Please pay me back, iban de12 3456 7890 1234 5678 90 as before.", "account", "de12 3456 7890 1234 5678 90"),
        ("Thanks to mama_hedgehog_31 for the tip, my cramps are gone.", "profile", "mama_hedgehog_31"),
        ("My scale wants 42fd.678d.e308, why?", "device", "42fd.678d.e308"),
        # Streets.
        ("I am at Flat 61, Kestrel Point, please ring twice.", "address", "Flat 61, Kestrel Point"),
        (
            "He lives with my aunt, Lipový vijenac 4, 03918 Delnice: can a nurse come?",
            "address",
            "Lipový vijenac 4, 03918 Delnice",
        ),
        ("My nan's post goes to Locked Bag 7084.", "address", "Locked Bag 7084"),
        ("Grandpa fell at 16 Hannah Walk this morning, he is on clopidogrel.", "address", "16 Hannah Walk"),
        ("My mother lives in Backtorget 58, can the nurse come?", "address", "Backtorget 58"),
        ("Please send it to me, ul. Wilcza 23/57, I am alone.", "address", "ul. Wilcza 23/57"),
    ],
)
def test_in_a_text_about_one_person_fewer_words_are_needed(text: str, kind: str, value: str) -> None:
    assert (kind, value) in found(text)


@pytest.mark.parametrize(
    "text",
    [
        "My mother has Parkinson's and my father had Hodgkin's. Should I worry?",
        "I took Zoloft, then Lexapro, then 10 Tylenol. My doctor is away.",
        "I was at St Mary's in Leeds on Friday and my knee still hurts.",
        "My sats are 91 to 95 at night, my pulse is 95, I weigh 97 kg and my waist is 102.",
        "I walked 10,000 steps on 24/7 standby duty, my feet are swollen 50/50.",
        "My BP was 120/80 during 2019. I had 12 units and 4000 ml of fluid.",
        "My report says MTHFR C677T, HFE H63D/C282Y and BRCA1 c.5266dup. Do I worry?",
        "My bottle says NDC 0093-7198-56. Is it the pill I had before?",
        "My app shows 2.10.0.11406 since the update. I miss alarms.",
        "The FDA approved lecanemab on July 6, 2023. My doctor has not heard of it.",
        "My nurse called the poison line, 1-800-222-1222, for me.",
        "My pain on Friday: 3/10, on Sunday 7/10. I took 90 tablets in all.",
        "My label says EXP 12 2026 and the page was last reviewed on 3 May 2019. Is it still good?",
        "I drank a Dr Pepper in Utrecht, had a Bloody Mary at Sir Charles Gairdner and took Daktarin.",
        "I'm Irish, my boyfriend is Welsh and my omega3 and covid19 tests were fine.",
        "I drive at 100 and my hands tingle.",
        "My lipase was 92, my amylase 101.",
        "My son is on the 95th centile.",
    ],
)
def test_what_is_nobodys_stays_in_a_text_about_one_person(text: str) -> None:
    assert found(text) == []


@pytest.mark.parametrize(
    "text",
    [
        "The disorder is caused by mutations in a gene. The signs and symptoms include 12.03.19 and 3/14 of the cases.",
        "People aged 94 are treated like other adults. The gene CT20431187 is expressed in most cells.",
    ],
)
def test_the_same_stays_in_a_text_about_many(text: str) -> None:
    assert found("What are the treatments for gout ?", text) == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Woran erkenne ich Scharlach?",
        "Die Zeichen von Borreliose sind je nach Person verschieden, und das ist bekannt.",
        "Les symptômes de la maladie sont la fièvre et la toux, avec une fatigue qui dure.",
    ],
)
def test_an_empty_or_foreign_text_of_no_telling_word_has_no_names(text: str) -> None:
    assert found(text) == []


def test_a_row_is_about_one_person_if_one_of_its_texts_is() -> None:
    answer = "The symptoms of a hernia include pain, and these are often caused by a cough. Priyanka has them."
    assert found("What are the symptoms of a hernia ?", answer) == []
    assert ("name", "Priyanka") in found("My daughter has a lump in her groin. What should I do?", answer)


def test_each_weight_is_of_a_feature_that_a_word_can_have() -> None:
    sorts = [
        "k",
        "s",
        "h",
        "l",
        "r",
        "lg",
        "rg",
        "lc",
        "rc",
        "kl",
        "kr",
        "sl",
        "sr",
        "hl",
        "hr",
        "ll",
        "lr",
        "gap",
        "o",
        "oh",
        "n",
        "own",
        "low",
        "c",
        "follows",
        "also",
    ]
    assert {feature.split(" ")[0] for feature in weights("name")} <= {"", *sorts}
    assert max(map(abs, weights("name").values())) < 2000


def test_words_side_by_side_are_one_name_with_initials_and_particles_between() -> None:
    text = Text("seen by J. R. Okafor de la Cruz-Obi, my nurse")
    words = name_features.tokens(text)
    taken = [place for place, word in enumerate(words) if word.plain in ("okafor", "cruz-obi")]
    assert [text.text[start:end] for start, end, _ in name_scores.joined(text, words, taken)] == [
        "J. R. Okafor de la Cruz-Obi"
    ]


def test_a_score_at_the_threshold_is_the_same_in_each_process() -> None:
    text = (
        "Is hepatitis C curable? Yes. Eigght to twelve weeks of tablts cure more than 95 % of patints, whatever the "
        "genotype. The virus was identified in 1989."
    )
    code = "import sys; from medqa_cli.data.identifiers import finding; print(finding.find_in_row(sys.argv[1], ''))"
    told = {
        subprocess.run(
            [sys.executable, "-c", code, text],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "2", "3", "5")
    }
    assert len(told) == 1


@pytest.mark.parametrize("language", ["de", "es", "fr", "it", "pt"])
def test_medicine_in_another_language_holds_hardly_a_name(language: str) -> None:
    with open(CLINICS / language / "rows.csv", encoding="utf-8", newline="") as file:
        rows = [row[-2:] for row in csv.reader(file)]
    assert len(rows) > 20
    assert len([finds for question, answer in rows if (finds := found(question, answer))]) <= 1


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Mi hija tiene fiebre desde ayer. La vio el doctor Ramírez Ortega y le dio paracetamol.", "Ramírez Ortega"),
        ("Bonjour, je m'appelle Marie Lefèvre, j'ai mal au dos depuis lundi.", "Marie Lefèvre"),
        ("Meine Mutter nimmt Ramipril. Frau Dr. Sabine Krüger sagt, sie soll es absetzen.", "Sabine Krüger"),
    ],
)
def test_names_with_capitals_are_found_in_another_language(text: str, name: str) -> None:
    assert ("name", name) in found(text)
