"""Questions in several languages: what made-up clinics have on them is found, what they do not have is refused."""

import csv
from dataclasses import replace
from pathlib import Path

import pytest

from medqa_cli.config.schema import DataConfig
from medqa_cli.data.convert import column_names
from medqa_cli.data.documents.finding import find_documents
from medqa_cli.data.documents.passages import read_documents
from medqa_cli.data.normalize import without_accents
from medqa_cli.data.ranking import Query, all_words, form_of, language_of_question, words_of
from medqa_cli.data.retrieval import Passage, PassageIndex

CLINICS = Path(__file__).parents[2] / "data" / "clinics"


def clinic(language: str) -> PassageIndex:
    with (CLINICS / language / "rows.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))[1:]
    config = DataConfig(documents=str(CLINICS / language / "leaflets"))
    listing = find_documents(config.documents, Path("no/such/folder"), [])
    leaflets = read_documents(listing, config, column_names(config)).passages
    passages = [
        Passage(f"r{n}", "row", question, answer, topic, "") for n, (topic, question, answer) in enumerate(rows)
    ]
    return PassageIndex([*passages, *leaflets])


def figures(index: PassageIndex, language: str, number: str) -> tuple[int, int, int, int]:
    """Return the questions whose nearest passage is of their topic, all of those, false sources, all without one."""
    found = asked = false = foreign = 0
    with (CLINICS / language / "questions.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row["round"] == number:
                nearest = [each.topic or Path(each.source).stem for each in index.nearest(row["question"], 1)]
                found += bool(row["topic"]) and nearest == [row["topic"]]
                asked += bool(row["topic"])
                false += not row["topic"] and bool(nearest)
                foreign += not row["topic"]
    return found, asked, false, foreign


@pytest.mark.parametrize(
    ("language", "expected"),
    [
        ("es", {"1": (38, 44, 0, 20), "2": (16, 20, 0, 12), "hard": (0, 0, 1, 16), "3": (12, 16, 0, 10)}),
        ("fr", {"1": (23, 25, 0, 12), "2": (12, 13, 0, 10), "hard": (0, 0, 0, 10), "3": (11, 11, 0, 8)}),
        ("it", {"1": (24, 25, 0, 12), "2": (11, 13, 0, 10), "hard": (0, 0, 0, 10), "3": (7, 11, 0, 8)}),
        ("pt", {"1": (23, 25, 0, 12), "2": (11, 13, 0, 10), "hard": (0, 0, 1, 10), "3": (10, 11, 0, 8)}),
        ("de", {"1": (24, 25, 0, 12), "2": (11, 13, 0, 10), "hard": (0, 0, 0, 10), "3": (9, 11, 0, 8)}),
    ],
)
def test_a_clinics_leaflets_are_found_and_other_subjects_refused(
    language: str, expected: dict[str, tuple[int, int, int, int]]
) -> None:
    index = clinic(language)
    assert {number: figures(index, language, number) for number in ("1", "2", "hard", "3")} == expected


@pytest.mark.parametrize("language", ["es", "fr", "it", "pt", "de"])
def test_a_question_without_accents_finds_what_one_with_accents_finds(language: str) -> None:
    index = clinic(language)
    with (CLINICS / language / "questions.csv").open(encoding="utf-8", newline="") as file:
        questions = [row["question"] for row in csv.DictReader(file) if not row["question"].isascii()]
    assert len(questions) > 10
    for question in questions:
        if "ß" not in question:
            plain = without_accents(question.replace("¿", "").replace("œ", "oe"))
            assert plain.isascii()
            assert index.nearest(plain, 3) == index.nearest(question, 3), question


ENGLISH = [
    "Grand mal seizures",
    "Pie allergy",
    "A fin whale bite",
    "The sale of dos tablets",
    "Me and my son come late",
]
SPANISH = [
    "¿Qué es la gota y cómo se trata en los adultos?",
    "¿Por qué sale un sarpullido en la piel de los niños?",
    "¿Cuándo hay que ir al médico por una fiebre?",
]


def asked(question: str, titles: list[str]) -> set[str]:
    index = PassageIndex(Passage(f"p{n}", "row", title, "", "", "") for n, title in enumerate(titles))
    return set(Query(all_words(question), form_of(question), index._vocabulary, question).words.values())


@pytest.mark.parametrize("titles", [ENGLISH * 10, ENGLISH * 10 + SPANISH, ENGLISH * 10 + SPANISH * 10])
def test_english_words_that_a_spanish_list_holds_count_in_an_english_question(titles: list[str]) -> None:
    words = {"sale", "come", "mal", "pie", "fin", "son", "dos"}
    assert words <= {word for table in ("es", "fr", "it", "pt") for word in words_of(table).small} | {"pie", "fin"}
    assert asked("What does it mean when the pie, the sale, mal and fin come with two dos and a son?", titles) >= words


def test_an_english_question_in_a_spanish_clinic_is_read_as_english() -> None:
    assert {"sale", "come"} <= asked("What are the pills that come from a sale?", SPANISH * 10)
    # "come" tells what is asked, here what to eat.
    assert asked("me sale un grano, que come un enfermo", SPANISH * 10) == {"grano", "come", "enfermo"}


@pytest.mark.parametrize(
    ("question", "held", "expected"),
    [
        ("tengo glaucoma", ("es",), "es"),
        ("tengo glaucoma", ("pt", "es"), "pt"),
        ("What is glaucoma and how is it treated?", ("es",), "en"),
        ("What is glaucoma and how is it treated?", ("es", "en"), "en"),
        ("me sale un grano, que come un enfermo", ("es",), "es"),  # "me", "come"
        ("¿Cuáles son los síntomas?", ("en", "es"), "es"),
        ("¿Cuáles son los síntomas?", ("pt",), "pt"),  # kin that is no language of the clinic
        ("tengo glaucoma", ("en",), "und"),
        ("", ("es",), "es"),
        ("", (), "und"),
    ],
)
def test_a_question_is_in_a_language_of_the_passages(question: str, held: tuple[str, ...], expected: str) -> None:
    assert language_of_question(question, held) == expected


def test_words_of_a_language_that_no_passage_has_are_those_of_its_grammar_alone() -> None:
    with_table, without = words_of("es"), words_of("es", with_table=False)
    assert with_table.is_small("qué")
    assert with_table.is_small("que")
    assert with_table.is_small("tengo")
    assert not without.is_small("tengo")
    assert without.is_small("qué")
    assert with_table.kinds_of("síntomas") == with_table.kinds_of("sintomas") == {"symptoms"}
    assert without.kinds_of("symptoms") == words_of("en").kinds_of("symptoms") == {"symptoms"}
    assert not words_of("en").is_small("thé")  # accents are kept where English is read


SALT = "Ponga menos sal y evite los embutidos, porque contienen mucha."
LEAFLET = [
    Passage("d0", "document", "Hoja 7: Qué es", "La hipertensión es una tensión alta.", "", "hoja.txt"),
    *(Passage(f"d{n}", "document", "Hoja 7: Nada", "Aquí no hay nada que leer.", "", "hoja.txt") for n in range(1, 9)),
    Passage("salt", "document", "Hoja 7: Comida", SALT, "", "hoja.txt"),
    *(
        Passage(f"r{n}", "row", f"¿Qué es la {name}?", "Es una enfermedad de la que hablamos aquí.", "", "")
        for n, name in enumerate(("gota", "gripe", "anemia", "migraña", "cistitis", "varicela"))
    ),
]


def test_a_passage_of_a_leaflet_is_close_to_what_the_passages_beside_it_are_about() -> None:
    question = "¿Cuánta sal puedo comer con la hipertensión?"
    assert "salt" in {each.id for each in PassageIndex(LEAFLET).nearest(question, 5)}
    of_two = [replace(each, source="otra.txt") if each.id == "salt" else each for each in LEAFLET]
    assert "salt" not in {each.id for each in PassageIndex(of_two).nearest(question, 5)}
    between = [replace(LEAFLET[1], id=f"more{n}") for n in range(3)]
    far = [*LEAFLET[:9], *between, *LEAFLET[9:]]  # eleven passages further on
    assert "salt" not in {each.id for each in PassageIndex(far).nearest(question, 5)}


def test_a_measured_value_is_not_what_a_question_is_about() -> None:
    index = clinic("es")
    assert index.nearest("la tension me sale 187", 1) != []
    assert index.nearest("187", 1) == []


def test_the_nouns_of_a_german_question_rank_what_the_model_reads() -> None:
    index = PassageIndex(
        Passage(f"p{n}", "row", title, "", "", "")
        for n, title in enumerate(("Wie lange nimmt man Tropfen?", "Was ist ein Glaukom?", "Was ist eine Grippe?"))
    )
    assert index.search("Wie lange nimmt man etwas gegen ein Glaukom?", 1)[0].id == "p1"
