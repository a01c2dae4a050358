"""What looks like an identifier of a person and is none, and what of a text is no part of one."""

import pytest

from medqa_cli.data.identifiers.finding import find_in_row


def found(text: str, kind: str) -> list[str]:
    return [text[find.start : find.end] for find in find_in_row(text, "") if find.kind == kind]


@pytest.mark.parametrize(
    "text",
    [
        "Sex: F\nCity: Madison\nMy mother is 62 and has gout. Is cherry juice any good for her?",
        "I am 34 and live near Jackson. My cough won't go away, what should I do?",
        "I forgot Camila tablets twice this week. Am I still safe, please?",
        "I switched from Yasmin last month and now my skin is bad. What should I do?",
        "I am 50. My scale is the one described by Barthel and Mahoney. Is it any good for me?",
        "My dad eats mac and cheese all day. Is that bad for his heart? Thanks",
        "My foster mom has a sinus brady. Should she be worried?",
        "Mia madre ha 70 anni, ho paura per lei. Grazie",
        "My GP says my knee grade (Nguyen & Patel 2021) is two. Is that bad?",
    ],
)
def test_places_medicines_and_authors_are_no_names(text: str) -> None:
    assert found(text, "name") == []


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Coucou, j'ai vu le docteur Lefort à Nantes pour mon dos, elle est bien ?", "Lefort"),
        ("My back hurts since the fall on 3 May 2021, I am so tired of it. Hilsen Ingrid", "Ingrid"),
        ("Grüezi, mein Mann Noel hat starke Kopfschmerzen. Was soll ich ihm geben?", "Noel"),
        ("Patient was seen today.\nDecedent: Harald Olsen\nShe was 71 and lived with her son.", "Harald Olsen"),
    ],
)
def test_words_around_a_name_are_no_part_of_it(text: str, name: str) -> None:
    assert found(text, "name") == [name]


@pytest.mark.parametrize(
    "text",
    [
        "I am 44 and had the old shot. The vaccine was withdrawn in March 2019. Am I safe?",
        "My doctor gave me this link. Accessed 3 May 2022. Is it true, please?",
        "My pump leaks. This model was sold from March 2020 to June 2021. Should I worry?",
    ],
)
def test_days_of_products_and_of_pages_are_no_days_of_a_person(text: str) -> None:
    assert found(text, "date") == []


@pytest.mark.parametrize(
    ("text", "age"),
    [
        ("I saw Mrs. Holt today, a gracious lady of 97, with a swollen knee.", "97"),
        ("He says he is 93 and the passport says 95. Which dose should he take?", "95"),
        ("Permisi dok, ibu saya umur 94, she have stroke and not eat.", "94"),
    ],
)
def test_an_age_is_found_in_any_wording(text: str, age: str) -> None:
    assert age in found(text, "age")


@pytest.mark.parametrize(
    "text",
    [
        "I weigh 130 kg and my doctor won't operate before I'm at 95. How do I get there?",
        "My pump leaks. The maker's line is 111. Should I call them today?",
    ],
)
def test_a_weight_and_a_line_are_no_ages(text: str) -> None:
    assert found(text, "age") == []


@pytest.mark.parametrize(
    "text",
    [
        "My son fell, GCS 15, CT neg. Repeat CT tomorrow or send him home?",
        "My inhalers are 70 quid. Can Dr write me the cheap ones, please?",
    ],
)
def test_a_street_does_not_go_on_in_the_next_sentence(text: str) -> None:
    assert found(text, "address") == []


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("OP NOTE\nsurgeon: wilcock\nclinic code 12\nThe patient was seen after her fall.", "wilcock"),
        ("CAMP FORM\nMy daughter has asthma.\nParent: Gerda Holm    Cell: 555 0123", "Gerda Holm"),
        ("Her potassium was 6.1, phoned to RN Bell, read back.", "Bell"),
        ("NAME\tDOB\tUNIT\nMoller, Hanna\t3.1.1938\t4 West\nPatient slept well last night.", "Moller, Hanna"),
        ("The rash on Bianca's neck is back and she can't sleep. What should we do?", "Bianca"),
        ("Please disregard my last note about the patient. Mbatshazwa", "Mbatshazwa"),
        ("I will call you about your labs at noon. i. horton, np", "i. horton"),
        ("labs at noon. i. horton, md said so to my mother", "i. horton"),
    ],
)
def test_a_name_is_found_in_its_field_whatever_its_letters(text: str, name: str) -> None:
    assert name in found(text, "name")


@pytest.mark.parametrize(
    "text",
    [
        "Provider: same as last time\nMy mother is tired and pale. What should I do?",
        "I have a cough.\nFrom: Monday\nTo: Friday\nWhat should I do, please?",
        "My husband snores and I can't sleep. Advice",
        "My mother takes two pills a day. Is that too much? Metformin",
    ],
)
def test_other_values_of_fields_and_last_words_are_no_names(text: str) -> None:
    assert found(text, "name") == []


@pytest.mark.parametrize(
    ("text", "address"),
    [
        (
            "Paziente: Rossi, Carla\nResidente: Canale Verdi, 41, 96100 Ferrara\nLa mia mamma ha tosse.",
            "Canale Verdi, 41",
        ),
        (
            "My aunt lives at Urbanización Las Flores 82, 42967 Soria. She fell last night.",
            "Urbanización Las Flores 82",
        ),
    ],
)
def test_streets_of_more_words_are_found(text: str, address: str) -> None:
    assert any(address in value for value in found(text, "address"))


def test_a_date_behind_a_code_is_found_with_its_article() -> None:
    text = "Dra. Soto: me pusieron el Holter n.º H-0747 el 10 de marzo de 2023 y me ha salido un sarpullido."
    assert any("10 de marzo de 2023" in value for value in found(text, "date"))
